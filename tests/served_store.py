"""A store behind real HTTP, on a port of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.server import make_server
from pulseweir.fhir_store.settings import FhirStoreSettings
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


@dataclass(slots=True)
class AskingServer:
    """A served store that asks who comes: without a token it answers nobody."""

    base_url: str
    site: Site


@contextmanager
def asking_store(directory: Path, **settings: Any) -> Iterator[AskingServer]:
    """A store of these settings that has a client already."""
    store = FhirStore.open(directory, Clock(), FhirStoreSettings(**settings))
    site = Site(store, directory)
    site.token("system/*.cruds", name="first")
    try:
        with served(store, Guard.open(store)) as url:
            yield AskingServer(url, site)
    finally:
        store.close()
