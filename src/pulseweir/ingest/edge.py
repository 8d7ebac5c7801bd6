"""Step 2: an edge: takes device messages locally (step 1), stores them, forwards them when there is a line."""

import asyncio
from collections.abc import Iterator, Mapping

import msgspec
import pyarrow as pa
import structlog

from pulseweir.backends.bus.base import Bus, SetAside
from pulseweir.clock import Clock
from pulseweir.errors import DeviceNotRegistered, HubRefusedDevice, PlainUpstream
from pulseweir.ingest.hub.certificates import client_context
from pulseweir.ingest.hub.client import DeviceLine
from pulseweir.ingest.hub.dialect import MESSAGE_ID, SYSTEM_NAMES, Properties
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.registry import Registry
from pulseweir.ingest.hub.settings import is_loopback
from pulseweir.ingest.settings import EdgeSettings
from pulseweir.records.columns import values
from pulseweir.records.topics import DEVICE_MESSAGES
from pulseweir.worker import Handled, Stage, Worker

FORWARDED = "forwarded"
_SENT_NAMES = frozenset(SYSTEM_NAMES.values())


class Edge:
    """Store and forward. Devices are acknowledged when their message is durable here.

    The registry holds the devices behind the edge with the keys they have at the hub: the edge opens one line a
    device with that device's own identity, so that the hub stamps it as it does any other. Messages go on in order
    for each device, at least once; each carries the sender's own id, or the one it got here, and so counts once.

    Attributes:
        hub: The local endpoint; it knows its ports once the edge was started.
    """

    def __init__(self, bus: Bus, registry: Registry, settings: EdgeSettings, clock: Clock) -> None:
        self._bus = bus
        self.hub = Hub(bus, registry, settings.local, clock)
        self._stage = ForwardStage(registry, settings)
        self._worker: Worker | None = None

    @property
    def forwarded(self) -> int:
        """Messages the hub has acknowledged since this edge was started."""
        return self._stage.forwarded

    @property
    def has_line(self) -> bool:
        """Whether the last attempt to forward reached the hub."""
        return self._stage.has_line

    async def start(self) -> None:
        """Open the local listeners.

        Raises:
            RefuseToStart: As `Hub.start`.
        """
        await self.hub.start()
        subscription = await self._bus.subscribe(self._stage.topic, self._stage.group)
        self._worker = Worker(self._stage, self._bus, subscription)

    async def run(self) -> None:
        """Forward until `stop`; starts the edge unless it was started."""
        if self._worker is None:
            await self.start()
        if self._worker is not None:
            try:
                await self._worker.run()
            finally:
                self._stage.close()

    async def stop(self) -> None:
        """Take nothing new and end `run`; what was not forwarded waits for the next start."""
        await self.hub.stop()
        if self._worker is not None:
            self._worker.stop()


class ForwardStage(Stage):
    """Sends stored messages on to the hub, each device over a line of its own."""

    topic = DEVICE_MESSAGES
    group = "forward"
    row_limit = 1_000

    def __init__(self, registry: Registry, settings: EdgeSettings) -> None:
        if not settings.upstream_tls and not is_loopback(settings.upstream_host):
            raise PlainUpstream(settings.upstream_host)
        self._registry = registry
        self._settings = settings
        self._tls = client_context(settings.upstream_certificate_file) if settings.upstream_tls else None
        self._lines: dict[str, tuple[str, DeviceLine]] = {}
        self.forwarded = 0
        self.has_line = True

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Forward rows, devices side by side, each in order. A device the hub refuses is parked alone.

        Raises:
            HubUnreachable: There is no line; all of it is sent again later.
        """
        shares = [share for table in tables.values() for share in _by_device(table)]
        answers = await asyncio.gather(*(self._forward(*share) for share in shares), return_exceptions=True)
        handled = Handled()
        for answer in answers:
            if isinstance(answer, BaseException):
                self._note_line(has_line=False)
                raise answer
            handled.outcome.absorb(answer.outcome)
        self._note_line(has_line=True)
        self.forwarded += handled.outcome.tallies.get(FORWARDED, 0)
        return handled

    def close(self) -> None:
        """Close all lines."""
        for _, line in self._lines.values():
            line.close()
        self._lines.clear()

    async def _forward(self, device_id: str, rows: pa.Table) -> Handled:
        handled = Handled()
        try:
            await self._line(device_id).send(_messages(rows))
        except (HubRefusedDevice, DeviceNotRegistered) as refused:
            handled.outcome.parked = [_parked(rows.slice(index, 1), str(refused)) for index in range(rows.num_rows)]
        else:
            handled.outcome.count(FORWARDED, rows.num_rows)
        return handled

    def _line(self, device_id: str) -> DeviceLine:
        device = self._registry.get(device_id)
        if device is None:
            raise DeviceNotRegistered(device_id)
        key, line = self._lines.get(device_id, ("", None))
        if line is None or key != device.primary_key:
            if line is not None:
                line.close()
            settings = self._settings
            line = DeviceLine(
                settings.upstream_host,
                settings.upstream_port,
                device_id,
                device.primary_key,
                tls=self._tls,
                timeout_seconds=settings.upstream_timeout_seconds,
            )
            self._lines[device_id] = (device.primary_key, line)
        return line

    def _note_line(self, *, has_line: bool) -> None:
        if has_line != self.has_line and not has_line:
            structlog.get_logger().warning("edge-without-line", remedy="messages are stored; check the network")
        self.has_line = has_line


def _by_device(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each device, in order."""
    places: dict[str, list[int]] = {}
    for place, device_id in enumerate(values(table.column("device_id"))):
        places.setdefault(device_id, []).append(place)
    for device_id, own in places.items():
        yield device_id, table.take(pa.array(own, pa.int64()))


def _messages(rows: pa.Table) -> list[tuple[bytes, Properties]]:
    columns = [
        values(rows.column(name)) for name in ("body", "properties_json", "system_properties_json", "message_id")
    ]
    return [(body, _properties(sent, system, own)) for body, sent, system, own in zip(*columns, strict=True)]


def _properties(properties_json: str, system_properties_json: str, own_message_id: str) -> Properties:
    system = msgspec.json.decode(system_properties_json, type=dict[str, str])
    kept = {name: content for name, content in system.items() if name in _SENT_NAMES}
    kept.setdefault(MESSAGE_ID, own_message_id)
    return Properties(msgspec.json.decode(properties_json, type=dict[str, str]), kept)


def _parked(row: pa.Table, message: str) -> SetAside:
    (own_message_id,) = row.column("message_id").to_pylist()
    return SetAside(own_message_id, row, ForwardStage.group, "refused-by-hub", message)
