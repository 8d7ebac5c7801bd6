"""History read for scoring: what was withdrawn in FHIR is left out, and a FHIR service that is away costs nothing."""

from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import structlog

from patient_measurements import HOUR, MINUTE, NOON, Reading, patient_measurements
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, Lake
from pulseweir.clock import to_text
from pulseweir.records.identifiers import digest
from pulseweir.scoring.enrichment import context_rows
from pulseweir.scoring.history import read_history
from pulseweir.scoring.patient_context import PatientContext
from pulseweir.scoring.score_shard import Wanted

WANTED = [Wanted("ann", NOON - HOUR, NOON + HOUR)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    one = Lake(str(tmp_path / "lake"))
    readings = [Reading("heart_rate", 190, 0), Reading("heart_rate", 80, MINUTE), Reading("spo2", 96, 0)]
    one.append(PATIENT_MEASUREMENTS, patient_measurements(readings), "lake")
    return one


@pytest.fixture
async def store(fhir: FhirClient) -> FhirClient:
    await fhir.update({"resourceType": "Patient", "id": "ann"})
    return fhir


async def withdraw(
    fhir: FhirClient, status: str, vital: str = "heart_rate", at: int = 0, resource_id: str = ""
) -> None:
    await fhir.update(
        {
            "resourceType": "Observation",
            "id": resource_id or digest("observation", "monitor-ann", vital, at),
            "status": status,
            "code": {"text": vital},
            "subject": {"reference": "Patient/ann"},
            "effectiveDateTime": to_text(NOON + at),
        }
    )


def numbers(table: pa.Table) -> list[float]:
    return sorted(table["number"].to_pylist())


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
async def test_what_was_withdrawn_is_left_out(lake: Lake, store: FhirClient, status: str) -> None:
    await withdraw(store, status)
    await withdraw(store, "final", at=MINUTE)

    assert numbers(await read_history(lake, WANTED, store)) == [80, 96]
    assert numbers(await read_history(lake, WANTED)) == [80, 96, 190]


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "preliminary", "unknown"])
async def test_what_was_not_withdrawn_stays(lake: Lake, store: FhirClient, status: str) -> None:
    await withdraw(store, status)

    assert numbers(await read_history(lake, WANTED, store)) == [80, 96, 190]


async def test_an_observation_is_known_by_this_houses_id_on_a_server_with_ids_of_its_own(lake: Lake) -> None:
    ours = digest("observation", "monitor-ann", "spo2", 0)
    resource = {
        "resourceType": "Observation",
        "id": "4711",
        "identifier": [{"system": "https://pulseweir.org/fhir/NamingSystem/logical-id", "value": ours}],
        "status": "entered-in-error",
    }
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource}]}
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=bundle)))

    assert numbers(await read_history(lake, WANTED, fhir)) == [80, 190]
    await fhir.close()


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_a_service_that_is_away_costs_nothing_and_is_told_once(lake: Lake, status: int) -> None:
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(lambda _: httpx.Response(status)))

    with structlog.testing.capture_logs() as said:
        found = [await read_history(lake, WANTED, fhir) for _ in range(3)]

    assert [numbers(one) for one in found] == [[80, 96, 190]] * 3
    assert [one["event"] for one in said] == ["withdrawn_observations_unread"]
    await fhir.close()


async def test_rows_without_an_observation_stay(lake: Lake, store: FhirClient) -> None:
    told = context_rows({"ann": PatientContext(version=1, ward="Ward B")}, NOON + MINUTE)
    lake.append(PATIENT_MEASUREMENTS, told, "lake")
    await withdraw(store, "entered-in-error")

    found = await read_history(lake, WANTED, store)

    assert sorted(found["type"].to_pylist()) == ["heart_rate", "patient-context", "spo2"]
