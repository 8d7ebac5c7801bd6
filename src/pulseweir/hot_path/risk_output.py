"""Step 12: scores leave the engine: repository, Flag state, live rows, and the facts that alerts are made of."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa

from pulseweir.backends.bus.base import Bus
from pulseweir.backends.repository import Repository, Transaction, flags, people, reports, scores
from pulseweir.backends.repository.rows import FlagRow, LiveRow, ScoreRow
from pulseweir.hot_path.care_routing import Routes, routes
from pulseweir.hot_path.flag import SEVERITY, FlagSettings, is_outside
from pulseweir.hot_path.flag_record import breaches_of, link_to_flags
from pulseweir.hot_path.score_doubts import Facts, abstained_because, is_lower_bound, sentences
from pulseweir.hot_path.score_wording import contributions, headline
from pulseweir.hot_path.scored_window import ABSTAINED, ScoredWindow, all_scored_windows
from pulseweir.hot_path.settings import CareRoutingSettings
from pulseweir.hot_path.vital_limits import Breach
from pulseweir.records.flag_facts import FLAG_CLOSED, FLAG_OPENED, FLAG_UPDATED, FlagFact, flag_fact_table
from pulseweir.records.topics import ALERT_EVENTS, RISK_SCORES
from pulseweir.telemetry import END_TO_END, RISK_FLAGS_OPEN
from pulseweir.worker import Handled, Stage

_SECOND = 1_000_000
_RED_POINTS = 3


@dataclass(slots=True)
class _Recorded:
    """What one transaction did."""

    rows: int
    stored: int
    live_occurred_at: list[int] = field(default_factory=list)
    facts: list[tuple[str, FlagFact]] = field(default_factory=list)


class RecordStage(Stage):
    """Records scores: one repository transaction for all rows of a call, then the Flag facts to `alert-events`.

    Redelivery and disorder change nothing: a window keeps its last revision, a live row only moves forward, a Flag
    is a function of the windows. A change of a Flag is published until a later transaction has noted that it was;
    whoever reads the facts tells repetitions by their change number.
    """

    topic = RISK_SCORES
    group = "record"
    row_limit = 1_000
    gather_seconds = 0.02
    tick_seconds = 1.0

    def __init__(
        self, repository: Repository, bus: Bus, flag_settings: FlagSettings, routing_settings: CareRoutingSettings
    ) -> None:
        self._repository = repository
        self._bus = bus
        self._flag_settings = flag_settings
        self._routing_settings = routing_settings
        self._routes: Routes = routes([], routing_settings)
        self._routes_read_at = float("-inf")
        self._published: list[tuple[str, int]] = []
        self._latencies: list[float] = []

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Record the rows; returns once they are durable and their facts published."""
        await self._read_routes()
        recorded = await self._repository.write(self._record, tables)
        self._note_latencies(recorded.live_occurred_at)
        await self._publish(recorded.facts)
        handled = Handled()
        handled.outcome.count("recorded", recorded.stored)
        handled.outcome.count("unchanged", recorded.rows - recorded.stored)
        return handled

    async def tick(self) -> Handled | None:
        """Store latencies, publish what an earlier run left, tell how many Flags are open."""
        await self._read_routes()
        if self._latencies or self._published:
            await self._repository.write(self._settle)
        await self._publish(await self._repository.read(self._unpublished_facts))
        open_flags = await self._repository.read(flags.count_open)
        for severity in SEVERITY:
            RISK_FLAGS_OPEN.labels(severity).set(open_flags.get(severity, 0))
        return None

    def _record(self, transaction: Transaction, tables: Mapping[int, pa.Table]) -> _Recorded:
        now = self._repository.clock.now_microseconds()
        windows = all_scored_windows(tables)
        self._settle(transaction)
        finals = [self._score_row(window, now) for window in windows if window.is_final]
        fresh = scores.newer_scores(transaction, finals)
        scores.put_scores(transaction, link_to_flags(transaction, fresh, self._flag_settings, now=now))
        stored_live = scores.save_live(transaction, [self._live_row(window, now) for window in windows])
        occurred = {(row.patient_id, row.model, row.newest_occurred_at) for row in stored_live if not row.backfill}
        shown = [
            window.newest_occurred_at
            for window in windows
            if window.live and (window.patient_id, window.model, window.newest_occurred_at) in occurred
        ]
        stored = len(fresh) + sum(row.preliminary for row in stored_live)
        return _Recorded(len(windows), stored, shown, self._unpublished_facts(transaction))

    def _settle(self, transaction: Transaction) -> None:
        flags.mark_published(transaction, self._published)
        self._published = []
        reports.add_latencies(transaction, "recorded", self._latencies)
        self._latencies = []

    def _score_row(self, window: ScoredWindow, now: int) -> ScoreRow:
        row = ScoreRow(
            **_shared_columns(window, now), basis_json=msgspec.json.encode(window.basis).decode(), outside=None
        )
        outside = is_outside(
            self._flag_settings.range_for(window.patient_id, window.ward, window.model),
            status=window.status,
            score=window.score,
            probability=window.probability,
            band=window.band,
            single_red=window.single_red,
            known_points=[part.points for part in contributions(window.contributions_json) if part.points is not None],
        )
        return replace(row, outside=True if breaches_of(row, self._flag_settings) else outside)

    def _live_row(self, window: ScoredWindow, now: int) -> LiveRow:
        team = self._routes.team_for(window.patient_id, window.ward)
        return LiveRow(
            **_shared_columns(window, now),
            preliminary=not window.is_final,
            care_team_id=team.care_team_id or None,
            care_team=team.name,
        )

    def _unpublished_facts(self, transaction: Transaction) -> list[tuple[str, FlagFact]]:
        noted = set(self._published)
        changed = [row for row in flags.unpublished(transaction) if (row.flag_id, row.change) not in noted]
        keys = {
            row.flag_id: (row.patient_id, row.rule, row.last_window_start, row.last_window_end)
            for row in changed
            if not row.backfill
        }
        windows = scores.windows(transaction, list(keys.values()))
        return [self._fact(row, windows.get(keys.get(row.flag_id, ("", "", 0, 0)))) for row in changed]

    def _fact(self, row: FlagRow, window: ScoreRow | None) -> tuple[str, FlagFact]:
        team = self._routes.team_for(row.patient_id, row.ward)
        transition = FLAG_OPENED if row.change_published == 0 else FLAG_UPDATED
        limited = [] if window is None else breaches_of(window, self._flag_settings)
        fact = FlagFact(
            flag_id=row.flag_id,
            patient_id=row.patient_id,
            rule=row.rule,
            change=row.change,
            status=row.status,
            band=row.last_band,
            score=row.last_score,
            backfill=row.backfill,
            reason=_reason(row, window, limited),
            reds=None if window is None else _reds(window, limited),
            start_at=row.start_at,
            last_window_end=row.last_window_end,
            end_at=row.end_at,
            ward=row.ward,
            bed=row.bed,
            care_team_id=team.care_team_id or None,
            care_team=team.name,
        )
        return (transition if row.status == flags.ACTIVE else FLAG_CLOSED, fact)

    async def _publish(self, facts: Sequence[tuple[str, FlagFact]]) -> None:
        if facts:
            await self._bus.publish([(ALERT_EVENTS, flag_fact_table(facts))])
            self._published += [(fact.flag_id, fact.change) for _, fact in facts]

    async def _read_routes(self) -> None:
        if time.monotonic() - self._routes_read_at < self._routing_settings.refresh_seconds / 2:
            return
        self._routes_read_at = time.monotonic()
        found = routes(await self._repository.read(people.care_teams), self._routing_settings)
        if found != self._routes:
            self._routes = found
            await self._repository.write(self._route_again)

    def _route_again(self, transaction: Transaction) -> None:
        """Give live rows that stand already to the team that answers for them now."""
        moved = []
        for row in scores.live_rows(transaction, model=None):
            team = self._routes.team_for(row.patient_id, row.ward)
            if (row.care_team_id, row.care_team) != (team.care_team_id or None, team.name):
                moved.append(replace(row, care_team_id=team.care_team_id or None, care_team=team.name))
        scores.put_live(transaction, moved)

    def _note_latencies(self, occurred_at: Sequence[int]) -> None:
        clock = self._repository.clock
        now = clock.now_microseconds()
        for instant in occurred_at:
            real_seconds = (now - instant) / _SECOND / clock.speed
            END_TO_END.labels("recorded").observe(real_seconds)
            self._latencies.append(real_seconds)


