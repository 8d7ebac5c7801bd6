"""The connector in front of an embedded FHIR store."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from connector_house import House
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    fhir = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    made = House(fhir)
    await made.add_device("monitor-1", "patient-1")
    yield made
    await fhir.close()
    store.close()
