"""An empty store behind HTTP, and resources to put into it."""

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
BASE = "http://fhir.test/fhir"


class StepClock(Clock):
    """Moves on by one second whenever it is asked."""

    _steps = count(1)

    def now_microseconds(self) -> int:
        return 1_700_000_000_000_000 + next(self._steps) * 1_000_000


@pytest.fixture
def fhir_settings() -> FhirStoreSettings:
    return FhirStoreSettings()


@pytest.fixture
def store(tmp_path: Path, fhir_settings: FhirStoreSettings) -> Iterator[FhirStore]:
    opened = FhirStore.open(tmp_path / "fhir", StepClock(), fhir_settings)
    yield opened
    opened.close()


@pytest.fixture
async def http(store: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url=BASE + "/") as client:
        yield client


@pytest.fixture
def patient() -> Callable[..., Json]:
    def make(name: str | None = "p1", **members: Any) -> Json:
        own = {} if name is None else {"id": name, "identifier": [{"system": "urn:mrn", "value": name}]}
        return {"resourceType": "Patient"} | own | members

    return make
