"""Searches that lead through other resources: chains and ``_has``."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

Find = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?subject:Patient.name=müller", "h1 h2 r1"),
        ("Observation?patient.name=müller&code=8867-4", "h1 h2"),
        ("Observation?subject.name=smith", "h3"),
        ("Observation?subject.identifier=urn:mrn|1", "h1 h2 r1"),
        ("Observation?patient.birthdate=lt1975", "h1 h2 r1"),
        ("Observation?patient.gender:not=female", "h3"),
        ("Observation?patient._id=p2", "h3"),
        ("Observation?patient.organization.partof.name=general", "h1 h2 r1"),
        ("Observation?patient.general-practitioner:Practitioner.family=weiss", "h1 h2 r1"),
        ("Observation?device.patient.name=eva", "h1"),
        ("Observation?encounter.status=in-progress", "h1"),
        ("Observation?has-member:Observation.code=8867-4", "h2"),
        ("Observation?has-member:Observation.subject:Patient.name=smith", ""),
        ("RiskAssessment?subject:Patient.name=eva", "k1"),
        ("Flag?patient.name=nobody", ""),
        ("Flag?patient.active:missing=true", "f2"),
        ("Patient?_has:Observation:patient:code=8867-4", "p1 p2"),
        ("Patient?_has:Observation:patient:status=amended", ""),
        ("Patient?_has:Observation:subject:performer:Practitioner.family=weiss", "p1"),
        ("Patient?_has:Flag:patient:status=active", "p1"),
        ("Patient?_has:Flag:patient:status=active&_has:Observation:patient:code=9279-1", "p1"),
        ("Patient?_has:Encounter:patient:_has:Observation:encounter:code=8867-4", "p1"),
        ("Patient?_has:Encounter:patient:_has:Flag:encounter:status=inactive", ""),
        ("Observation?_has:Observation:has-member:date=2024-03-02", "h1"),
        ("Practitioner?_has:Patient:general-practitioner:_id=p1", "doc"),
        ("Observation?patient._has:Flag:patient:status=inactive", "h3"),
        ("Device?_has:Observation:device:patient.name=eva", "d1"),
        ("Patient?_has:RiskAssessment:patient:probability=gt0.2,lt0.1", "p1"),
    ],
)
async def test_a_chain_finds(find: Find, query: str, expected: str) -> None:
    assert sorted(await find(query)) == expected.split()


@pytest.mark.parametrize(
    "query",
    [
        "Observation?code.name=x",
        "Observation?subject:Organization.name=x",
        "Patient?_has:Observation:code:status=final",
        "Patient?_has:Observation:device:status=final",
        "Patient?_has:Ship:patient:status=final",
        "Patient?_has:Observation:patient=1",
        "Observation?patient.link.link.link.link.name=x",
    ],
)
async def test_a_chain_that_leads_nowhere_is_refused(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(query)

    assert response.status_code == 400
    assert response.json()["issue"][0]["code"] in {"not-supported", "too-costly"}


async def test_an_unknown_parameter_at_the_end_of_a_chain_is_unknown(http: httpx.AsyncClient) -> None:
    strict = await http.get("Observation?subject.colour=red", headers={"prefer": "handling=strict"})
    lenient = await http.get("Observation?subject.colour=red")

    assert strict.status_code == 400
    assert lenient.json()["entry"][-1]["search"]["mode"] == "outcome"


async def test_a_deleted_resource_ends_a_chain(empty: httpx.AsyncClient) -> None:
    await empty.put("Patient/p", json={"resourceType": "Patient", "id": "p", "name": [{"family": "Gone"}]})
    flag = {"resourceType": "Flag", "id": "f", "status": "active", "code": {"text": "x"}}
    await empty.put("Flag/f", json=flag | {"subject": {"reference": "Patient/p"}})
    before = (await empty.get("Flag?patient.name=gone")).json()["total"]
    await empty.delete("Patient/p")

    assert (before, (await empty.get("Flag?patient.name=gone")).json()["total"]) == (1, 0)
