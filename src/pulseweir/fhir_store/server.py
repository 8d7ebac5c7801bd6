"""The store served over HTTP by uvicorn."""

import uvicorn
from starlette.applications import Starlette

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore


def make_server(store: FhirStore, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server ready for ``uvloop.run(server.serve(sockets=[listen(host, port)]))``.

    The caller closes the store after the server has stopped.
    """
    return uvicorn.Server(server_config(create_app(store), host, port))


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
