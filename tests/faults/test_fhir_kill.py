"""kill -9 of the FHIR server under HTTP load: nothing answered is lost, no half transaction, the file stays whole."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.sqlite import connect

KILLS = 8
ENTRIES = 20
WRITERS = 3
SINGLE_WRITERS = 2
SINGLE_TYPE = "Device"

SERVER = """
import sys
from pathlib import Path
import uvloop
from pulseweir.clock import Clock
from pulseweir.fhir_store.server import make_server
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.listening import listen

store = FhirStore.open(Path(sys.argv[1]), Clock())
socket = listen("127.0.0.1", 0)
print(socket.getsockname()[1], flush=True)
uvloop.run(make_server(store).serve(sockets=[socket]))
"""


def start(directory: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{process.stdout.readline().strip()}/fhir/"


def transaction(name: str, turn: int) -> dict[str, Any]:
    """Creates, an update of what the writer's last turn made, and a delete: all or nothing must be seen of it."""
    entries: list[dict[str, Any]] = [
        {
            "request": {"method": "PUT", "url": f"Patient/{name}-{turn}-{place}"},
            "resource": {"resourceType": "Patient", "id": f"{name}-{turn}-{place}"},
        }
        for place in range(ENTRIES)
    ]
    counter = {"resourceType": "Basic", "id": name, "code": {"text": str(turn)}}
    entries.append({"request": {"method": "PUT", "url": f"Basic/{name}"}, "resource": counter})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


async def write(base_url: str, name: str, answered: set[tuple[str, int]]) -> None:
    """Store transaction after transaction until the server is gone."""
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as http:
        turn = 0
        while True:
            try:
                response = await http.post("", json=transaction(name, turn))
            except httpx.TransportError:
                return
            assert response.status_code == 200, response.text
            answered.add((name, turn))
            turn += 1


async def write_singles(base_url: str, name: str, singles: set[str]) -> None:
    """Store one resource after the other, by POST and by PUT in turn, until the server is gone."""
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as http:
        turn = 0
        while True:
            own = f"{name}.{turn}"
            try:
                if turn % 2:
                    response = await http.put(f"{SINGLE_TYPE}/{own}", json={"resourceType": SINGLE_TYPE, "id": own})
                else:
                    response = await http.post(SINGLE_TYPE, json={"resourceType": SINGLE_TYPE})
            except httpx.TransportError:
                return
            assert response.status_code == 201, response.text
            singles.add(response.json()["id"])
            turn += 1


async def write_until_killed(
    directory: Path, kill: int, wanted: int, answered: set[tuple[str, int]], singles: set[str]
) -> None:
    process, base_url = await asyncio.to_thread(start, directory)
    assert process.stdout is not None
    goal = len(answered) + wanted
    try:
        writers = [asyncio.create_task(write(base_url, f"k{kill}w{number}", answered)) for number in range(WRITERS)]
        writers += [
            asyncio.create_task(write_singles(base_url, f"k{kill}s{number}", singles))
            for number in range(SINGLE_WRITERS)
        ]
        while len(answered) < goal:
            await asyncio.wait(writers, timeout=0.002)
            assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.gather(*writers)
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_kills_over_http_lose_nothing_answered_and_leave_no_half_transaction(tmp_path: Path) -> None:
    chance = random.Random(23)
    answered: set[tuple[str, int]] = set()
    singles: set[str] = set()

    for kill in range(KILLS):
        await write_until_killed(tmp_path, kill, chance.randrange(1, 40), answered, singles)

    connection = connect(tmp_path / FILE_NAME)
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    store = FhirStore.open(tmp_path, Clock())
    statement = "SELECT r.id, r.version, t.text FROM resource r JOIN term t ON t.id = r.type"
    rows = store.read(lambda session: session.connection.execute(statement).fetchall())
    store.close()
    assert len(singles) > KILLS
    assert singles <= {name for name, _, resource_type in rows if resource_type == SINGLE_TYPE}
    held: dict[tuple[str, int], int] = {}
    versions: dict[str, int] = {}
    for name, version, _ in (row for row in rows if row[2] != SINGLE_TYPE):
        writer, *rest = str(name).split("-")
        if rest:
            held[writer, int(rest[0])] = held.get((writer, int(rest[0])), 0) + 1
        else:
            versions[writer] = int(str(version))
    assert answered <= set(held)
    assert set(held.values()) == {ENTRIES}
    # A turn's counter moved with its creates, or neither did.
    assert versions == {writer: 1 + max(turn for each, turn in held if each == writer) for writer in versions}
    assert {writer for writer, _ in held} == set(versions)
