"""Bulk exports of a small ward, asked for over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from fhir_site import Site, flag, observation, patient
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.export.exports import Exports

Json = dict[str, Any]
ASYNC = {"prefer": "respond-async"}


@asynccontextmanager
async def client(site: Site, **members: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(site.store, exports=Exports(site.store, **members)))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        yield http


async def begin(http: httpx.AsyncClient, path: str = "$export", **query: str) -> str:
    answer = await http.get(path, headers=ASYNC, params=query)
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


async def manifest(http: httpx.AsyncClient, place: str) -> Json:
    while True:
        answer = await http.get(place)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("application/json")
            assert "expires" in answer.headers
            return dict(answer.json())
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-progress"]
        await asyncio.sleep(0.01)


async def lines(http: httpx.AsyncClient, made: Json) -> list[Json]:
    found = []
    for file in made["output"]:
        answer = await http.get(file["url"], headers={"accept": "application/fhir+ndjson"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+ndjson")
        resources = [msgspec.json.decode(line) for line in answer.content.splitlines()]
        assert len(resources) == file["count"]
        assert {each["resourceType"] for each in resources} == {file["type"]}
        found += resources
    return found


def names(resources: list[Json]) -> set[str]:
    return {f"{each['resourceType']}/{each['id']}" for each in resources}


async def exported(http: httpx.AsyncClient, path: str = "$export", **query: str) -> set[str]:
    found = await lines(http, await manifest(http, await begin(http, path, **query)))
    assert len(found) == len(names(found))
    return names(found)


PRACTITIONER = {"resourceType": "Practitioner", "id": "d1"}
GROUP = {
    "resourceType": "Group",
    "id": "g1",
    "type": "person",
    "actual": True,
    "member": [
        {"entity": {"reference": "Patient/p1"}},
        {"entity": {"reference": "Patient/p3"}},
        {"entity": {"reference": "Patient/p2"}, "inactive": True},
    ],
}
SHARED = observation("shared", "p1", performer=[{"reference": "Patient/p3"}])


async def fill_ward(site: Site) -> None:
    """Three patients, two of them members of a Group now, and what concerns them."""
    await site.fill(
        *(patient(name) for name in ("p1", "p2", "p3")),
        observation("o1", "p1"),
        observation("o2", "p2"),
        SHARED,
        flag("f1", "p3"),
        PRACTITIONER,
        GROUP,
    )
