"""`$everything` for whoever may see only some of it, and by its times, types and pages.

Source: http://hl7.org/fhir/R4/patient-operation-everything.html.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]


def to(name: str) -> Json:
    return {"reference": name}


def record(patient: str) -> list[Json]:
    """A patient's stay, findings and what they lead to."""
    stay = {"status": "finished", "class": {"code": "IMP"}, "subject": to(f"Patient/{patient}")}
    heart = {"status": "final", "code": {"coding": [{"code": "8867-4"}]}, "subject": to(f"Patient/{patient}")}
    period = {"start": "2024-03-01", "end": "2024-03-03"}
    return [
        {"resourceType": "Patient", "id": patient, "managingOrganization": to("Organization/house")},
        {
            "resourceType": "Encounter",
            "id": f"{patient}e",
            "period": period,
            "serviceProvider": to("Organization/house"),
        }
        | stay,
        *(
            {"resourceType": "Observation", "id": f"{patient}o{day}", "effectiveDateTime": f"2024-03-0{day}"}
            | {"performer": [to("Practitioner/doc")], "device": to("Device/d1")}
            | heart
            for day in (1, 2, 3)
        ),
        {"resourceType": "Observation", "id": f"{patient}o"} | heart,
        {"resourceType": "Flag", "id": f"{patient}f", "status": "active", "code": {"text": "x"}, "period": period}
        | {"subject": to(f"Patient/{patient}"), "author": to("Device/d1")},
    ]


HELD = [
    {"resourceType": "Organization", "id": "house", "name": "House"},
    {"resourceType": "Practitioner", "id": "doc"},
    {"resourceType": "Device", "id": "d1"},
    *record("p1"),
    *record("p2"),
]
OBSERVATIONS = "p1o p1o1 p1o2 p1o3"


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


async def read_pages(http: httpx.AsyncClient, url: str) -> list[str]:
    """Ids of all matches and includes of all pages."""
    found = []
    while url:
        response = await http.get(url, headers={"prefer": "handling=strict"})
        assert response.status_code == 200, response.text
        found += [entry["resource"]["id"] for entry in response.json().get("entry", ())]
        url = next((link["url"] for link in response.json()["link"] if link["relation"] == "next"), "")
    return sorted(found)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("patient/*.rs",), f"p1 p1e p1f {OBSERVATIONS}"),
        (("patient/*.read",), f"p1 p1e p1f {OBSERVATIONS}"),
        (("patient/Patient.rs", "patient/Observation.rs"), f"p1 {OBSERVATIONS}"),
        (("patient/Patient.read", "patient/Flag.read"), "p1 p1f"),
        (("patient/Patient.rs", "patient/Flag.rs", "user/Organization.rs"), "house p1 p1f"),
        (("patient/Patient.rs", "patient/Observation.rs?code=1"), "p1"),
    ],
)
@pytest.mark.parametrize("count", [1, 100])
async def test_a_token_bound_to_the_patient_gets_what_it_may_see(
    site: Site, scopes: tuple[str, ...], expected: str, count: int
) -> None:
    token = site.token(*scopes, patient="p1")

    async with site.http(token) as http:
        assert await read_pages(http, f"Patient/p1/$everything?_count={count}") == sorted(expected.split())
        assert (await http.get("Patient/p2/$everything")).status_code == 404
        assert set(await read_pages(http, "Patient/$everything")) == set(expected.split())


@pytest.mark.parametrize("scopes", [("patient/Observation.rs",), ("patient/Patient.c",), ("system/Observation.rs",)])
async def test_a_token_without_the_patient_gets_nothing(site: Site, scopes: tuple[str, ...]) -> None:
    async with site.http(site.token(*scopes, patient="p1")) as http:
        assert (await http.get("Patient/p1/$everything")).status_code == 403


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", f"d1 doc house p1 p1e p1f {OBSERVATIONS}"),
        ("_type=Observation", OBSERVATIONS),
        ("_type=Observation,Patient", f"p1 {OBSERVATIONS}"),
        ("_type=Observation&start=2024-03-02", "p1o p1o2 p1o3"),
        ("_type=Observation&end=2024-03-02", "p1o p1o1 p1o2"),
        ("_type=Observation&start=2024-03-02&end=2024-03-02", "p1o p1o2"),
        ("_type=Encounter,Flag&start=2024-03-03", "p1e p1f"),
        ("_type=Encounter,Flag&start=2024-03-04", ""),
        ("_type=Encounter,Flag&end=2024-02-29", ""),
        ("_type=Patient&start=2030", "p1"),
        ("_since=2999", ""),
        ("_since=2000&_type=Flag", "p1f"),
    ],
)
@pytest.mark.parametrize("count", [1, 3, 100])
async def test_times_and_types_hold_over_all_pages(site: Site, query: str, expected: str, count: int) -> None:
    async with site.http() as http:
        assert await read_pages(http, f"Patient/p1/$everything?_count={count}&{query}") == sorted(expected.split())


async def test_it_is_asked_by_post_with_parameters_too(site: Site) -> None:
    parameters = [{"name": "start", "valueDate": "2024-03-02"}, {"name": "_type", "valueCode": "Observation"}]

    async with site.http() as http:
        body = {"resourceType": "Parameters", "parameter": parameters}
        bundle = (await http.post("Patient/p1/$everything", json=body)).json()

    assert sorted(entry["resource"]["id"] for entry in bundle["entry"]) == ["p1o", "p1o2", "p1o3"]


async def test_writes_between_its_pages_take_nothing_from_them(site: Site) -> None:
    found, url = [], "Patient/p1/$everything?_count=2"
    async with site.http() as http:
        while url:
            bundle = (await http.get(url)).json()
            found += [entry["resource"]["id"] for entry in bundle["entry"]]
            url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
            for each in record(f"q{len(found)}"):
                assert (await http.put(f"{each['resourceType']}/{each['id']}", json=each)).status_code == 201

    assert sorted(found) == sorted(f"d1 doc house p1 p1e p1f {OBSERVATIONS}".split())
