"""A store that asks who comes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from export_site import fill_ward
from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    opened: list[FhirStore] = []

    def make(**settings: Any) -> Site:
        store = FhirStore.open(tmp_path / "fhir", Clock(), FhirStoreSettings(**settings))
        opened.append(store)
        return Site(store, tmp_path / "fhir")

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture
async def ward(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    await fill_ward(site)
    return site
