"""Step 5c: the worker that writes Observations to the FHIR service.

An Observation of one instant whose values all came together is created at once, if there is none under its
deterministic id. Every other one (hours, sessions, panels that arrive in pieces, repeated deliveries) is read first
and merged with If-Match. Rows are counted as written, quarantined, filtered, or parked until what they need is
there. Observations whose period has ended are closed by `tick`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.clock import real_microseconds
from pulseweir.errors import MessageError, RejectRecord
from pulseweir.ingest.bundle_sender import BundleSender, Entry, Waits
from pulseweir.ingest.catalog import Mappings
from pulseweir.ingest.fhir_mapping.consciousness import is_by_list, kind_of
from pulseweir.ingest.fhir_mapping.status import PRELIMINARY, closes_at
from pulseweir.ingest.fhir_mapping.templates import ValueTemplate
from pulseweir.ingest.fhir_mapping.values import decimal_text, sample_text
from pulseweir.ingest.identity import Identity, Question
from pulseweir.ingest.observation_closing import Closing
from pulseweir.ingest.observation_entries import (
    Ready,
    etag_of,
    merged_resource,
    new_resource,
    plain_entry,
    put_entry,
    read_entry,
    without_patient_data,
)
from pulseweir.ingest.observation_groups import PendingObservation, Templates, collect
from pulseweir.ingest.settings import ObservationSettings
from pulseweir.records.consciousness import letter_of
from pulseweir.records.topics import MEASUREMENTS
from pulseweir.telemetry import FHIR_BUNDLE_RETRIES, OBSERVATIONS_SAVED
from pulseweir.worker import Handled, Stage, record_id

if TYPE_CHECKING:
    from pulseweir.backends.fhir_answers import BundleAnswer
    from pulseweir.backends.fhir_client import FhirClient

GROUP = "fhir-observations"
WRITTEN = "written"
NO_MAPPING = "filtered:no-fhir-mapping"
SUPERSEDED = "filtered:superseded"
_SECOND = 1_000_000
_CONFLICTS = frozenset({304, 409, 412})
_NEVER_THERE = 404
_UNREADABLE = 500
_ABSENT = frozenset({_NEVER_THERE, 410})


class ObservationStage(Stage):
    """Step 5c: measurements to Observations.

    Args:
        fhir: The FHIR service.
        mappings: Of the catalog and the site.
        identity: Finds a Device whose FHIR id is not its device id.
        settings: How bundles are sent.
        real_clock: Real microseconds, for how long a row has waited.
        house_clock: Microseconds that measurements are timed by, for when a period has ended.
        waits: Time and chance of the sending, replaced in tests.
    """

    topic = MEASUREMENTS
    gather_seconds = 0.2
    tick_seconds = 5.0
    group = GROUP

    def __init__(
        self,
        fhir: "FhirClient",
        mappings: Mappings,
        identity: Identity,
        settings: ObservationSettings | None = None,
        real_clock: Callable[[], int] = real_microseconds,
        house_clock: Callable[[], int] = real_microseconds,
        *,
        waits: Waits | None = None,
    ) -> None:
        self._templates = Templates(mappings)
        self._identity = identity
        self._settings = settings or ObservationSettings()
        self._real_clock = real_clock
        self._house_clock = house_clock
        self._waits = waits or Waits()
        self._sender = BundleSender(fhir, self._settings, self._waits)
        self._closing_microseconds = round(self._settings.closing_seconds * _SECOND)
        self._closing = Closing(fhir, self._sender, house_clock, self._closing_microseconds)
        self._heeds_absence: bool | None = None
        self._created = OBSERVATIONS_SAVED.labels("created")
        self._updated = OBSERVATIONS_SAVED.labels("updated")

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
        there = await self._create([one for one in ready if one.is_plain], handled.outcome)
        await self._merge([one for one in ready if not one.is_plain] + there, handled.outcome)
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

    async def tick(self) -> Handled | None:
        """Close Observations whose period has ended."""
        await self._closing.close_due()
        return None

    # Before the FHIR service is asked

    def _prepare(self, pending: PendingObservation, outcome: Outcome) -> Ready | None:
        found = self._templates.find(pending.version, pending.type)
        if found is None or not pending.samples.keys() <= found[2]:
            error = MessageError(
                "The mapping that made this row has been replaced and none of today's has its type and value."
                " Restore both in the FHIR mapping, then redrive.",
                reason="no-fhir-template",
            )
            _quarantine(pending, error, outcome)
            return None
        template, text, _, judged = found
        try:
            part = pending.part(template)
        except MessageError as error:
            _quarantine(pending, error, outcome)
            return None
        _drop_unreadable(pending, judged, outcome)
        if not pending.rows:
            return None
        return Ready(pending, template, text, part)

    async def _find_devices(self, unknown: Sequence[Ready]) -> None:
        """Ask for Devices whose FHIR id is not their device id: the Observation's id tells that it is not."""
        questions = {
            one.pending.resource_id: Question(one.pending.device_id, one.pending.occurred_at) for one in unknown
        }
        answers = await self._identity.resolve_many(questions.values()) if questions else {}
        for one in unknown:
            found = answers[questions[one.pending.resource_id]].device_resource_id
            one.device_resource_id = found or one.pending.device_id

    # Writing

    async def _create(self, plain: Sequence[Ready], outcome: Outcome) -> list[Ready]:
        """PUT what needs no reading where nothing is; returns what is there already, or may be."""
        if plain and self._heeds_absence is None:
            await self._merge(plain[:1], outcome)
            self._heeds_absence = await self._probe(plain[0].resource_id)
            plain = plain[1:]
        if not self._heeds_absence:
            return list(plain)
        answers = await self._sender.send([plain_entry(one) for one in plain])
        return [one for one, answer in zip(plain, answers, strict=True) if not self._settle(one, answer, outcome)]

    async def _probe(self, resource_id: str) -> bool | None:
        """Whether the service refuses to create over what is there; None when there is nothing to try it with.

        What is written is what was read, so a service that does not refuse changes nothing either.
        """
        (answer,) = await self._sender.send([read_entry(resource_id)])
        if not _is_read(answer):
            return None
        (tried,) = await self._sender.send([put_entry(resource_id, answer.resource, if_absent=True)])
        return tried.status in _CONFLICTS

    async def _merge(self, waiting: Sequence[Ready], outcome: Outcome) -> None:
        """Read, merge and PUT with If-Match; again for those that another writer overtook."""
        for attempt in range(self._settings.merge_attempts):
            if attempt and waiting:
                FHIR_BUNDLE_RETRIES.labels("conflict").inc()
                await self._waits.sleep(self._waits.draw() * 0.1 * 2**attempt)
            waiting = await self._merge_once(waiting, outcome)
        error = RejectRecord(
            "The Observation kept changing at the FHIR service while it was merged. It is tried again; look for"
            " another writer of the same Observation.",
            reason="kept-changing",
        )
        for one in waiting:
            outcome.parked += [_set_aside(row, error) for row in one.pending.rows]

    async def _merge_once(self, waiting: Sequence[Ready], outcome: Outcome) -> list[Ready]:
        stored = await self._sender.send([read_entry(one.resource_id) for one in waiting])
        entries: list[Entry] = []
        sent: list[Ready] = []
        again: list[Ready] = []
        for one, answer in zip(waiting, stored, strict=True):
            if not _is_read(answer) and answer.status not in _ABSENT:
                unread = replace(answer, status=_UNREADABLE) if answer.is_done else answer
                again += [] if self._settle(one, unread, outcome) else [one]
                continue
            entry = self._merged(one, answer, outcome)
            if entry is not None:
                sent.append(one)
                entries.append(entry)
        answers = await self._sender.send(entries)
        again += [one for one, answer in zip(sent, answers, strict=True) if not self._settle(one, answer, outcome)]
        return again

    def _merged(self, one: Ready, read: "BundleAnswer", outcome: Outcome) -> Entry | None:
        """The entry that writes one Observation; None when nothing changes or nothing can."""
        now = self._house_clock()
        stored = read.resource if _is_read(read) else None
        try:
            if stored is None:
                made: dict[str, Any] | None = new_resource(one, now, self._closing_microseconds)
            else:
                made = merged_resource(one, stored, now, self._closing_microseconds)
            if made is not None and made["status"] == PRELIMINARY:
                self._closing.expect(one.resource_id, closes_at(made, self._closing_microseconds))
        except MessageError as error:
            _quarantine(one.pending, error, outcome)
            return None
        if made is None:
            OBSERVATIONS_SAVED.labels("unchanged").inc()
            _count_written(one.pending, outcome)
            return None
        etag = etag_of(stored, read.etag) if stored is not None else None
        return put_entry(one.resource_id, made, etag=etag, if_absent=read.status == _NEVER_THERE)

    def _settle(self, one: Ready, answer: "BundleAnswer", outcome: Outcome) -> bool:
        """Count one answer; False when the Observation has to be read and merged."""
        if answer.is_done:
            (self._created if answer.status == 201 else self._updated).inc()
            _count_written(one.pending, outcome)
            return True
        if answer.status in _CONFLICTS:
            return False
        if answer.is_worth_retrying:
            error = RejectRecord(
                "The FHIR service fails on this Observation while it takes others. It is tried again; if that goes on,"
                " look at the service's own log, then redrive.",
                reason="fhir-failing",
            )
            outcome.parked += [_set_aside(row, error) for row in one.pending.rows]
        elif answer.lacks_reference:
            error = RejectRecord(
                "The FHIR service does not hold what the Observation refers to. Create it, then redrive.",
                reason="reference-missing",
            )
            outcome.parked += [_set_aside(row, error) for row in one.pending.rows]
        else:
            said = without_patient_data(answer.issue_text or "no reason given.", one.pending)
            error = RejectRecord(
                f"The FHIR service refused the Observation with {answer.status}: {said}"
                " Correct the FHIR mapping, then redrive.",
                reason="fhir-refused",
                expression=answer.issue_expression,
            )
            _quarantine(one.pending, error, outcome)
        return True


