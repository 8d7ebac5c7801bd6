"""A repository, a bus and a FHIR store for the stages of the warm path."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    opened = Repository.open(f"sqlite:///{tmp_path / 'repository.sqlite'}", Clock())
    yield opened
    opened.close()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    opened = EmbeddedBus.open(tmp_path / "bus")
    yield opened
    await opened.close()


@pytest.fixture
async def fhir(tmp_path: Path) -> AsyncIterator[FhirClient]:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    client = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    yield client
    await client.close()
    store.close()
