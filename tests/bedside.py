"""A ward in event time: readings go in at the instants they are received, tiles, alerts and pages come out.

Every stage is the real one (enrichment, `score_shard`, recording, Flags, alerts, tiles); only bus, clock and channels
are the test's, so that hours pass in seconds and nothing waits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, cast

import msgspec
import pyarrow as pa

from patient_measurements import MINUTE, NOON, SECOND, Reading, measurements
from pulseweir.backends.channels.base import Notification
from pulseweir.backends.repository import Repository, alerts, outbox, scores
from pulseweir.backends.repository.rows import AlertRow, LiveRow
from pulseweir.clock import Clock
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.settings import CareRoutingSettings
from pulseweir.records.topics import ALERT_EVENTS, PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.enrichment import enrich
from pulseweir.scoring.patient_context import PatientContext
from pulseweir.scoring.score_shard import score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import NEVER, ShardState
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_team import CareTeamDesk
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.web.settings import WebSettings
from pulseweir.web.tiles import Tile, tile_of

ADULT = PatientContext(
    version=1,
    born=(date(1956, 3, 1), date(1956, 3, 1)),
    sex="female",
    ward="Ward A",
    bed="Bed 1",
    spo2_scale=1,
    pregnant=False,
    is_read=True,
)
WELL: Mapping[str, float | str] = {
    "respiratory_rate": 16,
    "spo2": 98,
    "systolic_bp": 120,
    "heart_rate": 78,
    "temperature": 37,
    "oxygen_flow": 0,
    "consciousness": "A",
}
_NO_HISTORY = PATIENT_MEASUREMENT_SCHEMA.empty_table()


@dataclass(frozen=True)
class MovingClock(Clock):
    """A clock that stands where the test puts it, microseconds after `NOON`."""

    hand: list[int] = field(default_factory=lambda: [0])

    def now_microseconds(self) -> int:
        return NOON + self.hand[0]


class _Bus:
    """Takes what stages publish; the ward hands it on."""

    def __init__(self) -> None:
        self.published: list[tuple[str, pa.Table]] = []

    async def publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        self.published += tables

    def taken(self, topic: str) -> list[pa.Table]:
        found = [table for name, table in self.published if name == topic]
        self.published = [one for one in self.published if one[0] != topic]
        return found


def observed(at: int, patient: str = "ann", **changes: Any) -> list[Reading]:
    """A whole set of observations, well but for the changes; None leaves a vital out."""
    values = {**WELL, **changes}
    return [Reading(vital, value, at, patient) for vital, value in values.items() if value is not None]


class Bedside:
    """One ward, its patients' contexts, and everything that came of what was measured."""

    def __init__(
        self,
        repository: Repository,
        clock: MovingClock,
        *,
        windows: WindowSettings | None = None,
        flags: FlagSettings | None = None,
        alert_settings: AlertSettings | None = None,
    ) -> None:
        self.repository, self._clock = repository, clock
        self.contexts: dict[str, PatientContext] = {}
        self.rows: list[dict[str, Any]] = []
        self._windows = windows or WindowSettings()
        self._state = ShardState()
        self._bus = _Bus()
        bus = cast(Any, self._bus)
        settings, notices = alert_settings or AlertSettings(), NoticeSettings()
        self._record = RecordStage(repository, bus, flags or FlagSettings(), CareRoutingSettings())
        self._coordination = CoordinationStage(repository, bus, settings, notices)
        self.desk = CareTeamDesk(repository, settings, notices)

    @property
    def now(self) -> int:
        """Microseconds after `NOON`."""
        return self._clock.hand[0]

    async def measure(self, *readings: Reading) -> None:
        """Let readings arrive, each at the instant it is received; time passes between them."""
        arrivals: dict[int, list[Reading]] = {}
        for one in readings:
            arrivals.setdefault(one.at + SECOND if one.received is None else one.received, []).append(one)
        for received, together in sorted(arrivals.items()):
            await self.until(received)
            contexts = {one.patient: self.contexts.get(one.patient, ADULT) for one in together}
            await self._score(enrich(measurements(together), contexts))

    async def learn(self, patient: str, context: PatientContext) -> None:
        """The patient's context is read now: it comes with the next reading, and at once as a row of its own."""
        self.contexts[patient] = context
        row = replace(Reading("heart_rate", None, self.now, patient, type="patient-context", received=self.now))
        table = enrich(measurements([row]), {patient: context})
        nothing = {name: pa.nulls(1, table.schema.field(name).type) for name in ("code", "name", "text", "number")}
        for name, column in nothing.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        await self._score(table)

    async def until(self, at: int) -> None:
        """Let time pass: windows close, held readings come due, ladders climb, each at its own instant."""
        while self.now < at:
            due = min(self._state.due_at, self._next_step_at()) - NOON
            self._clock.hand[0] = min(at, max(due, self.now + SECOND))
            if self._state.due_at <= NOON + self.now:
                await self._score(None)
            if self._next_step_at() <= NOON + self.now:
                await self._coordination.run_due(NOON + self.now)

    async def settle(self) -> None:
        """Let the windows measured so far close: Flags, and so alerts, come of final windows."""
        await self.until(self.now + 90 * SECOND)

    async def minutes(self, count: int, **changes: Any) -> None:
        """Measure the same set once a minute, so many times, from now on."""
        start = self.now
        for minute in range(count):
            await self.measure(*observed(start + minute * MINUTE, **changes))

    async def row(self, patient: str = "ann") -> LiveRow:
        """The newest state of a patient."""
        found = await self.repository.read(scores.live_row, patient)
        assert found is not None, "nobody can find this patient"
        return found

    async def tile(self, patient: str = "ann") -> Tile:
        """What the ward overview shows of a patient."""
        row, open_alerts = await self.row(patient), await self.alerts(patient)
        return tile_of(row, open_alerts[0] if open_alerts else None, [], NOON + self.now, WebSettings())

    async def alerts(self, patient: str = "ann") -> list[AlertRow]:
        """Open alerts of a patient."""
        return await self.repository.read(alerts.open_alerts, patient_id=patient)

    async def ever(self, patient: str = "ann") -> list[AlertRow]:
        """Every alert a patient had."""
        return await self.repository.read(alerts.alerts_of, patient)

    async def pages(self, patient: str = "ann") -> list[Notification]:
        """Messages that left, or wait to leave, about a patient; oldest first."""
        with self.repository.reading() as transaction:
            waiting = transaction.exec_driver_sql(
                "SELECT body_json FROM outbox WHERE kind = 'notification' AND patient_id = ? ORDER BY sequence",
                (patient,),
            ).all()
        assert outbox.NOTIFICATION == "notification"
        return [msgspec.json.decode(body, type=Notification) for (body,) in waiting]

    async def inputs(self, patient: str = "ann") -> dict[str, dict[str, Any]]:
        """The inputs of the newest state, by vital."""
        row = await self.row(patient)
        return {one["vital"]: one for one in msgspec.json.decode(row.inputs_json)}

    def _next_step_at(self) -> int:
        with self.repository.reading() as transaction:
            found = transaction.exec_driver_sql("SELECT min(next_step_at) FROM alert WHERE closed_at IS NULL").scalar()
        return NEVER if found is None else int(found)

    async def _score(self, table: pa.Table | None) -> None:
        scored = score_shard(self._state, table, _NO_HISTORY, NOON + self.now, self._windows)
        self._state = scored.state
        self.rows += scored.scores.to_pylist()
        if scored.scores.num_rows:
            await self._record.handle({0: scored.scores})
        for facts in self._bus.taken(ALERT_EVENTS):
            await self._coordination.handle({0: facts})


def names(json_text: str) -> list[str]:
    """A list of names stored as JSON."""
    return msgspec.json.decode(json_text, type=list[str])


def finals(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Final rows in the order of their windows, last revision of each."""
    newest = {row["window_start"]: row for row in rows if not row["live"]}
    return [newest[start] for start in sorted(newest)]
