"""Observations that are not final are few, and found without looking at the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.definitions.tables import parameters_digest
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[FhirStore, httpx.AsyncClient]]:
    store = FhirStore.open(directory, Clock())
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        for name, status in (("f1", "final"), ("f2", "final"), ("p1", "preliminary"), ("a1", "amended")):
            await put(http, name, status)
        yield store, http
    store.close()


async def put(http: httpx.AsyncClient, name: str, status: str) -> None:
    tree: Json = {"resourceType": "Observation", "id": name, "status": status, "code": {"text": "x"}}
    tree |= {"identifier": [{"system": "s", "value": name}], "effectiveDateTime": "2024-01-01"}
    answer = await http.put(f"Observation/{name}", json=tree)
    assert answer.status_code in {200, 201}, answer.text


async def found(http: httpx.AsyncClient, query: str) -> list[str]:
    answer = await http.get(f"Observation?{query}&_sort=_id", headers={"prefer": "handling=strict"})
    return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]


SEARCHES = {
    "status=preliminary": ["p1"],
    "status=final": ["f1", "f2"],
    "status=final,preliminary": ["f1", "f2", "p1"],
    "status=http://hl7.org/fhir/observation-status|amended": ["a1"],
    "status=http://example.org|amended": [],
    "status:not=preliminary": ["a1", "f1", "f2"],
    "status:not=final": ["a1", "p1"],
    "status:missing=true": [],
    "status=preliminary&identifier=s|": ["p1"],
    "status=preliminary&date=2024-01-01": ["p1"],
    "status=cancelled": [],
}


@pytest.mark.parametrize("query", SEARCHES)
async def test_every_status_is_found(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as (_, http):
        assert await found(http, query) == SEARCHES[query]


async def test_one_that_became_final_is_found_as_that_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, http):
        await put(http, "p1", "final")
        await put(http, "f1", "preliminary")

        assert await found(http, "status=preliminary") == ["f1"]
        assert await found(http, "status=final") == ["f2", "p1"]


async def test_a_store_of_an_earlier_release_finds_them_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (store, _):
        await store.write(forget_rows)

    store = FhirStore.open(tmp_path, Clock())
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        assert await found(http, "status=preliminary") == ["p1"]
    store.close()


def forget_rows(session: WriteSession) -> None:
    """As the release before left the index."""
    rows = "parameter = (SELECT id FROM term WHERE text = 'Observation.status')"
    session.connection.execute(f"DELETE FROM text_index WHERE {rows}")  # noqa: S608 - fixed names
    session.set_setting("index", f"4-{parameters_digest()}")


@pytest.mark.parametrize("rest", ["identifier=s|&_count=100", "_sort=date", "_sort=-date&_count=10", "date=ge2023"])
async def test_a_rare_status_is_searched_by_its_index(tmp_path: Path, rest: str) -> None:
    async with serving(tmp_path) as (store, http):
        plans: list[str] = []

        def explain(cursor: Any, statement: str, bindings: Any) -> bool:
            if " observation " in statement and not statement.startswith("EXPLAIN"):
                rows = cursor.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", bindings)
                plans.extend(str(row[-1]) for row in rows)
            return True

        store.read(lambda session: session.connection.set_exec_trace(explain))
        answer = await http.get(f"Observation?status=preliminary&{rest}")

        assert len(answer.json()["entry"]) == 1
        assert any("SEARCH o USING INTEGER PRIMARY KEY" in plan for plan in plans), plans
        assert not [plan for plan in plans if plan.startswith("SCAN") and not plan.startswith("SCAN CONSTANT")], plans
