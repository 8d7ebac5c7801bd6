"""The one delivery loop: read, handle, write, publish, commit; retry, park, quarantine.

The order is what keeps the promises: outside effects are idempotent and come first, then the outputs for the bus,
then one transaction with the positions and what became of every row. A kill between any two of these repeats work
and changes nothing.
"""

import asyncio
import random
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import structlog

from pulseweir.backends.bus.base import Bus, Delivery, Outcome, SetAside, Subscription
from pulseweir.errors import LeaseLost, RejectRecord, RetryLater
from pulseweir.records.identifiers import digest
from pulseweir.records.topics import LATER_COLUMNS
from pulseweir.telemetry import QUARANTINE_ITEMS, WORKER_RETRIES

FIRST_POSITION = b"pulseweir.first_position"
LAST_POSITION = b"pulseweir.last_position"
_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_PARKED_SECONDS = 0.5
_PARKED_ROWS = 2_000


@dataclass(slots=True)
class Handled:
    """What a stage made of rows: its outputs for the bus and what became of each row.

    Attributes:
        publish: (topic, rows) to append before the positions are committed.
        outcome: Every input row is counted in it exactly once: tallied, quarantined or parked.
    """

    publish: list[tuple[str, pa.Table]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


class Stage(Protocol):
    """One step of the journey as the loop sees it. Inherit from it for the defaults.

    Attributes:
        topic: What it reads.
        group: Its consumer group, also its name in metrics and quarantine.
        tick_seconds: How often `tick` is called, real seconds; None for never.
        commit_seconds: 0 commits after every read; more collects positions, for stages with snapshots.
        row_limit: Rows handed to `handle` at most in one call (a single larger record comes whole).
        gather_seconds: Reads at most once in so long, so that what arrives meanwhile is handled as one batch.
    """

    topic: str
    group: str
    tick_seconds: float | None = None
    commit_seconds: float = 0.0
    row_limit: int = 5_000
    gather_seconds: float = 0.0

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Deal with rows of several shards: compute, and write every outside effect idempotently.

        Called again with the same rows after any error or crash. A row that can never succeed belongs in
        ``outcome.quarantined``, one whose world may recover in ``outcome.parked``.

        Raises:
            RetryLater: Nothing of these tables counts as done; they come again after a back-off.
            RejectRecord: Only where the call had one row; the loop isolates rows after an unexpected error.
        """
        ...

    async def handle_parked(self, rows: pa.Table, first_parked_microseconds: list[int]) -> Handled:
        """Deal with parked rows whose time has come; the default treats them like new ones."""
        return await self.handle({-1: rows})

    async def tick(self) -> Handled | None:
        """Work that time causes rather than data; None when there is none."""
        return None

    def assigned(self, shard: int, snapshot: bytes | None) -> None:
        """A shard begins here, with the state last committed with its position."""
        return

    def revoked(self, shard: int) -> None:
        """A shard has gone to another member: forget its state."""
        return

    def snapshots(self) -> Mapping[int, bytes]:
        """State to commit with the positions, by shard; empty for a stage without state."""
        return {}


class Worker:
    """Runs one stage on one topic until told to stop.

    Args:
        stage: What to do with rows.
        bus: Where its outputs go.
        subscription: This member of the stage's group; closed by `run`.
        jitter: Source of the back-off's randomness.
    """

    def __init__(self, stage: Stage, bus: Bus, subscription: Subscription, jitter: random.Random | None = None) -> None:
        self._stage = stage
        self._bus = bus
        self._subscription = subscription
        self._jitter = jitter or random.Random()  # noqa: S311 - back-off, not a secret
        self._stopping = asyncio.Event()
        self._positions: dict[int, int] = {}
        self._outcome = Outcome()
        self._owned: set[int] = set()
        self._pause_until: dict[int, float] = {}
        self._shard_failures: dict[int, int] = {}
        self._failures = 0
        self._careful = False
        self._ticked_at = self._parked_at = self._committed_at = self._read_at = float("-inf")

    def stop(self) -> None:
        """End `run` after the current batch is committed."""
        self._stopping.set()

    async def run(self) -> None:
        """Deliver until `stop`; what is not committed by then comes again on the next start."""
        try:
            while not self._stopping.is_set():
                try:
                    await self._turn()
                    self._failures = 0
                except LeaseLost:
                    await self._begin_again()
                except RetryLater as error:
                    WORKER_RETRIES.labels(self._stage.group).inc()
                    await self._begin_again()
                    await self._pause(error.retry_after_seconds)
            await self._commit()
        finally:
            await self._subscription.close()

    async def _turn(self) -> None:
        await self._follow_assignment()
        await self._gather()
        deliveries = await self._subscription.read(
            wait_seconds=self._wait_seconds(), row_limit=self._stage.row_limit, without=self._paused()
        )
        if deliveries:
            self._read_at = asyncio.get_running_loop().time()
            await self._deliver(deliveries)
        now = asyncio.get_running_loop().time()
        if self._stage.tick_seconds is not None and now - self._ticked_at >= self._stage.tick_seconds:
            self._ticked_at = now
            await self._accept(await self._stage.tick(), {})
        if now - self._parked_at >= _PARKED_SECONDS:
            self._parked_at = now
            await self._try_parked()
        if now - self._committed_at >= self._stage.commit_seconds:
            await self._commit()

    async def _gather(self) -> None:
        waited = asyncio.get_running_loop().time() - self._read_at
        if waited < self._stage.gather_seconds:
            await asyncio.sleep(self._stage.gather_seconds - waited)

    def _wait_seconds(self) -> float:
        pending = self._stage.commit_seconds if self._positions else 1.0
        return min(self._stage.tick_seconds or 1.0, _PARKED_SECONDS, pending or 1.0)

    async def _follow_assignment(self) -> None:
        for shard, snapshot in (await self._subscription.assigned()).items():
            self._owned.add(shard)
            self._stage.assigned(shard, snapshot)
        lost = await self._subscription.revoked()
        if self._positions.keys() & set(lost):
            # What is in hand mixes rows of the lost shard with others: count none of it, read the others again.
            await self._begin_again()
            return
        for shard in lost:
            self._owned.discard(shard)
            self._stage.revoked(shard)

    # Deliveries

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        if self._careful:
            await self._deliver_row_by_row(deliveries)
            return
        try:
            await self._handle(deliveries)
        except LeaseLost:
            raise
        except RetryLater as error:
            await self._retry_shards(deliveries, error)
        except Exception as error:
            # The loop is the one place that catches everything: a bug met by one record must not block its shard.
            structlog.get_logger().error(
                "batch_failed", group=self._stage.group, error=type(error).__name__, place=place_of(error)
            )
            self._careful = True
            await self._begin_again()

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        tables = joined(deliveries)
        positions = {delivery.shard: delivery.position for delivery in deliveries}
        await self._accept(await self._stage.handle(tables), positions)
        for shard in tables:
            self._shard_failures.pop(shard, None)

    async def _retry_shards(self, deliveries: Sequence[Delivery], error: RetryLater) -> None:
        """Try each shard alone, so that the ones whose world is well go on."""
        by_shard: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            by_shard.setdefault(delivery.shard, []).append(delivery)
        if self._has_state:
            raise error
        if len(by_shard) == 1:
            await self._pause_shard(deliveries[0].shard, error)
            return
        for shard, share in by_shard.items():
            try:
                await self._handle(share)
            except LeaseLost:
                raise
            except RetryLater as again:
                await self._pause_shard(shard, again)

    async def _pause_shard(self, shard: int, error: RetryLater) -> None:
        WORKER_RETRIES.labels(self._stage.group).inc()
        failures = self._shard_failures[shard] = self._shard_failures.get(shard, 0) + 1
        pause = error.retry_after_seconds or self._back_off_seconds(failures)
        self._pause_until[shard] = asyncio.get_running_loop().time() + pause
        await self._subscription.rewind(shard)

    async def _deliver_row_by_row(self, deliveries: Sequence[Delivery]) -> None:
        """Isolate the record that made the whole batch fail; quarantine it, keep its neighbours."""
        for delivery in deliveries:
            for index in range(delivery.table.num_rows):
                row = delivery.table.slice(index, 1)
                saved = self._stage.snapshots()
                try:
                    handled = await self._stage.handle({delivery.shard: row})
                    await self._publish(handled)
                    # Committed with the position of its delivery, below: alone it would count again after a kill.
                    self._outcome.absorb(handled.outcome)
                except RetryLater:
                    raise
                except Exception as error:
                    if self._has_state:
                        self._stage.assigned(delivery.shard, saved.get(delivery.shard))
                    self._outcome.quarantined.append(self._rejected(delivery.topic, row, error))
            self._positions[delivery.shard] = delivery.position
        await self._commit()
        self._careful = False

    def _rejected(self, topic: str, row: pa.Table, error: Exception) -> SetAside:
        reason = error.reason if isinstance(error, RejectRecord) else "unexpected-error"
        message = (
            str(error)
            if isinstance(error, RejectRecord)
            else f"{type(error).__name__} at {place_of(error)}. Report it with this record's id, then redrive."
        )
        return SetAside(record_id(topic, row), row, self._stage.group, reason, message)

    # Parked rows

    async def _try_parked(self) -> None:
        items = await self._subscription.due(row_limit=_PARKED_ROWS)
        if not items:
            return
        await self._commit()
        try:
            await self._settle(items)
        except RetryLater:
            raise
        except Exception as error:
            structlog.get_logger().error(
                "parked_failed", group=self._stage.group, error=type(error).__name__, place=place_of(error)
            )
            await self._settle_one_by_one(items)

    async def _settle(self, items: Sequence[SetAside]) -> None:
        rows = pa.concat_tables([item.row for item in items]).unify_dictionaries().combine_chunks()
        handled = await self._stage.handle_parked(rows, [item.first_at_microseconds for item in items])
        await self._publish(handled)
        await self._subscription.settle([item.record_id for item in items], handled.outcome)

    async def _settle_one_by_one(self, items: Sequence[SetAside]) -> None:
        for item in items:
            try:
                await self._settle([item])
            except RetryLater:
                raise
            except Exception as error:
                rejected = replace(self._rejected(self._stage.topic, item.row, error), record_id=item.record_id)
                await self._subscription.settle([item.record_id], Outcome(quarantined=[rejected]))

    # Ends of a turn

    async def _accept(self, handled: Handled | None, positions: Mapping[int, int]) -> None:
        if handled is not None:
            await self._publish(handled)
            self._outcome.absorb(handled.outcome)
        self._positions.update(positions)
        if self._stage.commit_seconds == 0:
            await self._commit()

    async def _publish(self, handled: Handled) -> None:
        if handled.publish:
            await self._bus.publish(handled.publish)

    async def _commit(self) -> None:
        self._committed_at = asyncio.get_running_loop().time()
        if not self._positions and self._outcome == Outcome():
            return
        snapshots = self._stage.snapshots() if self._has_state else {}
        await self._subscription.commit(self._positions, self._outcome, snapshots)
        for item in self._outcome.quarantined:
            QUARANTINE_ITEMS.labels(item.stage, item.reason).inc()
        self._positions, self._outcome = {}, Outcome()

    async def _begin_again(self) -> None:
        """Forget what is not committed and read it again, with the state that was committed."""
        self._positions, self._outcome = {}, Outcome()
        for shard in self._owned:
            self._stage.revoked(shard)
        owned = await self._subscription.restart()
        self._owned = set(owned)
        for shard, snapshot in owned.items():
            self._stage.assigned(shard, snapshot)

    @property
    def _has_state(self) -> bool:
        return self._stage.commit_seconds > 0

    def _paused(self) -> frozenset[int]:
        now = asyncio.get_running_loop().time()
        self._pause_until = {shard: until for shard, until in self._pause_until.items() if until > now}
        return frozenset(self._pause_until)

    async def _pause(self, asked_seconds: float | None) -> None:
        self._failures += 1
        seconds = asked_seconds or self._back_off_seconds(self._failures)
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _back_off_seconds(self, failures: int) -> float:
        ceiling = min(_SHORTEST_PAUSE_SECONDS * 2 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
        return self._jitter.uniform(ceiling / 2, ceiling)


def joined(deliveries: Sequence[Delivery]) -> dict[int, pa.Table]:
    """One table a shard, in order; its schema metadata names the first and last position it holds."""
    by_shard: dict[int, list[Delivery]] = {}
    for delivery in deliveries:
        by_shard.setdefault(delivery.shard, []).append(delivery)
    tables = {}
    for shard, share in by_shard.items():
        table = pa.concat_tables([delivery.table for delivery in share]).unify_dictionaries().combine_chunks()
        positions = {FIRST_POSITION: str(share[0].position), LAST_POSITION: str(share[-1].position)}
        tables[shard] = table.replace_schema_metadata(positions)
    return tables


def record_id(topic: str, row: pa.Table) -> str:
    """The id of one row of a topic by its content: the same row read again, by a later release too, has the same id."""
    values = {name: column[0].as_py() for name, column in zip(row.column_names, row.columns, strict=True)}
    return digest(
        topic,
        *(f"{name}={value!r}" for name, value in values.items() if value is not None or name not in LATER_COLUMNS),
    )


def place_of(error: BaseException) -> str:
    """File and line where an error was raised: enough to find it, and never a value of the record."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
