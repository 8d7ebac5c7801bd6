"""The edge: what devices gave it reaches the hub in order, once, however long the line was down."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub_house import FREE_PORTS, HeldBus, House, Peer, connect_of, hang_up, message
from hub_house import start as start_hub
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.clock import Clock
from pulseweir.errors import PlainUpstream
from pulseweir.ingest.edge import FORWARDED, Edge, ForwardStage
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.packets import Connack, Puback, Publish
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.ingest.settings import EdgeSettings
from pulseweir.records.identifiers import message_id

LOCAL = FREE_PORTS.model_copy(update={"http_port": None})


@dataclass
class RunningEdge:
    """An edge on its own directory, forwarding."""

    edge: Edge
    bus: EmbeddedBus
    registry: Registry
    task: asyncio.Task[None]

    @classmethod
    async def start(cls, directory: Path, house: House, *, port: int | None = None, tls: bool = False) -> "RunningEdge":
        registry = Registry.open(directory / "hub")
        registry.import_entries(
            DeviceEntry(device.device_id, primary_key=device.primary_key, secondary_key=device.secondary_key)
            for device in house.registry.list_devices()
        )
        bus = EmbeddedBus.open(directory / "bus")
        settings = EdgeSettings(
            local=LOCAL,
            upstream_port=port or (house.hub.mqtts_port if tls else house.hub.mqtt_port) or 1,
            upstream_tls=tls,
            upstream_certificate_file=house.certificate if tls else None,
            upstream_timeout_seconds=2,
        )
        edge = Edge(bus, registry, settings, Clock())
        await edge.start()
        return cls(edge, bus, registry, asyncio.create_task(edge.run()))

    async def stop(self) -> None:
        await self.edge.stop()
        await self.task
        await self.bus.close()

    async def join(self, house: House, number: int = 0) -> Peer:
        peer = await Peer.dial(self.edge.hub.mqtt_port)
        assert await peer.ask(connect_of(house.device(number))) == Connack(session_present=False, code=0)
        return peer


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    started = await start_hub(tmp_path / "central")
    yield started
    started.bus.gate.set()
    await started.hub.stop()


@pytest.fixture(autouse=True)
async def _peers_hang_up() -> AsyncIterator[None]:
    yield
    await hang_up()


async def rows_at(house: House, count: int) -> list[dict[str, Any]]:
    """What the hub holds, once it is that many."""
    while len({row["message_id"] for row in house.bus.rows}) < count:
        await asyncio.sleep(0.01)
    return house.bus.rows


def numbered(device_id: str, numbers: range, bag: str = "$.mid=") -> list[Publish]:
    return [message(device_id, number + 1, f"{bag}{number}" if bag else "", b"%d" % number) for number in numbers]


async def test_messages_pass_with_their_device_kind_id_and_properties(house: House, tmp_path: Path) -> None:
    running = await RunningEdge.start(tmp_path / "edge", house, tls=True)
    peer = await running.join(house)

    assert await peer.ask(message(bag="$.mid=m1&%24.ct=text%2Fplain&ward=A%2F1", body=b"\x00raw")) == Puback(1)

    (row,) = await rows_at(house, 1)
    assert (row["device_id"], row["kind"], row["body"]) == ("monitor-0", "bedside-monitor", b"\x00raw")
    assert row["message_id"] == message_id("monitor-0", "m1", b"", 0)
    assert msgspec.json.decode(row["properties_json"]) == {"ward": "A/1"}
    assert msgspec.json.decode(row["system_properties_json"])["content-type"] == "text/plain"
    await running.stop()


async def test_what_came_while_the_hub_was_down_follows_in_order(house: House, tmp_path: Path) -> None:
    port = house.hub.mqtt_port
    await house.hub.stop()
    running = await RunningEdge.start(tmp_path / "edge", house, port=port)
    for number in range(3):
        peer = await running.join(house, number)
        peer.say(*numbered(f"monitor-{number}", range(50)))
        assert [await peer.hear() for _ in range(50)] == [Puback(place) for place in range(1, 51)]
    while running.edge.has_line:
        await asyncio.sleep(0.01)

    house.hub = Hub(house.bus, house.registry, FREE_PORTS.model_copy(update={"mqtt_port": port}), Clock())
    await house.hub.start()

    rows = await rows_at(house, 150)
    for number in range(3):
        first_seen = list(dict.fromkeys(row["body"] for row in rows if row["device_id"] == f"monitor-{number}"))
        assert first_seen == [b"%d" % place for place in range(50)]
    while running.edge.forwarded < 150:
        await asyncio.sleep(0.01)
    assert running.edge.has_line
    await running.stop()


async def test_an_edge_started_again_forwards_what_it_still_holds(house: House, tmp_path: Path) -> None:
    house.bus.gate.clear()
    running = await RunningEdge.start(tmp_path / "edge", house)
    peer = await running.join(house)
    peer.say(*numbered("monitor-0", range(20), bag=""))
    assert [await peer.hear() for _ in range(20)] == [Puback(place) for place in range(1, 21)]
    await house.bus.entered.wait()
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0)
    await stopping
    assert house.bus.rows == []

    house.bus.gate.set()
    again = await RunningEdge.start(tmp_path / "edge", house)

    rows = await rows_at(house, 20)
    assert list(dict.fromkeys(row["body"] for row in rows)) == [b"%d" % place for place in range(20)]
    assert len({row["message_id"] for row in rows}) == 20
    await again.stop()


async def test_a_device_the_hub_refuses_waits_alone(house: House, tmp_path: Path) -> None:
    house.registry.disable("monitor-1")
    running = await RunningEdge.start(tmp_path / "edge", house)
    running.registry.enable("monitor-1")

    for number in (1, 0):
        peer = await running.join(house, number)
        assert await peer.ask(message(f"monitor-{number}")) == Puback(1)

    (row,) = await rows_at(house, 1)
    assert row["device_id"] == "monitor-0"
    house.registry.enable("monitor-1")
    assert {row["device_id"] for row in await rows_at(house, 2)} == {"monitor-0", "monitor-1"}
    await running.stop()


async def test_each_row_is_counted_once(house: House, tmp_path: Path) -> None:
    await house.hub.stop()
    local, registry = HeldBus(), Registry.open(tmp_path / "local")
    local.gate.set()
    registry.import_entries(
        DeviceEntry(device.device_id, primary_key=device.primary_key) for device in house.registry.list_devices()
    )
    collecting = Hub(local, registry, LOCAL, Clock())
    await collecting.start()
    for number in range(2):
        peer = await Peer.dial(collecting.mqtt_port)
        await peer.ask(connect_of(house.device(number)))
        await peer.ask(message(f"monitor-{number}"))
    await collecting.stop()
    house.hub = Hub(house.bus, house.registry, FREE_PORTS, Clock())
    await house.hub.start()
    house.registry.disable("monitor-1")
    stage = ForwardStage(registry, EdgeSettings(upstream_port=house.hub.mqtt_port or 1, upstream_tls=False))

    handled = await stage.handle(dict(enumerate(local.tables)))

    assert handled.outcome.tallies == {FORWARDED: 1}
    (parked,) = handled.outcome.parked
    assert parked.row.column("device_id").to_pylist() == ["monitor-1"]
    assert "pulseweir device show monitor-1" in parked.message
    stage.close()


def test_an_edge_sends_in_the_clear_to_its_own_machine_only(tmp_path: Path) -> None:
    settings = EdgeSettings(upstream_host="hub.example", upstream_tls=False)

    with pytest.raises(PlainUpstream, match=r"hub\.example"):
        Edge(HeldBus(), Registry.open(tmp_path), settings, Clock())
