"""A store that an earlier release wrote opens with all its data, its history, and every search of this release."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store import storage
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.schema import MIGRATIONS
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.sqlite import connect

RELEASED = Path(__file__).parent / "data" / "store_version_1.sql"
"""Dump of a store as the release with schema version 1 wrote it: each type of row, changed and deleted ones too."""


class KilledHere(Exception):
    """Stands for the process being killed at this place."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute(RELEASED.read_text())
    connection.close()
    return tmp_path


@pytest.fixture
def store(directory: Path) -> Iterator[FhirStore]:
    opened = FhirStore.open(directory, Clock())
    yield opened
    opened.close()


@asynccontextmanager
async def serving(store: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        yield http


SEARCHES: dict[str, list[str]] = {
    "Patient?identifier=urn:mrn|1": ["p1"],
    "Patient?name=muller": ["p1"],
    "Patient?birthdate=1970&gender=female&active=true": ["p1"],
    "Patient?_id=p2": [],
    "Device?identifier=urn:serial|7&patient=Patient/p1": ["d1"],
    "Observation?patient=p1&code=8867-4&_sort=-date": ["o1", "o0"],
    "Observation?category=vital-signs&device=Device/d1&_sort=date": ["o0", "o1", "o2"],
    "Observation?value-quantity=gt80&_sort=date": ["o1", "o2"],
    "Observation?value-quantity=72.5|http://unitsofmeasure.org|/min": ["o0"],
    "Observation?code-value-quantity=8867-4$gt80": ["o1"],
    "Observation?code:text=shown&date=2024-01-03": ["o2"],
    "Observation?subject:Patient.name=eva&date=2024-01-01": ["o0"],
    "Patient?_has:Observation:patient:code=59408-5": ["p1"],
    "Flag?status=inactive&date=ge2024-01": ["f1"],
    "Flag?status=active": [],
}


@pytest.mark.parametrize("query", SEARCHES)
async def test_a_store_of_an_earlier_release_is_found_by_every_search(store: FhirStore, query: str) -> None:
    async with serving(store) as http:
        response = await http.get(query, headers={"prefer": "handling=strict"})

    assert response.status_code == 200, response.text
    assert [entry["resource"]["id"] for entry in response.json().get("entry", [])] == SEARCHES[query]


async def test_versions_deletions_and_digits_of_an_earlier_release_remain(store: FhirStore) -> None:
    async with serving(store) as http:
        first = await http.get("Patient/p1/_history/1")
        of_type = (await http.get("Patient/_history")).json()
        everything = (await http.get("_history")).json()
        gone = await http.get("Patient/p2")
        observation = await http.get("Observation/o0")
        changed = await http.patch("Patient/p1", json={"active": False})

    assert "active" not in first.json()
    assert of_type["total"] == len(of_type["entry"]) == 4
    assert everything["total"] == 10
    assert gone.status_code == 410
    assert b'"value":72.50' in observation.content
    assert changed.headers["etag"] == 'W/"3"'


def test_a_migrated_store_has_the_tables_of_a_new_one(
    store: FhirStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    new = FhirStore.open(tmp_path_factory.mktemp("new"), Clock())

    def shape(opened: FhirStore) -> list[Any]:
        statement = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"
        return opened.read(lambda session: session.connection.execute(statement).fetchall())

    assert shape(store) == shape(new)
    new.close()


def test_opening_again_changes_nothing(directory: Path) -> None:
    def dump() -> list[Any]:
        connection = connect(directory / FILE_NAME)
        found = [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()  # noqa: S608 - fixed names
            for table in ("resource", "history", "text_index", "range_index", "observation", "amount_index")
        ]
        assert connection.pragma("integrity_check") == "ok"
        assert connection.pragma("user_version") == len(MIGRATIONS)
        connection.close()
        return found

    FhirStore.open(directory, Clock()).close()
    first = dump()
    FhirStore.open(directory, Clock()).close()

    assert dump() == first


async def test_an_index_half_made_anew_goes_on_where_it_stood(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_REINDEX_RESOURCES", 2)
    turns = count(1)
    original = WriteSession.reindex

    def reindex_or_stop(session: WriteSession, after: int, limit: int) -> int | None:
        if next(turns) % 2 == 0:
            raise KilledHere
        return original(session, after, limit)

    monkeypatch.setattr(WriteSession, "reindex", reindex_or_stop)
    stops = 0
    opened = None
    while opened is None:
        try:
            opened = FhirStore.open(directory, Clock())
        except KilledHere:
            stops += 1

    assert stops > 0
    async with serving(opened) as http:
        for query, names in SEARCHES.items():
            entries = (await http.get(query)).json().get("entry", [])
            assert [entry["resource"]["id"] for entry in entries] == names, query
    opened.close()
