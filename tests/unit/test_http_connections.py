"""Connections to the hub and to the pages on which nothing comes about are ended; those in use stay."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hub_house import start
from pulseweir import http_connections
from pulseweir.ingest.hub.certificates import client_context
from pulseweir.systems import EmbeddedServer, pages_config
from pulseweir.web.settings import WebSettings

HALF = b"GET / HTTP/1.1\r\nHost: pages.test\r\nX-Slow: "


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(http_connections, "KEPT_SECONDS", 0.05)


async def all_of(port: int, sent: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """What arrives until the server ends the connection."""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    writer.write(sent)
    received = b""
    with suppress(ConnectionResetError):
        async with asyncio.timeout(30):
            received = await reader.read()
    writer.close()
    return received


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /livez HTTP/1.1\r\nHost: hub.test\r\n\r\n" + HALF])
async def test_a_silent_connection_to_the_hub_is_ended(tmp_path: Path, sent: bytes) -> None:
    house = await start(tmp_path)
    try:
        tls = client_context(house.certificate)
        assert house.hub.http_port is not None
        assert house.hub.https_port is not None
        answers = [await all_of(house.hub.http_port, sent), await all_of(house.hub.https_port, sent, tls)]
    finally:
        await house.hub.stop()

    assert [answer.count(b"HTTP/1.1 200 ") for answer in answers] == [sent.count(b"/livez")] * 2


async def test_a_silent_connection_to_the_pages_is_ended_and_an_answer_in_work_is_not() -> None:
    others_ended = asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        await others_ended.wait()
        return PlainTextResponse("slow")

    server = EmbeddedServer(pages_config(Starlette(routes=[Route("/slow", slow)]), WebSettings(port=0)))
    serving = server.start()
    while not server.started:
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]

    working = asyncio.create_task(all_of(port, b"GET /slow HTTP/1.1\r\nHost: pages.test\r\nConnection: close\r\n\r\n"))
    silent = [await all_of(port, sent) for sent in (b"", HALF)]
    others_ended.set()
    answer = await working
    server.should_exit = True
    await serving

    assert silent == [b"", b""]
    assert answer.endswith(b"slow")
