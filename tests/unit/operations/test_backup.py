"""A backup taken while everything is written is whole: what it says is done is in it, what is not is done again."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from pulseweir.backends.bus.base import Outcome
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.errors import RefuseToStart
from pulseweir.operations.backup import backup, restore
from pulseweir.operations.conserve import balance
from pulseweir.records.topics import DEVICE_MESSAGES, INSTANT
from pulseweir.sqlite import connect

GROUP = "connector"
BACKUPS = 5


def messages(first: int, count: int) -> pa.Table:
    return pa.table(
        {
            "message_id": [str(number) for number in range(first, first + count)],
            "device_id": [f"d{number % 5}" for number in range(first, first + count)],
            "kind": [""] * count,
            "received_at": pa.array([0] * count, pa.int64()).cast(INSTANT),
            "properties_json": ["{}"] * count,
            "system_properties_json": ["{}"] * count,
            "body": [b"{}"] * count,
        }
    )


async def write(bus: EmbeddedBus) -> None:
    """Publish and commit until cancelled."""
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    number = 0
    while True:
        await bus.publish([(DEVICE_MESSAGES, messages(number, 20))])
        number += 20
        deliveries = await subscription.read(wait_seconds=0.1, row_limit=100)
        rows = sum(delivery.table.num_rows for delivery in deliveries)
        await subscription.commit({one.shard: one.position for one in deliveries}, Outcome({"normalized": rows}))


async def test_every_backup_of_a_bus_in_use_is_balanced_and_can_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "run").mkdir(parents=True)
    (data / "run" / "web.json").write_text("{}")
    (data / "lock").touch()
    (data / "hub").mkdir()
    (data / "hub" / "key.pem").write_text("key")
    bus = EmbeddedBus.open(data / "bus")
    writing = asyncio.create_task(write(bus))
    for number in range(BACKUPS):
        await asyncio.to_thread(backup, data, tmp_path / f"copy-{number}")
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await bus.close()

    for number in range(BACKUPS):
        restored = tmp_path / f"restored-{number}"
        restore(tmp_path / f"copy-{number}", restored)
        books = balance(restored / "bus", DEVICE_MESSAGES, GROUP)
        assert books.difference == 0
        assert books.in_flight >= 0
        assert sorted(path.name for path in restored.iterdir()) == ["bus", "hub"]
        assert await settled(restored) == books.total


async def settled(directory: Path) -> int:
    """Go on where the backup stopped; rows done in the end."""
    bus = EmbeddedBus.open(directory / "bus")
    subscription = await bus.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    while deliveries := await subscription.read(wait_seconds=0, row_limit=1_000):
        rows = sum(delivery.table.num_rows for delivery in deliveries)
        await subscription.commit({one.shard: one.position for one in deliveries}, Outcome({"normalized": rows}))
    await bus.close()
    return balance(directory / "bus", DEVICE_MESSAGES, GROUP).done.get("normalized", 0)


async def test_a_ledger_that_is_only_just_being_made_is_copied_as_it_is(tmp_path: Path) -> None:
    ledger = Path("bus") / "groups" / DEVICE_MESSAGES / f"{GROUP}.db"
    connect(tmp_path / "data" / ledger).close()
    backup(tmp_path / "data", tmp_path / "copy")

    restore(tmp_path / "copy", tmp_path / "restored")

    assert (tmp_path / "restored" / ledger).exists()
    bus = EmbeddedBus.open(tmp_path / "restored" / "bus")
    assert await (await bus.subscribe(DEVICE_MESSAGES, GROUP)).assigned()
    await bus.close()


def test_a_backup_is_for_its_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "hub").mkdir(parents=True)
    (data / "hub" / "key.pem").write_text("key")
    backup(data, tmp_path / "copy")

    restore(tmp_path / "copy", tmp_path / "restored")

    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert (tmp_path / "restored").stat().st_mode & 0o077 == 0


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    with pytest.raises(RefuseToStart, match="Name a folder that does not"):
        backup(tmp_path / "data", tmp_path)


def test_what_is_no_data_directory_cannot_be_copied(tmp_path: Path) -> None:
    with pytest.raises(RefuseToStart, match="Name it with --data-dir"):
        backup(tmp_path / "absent", tmp_path / "copy")


def test_a_restore_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "something").touch()
    (tmp_path / "copy").mkdir()

    with pytest.raises(RefuseToStart, match="Move it away"):
        restore(tmp_path / "copy", tmp_path / "data")


def test_what_is_no_backup_cannot_be_restored(tmp_path: Path) -> None:
    with pytest.raises(RefuseToStart, match="pulseweir backup"):
        restore(tmp_path / "absent", tmp_path / "data")
