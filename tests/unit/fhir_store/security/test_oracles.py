"""What a bounded client must not find out by asking around: by chains, patches, pages of others, differing answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fhir_site import Json, Site, flag, found, observation, patient
from pulseweir.fhir_store.security.clients import house_token

NAMED: Json = {"identifier": [{"system": "urn:x", "value": "secret"}]}


@pytest.fixture
async def ward(site: Site) -> Site:
    await site.fill(
        patient("p1", birthDate="1950-01-01"), patient("p2", birthDate="1960-01-01", **NAMED), observation("o1")
    )
    await site.fill(observation("o2", "p2"), flag("f1"), flag("f2", "p2"))
    return site


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def parameters(**values: str) -> Json:
    parts = [{"name": name, "valueString": value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": parts}


async def alike(http: httpx.AsyncClient, method: str, held: str, free: str, **request: Any) -> None:
    """What is held back and what is not there get the same answer."""
    there, nowhere = await http.request(method, held, **request), await http.request(method, free, **request)
    assert there.status_code == nowhere.status_code
    held_id, free_id = held.split("/")[1], free.split("/")[1]
    assert there.text.replace(held_id, free_id) == nowhere.text
    assert {name for name in there.headers} == {name for name in nowhere.headers}


CHAIN = {"subject:Patient.birthdate": "1950-01-01"}


async def test_the_newest_of_each_code_is_no_way_to_ask_about_other_types(ward: Site) -> None:
    async with ward.http(ward.token("system/Observation.rs")) as http:
        assert found(await http.get("Observation/$lastn?patient=p1")) == ["Observation/o1"]
        asked = [
            await http.get("Observation/$lastn", params={"patient": "p1"} | CHAIN),
            await http.post("Observation/$lastn", json=parameters(patient="p1", **CHAIN)),
            await http.post(
                "Observation/$lastn", json=parameters(**{"patient": "p1", "_has:Flag:subject:status": "x"})
            ),
        ]
        inside = bundle("batch", {"request": {"method": "GET", "url": "Observation/$lastn?patient=p1&patient.name=x"}})
        entry = (await http.post("", json=inside)).json()["entry"][0]

    assert [answer.status_code for answer in asked] == [403] * 3
    assert entry["response"]["status"][:3] == "403"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "Flag"),
        ("PUT", "Flag?subject:Patient.birthdate=1950-01-01"),
        ("PATCH", "Flag?subject:Patient.birthdate=1950-01-01"),
        ("DELETE", "Flag?subject:Patient.birthdate=1950-01-01"),
        ("GET", "Flag?_has:Provenance:target:agent=x"),
        ("GET", "Flag?subject:Patient.birthdate=1950-01-01"),
    ],
)
async def test_conditions_are_no_way_to_ask_about_other_types(ward: Site, method: str, url: str) -> None:
    headers = {"if-none-exist": "subject:Patient.birthdate=1950-01-01"} if method == "POST" else {}
    body: Json = {"language": "en"} if method == "PATCH" else {key: flag("x")[key] for key in flag("x") if key != "id"}
    entry: Json = {"request": {"method": method, "url": url}}
    if method in {"POST", "PUT"}:
        entry["resource"] = body
    if headers:
        entry["request"]["ifNoneExist"] = headers["if-none-exist"]
    async with ward.http(ward.token("system/Flag.cruds")) as http:
        content = None if method in {"GET", "DELETE"} else body
        alone = await http.request(method, url, json=content, headers=headers)
        if method != "PATCH":
            assert (await http.post("", json=bundle("transaction", entry))).status_code == 403
            inside = (await http.post("", json=bundle("batch", entry))).json()["entry"][0]
            assert inside["response"]["status"][:3] == "403"

    assert alone.status_code == 403
    async with ward.http(house_token(ward.directory)) as house:
        assert len(found(await house.get("Flag"))) == 2


async def test_who_may_change_but_not_read_gets_nothing_back(ward: Site) -> None:
    async with ward.http(ward.token("system/Patient.u")) as http:
        merged = await http.patch("Patient/p1", json={"language": "en"})
        guess = [{"op": "test", "path": "/birthDate", "value": "1950-01-01"}]
        headers = {"content-type": "application/json-patch+json"}
        tested = [
            await http.patch("Patient/p1", json=[{**guess[0], "value": value}], headers=headers)
            for value in ("1950-01-01", "1951-01-01")
        ]
        binary = {
            "resourceType": "Binary",
            "contentType": "application/merge-patch+json",
            "data": "eyJsYW5ndWFnZSI6ImRlIn0=",
        }
        entry = {"request": {"method": "PATCH", "url": "Patient/p1"}, "resource": binary}
        asked = await http.post("", json=bundle("batch", entry), headers={"prefer": "return=representation"})

    assert (merged.status_code, merged.text) == (200, "")
    assert "etag" in merged.headers
    assert [answer.status_code for answer in tested] == [403, 403]
    assert asked.json()["entry"][0]["response"]["status"] == "200"
    assert "1950" not in asked.text


async def test_what_is_held_back_answers_like_what_is_not_there(ward: Site) -> None:
    async with ward.http(ward.token("patient/*.cruds", patient="p1")) as http:
        for method in ("GET", "DELETE"):
            await alike(http, method, "Observation/o2", "Observation/none")
        for path in ("", "/_history", "/_history/1", "/$validate"):
            await alike(http, "GET", f"Observation/o2{path}", f"Observation/none{path}")
        await alike(http, "GET", "Patient/p2/$everything", "Patient/none/$everything")
        await alike(http, "GET", "Patient/p2/Flag?_summary=count", "Patient/none/Flag?_summary=count")
        await alike(http, "PATCH", "Observation/o2", "Observation/none", json={"language": "en"})
        for header in ({"if-match": 'W/"1"'}, {"if-none-match": "*"}, {"if-none-match": 'W/"1"'}):
            for method in ("GET", "DELETE"):
                await alike(http, method, "Observation/o2", "Observation/none", headers=header)
        for name in ("o2", "none"):
            changed = observation(name) | {"status": "amended"}
            assert (await http.put(f"Observation/{name}", json=changed)).status_code == 404
            matched = await http.put("Observation?identifier=urn:x|none", json=observation(name))
            assert matched.status_code == 404


async def test_a_deleted_resource_of_another_looks_like_one_that_never_was(ward: Site) -> None:
    async with ward.http(house_token(ward.directory)) as house:
        await house.delete("Observation/o2")
    async with ward.http(ward.token("patient/*.cruds", patient="p1")) as http:
        await alike(http, "GET", "Observation/o2", "Observation/none")
        await alike(http, "GET", "Observation/o2/_history", "Observation/none/_history")


async def test_totals_and_pages_of_another_client_tell_nothing(ward: Site) -> None:
    await ward.fill(*(observation(f"a{number}", "p2") for number in range(6)))
    async with ward.http(ward.token("system/Observation.rs", name="all")) as http:
        page = (await http.get("Observation?_count=2&_sort=-date&_total=accurate")).json()
        following = next(link["url"] for link in page["link"] if link["relation"] == "next")
        versions = (await http.get("Observation/_history?_count=2")).json()
        older = next(link["url"] for link in versions["link"] if link["relation"] == "next")
    async with ward.http(ward.token("patient/*.rs", patient="p1", name="bound")) as http:
        taken = await http.get(following)
        assert [each for each in found(taken) if each != "Observation/o1"] == []
        assert taken.json().get("total", 1) == 1
        assert (await http.get("Observation?_total=accurate&subject=Patient/p2")).json()["total"] == 0
        assert (await http.get("Observation?_summary=count&_id=o2")).json()["total"] == 0
        assert (await http.get(older)).status_code == 403
        assert found(await http.get("Observation?_sort=-_id,code&_count=1")) == ["Observation/o1"]


async def test_a_bound_client_learns_of_no_other_patients_from_the_audit(ward: Site) -> None:
    async with ward.http(ward.token("system/*.cruds", name="dashboard")) as http:
        await http.get("Observation?status=final")
    await ward.settle()
    async with ward.http(ward.token("patient/*.cruds", "user/*.cruds", patient="p1", name="bound")) as http:
        assert (await http.get("AuditEvent")).status_code == 403
        assert (await http.get("AuditEvent/audit-1")).status_code == 403
        everything = found(await http.get("Patient/p1/$everything"))
        included = found(await http.get("Patient?_revinclude=AuditEvent:patient&_revinclude=AuditEvent:entity"))

    assert [each for each in everything + included if "Audit" in each] == []


@pytest.mark.parametrize(
    "path",
    ["Group/$export-status/$export", "$export-status/$export", "Observation/$lastn/$validate", "$lastn/$everything"],
)
async def test_two_operations_in_a_path_give_the_rights_of_neither(ward: Site, path: str) -> None:
    async with ward.http(ward.token("system/Observation.rs")) as http:
        answers = [await http.get(path), await http.post(path, json=parameters())]

    # Those of an export are asked for once it is known which types it is about; no id begins with `$`.
    assert {answer.status_code for answer in answers} <= ({400, 403, 404} if path.endswith("$export") else {403})


async def test_a_transaction_tells_no_more_than_its_entries_would(ward: Site) -> None:
    def searching(condition: str) -> Json:
        resource = flag("x") | {"subject": {"reference": f"Patient?{condition}"}}
        return bundle("transaction", {"request": {"method": "POST", "url": "Flag"}, "resource": resource})

    async with ward.http(ward.token("patient/*.cruds", patient="p1")) as http:
        there = await http.post("", json=searching("identifier=urn:x|secret"))
        nowhere = await http.post("", json=searching("identifier=urn:x|nobody"))
        assert (there.status_code, there.text) == (nowhere.status_code, nowhere.text)
        for name in ("p2", "none"):
            moved = bundle("transaction", {"request": {"method": "DELETE", "url": f"Patient/{name}"}})
            assert (await http.post("", json=moved)).status_code == 200
    async with ward.http(house_token(ward.directory)) as house:
        assert (await house.get("Patient/p2")).status_code == 200


@pytest.mark.parametrize("strict", [True, False])
async def test_references_are_no_way_to_ask_what_is_there(make_site: Any, strict: bool) -> None:
    site: Site = make_site(validation="strict" if strict else "structure")
    await site.fill(patient("p1"), patient("p2"))
    async with site.http(site.token("patient/*.cruds", patient="p1")) as http:
        answers = [
            await http.post("Flag", json={**flag("x"), "author": {"reference": f"Practitioner/{name}"}})
            for name in ("dr", "none")
        ]
        performers = [
            await http.post("Observation", json={**observation("x"), "performer": [{"reference": f"Patient/{name}"}]})
            for name in ("p2", "none")
        ]

    for one, other in (answers, performers):
        assert one.status_code == other.status_code == (422 if strict else 201)
