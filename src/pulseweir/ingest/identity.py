"""Step 5a-b: which Patient a Device belonged to at the time measured, asked of the FHIR service and remembered.

A DeviceUseStatement says from when to when a device measured whom; only where a Device has none does its own
``patient`` count. A device that two patients had at one instant is nobody's: no answer is better than a wrong one.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pulseweir.errors import FhirRefused, RetryLater
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, ExpressionFault, parse_instant
from pulseweir.ingest.settings import IdentitySettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

DEVICE_UNKNOWN = "device-unknown"
PATIENT_UNKNOWN = "patient-unknown"
ENCOUNTER_UNKNOWN = "encounter-unknown"
PATIENT_MISMATCH = "patient-mismatch"
PATIENT_NOT_NAMED = "patient-not-named"
ENCOUNTER_NOT_NAMED = "encounter-not-named"
CREATE_REFUSED = "create-refused"
REMEDIES = {
    DEVICE_UNKNOWN: "No Device has this device id. Create the Device in the FHIR service, then redrive.",
    PATIENT_UNKNOWN: "No Patient had this device when it measured. Assign it, then redrive.",
    ENCOUNTER_UNKNOWN: "No Encounter has the identifier the message names. Create the Encounter, then redrive.",
    PATIENT_MISMATCH: "The message names another Patient than the one who had the device when it measured."
    " Correct the assignment (pulseweir device assignments) or the sender, then redrive.",
    PATIENT_NOT_NAMED: "The Device or its Patient is unknown, and the message names no Patient to create."
    " Give the mapping a patientIdExpression, or assign the device; then redrive.",
    ENCOUNTER_NOT_NAMED: "The message names no Encounter, and identity.mode LookupWithEncounter wants one."
    " Give the mapping an encounterIdExpression, or set another mode; then redrive.",
    CREATE_REFUSED: "The FHIR service refused the Device or Patient to be created. Correct the ids, then redrive.",
}
"""What to say of each word of `Association.missing`: what is wrong and what to do."""
REJECTED = frozenset({ENCOUNTER_NOT_NAMED, CREATE_REFUSED})
"""Those of them that waiting does not heal: quarantine at once instead of parking."""
_LEGAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_NO_SERVICE = frozenset({401, 403, 404, 405})
_NO_USE = frozenset({"entered-in-error", "intended"})
_MONTHS_END = "12-31"


class Question(NamedTuple):
    """Who wore this device then?

    Attributes:
        device_id: As the mapping found it.
        occurred_at_microseconds: When it measured.
        encounter: Identifier of the encounter the message names, if it does.
        patient: Identifier of the patient the message names, if it does.
    """

    device_id: str
    occurred_at_microseconds: int
    encounter: str | None = None
    patient: str | None = None


class Association(NamedTuple):
    """The answer.

    Attributes:
        device_resource_id: FHIR id of the Device; None when unknown.
        patient_id: FHIR id of the Patient; None when unknown.
        encounter_id: FHIR id of the Encounter; None when not asked for or unknown.
        missing: Why there is no answer, a key of `REMEDIES`; None when there is one.
    """

    device_resource_id: str | None
    patient_id: str | None
    encounter_id: str | None
    missing: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """One span in which a patient had a device; microseconds, both ends included."""

    patient_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """What the FHIR service said about a device.

    Attributes:
        resource_id: FHIR id of the Device; None when there is none.
        uses: Its spans.
        patient_id: Whom the Device itself names, used where it has no spans.
        asked_at: When this was asked, monotonic seconds.
    """

    resource_id: str | None
    uses: tuple[Use, ...]
    patient_id: str | None
    asked_at: float


def wearer(device: KnownDevice, occurred_at: int) -> str | None:
    """The one patient who had the device at that instant; None for nobody or for two."""
    if not device.uses:
        return device.patient_id
    covering = [use for use in device.uses if use.start <= occurred_at <= use.end]
    if len({use.patient_id for use in covering}) > 1:
        # One span may end at the very instant the next begins: the new one counts.
        covering = [use for use in covering if use.end != occurred_at or use.start == occurred_at]
    patients = {use.patient_id for use in covering}
    return patients.pop() if len(patients) == 1 else None


def read_use(statement: dict[str, Any]) -> Use | None:
    """The span of a DeviceUseStatement; None when it does not say that a Patient had the device."""
    patient_id = reference_id(statement.get("subject"), "Patient")
    if patient_id is None or statement.get("status") in _NO_USE:
        return None
    period = statement.get("timingPeriod")
    if period is None and isinstance(statement.get("timingDateTime"), str):
        period = {"start": statement["timingDateTime"], "end": statement["timingDateTime"]}
    if not isinstance(period, dict):
        return None
    try:
        start = _bound(period["start"], latest=False) if period.get("start") else FIRST_INSTANT
        end = _bound(period["end"], latest=True) if period.get("end") else LAST_INSTANT
    except ExpressionFault:
        return None
    return Use(patient_id, start, end)


def _bound(text: str, *, latest: bool) -> int:
    """First or last microsecond a FHIR dateTime may mean; a text without a time covers its whole day or longer."""
    if "T" in text:
        return parse_instant(text)
    year, _, rest = text.partition("-")
    if not latest:
        return parse_instant(f"{year}-{rest or '01-01'}" if "-" in rest or not rest else f"{year}-{rest}-01")
    if not rest:
        return parse_instant(f"{year}-{_MONTHS_END}T23:59:59.999999Z")
    if "-" in rest:
        return parse_instant(f"{text}T23:59:59.999999Z")
    return _last_of_month(int(year), int(rest))


def _last_of_month(year: int, month: int) -> int:
    following = f"{year + month // 12:04d}-{month % 12 + 1:02d}-01"
    return LAST_INSTANT if year == 9_999 and month == 12 else parse_instant(following) - 1


def reference_id(reference: object, resource_type: str) -> str | None:
    """The logical id of a reference to a resource of that type; None for anything else."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        return None
    kind, _, logical = text.split("/_history/")[0].rpartition("/")
    is_right = kind.rpartition("/")[2] == resource_type and _LEGAL_ID.fullmatch(logical)
    return logical if is_right else None


