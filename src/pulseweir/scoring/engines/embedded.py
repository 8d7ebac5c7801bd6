"""Step 10: the engine of one machine: scores the shards it owns in this process, snapshots beside their positions."""

import time
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.lake import Lake
from pulseweir.clock import Clock
from pulseweir.errors import LakeUnavailable
from pulseweir.records import topics
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, RISK_SCORES
from pulseweir.scoring.history import read_history
from pulseweir.scoring.models.news2 import MODEL
from pulseweir.scoring.score_shard import ScoredShard, Wanted, score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import ShardState, joined, share
from pulseweir.telemetry import LATE_EVENTS, SCORE_DURATION, SCORE_WINDOWS, WINDOWS_OPEN
from pulseweir.worker import Handled, Stage

GROUP = "scoring"


class ScoringStage(Stage):
    """Patient measurements in, risk scores out.

    All owned shards are scored in one call, since its cost hardly grows with the number of patients; each keeps a
    snapshot of its own. History that the state does not hold comes from the lake; when the lake cannot be read,
    scoring goes on without it rather than wait.
    """

    topic = topics.PATIENT_MEASUREMENTS
    group = GROUP
    tick_seconds: float | None = 0.2
    commit_seconds = 1.0
    row_limit = 4_000

    def __init__(
        self, lake: Lake, clock: Clock, settings: WindowSettings | None = None, fhir: FhirClient | None = None
    ) -> None:
        self._lake, self._clock, self._fhir = lake, clock, fhir
        self._settings = settings or WindowSettings()
        self.gather_seconds = self._settings.batch_seconds
        self._state = ShardState()
        self._shard_of: dict[str, int] = {}
        self._snapshots: dict[int, bytes] = {}

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Score the rows; every row is tallied."""
        for shard, table in tables.items():
            self._shard_of |= dict.fromkeys(pc.unique(table["patient_id"]).to_pylist(), shard)
            self._snapshots.pop(shard, None)
        rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables.values()])
        scored = self._score(rows, None)
        if scored.wanted:
            scored = self._score(rows, await self._history(scored.wanted))
        return self._handled(scored)

    async def tick(self) -> Handled | None:
        """Close windows of quiet patients and show what waited."""
        # Looked at before closing: what this tick publishes is on the bus by the next look.
        WINDOWS_OPEN.set(self._state.waiting)
        if self._state.due_at > self._clock.now_microseconds():
            return None
        scored = self._score(None, None)
        self._snapshots.clear()
        return self._handled(scored)

    def assigned(self, shard: int, snapshot: bytes | None) -> None:
        """Begin a shard with what was committed."""
        self.revoked(shard)
        if snapshot is None:
            return
        state = ShardState.from_bytes(snapshot)
        self._state = joined(self._state, state)
        self._shard_of |= dict.fromkeys(state.patients, shard)
        self._snapshots[shard] = snapshot

    def revoked(self, shard: int) -> None:
        """Forget a shard."""
        self._snapshots.pop(shard, None)
        self._shard_of = {name: owner for name, owner in self._shard_of.items() if owner != shard}
        self._state = share(self._state, [name for name in self._state.patients if name in self._shard_of])

    def snapshots(self) -> Mapping[int, bytes]:
        """The state of each shard that has one."""
        missing: dict[int, list[str]] = {}
        for name in self._state.patients:
            shard = self._shard_of[name]
            if shard not in self._snapshots:
                missing.setdefault(shard, []).append(name)
        for shard, names in missing.items():
            self._snapshots[shard] = share(self._state, names).to_bytes()
        return dict(self._snapshots)

    def _score(self, rows: pa.Table | None, history: pa.Table | None) -> ScoredShard:
        started = time.perf_counter()
        scored = score_shard(self._state, rows, history, self._clock.now_microseconds(), self._settings)
        SCORE_DURATION.observe(time.perf_counter() - started)
        return scored

    async def _history(self, wanted: list[Wanted]) -> pa.Table:
        try:
            return await read_history(self._lake, wanted, self._fhir)
        except LakeUnavailable as error:
            structlog.get_logger().warning("history_unread", table=error.table, patients=len(wanted))
            return PATIENT_MEASUREMENT_SCHEMA.empty_table()

    def _handled(self, scored: ScoredShard) -> Handled:
        self._state = scored.state
        handled = Handled()
        for name, rows in scored.tallies.items():
            handled.outcome.count(name, rows)
        LATE_EVENTS.labels("too-late").inc(scored.tallies.get("filtered:too-late", 0))
        if scored.scores.num_rows:
            handled.publish.append((RISK_SCORES, scored.scores))
            self._count(scored.scores)
        return handled

    def _count(self, scores: pa.Table) -> None:
        finals = scores.filter(pc.invert(scores["live"]))
        for entry in finals["status"].value_counts().to_pylist():
            SCORE_WINDOWS.labels(MODEL, entry["values"]).inc(entry["counts"])
        LATE_EVENTS.labels("revised").inc(pc.sum(pc.greater(finals["revision"], 1)).as_py() or 0)
