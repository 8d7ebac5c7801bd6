"""Steps 4-5b: measurements to the rows of the ``measurements`` topic, column by column.

Here each value gets what later steps must not ask again: code, unit, the id of its Observation, and whether a living
patient can have it at all.
"""

import pyarrow as pa

from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import number_of
from pulseweir.ingest.grouping import TICKS_A_MICROSECOND, identifier_value, resource_id, segment
from pulseweir.ingest.identity import Association
from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA

_FAHRENHEIT = "[degF]"


def is_implausible(code: str | None, unit: str | None, number: float | None) -> bool:
    """Whether no living patient can have this value; False where the code or the unit is not known."""
    vital = VITAL_BY_LOINC.get(code or "")
    if vital is None or number is None:
        return False
    if unit == _FAHRENHEIT:
        return not vital.is_possible((number - 32) * 5 / 9)
    return unit == vital.unit and not vital.is_possible(number)


class MeasurementRows:
    """Grows the columns of a measurements table."""

    def __init__(self) -> None:
        self._columns: list[list[object]] = [[] for _ in MEASUREMENT_SCHEMA]

    @property
    def count(self) -> int:
        """Rows so far."""
        return len(self._columns[0])

    def cut(self, count: int) -> None:
        """Drop every row from `count` on."""
        for column in self._columns:
            del column[count:]

    def add(
        self, measurement: Measurement, who: Association, pair: MappingPair, message_id: str, received_at: int
    ) -> None:
        """Append one row for each value of a measurement.

        Raises:
            MessageError: The FHIR mapping needs a correlation id and the measurement has none.
        """
        occurred_at = measurement.occurred_at_microseconds
        observation = _observation_id(measurement, who, pair)
        for name, text in measurement.properties.items():
            binding = pair.fhir.binding(measurement.type, name)
            number = number_of(text)
            code, unit = binding or (None, None)
            row = (
                message_id,
                measurement.device_id,
                measurement.type,
                name,
                text,
                number,
                occurred_at,
                received_at,
                who.patient_id,
                who.encounter_id,
                measurement.correlation_id,
                code,
                unit,
                observation if binding else None,
                is_implausible(code, unit, number),
                pair.version,
            )
            for column, cell in zip(self._columns, row, strict=True):
                column.append(cell)

    def table(self) -> pa.Table:
        """The rows in the topic's schema."""
        return pa.Table.from_arrays(
            [_array(column, field.type) for column, field in zip(self._columns, MEASUREMENT_SCHEMA, strict=True)],
            schema=MEASUREMENT_SCHEMA,
        )


def _array(column: list[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(column, pa.utf8()).dictionary_encode().cast(kind)
    if kind == INSTANT:
        return pa.array(column, pa.int64()).cast(kind)
    return pa.array(column, kind)


def _observation_id(measurement: Measurement, who: Association, pair: MappingPair) -> str | None:
    template = pair.fhir.template(measurement.type)
    if template is None:
        return None
    tick = measurement.occurred_at_microseconds * TICKS_A_MICROSECOND
    part = segment(template.interval, tick, measurement.correlation_id)
    return resource_id(identifier_value(who.patient_id or "", who.device_resource_id or "", template.type_name, part))
