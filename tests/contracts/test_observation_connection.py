"""The writer over real sockets: bodies that never end, end early, or are cut by a reset."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from faulty_fhir import faulty_server, healthy
from observed_rows import Time, counted, rows, stored, versions
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import FhirUnavailable
from pulseweir.telemetry import FHIR_REQUESTS

TABLE = rows(*[("heart-rate", second, {"heart_rate": str(60 + second)}) for second in range(6)])
MISDEEDS = ["slow", "slow headers", "short", "reset", "reset at once"]


class Misbehaving:
    """An HTTP server on a loopback port that hands requests to a store and spoils its first answers.

    What is spoilt has always been stored: that is the hard case.
    """

    def __init__(self, store: FhirClient, misdeed: str, spoilt: int) -> None:
        self._store = store
        self._misdeed = misdeed
        self._left = spoilt
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir"
        finally:
            self._closing.set()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *lines = head.decode().strip().split("\r\n")
        method, path, _ = request.split()
        headers = {name.lower(): text for name, text in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        answer = await self._store._connection._http.request(
            method, f"http://fhir.test{path}", content=body, headers={"content-type": "application/fhir+json"}
        )
        length = f"HTTP/1.1 {answer.status_code} X\r\ncontent-length: {len(answer.content)}\r\n\r\n".encode()
        whole = length + answer.content
        if self._left == 0:
            writer.write(whole)
            await writer.drain()
            return
        self._left -= 1
        await self._spoil(whole, len(length), writer)

    async def _spoil(self, whole: bytes, head: int, writer: asyncio.StreamWriter) -> None:
        sent = {"slow": head + 20, "slow headers": 10, "short": len(whole) - 5, "reset": head + 20, "reset at once": 0}
        writer.write(whole[: sent[self._misdeed]])
        await writer.drain()
        if self._misdeed.startswith("slow"):
            await self._closing.wait()
        if self._misdeed.startswith("reset"):
            writer.transport.abort()
        raise ConnectionError


@pytest.mark.parametrize("misdeed", MISDEEDS)
async def test_what_was_stored_and_not_answered_is_written_once(misdeed: str, tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (_, honest, _):
        async with Misbehaving(honest, misdeed, spoilt=4).served() as url:
            client = FhirClient(url, timeout_seconds=0.4)
            outcome = await time.deliver(time.stage(client), TABLE)
            await client.close()

        assert outcome.tallies == {"written": 6}
        assert counted(outcome) == 6
        assert len(await stored(honest)) == 6
        assert set((await versions(honest)).values()) == {1}


async def test_a_body_that_never_ends_is_a_time_out_and_counts_as_no_answer(tmp_path: Path) -> None:
    before = FHIR_REQUESTS.labels("read", "none")._value.get()
    with faulty_server(tmp_path, healthy) as (_, honest, _):
        async with Misbehaving(honest, "slow", spoilt=1).served() as url:
            client = FhirClient(url, timeout_seconds=0.3)
            with pytest.raises(FhirUnavailable, match="TimeoutError|ReadTimeout"):
                await client.read("Observation", "x")
            await client.close()

    assert FHIR_REQUESTS.labels("read", "none")._value.get() == before + 1
