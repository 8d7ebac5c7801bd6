"""The embedded bus: topics and ledgers as SQLite files that many processes of one machine share."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

import pyarrow as pa

from pulseweir.backends.bus.base import Delivery, Outcome, SetAside
from pulseweir.backends.bus.doorbell import Bell, Ear
from pulseweir.backends.bus.encoding import cut, decode, to_schema
from pulseweir.backends.bus.ledger import Ledger
from pulseweir.backends.bus.log import StoredBatch, TopicLog
from pulseweir.backends.settings import BusSettings
from pulseweir.records.topics import SCHEMAS, SHARD_COLUMN, with_later_columns

Answer = TypeVar("Answer")
_LOOK_SECONDS = 0.25
_CLAIM_SECONDS = 1.0
_CHECKPOINT_SECONDS = 0.25


class EmbeddedSubscription:
    """A member of a group on one topic; see `base.Subscription` for what it guarantees."""

    def __init__(self, log: TopicLog, ledger: Ledger, ear: Ear) -> None:
        self._log = log
        self._ledger = ledger
        self._ear = ear
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{log.topic}-{ledger.group}")
        self._member = uuid.uuid4().hex
        self._next: dict[int, int] = {}
        self._gained: dict[int, bytes | None] = {}
        self._lost: list[int] = []
        self._claimed_at = float("-inf")
        self._version: tuple[int, int] | None = None
        self._closed = False

    async def assigned(self) -> Mapping[int, bytes | None]:
        """Shards gained since the last call, with their snapshots."""
        await self._claim()
        gained, self._gained = self._gained, {}
        return gained

    async def revoked(self) -> Sequence[int]:
        """Shards lost since the last call."""
        lost, self._lost = self._lost, []
        return lost

    async def read(
        self, *, wait_seconds: float, row_limit: int, without: frozenset[int] = frozenset()
    ) -> list[Delivery]:
        """The next deliveries, waiting up to `wait_seconds` for the first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            await self._claim()
            version = await self._call(self._log.version)
            if version != self._version or without:
                found = await self._read_now(row_limit, without)
                if found:
                    return found
                self._version = version if not without else None
            if loop.time() >= deadline:
                return []
            await self._wait_for_change(min(deadline, loop.time() + _CLAIM_SECONDS))

    async def rewind(self, shard: int) -> None:
        """Read the shard again from its committed position."""
        positions, _, _ = await self._call(self._ledger.balance)
        if shard in self._next:
            self._next[shard] = positions.get(shard, 0)
        self._version = None

    async def restart(self) -> Mapping[int, bytes | None]:
        """Read every owned shard again from its committed position."""
        owned = await self._call(lambda: self._ledger.claim(self._member, self._log.shard_count))
        self._next = {shard: position for shard, (position, _) in owned.items()}
        self._gained, self._lost, self._version = {}, [], None
        return {shard: snapshot for shard, (_, snapshot) in owned.items()}

    async def commit(
        self, positions: Mapping[int, int], outcome: Outcome, snapshots: Mapping[int, bytes] | None = None
    ) -> None:
        """Store positions, outcome and snapshots in one transaction."""
        await self._call(lambda: self._ledger.commit(self._member, positions, outcome, snapshots or {}))

    async def due(self, *, row_limit: int) -> list[SetAside]:
        """Parked rows of the owned shards whose time has come."""
        return await self._call(lambda: self._ledger.due(self._next, row_limit)) if self._next else []

    async def settle(self, record_ids: Sequence[str], outcome: Outcome) -> None:
        """Store what became of parked rows."""
        await self._call(lambda: self._ledger.settle(self._member, record_ids, outcome))

    async def seen_before(self, message_ids: Sequence[str]) -> set[str]:
        """Which of these ids were committed as seen."""
        return await self._call(lambda: self._ledger.seen_before(message_ids))

    async def close(self) -> None:
        """Give the shards back and close the files; closing twice changes nothing."""
        if self._closed:
            return
        self._closed = True
        self._ear.close()
        await self._call(self._release)
        self._thread.shutdown()

    def _release(self) -> None:
        self._ledger.leave(self._member)
        self._ledger.close()
        self._log.close()

    async def _claim(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._claimed_at < _CLAIM_SECONDS:
            return
        self._claimed_at = now
        owned = await self._call(lambda: self._ledger.claim(self._member, self._log.shard_count))
        for shard in set(self._next) - set(owned):
            del self._next[shard]
            self._gained.pop(shard, None)
            self._lost.append(shard)
        for shard in set(owned) - set(self._next):
            self._next[shard], self._gained[shard] = owned[shard]
            self._version = None

    async def _read_now(self, row_limit: int, without: frozenset[int]) -> list[Delivery]:
        after = {shard: position for shard, position in self._next.items() if shard not in without}
        if not after:
            return []
        stored = await self._call(lambda: self._log.read(after, row_limit))
        for batch in stored:
            self._next[batch.shard] = batch.position
        return [self._delivery(batch) for batch in stored]

    def _delivery(self, batch: StoredBatch) -> Delivery:
        table = with_later_columns(decode(batch.payload), self._log.topic)
        return Delivery(self._log.topic, batch.shard, batch.position, table)

    async def _wait_for_change(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            await self._ear.wait(min(_LOOK_SECONDS, deadline - loop.time()))
            # A data_version look takes microseconds: cheaper here than in the thread, which is idle now.
            if self._log.version() != self._version:
                return

    async def _call(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class EmbeddedBus:
    """Topics in a directory; see `base.Bus` for what it guarantees."""

    def __init__(self, directory: Path, settings: BusSettings) -> None:
        self.directory = directory
        self._settings = settings
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="bus-writer")
        self._logs: dict[str, TopicLog] = {}
        self._bells: dict[str, Bell] = {}
        self._subscriptions: list[EmbeddedSubscription] = []
        self._closing = threading.Event()
        self._checkpointer: threading.Thread | None = None

    @classmethod
    def open(cls, directory: Path, settings: BusSettings | None = None) -> Self:
        """Open (and create) a bus directory.

        Raises:
            SqliteTooOld: Install a newer apsw wheel.
        """
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory, settings or BusSettings())

    async def publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        """Append rows; returns once all of them are on disk, one sync a topic."""
        if any(table.num_rows for _, table in tables):
            await asyncio.get_running_loop().run_in_executor(self._writer, self._publish, tables)

    async def subscribe(self, topic: str, group: str) -> EmbeddedSubscription:
        """Join a group on a topic."""
        log = self.open_log(topic)
        ledger = Ledger(ledger_path(self.directory, topic, group), topic, seen_seconds=self._settings.seen_seconds)
        subscription = EmbeddedSubscription(log, ledger, Ear(self._doorbells(topic)))
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        """Close every subscription and file."""
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._close_logs)
        self._writer.shutdown()

    def open_log(self, topic: str, *, checkpoints_itself: bool = True) -> TopicLog:
        """A fresh view of one topic's files, for one thread."""
        return TopicLog(
            self.directory / "topics" / topic,
            self._settings.shard_count,
            self._settings.rotate_bytes,
            checkpoints_itself=checkpoints_itself,
        )

    def _publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        by_topic: dict[str, list[tuple[int, int, bytes]]] = {}
        for topic, table in tables:
            if table.num_rows:
                log = self._log(topic)
                rows = to_schema(table, SCHEMAS[topic])
                by_topic.setdefault(topic, []).extend(cut(rows, SHARD_COLUMN[topic], log.shard_count))
        for topic, batches in by_topic.items():
            self._log(topic).append(batches)
            self._bells[topic].ring()

    def _log(self, topic: str) -> TopicLog:
        if topic not in self._logs:
            self._logs[topic] = self.open_log(topic, checkpoints_itself=False)
            if self._checkpointer is None:
                self._checkpointer = threading.Thread(target=self._checkpoint, name="bus-checkpointer", daemon=True)
                self._checkpointer.start()
            self._bells[topic] = Bell(self._doorbells(topic))
        return self._logs[topic]

    def _checkpoint(self) -> None:
        """Keep write-ahead logs short, beside the writer: an acknowledgement never waits for it."""
        own: dict[str, TopicLog] = {}
        done: dict[str, tuple[int, int]] = {}
        while not self._closing.wait(_CHECKPOINT_SECONDS):
            for topic in list(self._logs):
                if topic not in own:
                    own[topic] = self.open_log(topic)
                version = own[topic].version()
                if done.get(topic) != version:
                    own[topic].checkpoint()
                    done[topic] = version
        for log in own.values():
            log.close()

    def _close_logs(self) -> None:
        self._closing.set()
        if self._checkpointer is not None:
            self._checkpointer.join()
        for log in self._logs.values():
            log.close()
        for bell in self._bells.values():
            bell.close()

    def _doorbells(self, topic: str) -> Path:
        return self.directory / "doorbells" / topic


def ledger_path(directory: Path, topic: str, group: str) -> Path:
    """Where a group's book on a topic lies."""
    return directory / "groups" / topic / f"{group}.db"
