"""A client of one patient, or of some resources of a type, sees and writes those and learns of no others."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_site import VITAL, Json, Site, flag, found, observation, patient
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, house_token, revoke_client

ALL = ("patient/*.cruds",)
WARD = {"resourceType": "Practitioner", "id": "dr", "name": [{"family": "Ward"}]}


@pytest.fixture
async def ward(site: Site) -> Site:
    lab = observation("lab1", "p1", "laboratory")
    await site.fill(patient("p1"), patient("p2"), WARD, observation("o1"), observation("o2", "p2"), lab)
    await site.fill(flag("f1"), flag("f2", "p2"))
    return site


async def statuses(http: httpx.AsyncClient, method: str, paths: list[str], **kwargs: Any) -> list[int]:
    return [(await http.request(method, path, **kwargs)).status_code for path in paths]


async def test_reads_reach_the_compartment_only(ward: Site) -> None:
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        own = await statuses(http, "GET", ["Patient/p1", "Observation/o1", "Flag/f1", "Observation/o1/_history"])
        others = ["Patient/p2", "Observation/o2", "Flag/f2", "Observation/o2/_history", "Observation/o2/_history/1"]
        foreign = await statuses(http, "GET", others)
        invented = await http.get("Observation/none")

        assert own == [200] * 4
        assert foreign == [404] * 5
        assert (await http.get("Practitioner/dr")).status_code == 403
        # What is held back and what is not there look the same.
        text = (await http.get("Observation/o2")).text
        assert text.replace("o2", "none") == invented.text


async def test_searches_find_and_count_the_compartment_only(ward: Site) -> None:
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        assert found(await http.get("Observation")) == ["Observation/o1", "Observation/lab1"]
        assert (await http.get("Observation?_summary=count")).json()["total"] == 2
        assert found(await http.get("Observation?subject=Patient/p2")) == []
        assert found(await http.get("Patient")) == ["Patient/p1"]
        assert found(await http.post("Flag/_search", data={"status": "active"})) == ["Flag/f1"]
        assert found(await http.post("Patient/p1/Flag/_search", data={"status": "active"})) == ["Flag/f1"]
        assert found(await http.post("Patient/p2/Flag/_search", data={"status": "active"})) == []
        assert found(await http.get("Observation?_id=o2")) == []
        with_flags = found(await http.get("Patient?_revinclude=Flag:subject&_revinclude=Observation:subject"))
        assert sorted(with_flags) == ["Flag/f1", "Observation/lab1", "Observation/o1", "Patient/p1"]


async def test_a_search_form_of_a_compartment_needs_the_rights_of_its_query(ward: Site) -> None:
    async with ward.http(ward.token("system/Patient.rs")) as http:
        assert (await http.get("Patient/p1/Flag")).status_code == 403
        assert (await http.post("Patient/p1/Flag/_search", data={"status": "active"})).status_code == 403


async def test_includes_bring_no_more_than_the_scopes(ward: Site) -> None:
    async with ward.http(ward.token("system/Observation.rs")) as http:
        assert "Patient/p1" not in found(await http.get("Observation?_include=Observation:subject"))
        assert found(await http.get("Observation?_id=o1&_revinclude=Flag:subject")) == ["Observation/o1"]
    async with ward.http(ward.token("system/Observation.rs", "system/Patient.r", name="both")) as http:
        assert "Patient/p1" in found(await http.get("Observation?_include=Observation:subject"))


async def test_paging_stays_inside(ward: Site) -> None:
    await ward.fill(*(observation(f"a{n}", "p2" if n % 2 else "p1") for n in range(8)))
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        seen: list[str] = []
        url: str | None = "Observation?_count=1"
        while url:
            page = await http.get(url)
            seen += found(page)
            url = next((link["url"] for link in page.json()["link"] if link["relation"] == "next"), None)

    assert len(seen) == 6
    assert not [each for each in seen if each in {"Observation/o2", "Observation/a1"}]


async def test_writes_stay_inside_and_tell_nothing(ward: Site) -> None:
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        new = {key: value for key, value in observation("x").items() if key != "id"}
        assert (await http.post("Observation", json=new)).status_code == 201
        foreign = new | {"subject": {"reference": "Patient/p2"}}
        assert (await http.post("Observation", json=foreign)).status_code == 403
        assert (await http.put("Observation/o1", json=observation("o1", status="amended"))).status_code == 200
        assert (await http.put("Observation/o1", json=observation("o1", "p2"))).status_code == 403
        # An id that is taken and one that is free answer alike.
        taken = await http.put("Observation/o2", json=observation("o2", "p1"))
        free = await http.put("Observation/free", json=observation("free", "p1"))
        assert (taken.status_code, taken.text.replace("o2", "free")) == (404, free.text)
        assert await statuses(http, "DELETE", ["Observation/o2", "Observation/none"]) == [204, 204]
        assert await statuses(http, "DELETE", ["Observation/lab1"]) == [204]
        stranger = patient("p1") | {"id": "p3"}
        assert (await http.post("Patient", json=patient("p1"))).status_code == 403
        assert (await http.put("Patient/p3", json=stranger)).status_code == 404
    async with ward.http(house_token(ward.directory)) as house:
        assert (await house.get("Observation/o2")).json()["subject"]["reference"] == "Patient/p2"


async def test_a_resource_that_changed_hands_shows_the_new_owner_its_own_versions_only(ward: Site) -> None:
    await ward.fill(observation("o2", "p1"))
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        assert (await http.get("Observation/o2/_history")).json()["total"] == 1
        assert (await http.get("Observation/o2/_history/1")).status_code == 404
        assert (await http.get("Observation/o2/_history/2")).status_code == 200


async def test_conditional_writes_match_inside_only(ward: Site) -> None:
    named: Json = {"identifier": [{"system": "urn:x", "value": "1"}]}
    await ward.fill(observation("o2", "p2", **named))
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        new = {key: value for key, value in observation("x", **named).items() if key != "id"}
        answer = await http.post("Observation", json=new, headers={"if-none-exist": "identifier=urn:x|1"})
        assert answer.status_code == 201
        again = await http.post("Observation", json=new, headers={"if-none-exist": "identifier=urn:x|1"})
        assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])


async def test_bundles_are_held_to_the_same(ward: Site) -> None:
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        entries = [
            {"request": {"method": "GET", "url": "Observation/o1"}},
            {"request": {"method": "GET", "url": "Observation/o2"}},
            {"request": {"method": "GET", "url": "Practitioner/dr"}},
            {"request": {"method": "GET", "url": "Observation?subject=Patient/p2"}},
            {"request": {"method": "PUT", "url": "Observation/o2"}, "resource": observation("o2")},
            {"request": {"method": "POST", "url": "Flag"}, "resource": flag("x", "p2")},
            {"request": {"method": "POST", "url": "Flag"}, "resource": flag("x", "p1")},
        ]
        answer = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
        got = [entry["response"]["status"][:3] for entry in answer.json()["entry"]]
        assert got == ["200", "404", "403", "200", "404", "403", "201"]
        assert answer.json()["entry"][3]["resource"].get("total") == 0

        own, foreign = entries[6], entries[5]
        refused = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [own, foreign]})
        assert refused.status_code == 403
        assert len(found(await http.get("Flag"))) == 2


async def test_a_conditional_reference_is_resolved_inside_only(ward: Site) -> None:
    named: Json = {"identifier": [{"system": "urn:x", "value": "2"}]}
    await ward.fill(patient("p2", **named))
    entry = {
        "request": {"method": "POST", "url": "Flag"},
        "resource": flag("x") | {"subject": {"reference": "Patient?identifier=urn:x|2"}},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        assert (await http.post("", json=bundle)).status_code == 412
    async with ward.http(ward.token("system/Flag.c", name="no-search")) as http:
        assert (await http.post("", json=bundle)).status_code == 403


async def test_a_restricted_scope_reaches_what_it_names(ward: Site) -> None:
    restricted = f"system/Observation.cruds?category={VITAL}|vital-signs"
    async with ward.http(ward.token(restricted)) as http:
        assert sorted(found(await http.get("Observation"))) == ["Observation/o1", "Observation/o2"]
        assert await statuses(http, "GET", ["Observation/o1", "Observation/lab1"]) == [200, 404]
        assert (await http.put("Observation/o1", json=observation("o1", category="laboratory"))).status_code == 403
        assert (await http.post("Observation", json=observation("x", category="laboratory"))).status_code == 403
        assert (await http.post("Observation", json=observation("x"))).status_code == 201
        assert await statuses(http, "DELETE", ["Observation/lab1"]) == [204]
    async with ward.http(house_token(ward.directory)) as house:
        assert (await house.get("Observation/lab1")).status_code == 200


async def test_scopes_of_two_restrictions_reach_both(ward: Site) -> None:
    await ward.fill(observation("o9", "p1", "exam"))
    scopes = ("system/Observation.rs?category=vital-signs", "system/Observation.rs?code=http://loinc.org|8867-4")
    async with ward.http(ward.token(scopes[0], "system/Observation.rs?category=exam")) as http:
        assert sorted(found(await http.get("Observation"))) == ["Observation/o1", "Observation/o2", "Observation/o9"]
    async with ward.http(ward.token(*scopes, name="both")) as http:
        assert len(found(await http.get("Observation"))) == 4


CATEGORIES = st.sampled_from(["vital-signs", "laboratory"])
CODES = st.sampled_from(["8867-4", "9279-1"])
RESTRICTIONS = st.sampled_from(
    ["", "?category=vital-signs", f"?category={VITAL}|laboratory", "?code=8867-4", "?code=http://loinc.org|9279-1"]
    + ["?category=laboratory&code=8867-4", "?status=final", "?status=amended", "?category=|vital-signs"]
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scopes=st.lists(RESTRICTIONS, min_size=1, max_size=3), bound=st.booleans(), data=st.data())
async def test_what_a_search_finds_is_what_can_be_read(
    ward: Site, scopes: list[str], bound: bool, data: st.DataObject
) -> None:
    for number in range(4):
        who = data.draw(st.sampled_from(["p1", "p2"]))
        members = data.draw(st.sampled_from([{}, {"performer": [{"reference": "Patient/p1"}]}]))
        await ward.fill(observation(f"r{number}", who, data.draw(CATEGORIES), data.draw(CODES), **members))
    revoke_client(ward.directory / CLIENTS_NAME, "app")
    token = ward.token(*(f"system/Observation.rs{each}" for each in scopes), patient="p1" if bound else None)
    async with ward.http(token) as http:
        searched = {each for each in found(await http.get("Observation")) if "/r" in each}
        read = {f"Observation/r{n}" for n in range(4) if (await http.get(f"Observation/r{n}")).status_code == 200}

    assert searched == read


async def test_operations_stay_inside(ward: Site) -> None:
    await ward.fill(observation("o3", "p2", performer=[{"reference": "Patient/p1"}]))
    async with ward.http(ward.token(*ALL, patient="p1")) as http:
        everything = found(await http.get("Patient/p1/$everything"))
        assert sorted(everything) == ["Flag/f1", "Observation/lab1", "Observation/o1", "Observation/o3", "Patient/p1"]
        assert (await http.get("Patient/p2/$everything")).status_code == 404
        # An Observation of another patient is within when the token's patient performed it.
        assert found(await http.get("Observation/$lastn?patient=p2&max=5")) == ["Observation/o3"]
        last = found(await http.get("Observation/$lastn?patient=p1&max=5"))
        assert sorted(last) == ["Observation/lab1", "Observation/o1"]
        several = found(await http.get("?_type=Observation,Flag&_id=o1,o2,f1,f2"))
        assert sorted(several) == ["Flag/f1", "Observation/o1"]
        assert found(await http.get("Patient/p2/Observation")) == ["Observation/o3"]
    async with ward.http(ward.token("system/Patient.rs", "system/Flag.rs", name="flags")) as http:
        assert sorted(found(await http.get("Patient/p1/$everything"))) == ["Flag/f1", "Patient/p1"]


async def test_who_reads_all_and_writes_some_is_told_so(ward: Site) -> None:
    async with ward.http(ward.token("system/Observation.rs", "system/Observation.ud?category=vital-signs")) as http:
        assert (await http.get("Observation/lab1")).status_code == 200
        assert (await http.put("Observation/lab1", json=observation("lab1"))).status_code == 403
        assert await statuses(http, "DELETE", ["Observation/lab1", "Observation/o1"]) == [403, 204]
        assert (await http.put("Observation/o2", json=observation("o2", status="amended"))).status_code == 200
