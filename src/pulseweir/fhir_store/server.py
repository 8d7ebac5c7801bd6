"""The store served over HTTP by uvicorn."""

import ssl
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.storage import FhirStore


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


def server_config(app: Starlette, host: str, port: int, *, tls: dict[str, Path] | None = None) -> uvicorn.Config:
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
        http=_CertificateProtocol if "ssl_ca_certs" in files else "httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        **files,
    )


class _CertificateProtocol(HttpToolsProtocol):
    """Says in each request's scope whose certificate the TLS layer has checked; uvicorn itself does not."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        certificate = self.transport.get_extra_info("peercert") or {}
        names = [text for part in certificate.get("subject", ()) for kind, text in part if kind == "commonName"]
        self.scope["extensions"] = {"tls": {"client_cert_name": names[0] if len(names) == 1 else ""}}
