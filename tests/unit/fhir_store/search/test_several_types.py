"""Searches at the base URL, in compartments, and the operations that answer like a search."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

Find = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?_type=Flag,RiskAssessment", "f1 f2 k1"),
        ("?_type=Flag,RiskAssessment&patient=p1", "f1 k1"),
        ("?_type=Observation,Encounter&date=gt2024-03-02", "e1 h3"),
        ("?_type=Observation,Flag&subject:Patient.name=smith", "f2 h3"),
        ("?_tag=demo", "p1"),
        ("?_id=p1,h1,nobody", "h1 p1"),
        ("?_type=Patient&_sort=-_id", "p3 p2 p1"),
        ("?_lastUpdated=lt2000", ""),
        ("Patient/p1/Observation", "h1 h2 r1"),
        ("Patient/p1/Observation?code=8867-4&_sort=-date", "h2 h1"),
        ("Patient/p1/Flag?status=inactive", ""),
        ("Patient/p2/*", "f2 h3 p2"),
        ("Patient/p1/*?_type=Flag,RiskAssessment", "f1 k1"),
        ("Patient/nobody/Observation", ""),
        ("Encounter/e1/Observation", "h1"),
        ("Device/d1/Observation", "h1"),
        ("Practitioner/doc/Observation", "r1"),
    ],
)
async def test_it_finds(find: Find, query: str, expected: str) -> None:
    found = await find(query)

    assert (found if "_sort" in query else sorted(found)) == expected.split()


@pytest.mark.parametrize(
    "query",
    ["?_type=Ship", "?_type=Patient&_type=Flag", "?_sort=date", "?_type=Flag,Patient&code=1"],
)
async def test_what_several_types_do_not_share_is_refused(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(query, headers={"prefer": "handling=strict"})).status_code == 400


async def test_pages_of_several_types(http: httpx.AsyncClient) -> None:
    seen, url = [], "?_type=Patient,Flag,Observation&_count=2"
    while url:
        bundle = (await http.get(url)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")

    assert sorted(seen) == ["f1", "f2", "h1", "h2", "h3", "p1", "p2", "p3", "r1", "x1"]


async def test_a_search_of_several_types_by_post(http: httpx.AsyncClient) -> None:
    response = await http.post("_search", data={"_type": "Flag", "status": "active"})

    assert [entry["resource"]["id"] for entry in response.json()["entry"]] == ["f1"]


@pytest.mark.parametrize(("resource_type", "form"), [("Observation", {}), ("*", {"_type": "Observation"})])
async def test_a_search_of_a_compartment_by_post(
    http: httpx.AsyncClient, resource_type: str, form: dict[str, str]
) -> None:
    form = {"code": "8867-4", "_count": "1", "_total": "accurate"} | form
    path = f"Patient/p1/{resource_type}"

    first = (await http.post(f"{path}/_search", data=form)).json()
    second = (await http.get(next(link["url"] for link in first["link"] if link["relation"] == "next"))).json()

    assert sorted(page["entry"][0]["resource"]["id"] for page in (first, second)) == ["h1", "h2"]
    assert [page["total"] for page in (first, second)] == [2, 2]


async def test_only_a_compartment_is_searched_by_post(http: httpx.AsyncClient) -> None:
    paths = ["Patient/p1/_history/_search", "Patient/p1/Ship/_search", "Patient/p1/Observation/h1/_search"]
    form = {"code": "8867-4"}

    assert [(await http.post(path, data=form)).status_code for path in paths] == [404] * 3
    forms = ["Patient/p1/Observation/_search", "Patient/p1/Observation/_search/", "Observation/_search/"]
    assert [(await http.post(path, json=form)).status_code for path in forms] == [415] * 3


async def test_no_compartment_holds_what_does_not_belong(http: httpx.AsyncClient) -> None:
    assert (await http.get("Patient/p1/Organization")).status_code == 404


@pytest.mark.parametrize(
    ("query", "matches", "included"),
    [
        ("Patient/p1/$everything", "e1 f1 h1 h2 k1 p1 r1", "d1 doc house ward"),
        ("Patient/p1/$everything?_type=Observation,Flag", "f1 h1 h2 r1", ""),
        ("Patient/p1/$everything?_type=Observation&start=2024-03-02", "h2 r1", ""),
        ("Patient/p1/$everything?_type=Observation,Flag&end=2024-03-01", "f1 h1 r1", ""),
        ("Patient/p1/$everything?_since=2999", "", ""),
        ("Patient/$everything?_type=Flag,Patient", "f1 f2 p1 p2 p3", ""),
    ],
)
async def test_everything_of_a_patient(find: Find, query: str, matches: str, included: str) -> None:
    assert sorted(await find(query)) == matches.split()
    assert sorted(await find(query, "include")) == included.split()


async def test_everything_comes_in_pages(http: httpx.AsyncClient) -> None:
    seen: list[str] = []
    url = "Patient/p1/$everything?_count=2&start=2024-01-01"
    while url:
        bundle: dict[str, Any] = (await http.get(url)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"] if entry["search"]["mode"] == "match"]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")

    assert sorted(seen) == ["e1", "f1", "h1", "h2", "k1", "p1", "r1"]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
async def test_what_supports_a_record_comes_once_over_all_pages(http: httpx.AsyncClient, count: int) -> None:
    seen: list[str] = []
    url = f"Patient/p1/$everything?_count={count}"
    while url:
        bundle: dict[str, Any] = (await http.get(url)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"] if entry["search"]["mode"] == "include"]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")

    assert sorted(seen) == ["d1", "doc", "house", "ward"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("Patient/nobody/$everything", 404),
        ("Patient/p1/$everything?start=never", 400),
        ("Patient/p1/$everything?start=ge2024", 400),
        ("Patient/p1/$everything?colour=red", 400),
        ("Observation/$lastn", 400),
        ("Observation/$lastn?patient=p1&max=0", 400),
        ("Observation/$lastn?patient=p1&max=many", 400),
        ("Observation/$lastn?patient:missing=true", 400),
    ],
)
async def test_operations_that_make_no_sense_are_refused(http: httpx.AsyncClient, query: str, status: int) -> None:
    assert (await http.get(query, headers={"prefer": "handling=strict"})).status_code == status


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("patient=p1", "h2 r1"),
        ("patient=Patient/p1&max=3", "h2 h1 r1"),
        ("subject=Patient/p1&code=http://loinc.org|8867-4", "h2"),
        ("patient=p1&category=vital-signs", "h1"),
        ("patient=p1&max=5&date=lt2024-03-02", "h1"),
        ("patient=p1,p2", "h2 r1 h3"),
        ("patient=nobody", ""),
    ],
)
async def test_the_newest_of_each_code(find: Find, query: str, expected: str) -> None:
    assert await find(f"Observation/$lastn?{query}") == expected.split()


async def test_codes_that_share_a_coding_are_one(empty: httpx.AsyncClient) -> None:
    loinc, own = {"system": "http://loinc.org", "code": "8867-4"}, {"system": "urn:own", "code": "HR"}
    for place, codings in enumerate([[loinc], [loinc | {"display": "Heart rate"}], [loinc, own], [own]]):
        body = {
            "resourceType": "Observation",
            "id": f"o{place}",
            "status": "final",
            "code": {"coding": codings},
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": f"2024-01-0{place + 1}",
        }
        assert (await empty.put(f"Observation/o{place}", json=body)).status_code == 201

    bundle = (await empty.get("Observation/$lastn?patient=p&max=2")).json()

    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["o3", "o2"]


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ("?_has:Observation:patient:code=8867-4", "Observation.patient leads to Patient only"),
        ("?_type=Patient,Device&_has:Observation:patient:code=8867-4", "Observation.patient leads to Patient only"),
        ("?_has:Observation:device:code=8867-4", "Observation.device leads to Device, DeviceMetric only"),
        ("?_has:Observation:specimen:code=1", "leads to no type that this server holds only"),
        ("Device?_has:Observation:patient:code=1", "Observation.patient does not lead to Device"),
    ],
)
async def test_a_reverse_chain_that_leads_elsewhere_names_where_to(
    http: httpx.AsyncClient, query: str, right: str
) -> None:
    answer = await http.get(query)

    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["code"]) == (400, "not-supported")
    assert right in issue["details"]["text"]


async def test_a_reverse_chain_of_several_types_that_all_can_be_led_to(find: Find) -> None:
    assert await find("?_type=Patient&_has:Observation:patient:code=8867-4") == ["p1", "p2"]
    assert await find("?_type=Device,DeviceMetric&_has:Observation:device:code=8867-4") == ["d1"]


async def test_a_note_in_an_answer_is_an_entry_with_a_name(http: httpx.AsyncClient) -> None:
    bundle = (await http.get("Patient?colour=red", headers={"prefer": "handling=lenient"})).json()

    names = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len({*names}) == len(names) == 4
    assert bundle["entry"][-1]["search"] == {"mode": "outcome"}
    assert UUID(names[-1].removeprefix("urn:uuid:")).version == 5
