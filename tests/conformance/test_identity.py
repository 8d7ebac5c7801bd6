"""The predecessor's identity vectors in every mode, under both compatibilities."""

from typing import Any

import httpx
import msgspec
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.identity import Association, Identity
from pulseweir.ingest.settings import IdentitySettings

SECTION = "identity"
PATIENT = "bf7c741785b9bbaa3e63dd3637c0acb9caa211351ff2ca17d9474c20c1cdb683"
Json = dict[str, Any]
WORDS = {
    ("FhirResourceNotFoundException", "Device"): "device-unknown",
    ("FhirResourceNotFoundException", "Patient"): "patient-unknown",
    ("FhirResourceNotFoundException", "Encounter"): "encounter-unknown",
    ("ResourceIdentityNotDefinedException", "Patient"): "patient-not-named",
    ("ResourceIdentityNotDefinedException", "Encounter"): "encounter-not-named",
    ("PatientDeviceMismatchException", None): "patient-mismatch",
}


def is_supported(case: Json) -> bool:
    """Every vector."""
    return "mode" in case


class Server:
    """What a vector says the FHIR service holds; takes PUTs, and remembers what it was asked."""

    def __init__(self, case: Json) -> None:
        self.system = case.get("default_device_identifier_system", "")
        self.held = {
            (kind, str(one["id"]).replace("<any>", "any")): self.resource(kind, one)
            for kind, share in case["server"].items()
            if isinstance(share, list)
            for one in share
        }
        self.searches: list[str] = []
        self.creates: list[str] = []
        self.links_after_search = "patient-mismatch" in case["id"]
        self.client = FhirClient("http://fhir/r4", transport=httpx.MockTransport(self.answer))

    def resource(self, kind: str, described: Json) -> Json:
        system = {"system": self.system} if self.system and kind == "Device" else {}
        made: Json = {
            "resourceType": kind,
            "id": str(described["id"]).replace("<any>", "any"),
            "identifier": [system | {"value": described["identifier"]}],
        }
        return made | ({"patient": {"reference": described["patient"]}} if "patient" in described else {})

    def answer(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/r4/").split("/")
        if request.method == "PUT":
            self.creates.append("PUT " + "/".join(parts))
            self.held[parts[0], parts[1]] = msgspec.json.decode(request.content)
            return httpx.Response(200, json=self.held[parts[0], parts[1]])
        if len(parts) == 2:
            held = self.held.get((parts[0], parts[1]))
            return httpx.Response(200, json=held) if held else httpx.Response(404)
        return self.search(parts[0], request.url.params)

    def search(self, kind: str, params: httpx.QueryParams) -> httpx.Response:
        self.searches.append(f"{kind}?" + "&".join(f"{name}={params[name]}" for name in params if name != "_count"))
        token = params.get("identifier", "").rpartition("|")[2]
        found = [
            one
            for (held_kind, _), one in self.held.items()
            if held_kind == kind and "identifier" in params and one["identifier"][0]["value"] == token
        ]
        if self.links_after_search and kind == "Device":
            # The vector's race: linked to another patient after the lookup found it without one.
            other = {"patient": {"reference": "Patient/other"}}
            self.held["Device", "race"] = self.resource("Device", {"id": "race", "identifier": token}) | other
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": [{"resource": one} for one in found]})


async def resolve(case: Json, server: Server, compatibility: Any) -> Association:
    settings = IdentitySettings(mode=case["mode"], compatibility=compatibility, device_identifier_system=server.system)
    group = case["group"]
    found = await Identity(server.client, settings).resolve(
        group["deviceId"], 0, group.get("encounterId"), group.get("patientId")
    )
    await server.client.close()
    return found


@pytest.mark.parametrize("compatibility", ["pulseweir", "strict"])
async def test_identity_resolves_as_in_the_predecessor(case: Json, compatibility: str) -> None:
    server = Server(case)

    found = await resolve(case, server, compatibility)

    expected = case["expected"]
    assert found.missing == WORDS.get((expected.get("error"), expected.get("resource")))
    if "Device" in expected:
        assert (found.device_resource_id, found.patient_id) == (expected["Device"], expected["Patient"])
        assert found.encounter_id == expected.get("Encounter")
    if "expected_creates" in case:
        assert server.creates == case["expected_creates"]
    elif "error" in expected:
        assert server.creates in ([], ["PUT Patient/" + PATIENT])
    if "expected_search" in case:
        assert case["expected_search"] in server.searches
    if case["id"] == "create-patient-not-linked":
        # The vector says it in words: both are ensured, and the Device is updated to point at the Patient.
        assert (found.device_resource_id, found.patient_id) == ("any", PATIENT)
        assert server.creates == [f"PUT Patient/{PATIENT}", "PUT Device/any"]
        assert server.held["Device", "any"]["patient"] == {"reference": f"Patient/{PATIENT}"}
