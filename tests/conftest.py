"""What every test may ask for."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from xdist.remote import Producer

from hapi_server import running_hapi, what_is_missing
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from workers import FolderScheduling

ROOT = Path(__file__).parents[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling:
    """What each of several workers runs (`pytest -n 2`)."""
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real recordings; the test skips where it is absent."""
    folder = Path(os.environ.get("PULSEWEIR_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip("PULSEWEIR_TEST_DATA not found: ../shared/data")
    return folder


@pytest.fixture(scope="session")
def reference(test_data: Path) -> Path:
    """The folder of cross-check vectors beside the recordings; the test skips where it is absent."""
    folder = test_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip("reference folder not found beside PULSEWEIR_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def hapi_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a HAPI FHIR server that a session's tests share; the test skips without Java or Maven."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with running_hapi(tmp_path_factory.mktemp("hapi") / "log") as url:
        yield url


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """An empty repository in a file of its own."""
    opened = Repository.open(f"sqlite:///{tmp_path / 'repository.sqlite'}", Clock())
    yield opened
    opened.close()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    """An empty bus in a folder of its own."""
    opened = EmbeddedBus.open(tmp_path / "bus")
    yield opened
    await opened.close()


@pytest.fixture
async def fhir(tmp_path: Path) -> AsyncIterator[FhirClient]:
    """A client of an empty embedded FHIR store."""
    store = FhirStore.open(tmp_path / "fhir", Clock())
    client = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    yield client
    await client.close()
    store.close()
