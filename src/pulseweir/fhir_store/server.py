"""The store served over HTTP by uvicorn."""

import socket

import uvicorn
from starlette.applications import Starlette

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore


def make_server(store: FhirStore, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server ready for ``uvloop.run(server.serve(sockets=[listen(host, port)]))``.

    The caller closes the store after the server has stopped.
    """
    return uvicorn.Server(server_config(create_app(store), host, port))


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; its port is known before the server runs.

    Args:
        host: Address to listen on; there is no authentication, so keep it on loopback.
        port: TCP port; 0 takes a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that event loops recognise TCP and switch off Nagle's 40 ms wait.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def server_config(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """Production settings: the fast loop and parser, no access log (URLs of a FHIR server are not for logs)."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
