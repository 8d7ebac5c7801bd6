"""Clients that send slowly, or nothing, take no place from others."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_site import Site, flag, patient
from pulseweir import http_connections
from pulseweir.fhir_store.security.settings import LimitSettings
from served_store import served

HEADERS = {"content-type": "application/fhir+json"}


@pytest.fixture
def address(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Of a server that waits a moment for heads."""
    monkeypatch.setattr(http_connections, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(http_connections, "KEPT_SECONDS", 0.05)
    with served(make_site().store) as base_url:
        yield "127.0.0.1", int(base_url.split(":")[2].partition("/")[0])


def all_of(connection: socket.socket) -> bytes:
    """What arrives until the server ends the connection."""
    connection.settimeout(30)
    received = b""
    try:
        while part := connection.recv(4096):
            received += part
    except ConnectionResetError:
        pass
    return received


HALF = b"GET /fhir/metadata HTTP/1.1\r\nHost: fhir.test\r\nX-Slow: "
WHOLE = b"GET /livez HTTP/1.1\r\nHost: fhir.test\r\n\r\n"
REFUSED = b"PUT /elsewhere HTTP/1.1\r\nHost: fhir.test\r\nContent-Length: 99\r\n\r\n{"


@pytest.mark.parametrize("sent", [b"", HALF, WHOLE, WHOLE + HALF, REFUSED])
def test_a_connection_on_which_nothing_comes_about_is_ended(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        received = all_of(connection)
    assert received.count(b"HTTP/1.1") == sent.count(b"\r\n\r\n")


def test_a_connection_whose_request_is_in_work_is_left(address: tuple[str, int]) -> None:
    head = b"PUT /fhir/Flag/f1 HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n"
    with socket.create_connection(address) as slow, socket.create_connection(address) as other:
        slow.sendall(head + b"Content-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{")
        other.sendall(HALF)
        assert all_of(other) == b""
        slow.sendall(b"}")
        assert all_of(slow).startswith(b"HTTP/1.1 400 ")


async def test_slow_bodies_take_no_place_among_the_requests_in_work(make_site: Callable[..., Site]) -> None:
    site = make_site(limits=LimitSettings(concurrent_requests=2))
    await site.fill(patient("p1"))
    begun, waiting = asyncio.Semaphore(0), asyncio.Event()

    async def body() -> Any:
        begun.release()
        await waiting.wait()
        yield b"{}"

    async with site.http() as http:
        slow = [asyncio.create_task(http.post("Flag", content=body(), headers=HEADERS)) for _ in range(5)]
        for _ in slow:
            await begun.acquire()
        assert (await http.get("Patient/p1")).status_code == 200
        waiting.set()
        assert {answer.status_code for answer in await asyncio.gather(*slow)} == {400}


async def test_a_body_that_does_not_arrive_is_given_up(make_site: Callable[..., Site]) -> None:
    site = make_site(limits=LimitSettings(body_seconds=0.01))

    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with site.http() as http:
        answer = await http.post("Flag", content=body(), headers=HEADERS)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (408, "timeout")
        assert answer.headers["connection"] == "close"
        assert (await http.put("Flag/f1", json=flag("f1"))).status_code == 201
