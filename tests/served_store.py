"""A store behind real HTTP, on a port of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.server import make_server
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.listening import listen


@contextmanager
def served(store: FhirStore, guard: Guard | None = None) -> Iterator[str]:
    """The store behind real HTTP; gives the base URL."""
    listener = listen()
    server = make_server(store, guard=guard)
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
    finally:
        server.should_exit = True
        thread.join()
