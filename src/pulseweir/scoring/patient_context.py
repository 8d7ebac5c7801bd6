"""Step 7: who the patient of a measurement is: age, sex, ward, bed, SpO2 scale, conditions; from FHIR, cached."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import structlog

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import real_microseconds
from pulseweir.errors import PulseweirError, RetryLater
from pulseweir.scoring.context_reading import (
    Illness,
    Part,
    PartReader,
    Person,
    Stay,
    read_illnesses,
    read_people,
    read_stays,
)

_IDS_IN_ONE_SEARCH = 50
_LONGEST_PAUSE_SECONDS = 60.0
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a resource of another shape than R4's raises."""
_READERS: Mapping[type[Part], PartReader] = {Person: read_people, Stay: read_stays, Illness: read_illnesses}


@dataclass(frozen=True, slots=True)
class PatientContext:
    """What scoring may know of a patient; no name, address or identifier.

    Attributes:
        version: Newest change of any resource it was read from, microseconds, and later than that of any other
            context of the patient handed out before; 0 when nothing is known yet.
        born: First and last day on which the patient can be born; None when unknown.
        sex: FHIR administrative gender, None when unknown.
        ward: Name of the ward's Location.
        bed: Name of the bed's Location.
        spo2_scale: 1, or 2 on a clinician's recorded decision; None while nobody could read it.
        conditions: Codes of active Conditions, in order.
        pregnant: By an active Condition or a pregnancy status; None while nobody could read the Conditions.
        is_read: Whether all of it was read.
    """

    version: int = 0
    born: tuple[date, date] | None = None
    sex: str | None = None
    ward: str | None = None
    bed: str | None = None
    spo2_scale: int | None = None
    conditions: tuple[str, ...] = ()
    pregnant: bool | None = None
    is_read: bool = False

    def says_the_same(self, other: "PatientContext") -> bool:
        """Whether another context tells the same of the patient, whatever its version."""
        return replace(self, version=0, is_read=False) == replace(other, version=0, is_read=False)


UNKNOWN = PatientContext()


@dataclass(slots=True)
class _Known:
    """One patient: the parts as last read, and the context they make.

    Attributes:
        parts: By kind; a part that could not be read again stays as it was.
        context: Made of them.
        handed_out: The context that readers last got.
        read_again_at: Loop seconds.
        failures: Reads in a row that failed.
    """

    parts: dict[type[Part], Part] = field(default_factory=dict)
    context: PatientContext = UNKNOWN
    handed_out: PatientContext = UNKNOWN
    read_again_at: float = float("-inf")
    failures: int = 0

    def take(self, part: Part) -> None:
        """Put a part that was read in the place of what was known of it.

        What differs from what readers got has a later version, whatever the resources it comes from: the Encounter
        that decides now may have been changed before the one that decided until now.
        """
        self.parts[type(part)] = part
        made = _context(self.parts)
        before = self.handed_out
        if made.says_the_same(before):
            version = max(made.version, before.version)
        else:
            version = made.version if made.version > before.version else before.version + 1
        self.context = replace(made, version=version)

    def hand_out(self) -> PatientContext:
        """The context, remembered as what readers know."""
        self.handed_out = self.context
        return self.context


