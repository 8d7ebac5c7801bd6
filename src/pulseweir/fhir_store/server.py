"""The store served over HTTP by uvicorn."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.http_connections import KEPT_SECONDS, WatchedConnection


def make_server(
    store: FhirStore,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    guard: Guard | None = None,
    tls: dict[str, Path] | None = None,
) -> uvicorn.Server:
    """A server ready for ``uvloop.run(server.serve(sockets=[listen(host, port)]))``.

    The caller closes the store after the server has stopped.
    """
    return uvicorn.Server(server_config(create_app(store, guard=guard), host, port, tls=tls))


def server_config(app: ASGIApp, host: str, port: int, *, tls: dict[str, Path] | None = None) -> uvicorn.Config:
    """Production settings: the fast loop and parser, no access log (URLs of a FHIR server are not for logs).

    Args:
        app: What is served.
        host: Address to listen on.
        port: TCP port.
        tls: Files by uvicorn's names; with ``ssl_ca_certs`` every client needs a certificate of those authorities.
    """
    files: dict[str, Any] = {name: str(path) for name, path in (tls or {}).items()}
    if "ssl_ca_certs" in files:
        files["ssl_cert_reqs"] = ssl.CERT_REQUIRED
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=_CertificateProtocol if "ssl_ca_certs" in files else _OneWriteProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEPT_SECONDS,
        timeout_graceful_shutdown=10,
        **files,
    )


class OneWriteTransport:
    """A transport that sends head and body of an answer at once: a system call costs more than all else of a read."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Hold a head for the body that comes next; by itself it is sent a turn of the loop later."""
        if self._held:
            self._held += data
            self._flush()
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)


class _OneWriteProtocol(WatchedConnection):
    """Head and body of an answer leave in one piece; uvicorn itself sends two."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport, self.loop))  # type: ignore[arg-type]


class _CertificateProtocol(_OneWriteProtocol):
    """Says in each request's scope whose certificate the TLS layer has checked; uvicorn itself does not."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        certificate = self.transport.get_extra_info("peercert") or {}
        names = [text for part in certificate.get("subject", ()) for kind, text in part if kind == "commonName"]
        self.scope["extensions"] = {"tls": {"client_cert_name": names[0] if len(names) == 1 else ""}}
