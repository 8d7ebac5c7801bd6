"""Rows that wait for a person: listed without their data, redriven and dropped once, exactly counted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.operations import quarantine
from pulseweir.operations.conserve import balance
from pulseweir.records.topics import DEVICE_MESSAGES, INSTANT
from pulseweir.worker import record_id

GROUP = "connector"


def message(name: str) -> pa.Table:
    return pa.table(
        {
            "message_id": [name],
            "device_id": ["monitor-1"],
            "kind": [""],
            "received_at": pa.array([0], pa.int64()).cast(INSTANT),
            "properties_json": ["{}"],
            "system_properties_json": ["{}"],
            "body": [b'{"heartRate": 72, "broken": "\xff"'],
        }
    )


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    """Two messages in quarantine, one parked."""
    opened = EmbeddedBus.open(tmp_path / "bus")
    await opened.publish([(DEVICE_MESSAGES, message(name)) for name in ("bad-1", "bad-2", "waiting")])
    subscription = await opened.subscribe(DEVICE_MESSAGES, GROUP)
    await subscription.assigned()
    for delivery in await subscription.read(wait_seconds=0, row_limit=10):
        outcome = Outcome()
        for index, name in enumerate(delivery.table["message_id"].to_pylist()):
            row = delivery.table.slice(index, 1)
            target = outcome.parked if name == "waiting" else outcome.quarantined
            target.append(
                SetAside(record_id(DEVICE_MESSAGES, row), row, GROUP, "not-json", "Fix it.", "2", "$.x", "byte 7")
            )
        await subscription.commit({delivery.shard: delivery.position}, outcome)
    yield opened
    await opened.close()


async def test_a_list_says_where_why_and_what_to_do_and_nothing_of_the_data(bus: EmbeddedBus) -> None:
    rows = quarantine.listed(bus.directory)

    assert len(rows) == 2
    assert {(row.topic, row.group, row.reason, row.message) for row in rows} == {
        (DEVICE_MESSAGES, GROUP, "not-json", "Fix it.")
    }
    assert (rows[0].template, rows[0].expression, rows[0].place) == ("2", "$.x", "byte 7")
    assert rows[0].since.endswith("Z")
    assert "72" not in repr([(row.reason, row.message, row.place) for row in rows])


async def test_parked_rows_have_a_list_of_their_own(bus: EmbeddedBus) -> None:
    assert len(quarantine.listed(bus.directory, parked=True)) == 1


async def test_showing_a_row_shows_its_data_whatever_its_bytes(bus: EmbeddedBus) -> None:
    row = quarantine.shown(bus.directory, quarantine.listed(bus.directory)[0].id)

    assert row is not None
    assert row["body"] == '{"heartRate": 72, "broken": "\\xff"'
    assert quarantine.shown(bus.directory, "no such id") is None


async def test_redriving_twice_moves_a_row_once(bus: EmbeddedBus) -> None:
    [first, second] = [row.id for row in quarantine.listed(bus.directory)]

    assert quarantine.redrive(bus.directory, [first]) == 1
    assert quarantine.redrive(bus.directory, [first]) == 0
    assert [row.id for row in quarantine.listed(bus.directory)] == [second]
    books = balance(bus.directory, DEVICE_MESSAGES, GROUP)
    assert (books.quarantined, books.in_flight, books.difference) == (1, 2, 0)


async def test_a_redriven_row_is_due_at_once(bus: EmbeddedBus) -> None:
    [first, _] = [row.id for row in quarantine.listed(bus.directory)]
    quarantine.redrive(bus.directory, [first])

    due = await bus._subscriptions[0].due(row_limit=10)

    assert first in [item.record_id for item in due]


async def test_discarding_twice_drops_a_row_once_and_counts_it_as_filtered(bus: EmbeddedBus) -> None:
    [first, _] = [row.id for row in quarantine.listed(bus.directory)]

    assert quarantine.discard(bus.directory, [first]) == 1
    assert quarantine.discard(bus.directory, [first]) == 0
    books = balance(bus.directory, DEVICE_MESSAGES, GROUP)
    assert (books.quarantined, books.filtered, books.difference) == (1, {"discarded": 1}, 0)


async def test_parked_rows_and_unknown_ids_are_left_alone(bus: EmbeddedBus) -> None:
    [waiting] = [row.id for row in quarantine.listed(bus.directory, parked=True)]
    before = balance(bus.directory, DEVICE_MESSAGES, GROUP)

    assert quarantine.redrive(bus.directory, [waiting, "no such id"]) == 0
    assert quarantine.discard(bus.directory, [waiting, "no such id"]) == 0
    assert balance(bus.directory, DEVICE_MESSAGES, GROUP) == before


async def test_where_nothing_ever_ran_nothing_waits(tmp_path: Path) -> None:
    assert quarantine.listed(tmp_path / "elsewhere") == []
