"""A clock that is set back makes no version older than the one before it, nor hides it from who asks since when."""

from datetime import datetime
from pathlib import Path

import httpx
import pytest

from pulseweir.clock import to_text
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore

START = 1_700_000_000_000_000
HOUR = 3_600_000_000


class SetClock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.now = START

    def now_microseconds(self) -> int:
        return self.now


async def stored(store: FhirStore, name: str) -> str:
    """Store a new version; gives its instant."""
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"family": name}]}
    async with client(store) as http:
        answer = await http.put("Patient/p1", json=patient)
    return str(answer.json()["meta"]["lastUpdated"])


def client(store: FhirStore) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(store)), base_url="http://fhir.test/fhir/")


@pytest.mark.parametrize("is_opened_again", [False, True])
async def test_later_versions_are_newer(tmp_path: Path, is_opened_again: bool) -> None:
    clock = SetClock()
    store = FhirStore.open(tmp_path, clock)  # type: ignore[arg-type]
    first = await stored(store, "A")
    clock.now -= HOUR
    if is_opened_again:
        store.close()
        store = FhirStore.open(tmp_path, clock)  # type: ignore[arg-type]
    later = [await stored(store, name) for name in ("B", "C")]

    instants = [datetime.fromisoformat(text) for text in (first, *later)]
    assert instants == sorted(set(instants))
    async with client(store) as http:
        since = (await http.get(f"Patient/_history?_since={later[0]}")).json()["entry"]
        found = (await http.get(f"Patient?_lastUpdated=ge{later[0]}")).json()["total"]
    assert [entry["resource"]["meta"]["versionId"] for entry in since] == ["3", "2"]
    assert found == 1
    store.close()


async def test_a_clock_that_was_days_ahead_is_not_held_to(tmp_path: Path) -> None:
    clock = SetClock()
    store = FhirStore.open(tmp_path, clock)  # type: ignore[arg-type]
    await stored(store, "A")
    clock.now -= 48 * HOUR

    assert await stored(store, "B") == to_text(clock.now)
    store.close()
