"""The embedded FHIR store over HTTP: bundles, single creates, reads, the sorted chart search.

Server (`pulseweir run fhir` as installed: one process, FULL durability, structure validation) and load share the
machine. Rows follow
``{"name", "per_second", "ratio", "against", "p50_milliseconds", "p99_milliseconds"}``; `per_second` counts resources
for `bundle`, else requests, and the percentiles are those of one request as the client sees it. With
`against` the same load drives another R4 server too, quarter by quarter in turn, so that both share the machine's
good and bad moments; its rows are named ``peer.bundle`` and so on, and the own rows carry the ratio. What a peer may
need to know first (Patients, Encounters, Devices that Observations refer to) is written before anything is measured,
and both are warmed up. Every run writes Observations of its own: a peer that holds them from the run before would have
nothing to write.
"""

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import quantiles
from time import monotonic, perf_counter, sleep
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import msgspec

BUNDLE_RESOURCES = 100
CONNECTIONS = 4
PATIENTS = 50
CODES = ("8867-4", "9279-1", "59408-5", "8310-5")
UNITS = ("/min", "/min", "%", "Cel")
_WARM_UP_SHARE = 0.1
_START_SECONDS = 60
_ROUNDS = 4
_RUNS, _RUN_NUMBERS = 1 << 30, 1 << 30
"""Runs that can be told apart, and how many Observations each has."""
_IDS, _APART = (1 << 61) - 1, 0x9E37_79B9_7F4A_7C15
"""A prime and the golden ratio of 64 bits: ids of successive numbers are all different and lie far apart, as those that
the connector makes by hashing."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a load; the path is relative to the server's base."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests sent over some connections; each counts as so many resources."""

    name: str
    requests: list[Request]
    connections: int
    resources: int = 1


def observation(number: int) -> dict[str, Any]:
    """A vital-sign Observation as the connector writes it; every number gives another one."""
    patient = number % PATIENTS
    minute = number // PATIENTS
    day, hour = 1 + minute // 1440 % 28, minute // 60 % 24
    return {
        "resourceType": "Observation",
        "id": f"o{number * _APART % _IDS:063x}",
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
            "unit": UNITS[number % len(UNITS)],
            "system": "http://unitsofmeasure.org",
            "code": UNITS[number % len(UNITS)],
        },
    }


