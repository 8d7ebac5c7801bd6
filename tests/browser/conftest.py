"""A real browser before a real server; both are local."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

import invented_ward
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app as fhir_app
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.web.accounts import add_user
from pulseweir.web.app import create_app
from pulseweir.web.settings import WebSettings
from screen_visit import NAME, PASSWORD, House, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = (
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class _Server(uvicorn.Server):
    """Stays away from signals: it runs in a thread."""

    def install_signal_handlers(self) -> None:
        """Leave them to pytest."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    clock = Clock()
    repository = Repository.open(f"sqlite:///{folder / 'repository.sqlite'}", clock)
    store = FhirStore.open(folder / "fhir", clock, FhirStoreSettings())
    fhir = FhirClient("http://fhir/fhir", transport=httpx.ASGITransport(app=fhir_app(store)))
    made = House(repository, clock.now_microseconds())
    invented_ward.fill(repository, made.now)
    every = 30 * invented_ward.MINUTE
    # In a thread of its own: the browser's driver already runs a loop in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(invented_ward.write_fhir(fhir, made.now, every=every))).result()
    add_user(repository, NAME, PASSWORD, "charge-nurse", ["Ward A"])
    app = create_app(repository, fhir, clock, WebSettings(heartbeat_seconds=0.5))
    server = _Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, ws="none", lifespan="on"))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    made.address = f"http://127.0.0.1:{port}"
    yield made
    server.should_exit = True
    thread.join(10)
    repository.close()
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: make components")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(_ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: "Browser", house: House) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    made = Visit(context.new_page(), house.address)
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on(
        "console",
        lambda message: made.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    yield made
    context.close()