def _shared_columns(window: ScoredWindow, now: int) -> dict[str, Any]:
    return {name: getattr(window, name) for name in _SHARED} | {
        "missing_json": msgspec.json.encode(window.missing).decode(),
        "stale_json": msgspec.json.encode(window.stale).decode(),
        "unknown_json": msgspec.json.encode(window.unknown).decode(),
        "doubtful_json": msgspec.json.encode(window.doubtful).decode(),
        "sign_of_life_at": window.sign_of_life_at or None,
        "recorded_at": now,
    }


def _reason(row: FlagRow, window: ScoreRow | None, limited: Sequence[Breach]) -> str:
    if window is None:
        return headline(row.rule, row.last_score, row.last_band)
    beyond = "".join(f"{breach.words}. " for breach in limited)
    if window.status == ABSTAINED:
        return f"{beyond}{abstained_because(window.abstained or '')}"
    facts = Facts.of(window)
    at_least = is_lower_bound(facts.status, facts.missing, facts.doubtful, facts.unknown)
    return f"{beyond}{headline(row.rule, row.last_score, row.last_band, at_least=at_least)}. {sentences(facts)}"


def _reds(window: ScoreRow, limited: Sequence[Breach]) -> list[str]:
    """What by itself is serious in a window: parameters that scored 3, and vitals beyond a limit."""
    red = {part.parameter for part in contributions(window.contributions_json) if part.points == _RED_POINTS}
    return sorted(red | {breach.vital for breach in limited})


_SHARED = (
    "patient_id",
    "model",
    "window_start",
    "window_end",
    "model_version",
    "revision",
    "status",
    "score",
    "probability",
    "band",
    "single_red",
    "backfill",
    "contributions_json",
    "inputs_json",
    "newest_occurred_at",
    "newest_received_at",
    "ward",
    "bed",
    "age_years",
    "sex",
    "spo2_scale",
    "scored_at",
    "abstained",
)
