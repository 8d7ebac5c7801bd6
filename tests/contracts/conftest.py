"""The servers that the contract suites run on: FHIR servers, where `server` is one after the other, and PostgreSQL.

HAPI FHIR is built and started where Java and Maven are. Another server joins by its base URL in
PULSEWEIR_TEST_FHIR_URL.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hapi_server import FIRST_TEST_SECONDS
from postgres_server import running_postgres, what_is_missing
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from served_store import served

Json = dict[str, Any]
LOINC = "http://loinc.org"
SYSTEM = "https://example.org/ids"

_NO_CARDINALITY = "HAPI checks no cardinality unless told to; the house sends what R4 asks for"
HAPI_DIFFERS = {
    "test_if_none_match_creates_and_never_replaces": "R4 does not ask a server for If-None-Match on update",
    "test_a_batch_refuses_a_bad_resource_alone": (
        "HAPI refuses a Bundle as a whole when it cannot read one resource; the house halves it until that stands alone"
    ),
    "test_a_bad_body_is_refused_with_an_outcome[hapi-no-status]": _NO_CARDINALITY,
    "test_a_bad_request_is_refused_with_an_outcome[hapi-modifier]": (
        "HAPI takes an unknown modifier of a token for none; the house sends none"
    ),
    "test_an_unknown_parameter_is_left_out_when_lenient": (
        "HAPI refuses an unknown parameter also when asked to be lenient; the house sends none"
    ),
    "test_dates_compare_as_ranges[hapi-either]": "HAPI takes no list of dates; the house sends none",
}
"""What is not asked of HAPI, by test, and why the house can do without."""


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


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """An empty database that the tests share and leave empty; they skip without PostgreSQL."""
    named = os.environ.get("PULSEWEIR_TEST_POSTGRES")
    missing = None if named else what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with nullcontext(named) if named else running_postgres() as address:
        yield address


OUTSIDE = os.environ.get("PULSEWEIR_TEST_FHIR_URL")
# The first test waits for the build and the start.
HAPI = pytest.param("hapi", marks=pytest.mark.timeout(FIRST_TEST_SECONDS))
SERVERS = ["embedded", "embedded-http", HAPI, *(["outside"] if OUTSIDE else [])]


@pytest.fixture(params=SERVERS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    if request.param == "hapi":
        reason = HAPI_DIFFERS.get(request.node.name) or HAPI_DIFFERS.get(request.node.originalname)
        if reason is not None:
            pytest.skip(reason)
    if request.param in {"hapi", "outside"}:
        url = str(OUTSIDE) if request.param == "outside" else request.getfixturevalue("hapi_url")
        async for found in _connected(url, None, is_outside=True):
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


async def _connected(
    url: str, transport: httpx.ASGITransport | None, *, is_outside: bool = False
) -> AsyncIterator[Server]:
    # HAPI takes seconds to say what it is: asked where that is the question, and not before every test.
    client = FhirClient(url, transport=transport)
    async with httpx.AsyncClient(transport=transport, timeout=30) as http:
        found = Server(client, http, uuid.uuid4().hex[:12], is_outside)
        await client.update(found.patient())
        yield found
    await client.close()
