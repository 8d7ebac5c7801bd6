"""A FHIR server that misbehaves as told: the embedded store behind a transport that loses, refuses and garbles."""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock, from_microseconds
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
Forward = Callable[[httpx.Request], Awaitable[httpx.Response]]
Fault = Callable[[httpx.Request, Forward], Awaitable[httpx.Response]]
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
BASE = "http://fhir.test/fhir"


class FaultyTransport(httpx.AsyncBaseTransport):
    """Hands requests to the store through a fault; counts what was asked."""

    def __init__(self, store: FhirStore, fault: Fault) -> None:
        self._store = httpx.ASGITransport(create_app(store))
        self._fault = fault
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return await self._fault(request, self.forward)

    async def forward(self, request: httpx.Request) -> httpx.Response:
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        answer = await self._store.handle_async_request(copy)
        await answer.aread()
        return answer


@contextmanager
def faulty_server(folder: Path, fault: Fault) -> Iterator[tuple[FhirClient, FhirClient, FaultyTransport]]:
    """The client that meets the fault, one that does not, and the transport between."""
    store = FhirStore.open(folder, Clock())
    transport = FaultyTransport(store, fault)
    try:
        yield (
            FhirClient(BASE, transport=transport),
            FhirClient(BASE, transport=httpx.ASGITransport(create_app(store))),
            transport,
        )
    finally:
        store.close()


def entries_of(request: httpx.Request) -> list[Json]:
    """The entries of a request's bundle; none when it is no bundle."""
    if request.method != "POST" or not request.content:
        return []
    entries: list[Json] = msgspec.json.decode(request.content).get("entry", [])
    return entries


def with_entries(request: httpx.Request, entries: list[Json]) -> httpx.Request:
    content = msgspec.json.encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    headers = {"content-type": "application/fhir+json", "prefer": "return=minimal"}
    return httpx.Request("POST", request.url, headers=headers, content=content)


# Whole answers


async def healthy(request: httpx.Request, forward: Forward) -> httpx.Response:
    return await forward(request)


def sometimes(chance: float, fault: Fault, seed: int = 1) -> Fault:
    """The fault on a share of the requests, the same ones in every run."""
    chances = random.Random(seed)

    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        return await (fault if chances.random() < chance else healthy)(request, forward)

    return answer


def refuses(status: int, **headers: str) -> Fault:
    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        return httpx.Response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return answer


def asks_until(seconds: int) -> Fault:
    """503 with a Retry-After that is a date, by the server's own clock, which is far off."""
    now = from_microseconds(1_000_000_000_000_000)
    later = from_microseconds(1_000_000_000_000_000 + seconds * 1_000_000)
    return refuses(503, date=format_datetime(now, usegmt=True), retry_after=format_datetime(later, usegmt=True))


async def fails_after_commit(request: httpx.Request, forward: Forward) -> httpx.Response:
    await forward(request)
    return httpx.Response(500, json=OUTCOME)


async def says_outcome_after_commit(request: httpx.Request, forward: Forward) -> httpx.Response:
    await forward(request)
    return httpx.Response(200, json=OUTCOME)


async def says_outcome(request: httpx.Request, forward: Forward) -> httpx.Response:
    return httpx.Response(200, json=OUTCOME)


async def cuts_answer(request: httpx.Request, forward: Forward) -> httpx.Response:
    content = (await forward(request)).content
    return httpx.Response(200, content=content[: len(content) // 2])


async def drops_an_entry(request: httpx.Request, forward: Forward) -> httpx.Response:
    body = msgspec.json.decode((await forward(request)).content)
    if "entry" in body:
        body["entry"] = body["entry"][:-1]
    return httpx.Response(200, json=body)


async def times_out_after_commit(request: httpx.Request, forward: Forward) -> httpx.Response:
    await forward(request)
    raise httpx.ReadTimeout("", request=request)


async def resets_after_commit(request: httpx.Request, forward: Forward) -> httpx.Response:
    await forward(request)
    raise httpx.RemoteProtocolError("", request=request)


async def cannot_be_reached(request: httpx.Request, forward: Forward) -> httpx.Response:
    raise httpx.ConnectError("", request=request)


# Bundles


def takes_at_most(entries: int, status: int) -> Fault:
    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        return httpx.Response(status) if len(entries_of(request)) > entries else await forward(request)

    return answer


def takes_no_bundles(status: int) -> Fault:
    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        return httpx.Response(status) if entries_of(request) else await forward(request)

    return answer


async def knows_no_if_none_match(request: httpx.Request, forward: Forward) -> httpx.Response:
    entries = entries_of(request)
    if not entries:
        return await forward(request)
    for entry in entries:
        entry["request"].pop("ifNoneMatch", None)
    return await forward(with_entries(request, entries))


async def says_not_modified(request: httpx.Request, forward: Forward) -> httpx.Response:
    """Answers 304 where If-None-Match does not hold, as LinuxForHealth can be told to."""
    answer = await forward(request)
    asked = [bool(entry["request"].get("ifNoneMatch")) for entry in entries_of(request)]
    if not any(asked):
        return answer
    body = msgspec.json.decode(answer.content)
    for entry, is_asked in zip(body["entry"], asked, strict=True):
        if is_asked and entry["response"]["status"] == "412":
            entry["response"] = {"status": "304"}
    return httpx.Response(200, json=body)


def chokes_on(is_bad: Callable[[Json], bool], status: int) -> Fault:
    """Refuses every bundle that holds a bad entry as a whole."""

    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        entries = entries_of(request) or [{"resource": msgspec.json.decode(request.content or b"{}")}]
        bad = any(is_bad(entry) for entry in entries)
        return httpx.Response(status, json=OUTCOME) if bad else await forward(request)

    return answer


# Entries of a batch


def refuses_entries(
    is_bad: Callable[[Json], bool], status: str, outcome: Json | None = None, *, after_commit: bool = False
) -> Fault:
    """Answers some entries of each batch with a status of its own; the others go through."""

    async def answer(request: httpx.Request, forward: Forward) -> httpx.Response:
        entries = entries_of(request)
        bad = [is_bad(entry) for entry in entries]
        if not any(bad):
            return await forward(request)
        kept = [entry for entry, is_left in zip(entries, bad, strict=True) if after_commit or not is_left]
        answered = msgspec.json.decode((await forward(with_entries(request, kept))).content)["entry"] if kept else []
        refused = {"response": {"status": status} | ({"outcome": outcome} if outcome else {})}
        merged: list[Json] = []
        for is_left in bad:
            if after_commit:
                given = answered.pop(0)
                merged.append(refused if is_left else given)
            else:
                merged.append(refused if is_left else answered.pop(0))
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "batch-response", "entry": merged})

    return answer


def now_and_then(chance: float, method: str = "PUT", seed: int = 2) -> Callable[[Json], bool]:
    """Picks a share of the entries, the same ones in every run."""
    chances = random.Random(seed)
    return lambda entry: entry["request"]["method"] == method and chances.random() < chance


def holds(text: str) -> Callable[[Json], bool]:
    """Picks entries whose resource holds a text."""
    return lambda entry: text in msgspec.json.encode(entry.get("resource")).decode()
