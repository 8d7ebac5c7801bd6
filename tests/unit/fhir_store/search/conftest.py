"""A small ward to search: its people, stays, devices, findings, and how they refer to each other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
BASE = "http://fhir.test/fhir"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def to(name: str) -> Json:
    return {"reference": name}


def coded(code: str, **members: str) -> Json:
    return {"coding": [{"system": LOINC, "code": code, **members}]}


def observation(name: str, code: str = "8867-4", /, **members: Any) -> Json:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": coded(code)} | members


WARD: list[Json] = [
    {"resourceType": "Organization", "id": "house", "name": "General Hospital"},
    {"resourceType": "Organization", "id": "ward", "name": "Ward 3", "partOf": to("Organization/house")},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Weiß", "given": ["Ana"]}]},
    {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"tag": [{"system": "urn:t", "code": "demo"}], "profile": ["http://example.org/P|2.0"]},
        "identifier": [{"system": "urn:mrn", "value": "1"}],
        "active": True,
        "name": [{"family": "Müller", "given": ["Eva", "Marie"]}],
        "birthDate": "1970-05-20",
        "gender": "female",
        "managingOrganization": to("Organization/ward"),
        "generalPractitioner": [to("Practitioner/doc")],
        "contact": [{"name": {"family": "Other"}}],
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Eva</div>'},
    },
    {"resourceType": "Patient", "id": "p2", "name": [{"family": "Smith"}], "birthDate": "1980", "gender": "male"},
    {"resourceType": "Patient", "id": "p3", "name": [{"family": "O'Neil, jr"}], "active": False},
    {"resourceType": "Device", "id": "d1", "patient": to("Patient/p1"), "url": "http://example.org/devices/a/1"},
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": to("Patient/p1"),
        "period": {"start": "2024-03-01"},
        "serviceProvider": to("Organization/ward"),
    },
    observation(
        "h1",
        subject=to("Patient/p1"),
        encounter=to("Encounter/e1"),
        device=to("Device/d1"),
        effectiveDateTime="2024-03-01T10:00:00Z",
        valueQuantity={"value": 72.50, "unit": "/min", "system": UCUM, "code": "/min"},
        category=[{"coding": [{"code": "vital-signs"}], "text": "Vital signs"}],
        code=coded("8867-4", display="Heart rate"),
    ),
    observation(
        "h2",
        subject=to("Patient/p1"),
        effectiveDateTime="2024-03-02T10:00:00Z",
        valueQuantity={"value": 90, "system": UCUM, "code": "/min"},
        hasMember=[to("Observation/h1")],
    ),
    observation(
        "h3",
        subject=to("Patient/p2"),
        effectivePeriod={"start": "2024-03-01", "end": "2024-03-03"},
        specimen=to("Specimen/s1"),
    ),
    observation("r1", "9279-1", subject=to("Patient/p1/_history/1"), performer=[to("Practitioner/doc")]),
    observation("x1", "9279-1", subject={"identifier": {"system": "urn:mrn", "value": "1"}}, status="amended"),
    {
        "resourceType": "Flag",
        "id": "f1",
        "status": "active",
        "category": [{"coding": [{"code": "clinical"}]}],
        "code": {"text": "high"},
        "subject": to("Patient/p1"),
        "encounter": to("Encounter/e1"),
        "author": to(f"{BASE}/Device/d1"),
        "period": {"start": "2024-03-01T12:00:00Z"},
    },
    {"resourceType": "Flag", "id": "f2", "status": "inactive", "code": {"text": "low"}, "subject": to("Patient/p2")},
    {
        "resourceType": "RiskAssessment",
        "id": "k1",
        "status": "final",
        "subject": to("Patient/p1"),
        "prediction": [{"probabilityDecimal": 0.25}],
        "basis": [to("Observation/h1")],
    },
]

Find = Callable[..., Awaitable[list[str]]]


def client_of(store: FhirStore) -> httpx.AsyncClient:
    """An HTTP client of a store's application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(store)), base_url=f"{BASE}/")


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    """A store with the ward in it, which tests only read."""
    store = FhirStore.open(tmp_path_factory.mktemp("ward"), Clock(), FhirStoreSettings())

    async def fill() -> None:
        async with client_of(store) as client:
            await load(client, WARD)

    asyncio.run(fill())
    yield store
    store.close()


@pytest.fixture
async def http(ward: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the ward."""
    async with client_of(ward) as client:
        yield client


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a store of its own, with nothing in it."""
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings())
    async with client_of(store) as client:
        yield client
    store.close()


@pytest.fixture
def find(http: httpx.AsyncClient) -> Find:
    """Ids of what a search finds, in order: its matches, or what it includes."""

    async def ids(query: str, mode: str = "match") -> list[str]:
        response = await http.get(query, headers={"prefer": "handling=strict"})
        assert response.status_code == 200, response.text
        entries = response.json().get("entry", ())
        return [entry["resource"]["id"] for entry in entries if entry["search"]["mode"] == mode]

    return ids


async def load(http: httpx.AsyncClient, resources: list[Json]) -> None:
    """Put all resources, in their order."""
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
        for each in resources
    ]
    response = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert response.status_code == 200, response.text
