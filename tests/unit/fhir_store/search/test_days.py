"""Days and times without a zone are the site's, in searches and in what is stored."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
HOUR = 3_600_000_000
TIMES = {
    "eve": "2024-05-01T21:59:59Z",
    "night": "2024-05-01T22:30:00Z",
    "noon": "2024-05-02T12:00:00Z",
    "late": "2024-05-02T22:00:00Z",
    "day": "2024-05-02",
}


async def ids(folder: Path, query: str, zone: str, *, fills: bool = True) -> str:
    store = FhirStore.open(folder, Clock(), FhirStoreSettings(time_zone=zone))
    transport = httpx.ASGITransport(create_app(store))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
            for name, when in TIMES.items() if fills else ():
                told: Json = {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "x"}}
                await http.put(f"Observation/{name}", json=told | {"effectiveDateTime": when})
                flag: Json = {"resourceType": "Flag", "id": name, "status": "active", "code": {"text": "x"}}
                period = {"start": when, "end": when}
                await http.put(f"Flag/{name}", json=flag | {"subject": {"reference": "Patient/p"}, "period": period})
            answer = await http.get(query)
    finally:
        store.close()
    assert answer.status_code == 200, answer.text
    return " ".join(sorted(entry["resource"]["id"] for entry in answer.json().get("entry", ())))


@pytest.mark.parametrize("kind", ["Observation", "Flag"])
@pytest.mark.parametrize(
    ("zone", "query", "expected"),
    [
        ("UTC", "date=2024-05-02", "day late noon"),
        ("Europe/Zurich", "date=2024-05-02", "day night noon"),
        ("America/New_York", "date=2024-05-02", "day late noon"),
        ("Asia/Kolkata", "date=2024-05-02", "day eve night noon"),
        ("Europe/Zurich", "date=lt2024-05-02", "eve"),
        ("Europe/Zurich", "date=ge2024-05-03", "late"),
        ("Europe/Zurich", "date=2024-05-02T00:30", "night"),
        ("Europe/Zurich", "date=2024-05-02T12:00Z", "noon"),
    ],
)
async def test_a_day_is_the_sites(tmp_path: Path, kind: str, zone: str, query: str, expected: str) -> None:
    assert await ids(tmp_path, f"{kind}?{query}", zone) == expected


async def test_another_zone_indexes_what_is_there_anew(tmp_path: Path) -> None:
    before = await ids(tmp_path, "Observation?date=2024-05-02T00:00:00Z", "UTC")
    after = await ids(tmp_path, "Observation?date=sa2024-05-01T21:59:59Z&date=lt2024-05-02T22:00:00Z", "Asia/Kolkata")
    kept = await ids(tmp_path, "Observation?date=2024-05-02", "Europe/Zurich", fills=False)

    assert before == ""
    assert "noon" in after.split()
    assert kept == "day night noon"


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-05-02", 24)])
def test_a_day_on_which_the_clock_is_changed_is_shorter_or_longer(day: str, hours: int) -> None:
    low, high = date_range(day, "Europe/Zurich")

    assert high - low == hours * HOUR


def test_months_and_years_meet_without_a_gap() -> None:
    assert date_range("2024-03", "Europe/Zurich")[1] == date_range("2024-04-01", "Europe/Zurich")[0]
    assert date_range("2023", "Europe/Zurich")[1] == date_range("2024", "Europe/Zurich")[0]
    assert date_range("9999-12-31", "Europe/Zurich")[1] > date_range("9999-12-31", "Europe/Zurich")[0]
    for edge in ("0001-01-01", "0001", "9999"):
        for zone in ("Asia/Kolkata", "America/New_York"):
            assert date_range(edge, zone)[0] < date_range(edge, zone)[1]


@pytest.mark.parametrize("wrong", ["Europe/Zurch", "CEST+2", "", "+02:00", "../etc/passwd"])
def test_a_zone_that_there_is_not_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="Europe/Zurich"):
        FhirStoreSettings(time_zone=wrong)
