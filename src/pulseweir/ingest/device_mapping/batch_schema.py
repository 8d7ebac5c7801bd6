"""Step 4: the two tables a batch of messages becomes. Pure."""

from typing import NamedTuple

import pyarrow as pa

from pulseweir.errors import MessageError
from pulseweir.records.topics import INSTANT

_NAME = pa.dictionary(pa.int32(), pa.utf8())

NORMALIZED_SCHEMA = pa.schema(
    [
        ("message", pa.int32()),  # index of the message in the batch
        ("measurement", pa.int32()),  # place of the measurement in its message: by template, then by match, from 0
        ("type", _NAME),  # typeName of the template
        ("device_id", _NAME),  # the device that measured
        ("occurred_at", INSTANT),  # device clock
        ("patient_id", _NAME),  # as the message gives it; null when the mapping does not ask or finds none
        ("encounter_id", _NAME),  # likewise
        ("correlation_id", _NAME),  # likewise
        ("name", _NAME),  # valueName; null in the one row of a measurement without properties
        ("text", pa.utf8()),  # the rendered value; null likewise
        ("number", pa.float64()),  # the finite number the text means; null for none
    ]
)

REJECT_SCHEMA = pa.schema(
    [
        ("message", pa.int32()),  # index of the message in the batch
        ("reason", pa.utf8()),  # stable kebab-case word
        ("error", pa.utf8()),  # the sentence for people, with the remedy; holds no value of the message
        ("template", pa.utf8()),  # index of the template at fault; null when none is
        ("expression", pa.utf8()),  # the expression at fault; null when none is
        ("position", pa.utf8()),  # where in the message or the mapping; null when not known
    ]
)


class Normalized(NamedTuple):
    """What a batch of messages becomes; a message is in one of the tables as a whole, or in none: nothing matched.

    Attributes:
        measurements: `NORMALIZED_SCHEMA`, one row a property, ordered by message, measurement and property.
        rejects: `REJECT_SCHEMA`, one row a refused message, ordered by message.
    """

    measurements: pa.Table
    rejects: pa.Table


def reject_table(refused: dict[int, MessageError]) -> pa.Table:
    """The refused messages of a batch, by index, as a table."""
    rows = sorted(refused.items())
    errors = [error for _, error in rows]
    columns: list[list[object]] = [
        [index for index, _ in rows],
        [error.reason for error in errors],
        [str(error) for error in errors],
        [error.template for error in errors],
        [error.expression for error in errors],
        [error.position for error in errors],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, REJECT_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=REJECT_SCHEMA)
