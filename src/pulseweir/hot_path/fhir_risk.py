"""Step 13: RiskAssessments and Flags are written to the FHIR service, at its pace and not at the hot path's."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.backends.fhir_answers import BundleAnswer
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, Transaction, flags, scores
from pulseweir.backends.repository.rows import FlagRow, RecordedWindow
from pulseweir.errors import FhirRefused, RetryLater
from pulseweir.hot_path.care_routing import refresh_care_teams
from pulseweir.hot_path.flag import SEVERITY
from pulseweir.hot_path.flag_record import to_episode
from pulseweir.hot_path.risk_assessment import flag_resource, model_device, window_resources
from pulseweir.hot_path.score_doubts import is_lower_bound
from pulseweir.hot_path.scored_window import ScoredWindow, scored_windows
from pulseweir.hot_path.settings import CareRoutingSettings, FhirRiskSettings, RiskAssessmentSettings
from pulseweir.records.identifiers import risk_assessment_id
from pulseweir.records.topics import RISK_SCORES
from pulseweir.worker import Handled, Stage, record_id

WindowKey = tuple[str, str, int, int]
Entry = dict[str, Any]

_RECORD_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Row:
    """One input row and where it came from."""

    window: ScoredWindow
    table: pa.Table
    place: int

    def source(self) -> pa.Table:
        """The row as it came."""
        return self.table.slice(self.place, 1)


@dataclass(frozen=True, slots=True)
class _Unit:
    """One window and the Flags that are written with it: its patient's, with the patient's last window."""

    row: _Row
    flags: list[FlagRow]


@dataclass(slots=True)
class _Plan:
    """What is to be written for one call."""

    rows: list[_Row]
    flags: dict[str, FlagRow]
    evidence: dict[str, list[RecordedWindow]]
    never_written: list[FlagRow]


class FhirRiskStage(Stage):
    """Writes each final window as one unit: score Observation, RiskAssessment, and its Flags in their latest state.

    A window is written after the `record` group has stored it, so that Flags agree with the repository. Every
    resource is a PUT on a deterministic id: writing twice changes nothing. Live rows are written (as preliminary)
    only when the patient's band has risen.
    """

    topic = RISK_SCORES
    group = "fhir-risk"
    row_limit = 500
    gather_seconds = 0.2
    tick_seconds = 1.0

    def __init__(
        self,
        repository: Repository,
        fhir: FhirClient,
        settings: FhirRiskSettings,
        assessment_settings: RiskAssessmentSettings,
        routing_settings: CareRoutingSettings,
    ) -> None:
        self._repository = repository
        self._fhir = fhir
        self._settings = settings
        self._assessment_settings = assessment_settings
        self._routing_settings = routing_settings
        self._severities: dict[tuple[str, str], int] = {}
        self._devices: set[tuple[str, str]] = set()
        self._teams_read_at = float("-inf")
        self._most_windows = settings.windows_per_bundle

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Write what the rows ask for; returns once the FHIR service has accepted or refused each of them."""
        rows = [
            _Row(window, table, place)
            for table in tables.values()
            for place, window in enumerate(scored_windows(table))
        ]
        stored = await self._wait_until_recorded([row.window for row in rows])
        handled = Handled()
        chosen, severities = self._choose(rows, stored, handled.outcome)
        if chosen:
            await self._write_devices(chosen)
            plan = await self._repository.read(self._plan, chosen, stored)
            await self._write(plan, handled.outcome)
        self._severities = severities
        return handled

    async def tick(self) -> Handled | None:
        """Read the CareTeams again when they are due."""
        if time.monotonic() - self._teams_read_at < self._routing_settings.refresh_seconds:
            return None
        self._teams_read_at = time.monotonic()
        # The teams last read stay in force while the service is away or knows no CareTeam.
        with suppress(RetryLater, FhirRefused):
            await refresh_care_teams(self._fhir, self._repository)
        return None

    async def _wait_until_recorded(self, windows: Sequence[ScoredWindow]) -> dict[WindowKey, RecordedWindow]:
        keys = list({window.key for window in windows})
        finals = [window for window in windows if window.is_final]
        deadline = time.monotonic() + self._settings.record_wait_seconds
        while True:
            stored = await self._repository.read(scores.recorded, keys)
            if all(_is_recorded(window, stored) for window in finals):
                return stored
            if time.monotonic() >= deadline:
                raise RetryLater("Scores are not in the repository yet; the group 'record' stores them first.")
            await asyncio.sleep(_RECORD_POLL_SECONDS)

    def _choose(
        self, rows: Iterable[_Row], stored: Mapping[WindowKey, RecordedWindow], outcome: Outcome
    ) -> tuple[list[_Row], dict[tuple[str, str], int]]:
        """The rows to write: finals that nothing has replaced, and live rows whose band has risen.

        Also the severity of each patient afterwards, to be remembered once they are written.
        """
        severities = dict(self._severities)
        chosen: dict[WindowKey, _Row] = {}
        for row in rows:
            window, known = row.window, stored.get(row.window.key)
            who = (window.patient_id, window.model)
            severity = SEVERITY.get(window.band or "", 0)
            rises = severity > severities.get(who, 0)
            if window.is_final or rises:
                severities[who] = severity
            if window.is_final:
                is_wanted = known is not None and _same_revision(window, known)
            else:
                is_wanted = known is None and rises
            outcome.count("written" if is_wanted else "superseded" if window.is_final else "live")
            if is_wanted:
                chosen[window.key] = row
        return list(chosen.values()), severities

    async def _write_devices(self, rows: Iterable[_Row]) -> None:
        models = {(row.window.model, row.window.model_version) for row in rows} - self._devices
        for model, version in sorted(models):
            await self._fhir.update(model_device(model, version))
            self._devices.add((model, version))

    def _plan(self, transaction: Transaction, rows: list[_Row], stored: Mapping[WindowKey, RecordedWindow]) -> _Plan:
        patients = sorted({row.window.patient_id for row in rows if row.window.is_final})
        linked = {known.flag_id for row in rows if (known := stored.get(row.window.key)) and known.flag_id}
        changed = flags.by_id(transaction, sorted(linked))
        for flag in flags.of_patients_unwritten(transaction, patients):
            changed[flag.flag_id] = flag
        never_written = [
            flag for flag in changed.values() if flag.status == flags.WITHDRAWN and flag.change_written == 0
        ]
        for flag in never_written:
            del changed[flag.flag_id]
        return _Plan(rows, changed, scores.windows_of_flags(transaction, sorted(changed)), never_written)

    async def _write(self, plan: _Plan, outcome: Outcome) -> None:
        ordered = sorted(plan.rows, key=lambda row: (row.window.patient_id, row.window.window_end))
        last_row = {row.window.patient_id: row.window.key for row in ordered}
        units = [
            _Unit(row, [flag for flag in plan.flags.values() if last_row[flag.patient_id] == row.window.key])
            for row in ordered
        ]
        while units:
            part, units = units[: self._most_windows], units[self._most_windows :]
            refused = await self._send([entry for unit in part for entry in self._entries(unit, plan)])
            done = part if refused is None else await self._write_singly(part, plan, outcome)
            if refused is not None and len(done) == len(part):
                # None was at fault alone: there were too many of them.
                self._most_windows = max(1, len(part) // 2)
            written = [flag for unit in done for flag in unit.flags]
            await self._repository.write(_mark, [*written, *plan.never_written])

    async def _write_singly(self, units: Sequence[_Unit], plan: _Plan, outcome: Outcome) -> list[_Unit]:
        """One bundle a window, so that a refused one does not take its neighbours with it; returns those written."""
        done = []
        for unit in units:
            refused = await self._send(self._entries(unit, plan))
            if refused is None:
                done.append(unit)
                continue
            error = FhirRefused(refused.status, "RiskAssessment", refused.issue_text)
            waits = refused.lacks_reference
            _set_aside(outcome.parked if waits else outcome.quarantined, unit.row, str(error), outcome)
        return done

    async def _send(self, entries: list[Entry]) -> BundleAnswer | None:
        """Write as one; returns the first refusal, None when all is done."""
        answers = await self._fhir.write_together(entries)
        for answer in answers:
            if answer.is_worth_retrying:
                text = f"The FHIR service answered an entry with {answer.status}; the bundle is sent again."
                raise RetryLater(text, retry_after_seconds=answer.retry_after_seconds)
        return next((answer for answer in answers if not answer.is_done), None)

    def _entries(self, unit: _Unit, plan: _Plan) -> list[Entry]:
        return [*self._window_entries(unit.row.window), *(self._flag_entry(flag, plan) for flag in unit.flags)]

    def _window_entries(self, window: ScoredWindow) -> list[Entry]:
        return [_put(address, body) for address, body in window_resources(window, self._assessment_settings)]

    def _flag_entry(self, flag: FlagRow, plan: _Plan) -> Entry:
        evidence = plan.evidence.get(flag.flag_id, [])
        assessments = [
            risk_assessment_id(
                window.patient_id, window.model, window.model_version, window.window_start, window.window_end
            )
            for window in evidence
        ]
        at_least = any(window.window_end == flag.last_window_end and _is_lower_bound(window) for window in evidence)
        resource = flag_resource(to_episode(flag), assessments, self._assessment_settings, at_least=at_least)
        return _put(f"Flag/{flag.flag_id}", msgspec.Raw(msgspec.json.encode(resource)))


def _put(address: str, body: msgspec.Raw) -> Entry:
    return {"request": {"method": "PUT", "url": address}, "resource": body}


def _mark(transaction: Transaction, written: Sequence[FlagRow]) -> None:
    flags.mark_written(transaction, [(flag.flag_id, flag.change) for flag in written])


def _is_recorded(window: ScoredWindow, stored: Mapping[WindowKey, RecordedWindow]) -> bool:
    known = stored.get(window.key)
    if known is None:
        return False
    if known.model_version == window.model_version:
        return known.revision >= window.revision
    return known.scored_at >= window.scored_at


def _is_lower_bound(window: RecordedWindow) -> bool:
    listed = (window.missing_json, window.doubtful_json, window.unknown_json)
    return is_lower_bound(window.status, *(msgspec.json.decode(text, type=list[str]) for text in listed))


def _same_revision(window: ScoredWindow, known: RecordedWindow) -> bool:
    return (known.model_version, known.revision) == (window.model_version, window.revision)


def _set_aside(where: list[SetAside], row: _Row, message: str, outcome: Outcome) -> None:
    outcome.count("written", -1)
    where.append(
        SetAside(
            record_id=record_id(RISK_SCORES, row.source()),
            row=row.source(),
            stage="fhir-risk",
            reason="fhir-refused",
            message=message,
        )
    )
