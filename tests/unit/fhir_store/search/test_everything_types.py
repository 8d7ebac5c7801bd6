"""`$everything` by types: a patient's devices, and what the record leans on, however little of it is asked for.

R4 lists the compartment; US Core, the g(10) tests and HAPI take a Device by its patient as part of the record.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
OWN = "http://fhir.test/fhir"


def to(name: str) -> Json:
    return {"reference": name}


def made(resource_type: str, name: str, /, **members: Any) -> Json:
    return {"resourceType": resource_type, "id": name} | members


def observed(name: str, who: str, **members: Any) -> Json:
    code = {"coding": [{"code": "8867-4"}]}
    return made("Observation", name, status="final", code=code, subject=to(f"Patient/{who}"), **members)


def use(name: str, who: str, device: str) -> Json:
    return made("DeviceUseStatement", name, status="active", subject=to(f"Patient/{who}"), device=to(device))


HELD = [
    made("Organization", "top", name="Top"),
    made("Organization", "house", name="House", partOf=to("Organization/top")),
    made("Practitioner", "doc"),
    made("Practitioner", "stranger"),
    made("PractitionerRole", "role", practitioner=to("Practitioner/doc"), organization=to("Organization/house")),
    made("Patient", "p1"),
    made("Patient", "p2"),
    made("Device", "implant", patient=to("Patient/p1")),
    made("Device", "absolute", patient=to(f"{OWN}/Patient/p1")),
    made("Device", "worn"),
    made("Device", "monitor"),
    made("Device", "hub"),
    made("Device", "other", patient=to("Patient/p2")),
    made("Device", "nobodys"),
    made(
        "DeviceMetric",
        "metric",
        type={"text": "x"},
        category="measurement",
        source=to("Device/hub"),
    ),
    use("u1", "p1", "Device/worn"),
    use("u2", "p2", "Device/other"),
    observed("o1", "p1", device=to(f"{OWN}/Device/monitor"), effectiveDateTime="2024-03-01"),
    observed("o2", "p1", device=to("DeviceMetric/metric"), effectiveDateTime="2024-03-05"),
    observed("o3", "p1", performer=[to("PractitionerRole/role")], effectiveDateTime="2024-03-05"),
    observed("q1", "p2", device=to("Device/other"), performer=[to("Practitioner/stranger")]),
]
DEVICES = "absolute hub implant monitor worn"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    store = FhirStore.open(tmp_path / "fhir", Clock(), FhirStoreSettings())
    opened = Site(store, tmp_path / "fhir")
    async with opened.http() as http:
        for each in HELD:
            response = await http.put(f"{each['resourceType']}/{each['id']}", json=each)
            assert response.status_code == 201, response.text
    yield opened
    store.close()


async def pages(http: httpx.AsyncClient, url: str) -> str:
    found = []
    while url:
        response = await http.get(url, headers={"prefer": "handling=strict"})
        assert response.status_code == 200, response.text
        found += [entry["resource"]["id"] for entry in response.json().get("entry", ())]
        url = next((link["url"] for link in response.json()["link"] if link["relation"] == "next"), "")
    return " ".join(sorted(found))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_type=Device", DEVICES),
        ("_type=Observation,Device", f"{DEVICES} o1 o2 o3"),
        ("_type=Device&_type=Patient", f"{DEVICES} p1"),
        ("_type=Practitioner", "doc"),
        ("_type=Organization", "house top"),
        ("_type=PractitionerRole,Organization", "house role top"),
        ("_type=DeviceMetric", "metric"),
        ("_type=DeviceUseStatement", "u1"),
        ("_type=Location", ""),
        ("_type=Subscription", ""),
        ("_type=Task,Binary,OperationOutcome", ""),
        ("_type=Device&start=2024-03-04", "absolute hub implant worn"),
        ("_type=Device&end=2024-03-02", "absolute implant monitor worn"),
        ("_type=Device&_since=2999", ""),
        ("", f"{DEVICES} doc house metric o1 o2 o3 p1 role top u1"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 100])
async def test_devices_and_what_the_record_leans_on_come_once(
    site: Site, query: str, expected: str, count: int
) -> None:
    async with site.http() as http:
        found = await pages(http, f"Patient/p1/$everything?_count={count}&{query}")

    assert found.split() == sorted(expected.split())


async def test_all_patients_at_once_have_all_their_devices(site: Site) -> None:
    async with site.http() as http:
        assert (
            await pages(http, "Patient/$everything?_type=Device&_count=2") == "absolute hub implant monitor other worn"
        )
        assert "other" in (await pages(http, "Patient/$everything")).split()


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
@pytest.mark.parametrize("path", ["Patient/p1/$everything", "Patient/$everything", "Patient/p1/*", "Device/worn/*"])
async def test_no_type_is_a_fault_of_the_server(site: Site, path: str, resource_type: str) -> None:
    entry = {"request": {"method": "GET", "url": f"{path}?_type={resource_type}"}}
    async with site.http() as http:
        alone = await http.get(f"{path}?_type={resource_type}&_total=accurate")
        batch = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})

    assert alone.status_code == 200
    assert batch.json()["entry"][0]["response"]["status"] == "200"
    assert alone.json()["total"] == len(alone.json().get("entry", ()))


async def test_only_what_the_caller_may_see_leads_on(site: Site) -> None:
    bound = site.token("patient/*.rs", patient="p1", name="bound")
    people = ("patient/Patient.rs", "user/Practitioner.rs", "user/PractitionerRole.rs")
    blind = site.token(*people, patient="p1", name="blind")
    seeing = site.token(*people, "patient/Observation.rs", patient="p1", name="seeing")

    for token, query, expected in (
        (bound, "_type=Device,Observation", "o1 o2 o3"),
        (blind, "_type=Practitioner", ""),
        (seeing, "_type=Practitioner", "doc"),
    ):
        async with site.http(token) as http:
            assert await pages(http, f"Patient/p1/$everything?{query}") == expected