class Identity:
    """Answers who wore what when, from memory where it is fresh.

    Args:
        fhir: The FHIR service.
        settings: How devices are looked up.
        monotonic: Real seconds that never go back.
    """

    def __init__(
        self,
        fhir: "FhirClient",
        settings: IdentitySettings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fhir = fhir
        self._settings = settings or IdentitySettings()
        self._monotonic = monotonic
        self._devices: dict[str, KnownDevice] = {}
        self._encounters: dict[str, tuple[str | None, float]] = {}
        self._gate = asyncio.Semaphore(self._settings.concurrency)

    async def resolve(self, device_id: str, occurred_at_microseconds: int, encounter: str | None = None) -> Association:
        """Who had this device at that instant.

        Raises:
            RetryLater: The FHIR service does not answer.
        """
        question = Question(device_id, occurred_at_microseconds, encounter)
        return (await self.resolve_many([question]))[question]

    async def resolve_many(self, questions: Iterable[Question]) -> dict[Question, Association]:
        """All answers, asking the FHIR service once for each device that memory cannot answer for.

        Raises:
            RetryLater: The FHIR service does not answer; ask all again.
        """
        asked = list(dict.fromkeys(questions))
        now = self._monotonic()
        devices = {question.device_id for question in asked if not self._is_answered(question, now)}
        encounters = {
            question.encounter for question in asked if question.encounter and self._is_stale(question.encounter, now)
        }
        asking = [self._ask_device(device_id, now) for device_id in devices]
        asking += [self._ask_encounter(encounter, now) for encounter in encounters]
        for failure in await asyncio.gather(*asking, return_exceptions=True):
            if failure is not None:
                raise failure
        return {question: self._answer(question) for question in asked}

    def forget(self, device_id: str) -> None:
        """Ask again for this device next time: its association has changed."""
        self._devices.pop(device_id, None)

    def _is_answered(self, question: Question, now: float) -> bool:
        known = self._devices.get(question.device_id)
        if known is None:
            return False
        is_settled = known.resource_id is not None and wearer(known, question.occurred_at_microseconds) is not None
        limit = self._settings.cache_seconds if is_settled else self._settings.unknown_cache_seconds
        return now - known.asked_at < limit

    def _is_stale(self, encounter: str, now: float) -> bool:
        found = self._encounters.get(encounter)
        if found is None:
            return True
        limit = self._settings.cache_seconds if found[0] else self._settings.unknown_cache_seconds
        return now - found[1] >= limit

    def _answer(self, question: Question) -> Association:
        known = self._devices[question.device_id]
        if known.resource_id is None:
            return Association(None, None, None, DEVICE_UNKNOWN)
        patient_id = wearer(known, question.occurred_at_microseconds)
        if patient_id is None:
            return Association(known.resource_id, None, None, PATIENT_UNKNOWN)
        if not question.encounter:
            return Association(known.resource_id, patient_id, None, None)
        encounter_id = self._encounters[question.encounter][0]
        return Association(known.resource_id, patient_id, encounter_id, None if encounter_id else ENCOUNTER_UNKNOWN)

    async def _ask_device(self, device_id: str, now: float) -> None:
        async with self._gate:
            self._remember(device_id, await self._fetch(device_id, now))

    def _remember(self, device_id: str, known: KnownDevice) -> None:
        self._devices.pop(device_id, None)
        self._devices[device_id] = known
        while len(self._devices) > self._settings.cache_devices:
            self._devices.pop(next(iter(self._devices)))

    async def _fetch(self, device_id: str, now: float) -> KnownDevice:
        system = self._settings.device_identifier_system
        token = f"{system}|{_escaped(device_id)}" if system else _escaped(device_id)
        devices = await self._search("Device", "identifier", token)
        if len(devices) != 1:
            return KnownDevice(None, (), None, now)
        resource_id = str(devices[0]["id"])
        statements = await self._search("DeviceUseStatement", "device", f"Device/{resource_id}")
        uses = tuple(use for use in map(read_use, statements) if use is not None)
        # A Device whose every statement is unusable has statements all the same: its own patient must not stand in.
        fallback = None if statements else reference_id(devices[0].get("patient"), "Patient")
        return KnownDevice(resource_id, uses, fallback, now)

    async def _search(self, resource_type: str, name: str, value: str) -> list[dict[str, Any]]:
        """All matches; none where the service will not search for such a value.

        Raises:
            RetryLater: The service does not answer, or lets nobody search: no fault of the message.
        """
        try:
            return await self._fhir.search(resource_type, [(name, value)])
        except FhirRefused as refused:
            if refused.status in _NO_SERVICE:
                raise RetryLater(
                    f"The FHIR service refuses to search {resource_type} ({refused.status})."
                    " Check its base URL and the credentials."
                ) from None
            return []

    async def _ask_encounter(self, encounter: str, now: float) -> None:
        async with self._gate:
            found = await self._search("Encounter", "identifier", _escaped(encounter))
        if len(self._encounters) >= self._settings.cache_devices:
            self._encounters.clear()
        self._encounters[encounter] = (str(found[0]["id"]) if len(found) == 1 else None, now)


def _escaped(value: str) -> str:
    """A search value with the characters escaped that would split it."""
    return re.sub(r"([\\,$|])", r"\\\1", value)
