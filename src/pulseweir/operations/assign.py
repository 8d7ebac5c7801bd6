"""Step 5a: who wears a device, from when to when: written to FHIR, where identity resolution reads it.

Every change counts up on the Device with If-Match, in one transaction with the DeviceUseStatements (before them, where
a server knows no transactions): of two that are made at once, the second is planned anew on what the first wrote.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pulseweir.clock import real_microseconds, to_microseconds, to_text
from pulseweir.errors import FhirRefused, RefuseToStart, RetryLater
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT
from pulseweir.ingest.device_uses import Use, read_use
from pulseweir.ingest.identity_create import made_device
from pulseweir.ingest.identity_search import IdentitySearch
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.operations.assignment_plan import (
    AssignmentRefused,
    DeviceBook,
    overlapping,
    plan_assignment,
    plan_release,
)
from pulseweir.records.codes import PULSEWEIR
from pulseweir.settings import Settings
from pulseweir.systems import open_fhir

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

Json = dict[str, Any]
ASSIGNMENT_COUNT_EXTENSION = f"{PULSEWEIR}/StructureDefinition/assignment-count"
"""Device extension, valueInteger: how many times its associations were written by this house."""
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was written.

    Attributes:
        device_id: As the messages name it.
        patient_id: FHIR id of the Patient; None for a release.
        start: First instant of the change, RFC 3339.
        end: Where it ends; None for open.
        statements: Ids of the DeviceUseStatements written.
        recorded: Observations of the device in that span that FHIR already holds for somebody else; they stay as
            they are. None when the service would not count them.
    """

    device_id: str
    patient_id: str | None
    start: str
    end: str | None
    statements: tuple[str, ...]
    recorded: int | None


async def assign(
    settings: Settings,
    device_id: str,
    patient_id: str,
    since: str | None,
    until: str | None,
    *,
    replacing: bool = False,
) -> Assigned:
    """Write that a patient has a device from ``since`` (now, without it) to ``until`` (open, without it).

    Assigning the same device, patient and start again replaces the end.

    Raises:
        RefuseToStart: The Patient does not exist, or an instant is not ISO 8601 with a zone.
        AssignmentRefused: Another patient has the device in the span.
        RetryLater: The FHIR service is not there.
    """
    start = instant_of(since) if since else real_microseconds()
    end = instant_of(until) if until else LAST_INSTANT
    if end <= start:
        raise RefuseToStart("The association would end before it begins. Give --to an instant after --from.")
    fhir = open_fhir(settings)
    try:
        return await Assignments(fhir, settings.identity).assign(
            device_id, Use(patient_id, start, end), replacing=replacing
        )
    finally:
        await fhir.close()


async def release(settings: Settings, device_id: str, instant: str | None) -> Assigned:
    """Write that nobody has a device from an instant on (now, without it).

    Raises:
        RefuseToStart: The instant is not ISO 8601 with a zone.
        AssignmentRefused: Nobody has the device then.
        RetryLater: The FHIR service is not there.
    """
    fhir = open_fhir(settings)
    try:
        return await Assignments(fhir, settings.identity).release(
            device_id, instant_of(instant) if instant else real_microseconds()
        )
    finally:
        await fhir.close()


async def list_assignments(settings: Settings, device_id: str) -> list[Json]:
    """Who had a device when, earliest first, with what is wrong.

    Raises:
        AssignmentRefused: FHIR holds no such Device, or several.
        RetryLater: The FHIR service is not there.
    """
    fhir = open_fhir(settings)
    try:
        return await Assignments(fhir, settings.identity).listed(device_id)
    finally:
        await fhir.close()


