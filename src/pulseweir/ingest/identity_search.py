"""Step 5a: what identity resolution asks the FHIR service: Devices, their uses, Encounters and Patients."""

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pulseweir.errors import FhirRefused, RetryLater
from pulseweir.ingest.device_uses import (
    KnownDevice,
    identifier_values,
    is_legal_id,
    read_use,
    reference_id,
)
from pulseweir.ingest.settings import IdentitySettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

Json = dict[str, Any]
NO_SERVICE = frozenset({401, 403, 404, 405})
"""What a server answers that lets nobody in: no fault of the message."""
_TOGETHER = 50
_PAGE = ("_count", "500")


class Moment(NamedTuple):
    """When a round of questions is asked.

    Attributes:
        monotonic: Seconds that never go back.
        clock: Microseconds of the clock that measurements follow.
        generation: Count of changes of Devices and their uses; None where nobody counts.
    """

    monotonic: float
    clock: int
    generation: int | None


class KnownEncounter(NamedTuple):
    """What the FHIR service said about an encounter.

    Attributes:
        resource_id: FHIR id; None when there is none, or more than one.
        patient_id: Whose it is, where it says so.
    """

    resource_id: str | None
    patient_id: str | None


class IdentitySearch:
    """Searches of the FHIR service, several devices in one.

    Args:
        fhir: The FHIR service.
        settings: How devices are looked up.
    """

    def __init__(self, fhir: "FhirClient", settings: IdentitySettings) -> None:
        self._fhir = fhir
        self._system = settings.device_identifier_system
        self._gate = asyncio.Semaphore(settings.concurrency)

    async def devices(self, device_ids: Sequence[str], moment: Moment) -> dict[str, KnownDevice]:
        """What the service holds about these devices, each of them answered.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        chunks = [device_ids[first : first + _TOGETHER] for first in range(0, len(device_ids), _TOGETHER)]
        answers = await asyncio.gather(*(self._chunk(chunk, moment) for chunk in chunks), return_exceptions=True)
        known: dict[str, KnownDevice] = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            known |= answer
        return known

    async def device_resources(self, device_ids: Sequence[str]) -> dict[str, list[Json]]:
        """The Devices that have each device id; exact, though a server may compare without case.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        token = ",".join(self._token(device_id) for device_id in device_ids)
        found = await self._search("Device", [("identifier", token), _PAGE], len(device_ids))
        if found is None:
            middle = len(device_ids) // 2
            return await self.device_resources(device_ids[:middle]) | await self.device_resources(device_ids[middle:])
        wanted: dict[str, list[Json]] = {device_id: [] for device_id in device_ids}
        for device in found:
            for value in identifier_values(device, self._system) & wanted.keys():
                wanted[value].append(device)
        return wanted

    async def uses(self, resource_ids: Sequence[str]) -> dict[str, list[Json]]:
        """The DeviceUseStatements of each Device.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        references = ",".join(f"Device/{resource_id}" for resource_id in resource_ids)
        wanted: dict[str, list[Json]] = {resource_id: [] for resource_id in resource_ids}
        try:
            statements = await self._fhir.search("DeviceUseStatement", [("device", references), _PAGE])
        except FhirRefused as refused:
            # Never "there are none": then the Device's own patient would stand in for a patient long gone.
            raise _closed(refused, "DeviceUseStatement") from None
        for statement in statements:
            resource_id = reference_id(statement.get("device"), "Device")
            if resource_id in wanted:
                wanted[resource_id].append(statement)
        return wanted

    async def encounter(self, identifier: str) -> KnownEncounter:
        """The one Encounter with this identifier.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        async with self._gate:
            found = await self._search("Encounter", [("identifier", _escaped(identifier))]) or []
        if len(found) != 1:
            return KnownEncounter(None, None)
        return KnownEncounter(str(found[0]["id"]), reference_id(found[0].get("subject"), "Patient"))

    async def patients_named(self, text: str) -> list[Json]:
        """The Patients that have this text as the value of an identifier.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        found = await self._search("Patient", [("identifier", _escaped(text))]) or []
        return [patient for patient in found if text in identifier_values(patient)]

    async def names_another(self, patient_id: str, text: str) -> bool:
        """Whether a message's text is known to name another Patient than this one.

        It names this one when it is the logical id or the value of an identifier. It names another when this one
        has identifiers and the text is none of them, or when it is another's identifier or logical id.

        Raises:
            RetryLater: The service does not answer, or lets nobody search.
        """
        if text in {patient_id, f"Patient/{patient_id}"}:
            return False
        async with self._gate:
            own = identifier_values(await self.read("Patient", patient_id) or {})
            if own:
                return text not in own
            if any(patient["id"] != patient_id for patient in await self.patients_named(text)):
                return True
            logical = text.removeprefix("Patient/")
            return is_legal_id(logical) and await self.read("Patient", logical) is not None

    async def read(self, resource_type: str, resource_id: str) -> Json | None:
        """The current version; None when there is none.

        Raises:
            RetryLater: The service does not answer, or lets nobody read.
        """
        try:
            return await self._fhir.read(resource_type, resource_id)
        except FhirRefused as refused:
            raise_if_nobody_may(refused, resource_type)
            return None

    async def _chunk(self, device_ids: Sequence[str], moment: Moment) -> dict[str, KnownDevice]:
        async with self._gate:
            found = await self.device_resources(device_ids)
            single = {device_id: devices[0] for device_id, devices in found.items() if len(devices) == 1}
            resource_ids = sorted({str(device["id"]) for device in single.values()})
            statements = await self.uses(resource_ids) if resource_ids else {}
        return {device_id: known_device(single.get(device_id), statements, moment) for device_id in device_ids}

    def _token(self, device_id: str) -> str:
        return f"{_escaped(self._system)}|{_escaped(device_id)}" if self._system else _escaped(device_id)

    async def _search(self, resource_type: str, params: list[tuple[str, str]], values: int = 1) -> list[Json] | None:
        """All matches; none where the service will not search for a value, None when one of several may be why."""
        try:
            return await self._fhir.search(resource_type, params)
        except FhirRefused as refused:
            raise_if_nobody_may(refused, resource_type)
            return [] if values == 1 else None


def known_device(device: Json | None, statements: dict[str, list[Json]], moment: Moment) -> KnownDevice:
    """What a Device and the statements about it say. Pure."""
    if device is None:
        return KnownDevice(None, (), None, moment.monotonic, moment.clock, moment.generation)
    about = statements.get(str(device["id"]), [])
    uses = tuple(use for use in map(read_use, about) if use is not None)
    # A Device whose every statement is unusable has statements all the same: its own patient must not stand in.
    own = None if about else reference_id(device.get("patient"), "Patient")
    return KnownDevice(str(device["id"]), uses, own, moment.monotonic, moment.clock, moment.generation, bool(about))


def raise_if_nobody_may(refused: FhirRefused, resource_type: str) -> None:
    """Nothing, where the refusal is about the question.

    Raises:
        RetryLater: The service lets nobody in.
    """
    if refused.status in NO_SERVICE:
        raise _closed(refused, resource_type) from None


def _closed(refused: FhirRefused, resource_type: str) -> RetryLater:
    return RetryLater(
        f"The FHIR service refuses {resource_type} ({refused.status}). Check its base URL and the credentials."
    )


def _escaped(value: str) -> str:
    """A search value with the characters escaped that would split it."""
    return re.sub(r"([\\,$|])", r"\\\1", value)
