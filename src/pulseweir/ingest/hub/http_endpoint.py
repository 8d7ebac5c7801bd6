"""Step 1: the hub's HTTPS endpoint: a message, or a batch, a request."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pulseweir.errors import RejectRecord
from pulseweir.http_connections import WatchedConnection
from pulseweir.ingest.hub.arrivals import Arrivals, Origin
from pulseweir.ingest.hub.gate import Gate, Refusals
from pulseweir.ingest.hub.http_messages import BATCH_TYPE, HttpMessage, parse_batch, properties_of
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.telemetry import HUB_MESSAGES_RECEIVED

_PROTOCOL = "https"
_RETRY_AFTER_SECONDS = "1"
_DRAIN_SECONDS = 5
_STATUS = {
    "disabled-device": HTTPStatus.FORBIDDEN,
    "unknown-device": HTTPStatus.NOT_FOUND,
    "oversize": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "malformed-batch": HTTPStatus.BAD_REQUEST,
    "body-not-complete": HTTPStatus.BAD_REQUEST,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


class HttpEndpoint:
    """The ASGI application, and the servers that listen for it."""

    def __init__(self, gate: Gate, arrivals: Arrivals, settings: HubSettings) -> None:
        self._gate = gate
        self._arrivals = arrivals
        self._settings = settings
        self._refusals = Refusals(_PROTOCOL)
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self.app = Starlette(
            routes=[
                Route("/devices/{device_id}/messages/events", self.post_events, methods=["POST"]),
                Route("/livez", self.get_livez),
                Route("/readyz", self.get_readyz),
            ]
        )

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept connections; the port in use is returned.

        Raises:
            OSError: The port cannot be opened.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=1_024)
        config = uvicorn.Config(
            self.app,
            http=WatchedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        config.load()
        config.ssl = tls
        server = _Server(config)
        self._servers.append((server, asyncio.create_task(server.serve([listener]))))
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Finish the requests that wait for their commit, then close."""
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers))

    async def get_livez(self, _: Request) -> Response:
        """The process answers."""
        return Response("ok\n", media_type="text/plain")

    async def get_readyz(self, _: Request) -> Response:
        """Messages are taken at once."""
        if self._arrivals.is_full:
            return self._refuse("unavailable", "The queue is full; the bus does not store fast enough.")
        return Response("ok\n", media_type="text/plain")

    async def post_events(self, request: Request) -> Response:
        """Take messages of one device; 204 when all of them are durable."""
        try:
            origin = self._admit(request)
            messages = await self._messages(request)
        except RejectRecord as rejected:
            return self._refuse(rejected.reason, str(rejected))
        if self._arrivals.is_full:
            return self._refuse("unavailable", "The queue is full; send again later.")
        if await self._store(origin, messages):
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return self._refuse("unavailable", "The message could not be stored; send it again.")

    def _admit(self, request: Request) -> Origin:
        device_id = request.path_params["device_id"]
        token = request.headers.get("authorization", "")
        admission = self._gate.admit(device_id, token, f"devices/{device_id}/messages/events")
        return Origin.of(admission.device, _PROTOCOL)

    async def _messages(self, request: Request) -> list[HttpMessage]:
        body = await self._body(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == BATCH_TYPE:
            return parse_batch(body)
        return [HttpMessage(body, properties_of(request.headers.items()))]

    async def _body(self, request: Request) -> bytes:
        largest = self._settings.largest_message_bytes
        chunks: list[bytes] = []
        size_bytes = 0
        try:
            async for chunk in request.stream():
                size_bytes += len(chunk)
                if size_bytes > largest:
                    raise RejectRecord(f"The body has more than {largest} bytes; send less at once.", reason="oversize")
                chunks.append(chunk)
        except ClientDisconnect:
            raise RejectRecord("The body did not arrive whole; send it again.", reason="body-not-complete") from None
        return b"".join(chunks)

    async def _store(self, origin: Origin, messages: list[HttpMessage]) -> bool:
        waiter = _Waiter(len(messages))
        for message in messages:
            self._arrivals.add(origin, message.body, message.properties, waiter)
        return await waiter.answer

    def _refuse(self, reason: str, sentence: str) -> Response:
        self._refusals.note(reason)
        HUB_MESSAGES_RECEIVED.labels(_PROTOCOL, reason).inc()
        status = _STATUS.get(reason, HTTPStatus.UNAUTHORIZED)
        headers = {}
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = _RETRY_AFTER_SECONDS
        elif status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            headers["Connection"] = "close"
        elif status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "SharedAccessSignature"
        content = msgspec.json.encode({"error": reason, "message": sentence})
        return Response(content, status, headers, media_type="application/json")


class _Waiter:
    """A request that waits for its messages. Implements `arrivals.Sender`."""

    def __init__(self, count: int) -> None:
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outstanding = count

    def stored(self, tokens: list[int]) -> None:
        """So many more are durable."""
        self._outstanding -= len(tokens)
        if not self._outstanding and not self.answer.done():
            self.answer.set_result(True)

    def refused(self, tokens: list[int]) -> None:
        """Some are not: the sender must send all of them again; those stored already count once."""
        if not self.answer.done():
            self.answer.set_result(False)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the process it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
