"""The FHIR servers that the contract suites run on: `server` is one after the other.

Another server joins by its base URL in PULSEWEIR_TEST_FHIR_URL.
"""

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from served_store import served

Json = dict[str, Any]
LOINC = "http://loinc.org"
SYSTEM = "https://example.org/ids"


@dataclass
class Server:
    """One server under test: the house's client, a bare HTTP client, a word no other test uses."""

    client: FhirClient
    http: httpx.AsyncClient
    word: str
    is_outside: bool = False

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, f"{self.client.base_url}/{path}".rstrip("/"), **options)

    def patient(self, name: str = "p", **members: Any) -> Json:
        identifier = [{"system": SYSTEM, "value": f"{self.word}-{name}"}]
        return {"resourceType": "Patient", "id": f"{self.word}-{name}", "identifier": identifier, **members}

    def observation(
        self, name: str, *, code: str = "8867-4", when: str = "2024-01-01T00:00:00Z", **members: Any
    ) -> Json:
        return {
            "resourceType": "Observation",
            "id": f"{self.word}-{name}",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": f"Patient/{self.word}-p"},
            "effectiveDateTime": when,
            "valueQuantity": {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"},
        } | members

    @staticmethod
    def put(resource: Json, **request: Any) -> Json:
        """The bundle entry that stores a resource under its own id."""
        url = f"{resource['resourceType']}/{resource['id']}"
        return {"request": {"method": "PUT", "url": url, **request}, "resource": resource}


OUTSIDE = os.environ.get("PULSEWEIR_TEST_FHIR_URL")


@pytest.fixture(params=["embedded", "embedded-http", *(["outside"] if OUTSIDE else [])])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    if request.param == "outside":
        async for found in _connected(str(OUTSIDE), None):
            yield found
        return
    store = FhirStore.open(tmp_path, Clock())
    try:
        if request.param == "embedded":
            async for found in _connected("http://fhir.test/fhir", httpx.ASGITransport(create_app(store))):
                yield found
        else:
            with served(store) as url:
                async for found in _connected(url, None):
                    yield found
    finally:
        store.close()


async def _connected(url: str, transport: httpx.ASGITransport | None) -> AsyncIterator[Server]:
    client = FhirClient(url, transport=transport)
    async with httpx.AsyncClient(transport=transport) as http:
        found = Server(client, http, uuid.uuid4().hex[:12], url == OUTSIDE)
        await client.update(found.patient())
        yield found
    await client.close()
