"""The delivery loop: what happens to a batch when the world, the data or the code is at fault."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.settings import BusSettings
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.operations.conserve import balance
from pulseweir.records.identifiers import shard_of
from pulseweir.records.topics import DEVICE_MESSAGES, INSTANT
from pulseweir.worker import FIRST_POSITION, LAST_POSITION, Handled, Stage, Worker, record_id


def messages(*names: str) -> pa.Table:
    count = len(names)
    return pa.table(
        {
            "message_id": list(names),
            "device_id": [name[0] for name in names],
            "kind": [""] * count,
            "received_at": pa.array([0] * count, pa.int64()).cast(INSTANT),
            "properties_json": ["{}"] * count,
            "system_properties_json": ["{}"] * count,
            "body": [b"{}"] * count,
        }
    )


class Recorder(Stage):
    """Remembers what it handled; fails where a test says so."""

    topic = DEVICE_MESSAGES
    group = "recorder"

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.park: set[str] = set()
        self.idle = asyncio.Event()
        self.expected = 0

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        handled = Handled()
        names = [name for table in tables.values() for name in table["message_id"].to_pylist()]
        for name in names:
            if self.failures.get(name):
                raise self.failures[name].pop(0)
        for table in tables.values():
            for index, name in enumerate(table["message_id"].to_pylist()):
                if name in self.park:
                    self.park.discard(name)
                    row = table.slice(index, 1)
                    item = SetAside(record_id(self.topic, row), row, self.group, "not-yet", "Wait.")
                    handled.outcome.parked.append(item)
                else:
                    self.handled.append(name)
                    handled.outcome.count("done")
        if len(self.handled) >= self.expected:
            self.idle.set()
        return handled


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    opened = EmbeddedBus.open(tmp_path, BusSettings(shard_count=4))
    yield opened
    await opened.close()


async def run_until(stage: Recorder, bus: EmbeddedBus, expected: int) -> None:
    stage.expected = expected
    worker = Worker(stage, bus, await bus.subscribe(stage.topic, stage.group))
    running = asyncio.create_task(worker.run())
    await stage.idle.wait()
    worker.stop()
    await running


async def test_rows_are_handled_once_and_counted(bus: EmbeddedBus) -> None:
    stage = Recorder()
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "b1", "c1"))])

    await run_until(stage, bus, 3)

    assert sorted(stage.handled) == ["a1", "b1", "c1"]
    books = balance(bus.directory, DEVICE_MESSAGES, stage.group)
    assert (books.done, books.in_flight, books.difference) == ({"done": 3}, 0, 0)


async def test_a_world_that_recovers_delays_its_shard_and_loses_nothing(bus: EmbeddedBus) -> None:
    stage = Recorder()
    stage.failures["a1"] = [RetryLater("the service is away", retry_after_seconds=0.01), RetryLater("still")]
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "b1", "c1", "d1"))])

    await run_until(stage, bus, 4)

    assert sorted(stage.handled) == ["a1", "b1", "c1", "d1"]
    elsewhere = [name for name in stage.handled if shard_of(name[0], 4) != shard_of("a", 4)]
    assert elsewhere
    assert stage.handled.index("a1") > max(stage.handled.index(name) for name in elsewhere)
    assert balance(bus.directory, DEVICE_MESSAGES, stage.group).difference == 0


async def test_a_shard_that_waits_alone_does_not_hold_back_the_others(bus: EmbeddedBus) -> None:
    stage = Recorder()
    stage.failures["a1"] = [RetryLater("asks for an hour", retry_after_seconds=3_600)]
    await bus.publish([(DEVICE_MESSAGES, messages("a1"))])
    stage.expected = 1
    worker = Worker(stage, bus, await bus.subscribe(stage.topic, stage.group))
    running = asyncio.create_task(worker.run())
    while stage.failures["a1"]:
        await asyncio.sleep(0)
    other = next(letter for letter in "bcdefgh" if shard_of(letter, 4) != shard_of("a", 4))

    await bus.publish([(DEVICE_MESSAGES, messages(f"{other}1"))])
    await stage.idle.wait()
    worker.stop()
    await running

    assert stage.handled == [f"{other}1"]
    assert balance(bus.directory, DEVICE_MESSAGES, stage.group).in_flight == 1


async def test_a_bug_met_by_one_record_quarantines_that_record_only(bus: EmbeddedBus) -> None:
    stage = Recorder()
    stage.failures["a2"] = [ValueError("value 72 of a patient")] * 9
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "a2", "a3", "b1"))])

    await run_until(stage, bus, 3)

    assert sorted(stage.handled) == ["a1", "a3", "b1"]
    books = balance(bus.directory, DEVICE_MESSAGES, stage.group)
    assert (books.done, books.quarantined, books.difference) == ({"done": 3}, 1, 0)


async def test_a_rejected_record_keeps_its_reason_and_no_patient_data(bus: EmbeddedBus) -> None:
    stage = Recorder()
    stage.failures["a1"] = [RejectRecord("Body is not JSON. Fix the sender.", reason="not-json")] * 9
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "b1"))])

    await run_until(stage, bus, 1)

    subscription = await bus.subscribe(DEVICE_MESSAGES, stage.group)
    [item] = subscription._ledger.entries("quarantined")
    assert (item.reason, item.row["message_id"].to_pylist()) == ("not-json", ["a1"])


async def test_a_parked_row_is_tried_again_by_itself(bus: EmbeddedBus) -> None:
    stage = Recorder()
    stage.park = {"a1"}
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "b1"))])

    await run_until(stage, bus, 2)

    assert stage.handled == ["b1", "a1"]
    books = balance(bus.directory, DEVICE_MESSAGES, stage.group)
    assert (books.done, books.in_flight, books.difference) == ({"done": 2}, 0, 0)


class Counter(Stage):
    """Keeps a count a shard as its state and commits it rarely."""

    topic = DEVICE_MESSAGES
    group = "counter"
    commit_seconds = 3_600.0

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.seen: list[str] = []
        self.poison: set[str] = set()

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        outcome = Outcome()
        for shard, table in tables.items():
            assert table.schema.metadata is None or int(table.schema.metadata[FIRST_POSITION]) <= int(
                table.schema.metadata[LAST_POSITION]
            )
            for name in table["message_id"].to_pylist():
                self.counts[shard] += 1
                if name in self.poison:
                    raise RuntimeError(name)
                self.seen.append(name)
                outcome.count("done")
        return Handled(outcome=outcome)

    def assigned(self, shard: int, snapshot: bytes | None) -> None:
        self.counts[shard] = int(snapshot or b"0")

    def revoked(self, shard: int) -> None:
        self.counts.pop(shard)

    def snapshots(self) -> Mapping[int, bytes]:
        return {shard: str(count).encode() for shard, count in self.counts.items()}


async def count_until(stage: Counter, bus: EmbeddedBus, expected: int) -> None:
    worker = Worker(stage, bus, await bus.subscribe(stage.topic, stage.group))
    running = asyncio.create_task(worker.run())
    while len(set(stage.seen)) < expected:
        await asyncio.sleep(0)
    worker.stop()
    await running


async def test_state_and_position_are_saved_together(bus: EmbeddedBus) -> None:
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "a2", "b1"))])
    await count_until(Counter(), bus, 3)
    await bus.publish([(DEVICE_MESSAGES, messages("a3"))])
    second = Counter()

    await count_until(second, bus, 1)

    assert second.seen == ["a3"]
    assert sum(second.counts.values()) == 4


async def test_a_poison_record_leaves_no_trace_in_the_state(bus: EmbeddedBus) -> None:
    stage = Counter()
    stage.poison = {"a2"}
    await bus.publish([(DEVICE_MESSAGES, messages("a1", "a2", "a3"))])

    await count_until(stage, bus, 2)

    assert sum(stage.counts.values()) == 2
    books = balance(bus.directory, DEVICE_MESSAGES, stage.group)
    assert (books.done, books.quarantined, books.difference) == ({"done": 2}, 1, 0)
