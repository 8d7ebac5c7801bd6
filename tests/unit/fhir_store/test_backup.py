"""`pulseweir backup` copies the FHIR store whole while writes go on."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.operations.backup import backup, restore
from pulseweir.sqlite import connect

ENTRIES = 20


def transaction(number: int) -> dict[str, Any]:
    entries = [
        {
            "request": {"method": "PUT", "url": f"Patient/t{number}-{place}"},
            "resource": {"resourceType": "Patient", "id": f"t{number}-{place}"},
        }
        for place in range(ENTRIES)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


@pytest.mark.timeout(120)
async def test_a_backup_amid_writes_holds_whole_transactions_and_all_that_was_answered_before(tmp_path: Path) -> None:
    house = tmp_path / "house"
    store = FhirStore.open(house / "fhir", Clock())
    transport = httpx.ASGITransport(create_app(store))
    answered: list[int] = []
    enough = asyncio.Event()
    copied = asyncio.Event()

    async def write() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
            while not copied.is_set() or len(answered) < 20:
                response = await http.post("", json=transaction(len(answered)))
                assert response.status_code == 200, response.text
                answered.append(len(answered))
                if len(answered) == 10:
                    enough.set()

    writing = asyncio.create_task(write())
    await enough.wait()
    before = list(answered)
    await asyncio.to_thread(backup, house, tmp_path / "copy")
    copied.set()
    await writing
    store.close()
    restore(tmp_path / "copy", tmp_path / "again")

    connection = connect(tmp_path / "again" / "fhir" / FILE_NAME)
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    again = FhirStore.open(tmp_path / "again" / "fhir", Clock())
    names = again.read(lambda session: session.connection.execute("SELECT id FROM resource").fetchall())
    again.close()
    held: dict[int, int] = {}
    for (name,) in names:
        number = int(str(name)[1:].partition("-")[0])
        held[number] = held.get(number, 0) + 1
    assert set(before) <= set(held)
    assert set(held.values()) == {ENTRIES}
