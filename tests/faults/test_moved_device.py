"""A monitor that goes from bed to bed in a running house: no reading is filed under the patient before."""

from datetime import datetime
from pathlib import Path

import pytest

from faults.running_house import QUICK, bedside
from pulseweir.clock import to_microseconds
from pulseweir.ingest.device_mapping.tokens import LAST_INSTANT
from pulseweir.ingest.device_uses import Use
from pulseweir.operations.assign import Assignments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MOVES = 20
READINGS = 3
NEVER_AGES = {**QUICK, "identity": {"cache_seconds": 3_600, "unknown_cache_seconds": 3_600}}


async def test_readings_follow_the_device_from_the_moment_it_is_assigned(tmp_path: Path) -> None:
    async with bedside(tmp_path / "house", NEVER_AGES) as bed:
        settings = bed.house.settings.identity
        patients = ["patient-1", "patient-2", "patient-3"]
        for patient in patients[1:]:
            await bed.fhir.update({"resourceType": "Patient", "id": patient})
        worn: list[tuple[int, str]] = []
        for number in range(1, MOVES):
            patient = patients[number % len(patients)]
            start = bed.house.clock.now_microseconds()
            await Assignments(bed.fhir, settings).assign(bed.device_id, Use(patient, start, LAST_INSTANT))
            worn.append((start, patient))
            for _ in range(READINGS):
                await bed.say(bed.body(heartRate=60 + number))
        await bed.settled()

        found = await bed.fhir.search("Observation", [("device", f"Device/{bed.device_id}"), ("_count", "500")])
        assert len(found) == (MOVES - 1) * READINGS
        for observation in found:
            instant = to_microseconds(datetime.fromisoformat(observation["effectiveDateTime"]))
            owner = [patient for start, patient in worn if start <= instant][-1]
            assert observation["subject"] == {"reference": f"Patient/{owner}"}
        assert bed.house.conserve().conservation_difference == 0
