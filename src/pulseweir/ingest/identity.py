"""Step 5a-b: which Patient a Device belonged to at the time measured, asked of the FHIR service and remembered.

What is remembered is used only while it must still be true: as long as the embedded FHIR store counts no change of a
Device or of its uses, or, with another service, for instants before it was asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pulseweir.clock import real_microseconds
from pulseweir.ingest.device_uses import KnownDevice, wearer
from pulseweir.ingest.identity_create import (
    CREATE_REFUSED,
    DEVICE_UNKNOWN,
    PATIENT_AMBIGUOUS,
    PATIENT_MISMATCH,
    IdentityMaker,
    Made,
)
from pulseweir.ingest.identity_search import IdentitySearch, KnownEncounter, Moment
from pulseweir.ingest.settings import IdentitySettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

Key = TypeVar("Key", bound=Hashable)
Fact = TypeVar("Fact")

PATIENT_UNKNOWN = "patient-unknown"
PATIENT_NOT_NAMED = "patient-not-named"
ENCOUNTER_UNKNOWN = "encounter-unknown"
ENCOUNTER_MISMATCH = "encounter-mismatch"
ENCOUNTER_NOT_NAMED = "encounter-not-named"
REMEDIES = {
    DEVICE_UNKNOWN: "No Device, or more than one, has this device id."
    " Create the Device in the FHIR service, then redrive.",
    PATIENT_UNKNOWN: "No Patient, or more than one, had this device when it measured. Assign it, then redrive:"
    " pulseweir device assign.",
    PATIENT_MISMATCH: "The message names another Patient than the one who had the device when it measured."
    " Correct the assignment (pulseweir device assignments) or the sender, then redrive.",
    PATIENT_NOT_NAMED: "The Device or its Patient is unknown, and the message names no Patient to create."
    " Give the mapping a patientIdExpression, or assign the device; then redrive.",
    PATIENT_AMBIGUOUS: "Several Patients have the identifier the message names."
    " Merge or correct them in the FHIR service, then redrive.",
    ENCOUNTER_UNKNOWN: "No Encounter, or more than one, has the identifier the message names."
    " Create the Encounter, then redrive.",
    ENCOUNTER_MISMATCH: "The Encounter the message names is of another Patient than the one who had the device."
    " Correct the assignment or the sender, then redrive.",
    ENCOUNTER_NOT_NAMED: "The message names no Encounter, and identity.mode LookupWithEncounter wants one."
    " Give the mapping an encounterIdExpression, or set another mode; then redrive.",
    CREATE_REFUSED: "The FHIR service refused the Device or Patient to be created. Correct the ids, then redrive.",
}
"""What to say of each word of `Association.missing`: what is wrong and what to do."""
REJECTED = frozenset({ENCOUNTER_NOT_NAMED, CREATE_REFUSED})
"""Those of them that waiting does not heal: quarantine at once instead of parking."""


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


class Identity:
    """Answers who wore what when, from memory where that cannot be out of date.

    Args:
        fhir: The FHIR service.
        settings: How devices are looked up.
        monotonic: Real seconds that never go back.
        clock: Microseconds of the clock that measurements follow.
        changes: How often Devices and their uses have changed, read before every round of questions; None, or
            an answer of None, where the FHIR service does not say.
    """

    def __init__(
        self,
        fhir: "FhirClient",
        settings: IdentitySettings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = real_microseconds,
        changes: Callable[[], int | None] | None = None,
    ) -> None:
        self._settings = settings or IdentitySettings()
        self._monotonic = monotonic
        self._clock = clock
        self._changes = changes or (lambda: None)
        self._search = IdentitySearch(fhir, self._settings)
        self._maker = IdentityMaker(fhir, self._search, self._settings)
        self._ahead = round(self._settings.ahead_seconds * 1_000_000)
        self._devices: dict[str, KnownDevice] = {}
        self._encounters: dict[str, tuple[KnownEncounter, float]] = {}
        self._strangers: dict[tuple[str, str], tuple[bool, float]] = {}

    async def resolve(
        self,
        device_id: str,
        occurred_at_microseconds: int,
        encounter: str | None = None,
        patient: str | None = None,
    ) -> Association:
        """Who had this device at that instant.

        Raises:
            RetryLater: The FHIR service does not answer.
        """
        question = Question(device_id, occurred_at_microseconds, encounter, patient)
        return (await self.resolve_many([question]))[question]

    async def resolve_many(self, questions: Iterable[Question]) -> dict[Question, Association]:
        """All answers, asking the FHIR service only for what memory cannot answer.

        An association that was in the embedded FHIR store before the call is followed in its answers.

        Raises:
            RetryLater: The FHIR service does not answer; ask all again.
        """
        asked = list(dict.fromkeys(questions))
        moment = Moment(self._monotonic(), self._clock(), self._changes())
        devices, answers = await self._answered(asked, moment)
        if self._settings.mode == "Create":
            await self._make(answers, devices, moment)
        await self._compare_patients(answers, moment)
        await self._link_encounters(answers, moment)
        return answers

    def forget(self, device_id: str) -> None:
        """Ask again for this device next time: its association has changed."""
        self._devices.pop(device_id, None)

    # Devices

    async def _answered(
        self, asked: Sequence[Question], moment: Moment
    ) -> tuple[dict[str, KnownDevice], dict[Question, Association]]:
        """The devices and who wore them, asked anew where memory will not do for one of a device's instants."""
        known: dict[str, KnownDevice] = {}
        answers: dict[Question, Association] = {}
        wanted: dict[str, None] = {}
        ages: dict[str, float | None] = {}
        for question in asked:
            device_id = question.device_id
            if device_id not in ages:
                ages[device_id] = self._age(device_id, moment)
            age = ages[device_id]
            if age is None:
                wanted[device_id] = None
                continue
            device = known[device_id] = self._devices[device_id]
            answers[question] = answer = _worn(question, device)
            if not self._still_holds(device, question.occurred_at_microseconds, answer, age):
                wanted[device_id] = None
        if wanted:
            found = await self._search.devices(list(wanted), moment)
            for device_id, device in found.items():
                known[device_id] = device
                self._remember(device_id, device)
            answers |= {one: _worn(one, found[one.device_id]) for one in asked if one.device_id in found}
        return known, answers

    def _age(self, device_id: str, moment: Moment) -> float | None:
        """Seconds since a device was asked for; None when it must be asked for again, whatever the instant."""
        device = self._devices.get(device_id)
        if device is None or device.generation != moment.generation:
            return None
        age = moment.monotonic - device.asked_at
        return age if age < self._settings.cache_seconds else None

    def _still_holds(self, device: KnownDevice, occurred_at: int, answer: Association, age: float) -> bool:
        if answer.missing is not None:
            return age < self._settings.unknown_cache_seconds
        # Of what came after the asking, only one who is told of every change may speak from memory.
        return device.generation is not None or occurred_at < device.asked_on + self._ahead

    def _remember(self, device_id: str, device: KnownDevice) -> None:
        self._devices.pop(device_id, None)
        self._devices[device_id] = device
        while len(self._devices) > self._settings.cache_devices:
            self._devices.pop(next(iter(self._devices)))

    # Mode Create

    async def _make(
        self, answers: dict[Question, Association], devices: Mapping[str, KnownDevice], moment: Moment
    ) -> None:
        """Make what is missing and answer the questions that lacked it."""
        lacking: dict[str, list[Question]] = {}
        for question, answer in answers.items():
            if answer.missing is None or devices[question.device_id].is_managed:
                continue
            if question.patient and question.patient.strip():
                lacking.setdefault(question.device_id, []).append(question)
            else:
                answers[question] = answer._replace(missing=PATIENT_NOT_NAMED)
        made = await _all_of(self._make_for(device_id, share, moment) for device_id, share in lacking.items())
        for part in made:
            answers |= part

    async def _make_for(
        self, device_id: str, questions: Sequence[Question], moment: Moment
    ) -> dict[Question, Association]:
        """One device's questions, one named patient after the other: the first gets the device."""
        made: dict[str, Made] = {}
        for named in dict.fromkeys(str(question.patient) for question in questions):
            made[named] = await self._maker.ensure(device_id, named)
            device_resource_id, patient_id, _ = made[named]
            if device_resource_id is not None:
                self._remember(
                    device_id, KnownDevice(device_resource_id, (), patient_id, moment.monotonic, moment.clock)
                )
        return {
            question: Association(one.device_resource_id, one.patient_id, None, one.fault)
            for question in questions
            for one in [made[str(question.patient)]]
        }

    # Patient and Encounter that the message names

    async def _compare_patients(self, answers: dict[Question, Association], moment: Moment) -> None:
        """Withdraw answers whose message is known to speak of somebody else."""
        if self._settings.compatibility == "strict":
            return
        pairs = {
            question: (answer.patient_id, question.patient)
            for question, answer in answers.items()
            if question.patient and answer.patient_id and answer.missing is None
        }
        strangers = await self._recall(
            self._strangers, set(pairs.values()), lambda pair: self._search.names_another(*pair), bool, moment
        )
        for question, pair in pairs.items():
            if strangers[pair]:
                answers[question] = Association(answers[question].device_resource_id, None, None, PATIENT_MISMATCH)

    async def _link_encounters(self, answers: dict[Question, Association], moment: Moment) -> None:
        wants_one = self._settings.mode == "LookupWithEncounter"
        named = {question.encounter for question in answers if question.encounter}
        if not named and not wants_one:
            return
        found = await self._recall(
            self._encounters, named, self._search.encounter, lambda one: one.resource_id is None, moment
        )
        for question, answer in answers.items():
            if question.encounter and answer.missing is None:
                answers[question] = self._linked(answer, found[question.encounter])
            elif wants_one and not question.encounter:
                answers[question] = answer._replace(patient_id=None, missing=ENCOUNTER_NOT_NAMED)

    def _linked(self, answer: Association, encounter: KnownEncounter) -> Association:
        if encounter.resource_id is None:
            return answer._replace(missing=ENCOUNTER_UNKNOWN)
        is_others = encounter.patient_id not in {None, answer.patient_id}
        if is_others and self._settings.compatibility != "strict":
            return answer._replace(missing=ENCOUNTER_MISMATCH)
        return answer._replace(encounter_id=encounter.resource_id)

    async def _recall(
        self,
        memory: dict[Key, tuple[Fact, float]],
        keys: Iterable[Key],
        ask: Callable[[Key], Awaitable[Fact]],
        is_doubtful: Callable[[Fact], bool],
        moment: Moment,
    ) -> dict[Key, Fact]:
        """A fact for every key, from memory where it is fresh; doubtful ones are asked again sooner."""
        facts: dict[Key, Fact] = {}
        wanted: list[Key] = []
        for key in keys:
            held = memory.get(key)
            limit = 0.0
            if held is not None:
                soon = is_doubtful(held[0])
                limit = self._settings.unknown_cache_seconds if soon else self._settings.cache_seconds
            if held is not None and moment.monotonic - held[1] < limit:
                facts[key] = held[0]
            else:
                wanted.append(key)
        facts |= dict(zip(wanted, await _all_of(ask(key) for key in wanted), strict=True))
        memory.update({key: (facts[key], moment.monotonic) for key in wanted})
        while len(memory) > self._settings.cache_devices:
            memory.pop(next(iter(memory)))
        return facts


def _worn(question: Question, device: KnownDevice) -> Association:
    if device.resource_id is None:
        return Association(None, None, None, DEVICE_UNKNOWN)
    patient_id = wearer(device, question.occurred_at_microseconds)
    return Association(device.resource_id, patient_id, None, None if patient_id else PATIENT_UNKNOWN)


async def _all_of(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """All results, once all have ended; the first failure of any."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
