"""Step 18: facts about Flags and devices come in, alerts are raised, updated and cleared, escalations fall due."""

from collections.abc import Mapping

import msgspec
import pyarrow as pa

from pulseweir.backends.bus.base import Bus
from pulseweir.backends.repository import Repository, Transaction, alerts, flags, scores
from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from pulseweir.records.flag_facts import FlagFact, flag_facts
from pulseweir.records.topics import ALERT_EVENT_SCHEMA, ALERT_EVENTS
from pulseweir.telemetry import ALERT_UNACKNOWLEDGED
from pulseweir.warm_path.alert_round import go_round, raise_still_present, rewind, strays
from pulseweir.warm_path.alert_settings import RANK, AlertSettings
from pulseweir.warm_path.alert_store import change, store, to_alert
from pulseweir.warm_path.alerts import advance, take_fact
from pulseweir.warm_path.device_desk import DeviceDesk
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.worker import Handled, Stage

_SECOND = 1_000_000


class CoordinationStage(Stage):
    """Runs the alert state machine on the facts of `alert-events` and on time.

    The alert, its history, its messages and its Task enter the repository together. What happened to alerts is
    published on the same topic for others; this stage passes over those rows.
    """

    topic = ALERT_EVENTS
    group = "coordination"
    tick_seconds = 0.25

    def __init__(self, repository: Repository, bus: Bus, settings: AlertSettings, notices: NoticeSettings) -> None:
        self._repository = repository
        self._bus = bus
        self._settings = settings
        self._notices = notices
        self._devices = DeviceDesk(repository, settings, notices)
        self._rewound = False

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Take the facts of several shards, in one transaction."""
        facts = [fact for table in tables.values() for fact in flag_facts(table)]
        if facts:
            await self._repository.write(self._take, facts)
        taken = len(facts) + await self._devices.take(list(tables.values()))
        handled = Handled()
        handled.outcome.count("taken", taken)
        handled.outcome.count("own", sum(table.num_rows for table in tables.values()) - taken)
        return handled

    async def tick(self) -> Handled | None:
        """Follow patients and staff, climb what is due, publish what happened, tell how many alerts wait."""
        now = self._repository.clock.now_microseconds()
        await self.go_round(now)
        await self.run_due(now)
        await self._devices.watch()
        await self._publish()
        waiting = await self._repository.read(alerts.count_unacknowledged)
        for priority in RANK:
            ALERT_UNACKNOWLEDGED.labels(priority).set(waiting.get(priority, 0))
        return None

    async def go_round(self, now: int) -> None:
        """Let open alerts follow their patients and the people who work, and raise anew what was closed too soon."""
        if not self._rewound:
            await self._repository.write(rewind, self._settings, self._notices)
            self._rewound = True
        misplaced, lost = await self._repository.read(strays)
        if misplaced or lost:
            await self._repository.write(go_round, now, self._settings, self._notices)
        before = now - int(self._settings.quiet_after_close_seconds * _SECOND)
        if await self._repository.read(alerts.closed_while_present, before):
            await self._repository.write(raise_still_present, now, self._settings, self._notices)

    async def run_due(self, now: int) -> int:
        """Send the pages, escalations and reminders that are due at `now` (the house's clock); returns how many alerts.

        Several processes may call it: an alert is looked at again inside the transaction.
        """
        due = await self._repository.read(alerts.due, now)
        for row in due:
            await self._repository.write(
                change, row.alert_id, lambda alert: advance(alert, now, self._settings), self._notices
            )
        return len(due)

    def _take(self, transaction: Transaction, facts: list[FlagFact]) -> None:
        now = self._repository.clock.now_microseconds()
        # What stands comes first: one Flag that ends where the next begins is no end of the condition.
        for given in sorted(facts, key=lambda fact: fact.status != flags.ACTIVE):
            row = alerts.newest_alert(transaction, given.patient_id, given.rule)
            if row is not None and _is_overtaken(transaction, given, row):
                continue
            fact = _where_the_patient_is(transaction, given)
            current = None if row is None else to_alert(row)
            goes_on = row is not None and _goes_on(transaction, fact, row)
            step = take_fact(fact, current, now, self._settings, goes_on=goes_on)
            if step is not None:
                store(transaction, step, self._notices)

    async def _publish(self) -> None:
        rows = await self._repository.read(alerts.unpublished)
        if rows:
            await self._bus.publish([(ALERT_EVENTS, _table(rows))])
            await self._repository.write(alerts.mark_published, [row.event_id for row in rows])


def _is_overtaken(transaction: Transaction, fact: FlagFact, alert: AlertRow) -> bool:
    """Whether the alert tells of a later episode that stands: a fact delivered again then says nothing new."""
    if fact.flag_id == alert.flag_id:
        return False
    latest = flags.by_id(transaction, [alert.flag_id]).get(alert.flag_id)
    return latest is not None and latest.status != flags.WITHDRAWN and latest.start_at > fact.start_at


def _goes_on(transaction: Transaction, fact: FlagFact, alert: AlertRow) -> bool:
    """Whether the fact's Flag begins no later than the Flag of the alert ends."""
    if fact.flag_id == alert.flag_id:
        return False
    latest = flags.by_id(transaction, [alert.flag_id]).get(alert.flag_id)
    return latest is not None and latest.status != flags.WITHDRAWN and latest.last_window_end >= fact.start_at


def _where_the_patient_is(transaction: Transaction, fact: FlagFact) -> FlagFact:
    """The fact with the place the patient has now: its window may be older than a move."""
    live = scores.live_row(transaction, fact.patient_id, model=fact.rule)
    if live is None or live.ward is None:
        return fact
    place = {"ward": live.ward, "bed": live.bed, "care_team_id": live.care_team_id, "care_team": live.care_team}
    return msgspec.structs.replace(fact, **place)


def _table(rows: list[TransitionRow]) -> pa.Table:
    columns = [
        {
            "event_id": row.event_id,
            "alert_id": row.alert_id,
            "patient_id": row.patient_id,
            "rule": row.rule,
            "transition": row.transition,
            "occurred_at": row.occurred_at,
            "detail_json": row.detail_json,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(columns, schema=ALERT_EVENT_SCHEMA)
