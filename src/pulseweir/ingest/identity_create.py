"""Step 5a in mode Create: the Patient a message names and its Device are made where they are missing.

Ids are made of the identifiers, so that two connectors make the same resource and not two. The Patient comes first,
then the Device with its patient. Nothing is taken away from another patient.
"""

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from pulseweir.errors import FhirConflict, FhirRefused, RetryLater
from pulseweir.ingest.device_uses import is_legal_id, reference_id
from pulseweir.ingest.grouping import resource_id
from pulseweir.ingest.identity_search import IdentitySearch, raise_if_nobody_may
from pulseweir.ingest.settings import IdentitySettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

Json = dict[str, Any]
PATIENT_MISMATCH = "patient-mismatch"
PATIENT_AMBIGUOUS = "patient-ambiguous"
DEVICE_UNKNOWN = "device-unknown"
CREATE_REFUSED = "create-refused"


class Made(NamedTuple):
    """What came of making a Device and its Patient.

    Attributes:
        device_resource_id: FHIR id of the Device that now names the Patient; None when there is a fault.
        patient_id: FHIR id of that Patient.
        fault: Why not: ``patient-mismatch``, ``patient-ambiguous``, ``device-unknown`` or ``create-refused``.
    """

    device_resource_id: str | None
    patient_id: str | None
    fault: str | None = None


class IdentityMaker:
    """Makes what the FHIR service lacks.

    Args:
        fhir: The FHIR service.
        search: How it is asked.
        settings: The system of device identifiers, and how compatible to be.
    """

    def __init__(self, fhir: "FhirClient", search: IdentitySearch, settings: IdentitySettings) -> None:
        self._fhir = fhir
        self._search = search
        self._system = settings.device_identifier_system
        self._is_strict = settings.compatibility == "strict"
        self._gate = asyncio.Semaphore(settings.concurrency)

    async def ensure(self, device_id: str, named: str) -> Made:
        """The Device with this id, belonging to the Patient the message names; both made where missing.

        Raises:
            RetryLater: The service does not answer, or somebody changed the Device meanwhile; nothing is lost.
        """
        async with self._gate:
            try:
                patient_id = await self._patient(named)
                if patient_id is None:
                    return Made(None, None, PATIENT_AMBIGUOUS)
                return await self._device(device_id, patient_id)
            except FhirConflict:
                raise RetryLater("A Device or Patient was changed while it was made; it is read again.") from None
            except FhirRefused as refused:
                raise_if_nobody_may(refused, refused.resource_type)
                return Made(None, None, CREATE_REFUSED)

    async def _patient(self, named: str) -> str | None:
        """FHIR id of the Patient; None when several have this identifier."""
        found = await self._search.patients_named(named)
        if found:
            return str(found[0]["id"]) if len(found) == 1 else None
        logical = named.removeprefix("Patient/")
        if not self._is_strict and is_legal_id(logical) and await self._search.read("Patient", logical) is not None:
            return logical
        made = {"resourceType": "Patient", "id": resource_id(named, None), "identifier": [{"value": named}]}
        return str((await self._fhir.update(made))["id"])

    async def _device(self, device_id: str, patient_id: str) -> Made:
        found = (await self._search.device_resources([device_id]))[device_id]
        if len(found) > 1:
            return Made(None, None, DEVICE_UNKNOWN)
        # A search may lag behind a write: the id that would be made is looked at by itself.
        made = made_device(device_id, self._system)
        present = found[0] if found else await self._search.read("Device", made["id"])
        linked = reference_id(present.get("patient"), "Patient") if present else None
        if linked == patient_id and present:
            return Made(str(present["id"]), patient_id)
        if present is not None and present.get("patient"):
            return Made(None, None, PATIENT_MISMATCH)
        version = (present or {}).get("meta", {}).get("versionId")
        wanted = (present or made) | {"patient": {"reference": f"Patient/{patient_id}"}}
        stored = await self._fhir.update(wanted, if_match=version)
        return Made(str(stored["id"]), patient_id)


def made_device(device_id: str, system: str) -> Json:
    """A Device that has only its identifier; its id is the predecessor's. Pure.

    >>> made_device("deviceId", "")["id"][:8]
    '96b1d91b'
    """
    identifier = {"value": device_id} | ({"system": system} if system else {})
    return {"resourceType": "Device", "id": resource_id(device_id, system), "identifier": [identifier]}
