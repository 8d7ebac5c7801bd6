"""What every bus must keep: the embedded one now, Kafka when it comes."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.backends.bus.base import Bus, Delivery, Outcome, SetAside, Subscription
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.bus.encoding import cut, decode, to_schema
from pulseweir.backends.settings import BusSettings
from pulseweir.errors import LeaseLost
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES, INSTANT

GROUP = "readers"


@pytest.fixture(params=["embedded"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    assert request.param == "embedded"
    opened = EmbeddedBus.open(tmp_path / "bus", BusSettings(shard_count=4))
    yield opened
    await opened.close()


def messages(*pairs: tuple[str, str], body: bytes = b"{}") -> pa.Table:
    """Device messages of (device, message id)."""
    count = len(pairs)
    return pa.table(
        {
            "message_id": [message for _, message in pairs],
            "device_id": [device for device, _ in pairs],
            "kind": [""] * count,
            "received_at": pa.array([0] * count, pa.int64()).cast(INSTANT),
            "properties_json": ["{}"] * count,
            "system_properties_json": ["{}"] * count,
            "body": [body] * count,
        }
    )


def ids(deliveries: list[Delivery]) -> list[str]:
    return [name for delivery in deliveries for name in delivery.table["message_id"].to_pylist()]


def ends(deliveries: list[Delivery]) -> dict[int, int]:
    return {delivery.shard: delivery.position for delivery in deliveries}


async def read_all(subscription: Subscription) -> list[Delivery]:
    await subscription.assigned()
    found: list[Delivery] = []
    while batch := await subscription.read(wait_seconds=0, row_limit=100):
        found += batch
    return found


async def test_published_rows_are_read_whole_and_in_order_within_a_key(bus: Bus) -> None:
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)

    for number in range(20):
        await bus.publish([(DEVICE_MESSAGES, messages(("a", f"a{number}"), ("b", f"b{number}")))])
    read = ids(await read_all(subscription))

    assert [name for name in read if name[0] == "a"] == [f"a{number}" for number in range(20)]
    assert [name for name in read if name[0] == "b"] == [f"b{number}" for number in range(20)]


async def test_uncommitted_rows_are_delivered_again_and_committed_ones_are_not(bus: Bus) -> None:
    first = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a1")))])
    await first.commit(ends(await read_all(first)), Outcome({"done": 1}))
    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a2")))])
    await read_all(first)
    await first.close()

    second = await bus.subscribe(DEVICE_MESSAGES, GROUP)

    assert ids(await read_all(second)) == ["a2"]


async def test_rewind_and_restart_read_again_from_the_committed_position(bus: Bus) -> None:
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a1")))])
    [delivery] = await read_all(subscription)

    await subscription.rewind(delivery.shard)
    again = await read_all(subscription)
    await subscription.restart()
    once_more = await read_all(subscription)

    assert ids(again) == ids(once_more) == ["a1"]


async def test_every_group_reads_everything(bus: Bus) -> None:
    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a1"), ("b", "b1")))])

    for group in ("one", "two"):
        assert sorted(ids(await read_all(await bus.subscribe(DEVICE_MESSAGES, group)))) == ["a1", "b1"]


async def test_members_share_the_shards_and_take_over_those_of_one_that_leaves(bus: Bus) -> None:
    first = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await first.assigned()
    second = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await second.assigned()
    await first.restart()
    await second.restart()
    rows = [(f"device-{number}", f"m{number}") for number in range(40)]
    await bus.publish([(DEVICE_MESSAGES, messages(*rows))])

    mine, theirs = ids(await read_all(first)), ids(await read_all(second))
    await first.close()
    await second.restart()
    after = ids(await read_all(second))

    assert mine
    assert theirs
    assert sorted(mine + theirs) == sorted(name for _, name in rows)
    assert sorted(after) == sorted(name for _, name in rows)


async def test_a_member_that_lost_its_shard_cannot_commit_on_it(bus: Bus) -> None:
    first = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await bus.publish([(DEVICE_MESSAGES, messages(*((f"device-{number}", f"m{number}") for number in range(40))))])
    everything = ends(await read_all(first))
    second = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await second.assigned()
    await first.restart()
    await second.restart()

    with pytest.raises(LeaseLost):
        await first.commit(everything, Outcome({"done": 40}))

    assert sorted(ids(await read_all(first)) + ids(await read_all(second))) == sorted(f"m{n}" for n in range(40))


async def test_a_waiting_reader_is_woken_by_a_publication(bus: Bus) -> None:
    import asyncio

    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    waiting = asyncio.create_task(subscription.read(wait_seconds=30, row_limit=10))
    await asyncio.sleep(0)

    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a1")))])

    assert ids(await waiting) == ["a1"]


async def test_paused_shards_are_left_out_and_lose_nothing(bus: Bus) -> None:
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    await bus.publish([(DEVICE_MESSAGES, messages(*((f"device-{number}", f"m{number}") for number in range(40))))])

    some = await subscription.read(wait_seconds=0, row_limit=100, without=frozenset({0, 1}))
    rest = await read_all(subscription)

    assert not {delivery.shard for delivery in some} & {0, 1}
    assert sorted(ids(some) + ids(rest)) == sorted(f"m{number}" for number in range(40))


async def test_a_snapshot_comes_back_with_the_shard(bus: Bus) -> None:
    first = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await bus.publish([(DEVICE_MESSAGES, messages(("a", "a1")))])
    [delivery] = await read_all(first)
    await first.commit({delivery.shard: delivery.position}, Outcome({"done": 1}), {delivery.shard: b"state"})
    await first.close()

    second = await bus.subscribe(DEVICE_MESSAGES, GROUP)

    assert (await second.assigned())[delivery.shard] == b"state"


def aside(table: pa.Table, name: str) -> SetAside:
    return SetAside(name, table, "connector", "device-unknown", "Register the device.")


async def test_a_parked_row_comes_due_and_leaves_once(bus: Bus) -> None:
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    row = messages(("a", "a1"))
    await bus.publish([(DEVICE_MESSAGES, row)])
    await subscription.commit(ends(await read_all(subscription)), Outcome(parked=[aside(row, "id-1")]))

    due: list[SetAside] = []
    while not due:
        due = await subscription.due(row_limit=10)
    await subscription.settle(["id-1"], Outcome({"done": 1}))

    assert due[0].record_id == "id-1"
    assert due[0].row["message_id"].to_pylist() == ["a1"]
    assert due[0].first_at_microseconds > 0
    with pytest.raises(LeaseLost):
        await subscription.settle(["id-1"], Outcome({"done": 1}))


async def test_seen_ids_are_remembered_by_their_group_only(bus: Bus) -> None:
    one, two = await bus.subscribe(DEVICE_MESSAGES, "one"), await bus.subscribe(DEVICE_MESSAGES, "two")
    await one.assigned()

    await one.commit({}, Outcome({"done": 1}, seen=["x"]))

    assert await one.seen_before(["x", "y"]) == {"x"}
    assert await two.seen_before(["x", "y"]) == set()


async def test_rotation_and_removal_keep_order_positions_and_counts(tmp_path: Path) -> None:
    opened = EmbeddedBus.open(tmp_path, BusSettings(shard_count=2, rotate_bytes=1_048_576))
    subscription = await opened.subscribe(DEVICE_MESSAGES, GROUP)
    noise = random.Random(7)
    for number in range(60):
        body = noise.randbytes(50_000)
        await opened.publish([(DEVICE_MESSAGES, messages(("a", f"a{number:02}"), body=body))])

    read = await read_all(subscription)
    log = opened.open_log(DEVICE_MESSAGES)
    files = len(list((tmp_path / "topics" / DEVICE_MESSAGES).glob("*.db")))
    kept = log.remove_settled([ends(read), {}], float("inf")) + log.remove_settled([ends(read)], 0.0)
    removed = log.remove_settled([ends(read)], float("inf"))

    assert files > 2
    assert kept == 0
    assert removed == files - 1
    assert ids(read) == [f"a{number:02}" for number in range(60)]
    assert log.total_rows() == 60
    assert sum(log.rows_up_to(ends(read)).values()) == 60
    log.close()
    await opened.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=20)), min_size=1, max_size=60),
    st.integers(1, 9),
)
def test_cutting_by_shard_keeps_every_row_once_and_the_order_of_each_key(
    rows: list[tuple[str, bytes]], shard_count: int
) -> None:
    table = to_schema(messages(*((key, str(number)) for number, (key, _) in enumerate(rows))), DEVICE_MESSAGE_SCHEMA)

    pieces = [decode(payload) for _, _, payload in cut(table, "device_id", shard_count)]
    joined = [
        pair
        for piece in pieces
        for pair in zip(*(piece[c].to_pylist() for c in ("device_id", "message_id")), strict=True)
    ]

    assert sorted(joined) == sorted((key, str(number)) for number, (key, _) in enumerate(rows))
    for key in {key for key, _ in rows}:
        order = [int(number) for device, number in joined if device == key]
        assert order == sorted(order)
    shard_of_key = [
        (device, shard)
        for shard, _, payload in cut(table, "device_id", shard_count)
        for device in set(decode(payload)["device_id"].to_pylist())
    ]
    assert len({device for device, _ in shard_of_key}) == len(set(shard_of_key))


def test_a_batch_of_many_megabytes_is_cut_into_records_of_one_at_most() -> None:
    noise = random.Random(3)
    rows = [("a", str(number)) for number in range(60)]
    table = messages(*rows).set_column(6, "body", pa.array([noise.randbytes(100_000) for _ in rows]))

    payloads = [payload for _, _, payload in cut(to_schema(table, DEVICE_MESSAGE_SCHEMA), "device_id", 4)]

    assert max(map(len, payloads)) <= 1_000_000
    assert sum(decode(payload).num_rows for payload in payloads) == 60
