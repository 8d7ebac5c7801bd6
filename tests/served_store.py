"""A store behind real HTTP, on a port of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.server import server_config
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.listening import listen


@contextmanager
def served_app(app: Starlette) -> Iterator[str]:
    """An application behind real HTTP; gives the address of its root, without a slash at the end."""
    listener = listen()
    server = uvicorn.Server(server_config(app, "127.0.0.1", 0))
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served(store: FhirStore, guard: Guard | None = None) -> Iterator[str]:
    """The store behind real HTTP; gives the base URL."""
    with served_app(create_app(store, guard=guard)) as root:
        yield f"{root}/fhir"


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
