"""References by the server's own base URL, or with a version, lead where relative ones do."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
BASE = "http://fhir.test/fhir"
AWAY = "http://away.test/fhir"
FORMS = {
    "relative": "{}",
    "versioned": "{}/_history/1",
    "absolute": BASE + "/{}",
    "both": BASE + "/{}/_history/1",
}


def ward(form: str) -> list[Json]:
    def to(name: str) -> Json:
        return {"reference": form.format(name)}

    heart = {"status": "final", "code": {"coding": [{"code": "8867-4"}]}}
    return [
        {"resourceType": "Organization", "id": "house", "name": "House"},
        {"resourceType": "Organization", "id": "ward", "name": "Ward", "partOf": to("Organization/house")},
        {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Ash"}]},
        {
            "resourceType": "Patient",
            "id": "p1",
            "name": [{"family": "Eva"}],
            "managingOrganization": to("Organization/ward"),
        },
        {"resourceType": "Device", "id": "d1", "patient": to("Patient/p1")},
        {"resourceType": "Observation", "id": "o1", "subject": to("Patient/p1"), "device": to("Device/d1")} | heart,
        {
            "resourceType": "Observation",
            "id": "o2",
            "performer": [to("Practitioner/doc")],
            "hasMember": [to("Observation/o1")],
        }
        | heart,
        {"resourceType": "Observation", "id": "o3", "subject": {"reference": f"{AWAY}/Patient/p1"}} | heart,
        {
            "resourceType": "Flag",
            "id": "f1",
            "status": "active",
            "code": {},
            "subject": to("Patient/p1"),
            "author": to("Device/d1"),
        },
        {
            "resourceType": "Flag",
            "id": "f3",
            "status": "active",
            "code": {},
            "subject": {"reference": f"{AWAY}/Patient/p1"},
        },
    ]


async def put_all(http: httpx.AsyncClient, resources: list[Json]) -> None:
    for each in resources:
        body = {name: value for name, value in each.items() if value != {}}
        body |= {"code": {"text": "x"}} if each["resourceType"] == "Flag" else {}
        assert (await http.put(f"{each['resourceType']}/{each['id']}", json=body)).status_code == 201


SEARCHES = [
    ("Observation?subject=Patient/p1", "o1"),
    ("Observation?subject=p1", "o1"),
    ("Observation?patient=p1", "o1"),
    (f"Observation?subject={BASE}/Patient/p1", "o1"),
    (f"Observation?subject={AWAY}/Patient/p1", "o3"),
    ("Observation?performer=doc", "o2"),
    ("Flag?author=d1", "f1"),
    ("Flag?author:Device=d1", "f1"),
    ("Flag?patient:missing=false", "f1"),
    ("Observation?patient:missing=false", "o1"),
    ("Observation?patient.name=eva", "o1"),
    ("Observation?subject:Patient.organization.partof.name=house", "o1"),
    ("Observation?performer:Practitioner.family=ash", "o2"),
    ("Observation?has-member.device.patient.name=eva", "o2"),
    ("Flag?author:Device.patient.name=eva", "f1"),
    ("Patient?_has:Observation:patient:code=8867-4", "p1"),
    ("Patient?_has:Flag:patient:status=active", "p1"),
    ("Device?_has:Flag:author:status=active", "d1"),
    ("Organization?_has:Patient:organization:_has:Observation:subject:code=8867-4", "ward"),
    ("Patient/p1/Observation", "o1"),
    ("Patient/p1/Flag", "f1"),
    ("Device/d1/Observation", "o1"),
    ("Observation?_id=o1&_include=Observation:patient&_include:iterate=Patient:organization", "o1 p1 ward"),
    ("Observation?_id=o2&_include=Observation:has-member", "o1 o2"),
    ("Patient?_revinclude=Observation:patient&_revinclude=Flag:subject", "f1 o1 p1"),
    ("Device?_revinclude=Observation:device", "d1 o1"),
    ("Patient/p1/$everything", "d1 f1 house o1 p1 ward"),
]


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_a_reference_leads_to_the_same(empty: httpx.AsyncClient, form: str) -> None:
    await put_all(empty, ward(FORMS[form]))

    for query, expected in SEARCHES:
        bundle = (await empty.get(query)).json()
        found = sorted(entry["resource"]["id"] for entry in bundle.get("entry", ()))
        assert (query, found) == (query, expected.split())


async def test_forms_beside_each_other_are_all_found(empty: httpx.AsyncClient) -> None:
    await put_all(empty, ward(FORMS["relative"]))
    again = [
        each | {"id": f"{each['id']}x"}
        for each in ward(FORMS["absolute"])
        if each["resourceType"] in {"Observation", "Flag"}
    ]
    await put_all(empty, again)

    for query, expected in (
        ("Observation?patient.name=eva", "o1 o1x"),
        ("Flag?author=Device/d1", "f1 f1x"),
        ("Patient?_has:Flag:patient:_id=f1x", "p1"),
        ("Patient?_has:Flag:patient:_id=f1", "p1"),
        ("Patient/p1/Observation", "o1 o1x"),
    ):
        bundle = (await empty.get(query)).json()
        assert sorted(entry["resource"]["id"] for entry in bundle["entry"]) == expected.split()


async def test_a_caller_bound_to_a_patient_names_no_base_that_makes_others_its_own(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path / "fhir", Clock(), FhirStoreSettings(trusted_proxies=("127.0.0.1",)))
    site = Site(store, tmp_path / "fhir")
    async with site.http() as http:
        await put_all(http, ward(FORMS["relative"]))
    token = site.token("patient/*.rs", patient="p1")

    async with site.http(token) as http:
        away = {"x-forwarded-host": "away.test"}
        for query in ("Observation?code=8867-4", "Flag?status=active", "Patient/p1/Flag", "Patient/p1/$everything"):
            bundle = (await http.get(query, headers=away)).json()
            assert not {"o3", "f3"} & {entry["resource"]["id"] for entry in bundle["entry"]}
    store.close()
