"""Who wears a device, from when to when: written to FHIR, where identity resolution reads it."""

from datetime import UTC, datetime

from pulseweir.clock import real_microseconds, to_microseconds, to_text
from pulseweir.errors import RefuseToStart
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.identifiers import digest
from pulseweir.settings import Settings
from pulseweir.systems import open_fhir


async def assign(settings: Settings, device_id: str, patient_id: str, since: str | None, until: str | None) -> None:
    """Write the Device, if FHIR does not hold it, and a DeviceUseStatement for the span.

    Assigning the same device, patient and start again replaces the end.

    Raises:
        RefuseToStart: The Patient does not exist, or an instant is not ISO 8601.
        RetryLater: The FHIR service is not there.
    """
    start = _instant(since) if since else to_text(real_microseconds())
    period = {"start": start} | ({"end": _instant(until)} if until else {})
    fhir = open_fhir(settings)
    try:
        if await fhir.read("Patient", patient_id) is None:
            raise RefuseToStart(f"The FHIR service has no Patient/{patient_id}. Create it first.")
        system_and_value = f"{DEVICE_IDENTIFIER_SYSTEM}|{device_id}"
        found = await fhir.search("Device", {"identifier": system_and_value})
        device = found[0] if found else await fhir.update(_device(device_id))
        await fhir.update(
            {
                "resourceType": "DeviceUseStatement",
                "id": digest("DeviceUseStatement", device_id, patient_id, start),
                "status": "completed" if until else "active",
                "subject": {"reference": f"Patient/{patient_id}"},
                "timingPeriod": period,
                "device": {"reference": f"Device/{device['id']}"},
            }
        )
    finally:
        await fhir.close()


def _device(device_id: str) -> dict[str, object]:
    identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device_id}]
    return {"resourceType": "Device", "id": digest("Device", device_id), "identifier": identifier, "status": "active"}


def _instant(text: str) -> str:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefuseToStart(f"{text!r} is not an ISO 8601 instant, such as 2026-01-31T08:00:00Z.") from error
    return to_text(to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC)))
