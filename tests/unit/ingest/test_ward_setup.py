import re

import httpx
import msgspec
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RefuseToStart
from pulseweir.ingest.simulation.ward import SimulatedHospital
from pulseweir.ingest.ward_setup import (
    DeviceSetup,
    PatientSetup,
    Resource,
    device_resource,
    ward_resources,
    write_resources,
)
from pulseweir.records import codes

START = 1_790_000_000_000_000
PATIENT = PatientSetup(
    patient_id="p-1",
    name="Sim Patient 01",
    birth_date="1950-01-01",
    gender="female",
    ward="Ward A",
    bed="Bed 03",
    since_microseconds=START,
    devices=(DeviceSetup("monitor-1", "bedside-monitor"),),
    spo2_scale=2,
)


def _by_type(resources: list[Resource]) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for resource in resources:
        found.setdefault(resource["resourceType"], []).append(resource)
    return found


def test_a_patient_lies_in_a_bed_of_a_ward_with_a_device_and_a_care_team() -> None:
    made = _by_type(ward_resources([PATIENT]))

    ward, bed = made["Location"]
    assert (ward["name"], bed["name"], bed["partOf"]) == ("Ward A", "Bed 03", {"reference": "Location/ward-ward-a"})
    (stay,) = made["Encounter"]
    assert stay["location"][0]["location"]["reference"] == f"Location/{bed['id']}"
    (use,) = made["DeviceUseStatement"]
    assert (use["device"]["reference"], use["subject"]["reference"]) == ("Device/monitor-1", "Patient/p-1")
    assert use["timingPeriod"] == {"start": "2026-09-21T14:13:20.000Z"}
    (team,) = made["CareTeam"]
    assert team["identifier"] == [{"system": codes.WARD_IDENTIFIER_SYSTEM, "value": "Ward A"}]


def test_the_recorded_decision_on_the_scale_stands_on_the_patient() -> None:
    (patient,) = _by_type(ward_resources([PATIENT]))["Patient"]

    assert patient["extension"] == [{"url": codes.SPO2_SCALE_EXTENSION, "valueInteger": 2}]


def test_a_device_id_fhir_does_not_allow_becomes_a_digest_and_stays_the_identifier() -> None:
    made = device_resource(DeviceSetup("monitor 1", "bedside-monitor"))

    assert re.fullmatch(r"[0-9a-f]{64}", made["id"])
    assert made["identifier"] == [{"system": codes.DEVICE_IDENTIFIER_SYSTEM, "value": "monitor 1"}]


def test_every_reference_points_to_a_resource_written_before_it() -> None:
    written: set[str] = set()
    for resource in ward_resources(SimulatedHospital(1).patients(START)):
        references = set(re.findall(r'"reference":"([^"]+)"', msgspec.json.encode(resource).decode()))
        assert references <= written
        written.add(f"{resource['resourceType']}/{resource['id']}")


async def test_resources_are_put_on_their_own_ids_in_transactions() -> None:
    bundles: list[Resource] = []

    def accept(request: httpx.Request) -> httpx.Response:
        bundles.append(msgspec.json.decode(request.content))
        entries = [{"response": {"status": "201 Created"}} for _ in bundles[-1]["entry"]]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    fhir = FhirClient("http://fhir.test", transport=httpx.MockTransport(accept))
    await write_resources(fhir, ward_resources([PATIENT]))
    await fhir.close()

    (bundle,) = bundles
    assert bundle["type"] == "transaction"
    assert {"method": "PUT", "url": "Patient/p-1"} in [entry["request"] for entry in bundle["entry"]]


async def test_a_refused_resource_is_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        entries = [{"response": {"status": "422 Unprocessable"}} for _ in msgspec.json.decode(request.content)["entry"]]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    fhir = FhirClient("http://fhir.test", transport=httpx.MockTransport(refuse))
    with pytest.raises(RefuseToStart, match="Location/ward-ward-a"):
        await write_resources(fhir, ward_resources([PATIENT]))
    await fhir.close()
