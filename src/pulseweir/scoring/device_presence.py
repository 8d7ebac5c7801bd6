"""Step 10: whether a patient is here and has the device: an assignment and an Encounter in progress, from FHIR, cached.

Who had a device follows step 5a: a DeviceUseStatement says from when to when; only where a Device has none does its
own ``patient`` count. A device that FHIR does not know took its patient from the message, and counts as assigned.
Source: HL7 FHIR R4, DeviceUseStatement, http://hl7.org/fhir/R4/deviceusestatement.html, and Encounter,
http://hl7.org/fhir/R4/encounter.html.
"""

import asyncio
import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock, to_microseconds
from pulseweir.errors import PulseweirError, RejectRecord
from pulseweir.scoring.device_intake import Key

Json = dict[str, Any]
_TOGETHER = 50
_AT_ONCE = 8
_NO_USE = frozenset({"entered-in-error", "intended"})
_PAUSE_SECONDS = 5.0
_KEPT = 20_000


class DevicePresence:
    """Asks in the background and answers from memory: nobody waits for the FHIR service.

    Args:
        fhir: The FHIR service.
        clock: The house's clock: when an assignment holds.
        device_system: System of the devices' identifiers; "" for any.
        keep_seconds: Real seconds after which an answer is asked for again.
        without_encounter: Whether a patient without any Encounter is here.
    """

    def __init__(
        self, fhir: FhirClient, clock: Clock, *, device_system: str, keep_seconds: float, without_encounter: bool
    ) -> None:
        self._fhir, self._clock = fhir, clock
        self._system, self._keep_seconds = device_system, keep_seconds
        self._without_encounter = without_encounter
        self._known: dict[Key, tuple[bool, float]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._not_before = float("-inf")
        self._is_down = False

    def present(self, keys: Iterable[Key]) -> Mapping[Key, bool | None]:
        """What is known of each now; None while it is not known. What is old or missing is asked for meanwhile."""
        now = asyncio.get_running_loop().time()
        wanted = list(keys)
        old = [key for key in wanted if key not in self._known or self._known[key][1] + self._keep_seconds <= now]
        if old and now >= self._not_before and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(old[: _TOGETHER * _AT_ONCE]))
        # Old answers say nothing while nobody can renew them: a discharge may have come since.
        fresh = now - 5 * self._keep_seconds
        found = {key: self._known.get(key) for key in wanted}
        return {key: one[0] if one is not None and one[1] >= fresh else None for key, one in found.items()}

    async def settle(self) -> None:
        """Wait until what is being asked for is known."""
        if self._asking is not None:
            await asyncio.gather(self._asking, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is being asked for."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self, keys: list[Key]) -> None:
        loop = asyncio.get_running_loop()
        try:
            for start in range(0, len(keys), _TOGETHER):
                chunk = keys[start : start + _TOGETHER]
                here, worn = await asyncio.gather(
                    self._here(sorted({patient for patient, _ in chunk})),
                    self._wearers(sorted({device for _, device in chunk})),
                )
                for patient, device in chunk:
                    assigned = device not in worn or worn[device] == patient
                    self._known[patient, device] = (assigned and patient in here, loop.time())
            self._is_down = False
        except PulseweirError as error:
            if not self._is_down:
                structlog.get_logger().warning("device_presence_unread", error=type(error).__name__)
            self._is_down, self._not_before = True, loop.time() + _PAUSE_SECONDS
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]

    async def _here(self, patients: list[str]) -> set[str]:
        """Patients with an Encounter in progress, and, where that counts, those without any."""
        try:
            found = await self._fhir.search("Encounter", [("patient", ",".join(patients)), ("status", "in-progress")])
        except RejectRecord:
            return set(patients) if self._without_encounter else set()
        named = {_id_of(one.get("subject")) for one in found if one.get("status") == "in-progress"}
        here = {patient for patient in patients if patient in named}
        if not self._without_encounter:
            return here
        rest = [patient for patient in patients if patient not in here]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def has_none(patient: str) -> bool:
            async with gate:
                found = await self._fhir.search("Encounter", [("patient", patient), ("_count", "1")], limit=1)
                return not found

        none = await asyncio.gather(*map(has_none, rest))
        return here | {patient for patient, is_without in zip(rest, none, strict=True) if is_without}

    async def _wearers(self, devices: list[str]) -> dict[str, str | None]:
        """Who has each device now; None for nobody or for two. Devices that FHIR does not know are absent."""
        token = ",".join(f"{self._system}|{_escaped(one)}" if self._system else _escaped(one) for one in devices)
        found = await self._fhir.search("Device", [("identifier", token), ("_count", "500")])
        by_id: dict[str, str] = {}
        wearers: dict[str, str | None] = {}
        for resource in found:
            for value in _identifiers(resource, self._system) & set(devices):
                by_id[str(resource.get("id"))] = value
                if "patient" in resource:
                    wearers[value] = _id_of(resource["patient"])
        if not by_id:
            return {}
        references = ",".join(f"Device/{one}" for one in sorted(by_id))
        statements = await self._fhir.search("DeviceUseStatement", [("device", references), ("_count", "500")])
        now = self._clock.now_microseconds()
        said: dict[str, set[str]] = {}
        for statement in statements:
            device = by_id.get(_id_of(statement.get("device")) or "")
            if device is not None:
                patients = said.setdefault(device, set())
                patient = _id_of(statement.get("subject"))
                if patient and is_worn(statement, now):
                    patients.add(patient)
        return wearers | {device: next(iter(who)) if len(who) == 1 else None for device, who in said.items()}


def is_worn(statement: Json, now: int) -> bool:
    """Whether a DeviceUseStatement says that its patient has the device at that instant (microseconds)."""
    if statement.get("status") in _NO_USE:
        return False
    moment = statement.get("timingDateTime")
    period = statement.get("timingPeriod") or ({"start": moment, "end": moment} if moment else None)
    if not isinstance(period, dict):
        return False
    try:
        start = _bound(str(period["start"]), latest=False) if period.get("start") else now
        end = _bound(str(period["end"]), latest=True) if period.get("end") else now
    except (ValueError, OverflowError):
        return False
    return start <= now <= end


def _bound(text: str, *, latest: bool) -> int:
    """First or last microsecond a FHIR dateTime may mean."""
    if "T" in text:
        instant = datetime.fromisoformat(text)
        return to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    year, month, day = (*map(int, text.split("-")), 0, 0)[:3]
    if not latest:
        return to_microseconds(datetime(year, month or 1, day or 1, tzinfo=UTC))
    month = month or 12
    day = day or monthrange(year, month)[1]
    return to_microseconds(datetime(year, month, day, 23, 59, 59, 999_999, tzinfo=UTC))


def _id_of(reference: object) -> str | None:
    text = reference.get("reference") if isinstance(reference, dict) else None
    return text.split("/_history/")[0].rpartition("/")[2] if isinstance(text, str) else None


def _identifiers(resource: Json, system: str) -> set[str]:
    return {
        str(one["value"])
        for one in resource.get("identifier") or []
        if isinstance(one, dict) and "value" in one and (not system or one.get("system") == system)
    }


def _escaped(value: str) -> str:
    """A search value with the characters escaped that would split it."""
    return re.sub(r"([\\,$|])", r"\\\1", value)
