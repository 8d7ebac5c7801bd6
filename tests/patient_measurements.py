"""Patient measurements for tests of steps 6 to 11: short to write, complete in the topic's schema."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pulseweir.clock import Clock
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.records.identifiers import digest, shard_of
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA, PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.judgement import judge

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NOON = 1_800_014_400 * SECOND
"""A whole hour, so that minutes and windows agree."""


@dataclass(frozen=True)
class Reading:
    """One measurement; instants in microseconds after `NOON`."""

    vital: str
    value: float | str | None
    at: int
    patient: str = "ann"
    type: str = ""
    device: str = ""
    received: int | None = None
    scale: int | None = 1
    version: int = 1
    pregnant: bool | None = False
    age: int | None = 70
    sex: str | None = "female"
    code: str | None = field(default=None)

    @property
    def type_name(self) -> str:
        return self.type or self.vital

    @property
    def device_id(self) -> str:
        return self.device or f"monitor-{self.patient}"


@dataclass(frozen=True)
class StillClock(Clock):
    """A clock that stands at one instant after `NOON`."""

    instant: int = 0

    def now_microseconds(self) -> int:
        return NOON + self.instant


def measurements(readings: Sequence[Reading]) -> pa.Table:
    """Rows of ``MEASUREMENT_SCHEMA``."""
    return _typed([_row(one) for one in readings], MEASUREMENT_SCHEMA)


def patient_measurements(readings: Sequence[Reading]) -> pa.Table:
    """Rows of ``PATIENT_MEASUREMENT_SCHEMA``, judged as enrichment judges them."""
    if not readings:
        return PATIENT_MEASUREMENT_SCHEMA.empty_table()
    rows = [_row(one) for one in readings]
    quality = np.array(["good", "suspect", "impossible", "future"])[judge(measurements(readings))]
    for row, reading, word in zip(rows, readings, quality.tolist(), strict=True):
        row |= {
            "age_years": reading.age,
            "sex": reading.sex,
            "ward": "Ward A",
            "bed": "Bed 1",
            "spo2_scale": reading.scale,
            "conditions": [],
            "context_version": reading.version,
            "quality": word,
            "pregnant": reading.pregnant,
        }
    return _typed(rows, PATIENT_MEASUREMENT_SCHEMA)


def by_shard(table: pa.Table) -> dict[int, pa.Table]:
    """The rows as the bus delivers them."""
    shards = np.array([shard_of(name, 8) for name in table["patient_id"].to_pylist()])
    return {int(shard): table.filter(pa.array(shards == shard)) for shard in np.unique(shards)}


def _row(one: Reading) -> dict[str, object]:
    vital = VITAL_BY_NAME.get(one.vital)
    number = None if one.value is None or isinstance(one.value, str) else float(one.value)
    received = one.at + SECOND if one.received is None else one.received
    return {
        "message_id": digest(one.patient, one.at, received),
        "device_id": one.device_id,
        "type": one.type_name,
        "name": one.vital,
        "text": str(one.value),
        "number": number,
        "occurred_at": NOON + one.at,
        "received_at": NOON + received,
        "patient_id": one.patient,
        "encounter_id": None,
        "correlation_id": None,
        "code": one.code or (vital.loinc[0] if vital else None),
        "unit": vital.unit if vital else None,
        "observation_id": digest("observation", one.device_id, one.type_name, one.at),
        "implausible": bool(vital and number is not None and not vital.is_possible(number)),
        "mapping_version": "1",
    }


def _typed(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    columns = []
    for one in schema:
        values = [row[one.name] for row in rows]
        if one.type == INSTANT:
            columns.append(pa.array(values, pa.int64()).cast(INSTANT))
        elif pa.types.is_dictionary(one.type):
            columns.append(pa.array(values, pa.utf8()).dictionary_encode().cast(one.type))
        else:
            columns.append(pa.array(values, one.type))
    return pa.table(columns, schema=schema)
