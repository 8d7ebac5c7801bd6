"""Do the counts add up, whatever happened, in whatever order? And do they tell when they do not?"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.backends.bus.embedded import EmbeddedBus, EmbeddedSubscription
from pulseweir.backends.settings import BusSettings
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.operations.conserve import Balance, balance, conserve, lag
from pulseweir.records.topics import DEVICE_MESSAGES, INSTANT, MEASUREMENT_SCHEMA, MEASUREMENTS
from pulseweir.worker import Handled, Stage, Worker, record_id

GROUP = "connector"
FATES = ("normalized", "filtered:unmatched", "filtered:duplicate", "quarantined", "parked", "uncommitted")
STEPS = ("redrive", "discard", "settle", "again")


def messages(names: list[str]) -> pa.Table:
    count = len(names)
    return pa.table(
        {
            "message_id": names,
            "device_id": [f"d{int(name) % 5}" for name in names],
            "kind": [""] * count,
            "received_at": pa.array([0] * count, pa.int64()).cast(INSTANT),
            "properties_json": ["{}"] * count,
            "system_properties_json": ["{}"] * count,
            "body": [b"{}"] * count,
        }
    )


def aside(row: pa.Table) -> SetAside:
    return SetAside(record_id(DEVICE_MESSAGES, row), row, GROUP, "reason", "Do this.")


async def deal_with(subscription: EmbeddedSubscription, fates: Mapping[str, str]) -> None:
    """Commit every delivery, each row with its fate; those left alone are not committed, nor is what follows them."""
    for delivery in await subscription.read(wait_seconds=0, row_limit=10_000):
        outcome = Outcome()
        names = delivery.table["message_id"].to_pylist()
        if any(fates[name] == "uncommitted" for name in names):
            continue
        for index, name in enumerate(names):
            row = delivery.table.slice(index, 1)
            if fates[name] == "quarantined":
                outcome.quarantined.append(aside(row))
            elif fates[name] == "parked":
                outcome.parked.append(aside(row))
            else:
                outcome.count(fates[name])
        await subscription.commit({delivery.shard: delivery.position}, outcome)


async def run_history(directory: Path, fates: list[str], steps: list[tuple[str, int]]) -> list[Balance]:
    """Publish one batch a row, deal with them, then do what operators and workers do to rows set aside."""
    bus = EmbeddedBus.open(directory, BusSettings(shard_count=1))
    found = []
    for number in range(len(fates)):
        await bus.publish([(DEVICE_MESSAGES, messages([str(number)]))])
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    cut = fates.index("uncommitted") if "uncommitted" in fates else len(fates)
    chosen = {str(number): fate if number < cut else "uncommitted" for number, fate in enumerate(fates)}
    await deal_with(subscription, chosen)
    found.append(balance(directory, DEVICE_MESSAGES, GROUP))
    ledger = subscription._ledger
    for step, which in steps:
        state = "parked" if step in ("settle", "again") else "quarantined"
        entries = ledger.entries(state)
        if not entries:
            continue
        item = entries[which % len(entries)]
        if step == "redrive":
            ledger.redrive([item.record_id, item.record_id])
        elif step == "discard":
            ledger.discard([item.record_id, item.record_id])
        elif step == "settle":
            await subscription.settle([item.record_id], Outcome({"normalized": 1}))
        else:
            await subscription.settle([item.record_id], Outcome(parked=[item]))
        found.append(balance(directory, DEVICE_MESSAGES, GROUP))
    await bus.close()
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(FATES), min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=8),
)
def test_every_row_is_in_exactly_one_place_after_any_history(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], steps: list[tuple[str, int]]
) -> None:
    for books in asyncio.run(run_history(tmp_path_factory.mktemp("bus"), fates, steps)):
        accounted = sum(books.done.values()) + sum(books.filtered.values()) + books.quarantined + books.in_flight
        assert books.total == len(fates) == accounted
        assert books.difference == 0


async def test_a_row_that_was_committed_and_not_counted_is_a_difference(tmp_path: Path) -> None:
    bus = EmbeddedBus.open(tmp_path, BusSettings(shard_count=1))
    await bus.publish([(DEVICE_MESSAGES, messages(["1", "2", "3"]))])
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    [delivery] = await subscription.read(wait_seconds=0, row_limit=10)

    await subscription.commit({0: delivery.position}, Outcome({"normalized": 2}))
    await bus.close()

    assert balance(tmp_path, DEVICE_MESSAGES, GROUP).difference == 1
    assert conserve(tmp_path).conservation_difference == 1


async def test_losses_and_double_counts_of_the_two_balances_do_not_cancel(tmp_path: Path) -> None:
    bus = EmbeddedBus.open(tmp_path, BusSettings(shard_count=1))
    rows = pa.Table.from_pylist([dict.fromkeys(MEASUREMENT_SCHEMA.names)], MEASUREMENT_SCHEMA)
    await bus.publish([(DEVICE_MESSAGES, messages(["1"])), (MEASUREMENTS, rows)])
    for topic, group, counted in ((DEVICE_MESSAGES, GROUP, 0), (MEASUREMENTS, "fhir-observations", 2)):
        subscription = await bus.subscribe(topic, group)
        await subscription.assigned()
        [delivery] = await subscription.read(wait_seconds=0, row_limit=10)
        await subscription.commit({0: delivery.position}, Outcome({"done": counted} if counted else {}))
    await bus.close()

    books = conserve(tmp_path)

    assert (books.messages.difference, books.measurements.difference, books.conservation_difference) == (1, -1, 2)


async def test_what_is_parked_counts_as_behind(tmp_path: Path) -> None:
    bus = EmbeddedBus.open(tmp_path, BusSettings(shard_count=1))
    await bus.publish([(DEVICE_MESSAGES, messages(["1", "2"]))])
    assert lag(tmp_path, DEVICE_MESSAGES, GROUP) == 2
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()

    await deal_with(subscription, {"1": "normalized", "2": "parked"})
    await bus.close()

    assert lag(tmp_path, DEVICE_MESSAGES, GROUP) == 1


class Isolating(Stage):
    """Meets a poison record, and a world that is away once while that record is looked for."""

    topic = DEVICE_MESSAGES
    group = GROUP

    def __init__(self) -> None:
        self.is_away = True
        self.seen: set[str] = set()
        self.is_done = asyncio.Event()

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        handled = Handled()
        names = [name for table in tables.values() for name in table["message_id"].to_pylist()]
        if "2" in names:
            raise RejectRecord("It never succeeds. Correct it.", reason="poison")
        if names == ["3"] and self.is_away:
            self.is_away = False
            raise RetryLater("away", retry_after_seconds=0.01)
        handled.outcome.count("normalized", len(names))
        self.seen.update(names)
        if self.seen == {"1", "3"}:
            self.is_done.set()
        return handled


async def test_a_world_that_fails_while_a_poison_record_is_isolated_counts_nothing_twice(tmp_path: Path) -> None:
    bus = EmbeddedBus.open(tmp_path, BusSettings(shard_count=1))
    stage = Isolating()
    await bus.publish([(DEVICE_MESSAGES, messages(["1", "2", "3"]))])
    worker = Worker(stage, bus, await bus.subscribe(DEVICE_MESSAGES, GROUP))
    running = asyncio.create_task(worker.run())
    await stage.is_done.wait()
    worker.stop()
    await running
    await bus.close()

    books = balance(tmp_path, DEVICE_MESSAGES, GROUP)

    assert (books.done, books.filtered, books.quarantined, books.difference) == ({"normalized": 2}, {}, 1, 0)
