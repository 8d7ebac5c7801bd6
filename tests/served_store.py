"""A store behind real HTTP, on a port of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.server import server_config
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.listening import listen
from pulseweir.local_house import free_ports
from pulseweir.run_files import read_ready


@contextmanager
def served_app(app: ASGIApp) -> Iterator[str]:
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


@contextmanager
def running(data_dir: Path, **settings: str) -> Iterator[dict[str, Any]]:
    """`pulseweir run fhir` as its own process until it says that it is ready; gives what it says."""
    environment = os.environ | {f"PULSEWEIR_FHIR_STORE__{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "pulseweir", "run", "fhir"]
    command += ["--data-dir", str(data_dir), "--port", str(free_ports(1)[0])]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = monotonic() + 50
        while (facts := read_ready(data_dir, "fhir")) is None or facts["process"] != process.pid:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert monotonic() < deadline
            sleep(0.05)
        yield facts
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert "Traceback" not in errors, errors
