"""Step 1: group commit: what arrives is stored in batches, and acknowledged only when it is durable."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import msgspec
import pyarrow as pa
import structlog

from pulseweir.backends.bus.base import Bus
from pulseweir.clock import Clock, to_text
from pulseweir.errors import RetryLater
from pulseweir.ingest.hub.dialect import Properties, system_head, system_properties_json
from pulseweir.ingest.hub.registry import Device
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.records.identifiers import message_id
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.telemetry import HUB_ACKNOWLEDGE, HUB_MESSAGES_RECEIVED

_ROW_OVERHEAD_BYTES = 512
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 1.0
_CLOCK_STEP_MICROSECONDS = 1_000_000


class Sender(Protocol):
    """Who waits for messages to be durable. Called in the order the messages were added."""

    def stored(self, tokens: list[int]) -> None:
        """These messages survive a crash: acknowledge them."""
        ...

    def refused(self, tokens: list[int]) -> None:
        """These messages were not stored: do not acknowledge them, so that they come again."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where messages come from: what the hub stamps on each of them.

    Attributes:
        device_id: The connection's device.
        kind: From the registry.
        system_head: Constant part of the system properties.
        protocol: "mqtt" or "https", for the counters.
    """

    device_id: str
    kind: str
    system_head: str
    protocol: str

    @classmethod
    def of(cls, device: Device, protocol: str) -> "Origin":
        """The origin of an admitted device's messages."""
        return cls(device.device_id, device.kind, system_head(device.device_id, device.generation), protocol)


@dataclass(slots=True)
class _Group:
    """Messages of one commit, column by column."""

    message_ids: list[str] = field(default_factory=list)
    device_ids: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    properties: list[str] = field(default_factory=list)
    system_properties: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    waiting: dict[Sender, list[int]] = field(default_factory=dict)
    size_bytes: int = 0

    def table(self) -> pa.Table:
        """The rows in the topic's schema."""
        columns = [
            pa.array(self.message_ids, pa.utf8()),
            pa.array(self.device_ids, pa.utf8()).dictionary_encode(),
            pa.array(self.kinds, pa.utf8()).dictionary_encode(),
            pa.array(self.received, pa.int64()).cast(DEVICE_MESSAGE_SCHEMA.field("received_at").type),
            pa.array(self.properties, pa.utf8()),
            pa.array(self.system_properties, pa.utf8()),
            pa.array(self.bodies, pa.binary()),
        ]
        return pa.table(columns, schema=DEVICE_MESSAGE_SCHEMA)

    def count(self, outcome: str) -> None:
        """Count each message, by protocol."""
        for protocol in set(self.protocols):
            HUB_MESSAGES_RECEIVED.labels(protocol, outcome).inc(self.protocols.count(protocol))


class Arrivals:
    """The queue between the sockets and the bus.

    A commit begins as soon as the one before has ended and either `group_rows` wait or the first of them has
    waited `linger_milliseconds`. Order is kept for each device. What cannot be stored within `retry_seconds` is
    given back to its senders unacknowledged; nothing is dropped that was acknowledged.
    """

    def __init__(self, bus: Bus, settings: HubSettings, clock: Clock) -> None:
        self._bus = bus
        self._settings = settings
        self._clock = clock
        self._groups: deque[_Group] = deque([_Group()])
        self._ready = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self._is_stopping = False
        self._last_received = 0
        self._enqueued_millisecond = -1
        self._enqueued_text = ""
        self._on_room: list[Callable[[], None]] = []
        self._heard: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether senders should wait before they hand over more."""
        return self._waiting_bytes > self._settings.queue_bytes

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` each time the queue has drained after it was full."""
        self._on_room.append(resume)

    def take_heard(self) -> dict[str, int]:
        """Newest `received_at` of each device stored since the last call, microseconds."""
        heard, self._heard = self._heard, {}
        return heard

    def add(self, origin: Origin, body: bytes, properties: Properties, sender: Sender | None, token: int = 0) -> None:
        """Queue one message; `sender` is told with `token` what became of it."""
        group = self._groups[-1]
        if len(group.bodies) >= self._settings.largest_group_rows:
            group = _Group()
            self._groups.append(group)
        received_at = self._instant()
        group.message_ids.append(message_id(origin.device_id, properties.message_id, body, received_at))
        group.device_ids.append(origin.device_id)
        group.kinds.append(origin.kind)
        group.received.append(received_at)
        group.properties.append(_json(properties.application))
        group.system_properties.append(
            system_properties_json(origin.system_head, self._enqueued(received_at), properties.system)
        )
        group.bodies.append(body)
        group.protocols.append(origin.protocol)
        group.arrived.append(monotonic())
        if sender is not None:
            group.waiting.setdefault(sender, []).append(token)
        size_bytes = len(body) + _ROW_OVERHEAD_BYTES
        group.size_bytes += size_bytes
        self._waiting_bytes += size_bytes
        self._wake(len(group.bodies))

    async def run(self) -> None:
        """Commit group after group until `stop`, then what is left."""
        while True:
            await self._ready.wait()
            group = self._take()
            if group.bodies:
                await self._commit(group)
            elif self._is_stopping:
                return

    def stop(self) -> None:
        """Let `run` end when everything queued has been stored or given back."""
        self._is_stopping = True
        self._ready.set()

    def _wake(self, rows: int) -> None:
        if rows >= self._settings.group_rows:
            self._ready.set()
        elif self._linger is None and not self._ready.is_set():
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(self._settings.linger_milliseconds / 1_000, self._ready.set)

    def _take(self) -> _Group:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        group = self._groups.popleft()
        if not self._groups:
            self._groups.append(_Group())
            if not self._is_stopping:
                self._ready.clear()
        return group

    async def _commit(self, group: _Group) -> None:
        table = group.table()
        deadline = monotonic() + self._settings.retry_seconds
        delay_seconds = _FIRST_DELAY_SECONDS
        while True:
            try:
                await self._bus.publish([(DEVICE_MESSAGES, table)])
            except RetryLater as error:
                if monotonic() + delay_seconds > deadline:
                    structlog.get_logger().warning("arrivals-not-stored", rows=table.num_rows, cause=str(error))
                    return self._settle(group, is_stored=False)
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(delay_seconds * 2, _LONGEST_DELAY_SECONDS)
            else:
                return self._settle(group, is_stored=True)

    def _settle(self, group: _Group, *, is_stored: bool) -> None:
        group.count("acknowledged" if is_stored else "unavailable")
        for sender, tokens in group.waiting.items():
            if is_stored:
                sender.stored(tokens)
            else:
                sender.refused(tokens)
        if is_stored:
            now = monotonic()
            for arrived in group.arrived:
                HUB_ACKNOWLEDGE.observe(now - arrived)
            self._heard.update(zip(group.device_ids, group.received, strict=True))
        was_full = self.is_full
        self._waiting_bytes -= group.size_bytes
        if was_full and not self.is_full:
            for resume in self._on_room:
                resume()

    def _instant(self) -> int:
        """Now, later than the instant before: equal bodies without an id of their own must differ somewhere."""
        now = self._clock.now_microseconds()
        if now <= self._last_received < now + _CLOCK_STEP_MICROSECONDS:
            now = self._last_received + 1
        self._last_received = now
        return now

    def _enqueued(self, received_at: int) -> str:
        millisecond = received_at // 1_000
        if millisecond != self._enqueued_millisecond:
            self._enqueued_millisecond = millisecond
            self._enqueued_text = to_text(millisecond * 1_000)
        return self._enqueued_text


def _json(members: dict[str, str]) -> str:
    return msgspec.json.encode(members).decode() if members else "{}"
