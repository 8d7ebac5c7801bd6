"""Rows of the measurements topic made of measurements, by the connector's own code."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import number_of
from pulseweir.ingest.identity import Association
from pulseweir.ingest.measurement_columns import NormalizedShare
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA


def measured(
    measurements: Sequence[Measurement], who: Association, pair: MappingPair, message_id: str, received_at: int
) -> pa.Table:
    """The rows of one message that holds these measurements."""
    share = NormalizedShare(pair, _normalized(measurements))
    rows, _, refused = share.rows(dict.fromkeys(share.questions, who), np.ones(1, np.bool_))
    assert not refused
    columns = {name: rows[name] for name in rows.column_names} | {
        "message_id": pa.array([message_id] * rows.num_rows, pa.utf8()),
        "received_at": pa.array([received_at] * rows.num_rows, pa.int64()).cast(INSTANT),
    }
    return pa.table([columns[name] for name in MEASUREMENT_SCHEMA.names], schema=MEASUREMENT_SCHEMA)


def _values(one: Measurement) -> list[tuple[str | None, str | None]]:
    return [*one.properties.items()] or [(None, None)]


def _normalized(measurements: Sequence[Measurement]) -> pa.Table:
    rows = [
        {
            "message": 0,
            "measurement": place,
            "type": one.type,
            "device_id": one.device_id,
            "occurred_at": one.occurred_at_microseconds,
            "patient_id": one.patient_id,
            "encounter_id": one.encounter_id,
            "correlation_id": one.correlation_id,
            "name": name,
            "text": text,
            "number": None if text is None else number_of(text),
        }
        for place, one in enumerate(measurements)
        for name, text in _values(one)
    ]
    arrays = [pa.array([row[field.name] for row in rows], _plain(field.type)) for field in NORMALIZED_SCHEMA]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, NORMALIZED_SCHEMA, strict=True)],
        schema=NORMALIZED_SCHEMA,
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.int64()
    return pa.utf8() if pa.types.is_dictionary(kind) else kind
