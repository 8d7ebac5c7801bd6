"""Step 1: the FHIR resources that must exist before devices send: wards, beds, patients, devices, care teams.

Every id is made from what the resource is about, so that setting up a ward again changes nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulseweir import clock
from pulseweir.errors import RefuseToStart
from pulseweir.records import codes, identifiers

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

Resource = dict[str, Any]

CARE_TEAM_ROLES = ("nurse", "charge nurse", "rapid response")
"""Who an alert climbs to, in this order."""

BUNDLE_SIZE = 200
_LEGAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_PHYSICAL_TYPE = "http://terminology.hl7.org/CodeSystem/location-physical-type"
_ENCOUNTER_CLASS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


@dataclass(frozen=True, slots=True)
class DeviceSetup:
    """One device of the catalog.

    Attributes:
        device_id: As the hub's registry and the messages know it.
        kind: Catalog kind.
    """

    device_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class PatientSetup:
    """One invented or de-identified patient in a bed, with the devices that measure there.

    Attributes:
        patient_id: Logical FHIR id.
        name: What the screens show; never a real person's.
        birth_date: ``YYYY-MM-DD``.
        gender: FHIR administrative gender.
        ward: Name of the ward.
        bed: Name of the bed.
        since_microseconds: Start of the stay and of the devices' association.
        devices: Devices associated with this patient from then on.
        spo2_scale: 2 on a clinician's recorded decision; None when none is recorded.
    """

    patient_id: str
    name: str
    birth_date: str
    gender: str
    ward: str
    bed: str
    since_microseconds: int
    devices: tuple[DeviceSetup, ...]
    spo2_scale: int | None = None


def ward_resources(patients: Sequence[PatientSetup], shared_devices: Iterable[DeviceSetup] = ()) -> list[Resource]:
    """All resources of these patients, referenced ones before those that refer to them; each once.

    Args:
        patients: Who lies where.
        shared_devices: Devices that belong to no patient, such as gateways.
    """
    wards = dict.fromkeys(patient.ward for patient in patients)
    resources = [resource for ward in wards for resource in (ward_location(ward), care_team(ward))]
    for patient in patients:
        resources.append(bed_location(patient.ward, patient.bed))
        resources.append(patient_resource(patient))
        resources.append(encounter(patient))
        for device in patient.devices:
            resources += [device_resource(device), device_use(device, patient)]
    resources += [device_resource(device) for device in shared_devices]
    return list({(resource["resourceType"], resource["id"]): resource for resource in resources}.values())


def ward_location(ward: str) -> Resource:
    """The Location of a ward."""
    return {
        "resourceType": "Location",
        "id": _id("ward", ward),
        "identifier": [{"system": codes.WARD_IDENTIFIER_SYSTEM, "value": ward}],
        "status": "active",
        "name": ward,
        "mode": "instance",
        "physicalType": _concept(_PHYSICAL_TYPE, "wa", "Ward"),
    }


def bed_location(ward: str, bed: str) -> Resource:
    """The Location of a bed, part of its ward's."""
    return {
        "resourceType": "Location",
        "id": _id("bed", ward, bed),
        "status": "active",
        "name": bed,
        "mode": "instance",
        "physicalType": _concept(_PHYSICAL_TYPE, "bd", "Bed"),
        "partOf": _reference("Location", _id("ward", ward)),
    }


def care_team(ward: str) -> Resource:
    """The CareTeam that answers for a ward, with the roles an alert climbs through."""
    return {
        "resourceType": "CareTeam",
        "id": _id("care-team", ward),
        "identifier": [{"system": codes.WARD_IDENTIFIER_SYSTEM, "value": ward}],
        "status": "active",
        "name": f"Care team {ward}",
        "participant": [{"role": [{"text": role}]} for role in CARE_TEAM_ROLES],
    }


def patient_resource(patient: PatientSetup) -> Resource:
    """The Patient, with the recorded decision on the SpO2 scale where there is one."""
    resource: Resource = {
        "resourceType": "Patient",
        "id": patient.patient_id,
        "active": True,
        "name": [{"text": patient.name}],
        "gender": patient.gender,
        "birthDate": patient.birth_date,
    }
    if patient.spo2_scale is not None:
        resource["extension"] = [{"url": codes.SPO2_SCALE_EXTENSION, "valueInteger": patient.spo2_scale}]
    return resource


def encounter(patient: PatientSetup) -> Resource:
    """The stay of a patient in a bed, in progress."""
    return {
        "resourceType": "Encounter",
        "id": _id("stay", patient.patient_id),
        "status": "in-progress",
        "class": {"system": _ENCOUNTER_CLASS, "code": "IMP", "display": "inpatient encounter"},
        "subject": _reference("Patient", patient.patient_id),
        "period": {"start": clock.to_text(patient.since_microseconds)},
        "location": [{"location": _reference("Location", _id("bed", patient.ward, patient.bed)), "status": "active"}],
    }


def device_resource(device: DeviceSetup) -> Resource:
    """The Device that measures; its id is the device's own where FHIR allows."""
    return {
        "resourceType": "Device",
        "id": _id(device.device_id),
        "identifier": [{"system": codes.DEVICE_IDENTIFIER_SYSTEM, "value": device.device_id}],
        "status": "active",
        "type": {"text": device.kind},
    }


def device_use(device: DeviceSetup, patient: PatientSetup) -> Resource:
    """The association: this device measures this patient from the start of the stay on."""
    return {
        "resourceType": "DeviceUseStatement",
        "id": _id("use", device.device_id, patient.patient_id),
        "status": "active",
        "subject": _reference("Patient", patient.patient_id),
        "timingPeriod": {"start": clock.to_text(patient.since_microseconds)},
        "device": _reference("Device", _id(device.device_id)),
    }


async def write_resources(fhir: "FhirClient", resources: Sequence[Resource]) -> None:
    """PUT all of them, in order, in transactions; doing it again changes nothing.

    Raises:
        RetryLater: The FHIR service is not there; nothing or a part was written: call again.
        RefuseToStart: The service refuses a resource.
    """
    for first in range(0, len(resources), BUNDLE_SIZE):
        await _write_chunk(fhir, resources[first : first + BUNDLE_SIZE])


async def _write_chunk(fhir: "FhirClient", chunk: Sequence[Resource]) -> None:
    entries: list[Resource] = [
        {"request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}, "resource": resource}
        for resource in chunk
    ]
    answers = await fhir.write_together(entries)
    refused = [answer.status for answer in answers if answer.status >= 400]
    if not refused:
        return
    if len(chunk) == 1:
        raise RefuseToStart(
            f"The FHIR service refused {chunk[0]['resourceType']}/{chunk[0]['id']} (status {refused[0]}). "
            "Check its rights and profiles: pulseweir doctor."
        )
    # Halved, until it is small enough or the one at fault stands alone: repeating the others changes nothing.
    middle = len(chunk) // 2
    await _write_chunk(fhir, chunk[:middle])
    await _write_chunk(fhir, chunk[middle:])


def _reference(resource_type: str, resource_id: str) -> Resource:
    return {"reference": f"{resource_type}/{resource_id}"}


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _id(*parts: str) -> str:
    """The parts as one readable id where FHIR allows, else their digest; a device's own id is never altered."""
    readable = parts[0] if len(parts) == 1 else "-".join(part.replace(" ", "-").lower() for part in parts)
    return readable if _LEGAL_ID.fullmatch(readable) else identifiers.digest(*parts)
