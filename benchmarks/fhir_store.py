"""The embedded FHIR store over HTTP: bundles, single creates, reads, the sorted chart search.

Server (one process, FULL durability, structure validation) and load share the machine. Rows follow
``{"name", "per_second", "ratio", "against"}``; `per_second` counts resources for `bundle`, else requests.
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

Request = tuple[str, str, bytes]
BUNDLE_RESOURCES = 100
CONNECTIONS = 4
PATIENTS = 50
CODES = ("8867-4", "9279-1", "59408-5", "8310-5")


def observation(number: int) -> dict[str, Any]:
    """A vital-sign Observation as the connector writes it; every number gives another one."""
    patient = number % PATIENTS
    minute = number // PATIENTS
    day, hour = 1 + minute // 1440 % 28, minute // 60 % 24
    return {
        "resourceType": "Observation",
        "id": f"{number * 7919 % 100_000_007:064x}",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": CODES[number % len(CODES)]}]},
        "subject": {"reference": f"Patient/p{patient}"},
        "encounter": {"reference": f"Encounter/e{patient}"},
        "effectiveDateTime": f"2024-01-{day:02d}T{hour:02d}:{minute % 60:02d}:{number % 60:02d}Z",
        "device": {"reference": f"Device/d{patient}"},
        "valueQuantity": {
            "value": 60 + number % 40,
            "unit": "/min",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
    }


def bundle(first: int) -> bytes:
    """A transaction that PUTs `BUNDLE_RESOURCES` Observations."""
    resources = [observation(first + place) for place in range(BUNDLE_RESOURCES)]
    entries = [
        {"request": {"method": "PUT", "url": f"Observation/{item['id']}"}, "resource": item} for item in resources
    ]
    return msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})


class Connection:
    """One kept-alive HTTP/1.1 connection: the least a load client can cost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, request: Request) -> bytes:
        """One request; its answer's body."""
        method, path, body = request
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/fhir+json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if answer[9:10] != b"2":
            raise RuntimeError(answer.partition(b"\r\n")[0].decode())
        return await self._reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def drive(port: int, requests: list[Request], connections: int) -> float:
    """Send all requests over some connections; seconds it took."""
    opened = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(connections)]
    pending = iter(requests)

    async def work(connection: Connection) -> None:
        for request in pending:
            await connection.send(request)

    started = perf_counter()
    await asyncio.gather(*(work(connection) for connection in opened))
    seconds = perf_counter() - started
    for connection in opened:
        connection.close()
    return seconds


def serve(directory: str, port: Any) -> None:
    """The server process: tells its port and runs until it is terminated."""
    import uvloop

    from pulseweir.clock import Clock
    from pulseweir.fhir_store.server import make_server
    from pulseweir.fhir_store.storage import FhirStore
    from pulseweir.listening import listen

    store = FhirStore.open(Path(directory), Clock())
    listener = listen()
    port.send(listener.getsockname()[1])
    uvloop.run(make_server(store).serve(sockets=[listener]))
    store.close()


async def measure(port: int, scale: float) -> list[dict[str, Any]]:
    """All rows against one running server."""
    bundles = max(4, round(80 * scale))
    singles = max(20, round(2_000 * scale))
    first_single = bundles * BUNDLE_RESOURCES
    posts = [dict(observation(first_single + place)) for place in range(singles)]
    reads = [f"/fhir/Observation/{observation(place)['id']}" for place in range(min(singles, first_single))]
    chart = "/fhir/Observation?patient=p{}&code=http://loinc.org|{}&_sort=-date&_count=10"
    loads: list[tuple[str, list[Request], int, int]] = [
        (
            "bundle",
            [("POST", "/fhir", bundle(place * BUNDLE_RESOURCES)) for place in range(bundles)],
            2,
            BUNDLE_RESOURCES,
        ),
        ("post", [("POST", "/fhir/Observation", msgspec.json.encode(item)) for item in posts], CONNECTIONS, 1),
        ("read", [("GET", path, b"") for path in reads], CONNECTIONS, 1),
        (
            "search",
            [("GET", chart.format(place % PATIENTS, CODES[place % len(CODES)]), b"") for place in range(singles)],
            CONNECTIONS,
            1,
        ),
    ]
    rows = []
    for name, requests, connections, resources in loads:
        seconds = await drive(port, requests, connections)
        per_second = round(len(requests) * resources / seconds, 1)
        rows.append({"name": name, "per_second": per_second, "ratio": None, "against": None})
    return rows


def with_server(work: Callable[[int], Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Run a load against a fresh server process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as directory:
        process = context.Process(target=serve, args=(directory, sender))
        process.start()
        try:
            if not receiver.poll(30):
                raise RuntimeError("The FHIR server did not start.")
            port = int(receiver.recv())
            return asyncio.run(_run(work, port))
        finally:
            process.terminate()
            process.join(15)


async def _run(work: Callable[[int], Awaitable[list[dict[str, Any]]]], port: int) -> list[dict[str, Any]]:
    return await work(port)


def run(scale: float = 1.0) -> list[dict[str, Any]]:
    """The rows of this benchmark; `scale` shortens or lengthens the load."""
    return with_server(lambda port: measure(port, scale))


def main() -> None:
    """Print the rows as a table, or as JSON with ``--json``."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scale", type=float, default=1.0, help="share of the full load")
    arguments.add_argument("--json", action="store_true", help="print JSON")
    chosen = arguments.parse_args()
    rows = run(chosen.scale)
    if chosen.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        print(f"{row['name']:<10}{row['per_second']:>12,.1f} per second")


if __name__ == "__main__":
    main()
