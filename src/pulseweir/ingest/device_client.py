"""Step 1: the sending side of a device over MQTT QoS 1: each message is kept until the hub acknowledges it.

Own code rather than an MQTT library, because a sender has to know which messages the hub has acknowledged, mark
what it sends again as a duplicate, and bound what is in flight. Delivery is at least once.
"""

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pulseweir.clock import real_microseconds
from pulseweir.errors import HubRefusedDevice, HubUnreachable, ProtocolViolation, RejectRecord
from pulseweir.ingest.hub import dialect, packets
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.sas import make_token

BODY_LIMIT_BYTES = 256 * 1024
LATENCY_SAMPLES = 100_000
API_VERSION = "2021-04-12"
_JSON_TEXT = {"content-type": "application/json", "content-encoding": "utf-8"}
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where devices find a hub, or an edge that stands in for it.

    Attributes:
        host: Name or address to connect to.
        mqtt_port: MQTT, over TLS when `tls` is given.
        https_port: HTTPS; plain HTTP without `tls`, on loopback only.
        host_name: The hub's own name, signed in tokens.
        tls: Context that trusts the hub's certificate; None for plain TCP on loopback.
    """

    host: str
    mqtt_port: int
    https_port: int | None = None
    host_name: str = "localhost"
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class SendingCounts:
    """What a device has handed over so far.

    Attributes:
        sent: Messages accepted by `send`.
        acknowledged: Messages the hub has made durable.
        latencies_seconds: First send to acknowledgement, real seconds, the newest of them.
        first_sent: Monotonic instant of the first send.
        last_acknowledged: Monotonic instant of the newest acknowledgement.
    """

    sent: int = 0
    acknowledged: int = 0
    latencies_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_SAMPLES))
    first_sent: float | None = None
    last_acknowledged: float | None = None

    def count_sent(self) -> float:
        """Count one message; the monotonic instant."""
        now = time.monotonic()
        self.sent += 1
        if self.first_sent is None:
            self.first_sent = now
        return now

    def count_acknowledged(self, sent_at: float) -> None:
        """Count one acknowledgement of a message first sent at that monotonic instant."""
        now = time.monotonic()
        self.acknowledged += 1
        self.last_acknowledged = now
        self.latencies_seconds.append(now - sent_at)


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How a device sends.

    Attributes:
        in_flight_limit: Messages sent and not acknowledged at most; `send` waits at the limit.
        token_seconds: Life of a SAS token; the hub closes the connection at its end and the device comes back.
        keep_alive_seconds: Silence after which the connection is tried, and given up at twice as much.
        give_up_seconds: Time without any acknowledgement after which waiting calls raise; None waits for ever.
    """

    in_flight_limit: int = 64
    token_seconds: int = 3600
    keep_alive_seconds: int = 60
    give_up_seconds: float | None = None


DEFAULT_OPTIONS = DeviceOptions()


