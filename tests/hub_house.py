"""A hub with a bus that tests hold in their hands, and devices that say exactly what a test wants."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from prometheus_client import REGISTRY

from pulseweir.backends.bus.base import Subscription
from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import BusUnavailable
from pulseweir.ingest.hub.certificates import make_certificate
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.packets import Connack, Connect, Packet, Publish, Will, encode
from pulseweir.ingest.hub.registry import Device, DeviceEntry, Registry
from pulseweir.ingest.hub.sas import make_token
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES

FREE_PORTS = HubSettings(mqtt_port=0, http_port=0, mqtts_port=0, https_port=0, registry_poll_seconds=0.1)
DEVICES = [DeviceEntry(f"monitor-{number}", "bedside-monitor") for number in range(4)]


@dataclass
class HeldBus:
    """A bus whose commits a test can hold back or let fail."""

    tables: list[pa.Table] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    is_broken: bool = False

    async def publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.is_broken:
            raise BusUnavailable(DEVICE_MESSAGES, "disk full")
        assert [topic for topic, _ in tables] == [DEVICE_MESSAGES]
        assert all(table.schema == DEVICE_MESSAGE_SCHEMA for _, table in tables)
        self.tables += [table for _, table in tables]

    async def subscribe(self, topic: str, group: str) -> Subscription:
        raise AssertionError

    async def close(self) -> None:
        return

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for table in self.tables for row in table.to_pylist()]


@dataclass
class House:
    """A hub with its registry and bus."""

    hub: Hub
    registry: Registry
    bus: HeldBus
    certificate: Path

    def device(self, number: int = 0) -> Device:
        device = self.registry.get(f"monitor-{number}")
        assert device is not None
        return device


class Peer:
    """A device that says exactly what a test wants."""

    dialled: ClassVar[list["Peer"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._packets: list[Packet] = []

    @classmethod
    async def dial(cls, port: int | None, tls: ssl.SSLContext | None = None) -> "Peer":
        name = "localhost" if tls else None
        peer = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))
        cls.dialled.append(peer)
        return peer

    @classmethod
    async def join(cls, house: House, number: int = 0, *, will: Will | None = None, keep_alive: int = 60) -> "Peer":
        peer = await cls.dial(house.hub.mqtt_port)
        assert await peer.ask(connect_of(house.device(number), will=will, keep_alive=keep_alive)) == accepted(0)
        return peer

    def say(self, *packets: Packet | bytes) -> None:
        self.writer.write(b"".join(packet if isinstance(packet, bytes) else encode(packet) for packet in packets))

    async def hear(self) -> Packet | None:
        """The next packet; None when the hub has closed."""
        while not self._packets:
            try:
                chunk = await self.reader.read(65_536)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._packets += self._decoder.feed(chunk)
        return self._packets.pop(0)

    async def ask(self, *packets: Packet | bytes) -> Packet | None:
        self.say(*packets)
        return await self.hear()


def accepted(code: int) -> Connack:
    return Connack(session_present=False, code=code)


def token_of(device: Device, key: str | None = None, seconds: int = 600) -> str:
    return make_token(
        "localhost", device.device_id, key or device.primary_key, real_microseconds() // 1_000_000 + seconds
    )


def connect_of(device: Device, *, token: str | None = None, will: Will | None = None, keep_alive: int = 60) -> Connect:
    username = f"localhost/{device.device_id}/?api-version=2021-04-12"
    return Connect(4, device.device_id, keep_alive, True, username, (token or token_of(device)).encode(), will)


def message(
    device_id: str = "monitor-0", packet_id: int = 1, bag: str = "", body: bytes = b'{"heartRate":80}'
) -> Publish:
    topic = f"devices/{device_id}/messages/events/{bag}"
    return Publish(topic, body, 1 if packet_id else 0, packet_id, retain=False, duplicate=False)


def ended(reason: str, protocol: str = "mqtt") -> float:
    labels = {"protocol": protocol, "reason": reason}
    return REGISTRY.get_sample_value("pulseweir_hub_connections_ended_total", labels) or 0.0


async def start(directory: Path, settings: HubSettings = FREE_PORTS) -> House:
    registry = Registry.open(directory / "hub")
    registry.import_entries(DEVICES)
    certificate, private_key = make_certificate(directory / "certificates")
    files = {"certificate_file": certificate, "private_key_file": private_key}
    bus = HeldBus()
    bus.gate.set()
    hub = Hub(bus, registry, settings.model_copy(update=files), Clock())
    await hub.start()
    return House(hub, registry, bus, certificate)


async def hang_up() -> None:
    """Drop every connection that peers opened."""
    for peer in Peer.dialled:
        peer.writer.transport.abort()
        with suppress(ConnectionError):
            await peer.writer.wait_closed()
    Peer.dialled.clear()
