"""Step 5c: the worker that writes Observations to the FHIR service.

An Observation of one instant whose values all came together is a plain PUT on its deterministic id: repeating it
changes nothing. Every other one (hours, sessions, panels that arrive in pieces) is read first and merged with
If-Match. Rows are counted as written, quarantined, filtered, or parked until what they refer to exists.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.clock import real_microseconds
from pulseweir.errors import MessageError, RejectRecord, RetryLater
from pulseweir.ingest.catalog import Mappings
from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.ingest.fhir_mapping.observations import Subject, merged_observation, new_observation
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
from pulseweir.ingest.fhir_mapping.text import ObservationText, Particulars
from pulseweir.ingest.fhir_mapping.values import decimal_text
from pulseweir.ingest.grouping import identifier_value
from pulseweir.ingest.identity import Identity, Question
from pulseweir.ingest.observation_groups import PendingObservation, Templates, collect
from pulseweir.ingest.settings import ObservationSettings
from pulseweir.records.topics import MEASUREMENTS
from pulseweir.worker import Handled, Stage, record_id

if TYPE_CHECKING:
    from pulseweir.backends.fhir_answers import BundleAnswer
    from pulseweir.backends.fhir_client import FhirClient

GROUP = "fhir-observations"
WRITTEN = "written"
NO_MAPPING = "filtered:no-fhir-mapping"
SUPERSEDED = "filtered:superseded"
_SECOND = 1_000_000
_NO_SERVICE = frozenset({404, 405, 410})
_MISSING = re.compile(r"not found|not known|does not exist|unknown reference|referential", re.IGNORECASE)


class _Ready:
    """A pending Observation with what its writing needs."""

    __slots__ = ("device_resource_id", "identifier", "part", "pending", "template", "text")

    def __init__(
        self, pending: PendingObservation, template: FhirTemplate, text: ObservationText | None, part: str
    ) -> None:
        self.pending = pending
        self.template = template
        self.text = text
        self.part = part
        self.device_resource_id = pending.device_id
        self.identifier: str | None = None

    @property
    def identifier_value(self) -> str:
        if self.identifier is not None:
            return self.identifier
        return identifier_value(self.pending.patient_id, self.device_resource_id, self.template.type_name, self.part)

    @property
    def is_plain(self) -> bool:
        return self.text is not None and self.pending.samples.keys() == self.text.names


class ObservationStage(Stage):
    """Step 5c: measurements to Observations.

    Args:
        fhir: The FHIR service.
        mappings: Of the catalog and the site.
        identity: Finds a Device whose FHIR id is not its device id.
        settings: How bundles are sent.
        real_clock: Real microseconds, for how long a row has waited.
    """

    topic = MEASUREMENTS
    gather_seconds = 0.2
    group = GROUP

    def __init__(
        self,
        fhir: "FhirClient",
        mappings: Mappings,
        identity: Identity,
        settings: ObservationSettings | None = None,
        real_clock: Callable[[], int] = real_microseconds,
    ) -> None:
        self._fhir = fhir
        self._templates = Templates(mappings)
        self._identity = identity
        self._settings = settings or ObservationSettings()
        self._real_clock = real_clock
        self._gate = asyncio.Semaphore(self._settings.concurrency)

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Write the Observations of these rows.

        Raises:
            RetryLater: The FHIR service asks to wait or does not answer; writing all of it again changes nothing.
        """
        handled = Handled()
        pending, without = collect(tables.values())
        handled.outcome.count(NO_MAPPING, without)
        ready = [one for one in (self._prepare(item, handled.outcome) for item in pending.values()) if one is not None]
        await self._find_devices([one for one in ready if one.identifier is None])
        plain = [one for one in ready if one.is_plain]
        conflicts = await self._put_plain(plain, handled.outcome)
        await self._merge([one for one in ready if not one.is_plain] + conflicts, handled.outcome)
        return handled

    async def handle_parked(self, rows: pa.Table, first_parked_microseconds: list[int]) -> Handled:
        """Write rows again that referred to something the FHIR service did not hold.

        Raises:
            RetryLater: As `handle`.
        """
        handled = await self.handle({-1: rows})
        since = {
            record_id(MEASUREMENTS, rows.slice(place, 1)): first
            for place, first in enumerate(first_parked_microseconds)
        }
        limit = self._real_clock() - self._settings.reference_wait_seconds * _SECOND
        waiting = handled.outcome.parked
        handled.outcome.parked = [item for item in waiting if since.get(item.record_id, limit) > limit]
        handled.outcome.quarantined += [item for item in waiting if since.get(item.record_id, limit) <= limit]
        return handled

    # Before the FHIR service is asked

    def _prepare(self, pending: PendingObservation, outcome: Outcome) -> _Ready | None:
        found = self._templates.find(pending.version, pending.type)
        if found is None or not pending.samples.keys() <= {value.value_name for _, value in found[0].parts}:
            error = MessageError(
                "The mapping that made this row has been replaced and none of today's has its type and value."
                " Restore both in the FHIR mapping, then redrive.",
                reason="no-fhir-template",
            )
            _quarantine(pending, error, outcome)
            return None
        template, text = found
        try:
            part = pending.part(template)
        except MessageError as error:
            _quarantine(pending, error, outcome)
            return None
        self._drop_non_numbers(pending, template, outcome)
        if not pending.samples:
            return None
        ready = _Ready(pending, template, text, part)
        ready.identifier = pending.is_of(template, pending.device_id, ready.part)
        return ready

    def _drop_non_numbers(self, pending: PendingObservation, template: FhirTemplate, outcome: Outcome) -> None:
        """Quarantine rows whose quantity is no number, so that their neighbours in the panel are written."""
        for _, value in template.parts:
            texts = pending.samples.get(value.value_name)
            if value.value_type != "Quantity" or not texts:
                continue
            if all(text.isdecimal() or decimal_text(text) is not None for text in texts.values()):
                continue
            error = MessageError(
                f"[{value.value_name}]: Error encountered processing value: it is no decimal number."
                " Use valueType String, or correct the device mapping, then redrive.",
                reason="not-a-quantity",
                expression=value.value_name,
            )
            bad = [row for row in pending.rows if row[0]["name"][row[1]].as_py() == value.value_name]
            outcome.quarantined += [_set_aside(row, error) for row in bad]
            pending.rows = [row for row in pending.rows if row not in bad]
            del pending.samples[value.value_name], pending.superseded[value.value_name]

    async def _find_devices(self, unknown: Sequence[_Ready]) -> None:
        """Ask for Devices whose FHIR id is not their device id: the Observation's id tells that it is not."""
        questions = {
            one.pending.resource_id: Question(one.pending.device_id, one.pending.occurred_at) for one in unknown
        }
        answers = await self._identity.resolve_many(questions.values()) if questions else {}
        for one in unknown:
            found = answers[questions[one.pending.resource_id]].device_resource_id
            one.device_resource_id = found or one.pending.device_id

    # Writing

    async def _put_plain(self, plain: Sequence[_Ready], outcome: Outcome) -> list[_Ready]:
        """PUT what needs no reading; returns what met another version."""
        entries = [_entry(one.pending.resource_id, msgspec.Raw(_plain_text(one).encode())) for one in plain]
        conflicts: list[_Ready] = []
        for one, answer in zip(plain, await self._send(entries), strict=True):
            if not self._settle(one, answer, outcome):
                conflicts.append(one)
        return conflicts

    async def _merge(self, waiting: Sequence[_Ready], outcome: Outcome) -> None:
        """Read, merge and PUT with If-Match; again for those that another writer overtook."""
        for _ in range(self._settings.merge_attempts):
            if not waiting:
                return
            stored = await self._read([one.pending.resource_id for one in waiting])
            entries: list[dict[str, Any]] = []
            sent: list[_Ready] = []
            for one in waiting:
                entry = self._merged(one, stored.get(one.pending.resource_id), outcome)
                if entry is not None:
                    sent.append(one)
                    entries.append(entry)
            answers = await self._send(entries)
            waiting = [one for one, answer in zip(sent, answers, strict=True) if not self._settle(one, answer, outcome)]
        if waiting:
            raise RetryLater("Observations kept changing while they were merged; they are merged again.")

    def _merged(
        self, one: _Ready, stored: tuple[dict[str, Any], str | None] | None, outcome: Outcome
    ) -> dict[str, Any] | None:
        """The entry that writes one Observation; None when nothing changes or nothing can."""
        try:
            made = _new(one) if stored is None else _over(one, stored[0])
        except MessageError as error:
            _quarantine(one.pending, error, outcome)
            return None
        if stored is not None and made is stored[0]:
            _count_written(one.pending, outcome)
            return None
        return _entry(one.pending.resource_id, made, stored[1] if stored else None)

    async def _read(self, ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], str | None]]:
        """Stored Observations with their entity tags, by id."""
        answers = await self._send([{"request": {"method": "GET", "url": f"Observation/{name}"}} for name in ids])
        found: dict[str, tuple[dict[str, Any], str | None]] = {}
        for name, answer in zip(ids, answers, strict=True):
            if answer.resource is not None and answer.is_done:
                version = answer.resource.get("meta", {}).get("versionId")
                found[name] = (answer.resource, answer.etag or (f'W/"{version}"' if version else None))
            elif answer.status not in {404, 410}:
                _raise_if_later(answer)
        return found

    async def _send(self, entries: Sequence[dict[str, Any]]) -> "list[BundleAnswer]":
        """One answer an entry, in order, over as many bundles as it takes."""
        size = self._settings.bundle_size
        bundles = [entries[start : start + size] for start in range(0, len(entries), size)]
        answers = await asyncio.gather(*(self._send_bundle(bundle) for bundle in bundles), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [one for answer in answers if not isinstance(answer, BaseException) for one in answer]

    async def _send_bundle(self, entries: Sequence[dict[str, Any]]) -> "list[BundleAnswer]":
        async with self._gate:
            answers = await self._fhir.send_bundle(list(entries))
        if len(entries) > 1 and len({id(answer) for answer in answers}) == 1 and not answers[0].is_done:
            # The bundle was refused as a whole: one entry may be the cause, so look for it by halves.
            _raise_if_later(answers[0], _NO_SERVICE)
            middle = len(entries) // 2
            return await self._send_bundle(entries[:middle]) + await self._send_bundle(entries[middle:])
        return answers

    def _settle(self, one: _Ready, answer: "BundleAnswer", outcome: Outcome) -> bool:
        """Count one answer; False when the Observation has to be read and merged."""
        if answer.is_done:
            _count_written(one.pending, outcome)
            return True
        if answer.status in {409, 412}:
            return False
        _raise_if_later(answer)
        text = answer.issue_text or "no reason given"
        if answer.status == 404 or _MISSING.search(text):
            error = RejectRecord(
                "The FHIR service does not hold what the Observation refers to. Create it, then redrive.",
                reason="reference-missing",
            )
            outcome.parked += [_set_aside(row, error) for row in one.pending.rows]
            return True
        error = RejectRecord(
            f"The FHIR service refused the Observation with {answer.status}: {text}"
            " Correct the FHIR mapping, then redrive.",
            reason="fhir-refused",
        )
        _quarantine(one.pending, error, outcome)
        return True


def _raise_if_later(answer: "BundleAnswer", also: frozenset[int] = frozenset()) -> None:
    """Stop here when the same entry may succeed later: busy, failing, or not letting this house in."""
    if answer.is_worth_retrying or answer.status in {401, 403} or answer.status in also:
        raise RetryLater(
            f"The FHIR service answered {answer.status}. Nothing is lost; look at the service and its credentials.",
            retry_after_seconds=answer.retry_after_seconds,
        )


def _entry(resource_id: str, resource: object, etag: str | None = None) -> dict[str, Any]:
    request = {"method": "PUT", "url": f"Observation/{resource_id}"}
    if etag is not None:
        request["ifMatch"] = etag
    return {"request": request, "resource": resource}


def _plain_text(one: _Ready) -> str:
    pending = one.pending
    text = one.text
    if text is None:
        return ""
    about = Particulars(
        pending.resource_id,
        one.identifier_value,
        pending.patient_id,
        one.device_resource_id,
        pending.encounter_id,
        instant_text(pending.occurred_at),
        instant_text(pending.received_at),
    )
    return text.render(about, pending.texts(), pending.implausible)


def _new(one: _Ready) -> dict[str, Any]:
    pending = one.pending
    subject = Subject(pending.patient_id, one.device_resource_id, pending.encounter_id)
    made = new_observation(
        one.template, one.part, pending.group(one.template), subject, dates=True, implausible=pending.implausible
    )
    return made | {"id": pending.resource_id, "issued": instant_text(pending.received_at)}


def _over(one: _Ready, stored: dict[str, Any]) -> dict[str, Any]:
    pending = one.pending
    return merged_observation(
        one.template, pending.group(one.template), stored, dates=True, implausible=pending.implausible
    )


def _count_written(pending: PendingObservation, outcome: Outcome) -> None:
    superseded = pending.superseded.total()
    outcome.count(SUPERSEDED, superseded)
    outcome.count(WRITTEN, len(pending.rows) - superseded)


def _quarantine(pending: PendingObservation, error: RejectRecord, outcome: Outcome) -> None:
    outcome.quarantined += [_set_aside(row, error) for row in pending.rows]


def _set_aside(where: tuple[pa.Table, int], error: RejectRecord) -> SetAside:
    row = where[0].slice(where[1], 1)
    return SetAside(
        record_id(MEASUREMENTS, row),
        row,
        GROUP,
        error.reason,
        str(error),
        error.template,
        error.expression,
        error.position,
    )
