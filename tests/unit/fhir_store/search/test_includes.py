"""Resources beside the matches: ``_include``, ``_revinclude``, once or again and again."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from pulseweir.fhir_store import including

Find = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?_id=h1&_include=Observation:subject", "p1"),
        ("Observation?_id=h1,h2,r1&_include=Observation:subject", "p1"),
        ("Observation?_id=h1&_include=Observation:subject:Patient", "p1"),
        ("Observation?_id=h1&_include=Observation:subject:Group", ""),
        ("Observation?_id=h1&_include=Observation:*", "d1 e1 p1"),
        ("Observation?_id=h1&_include=*", "d1 e1 p1"),
        ("Observation?_id=h1&_include=Patient:organization", ""),
        ("Observation?_id=h1&_include=Observation:patient&_include=Patient:organization", "p1"),
        ("Observation?_id=h1&_include=Observation:patient&_include:iterate=Patient:organization", "p1 ward"),
        (
            "Observation?_id=h1&_include=Observation:patient&_include:iterate=Patient:organization"
            "&_include:iterate=Organization:partof",
            "house p1 ward",
        ),
        ("Observation?_id=h2&_include:iterate=Observation:has-member", "h1"),
        ("Flag?_id=f1&_include=Flag:author", "d1"),
        ("Observation?_id=x1&_include=Observation:subject", ""),
        ("Patient?_id=p2&_revinclude=Observation:subject", "h3"),
        ("Patient?_id=p1&_revinclude=Flag:patient&_revinclude=RiskAssessment:subject", "f1 k1"),
        ("Patient?_id=p1&_revinclude=Encounter:patient&_revinclude:iterate=Observation:encounter", "e1 h1"),
        ("Patient?_id=p2&_revinclude=*", "f2 h3"),
        (
            "Organization?_id=house&_revinclude:iterate=Organization:partof&_revinclude:iterate=Patient:organization",
            "p1 ward",
        ),
    ],
)
async def test_what_is_included(find: Find, query: str, expected: str) -> None:
    assert sorted(await find(query, "include")) == expected.split()


async def test_a_match_is_not_included_again(find: Find) -> None:
    query = "Observation?_id=h1,h2&_include=Observation:has-member"

    assert (await find(query), await find(query, "include")) == (["h1", "h2"], [])


async def test_too_many_are_cut_and_said_so(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(including, "INCLUDED_LIMIT", 2)

    entries = (await http.get("Patient?_id=p1&_revinclude=Observation:subject")).json()["entry"]

    assert [entry["search"]["mode"] for entry in entries] == ["match", "include", "include", "outcome"]
    assert entries[-1]["resource"]["issue"][0]["code"] == "incomplete"


@pytest.mark.parametrize(
    "text", ["Observation", "Observation:code", "Ship:subject", "Observation:subject:Ship", ":", "a:b:c:d"]
)
async def test_what_is_no_reference_cannot_be_included(http: httpx.AsyncClient, text: str) -> None:
    assert (await http.get("Observation", params={"_include": text})).status_code == 400


async def test_the_version_that_a_reference_names_is_included(empty: httpx.AsyncClient) -> None:
    for family in ("Ash", "Beech", "Cedar"):
        body = {"resourceType": "Patient", "id": "p", "name": [{"family": family}]}
        await empty.put("Patient/p", json=body)
    for name, ending in (
        ("a", ""),
        ("b", "/_history/2"),
        ("c", "/_history/3"),
        ("d", "/_history/9"),
        ("e", "/_history/x"),
    ):
        flag = {"resourceType": "Flag", "id": name, "status": "active", "code": {"text": name}}
        response = await empty.put(f"Flag/{name}", json=flag | {"subject": {"reference": f"Patient/p{ending}"}})
        assert response.status_code == 201, response.text

    async def included(ids: str) -> list[str]:
        entries = (await empty.get(f"Flag?_id={ids}&_include=Flag:patient")).json()["entry"]
        found = [each["resource"] for each in entries if each["search"]["mode"] == "include"]
        return [each["name"][0]["family"] for each in found]

    assert [await included(each) for each in "abcde"] == [["Cedar"], ["Beech"], ["Cedar"], ["Cedar"], ["Cedar"]]
    assert sorted(await included("a,b,c")) == ["Beech", "Cedar"]
