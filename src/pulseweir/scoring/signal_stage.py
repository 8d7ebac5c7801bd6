"""Step 10: technical signals of devices: patient measurements in, facts about devices out."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from pulseweir.clock import Clock
from pulseweir.records import topics
from pulseweir.records.signal_facts import SignalFact, signal_table
from pulseweir.records.topics import ALERT_EVENTS
from pulseweir.scoring import device_signals
from pulseweir.scoring.device_faults import skew_seconds
from pulseweir.scoring.device_intake import Key, take
from pulseweir.scoring.device_kinds import EITHER, DeviceKind
from pulseweir.scoring.device_record import DeviceRecord
from pulseweir.scoring.device_signals import World
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.signal_settings import SignalSettings
from pulseweir.telemetry import DEVICE_SIGNALS
from pulseweir.worker import Handled, Stage

GROUP = "device-signals"
_BEHIND_SECONDS = 60
_JUDGED_SECONDS = 10
_LOGGED_SECONDS = 3_600.0
_SLACK_REAL_SECONDS = 10
_KINDS_READ_SECONDS = 60.0


class Presence(Protocol):
    """Says whether patients are here and have their devices, without waiting."""

    def present(self, keys: list[Key]) -> Mapping[Key, bool | None]:
        """What is known of each now; None while it is not known."""
        ...


class SignalStage(Stage):
    """Watches every device at every patient; each shard keeps a snapshot of its own.

    Silence counts from when the house listens: after a start, while it catches up, nobody is silent.

    Args:
        presence: Whether patients are here and have their devices.
        clock: The house's clock.
        settings: Delays.
        windows: What counts as backfill.
        read_kinds: How devices are used, by the version of their mappings; read again for a version not met before.
    """

    topic = topics.PATIENT_MEASUREMENTS
    group = GROUP
    tick_seconds: float | None = 1.0
    commit_seconds = 2.0
    row_limit = 4_000
    gather_seconds = 0.2

    def __init__(
        self,
        presence: Presence,
        clock: Clock,
        settings: SignalSettings | None = None,
        windows: WindowSettings | None = None,
        read_kinds: Callable[[], Mapping[str, DeviceKind]] = dict,
    ) -> None:
        settings = settings or SignalSettings()
        # A faster clock makes seconds of the house's own work look like minutes of silence.
        shortest = _SLACK_REAL_SECONDS * clock.speed if clock.is_simulated else 0
        self._settings = settings.model_copy(
            update={"silent_after_seconds": max(settings.silent_after_seconds, shortest)}
        )
        self._backfill_after_seconds = (windows or WindowSettings()).backfill_after_seconds
        self._presence, self._clock = presence, clock
        self._read_kinds, self._kinds = read_kinds, dict(read_kinds())
        self._kinds_read_at = float("-inf")
        self._shards: dict[int, dict[Key, DeviceRecord]] = {}
        self._listening_since: dict[int, int] = {}
        self._is_behind: set[int] = set()
        self._news: dict[Key, int] = {}
        self._judged_at: dict[Key, int] = {}
        self._noted_at: dict[Key, float] = {}
        self._logged_at: dict[str, float] = {}
        self._snapshots: dict[int, bytes] = {}

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Note the rows; every row is tallied."""
        handled, now = Handled(), self._now()
        for shard, table in tables.items():
            records = self._shards.setdefault(shard, {})
            touched = take(records, table, backfill_after_seconds=self._backfill_after_seconds)
            self._news |= dict.fromkeys(touched, shard)
            self._follow(shard, table, now)
            self._snapshots.pop(shard, None)
            handled.outcome.count("noted", table.num_rows)
        return handled

    async def tick(self) -> Handled | None:
        """Judge what has news, and what time alone changes."""
        now = self._now()
        facts: list[tuple[str, SignalFact]] = []
        heard = []
        for shard, records in self._shards.items():
            if shard in self._is_behind and self._listening_since[shard] < now - _BEHIND_SECONDS:
                self._is_behind.discard(shard)
            changed = device_signals.forget(records, now)
            changed += self._judge(shard, records, now)
            if changed:
                self._snapshots.pop(shard, None)
            facts += changed
            heard += [
                device_signals.heard(key, records[key], now)
                for key in self._to_note(shard, {(fact.patient_id, fact.device_id) for _, fact in changed})
                if key in records
            ]
        if not facts and not heard:
            return None
        for transition, fact in facts:
            DEVICE_SIGNALS.labels(fact.signal, transition.removeprefix("signal-")).inc()
        return Handled(publish=[(ALERT_EVENTS, signal_table(facts, heard))])

    def assigned(self, shard: int, snapshot: bytes | None) -> None:
        """Begin a shard with what was committed."""
        self.revoked(shard)
        self._shards[shard] = {} if snapshot is None else device_signals.from_bytes(snapshot)
        self._listening_since[shard] = self._now()
        self._is_behind.add(shard)
        self._news |= dict.fromkeys(self._shards[shard], shard)

    def revoked(self, shard: int) -> None:
        """Forget a shard."""
        self._snapshots.pop(shard, None)
        gone = self._shards.pop(shard, {})
        for kept in (self._news, self._judged_at, self._noted_at):
            for key in gone:
                kept.pop(key, None)

    def snapshots(self) -> Mapping[int, bytes]:
        """The records of each shard that has some."""
        for shard, records in self._shards.items():
            if shard not in self._snapshots:
                self._snapshots[shard] = device_signals.to_bytes(records.items())
        return dict(self._snapshots)

    def _now(self) -> int:
        return self._clock.now_microseconds() // MICROSECONDS

    def _follow(self, shard: int, table: pa.Table, now: int) -> None:
        """While what comes was received long ago, the house is catching up: nothing is known of the present."""
        newest = pc.max(table["received_at"].cast(pa.int64())).as_py() or 0
        self._listening_since.setdefault(shard, now)
        if shard in self._is_behind:
            self._listening_since[shard] = now
            if newest // MICROSECONDS >= now - _BEHIND_SECONDS:
                self._is_behind.discard(shard)

    def _judge(self, shard: int, records: dict[Key, DeviceRecord], now: int) -> list[tuple[str, SignalFact]]:
        due = [key for key in records if now - self._judged_at.get(key, 0) >= _JUDGED_SECONDS]
        worlds = {
            key: World(self._kind(records[key].mapping), None, self._listening_since.get(shard, now)) for key in due
        }
        doubtful = [
            key
            for key in due
            if any(one.active for one in records[key].signals.values())
            or any(device_signals.faults(records[key], worlds[key], now, self._settings).values())
        ]
        present = self._presence.present(doubtful) if doubtful else {}
        changed = []
        for key in doubtful:
            world = World(worlds[key].kind, present.get(key), worlds[key].listening_since)
            changed += device_signals.judge(key, records[key], world, now, self._settings)
        for key in due:
            self._judged_at[key] = now
            self._log_clock(key[1], records[key])
        return changed

    def _to_note(self, shard: int, changed: set[Key]) -> set[Key]:
        """Devices to say something of: those with news not said lately, and those whose signals changed."""
        real = asyncio.get_running_loop().time()
        since = real - self._settings.heard_seconds
        own = {key for key, owner in self._news.items() if owner == shard}
        due = {key for key in own if self._noted_at.get(key, float("-inf")) <= since} | changed
        for key in due:
            self._news.pop(key, None)
        self._noted_at |= dict.fromkeys(due, real)
        return due

    def _kind(self, mapping: str) -> DeviceKind:
        real = asyncio.get_running_loop().time()
        if mapping not in self._kinds and real - self._kinds_read_at >= _KINDS_READ_SECONDS:
            self._kinds, self._kinds_read_at = dict(self._read_kinds()), real
        return self._kinds.get(mapping, EITHER)

    def _log_clock(self, device_id: str, record: DeviceRecord) -> None:
        """Name a device whose clock is ahead, at most once an hour: its readings wait and nobody sees why."""
        real = asyncio.get_running_loop().time()
        skew = skew_seconds(record) or 0.0
        is_ahead = skew > self._settings.clock_ahead_tolerance_seconds
        if is_ahead and real - self._logged_at.get(device_id, float("-inf")) >= _LOGGED_SECONDS:
            self._logged_at[device_id] = real
            structlog.get_logger().warning(
                "device_clock_ahead",
                device=device_id,
                ahead_seconds=round(skew),
                remedy="Set the device's clock, or send times with their zone.",
            )