def bundle(resources: list[dict[str, Any]]) -> bytes:
    """A transaction that PUTs these resources."""
    entries = [
        {"request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}, "resource": item}
        for item in resources
    ]
    return msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def referred() -> list[dict[str, Any]]:
    """Everything that `observation` refers to."""
    resources: list[dict[str, Any]] = []
    for number in range(PATIENTS):
        resources += [
            {"resourceType": "Patient", "id": f"p{number}"},
            {"resourceType": "Device", "id": f"d{number}"},
            {
                "resourceType": "Encounter",
                "id": f"e{number}",
                "status": "in-progress",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                "subject": {"reference": f"Patient/p{number}"},
            },
        ]
    return resources


class Connection:
    """One kept-alive HTTP/1.1 connection to a server's base: the least a load client can cost on the shared cores."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._host, self._port, self._base = parts.hostname or "127.0.0.1", parts.port or 80, parts.path.rstrip("/")
        self._answers: _Answers | None = None

    async def send(self, request: Request) -> None:
        """One request, its answer read whole; connects anew where the server hung up between requests."""
        try:
            await self._exchange(request)
        except ConnectionError:
            self.close()
            await self._exchange(request)

    async def _exchange(self, request: Request) -> None:
        if self._answers is None:
            loop = asyncio.get_running_loop()
            _, self._answers = await loop.create_connection(_Answers, self._host, self._port)
        head = (
            f"{request.method} {self._base}{request.path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/fhir+json\r\ncontent-length: {len(request.body)}\r\n\r\n"
        )
        answer = await self._answers.to(head.encode() + request.body)
        if answer[9:10] != b"2":
            end = answer[-300:].decode(errors="replace")
            raise RuntimeError(f"{request.method} {request.path[:80]}: {answer[9:12].decode()} {end}")
        if b"\r\nconnection: close\r\n" in answer[:1_000].lower():
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._answers is not None:
            self._answers.transport.close()
        self._answers = None


class _Answers(asyncio.Protocol):
    """The answers on one connection, one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def to(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a request; its whole answer comes."""
        self._received, self._whole = b"", asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            self.connection_lost(None)
        self.transport.write(request)
        return self._whole

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._whole.done() and _is_whole(self._received):
            self._whole.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._whole.done():
            self._whole.set_exception(ConnectionResetError("The server hung up."))
            self._whole.exception()


def _is_whole(answer: bytes) -> bool:
    """Whether all of an HTTP answer is there: as long as it says, or up to its last chunk."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = answer[:end].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(answer) >= end + 4 + int(length) if length else answer.endswith(b"\r\n0\r\n\r\n")


@dataclass(slots=True)
class Driven:
    """How long a load took, and each of its requests, in seconds."""

    seconds: float = 0.0
    latencies_seconds: list[float] = field(default_factory=list)

    def add(self, more: "Driven") -> None:
        """Another part of the same load."""
        self.seconds += more.seconds
        self.latencies_seconds += more.latencies_seconds

    def percentile_milliseconds(self, percent: int) -> float:
        """As many in a hundred requests were answered within so long."""
        return round(quantiles(self.latencies_seconds, n=100)[percent - 1] * 1_000, 2)


async def drive(base_url: str, requests: list[Request], connections: int) -> Driven:
    """Send all requests over some connections."""
    opened = [Connection(base_url) for _ in range(connections)]
    pending = iter(requests)
    latencies: list[float] = []

    async def work(connection: Connection) -> None:
        for request in pending:
            began = perf_counter()
            await connection.send(request)
            latencies.append(perf_counter() - began)

    started = perf_counter()
    await asyncio.gather(*(work(connection) for connection in opened))
    seconds = perf_counter() - started
    for connection in opened:
        connection.close()
    return Driven(seconds, latencies)


def loads(first: int, scale: float) -> Iterator[Load]:
    """The loads, over Observations from number `first` on."""
    bundles = max(4, round(80 * scale))
    singles = max(20, round(2_000 * scale))
    yield Load(
        "bundle",
        [
            Request("POST", "", bundle([observation(first + place * BUNDLE_RESOURCES + one) for one in range(100)]))
            for place in range(bundles)
        ],
        connections=2,
        resources=BUNDLE_RESOURCES,
    )
    beyond = first + bundles * BUNDLE_RESOURCES
    posts = [msgspec.json.encode(observation(beyond + place)) for place in range(singles)]
    yield Load("post", [Request("POST", "/Observation", body) for body in posts], CONNECTIONS)
    ids = [observation(first + place)["id"] for place in range(min(singles, beyond - first))]
    yield Load("read", [Request("GET", f"/Observation/{name}") for name in ids], CONNECTIONS)
    chart = "/Observation?patient=p{}&code={}&_sort=-date&_count=10"
    codes = [quote(f"http://loinc.org|{code}", safe="") for code in CODES]
    places = range(singles)
    charts = [Request("GET", chart.format(place % PATIENTS, codes[place % len(codes)])) for place in places]
    yield Load("search", charts, CONNECTIONS)


async def measure(base_url: str, scale: float, against: Mapping[str, str], run_number: int) -> list[dict[str, Any]]:
    """All rows of the own server at `base_url`, and of every peer in `against`, base URLs by name."""
    servers = {"": base_url, **against}
    first = run_number * _RUN_NUMBERS
    for url in servers.values():
        await drive(url, [Request("POST", "", bundle(referred()))], 1)
        for load in loads(first + _RUN_NUMBERS // 2, scale * _WARM_UP_SHARE):
            await drive(url, load.requests, load.connections)
    rows: list[dict[str, Any]] = []
    for load in loads(first, scale):
        driven = {name: Driven() for name in servers}
        length = -(-len(load.requests) // _ROUNDS)
        for begin in range(0, len(load.requests), length):
            for name, url in servers.items():
                driven[name].add(await drive(url, load.requests[begin : begin + length], load.connections))
        own, peer = _row(load.name, load, driven[""]), next(iter(against), None)
        if peer:
            own |= {"ratio": round(driven[peer].seconds / driven[""].seconds, 2), "against": peer}
        rows += [own, *(_row(f"{name}.{load.name}", load, driven[name]) for name in against)]
    return rows


def _row(name: str, load: Load, driven: Driven) -> dict[str, Any]:
    return {
        "name": name,
        "per_second": round(len(load.requests) * load.resources / driven.seconds, 1),
        "ratio": None,
        "against": None,
        "p50_milliseconds": driven.percentile_milliseconds(50),
        "p99_milliseconds": driven.percentile_milliseconds(99),
    }


T = TypeVar("T")


def with_server(directory: str, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    """Run a load, a function of the base URL, against `pulseweir run fhir` on a data directory."""
    import uvloop

    from pulseweir.listening import listen

    with listen() as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pulseweir", "run", "fhir", "--port", str(port), "--data-dir", directory]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
    try:
        _await_ready(server, port)
        outcome: T = uvloop.run(work(f"http://127.0.0.1:{port}/fhir"))
        return outcome
    finally:
        server.terminate()
        server.wait(60)


def _await_ready(server: "subprocess.Popen[bytes]", port: int) -> None:
    ends = monotonic() + _START_SECONDS
    while server.poll() is None and monotonic() < ends:
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return
        sleep(0.05)
    raise RuntimeError("The FHIR server did not start.")


def run(scale: float = 1.0, against: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The rows of this benchmark; `scale` shortens or lengthens the load, `against` names R4 servers beside it."""
    with tempfile.TemporaryDirectory() as directory:
        run_number = secrets.randbelow(_RUNS)
        return with_server(directory, lambda base_url: measure(base_url, scale, against or {}, run_number))


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
        print(f"{row['name']:<16}{row['per_second']:>12,.1f} per second")


if __name__ == "__main__":
    main()