class ContextCache:
    """Patient contexts by id: kept for a while, refreshed behind the reader's back, old rather than none.

    A reader waits only for patients never read before, at most `wait_seconds`, and not at all while the FHIR service
    does not answer. What can be read is used, whatever else cannot; that is tried again, ever more seldom.

    Args:
        fhir: The FHIR service.
        keep_seconds: A context is read again after so long.
        wait_seconds: A reader waits at most so long.
        now: Microseconds of the house clock, by which periods have begun and ended.
    """

    def __init__(
        self, fhir: FhirClient, *, keep_seconds: float, wait_seconds: float, now: Callable[[], int] = real_microseconds
    ) -> None:
        self._fhir, self._now = fhir, now
        self._keep_seconds, self._wait_seconds = keep_seconds, wait_seconds
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._is_down = False
        self._not_before = float("-inf")
        self._told: set[str] = set()

    async def contexts(self, patient_ids: Sequence[str]) -> Mapping[str, PatientContext]:
        """The context of each patient as far as it is known now."""
        was_down = self._is_down
        self._refresh_due(patient_ids)
        cold = {self._reading[one] for one in patient_ids if one in self._reading and not self._is_known(one)}
        if cold and not was_down:
            await asyncio.wait(cold, timeout=self._wait_seconds)
        return self._contexts(patient_ids)

    def latest(self, patient_ids: Sequence[str]) -> Mapping[str, PatientContext]:
        """As `contexts`, without waiting for anybody."""
        self._refresh_due(patient_ids)
        return self._contexts(patient_ids)

    async def close(self) -> None:
        """Give up what is being read."""
        tasks = set(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _contexts(self, patient_ids: Iterable[str]) -> dict[str, PatientContext]:
        return {one: self._known[one].hand_out() if one in self._known else UNKNOWN for one in patient_ids}

    def _is_known(self, patient_id: str) -> bool:
        return patient_id in self._known and bool(self._known[patient_id].parts)

    def _refresh_due(self, patient_ids: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            return
        due = [
            one
            for one in patient_ids
            if one not in self._reading and (one not in self._known or self._known[one].read_again_at <= now)
        ]
        for start in range(0, len(due), _IDS_IN_ONE_SEARCH):
            chunk = due[start : start + _IDS_IN_ONE_SEARCH]
            task = asyncio.create_task(self._refresh(chunk))
            self._reading |= dict.fromkeys(chunk, task)

    async def _refresh(self, patient_ids: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        try:
            failed = await asyncio.gather(*(self._read(kind, patient_ids) for kind in _READERS))
            self._is_down = all(failed)
            if self._is_down:
                self._not_before = loop.time() + self._wait_seconds
            for one in patient_ids:
                known = self._known.setdefault(one, _Known())
                known.failures = known.failures + 1 if any(failed) or Person not in known.parts else 0
                known.read_again_at = loop.time() + self._pause_seconds(known.failures)
        finally:
            for one in patient_ids:
                self._reading.pop(one, None)

    async def _read(self, kind: type[Part], patient_ids: Sequence[str]) -> bool:
        """Read one part of some patients and use it at once; True when the service did not answer."""
        try:
            found = await _READERS[kind](self._fhir, patient_ids, self._now())
        except (PulseweirError, *_MALFORMED) as error:
            self._tell(f"{kind.__name__}-unread", "patient_context_unread", part=kind.__name__, error=error)
            # A service that refuses has answered: it is asked again when the rest is.
            return isinstance(error, RetryLater)
        self._told.discard(f"{kind.__name__}-unread")
        for one, part in found.items():
            self._known.setdefault(one, _Known()).take(part)
        if any(isinstance(part, Person) and part.spo2_scale is None for part in found.values()):
            self._tell("scale", "spo2_scale_unreadable", remedy="Record valueInteger 1 or 2 in the extension.")
        return False

    def _tell(self, what: str, event: str, **facts: object) -> None:
        """Log something once, until it is over."""
        if what not in self._told:
            self._told.add(what)
            plain = {name: type(fact).__name__ if isinstance(fact, Exception) else fact for name, fact in facts.items()}
            structlog.get_logger().warning(event, **plain)

    def _pause_seconds(self, failures: int) -> float:
        if not failures:
            return self._keep_seconds
        first = self._wait_seconds or 1.0
        return min(first * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS, self._keep_seconds)


def _context(parts: Mapping[type[Part], Part]) -> PatientContext:
    """The parts together; what was not read stays unknown."""
    made = PatientContext(is_read=parts.keys() == _READERS.keys())
    for part in parts.values():
        if isinstance(part, Person):
            made = replace(made, born=part.born, sex=part.sex, spo2_scale=part.spo2_scale)
        elif isinstance(part, Stay):
            made = replace(made, ward=part.ward, bed=part.bed)
        else:
            made = replace(made, conditions=part.codes, pregnant=part.pregnant)
    return replace(made, version=max([1, *(part.changed_at for part in parts.values())]))
