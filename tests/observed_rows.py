"""Rows for the Observation writer: one mapping with every value type and interval, time that tests move, deliveries."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from pulseweir.backends.bus.base import Outcome
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.bundle_sender import Waits
from pulseweir.ingest.catalog import MappingPair, Mappings, catalog_directory
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.fhir_mapping.values import decimal_text
from pulseweir.ingest.grouping import identifier_value, resource_id, segment
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.observation_writer import ObservationStage
from pulseweir.ingest.settings import ObservationSettings
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA

NOON = parse_instant("2030-05-01T12:00:00Z")
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
Row = tuple[str, float, dict[str, str]]


def template(name: str, interval: str, value: dict[str, object] | None = None, **more: object) -> dict[str, object]:
    """One container of a FHIR mapping."""
    content: dict[str, object] = {
        "typeName": name,
        "periodInterval": interval,
        "codes": [{"code": name, "system": "https://example.org/codes", "display": name}],
    }
    return {
        "templateType": "CodeValueFhir",
        "template": content | ({"value": value} if value else {}) | more,
    }


def sampled(name: str, milliseconds: float) -> dict[str, object]:
    """A SampledData value."""
    return {"valueType": "SampledData", "valueName": name, "defaultPeriod": milliseconds, "unit": "/min"}


SITE = MappingPair.loads(
    "site",
    '{"templateType": "CollectionContent", "template": []}',
    json.dumps(
        {
            "templateType": "CollectionFhir",
            "template": [
                template("pulse-wave", "Hourly", sampled("pulse", 60_000)),
                template("steps", "Daily", sampled("steps", 3_600_000)),
                template("ecg", "CorrelationId", sampled("mv", 4)),
                template("mood", "Single", {"valueType": "String", "valueName": "mood"}),
                template(
                    "fall",
                    "Single",
                    {"valueType": "CodeableConcept", "valueName": "fall", "text": "Fall", "codes": [{"code": "1"}]},
                ),
                template("pressed", "Single"),
                template("session", "CorrelationId"),
            ],
        }
    ),
)
CATALOG = Mappings.load(catalog_directory())
MAPPINGS = Mappings(CATALOG.by_kind, SITE, {**CATALOG.by_version, SITE.version: SITE})
MONITOR = CATALOG.by_kind["bedside-monitor"]


def rows(
    *found: Row,
    pair: MappingPair = MONITOR,
    device: str = "monitor-1",
    received: float = 1,
    correlation: str | None = None,
    encounter: str | None = None,
    patient: str = "patient-1",
    named: str = "monitor-1",
) -> pa.Table:
    """Rows of (type, seconds after noon, values), received so many seconds after noon."""
    made: list[dict[str, object]] = []
    for kind, seconds, properties in found:
        shared = {
            "message_id": "m1",
            "device_id": named,
            "type": kind,
            "occurred_at": round(NOON + seconds * SECOND),
            "received_at": round(NOON + received * SECOND),
            "patient_id": patient,
            "encounter_id": encounter,
            "correlation_id": correlation,
            "implausible": False,
            "mapping_version": pair.version,
        }
        identity = _observation_id(pair, kind, f"{patient}.{device}", round(NOON + seconds * SECOND), correlation)
        for name, text in properties.items() or [(None, None)]:
            binding = pair.fhir.binding(kind, name or "")
            is_kept = binding is not None or name is None
            number = decimal_text(text or "")
            made.append(
                shared
                | {"name": name, "text": text, "observation_id": identity if is_kept else None}
                | ({"code": binding.code, "unit": binding.unit} if binding else {})
                | {"number": float(number) if number else None}
            )
    arrays = []
    for column in MEASUREMENT_SCHEMA:
        cells = [row.get(column.name) for row in made]
        if column.type == INSTANT:
            arrays.append(pa.array(cells, pa.int64()).cast(INSTANT))
        elif pa.types.is_dictionary(column.type):
            arrays.append(pa.array(cells, pa.utf8()).dictionary_encode().cast(column.type))
        else:
            arrays.append(pa.array(cells, column.type))
    return pa.Table.from_arrays(arrays, schema=MEASUREMENT_SCHEMA)


def marked(table: pa.Table, implausible: list[bool]) -> pa.Table:
    """The rows with their marks replaced."""
    column = table.schema.get_field_index("implausible")
    return table.set_column(column, "implausible", pa.array(implausible))


def _observation_id(pair: MappingPair, kind: str, of: str, instant: int, correlation: str | None) -> str | None:
    found = pair.fhir.template(kind)
    if found is None:
        return None
    patient, _, device = of.partition(".")
    part = segment(found.interval, instant * 10, correlation)
    return resource_id(identifier_value(patient, device, found.type_name, part))


@dataclass
class Time:
    """Time that only moves when a test or a pause moves it."""

    seconds: float = 0.0
    house: int = NOON + 5 * MINUTE
    slept: list[float] = field(default_factory=list)
    chances: random.Random = field(default_factory=lambda: random.Random(7))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    @property
    def waits(self) -> Waits:
        return Waits(lambda: self.seconds, self.sleep, self.chances.random)

    def stage(self, fhir: FhirClient, mappings: Mappings = MAPPINGS, **settings: Any) -> ObservationStage:
        """A writer in this time."""
        return ObservationStage(
            fhir,
            mappings,
            Identity(fhir),
            ObservationSettings(**settings),
            real_clock=lambda: round(self.seconds * SECOND),
            house_clock=lambda: self.house,
            waits=self.waits,
        )

    async def deliver(self, stage: ObservationStage, table: pa.Table, *, limit: int = 400) -> Outcome:
        """Deliver as the loop does: again after RetryLater, and parked rows until none is left."""
        outcome = await self._until_done(lambda: stage.handle({0: table}), limit)
        first = round(self.seconds * SECOND)
        while outcome.parked:
            waiting, outcome.parked = outcome.parked, []
            self.seconds += 10
            parked = pa.concat_tables([item.row for item in waiting]).unify_dictionaries().combine_chunks()
            since = [first] * parked.num_rows
            again = await self._until_done(partial(stage.handle_parked, parked, since), limit)
            outcome.absorb(again)
        return outcome

    async def _until_done(self, handle: Callable[[], Any], limit: int) -> Outcome:
        for _ in range(limit):
            try:
                return (await handle()).outcome  # type: ignore[no-any-return]
            except RetryLater as error:
                self.seconds += error.retry_after_seconds or 1.0
        raise AssertionError("never done")


def counted(outcome: Outcome) -> int:
    """Every row an outcome accounts for."""
    return sum(outcome.tallies.values()) + len(outcome.quarantined) + len(outcome.parked)


async def stored(fhir: FhirClient, patient: str | None = None) -> dict[str, dict[str, Any]]:
    """All Observations, or one patient's, without what the server adds, by id."""
    found = await fhir.search("Observation", [("patient", patient)] if patient else [])
    assert len({one["id"] for one in found}) == len(found)
    return {one["id"]: {name: part for name, part in one.items() if name != "meta"} for one in found}


async def versions(fhir: FhirClient) -> dict[str, int]:
    """How often each Observation was written."""
    return {one["id"]: int(one["meta"]["versionId"]) for one in await fhir.search("Observation", [])}


async def written(fhir: FhirClient, *tables: pa.Table, time: Time | None = None) -> dict[str, Any]:
    """The one Observation after these deliveries."""
    stage = (time or Time()).stage(fhir)
    for table in tables:
        outcome = (await stage.handle({0: table})).outcome
        assert counted(outcome) == table.num_rows
        assert outcome.quarantined == []
    (found,) = (await stored(fhir)).values()
    return found
