"""What an export can be told to hold: filters, elements, patients, deletions; and whose rights count when."""

from __future__ import annotations

import msgspec
import pytest

from export_site import ASYNC, GROUP, Json, begin, client, exported, lines, manifest, names
from fhir_site import Site, flag, observation
from pulseweir.fhir_store.export.answers import _owner
from pulseweir.fhir_store.security.access import Access, reset_access, set_access
from pulseweir.fhir_store.security.caller import ANYBODY, Caller
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, read_clients


async def test_filters_leave_what_matches_any_of_them(ward: Site) -> None:
    lab = observation("lab", "p1", "laboratory")
    await ward.fill(lab, observation("amended", "p2", status="amended"))
    categories = "Observation?category=laboratory,Observation?subject=Patient/p2&status=final,Observation?_id=o2,lab"
    async with client(ward) as http:
        found = await exported(http, _type="Observation,Flag", _typeFilter=categories)
        chained = await exported(http, _type="Observation", _typeFilter="Observation?subject:Patient.name=Canary-p2")
        several = {"_type": "Observation", "_typeFilter": "Observation?code=8867-4,9279-1&status=final"}
        both = await exported(http, "Patient/$export", **several)
        group = await exported(http, "Group/g1/$export", **several)

    assert found == {"Observation/lab", "Observation/o2", "Flag/f1"}
    assert chained == {"Observation/o2", "Observation/amended"}
    assert both == {"Observation/o1", "Observation/o2", "Observation/shared", "Observation/lab"}
    assert group == {"Observation/o1", "Observation/shared", "Observation/lab"}


async def test_elements_leave_a_part_that_says_so(ward: Site) -> None:
    async with client(ward) as http:
        asked = {"_type": "Observation,Patient", "_elements": "subject,Patient.birthDate,Observation.method"}
        found = {each["id"]: each for each in await lines(http, await manifest(http, await begin(http, **asked)))}

    assert set(found["o1"]) == {"resourceType", "id", "meta", "status", "code", "subject"}
    assert set(found["p1"]) == {"resourceType", "id", "meta"}
    assert found["o1"]["meta"]["tag"][0]["code"] == "SUBSETTED"


def of_patients(*names: str) -> Json:
    parts = [{"name": "patient", "valueReference": {"reference": f"Patient/{name}"}} for name in names]
    types = {"name": "_type", "valueString": "Observation,Patient"}
    return {"resourceType": "Parameters", "parameter": [*parts, types]}


async def test_an_export_can_name_its_patients(ward: Site) -> None:
    async with client(ward) as http:
        answer = await http.post("Patient/$export", json=of_patients("p2"), headers=ASYNC)
        alone = names(await lines(http, await manifest(http, answer.headers["content-location"])))
        answer = await http.post("Group/g1/$export", json=of_patients("p3"), headers=ASYNC)
        member = names(await lines(http, await manifest(http, answer.headers["content-location"])))
        refused = [
            await http.post("Patient/$export", json=of_patients("p1", "none"), headers=ASYNC),
            await http.post("Group/g1/$export", json=of_patients("p2"), headers=ASYNC),
            await http.post("Patient/$export", json=of_patients("../p1"), headers=ASYNC),
            await http.post("$export", json=of_patients("p1"), headers=ASYNC),
        ]

    assert alone == {"Patient/p2", "Observation/o2"}
    assert member == {"Patient/p3", "Observation/shared"}
    assert [answer.status_code for answer in refused] == [400] * 4


