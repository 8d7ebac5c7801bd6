"""Step 18: facts about Flags and devices come in, alerts are raised, updated and cleared, escalations fall due."""

from collections.abc import Mapping

import pyarrow as pa

from pulseweir.backends.bus.base import Bus
from pulseweir.backends.repository import Repository, Transaction, alerts
from pulseweir.backends.repository.rows import TransitionRow
from pulseweir.records.flag_facts import FlagFact, flag_facts
from pulseweir.records.topics import ALERT_EVENT_SCHEMA, ALERT_EVENTS
from pulseweir.telemetry import ALERT_UNACKNOWLEDGED
from pulseweir.warm_path.alert_settings import RANK, AlertSettings
from pulseweir.warm_path.alert_store import change, store, to_alert
from pulseweir.warm_path.alerts import advance, take_fact
from pulseweir.warm_path.device_desk import DeviceDesk
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.worker import Handled, Stage


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
        """Climb what is due, publish what happened, tell how many alerts wait."""
        await self.run_due(self._repository.clock.now_microseconds())
        await self._devices.watch()
        await self._publish()
        waiting = await self._repository.read(alerts.count_unacknowledged)
        for priority in RANK:
            ALERT_UNACKNOWLEDGED.labels(priority).set(waiting.get(priority, 0))
        return None

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
        for fact in facts:
            row = alerts.newest_alert(transaction, fact.patient_id, fact.rule)
            step = take_fact(fact, None if row is None else to_alert(row), now, self._settings)
            if step is not None:
                store(transaction, step, self._notices)

    async def _publish(self) -> None:
        rows = await self._repository.read(alerts.unpublished)
        if rows:
            await self._bus.publish([(ALERT_EVENTS, _table(rows))])
            await self._repository.write(alerts.mark_published, [row.event_id for row in rows])


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
