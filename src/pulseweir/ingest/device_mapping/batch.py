"""Step 4: a batch of message bodies to tables. Pure."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA, Normalized, reject_table
from pulseweir.ingest.device_mapping.bodies import decode_body, decode_properties, refuse_large
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import number_of

Properties = Sequence[str | None] | None


def interpret_batch(
    normalize: Callable[[dict[str, object]], list[Measurement]],
    bodies: Sequence[bytes],
    texts: tuple[Properties, Properties],
    limits: tuple[int, int],
) -> Normalized:
    """Every message through the interpreter, one by one: slow, and what the faster tiers must equal.

    Args:
        normalize: From an envelope to its measurements.
        bodies: Of the messages, as sent.
        texts: Properties and system properties of each message, as JSON texts; None for none at all.
        limits: How deep a body may nest, and how many bytes it may have.
    """
    columns: list[list[object]] = [[] for _ in NORMALIZED_SCHEMA]
    refused: dict[int, MessageError] = {}
    for index, body in enumerate(bodies):
        try:
            measurements = normalize(envelope_of(body, index, texts, limits))
        except MessageError as error:
            refused[index] = error
            continue
        for place, measurement in enumerate(measurements):
            _append(columns, index, place, measurement)
    arrays = [_array(column, field.type) for column, field in zip(columns, NORMALIZED_SCHEMA, strict=True)]
    return Normalized(pa.Table.from_arrays(arrays, schema=NORMALIZED_SCHEMA), reject_table(refused))


def envelope_of(
    body: bytes, index: int, texts: tuple[Properties, Properties], limits: tuple[int, int]
) -> dict[str, object]:
    """What the templates see of one message.

    Raises:
        MessageError: The body or the properties cannot be decoded.
    """
    nesting_limit, body_limit_bytes = limits
    refuse_large(body, body_limit_bytes)
    properties, system_properties = texts
    return {
        "Body": decode_body(body, nesting_limit),
        "Properties": decode_properties(properties[index] if properties else None),
        "SystemProperties": decode_properties(system_properties[index] if system_properties else None),
    }


def _append(columns: list[list[object]], index: int, place: int, measurement: Measurement) -> None:
    head = (
        index,
        place,
        measurement.type,
        measurement.device_id,
        measurement.occurred_at_microseconds,
        measurement.patient_id,
        measurement.encounter_id,
        measurement.correlation_id,
    )
    properties: list[tuple[str | None, str | None]] = list(measurement.properties.items())
    for name, text in properties or [(None, None)]:
        number = None if text is None else number_of(text)
        for column, cell in zip(columns, (*head, name, text, number), strict=True):
            column.append(cell)


def _array(column: list[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(column, pa.utf8()).dictionary_encode().cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(column, pa.int64()).cast(kind)
    return pa.array(column, kind)
