"""Step 7: what FHIR knows of some patients, read in three parts: who they are, where they are, what they have.

Each part is read on its own, so that a service which fails on one still gives the others. Servers that cut an answer
short without saying how to go on are asked again, a patient at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RejectRecord
from pulseweir.records.codes import LOINC, SPO2_SCALE_EXTENSION
from pulseweir.scoring.fhir_dates import possible_days
from pulseweir.scoring.pregnancy import STATUS_CODE, is_current, means_pregnancy, newest_status_is_pregnant
from pulseweir.scoring.stays import (
    PARENTS_FOLLOWED,
    changed_at,
    location_of,
    newest_encounter,
    parents,
    place_in,
    reference_id,
    unread_parent,
)

Json = dict[str, Any]
_READS_AT_ONCE = 8
_ACTIVE = "active,recurrence,relapse"
_SCALES = (1, 2)


@dataclass(frozen=True, slots=True)
class Person:
    """What the Patient says.

    Attributes:
        changed_at: Of the Patient, microseconds.
        born: First and last day on which they can be born; None when unknown.
        sex: FHIR administrative gender, None when unknown.
        spo2_scale: 1 without an extension, 2 by one, None where the extension says neither.
    """

    changed_at: int
    born: tuple[date, date] | None = None
    sex: str | None = None
    spo2_scale: int | None = 1


@dataclass(frozen=True, slots=True)
class Stay:
    """What the Encounter in progress says; nothing where there is none."""

    changed_at: int = 0
    ward: str | None = None
    bed: str | None = None


@dataclass(frozen=True, slots=True)
class Illness:
    """What the active Conditions say.

    Attributes:
        changed_at: Of the newest change, microseconds.
        codes: Of active Conditions, in order.
        pregnant: Whether a Condition, or the newest pregnancy status, says so.
    """

    changed_at: int = 0
    codes: tuple[str, ...] = ()
    pregnant: bool = False


Part = Person | Stay | Illness
PartReader = Callable[[FhirClient, Sequence[str], int], Awaitable[Mapping[str, Part]]]


async def read_people(fhir: FhirClient, ids: Sequence[str], now: int) -> Mapping[str, Person]:  # noqa: ARG001 - as all
    """The Patients; those the service does not know are left out.

    Raises:
        RetryLater: The FHIR service does not answer.
        RejectRecord: It will not tell.
    """
    return {name: _person(one) for name, one in (await _by_id(fhir, "Patient", ids)).items()}


async def read_stays(fhir: FhirClient, ids: Sequence[str], now: int) -> Mapping[str, Stay]:
    """Where the patients are now; an empty stay for one without an Encounter in progress.

    Raises:
        RetryLater: The FHIR service does not answer.
        RejectRecord: It does not tell of Encounters.
    """
    found, cut = await _of_patients(fhir, "Encounter", ids, [("status", "in-progress")])
    chosen = {name: newest_encounter(own, now) for name, own in found.items()}
    place_ids = {name: location_of(one, now) for name, one in chosen.items() if one is not None}
    locations = await _with_parents(fhir, {one for one in place_ids.values() if one})
    return {
        name: _stay(chosen.get(name), place_ids.get(name), locations)
        for name in ids
        if chosen.get(name) is not None or name not in cut
    }


async def read_illnesses(fhir: FhirClient, ids: Sequence[str], now: int) -> Mapping[str, Illness]:
    """What the patients have, and whether they are pregnant; those whose answer stays cut short are left out.

    Raises:
        RetryLater: The FHIR service does not answer.
        RejectRecord: It does not tell of Conditions.
    """
    (conditions, cut), stated = await asyncio.gather(
        _of_patients(fhir, "Condition", ids, [("clinical-status", _ACTIVE)]), _pregnancy_statuses(fhir, ids)
    )
    illnesses = {}
    for name in ids:
        own = [one for one in conditions.get(name, []) if is_current(one, now)]
        observed = stated.get(name, [])
        is_pregnant = any(means_pregnancy(one, now) for one in own) or newest_status_is_pregnant(observed, now)
        if is_pregnant or name not in cut:
            codes = tuple(dict.fromkeys(code for one in own for code in _codes(one)))
            illnesses[name] = Illness(max(map(changed_at, own), default=0), codes, is_pregnant)
    return illnesses


async def _pregnancy_statuses(fhir: FhirClient, ids: Sequence[str]) -> dict[str, list[Json]]:
    """Pregnancy statuses of each patient; none where the server does not take the search: Conditions decide then."""
    try:
        return (await _of_patients(fhir, "Observation", ids, [("code", f"{LOINC}|{STATUS_CODE}")]))[0]
    except RejectRecord:
        return {}


async def _of_patients(
    fhir: FhirClient, kind: str, ids: Sequence[str], narrowed: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[Json]], set[str]]:
    """Resources about each of these patients, and the patients whose answer a server has cut short."""
    query = [("patient", ",".join(ids)), *narrowed]
    found = await fhir.search(kind, query)
    about = _by_subject(found, kind, ids)
    if not 0 < len(about) < len(ids) and (len(ids) > 1 or not about):
        return about, set()
    if await fhir.count(kind, query) <= len(found):
        return about, set()
    if len(ids) == 1:
        return about, set(ids)
    gate = asyncio.Semaphore(_READS_AT_ONCE)

    async def alone(name: str) -> tuple[dict[str, list[Json]], set[str]]:
        async with gate:
            return await _of_patients(fhir, kind, [name], narrowed)

    answers = await asyncio.gather(*(alone(name) for name in ids))
    return {name: own for one, _ in answers for name, own in one.items()}, {name for _, cut in answers for name in cut}


def _by_subject(resources: Iterable[Json], kind: str, ids: Sequence[str]) -> dict[str, list[Json]]:
    about: dict[str, list[Json]] = {}
    for one in resources:
        name = reference_id(one.get("subject"))
        if name in ids and one.get("resourceType") == kind:
            about.setdefault(str(name), []).append(one)
    return about


async def _with_parents(fhir: FhirClient, ids: set[str]) -> dict[str, Json]:
    """Locations, and above each the ones that lead to its ward."""
    locations = await _by_id(fhir, "Location", sorted(ids))
    for _ in range(PARENTS_FOLLOWED):
        above = {unread_parent(locations, one) for one in ids} - {None}
        read = await _by_id(fhir, "Location", sorted(map(str, above)))
        if not read:
            break
        locations |= read
    return locations


async def _by_id(fhir: FhirClient, kind: str, ids: Sequence[str]) -> dict[str, Json]:
    """Resources by id: one search, and single reads for what a server without lists, or a short page, leaves out."""
    if not ids:
        return {}
    refused: RejectRecord | None = None
    try:
        found = {one["id"]: one for one in await fhir.search(kind, {"_id": ",".join(ids)}) if one.get("id") in ids}
    except RejectRecord as error:
        found, refused = {}, error
    gate = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(resource_id: str) -> Json | None:
        async with gate:
            return await fhir.read(kind, resource_id)

    rest = await asyncio.gather(*(read(one) for one in ids if one not in found))
    read_singly = {one["id"]: one for one in rest if one is not None}
    if refused is not None and not read_singly:
        raise refused
    return found | read_singly


def _person(patient: Json) -> Person:
    return Person(changed_at(patient), possible_days(patient.get("birthDate")), patient.get("gender"), _scale(patient))


def _scale(patient: Json) -> int | None:
    """The SpO2 scale: 1 where nobody decided otherwise, None where what was recorded is neither 1 nor 2."""
    stated = [one.get("valueInteger") for one in patient.get("extension", ()) if one.get("url") == SPO2_SCALE_EXTENSION]
    if not stated:
        return 1
    is_plain = all(type(one) is int and one in _SCALES for one in stated) and len(set(stated)) == 1
    return stated[0] if is_plain else None


def _stay(encounter: Json | None, place_id: str | None, locations: Mapping[str, Json]) -> Stay:
    if encounter is None:
        return Stay()
    place = place_in(locations, place_id)
    own = locations.get(place_id or "")
    used = [encounter] if own is None else [encounter, own, *parents(locations, own)]
    return Stay(max(map(changed_at, used)), place.ward, place.bed)


def _codes(condition: Json) -> list[str]:
    return [one["code"] for one in condition.get("code", {}).get("coding", ()) if "code" in one]
