"""Step 1: the hub's MQTT endpoint: sockets, keep-alive, one connection a device."""

import asyncio
import ssl
from time import monotonic
from typing import cast

from pulseweir.errors import DeviceRefused, ProtocolViolation
from pulseweir.ingest.hub.arrivals import Arrivals, Origin
from pulseweir.ingest.hub.dialect import device_of
from pulseweir.ingest.hub.gate import Admission, Gate, Refusals
from pulseweir.ingest.hub.packets import NOT_AUTHORIZED, SERVER_UNAVAILABLE, Connect
from pulseweir.ingest.hub.session import Left, Session, Telemetry, refusal_code
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.telemetry import HUB_CONNECTIONS

_PROTOCOL = "mqtt"
_SWEEP_SECONDS = 0.5


class MqttEndpoint:
    """All MQTT connections of a hub."""

    def __init__(self, gate: Gate, arrivals: Arrivals, settings: HubSettings) -> None:
        self.gate = gate
        self.arrivals = arrivals
        self.settings = settings
        self.refusals = Refusals(_PROTOCOL)
        self._open: set[MqttConnection] = set()
        self._by_device: dict[str, MqttConnection] = {}
        self._paused: set[MqttConnection] = set()
        self._servers: list[asyncio.Server] = []
        arrivals.when_room(self._resume)

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept connections; the port in use is returned.

        Raises:
            OSError: The port cannot be opened.
        """
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: MqttConnection(self), address, port, ssl=tls, backlog=1_024)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def sweep(self) -> None:
        """Cut, until cancelled, connections that are silent, unnamed for too long, or no longer welcome."""
        polled_at = monotonic()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = monotonic()
            if now - polled_at >= self.settings.registry_poll_seconds:
                polled_at = now
                self.gate.refresh()
            for connection in list(self._open):
                connection.check(now)

    def close_listeners(self) -> None:
        """Take no new connections, and read no more from those that are open."""
        for server in self._servers:
            server.close()
        for connection in self._open:
            self.pause(connection)

    def close_connections(self) -> None:
        """End all connections; what was not acknowledged comes again."""
        for connection in list(self._open):
            connection.leave()

    def opened(self, connection: "MqttConnection") -> bool:
        """Note a new connection; False when there are too many."""
        self._open.add(connection)
        HUB_CONNECTIONS.labels("open").set(len(self._open))
        return len(self._open) <= self.settings.connection_limit

    def named(self, connection: "MqttConnection", device_id: str) -> None:
        """A connection says which device it is; one that was it before is dropped."""
        before = self._by_device.get(device_id)
        self._by_device[device_id] = connection
        HUB_CONNECTIONS.labels("named").set(len(self._by_device))
        if before is not None:
            before.cut("superseded")

    def closed(self, connection: "MqttConnection", device_id: str) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        self._paused.discard(connection)
        if self._by_device.get(device_id) is connection:
            del self._by_device[device_id]
        HUB_CONNECTIONS.labels("open").set(len(self._open))
        HUB_CONNECTIONS.labels("named").set(len(self._by_device))

    def pause(self, connection: "MqttConnection") -> None:
        """The queue is full: do not read this connection until there is room."""
        self._paused.add(connection)
        if not connection.transport.is_closing():
            connection.transport.pause_reading()

    def is_paused(self, connection: "MqttConnection") -> bool:
        """Whether a connection is silent because the hub does not read it."""
        return connection in self._paused

    def _resume(self) -> None:
        paused, self._paused = self._paused, set()
        for connection in paused:
            connection.resume()


class MqttConnection(asyncio.Protocol):
    """One socket. Implements `arrivals.Sender`."""

    transport: asyncio.Transport

    def __init__(self, endpoint: MqttEndpoint) -> None:
        self._endpoint = endpoint
        self._session = Session(endpoint.settings.largest_message_bytes)
        self._admission: Admission | None = None
        self._origin: Origin | None = None
        self._heard_at = monotonic()
        self._silence_seconds = endpoint.settings.connect_timeout_seconds
        self._keeps_will = True
        self._is_choked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        if not self._endpoint.opened(self):
            self._session.refuse(SERVER_UNAVAILABLE)
            self._flush()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._session.is_over:
            return
        self._heard_at = monotonic()
        for event in self._session.receive(data):
            match event:
                case Telemetry():
                    self._store(event, event.packet_id)
                case Connect():
                    self._introduce(event)
                case Left(reason):
                    self._count(reason)
        self._flush()
        if self._endpoint.arrivals.is_full:
            self._endpoint.pause(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        will = self._session.take_will()
        if will is not None and self._keeps_will:
            self._store(will, 0)
        self._session.is_over = True
        self._endpoint.closed(self, self._session.device_id)

    def pause_writing(self) -> None:
        """Called by asyncio: the peer does not read its acknowledgements; take no more from it."""
        self._is_choked = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._is_choked = False
        self.resume()

    def resume(self) -> None:
        """Read again, if the peer reads too."""
        if not self._is_choked and not self.transport.is_closing():
            self.transport.resume_reading()

    def stored(self, tokens: list[int]) -> None:
        """Messages are durable: PUBACK."""
        packet_ids = [packet_id for packet_id in tokens if packet_id]
        if packet_ids and not self.transport.is_closing():
            self._session.acknowledge(packet_ids)
            self._flush()

    def refused(self, tokens: list[int]) -> None:
        """Messages could not be stored: MQTT 3.1.1 has no refusal, so the connection ends and they come again."""
        self.leave()

    def check(self, now: float) -> None:
        """Cut the connection if it was silent too long or may no longer stay."""
        if now - self._heard_at > self._silence_seconds and not self._endpoint.is_paused(self):
            self.cut("timeout")
        elif self._admission is not None:
            objection = self._endpoint.gate.objection(self._admission)
            if objection is not None:
                self._keeps_will = objection == "expired-token"
                self.cut(objection)

    def cut(self, reason: str) -> None:
        """End the connection at once, for a counted reason."""
        if not self._session.is_over:
            self._session.is_over = True
            self._count(reason)
        self.transport.abort()

    def leave(self) -> None:
        """End the connection after what is already written; the peer is not at fault."""
        self._session.is_over = True
        self._keeps_will = False
        self.transport.close()

    def _introduce(self, connect: Connect) -> None:
        gate = self._endpoint.gate
        try:
            device_id = device_of(connect, gate.host_names)
            token = (connect.password or b"").decode("utf-8", "replace")
            admission = gate.admit(device_id, token, f"devices/{device_id}")
            self._session.accept(device_id, connect)
        except DeviceRefused as refusal:
            self._refuse(refusal.reason, refusal_code(refusal.reason))
        except ProtocolViolation as violation:
            self._refuse(violation.reason, NOT_AUTHORIZED)
        else:
            self._admission = admission
            self._origin = Origin.of(admission.device, _PROTOCOL)
            longest = self._endpoint.settings.longest_keep_alive_seconds
            self._silence_seconds = 1.5 * min(connect.keep_alive_seconds or longest, longest)
            self._endpoint.named(self, device_id)

    def _refuse(self, reason: str, code: int) -> None:
        self._session.refuse(code)
        self._count(reason)

    def _store(self, telemetry: Telemetry, packet_id: int) -> None:
        if self._origin is not None:
            self._endpoint.arrivals.add(self._origin, telemetry.body, telemetry.properties, self, packet_id)

    def _flush(self) -> None:
        output = self._session.take_output()
        if output and not self.transport.is_closing():
            self.transport.write(output)
        if self._session.is_over:
            self.transport.close()

    def _count(self, reason: str) -> None:
        self._endpoint.refusals.note(reason)
