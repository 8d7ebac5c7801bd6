import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import HubRefusedDevice
from pulseweir.ingest.device_client import HubAddress
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.registry import DeviceEntry, Registry, make_key
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.ingest.recorded_monitors import Reading, RecordedPatient, plan_monitors
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan
from pulseweir.ingest.replay_sender import Replay, pacing_clock, register_devices, replay, wait_until
from pulseweir.ingest.ward_setup import DeviceSetup
from pulseweir.records.topics import DEVICE_MESSAGES

MINUTE = 60_000_000
NOBODY: dict[int, RecordedPatient] = {}


@dataclass
class House:
    """A hub on a bus of its own, a registry and a FHIR service that takes everything."""

    address: HubAddress
    registry: Registry
    fhir: FhirClient
    bus: EmbeddedBus
    put: list[str]

    async def stored(self) -> list[dict[str, Any]]:
        subscription = await self.bus.subscribe(DEVICE_MESSAGES, "test")
        rows: list[dict[str, Any]] = []
        while deliveries := await subscription.read(wait_seconds=0.2, row_limit=10_000):
            rows += [row for delivery in deliveries for row in delivery.table.to_pylist()]
        await subscription.close()
        return rows


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    bus = EmbeddedBus.open(tmp_path / "bus")
    registry = Registry.open(tmp_path / "hub")
    hub = Hub(bus, registry, HubSettings(mqtt_port=0, http_port=0, mqtts_port=None, https_port=None), Clock())
    await hub.start()
    put: list[str] = []

    def accept(request: httpx.Request) -> httpx.Response:
        asked = [entry["request"]["url"] for entry in msgspec.json.decode(request.content)["entry"]]
        put.extend(asked)
        entries = [{"response": {"status": "201 Created"}} for _ in asked]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    fhir = FhirClient("http://fhir.test", transport=httpx.MockTransport(accept))
    yield House(HubAddress("127.0.0.1", hub.mqtt_port or 0, hub.http_port), registry, fhir, bus, put)
    await fhir.close()
    await hub.stop()
    registry.close()
    await bus.close()


def _plan(patients: int = 3, minutes: int = 20, **options: Any) -> RecordingPlan:
    readings = [
        Reading(subject, "", minute * MINUTE, minute * MINUTE, "heart_rate", 60 + minute, "", "211")
        for subject in range(1, patients + 1)
        for minute in range(minutes)
    ]
    return plan_monitors(readings, NOBODY, {}, real_microseconds(), RecordingOptions(**options))


async def test_a_replay_registers_sets_up_and_sends_every_message_once(house: House) -> None:
    plan = _plan()

    done = await replay(plan, house.registry, house.fhir, house.address)

    rows = await house.stored()
    assert done.messages_acknowledged == len(rows) == 60
    assert done.readings == 60
    assert {row["kind"] for row in rows} == {"bedside-monitor"}
    assert "Patient/mimic3-patient-3" in house.put
    assert 0 < done.acknowledge_p50_seconds <= done.acknowledge_p99_seconds


async def test_a_device_sends_its_messages_in_charted_order(house: House) -> None:
    await replay(_plan(patients=1), house.registry, house.fhir, house.address)

    rates = [msgspec.json.decode(row["body"])["heartRate"] for row in await house.stored()]
    assert rates == list(range(60, 80))


async def test_a_paced_replay_sends_each_message_when_it_is_due(house: House) -> None:
    plan = _plan(patients=2, minutes=4, live=True)
    pace = pacing_clock(plan, 1_200)
    session = Replay(plan, register_devices(house.registry, plan.devices), house.address, pace=pace)

    await session.connect()
    done = await session.run()
    await session.close()

    assert done.messages_acknowledged == 8
    assert pace is not None
    assert pace.now_microseconds() >= plan.starts_microseconds + 3 * 60 * 1_000_000


async def test_a_stopped_replay_drains_what_it_sent(house: House) -> None:
    plan = _plan(patients=2, minutes=4, live=True)
    session = Replay(plan, register_devices(house.registry, plan.devices), house.address, pace=pacing_clock(plan, 1))
    await session.connect()
    running = asyncio.create_task(session.run())
    while session.acknowledged < 2:
        await asyncio.sleep(0.01)

    await session.stop()
    done = await running
    await session.close()

    assert session.sent == done.messages_acknowledged == 2


async def test_a_device_the_hub_does_not_know_ends_the_replay(house: House) -> None:
    plan = _plan(patients=1)
    session = Replay(plan, {plan.devices[0].device_id: make_key()}, house.address)

    with pytest.raises(HubRefusedDevice):
        await session.connect()

    await session.close()


async def test_registering_again_keeps_the_keys(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path)
    registry.add(DeviceEntry("a", "thermometer"))

    first = register_devices(registry, [DeviceSetup("a", "thermometer"), DeviceSetup("b", "gateway")])
    second = register_devices(registry, [DeviceSetup("a", "thermometer"), DeviceSetup("b", "gateway")])

    assert first == second
    registry.close()


async def test_an_edge_registry_takes_the_keys_of_the_hub(tmp_path: Path) -> None:
    hub, edge = Registry.open(tmp_path / "hub"), Registry.open(tmp_path / "edge")

    keys = register_devices(hub, [DeviceSetup("a", "thermometer")])

    assert register_devices(edge, [DeviceSetup("a", "thermometer")], keys=keys) == keys
    hub.close()
    edge.close()


async def test_waiting_for_an_instant_ends_when_stopping() -> None:
    stopping = asyncio.Event()
    waiting = asyncio.create_task(wait_until(Clock(), real_microseconds() + 3600 * 1_000_000, stopping))

    stopping.set()

    await waiting