def sas_token(host_name: str, device_id: str, key: str, life_seconds: int) -> str:
    """A token for this device, valid from now for so many real seconds."""
    return make_token(host_name, device_id, key, real_microseconds() // 1_000_000 + life_seconds)


class MqttDevice:
    """One device's MQTT connection: comes back by itself and sends again what was not acknowledged."""

    def __init__(self, hub: HubAddress, device_id: str, key: str, options: DeviceOptions = DEFAULT_OPTIONS) -> None:
        self.device_id = device_id
        self.counts = SendingCounts()
        self._hub = hub
        self._key = key
        self._options = options
        self._topic_head = f"{dialect.events_topic(device_id)}{_bag({}, _JSON_TEXT)}&"
        self._in_flight: dict[int, tuple[packets.Publish, float]] = {}
        self._next_packet_id = 0
        self._link: _Link | None = None
        self._refused: HubRefusedDevice | None = None
        self._progress: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._waiting_since = 0.0

    async def connect(self) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            HubRefusedDevice: The hub knows no such device or key; act, then make a new object.
            HubUnreachable: Only with `give_up_seconds`.
        """
        self._waiting_since = time.monotonic()
        self._keeper = asyncio.create_task(self._stay_connected(), name=f"device {self.device_id}")
        while self._link is None:
            await self._wait_for_progress()

    async def send(self, body: bytes, message_id: str, properties: Mapping[str, str] | None = None) -> None:
        """Send one message; returns when it is on its way, waits while too many are in flight.

        Raises:
            RejectRecord: The body is larger than any hub takes.
            HubRefusedDevice: As in `connect`.
            HubUnreachable: Only with `give_up_seconds`.
        """
        check_size(self.device_id, body)
        while len(self._in_flight) >= self._options.in_flight_limit or self._refused:
            await self._wait_for_progress()
        if not self._in_flight:
            self._waiting_since = time.monotonic()
        packet_id = self._free_packet_id()
        topic = self._topic_head + _bag(properties or {}, {dialect.MESSAGE_ID: message_id})
        packet = packets.Publish(topic, body, 1, packet_id, retain=False, duplicate=False)
        self._in_flight[packet_id] = (packet, self.counts.count_sent())
        if self._link is not None:
            self._link.write(packet)

    async def drain(self) -> None:
        """Wait until every message sent is acknowledged.

        Raises:
            HubRefusedDevice: As in `connect`.
            HubUnreachable: Only with `give_up_seconds`.
        """
        while self._in_flight:
            await self._wait_for_progress()

    async def close(self) -> None:
        """Say goodbye and stop; messages not acknowledged by now are given up."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None

    def acknowledged(self, packet_id: int) -> None:
        """The hub holds this message: forget it."""
        held = self._in_flight.pop(packet_id, None)
        if held is not None:
            self.counts.count_acknowledged(held[1])
            self._waiting_since = time.monotonic()

    def made_progress(self) -> None:
        """Wake whoever waits for room, for the last acknowledgement or for the connection."""
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    async def _wait_for_progress(self) -> None:
        if self._refused is not None:
            raise self._refused
        if self._progress is None or self._progress.done():
            self._progress = asyncio.get_running_loop().create_future()
        limit = self._options.give_up_seconds
        remaining = None if limit is None else self._waiting_since + limit - time.monotonic()
        await asyncio.wait({self._progress}, timeout=None if remaining is None else max(0.0, remaining))
        if limit is not None and time.monotonic() - self._waiting_since >= limit:
            raise HubUnreachable(self.device_id, self._hub.host, self._hub.mqtt_port, limit)

    def _free_packet_id(self) -> int:
        while True:
            self._next_packet_id = self._next_packet_id % 0xFFFF + 1
            if self._next_packet_id not in self._in_flight:
                return self._next_packet_id

    async def _stay_connected(self) -> None:
        pauses = 0
        while self._refused is None:
            acknowledged_before = self.counts.acknowledged
            try:
                await self._serve_one_connection()
            except OSError:  # refused, reset, unreachable, TLS: the world may recover
                pass
            except HubRefusedDevice as refused:
                self._refused = refused
            finally:
                self._link = None
                self.made_progress()
            pauses = 0 if self.counts.acknowledged > acknowledged_before else pauses + 1
            await asyncio.sleep(pause_seconds(pauses))

    async def _serve_one_connection(self) -> None:
        loop = asyncio.get_running_loop()
        options = self._options
        _, link = await loop.create_connection(
            lambda: _Link(self), self._hub.host, self._hub.mqtt_port, ssl=self._hub.tls
        )
        try:
            link.write(self._introduction())
            await asyncio.wait({link.accepted}, timeout=options.keep_alive_seconds)
            self._check_accepted(link)
            for packet, _ in self._in_flight.values():
                link.write(packet._replace(duplicate=True))
            self._link = link
            self.made_progress()
            await link.keep_alive(options.keep_alive_seconds)
        except asyncio.CancelledError:
            link.write(packets.Disconnect())
            raise
        finally:
            link.close()

    def _introduction(self) -> packets.Connect:
        host_name = self._hub.host_name
        token = sas_token(host_name, self.device_id, self._key, self._options.token_seconds)
        return packets.Connect(
            packets.LEVEL_3_1_1,
            self.device_id,
            self._options.keep_alive_seconds,
            clean_session=True,
            username=f"{host_name}/{self.device_id}/?api-version={API_VERSION}",
            password=token.encode(),
            will=None,
        )

    def _check_accepted(self, link: "_Link") -> None:
        if not link.accepted.done():
            raise TimeoutError
        code = link.accepted.result()
        if code == packets.SERVER_UNAVAILABLE:
            raise ConnectionRefusedError
        if code:
            raise HubRefusedDevice(self.device_id, code)


class _Link(asyncio.Protocol):
    """One TCP connection of a device; what one turn of the loop writes leaves in one piece."""

    def __init__(self, device: MqttDevice) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[int] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._device = device
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._outgoing: list[bytes] = []
        self._heard = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waits of this connection."""
        if not self.accepted.done():
            self.accepted.set_result(packets.SERVER_UNAVAILABLE)
        if not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take acknowledgements."""
        self._heard = True
        try:
            for packet in self._decoder.feed(data):
                if isinstance(packet, packets.Puback):
                    self._device.acknowledged(packet.packet_id)
                elif isinstance(packet, packets.Connack) and not self.accepted.done():
                    self.accepted.set_result(packet.code)
        except ProtocolViolation:
            self.close()
        self._device.made_progress()

    def write(self, packet: packets.Packet) -> None:
        """Send with whatever else this turn of the loop sends."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packets.encode(packet))

    def close(self) -> None:
        """Send what is pending and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    async def keep_alive(self, keep_alive_seconds: int) -> None:
        """Return when the connection is lost, or silent for twice the keep-alive time."""
        while not self._lost.done():
            self._heard = False
            await asyncio.wait({self._lost}, timeout=keep_alive_seconds / 2)
            if self._lost.done():
                return
            self.write(packets.Pingreq())
            await asyncio.wait({self._lost}, timeout=keep_alive_seconds / 2)
            if not self._heard:
                return

    def _flush(self) -> None:
        pending = b"".join(self._outgoing)
        self._outgoing.clear()
        if pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(pending)


def _bag(application: Mapping[str, str], system: Mapping[str, str]) -> str:
    return dialect.format_bag(dialect.Properties(dict(application), dict(system)))


def pause_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, jittered, bounded; real seconds."""
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    return float(longest * jitter)


def check_size(device_id: str, body: bytes) -> None:
    """Refuse a body no hub takes.

    Raises:
        RejectRecord: It is larger than `BODY_LIMIT_BYTES`.
    """
    if len(body) > BODY_LIMIT_BYTES:
        raise RejectRecord(
            f"A message of device {device_id} has {len(body)} bytes; a hub takes {BODY_LIMIT_BYTES}; send less.",
            reason="message-too-large",
        )
