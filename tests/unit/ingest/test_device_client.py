import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from pulseweir.errors import HubRefusedDevice, HubUnreachable, RejectRecord
from pulseweir.ingest.device_client import BODY_LIMIT_BYTES, DeviceOptions, HubAddress, MqttDevice
from pulseweir.ingest.device_https import HttpsDevice
from pulseweir.ingest.hub import packets, sas
from pulseweir.ingest.hub.dialect import bag_of, parse_bag
from pulseweir.ingest.hub.mqtt import Decoder

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
RULES = sas.TokenRules(frozenset({"localhost"}))


@dataclass
class ScriptedHub:
    """A hub that answers as a test tells it."""

    code: int = packets.ACCEPTED
    acknowledges: bool = True
    connects: list[packets.Connect] = field(default_factory=list)
    published: list[packets.Publish] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        decoder = Decoder()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                for packet in decoder.feed(chunk):
                    self._answer(packet, writer)
        writer.close()

    def _answer(self, packet: packets.Packet, writer: asyncio.StreamWriter) -> None:
        if isinstance(packet, packets.Connect):
            self.connects.append(packet)
            writer.write(packets.encode(packets.Connack(False, self.code)))
        elif isinstance(packet, packets.Publish):
            self.published.append(packet)
            if self.acknowledges:
                writer.write(packets.encode(packets.Puback(packet.packet_id)))
        self.arrived.set()

    async def until_published(self, count: int) -> None:
        while len(self.published) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@pytest.fixture
async def hub() -> AsyncIterator[tuple[ScriptedHub, HubAddress]]:
    scripted = ScriptedHub()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield scripted, HubAddress("127.0.0.1", port)
    server.close()
    scripted.cut()


Hub = tuple[ScriptedHub, HubAddress]


async def test_a_device_introduces_itself_with_a_token_the_hub_can_verify(hub: Hub) -> None:
    scripted, address = hub
    device = MqttDevice(address, "m-1", KEY)

    await device.connect()
    await device.close()

    (connect,) = scripted.connects
    assert connect.client_id == "m-1"
    assert connect.username == "localhost/m-1/?api-version=2021-04-12"
    sas.verify((connect.password or b"").decode(), "localhost/devices/m-1", [KEY], RULES, 0)


async def test_the_message_id_and_properties_travel_in_the_property_bag(hub: Hub) -> None:
    scripted, address = hub
    device = MqttDevice(address, "m-1", KEY)

    await device.connect()
    await device.send(b"{}", "a/1", {"site": "x y"})
    await device.drain()
    await device.close()

    properties = parse_bag(bag_of(scripted.published[0].topic, "m-1"))
    assert properties.message_id == "a/1"
    assert properties.application == {"site": "x y"}
    assert properties.system["content-type"] == "application/json"
    assert scripted.published[0].qos == 1


async def test_drain_returns_when_all_is_acknowledged_and_counted(hub: Hub) -> None:
    _, address = hub
    device = MqttDevice(address, "m-1", KEY)

    await device.connect()
    for number in range(200):
        await device.send(b"{}", str(number))
    await device.drain()
    await device.close()

    assert (device.counts.sent, device.counts.acknowledged) == (200, 200)
    assert len(device.counts.latencies_seconds) == 200


async def test_what_was_not_acknowledged_is_sent_again_as_a_duplicate(hub: Hub) -> None:
    scripted, address = hub
    scripted.acknowledges = False
    device = MqttDevice(address, "m-1", KEY)
    await device.connect()
    await device.send(b"1", "a")
    await device.send(b"2", "b")
    await scripted.until_published(2)

    scripted.acknowledges = True
    scripted.cut()
    await device.drain()
    await device.close()

    again = scripted.published[2:]
    assert [(packet.payload, packet.duplicate) for packet in again] == [(b"1", True), (b"2", True)]
    assert [packet.packet_id for packet in again] == [packet.packet_id for packet in scripted.published[:2]]
    assert device.counts.acknowledged == 2


async def test_send_waits_while_too_many_messages_are_in_flight(hub: Hub) -> None:
    scripted, address = hub
    scripted.acknowledges = False
    device = MqttDevice(address, "m-1", KEY, DeviceOptions(in_flight_limit=2))
    await device.connect()
    await device.send(b"1", "a")
    await device.send(b"2", "b")

    third = asyncio.create_task(device.send(b"3", "c"))
    await scripted.until_published(2)
    assert not third.done()
    scripted.writers[0].write(packets.encode(packets.Puback(1)))
    await third

    await scripted.until_published(3)
    await device.close()


async def test_a_device_with_a_wrong_key_is_told_so(hub: Hub) -> None:
    scripted, address = hub
    scripted.code = packets.NOT_AUTHORIZED
    device = MqttDevice(address, "m-1", KEY)

    with pytest.raises(HubRefusedDevice, match="pulseweir device show m-1"):
        await device.connect()

    await device.close()


async def test_a_hub_that_is_not_ready_is_tried_again(hub: Hub) -> None:
    scripted, address = hub
    scripted.code = packets.SERVER_UNAVAILABLE
    device = MqttDevice(address, "m-1", KEY)

    connecting = asyncio.create_task(device.connect())
    while len(scripted.connects) < 2:
        scripted.arrived.clear()
        await scripted.arrived.wait()
    scripted.code = packets.ACCEPTED
    await connecting

    await device.close()


async def test_an_absent_hub_is_given_up_when_the_options_say_so(unused_tcp_port: int) -> None:
    device = MqttDevice(HubAddress("127.0.0.1", unused_tcp_port), "m-1", KEY, DeviceOptions(give_up_seconds=0.05))

    with pytest.raises(HubUnreachable, match="no acknowledgement"):
        await device.connect()

    await device.close()


async def test_a_body_no_hub_takes_is_refused_before_it_is_sent(hub: Hub) -> None:
    device = MqttDevice(hub[1], "m-1", KEY)

    with pytest.raises(RejectRecord, match="bytes"):
        await device.send(b"x" * (BODY_LIMIT_BYTES + 1), "a")


def _https(answers: list[int], requests: list[httpx.Request]) -> HttpsDevice:
    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(answers.pop(0))

    address = HubAddress("127.0.0.1", 0, 8083)
    return HttpsDevice(address, "m-1", KEY, transport=httpx.MockTransport(answer))


async def test_https_sends_id_token_and_properties_as_headers() -> None:
    requests: list[httpx.Request] = []
    device = _https([204], requests)

    await device.send(b"{}", "a-1", {"site": "x"})
    await device.close()

    (request,) = requests
    assert request.url.path == "/devices/m-1/messages/events"
    assert request.headers["iothub-messageid"] == "a-1"
    assert request.headers["iothub-app-site"] == "x"
    sas.verify(request.headers["authorization"], "localhost/devices/m-1", [KEY], RULES, 0)
    assert (device.counts.sent, device.counts.acknowledged) == (1, 1)


async def test_https_tries_again_while_the_hub_may_recover() -> None:
    requests: list[httpx.Request] = []
    device = _https([503, 429, 204], requests)

    await device.send(b"{}", "a-1")
    await device.close()

    assert [request.headers["iothub-messageid"] for request in requests] == ["a-1"] * 3


@pytest.mark.parametrize(("status", "error"), [(401, HubRefusedDevice), (413, RejectRecord)])
async def test_https_does_not_repeat_what_cannot_succeed(status: int, error: type[Exception]) -> None:
    device = _https([status], [])

    with pytest.raises(error):
        await device.send(b"{}", "a-1")

    await device.close()