def _is_read(answer: "BundleAnswer") -> bool:
    return answer.is_done and answer.resource is not None and answer.resource.get("resourceType") == "Observation"


def _drop_unreadable(pending: PendingObservation, judged: Sequence[ValueTemplate], outcome: Outcome) -> None:
    """Quarantine rows whose number is none, or whose level of consciousness nobody understands.

    Their neighbours in the panel or the hour are written.
    """
    for value in judged:
        texts = pending.samples.get(value.value_name)
        if texts and is_by_list(value):
            if any(letter_of(text) is None for text in texts.values()):
                dropped = pending.drop(value.value_name, letter_of)
                outcome.quarantined += [_set_aside(row, _not_understood(value, row)) for row in dropped]
            continue
        if not texts or all(map(_PLAIN_NUMBER, texts.values())):
            continue
        read = decimal_text if value.value_type == "Quantity" else sample_text
        if any(read(text) is None for text in texts.values()):
            dropped = pending.drop(value.value_name, read)
            outcome.quarantined += [_set_aside(row, _no_number(value)) for row in dropped]
        if value.value_type == "SampledData" and value.value_name in pending.samples:
            kept = pending.samples[value.value_name]
            kept.update({instant: read(text) or text for instant, text in kept.items()})


_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII).fullmatch


def _no_number(value: ValueTemplate) -> MessageError:
    return MessageError(
        f"[{value.value_name}]: Error encountered processing value: it is no decimal number."
        " Use valueType String, or correct the device mapping, then redrive.",
        reason="not-a-quantity",
        expression=value.value_name,
    )


def _not_understood(value: ValueTemplate, row: tuple[pa.Table, int]) -> MessageError:
    charted = kind_of(row[0]["text"][row[1]].as_py() or "")
    return MessageError(
        f"[{value.value_name}]: {charted} was charted that is no level of consciousness known here. It counts as not"
        " understood, and what was charted before no longer counts as current. Chart A, C, V, P or U, or its word;"
        " where the list of words has to grow, redrive once it has.",
        reason="consciousness-not-understood",
        expression=value.value_name,
    )


def _count_written(pending: PendingObservation, outcome: Outcome) -> None:
    superseded = sum(pending.superseded.values())
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