class Assignments:
    """Who wears which device, as one FHIR service holds it.

    Args:
        fhir: The service.
        settings: The system of device identifiers.
    """

    def __init__(self, fhir: "FhirClient", settings: IdentitySettings) -> None:
        self._fhir = fhir
        self._system = settings.device_identifier_system
        self._search = IdentitySearch(fhir, settings)

    async def assign(self, device_id: str, wanted: Use, *, replacing: bool = False) -> Assigned:
        """Write an association; the Device is made where FHIR does not hold it.

        Raises:
            RefuseToStart: The Patient does not exist.
            AssignmentRefused: Another patient has the device in the span.
            RetryLater: The FHIR service does not answer, or others keep writing.
        """
        if await self._search.read("Patient", wanted.patient_id) is None:
            raise RefuseToStart(f"The FHIR service has no Patient/{wanted.patient_id}. Create it first.")
        return await self._write(
            device_id, wanted, wanted.patient_id, lambda book: plan_assignment(book, wanted, replacing=replacing)
        )

    async def release(self, device_id: str, instant: int) -> Assigned:
        """End the association that holds at an instant.

        Raises:
            AssignmentRefused: Nobody has the device then.
            RetryLater: The FHIR service does not answer, or others keep writing.
        """
        await self._book(device_id)
        return await self._write(
            device_id, Use("", instant, LAST_INSTANT), None, lambda book: plan_release(book, instant)
        )

    async def listed(self, device_id: str) -> list[Json]:
        """Rows with patient, start, end, statement and fault; a fault is ``overlap`` or ``unreadable``.

        Raises:
            AssignmentRefused: FHIR holds no such Device, or several.
            RetryLater: The FHIR service does not answer.
        """
        book = await self._book(device_id)
        statements = book.statements
        doubtful = overlapping(statements)
        rows: list[Json] = [
            {
                "patient": one.use.patient_id,
                "start": None if one.use.start == FIRST_INSTANT else to_text(one.use.start),
                "end": None if one.is_open else to_text(one.use.end),
                "statement": one.resource["id"] if one.resource else None,
                "fault": "overlap" if place in doubtful else None,
            }
            for place, one in enumerate(statements)
        ]
        rows += [
            {"patient": None, "start": None, "end": None, "statement": resource["id"], "fault": "unreadable"}
            for resource in book.resources
            if read_use(resource) is None and resource.get("status") not in {"entered-in-error", "intended"}
        ]
        return rows

    async def _write(
        self, device_id: str, span: Use, patient_id: str | None, plan: Callable[[DeviceBook], list[Json]]
    ) -> Assigned:
        for _ in range(_ATTEMPTS):
            book = await self._book(device_id, make=patient_id is not None)
            writes = plan(book)
            answers = await self._fhir.write_together([_entry(_counted(book.device)), *map(_entry, writes)])
            failed = next((answer for answer in answers if not answer.is_done), None)
            if failed is None:
                return Assigned(
                    device_id,
                    patient_id,
                    to_text(span.start),
                    None if span.end == LAST_INSTANT else to_text(span.end),
                    tuple(str(resource["id"]) for resource in writes),
                    await self._recorded(str(book.device["id"]), span, patient_id, writes),
                )
            if failed.is_worth_retrying:
                raise RetryLater(f"The FHIR service answered {failed.status}; nothing was changed. Try again.")
            if failed.status not in {409, 412}:
                raise AssignmentRefused(
                    device_id,
                    f"the FHIR service refused it with {failed.status}: {failed.issue_text or 'no reason given.'}",
                    "Check its rights and profiles: pulseweir doctor.",
                )
        raise RetryLater(f"Associations of device {device_id} keep changing; nothing was changed. Try again.")

    async def _book(self, device_id: str, *, make: bool = False) -> DeviceBook:
        """The Device first, then its statements: a change in between meets the Device's version."""
        found = (await self._search.device_resources([device_id]))[device_id]
        if not found and make:
            found = [await self._fhir.update(made_device(device_id, self._system) | {"status": "active"})]
        if len(found) != 1:
            problem = "FHIR holds more than one Device with this id" if found else "FHIR holds no Device with this id"
            remedy = "Correct them in the FHIR service." if found else "Check the id: pulseweir device list."
            raise AssignmentRefused(device_id, problem, remedy)
        device = await self._search.read("Device", str(found[0]["id"])) or found[0]
        resource_id = str(device["id"])
        return DeviceBook(device, device_id, tuple((await self._search.uses([resource_id]))[resource_id]))

    async def _recorded(self, resource_id: str, span: Use, patient_id: str | None, writes: list[Json]) -> int | None:
        """Observations of the device in the span that are held for somebody else than the change says."""
        params = [("device", f"Device/{resource_id}"), ("date", f"ge{to_text(span.start)}")]
        if span.end != LAST_INSTANT:
            params.append(("date", f"lt{to_text(span.end)}"))
        released = sorted({str(resource["subject"]["reference"]) for resource in writes})
        try:
            if patient_id is None:
                return sum([await self._count(params, subject) for subject in released])
            return await self._count(params) - await self._count(params, f"Patient/{patient_id}")
        except (FhirRefused, RetryLater):
            # What was asked for is written; a count that cannot be had must not make it look otherwise.
            return None

    async def _count(self, params: list[tuple[str, str]], subject: str | None = None) -> int:
        return await self._fhir.count("Observation", [*params, *([("subject", subject)] if subject else [])])


def instant_of(text: str) -> int:
    """Microseconds of an ISO 8601 instant.

    Raises:
        RefuseToStart: It is none, or leaves open in which zone or at what time of the day it is.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefuseToStart(f"{text!r} is not an ISO 8601 instant, such as 2026-01-31T08:00:00Z.") from error
    if instant.tzinfo is None:
        raise RefuseToStart(
            f"{text!r} has no time zone, and an hour may mean another patient."
            " Add Z or an offset, such as 2026-01-31T08:00:00+01:00."
        )
    return to_microseconds(instant)


def _counted(device: Json) -> Json:
    """The Device with its count of assignments one higher."""
    others = [one for one in device.get("extension", []) if one.get("url") != ASSIGNMENT_COUNT_EXTENSION]
    before = [
        one.get("valueInteger", 0)
        for one in device.get("extension", [])
        if one.get("url") == ASSIGNMENT_COUNT_EXTENSION
    ]
    count = {"url": ASSIGNMENT_COUNT_EXTENSION, "valueInteger": max(before, default=0) + 1}
    return device | {"extension": [*others, count]}


def _entry(resource: Json) -> Json:
    """The PUT of a resource, on the version that was read where there was one."""
    request = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    version = resource.get("meta", {}).get("versionId")
    if version is not None:
        request["ifMatch"] = f'W/"{version}"'
    return {"request": request, "resource": resource}
