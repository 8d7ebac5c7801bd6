"""Measurements merged with their Patient, from a FHIR service that answers, answers slowly, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pyarrow as pa
import pytest

from patient_measurements import MINUTE, NOON, SECOND, Reading, by_shard, measurements
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.records.codes import SPO2_SCALE_EXTENSION
from pulseweir.records.topics import INSTANT, PATIENT_MEASUREMENT_SCHEMA, PATIENT_MEASUREMENTS
from pulseweir.scoring.enrichment import EnrichmentStage
from pulseweir.scoring.settings import EnrichmentSettings

Answer = Callable[[httpx.Request], httpx.Response]
CHANGED = {"meta": {"lastUpdated": "2026-01-01T00:00:00Z"}}


class Ward:
    """A FHIR service with some patients in one ward; counts requests, and can be told to fail or to hang."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.is_down = False
        self.knows_lists = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.patients: dict[str, dict[str, Any]] = {
            "ann": {
                "birthDate": "1957-01-16",
                "gender": "female",
                "extension": [{"url": SPO2_SCALE_EXTENSION, "valueInteger": 2}],
            },
            "ben": {"birthDate": "1990", "gender": "male"},
        }

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path)
        await self.gate.wait()
        if self.is_down:
            return httpx.Response(503)
        kind, _, resource_id = request.url.path.strip("/").partition("/")
        found = self._resources(kind, request)
        if resource_id:
            return next(
                (httpx.Response(200, json=one) for one in found if one["id"] == resource_id), httpx.Response(404)
            )
        return httpx.Response(
            200, json={"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in found]}
        )

    def _resources(self, kind: str, request: httpx.Request) -> list[dict[str, Any]]:
        if kind == "Patient":
            found = [{"resourceType": "Patient", "id": name, **CHANGED, **one} for name, one in self.patients.items()]
        elif kind == "Encounter":
            location = [{"location": {"reference": "Location/bed-3"}}]
            found = [
                {"resourceType": "Encounter", "id": f"stay-{name}", "status": "in-progress", "location": location,
                 "subject": {"reference": f"Patient/{name}"}, **CHANGED}
                for name in self.patients
            ]  # fmt: skip
        elif kind == "Location":
            found = [
                {
                    "resourceType": "Location",
                    "id": "bed-3",
                    "name": "Bed 03",
                    "partOf": {"reference": "Location/ward-a"},
                },
                {"resourceType": "Location", "id": "ward-a", "name": "Ward A"},
            ]
        else:
            found = [
                {
                    "resourceType": "Condition",
                    "id": "c",
                    "subject": {"reference": "Patient/ann"},
                    "code": {"coding": [{"code": "13645005"}]},
                }
            ]
        ids = request.url.params.get("_id")
        if ids is not None and not self.knows_lists:
            return []
        return [one for one in found if ids is None or one["id"] in ids.split(",")]


@pytest.fixture
def ward() -> Ward:
    return Ward()


@pytest.fixture
async def stage(ward: Ward) -> AsyncIterator[EnrichmentStage]:
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(ward))
    one = EnrichmentStage(fhir, EnrichmentSettings(context_wait_seconds=0.05, batch_seconds=0))
    yield one
    await one.close()
    await fhir.close()


async def enriched(stage: EnrichmentStage, *readings: Reading) -> list[dict[str, Any]]:
    handled = await stage.handle(by_shard(measurements(readings)))
    [(topic, table)] = handled.publish
    assert topic == PATIENT_MEASUREMENTS
    assert table.schema == PATIENT_MEASUREMENT_SCHEMA
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


async def settled(stage: EnrichmentStage, *readings: Reading) -> list[dict[str, Any]]:
    """Rows once their contexts have been read."""
    for _ in range(200):
        rows = await enriched(stage, *readings)
        if all(row["context_version"] for row in rows):
            return rows
        await asyncio.sleep(0.01)
    pytest.fail("contexts never came")


async def test_a_measurement_gets_its_patients_context(stage: EnrichmentStage) -> None:
    ann, ben = sorted(
        await settled(stage, Reading("heart_rate", 70, 0), Reading("spo2", 95, 0, "ben")),
        key=lambda row: str(row["patient_id"]),
    )

    assert (ann["age_years"], ann["sex"], ann["ward"], ann["bed"]) == (69, "female", "Ward A", "Bed 03")
    assert (ann["spo2_scale"], ann["conditions"], ann["quality"]) == (2, ["13645005"], "good")
    assert ann["context_version"] == 1_767_225_600 * SECOND
    assert (ben["age_years"], ben["spo2_scale"], ben["conditions"]) == (37, 1, [])


