"""The screens over a real repository and the embedded FHIR store, without a socket."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import invented_ward
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app as fhir_app
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.web.app import create_app
from pulseweir.web.settings import WebSettings
from screen_site import Site


@pytest.fixture
def settings() -> WebSettings:
    return WebSettings(poll_seconds=0.01, heartbeat_seconds=0.2, sign_in_attempts=3)


@pytest.fixture
async def site(tmp_path: Path, settings: WebSettings) -> AsyncIterator[Site]:
    clock = Clock()
    repository = Repository.open(f"sqlite:///{tmp_path / 'repository.sqlite'}", clock)
    store = FhirStore.open(tmp_path / "fhir", clock, FhirStoreSettings())
    fhir = FhirClient("http://fhir/fhir", transport=httpx.ASGITransport(app=fhir_app(store)))
    now = clock.now_microseconds()
    invented_ward.fill(repository, now)
    await invented_ward.write_fhir(fhir, now, every=invented_ward.HOUR)
    app = create_app(repository, fhir, clock, settings)
    async with app.router.lifespan_context(app):
        made = Site(app, repository, fhir, now)
        await made.until(lambda: len(made.screens.board.rows) == len(invented_ward.BEDS))
        yield made
    await fhir.close()
    repository.close()
    store.close()


@pytest.fixture
def without_fhir(site: Site) -> Site:
    """The same screens with a FHIR service that is not there."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody listens", request=request)

    gone = FhirClient("http://fhir/fhir", transport=httpx.MockTransport(refuse))
    quick = site.screens.settings.model_copy(update={"names_wait_seconds": 0.2})
    site.screens.names._fhir = gone
    site.app.state.screens = replace(site.screens, fhir=gone, settings=quick)
    return site
