"""Exports of Patients and Groups: Groups in Groups, devices, what records lean on, and what is said to be missing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from export_site import begin, client, exported, lines, manifest, names
from fhir_site import Site, observation, patient

Json = dict[str, Any]


def group(name: str, *members: str, **more: Any) -> Json:
    listed = [{"entity": {"reference": each}} for each in members]
    return {"resourceType": "Group", "id": name, "type": "person", "actual": True, "member": listed} | more


def device(name: str, who: str | None = None) -> Json:
    held = {"resourceType": "Device", "id": name}
    return held | ({"patient": {"reference": f"Patient/{who}"}} if who else {})


async def faults(http: Any, made: Json) -> list[str]:
    found = []
    for file in made["error"]:
        assert file["type"] == "OperationOutcome"
        answer = await http.get(file["url"], headers={"accept": "application/fhir+ndjson"})
        outcomes = [msgspec.json.decode(line) for line in answer.content.splitlines()]
        assert len(outcomes) == file["count"]
        found += [issue["details"]["text"] for each in outcomes for issue in each["issue"]]
    return found


@pytest.fixture
async def house(site: Site) -> Site:
    worn = {"reference": "Device/worn"}
    inactive = {"entity": {"reference": "Group/deeper"}, "inactive": True}
    over = {"entity": {"reference": "Group/inner"}, "period": {"end": "2020"}}
    await site.fill(
        *(patient(f"p{number}") for number in range(1, 6)),
        device("implant", "p1"),
        device("other", "p5"),
        device("worn"),
        device("spare"),
        observation("o2", "p2", device=worn, performer=[{"reference": "Practitioner/doc"}]),
        {"resourceType": "Practitioner", "id": "doc"},
        {"resourceType": "Practitioner", "id": "stranger"},
        group("inner", "Patient/p2", "Group/outer"),
        group("outer", "Patient/p1", "Group/inner", "Group/away", "Group/deep"),
        group("deep", "Group/deeper", "Patient/p1"),
        group("deeper", "Patient/p3", "Group/deep"),
        group("past", member=[inactive, over, {"entity": {"reference": "Patient/p4"}}]),
    )
    return site


async def test_groups_in_groups_are_followed_round_and_round(house: Site) -> None:
    async with client(house) as http:
        made = await manifest(http, await begin(http, "Group/outer/$export", _type="Patient"))
        found = names(await lines(http, made))
        said = await faults(http, made)
        past = await exported(http, "Group/past/$export", _type="Patient")

    assert found == {"Patient/p1", "Patient/p2", "Patient/p3"}
    assert [text for text in said if "Group/away" in text] == said
    assert len(said) == 1
    assert past == {"Patient/p4"}


@pytest.mark.parametrize(
    ("path", "types", "expected"),
    [
        ("Patient/$export", "Device", "Device/implant Device/other Device/worn"),
        ("Group/outer/$export", "Device", "Device/implant Device/worn"),
        ("Group/deeper/$export", "Device", "Device/implant"),
        ("Group/past/$export", "Device", ""),
        ("Group/outer/$export", "Practitioner,Device", "Device/implant Device/worn Practitioner/doc"),
        ("Patient/$export", "Practitioner", "Practitioner/doc"),
        ("Patient/$export", "Organization", ""),
    ],
)
async def test_a_record_is_exported_with_its_devices_and_what_it_leans_on(
    house: Site, path: str, types: str, expected: str
) -> None:
    async with client(house) as http:
        assert await exported(http, path, _type=types) == set(expected.split())


async def test_devices_of_patients_come_without_being_named(house: Site) -> None:
    async with client(house) as http:
        found = await exported(http, "Patient/$export")

    assert {each for each in found if each.startswith("Device/")} == {"Device/implant", "Device/other"}


@pytest.mark.parametrize("path", ["Patient/$export", "Group/outer/$export"])
async def test_a_type_that_no_record_has_is_said_to_be_missing(house: Site, path: str) -> None:
    async with client(house) as http:
        made = await manifest(http, await begin(http, path, _type="Subscription,Patient,Task"))
        said = await faults(http, made)

    assert {file["type"] for file in made["output"]} == {"Patient"}
    assert [text.partition(" ")[0] for text in said if "Group/away" not in text] == ["Subscription", "Task"]


async def test_a_device_deleted_since_is_told_by_the_patient_it_was_of(house: Site) -> None:
    async with client(house) as http:
        assert (await http.delete("Device/implant")).status_code == 204
        await http.delete("Device/spare")
        place = await begin(http, "Group/outer/$export", _type="Device", _since="2020-01-01T00:00:00Z")
        made = await manifest(http, place)
        (file,) = made["deleted"]
        told = (await http.get(file["url"])).text

    assert "Device/implant" in told
    assert "Device/spare" not in told
