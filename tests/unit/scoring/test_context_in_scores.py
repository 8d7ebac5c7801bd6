"""What is read of a patient late, or changes, reaches scores of windows that did without it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from hospital_fhir import Hospital, ago, at, coded
from patient_measurements import MINUTE, NOON, SECOND, Reading, StillClock, by_shard, measurements
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.lake import Lake
from pulseweir.records.codes import SNOMED, SPO2_SCALE_EXTENSION
from pulseweir.scoring.engines.embedded import ScoringStage
from pulseweir.scoring.enrichment import EnrichmentStage
from pulseweir.scoring.settings import EnrichmentSettings

VITALS = [
    Reading("heart_rate", 70, 0),
    Reading("respiratory_rate", 15, 0),
    Reading("spo2", 89, 0),
    Reading("systolic_bp", 120, 0),
    Reading("temperature", 37, 0),
    Reading("consciousness", "A", 0),
    Reading("oxygen_flow", 0, 0),
]


class Journey:
    """Enrichment and scoring, one after the other, on a clock that a test moves."""

    def __init__(self, hospital: Hospital, directory: Path) -> None:
        self.passed = 0
        journey = self

        class Moving(StillClock):
            def now_microseconds(self) -> int:
                return NOON + journey.passed

        self.fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(hospital))
        settings = EnrichmentSettings(context_wait_seconds=0.02, context_keep_seconds=0.01, batch_seconds=0)
        self.enrichment = EnrichmentStage(self.fhir, settings, Moving())
        self.scoring = ScoringStage(Lake(str(directory)), Moving(), None, self.fhir)

    async def measured(self, readings: list[Reading]) -> None:
        handled = await self.enrichment.handle(by_shard(measurements(readings)))
        for _, table in handled.publish:
            await self.scoring.handle(by_shard(table))

    async def newest(self) -> dict[str, Any]:
        """The final row of the window, after the clock has passed its end."""
        self.passed = max(self.passed, 2 * MINUTE)
        return await self._final(None)

    async def revised(self) -> dict[str, Any]:
        """The final row of the window once a context row has come."""
        for _ in range(300):
            told = await self.enrichment.tick()
            for _, table in told.publish if told else []:
                handled = await self.scoring.handle(by_shard(table))
                rows = [row for _, scores in handled.publish for row in scores.to_pylist() if not row["live"]]
                if rows:
                    return dict(rows[-1])
                self.passed += SECOND
                return await self._final(None)
            await asyncio.sleep(0.01)
        pytest.fail("no context row came")

    async def _final(self, found: dict[str, Any] | None) -> dict[str, Any]:
        for _ in range(20):
            handled = await self.scoring.tick()
            rows = [row for _, scores in (handled.publish if handled else []) for row in scores.to_pylist()]
            found = next((row for row in reversed(rows) if not row["live"]), found)
            if found is not None:
                return found
            self.passed += MINUTE
        pytest.fail("the window never closed")

    async def close(self) -> None:
        await self.enrichment.close()
        await self.fhir.close()


@pytest.fixture
def hospital() -> Hospital:
    one = Hospital()
    scale = [{"url": SPO2_SCALE_EXTENSION, "valueInteger": 2}]
    one.put("Patient", id="ann", birthDate="1957-01-16", gender="female", extension=scale)
    one.put("Location", id="ward-a", name="ward-a")
    one.bed("bed-1", "ward-a")
    one.stay("s", "ann", at("bed-1"), period={"start": ago(MINUTE)})
    return one


async def test_a_scale_read_after_the_window_revises_it(hospital: Hospital, tmp_path: Path) -> None:
    journey = Journey(hospital, tmp_path / "lake")
    hospital.answers = dict.fromkeys(("Patient", "Encounter", "Condition", "Observation"), 503)
    await journey.measured(VITALS)
    first = await journey.newest()
    assert (first["status"], first["score"], first["spo2_scale"]) == ("partial", 3, None)
    assert set(first["unknown"]) == {"age", "pregnancy", "spo2_scale"}

    hospital.answers = {}
    second = await journey.revised()

    assert (second["status"], second["score"], second["spo2_scale"]) == ("complete", 0, 2)
    assert (second["window_start"], second["revision"], second["ward"]) == (first["window_start"], 2, "ward-a")
    await journey.close()


async def test_a_pregnancy_read_after_the_window_ends_its_score(hospital: Hospital, tmp_path: Path) -> None:
    journey = Journey(hospital, tmp_path / "lake")
    hospital.put("Condition", id="c", subject={"reference": "Patient/ann"}, code=coded("77386006", SNOMED))
    hospital.held["Patient"][0] |= {"birthDate": "1995-05-05", "extension": []}
    hospital.answers = {"Condition": 500}
    await journey.measured(VITALS)
    first = await journey.newest()
    assert (first["status"], first["unknown"], first["score"]) == ("partial", ["pregnancy"], 3)

    hospital.answers = {}
    second = await journey.revised()

    assert (second["status"], second["abstained"], second["score"], second["band"]) == (
        "abstained",
        "pregnancy",
        None,
        None,
    )
    await journey.close()


async def test_words_of_consciousness_that_nobody_understands_end_the_old_level(
    hospital: Hospital, tmp_path: Path
) -> None:
    journey = Journey(hospital, tmp_path / "lake")
    await journey.measured([*VITALS, Reading("consciousness", "verwirrt", 30 * SECOND)])

    found = await journey.newest()

    assert found["status"] == "partial"
    assert found["doubtful"] == ["consciousness"] or found["missing"] == ["consciousness"]
    await journey.close()
