"""A FHIR store that asks who comes, its clients, and small resources to put into it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.export.exports import Exports
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, ClientEntry, add_client, house_token
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
VITAL = "http://terminology.hl7.org/CodeSystem/observation-category"


@dataclass(slots=True)
class Site:
    """One store with its guard.

    Attributes:
        store: Where the resources are.
        directory: Where it lies.
        exports: Its exports; others made later would take up what these have begun.
    """

    store: FhirStore
    directory: Path
    exports: Exports = field(init=False)

    def __post_init__(self) -> None:
        self.exports = Exports(self.store)

    def token(self, *scopes: str, patient: str | None = None, name: str = "app", **members: Any) -> str:
        """A new client's token."""
        entry = ClientEntry(name, scopes, patient=patient, **members)
        return add_client(self.directory / CLIENTS_NAME, entry, 0)

    @asynccontextmanager
    async def http(self, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the server, with a token."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(create_app(self.store, guard=Guard.open(self.store), exports=self.exports))
        async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/", headers=headers) as client:
            yield client

    async def settle(self) -> None:
        """Wait until everything that is queued is written."""
        await self.store.write(lambda _: None)

    async def fill(self, *resources: Json) -> None:
        """Store resources as the house does."""
        async with self.http(house_token(self.directory)) as http:
            for resource in resources:
                answer = await http.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
                assert answer.status_code in {200, 201}, answer.text


def patient(name: str, **members: Any) -> Json:
    return {"resourceType": "Patient", "id": name, "name": [{"family": f"Canary-{name}"}]} | members


def observation(
    name: str, who: str = "p1", category: str = "vital-signs", code: str = "8867-4", **members: Any
) -> Json:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [{"coding": [{"system": VITAL, "code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{who}"},
        "effectiveDateTime": "2024-01-01T00:00:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    } | members


def flag(name: str, who: str = "p1") -> Json:
    subject = {"reference": f"Patient/{who}"}
    return {"resourceType": "Flag", "id": name, "status": "active", "code": {"text": "x"}, "subject": subject}


def found(answer: httpx.Response) -> list[str]:
    """References of a searchset's resources, in order."""
    assert answer.status_code == 200, answer.text
    entries = [entry["resource"] for entry in answer.json().get("entry", [])]
    return [f"{each['resourceType']}/{each['id']}" for each in entries if each["resourceType"] != "OperationOutcome"]


async def audited_reads(site: Site, count: int = 5) -> None:
    """So many reads of Observations o1 and o2 by a client, and their AuditEvents."""
    await site.fill(observation("o1"), observation("o2"))
    async with site.http(site.token("system/*.cruds")) as http:
        for number in range(count):
            await http.get(f"Observation/o{number % 2 + 1}")
    await site.settle()