async def test_age_is_counted_in_whole_years_at_the_instant_measured(stage: EnrichmentStage) -> None:
    day = 24 * 60 * MINUTE
    before, after = await settled(stage, Reading("heart_rate", 70, 0), Reading("heart_rate", 70, day, received=day))

    assert (before["age_years"], after["age_years"]) == (69, 70)


async def test_all_patients_of_a_batch_are_read_with_a_handful_of_requests_and_then_not_again(
    stage: EnrichmentStage, ward: Ward
) -> None:
    ward.patients |= {f"p{number}": {"gender": "other"} for number in range(40)}
    readings = [Reading("heart_rate", 70, 0, f"p{number}") for number in range(40)]

    await settled(stage, *readings)
    asked = len(ward.requests)
    await settled(stage, *readings)

    assert asked <= 6
    assert len(ward.requests) == asked


async def test_a_server_that_does_not_search_by_lists_is_read_one_by_one(stage: EnrichmentStage, ward: Ward) -> None:
    ward.knows_lists = False

    [row] = await settled(stage, Reading("heart_rate", 70, 0))

    assert (row["ward"], row["bed"]) == ("Ward A", "Bed 03")


async def test_a_dead_service_leaves_the_context_unknown_until_it_answers(stage: EnrichmentStage, ward: Ward) -> None:
    ward.is_down = True
    [row] = await enriched(stage, Reading("heart_rate", 70, 0))
    assert (row["context_version"], row["age_years"], row["ward"], row["spo2_scale"]) == (0, None, None, None)

    ward.is_down = False
    [row] = await settled(stage, Reading("heart_rate", 71, 0))
    assert row["ward"] == "Ward A"


async def test_a_service_that_hangs_delays_nobody_and_its_late_answer_is_used(
    stage: EnrichmentStage, ward: Ward
) -> None:
    ward.gate.clear()
    [row] = await enriched(stage, Reading("heart_rate", 70, 0))
    assert row["context_version"] == 0

    ward.gate.set()
    [row] = await settled(stage, Reading("heart_rate", 70, 0))
    assert row["ward"] == "Ward A"


async def test_an_old_context_serves_while_the_service_is_down(ward: Ward) -> None:
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(ward))
    stage = EnrichmentStage(fhir, EnrichmentSettings(context_keep_seconds=0.001, context_wait_seconds=0.05))
    await settled(stage, Reading("heart_rate", 70, 0))

    ward.is_down = True
    await asyncio.sleep(0.01)
    [row] = await enriched(stage, Reading("heart_rate", 70, 0))

    assert row["ward"] == "Ward A"
    await stage.close()
    await fhir.close()


async def test_rows_without_a_code_end_here_and_are_counted(stage: EnrichmentStage) -> None:
    handled = await stage.handle(by_shard(measurements([Reading("battery", 70, 0), Reading("heart_rate", 70, 0)])))
    nothing = await stage.handle(by_shard(measurements([Reading("battery", 70, 0)])))

    assert handled.outcome.tallies == {"filtered:no-code": 1, "enriched": 1}
    assert (nothing.outcome.tallies, nothing.publish) == ({"filtered:no-code": 1}, [])


async def test_quality_names_impossible_guessed_crossed_and_future_values(stage: EnrichmentStage) -> None:
    rows = await enriched(
        stage,
        Reading("systolic_bp", 11_647, 0, type="arterial-pressure"),
        Reading("temperature", 98.6, 0),
        Reading("systolic_bp", 80, 0, "ben", type="cuff-pressure"),
        Reading("diastolic_bp", 90, 0, "ben", type="cuff-pressure"),
        Reading("consciousness", "X", 0),
        Reading("consciousness", "CVPU", SECOND),
        Reading("heart_rate", 70, 6 * MINUTE, received=0),
        Reading("heart_rate", 70, 5 * MINUTE, received=0),
        Reading("height", 180, 0, code="8302-2"),
    )

    found = {(row["name"], row["number"], row["text"], row["occurred_at"].minute): row["quality"] for row in rows}
    assert list(found.values()).count("future") == 1
    assert sorted(found.values()) == [
        "future",
        "good",
        "good",
        "good",
        "impossible",
        "impossible",
        "suspect",
        "suspect",
        "suspect",
    ]


async def test_numbers_and_texts_pass_through_untouched(stage: EnrichmentStage) -> None:
    [row] = await enriched(stage, Reading("fio2", 0.3, 0))

    assert (row["number"], row["text"]) == (0.3, "0.3")
    assert pa.scalar(row["occurred_at"], INSTANT).value == NOON
