"""Step 18: what scoring says of devices comes into the repository; technical alerts follow it."""

import asyncio
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from pulseweir.backends.repository import Repository, Transaction, alerts, device_signals, flags, scores
from pulseweir.backends.repository.rows import DeviceSignalRow
from pulseweir.records.signal_facts import DeviceHeard, SignalFact, heard_devices, signal_facts
from pulseweir.warm_path.alert_settings import RANK, AlertSettings
from pulseweir.warm_path.alert_store import change, store, to_alert
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.warm_path.technical_alerts import OWN_LIST, TECHNICAL, Watch, monitoring_lost, take_signal

_WATCH_SECONDS = 2.0


class DeviceDesk:
    """Takes signals of devices and watches over patients at risk whose devices are at fault."""

    def __init__(self, repository: Repository, settings: AlertSettings, notices: NoticeSettings) -> None:
        self._repository = repository
        self._settings, self._notices = settings, notices
        self._watched_at = float("-inf")

    async def take(self, tables: Sequence[pa.Table]) -> int:
        """Take what rows of `alert-events` say of devices, in one transaction; returns how many rows did."""
        facts = [fact for table in tables for fact in signal_facts(table)]
        heard = [one for table in tables for one in heard_devices(table)]
        if facts or heard:
            await self._repository.write(self._take, facts, heard)
        return len(facts) + len(heard)

    async def watch(self) -> None:
        """Page for patients at risk whose monitoring is lost; looks at most every two real seconds."""
        real = asyncio.get_running_loop().time()
        if real - self._watched_at < _WATCH_SECONDS:
            return
        self._watched_at = real
        await self.watch_at(self._repository.clock.now_microseconds())

    async def watch_at(self, now: int) -> int:
        """Page for patients at risk whose monitoring is lost at `now` (the house's clock); returns how many alerts."""
        lost = await self._repository.read(self._lost, now)
        for alert_id in lost:
            await self._repository.write(self._page_if_lost, alert_id, now)
        return len(lost)

    def _take(self, transaction: Transaction, facts: list[SignalFact], heard: list[DeviceHeard]) -> None:
        now = self._repository.clock.now_microseconds()
        for fact in facts:
            row = alerts.newest_alert(transaction, fact.patient_id, fact.rule)
            step = take_signal(fact, None if row is None else to_alert(row), now)
            if step is not None:
                store(transaction, step, self._notices)
        device_signals.save(transaction, map(_row, heard))

    def _lost(self, transaction: Transaction, now: int) -> list[str]:
        found = []
        for row in alerts.open_technical(transaction, OWN_LIST):
            watch = watch_of(transaction, row.patient_id)
            if monitoring_lost(to_alert(row), watch, now, self._settings) is not None:
                found.append(row.alert_id)
        return found

    def _page_if_lost(self, transaction: Transaction, alert_id: str, now: int) -> None:
        row = alerts.alert(transaction, alert_id)
        if row is not None:
            watch = watch_of(transaction, row.patient_id)
            change(
                transaction, alert_id, lambda alert: monitoring_lost(alert, watch, now, self._settings), self._notices
            )


def watch_of(transaction: Transaction, patient_id: str) -> Watch:
    """What is known of a patient: at risk by the newest score, an open Flag or an open clinical alert."""
    live = scores.live_rows_of(transaction, [patient_id], model=None)
    bands = [row.band for row in live]
    bands += [row.last_band for row in flags.open_flags(transaction, patient_id=patient_id)]
    bands += [
        row.priority
        for row in alerts.open_alerts(transaction, patient_id=patient_id)
        if row.kind != TECHNICAL and row.ended_at is None
    ]
    lives = [row.sign_of_life_at for row in live if row.sign_of_life_at is not None]
    return Watch(any(RANK.get(band or "", 0) > 0 for band in bands), max(lives, default=None))


def _row(one: DeviceHeard) -> DeviceSignalRow:
    return DeviceSignalRow(
        device_id=one.device_id,
        patient_id=one.patient_id,
        type=one.type,
        received_at=one.received_at,
        good_at=one.good_at,
        skew_seconds=one.skew_seconds,
        signals_json=msgspec.json.encode(one.signals).decode(),
        updated_at=one.at,
    )