async def test_what_was_deleted_since_is_told_apart(ward: Site) -> None:
    async with client(ward) as http:
        since = (await manifest(http, await begin(http)))["transactionTime"]
        for gone in ("Observation/o1", "Observation/o2", "Practitioner/d1", "Flag/f1"):
            await http.delete(gone)
        await ward.fill(flag("f1", "p3"))

        async def told(path: str, **query: str) -> set[str]:
            made = await manifest(http, await begin(http, path, _since=since, **query))
            files = made.get("deleted", [])
            bundles = [msgspec.json.decode((await http.get(file["url"])).content) for file in files]
            assert all((each["resourceType"], each["type"]) == ("Bundle", "transaction") for each in bundles)
            requests = [entry["request"] for bundle in bundles for entry in bundle["entry"]]
            assert {each["method"] for each in requests} <= {"DELETE"}
            shown = names([each for file in made["output"] for each in (await lines(http, {"output": [file]}))])
            assert shown.isdisjoint(each["url"] for each in requests)
            return {each["url"] for each in requests}

        assert await told("$export") == {"Observation/o1", "Observation/o2", "Practitioner/d1"}
        assert await told("$export", _type="Observation") == {"Observation/o1", "Observation/o2"}
        assert await told("Patient/$export") == {"Observation/o1", "Observation/o2"}
        assert await told("Group/g1/$export") == {"Observation/o1"}
        everything = await manifest(http, await begin(http))

    assert "deleted" not in everything


async def test_a_group_that_is_gone_has_no_export(ward: Site) -> None:
    async with client(ward) as http:
        await http.delete("Group/g1")
        answers = [await http.get(f"Group/{name}/$export", headers=ASYNC) for name in ("g1", "none")]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_members_are_those_of_now(ward: Site) -> None:
    members = [
        {"entity": {"reference": "Patient/p1"}, "period": {"end": "2020"}},
        {"entity": {"reference": "Patient/p2"}, "period": {"start": "2020", "end": "2999-01-01"}},
        {"entity": {"reference": "Patient/p3/_history/1"}},
    ]
    await ward.fill(GROUP | {"id": "g2", "member": members})
    async with client(ward) as http:
        assert await exported(http, "Group/g2/$export", _type="Patient") == {"Patient/p2", "Patient/p3"}


async def test_rights_are_asked_again_at_every_download(ward: Site) -> None:
    path = ward.directory / CLIENTS_NAME
    token = ward.token("system/Observation.rs", "system/Patient.rs", name="app")
    chain = "Observation?subject:Patient.birthdate=1950"
    async with ward.http(token) as http:
        place = await begin(http, _type="Observation", _typeFilter=chain)
        made = await manifest(http, place)
        plain = await begin(http, _type="Patient")
        files = [await manifest(http, plain)]
        urls = [place, plain, files[0]["output"][0]["url"]]
        assert [(await http.get(url)).status_code for url in urls] == [200] * 3
        for scopes, expected in (
            (["system/Observation.rs"], [403, 403, 403]),
            (["system/Observation.rs", "system/Patient.rs?active=true"], [403, 403, 403]),
            (["system/Patient.rs"], [403, 200, 200]),
            (["system/Observation.r", "system/Patient.rs"], [403, 200, 200]),
        ):
            entries = [msgspec.structs.replace(each, scopes=tuple(scopes)) for each in read_clients(path)]
            path.with_suffix(".changed").write_bytes(msgspec.json.encode(entries))
            path.with_suffix(".changed").rename(path)
            assert [(await http.get(url)).status_code for url in urls] == expected
        assert (await http.delete(place)).status_code == 202
    assert made["output"] == []


async def test_a_filter_is_no_way_to_ask_about_other_types(ward: Site) -> None:
    token = ward.token("system/Observation.rs", name="app")
    for chain in ("Observation?subject:Patient.birthdate=1950", "Observation?_has:Provenance:target:agent=x"):
        async with ward.http(token) as http:
            body = {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "_type", "valueString": "Observation"},
                    {"name": "_typeFilter", "valueString": chain},
                ],
            }
            answers = [
                await http.get("$export", params={"_type": "Observation", "_typeFilter": chain}, headers=ASYNC),
                await http.post("$export", json=body, headers=ASYNC),
            ]
        assert [answer.status_code for answer in answers] == [403, 403]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Caller("app"), Caller("app", origin="https://sign-in.example")),
        (Caller("app", user="b c"), Caller("app b", user="c")),
        (Caller("anybody"), ANYBODY),
    ],
)
def test_clients_that_are_called_alike_are_not_taken_for_each_other(one: Caller, other: Caller) -> None:
    owners = []
    for caller in (one, other):
        before = set_access(Access(caller))
        owners.append(_owner())
        reset_access(before)

    assert owners[0] != owners[1]
