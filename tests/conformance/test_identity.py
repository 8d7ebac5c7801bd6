"""The predecessor's identity vectors in Lookup mode; Create and LookupWithEncounter are not built yet."""

from typing import Any

import httpx

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.settings import IdentitySettings

SECTION = "identity"
MISSING = {"Device": "device-unknown", "Patient": "patient-unknown", "Encounter": "encounter-unknown"}


def is_supported(case: dict[str, Any]) -> bool:
    """Only the default mode."""
    return bool(case["mode"] == "Lookup")


def server_of(case: dict[str, Any], asked: list[str]) -> FhirClient:
    def answer(request: httpx.Request) -> httpx.Response:
        kind = request.url.path.rpartition("/")[2]
        asked.append(f"{kind}?" + "&".join(f"{name}={value}" for name, value in request.url.params.items()))
        token = request.url.params.get("identifier", "").rpartition("|")[2]
        found = [one for one in case["server"].get(kind, []) if one.get("identifier") == token]
        entries = [{"resource": resource_of(kind, one)} for one in found]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries})

    return FhirClient("http://fhir/r4", transport=httpx.MockTransport(answer))


def resource_of(kind: str, described: dict[str, Any]) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": kind, "id": described["id"]}
    if "patient" in described:
        resource["patient"] = {"reference": described["patient"]}
    return resource


async def test_identity_resolves_as_in_the_predecessor(case: dict[str, Any]) -> None:
    asked: list[str] = []
    fhir = server_of(case, asked)
    settings = IdentitySettings(device_identifier_system=case.get("default_device_identifier_system", ""))

    found = await Identity(fhir, settings).resolve(case["group"]["deviceId"], 0, case["group"].get("encounterId"))

    await fhir.close()
    expected = case["expected"]
    if "error" in expected:
        assert found.missing == MISSING[expected["resource"]]
        return
    assert found.missing is None
    assert (found.device_resource_id, found.patient_id) == (expected["Device"], expected["Patient"])
    assert found.encounter_id == expected.get("Encounter")
    if "expected_search" in case:
        assert case["expected_search"] in asked
