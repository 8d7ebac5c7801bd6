"""Step 2: a device's MQTT connection to a hub, seen from the device: in order, each message until acknowledged."""

import asyncio
import ssl
from collections.abc import Iterable
from typing import cast

from pulseweir.clock import real_microseconds
from pulseweir.errors import HubRefusedDevice, HubUnreachable, ProtocolViolation
from pulseweir.ingest.hub.dialect import Properties, events_topic, format_bag
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.packets import (
    ACCEPTED,
    LEVEL_3_1_1,
    SERVER_UNAVAILABLE,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Puback,
    Publish,
    encode,
)
from pulseweir.ingest.hub.sas import make_token

TOKEN_SECONDS = 3_600
KEEP_ALIVE_SECONDS = 60
_LARGEST_ANSWER_BYTES = 65_536
_LAST_PACKET_ID = 65_535


class HubConnection(asyncio.Protocol):
    """One open connection of one device; made by `connect_device`."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._decoder = Decoder(_LARGEST_ANSWER_BYTES)
        self._answer: asyncio.Future[int] = loop.create_future()
        self._unacknowledged: dict[int, asyncio.Future[bool]] = {}
        self._next_packet_id = 1
        self._ping: asyncio.TimerHandle | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            for packet in self._decoder.feed(data):
                if isinstance(packet, Puback):
                    waiter = self._unacknowledged.pop(packet.packet_id, None)
                    if waiter is not None and not waiter.done():
                        waiter.set_result(True)
                elif isinstance(packet, Connack) and not self._answer.done():
                    self._answer.set_result(packet.code)
        except ProtocolViolation:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: what is not acknowledged must be sent again on another connection."""
        self.is_open = False
        if self._ping is not None:
            self._ping.cancel()
        if not self._answer.done():
            self._answer.set_result(SERVER_UNAVAILABLE)
        for waiter in self._unacknowledged.values():
            if not waiter.done():
                waiter.set_result(False)

    async def introduce(self, connect: Connect) -> int:
        """Send CONNECT; the hub's code, SERVER_UNAVAILABLE when it gave none."""
        self.transport.write(encode(connect))
        code = await self._answer
        self._keep_alive()
        return code

    def send(self, device_id: str, body: bytes, properties: Properties) -> asyncio.Future[bool]:
        """Publish at QoS 1; the answer is True with the PUBACK, False when the connection breaks before it."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.is_open:
            waiter.set_result(False)
            return waiter
        packet_id = self._take_packet_id()
        self._unacknowledged[packet_id] = waiter
        topic = events_topic(device_id) + format_bag(properties)
        self.transport.write(encode(Publish(topic, body, 1, packet_id, retain=False, duplicate=False)))
        return waiter

    def close(self) -> None:
        """Leave in peace."""
        if self.is_open:
            self.transport.write(encode(Disconnect()))
            self.transport.close()

    def _take_packet_id(self) -> int:
        packet_id = self._next_packet_id
        self._next_packet_id = packet_id % _LAST_PACKET_ID + 1
        return packet_id

    def _keep_alive(self) -> None:
        if self._ping is not None:
            self.transport.write(encode(Pingreq()))
        self._ping = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._keep_alive)


class DeviceLine:
    """A device's line to its hub: opened when there is something to send, kept open, opened again when it broke."""

    def __init__(
        self,
        host: str,
        port: int,
        device_id: str,
        key: str,
        *,
        tls: ssl.SSLContext | None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._host = host
        self._port = port
        self._device_id = device_id
        self._key = key
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._connection: HubConnection | None = None

    async def send(self, messages: Iterable[tuple[bytes, Properties]]) -> int:
        """Send messages in order and wait until the hub has acknowledged all.

        Returns:
            How many.

        Raises:
            HubUnreachable: Some were not acknowledged: send all again; the hub counts those with an id once.
            HubRefusedDevice: The hub does not let this device in.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                connection = await self._open()
                waiting = [connection.send(self._device_id, body, properties) for body, properties in messages]
                answers = await asyncio.gather(*waiting)
        except (OSError, TimeoutError) as error:
            self.close()
            raise self._unreachable() from error
        if not all(answers):
            raise self._unreachable()
        return len(answers)

    def close(self) -> None:
        """Close the connection, if one is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _open(self) -> HubConnection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        _, connection = await loop.create_connection(
            HubConnection, self._host, self._port, ssl=self._tls, server_hostname=name
        )
        code = await connection.introduce(self._connect())
        if code == ACCEPTED:
            self._connection = connection
            return connection
        connection.transport.abort()
        if code == SERVER_UNAVAILABLE:
            raise self._unreachable()
        raise HubRefusedDevice(self._device_id, code)

    def _unreachable(self) -> HubUnreachable:
        return HubUnreachable(self._device_id, self._host, self._port, self._timeout_seconds)

    def _connect(self) -> Connect:
        expires_unix = real_microseconds() // 1_000_000 + TOKEN_SECONDS
        token = make_token(self._host, self._device_id, self._key, expires_unix)
        username = f"{self._host}/{self._device_id}/?api-version=2021-04-12"
        return Connect(LEVEL_3_1_1, self._device_id, KEEP_ALIVE_SECONDS, True, username, token.encode(), None)
