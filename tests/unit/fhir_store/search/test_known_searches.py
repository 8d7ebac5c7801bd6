"""A search that was asked before finds what one that never was would find, whatever was written in between."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_site import Site, flag, found, observation, patient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.searching import run_search
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore, ReadSession
from pulseweir.fhir_store.terms import Terms

Json = dict[str, Any]
BASE = "http://fhir.test/fhir"
SECOND_MICROSECONDS = 1_000_000

SEARCHES = (
    "patient=p1&code=8867-4&_sort=-date",
    "patient=p1&code=http://loinc.org|8867-4,http://loinc.org|8310-5",
    "patient=Patient/p2&_sort=date",
    "subject=p1",
    "subject=Patient/p1&_sort=date&_sort=code",
    "subject=Patient/p1&_sort=code&_sort=date",
    "patient:missing=false",
    "subject:missing=true",
    "code:not=8867-4",
    "code:text=heart",
    "category=vital-signs",
    "status=final",
    "status=amended",
    "status:not=final",
    "value-quantity=72|http://unitsofmeasure.org|/min",
    "value-quantity=gt70",
    "code-value-quantity=8867-4$72",
    "device=d1",
    "identifier=urn:x|1",
    "date=ap2024-01-01",
    "date=ge2024-01-01",
    "performer=Practitioner/doc",
    "patient.name=canary",
    "_has:Provenance:target:_id=x",
    "_id=o1,o2",
    "_lastUpdated=gt2000",
    "combo-code=8867-4",
)
"""Kinds of parameters, each with names that nothing uses at first."""

PARTS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["o1", "o2", "o3"]),
    "status": st.sampled_from(["final", "amended", "preliminary"]),
    "code": st.sampled_from(["8867-4", "8310-5", "9279-1"]).map(
        lambda code: {"coding": [{"system": "http://loinc.org", "code": code, "display": "Heart rate"}]}
    ),
    "subject": st.sampled_from(["Patient/p1", "Patient/p2", f"{BASE}/Patient/p1"]).map(
        lambda text: {"reference": text}
    ),
    "device": st.sampled_from(["Device/d1", "Device/d2"]).map(lambda text: {"reference": text}),
    "performer": st.sampled_from(["Practitioner/doc"]).map(lambda text: [{"reference": text}]),
    "identifier": st.sampled_from(["1", "2"]).map(lambda text: [{"system": "urn:x", "value": text}]),
    "effectiveDateTime": st.sampled_from(["2024-01-01", "2024-02-01T10:00:00Z"]),
    "valueQuantity": st.sampled_from([("/min", 72), ("%", 96)]).map(
        lambda each: {"system": "http://unitsofmeasure.org", "code": each[0], "value": each[1]}
    ),
}
OPTIONAL = ("subject", "device", "performer", "identifier", "effectiveDateTime", "valueQuantity")
OBSERVATIONS = st.fixed_dictionaries(
    {name: values for name, values in PARTS.items() if name not in OPTIONAL},
    optional={name: PARTS[name] for name in OPTIONAL},
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = FhirStore.open(tmp_path, Clock())
    yield store
    store.close()


def http_of(store: FhirStore) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(store)), base_url=f"{BASE}/")


def never_asked(store: FhirStore, query: str) -> list[str]:
    """What the search finds by a reader that remembers nothing."""

    def work(session: ReadSession) -> list[str]:
        pairs = [(name, text) for name, _, text in (part.partition("=") for part in query.split("&"))]
        now = store.now_microseconds()
        request = read_search("Observation", pairs, strict=True, settings=store.settings, base_url=BASE, now=now)
        fresh = ReadSession(session.connection, Terms(session.connection))
        return [f"Observation/{stored.resource_id}" for stored in run_search(fresh, request).matches]

    return store.read(work)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.one_of(OBSERVATIONS, st.sampled_from(SEARCHES)), min_size=4, max_size=25))
def test_a_search_finds_the_same_whether_it_was_asked_before_or_not(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Json | str]
) -> None:
    store = FhirStore.open(tmp_path_factory.mktemp("known"), Clock())

    async def run() -> None:
        async with http_of(store) as http:
            for step in steps:
                if isinstance(step, str):
                    await check(http, step)
                    continue
                body = {"resourceType": "Observation"} | step
                assert (await http.put(f"Observation/{step['id']}", json=body)).status_code in {200, 201}
                for query in asked:
                    await check(http, query)

    async def check(http: httpx.AsyncClient, query: str) -> None:
        asked.add(query)
        assert found(await http.get(f"Observation?{query}")) == never_asked(store, query), query

    asked: set[str] = set()
    asyncio.run(run())
    store.close()


@pytest.mark.parametrize("query", SEARCHES)
async def test_every_kind_of_search_is_known_only_while_it_holds(store: FhirStore, query: str) -> None:
    heart: Json = {"code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]}}
    async with http_of(store) as http:
        for place, more in enumerate(
            [
                {"code": {"text": "first"}},
                heart | {"subject": {"reference": "Patient/p1"}, "identifier": [{"system": "urn:x", "value": "1"}]},
                heart | {"status": "amended", "device": {"reference": "Device/d1"}},
                heart | {"subject": {"reference": f"{BASE}/Patient/p2"}},
                {"valueQuantity": {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"}} | heart,
                {"category": [{"coding": [{"code": "vital-signs"}]}], "performer": [{"reference": "Practitioner/doc"}]},
            ]
        ):
            for _ in range(2):
                assert found(await http.get(f"Observation?{query}")) == never_asked(store, query)
            body = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}} | more
            assert (await http.post("Observation", json=body)).status_code == 201, place
        assert found(await http.get(f"Observation?{query}")) == never_asked(store, query)


async def test_a_date_that_is_near_now_is_not_near_later(tmp_path: Path) -> None:
    present = [1_704_067_200 * SECOND_MICROSECONDS]

    class Moving(Clock):
        def now_microseconds(self) -> int:
            return present[0]

    store = FhirStore.open(tmp_path, Moving())
    async with http_of(store) as http:
        body = observation("o1", effectiveDateTime="2024-01-20T00:00:00Z")
        assert (await http.put("Observation/o1", json=body)).status_code == 201
        query = "Observation?date=ap2024-01-10T00:00:00Z"
        assert found(await http.get(query)) == []
        present[0] += 200 * 86_400 * SECOND_MICROSECONDS
        assert found(await http.get(query)) == ["Observation/o1"]
    store.close()


async def test_nobody_is_shown_what_another_may_see(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path / "fhir", Clock(), FhirStoreSettings())
    site = Site(store, tmp_path / "fhir")
    await site.fill(patient("p1"), patient("p2"), observation("o1"), observation("o2", who="p2"))
    everybody = site.token("system/*.rs", name="all")
    one = site.token("patient/*.rs", patient="p1", name="one")
    query = "Observation?code=8867-4&_sort=_id"
    for _ in range(2):
        async with site.http(everybody) as http:
            assert found(await http.get(query)) == ["Observation/o1", "Observation/o2"]
        async with site.http(one) as http:
            assert found(await http.get(query)) == ["Observation/o1"]
    store.close()


async def test_a_reference_by_the_own_address_depends_on_the_address(store: FhirStore) -> None:
    body = observation("o1", subject={"reference": f"{BASE}/Patient/p1"})
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url=f"{BASE}/") as http:
        assert (await http.put("Observation/o1", json=body)).status_code == 201
        for _ in range(2):
            assert found(await http.get("Observation?subject=Patient/p1")) == ["Observation/o1"]
            away = {"host": "away.test"}
            assert found(await http.get("Observation?subject=Patient/p1", headers=away)) == []


async def test_the_first_reference_by_the_own_address_is_found_by_what_was_asked_before(store: FhirStore) -> None:
    queries = ["patient:missing=false", "patient.name=canary", "subject:Patient.name=canary"]
    async with http_of(store) as http:
        for each in (patient("p1"), flag("f0", who="p1")):
            await http.put(f"{each['resourceType']}/{each['id']}", json=each)
        for query in queries:
            assert found(await http.get(f"Flag?{query}")) == ["Flag/f0"]
        absolute = flag("f1") | {"subject": {"reference": f"{BASE}/Patient/p1"}}
        assert (await http.put("Flag/f1", json=absolute)).status_code == 201
        for query in queries:
            assert found(await http.get(f"Flag?{query}")) == ["Flag/f0", "Flag/f1"], query
