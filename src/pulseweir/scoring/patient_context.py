"""Step 7: who the patient of a measurement is: age, sex, ward, bed, SpO2 scale, conditions; from FHIR, cached."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import structlog

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import to_microseconds
from pulseweir.errors import PulseweirError, RejectRecord
from pulseweir.records.codes import SPO2_SCALE_EXTENSION

Json = dict[str, Any]
_IDS_IN_ONE_SEARCH = 50
_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PatientContext:
    """What scoring may know of a patient; no name, address or identifier.

    Attributes:
        version: Newest change of any resource it was read from, microseconds; 0 when nothing is known yet.
        birth_date: None when unknown.
        sex: FHIR administrative gender, None when unknown.
        ward: Name of the ward's Location.
        bed: Name of the bed's Location.
        spo2_scale: 1, or 2 on a clinician's recorded decision.
        conditions: Codes of active Conditions, in order.
    """

    version: int = 0
    birth_date: date | None = None
    sex: str | None = None
    ward: str | None = None
    bed: str | None = None
    spo2_scale: int = 1
    conditions: tuple[str, ...] = ()


UNKNOWN = PatientContext()


class ContextCache:
    """Patient contexts by id: kept for a while, refreshed behind the reader's back, old rather than none.

    A reader waits only for patients never read before, at most `wait_seconds`, and not at all while the FHIR service
    does not answer.
    """

    def __init__(self, fhir: FhirClient, *, keep_seconds: float, wait_seconds: float) -> None:
        self._fhir = fhir
        self._keep_seconds, self._wait_seconds = keep_seconds, wait_seconds
        self._contexts: dict[str, PatientContext] = {}
        self._read_at: dict[str, float] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._is_down = False
        self._not_before = float("-inf")

    async def contexts(self, patient_ids: Sequence[str]) -> Mapping[str, PatientContext]:
        """The context of each patient as far as it is known now."""
        now = asyncio.get_running_loop().time()
        old = [one for one in patient_ids if self._read_at.get(one, float("-inf")) + self._keep_seconds <= now]
        was_down = self._is_down
        if now >= self._not_before:
            self._start([one for one in old if one not in self._reading])
        cold = {self._reading[one] for one in old if one not in self._contexts and one in self._reading}
        if cold and not was_down:
            await asyncio.wait(cold, timeout=self._wait_seconds)
        return {one: self._contexts.get(one, UNKNOWN) for one in patient_ids}

    async def close(self) -> None:
        """Give up what is being read."""
        tasks = set(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, patient_ids: Sequence[str]) -> None:
        for start in range(0, len(patient_ids), _IDS_IN_ONE_SEARCH):
            chunk = patient_ids[start : start + _IDS_IN_ONE_SEARCH]
            task = asyncio.create_task(self._refresh(chunk))
            self._reading |= dict.fromkeys(chunk, task)

    async def _refresh(self, patient_ids: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await fetch_contexts(self._fhir, patient_ids)
        except PulseweirError as error:
            if not self._is_down:
                structlog.get_logger().warning("patient_context_unread", error=type(error).__name__)
            self._is_down = True
            self._not_before = loop.time() + self._wait_seconds
        else:
            self._is_down = False
            self._contexts |= found
            self._read_at |= dict.fromkeys(found, loop.time())
        finally:
            for one in patient_ids:
                self._reading.pop(one, None)


async def fetch_contexts(fhir: FhirClient, patient_ids: Sequence[str]) -> dict[str, PatientContext]:
    """Read the contexts of some patients with a handful of searches; unknown patients are left out.

    Raises:
        RetryLater: The FHIR service does not answer.
    """
    patients, encounters, conditions = await asyncio.gather(
        _by_id(fhir, "Patient", patient_ids),
        _of_patients(fhir, "Encounter", patient_ids, ("status", "in-progress")),
        _of_patients(fhir, "Condition", patient_ids, ("clinical-status", "active")),
    )
    beds_of = {_subject(one): _bed_id(one) for one in encounters if one.get("status") == "in-progress"}
    beds = await _by_id(fhir, "Location", sorted({bed for bed in beds_of.values() if bed}))
    wards = await _by_id(fhir, "Location", sorted({part for one in beds.values() if (part := _part_of(one))}))
    contexts = {}
    for patient_id, patient in patients.items():
        bed = beds.get(beds_of.get(patient_id) or "", {})
        ward = wards.get(_part_of(bed) or "", {})
        own = [one for one in conditions if _subject(one) == patient_id]
        encounter = [one for one in encounters if _subject(one) == patient_id]
        contexts[patient_id] = PatientContext(
            version=max(1, *(_changed_at(one) for one in (patient, bed, ward, *own, *encounter))),
            birth_date=_birth_date(patient.get("birthDate")),
            sex=patient.get("gender"),
            ward=ward.get("name"),
            bed=bed.get("name"),
            spo2_scale=_spo2_scale(patient),
            conditions=tuple(dict.fromkeys(code for one in own for code in _codes(one))),
        )
    return contexts


async def _by_id(fhir: FhirClient, kind: str, ids: Sequence[str]) -> dict[str, Json]:
    """Resources by id: one search, and single reads for what a server without lists leaves out."""
    if not ids:
        return {}
    try:
        found = {one["id"]: one for one in await fhir.search(kind, {"_id": ",".join(ids)}) if one.get("id") in ids}
    except RejectRecord:
        found = {}
    gate = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(resource_id: str) -> Json | None:
        async with gate:
            return await fhir.read(kind, resource_id)

    rest = await asyncio.gather(*(read(one) for one in ids if one not in found))
    return found | {one["id"]: one for one in rest if one is not None}


async def _of_patients(fhir: FhirClient, kind: str, ids: Sequence[str], filtered: tuple[str, str]) -> list[Json]:
    """Resources about these patients; none where the server does not know the type or the search."""
    try:
        found = await fhir.search(kind, [("patient", ",".join(ids)), filtered])
    except RejectRecord:
        return []
    return [one for one in found if _subject(one) in ids]


def _subject(resource: Json) -> str:
    return str(resource.get("subject", {}).get("reference", "")).rpartition("/")[2]


def _bed_id(encounter: Json) -> str | None:
    for one in encounter.get("location", []):
        reference = one.get("location", {}).get("reference", "")
        if reference and one.get("status", "active") == "active":
            return str(reference).rpartition("/")[2]
    return None


def _part_of(location: Json) -> str | None:
    reference = location.get("partOf", {}).get("reference")
    return str(reference).rpartition("/")[2] if reference else None


def _changed_at(resource: Json) -> int:
    text = resource.get("meta", {}).get("lastUpdated")
    return to_microseconds(datetime.fromisoformat(text)) if text else 0


def _birth_date(text: str | None) -> date | None:
    """A FHIR date; where only year or month are known, their first day."""
    if not text:
        return None
    try:
        return date.fromisoformat((text + "-01-01")[:10])
    except ValueError:
        return None


def _spo2_scale(patient: Json) -> int:
    scales: Iterable[object] = (
        one.get("valueInteger") for one in patient.get("extension", []) if one.get("url") == SPO2_SCALE_EXTENSION
    )
    return 2 if 2 in scales else 1


def _codes(condition: Json) -> list[str]:
    return [one["code"] for one in condition.get("code", {}).get("coding", []) if "code" in one]
