"""A device unknown today: its messages wait, go on when it appears, once, and every count adds up meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connector_house import MAPPINGS
from identity_house import IdentityHouse, at
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.device_mapping.tokens import LAST_INSTANT
from pulseweir.ingest.device_uses import Use
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.settings import ConnectorSettings, IdentitySettings
from pulseweir.operations.assign import Assignments
from pulseweir.operations.conserve import Balance, balance
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES, MEASUREMENTS
from pulseweir.worker import Worker

MESSAGES = 30
READY = ("known-1", "known-2")
LATE = "late-1"


class Bench:
    """A running connector on its bus, in front of a FHIR store."""

    def __init__(self, directory: Path, house: IdentityHouse, bus: EmbeddedBus) -> None:
        self.directory = directory
        self.house = house
        self.bus = bus

    @property
    def books(self) -> Balance:
        return balance(self.directory / "bus", DEVICE_MESSAGES, ConnectorStage.group)

    @asynccontextmanager
    async def connector(self, identity: Identity, **settings: Any) -> AsyncIterator[None]:
        incoming = await self.bus.subscribe(DEVICE_MESSAGES, ConnectorStage.group)
        stage = ConnectorStage(MAPPINGS, identity, incoming.seen_before, ConnectorSettings(**settings))
        worker = Worker(stage, self.bus, incoming)
        running = asyncio.create_task(worker.run())
        yield
        worker.stop()
        await running

    async def measured(self) -> list[dict[str, Any]]:
        """Every row on the measurements topic."""
        reader = await self.bus.subscribe(MEASUREMENTS, "reader")
        rows: list[dict[str, Any]] = []
        while delivered := await reader.read(wait_seconds=0, row_limit=10_000):
            rows += [row for one in delivered for row in one.table.to_pylist()]
        await reader.close()
        return rows


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    house = IdentityHouse(tmp_path / "fhir")
    bus = EmbeddedBus.open(tmp_path / "bus")
    for name in ("anna", "bert", "carla"):
        await house.put("Patient", name)
    for name, patient in zip(READY, ("anna", "bert"), strict=True):
        await house.add_device(name)
        await house.add_use(f"use-{name}", name, patient, "08:00")
    yield Bench(tmp_path, house, bus)
    await bus.close()
    await house.close()


def messages(*devices: str) -> pa.Table:
    rows = [
        {
            "message_id": f"{device}-{number}",
            "device_id": device,
            "kind": "bedside-monitor",
            "received_at": at("10:00"),
            "properties_json": "{}",
            "system_properties_json": "{}",
            "body": json.dumps(
                {"device": device, "measuredAt": f"2030-05-01T09:{number:02d}:00Z", "heartRate": 60 + number}
            ).encode(),
        }
        for number in range(MESSAGES)
        for device in devices
    ]
    return pa.Table.from_pylist(rows).cast(DEVICE_MESSAGE_SCHEMA)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def appears_made(bench: Bench) -> None:
    await bench.house.add_device(LATE)
    await bench.house.add_use("use-late", LATE, "carla", "08:00")


async def appears_assigned(bench: Bench) -> None:
    use = Use("carla", at("08:00"), LAST_INSTANT)
    await Assignments(bench.house.fhir, IdentitySettings()).assign(LATE, use)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("appear", [appears_made, appears_assigned])
async def test_messages_of_an_unknown_device_go_on_once_when_it_appears(
    bench: Bench, appear: Callable[[Bench], Awaitable[None]], told: bool
) -> None:
    await bench.bus.publish([(DEVICE_MESSAGES, messages(*READY, LATE))])
    # The clock of memory stands still: only being told ends it, or not remembering at all.
    identity = bench.house.identity(told=told, unknown_cache_seconds=2 if told else 0)

    async with bench.connector(identity):
        await until(lambda: bench.books.done.get("normalized") == 2 * MESSAGES and bench.books.in_flight == MESSAGES)
        assert bench.books.difference == bench.books.quarantined == 0
        await appear(bench)
        await until(lambda: bench.books.in_flight == 0)
        # What was sent again while it waited, or comes again now, is a duplicate.
        await bench.bus.publish([(DEVICE_MESSAGES, messages(LATE))])
        await until(lambda: bench.books.filtered.get("duplicate") == MESSAGES)

    books = bench.books
    assert (books.difference, books.quarantined, books.done) == (0, 0, {"normalized": 3 * MESSAGES})
    rows = await bench.measured()
    assert len(rows) == 3 * MESSAGES == len({row["observation_id"] for row in rows})
    assert {row["device_id"]: row["patient_id"] for row in rows} == {
        "known-1": "anna",
        "known-2": "bert",
        LATE: "carla",
    }


async def test_a_connector_started_anew_still_holds_what_waited(bench: Bench) -> None:
    await bench.bus.publish([(DEVICE_MESSAGES, messages(LATE))])
    async with bench.connector(bench.house.identity()):
        await until(lambda: bench.books.in_flight == MESSAGES and bench.books.difference == 0)

    await appears_made(bench)
    async with bench.connector(bench.house.identity()):
        await until(lambda: bench.books.done.get("normalized") == MESSAGES)

    assert bench.books.difference == bench.books.in_flight == 0
    assert {row["patient_id"] for row in await bench.measured()} == {"carla"}


async def test_a_device_that_never_appears_is_set_aside_with_the_remedy(bench: Bench) -> None:
    await bench.bus.publish([(DEVICE_MESSAGES, messages(LATE, READY[0]))])

    async with bench.connector(bench.house.identity(), identity_wait_seconds=0):
        await until(lambda: bench.books.quarantined == MESSAGES)

    assert bench.books.difference == bench.books.in_flight == 0
    assert bench.books.done == {"normalized": MESSAGES}
