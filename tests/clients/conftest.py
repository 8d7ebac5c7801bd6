"""The embedded store as other people's clients meet it: over a socket, with its settings as they come."""

import uuid
from collections.abc import Iterator

import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.storage import FhirStore
from served_store import AskingServer, asking_store, served


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of an open store that begins empty and serves all tests of a module."""
    store = FhirStore.open(tmp_path_factory.mktemp("store"), Clock())
    try:
        with served(store) as url:
            yield url
    finally:
        store.close()


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AskingServer]:
    """A store that answers nobody without a token."""
    with asking_store(tmp_path_factory.mktemp("asking")) as server:
        yield server


@pytest.fixture
def word() -> str:
    """A word that no other test uses."""
    return "w" + uuid.uuid4().hex[:12]
