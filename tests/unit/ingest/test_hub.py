"""The hub on real sockets: what is stored, and acknowledged only then."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pyarrow as pa
import pytest
from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv311

from hub_house import FREE_PORTS, HeldBus, House, Peer, hang_up, message, start, token_of
from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import ListenerUnavailable, PlainListenerExposed
from pulseweir.ingest.hub.certificates import client_context
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.packets import (
    Pingreq,
    Pingresp,
    Puback,
)
from pulseweir.ingest.hub.registry import Registry
from pulseweir.ingest.hub.sas import make_token
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.records.identifiers import message_id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    started = await start(tmp_path)
    yield started
    started.bus.gate.set()
    await started.hub.stop()


@pytest.fixture(autouse=True)
async def _peers_hang_up() -> AsyncIterator[None]:
    yield
    await hang_up()


async def test_nothing_is_acknowledged_before_it_is_durable(house: House) -> None:
    house.bus.gate.clear()
    peer = await Peer.join(house)

    answer = await peer.ask(message(packet_id=7), Pingreq())
    await house.bus.entered.wait()

    assert answer == Pingresp()
    assert house.bus.rows == []
    house.bus.gate.set()
    assert await peer.hear() == Puback(7)
    assert len(house.bus.rows) == 1


async def test_acknowledgements_come_in_the_order_of_the_messages(house: House) -> None:
    peer = await Peer.join(house)

    peer.say(*(message(packet_id=number, bag=f"$.mid={number}") for number in range(1, 501)))

    assert [await peer.hear() for _ in range(500)] == [Puback(number) for number in range(1, 501)]
    sent = [message_id("monitor-0", str(number), b"", 0) for number in range(1, 501)]
    assert [row["message_id"] for row in house.bus.rows] == sent


async def test_a_message_carries_what_the_hub_knows(house: House) -> None:
    peer = await Peer.join(house)

    await peer.ask(
        message(bag="%24.mid=m1&%24.ct=application%2Fjson&ward=A%2F1&iothub-creation-time-utc=2026-01-01T00:00:00Z")
    )

    (row,) = house.bus.rows
    assert row["device_id"] == "monitor-0"
    assert row["kind"] == "bedside-monitor"
    assert row["body"] == b'{"heartRate":80}'
    assert row["message_id"] == message_id("monitor-0", "m1", b"", 0)
    assert msgspec.json.decode(row["properties_json"]) == {
        "ward": "A/1",
        "iothub-creation-time-utc": "2026-01-01T00:00:00Z",
    }
    system = msgspec.json.decode(row["system_properties_json"])
    assert system["iothub-connection-device-id"] == "monitor-0"
    assert msgspec.json.decode(system["iothub-connection-auth-method"])["type"] == "sas"
    assert system["iothub-connection-auth-generation-id"] == str(house.device().generation)
    assert system["iothub-enqueuedtime"][:19] == row["received_at"].isoformat()[:19]
    assert system["message-id"] == "m1"
    assert system["content-type"] == "application/json"


async def test_equal_bodies_without_an_id_are_two_messages_and_with_one_are_one(house: House) -> None:
    peer = await Peer.join(house)

    peer.say(
        message(packet_id=1),
        message(packet_id=2),
        message(packet_id=3, bag="$.mid=a"),
        message(packet_id=4, bag="$.mid=a"),
    )
    for _ in range(4):
        await peer.hear()

    ids = [row["message_id"] for row in house.bus.rows]
    assert ids[0] != ids[1]
    assert ids[2] == ids[3]


async def test_qos_0_is_stored_too(house: House) -> None:
    peer = await Peer.join(house)

    assert await peer.ask(message(packet_id=0, body=b"a"), message(packet_id=1, body=b"b")) == Puback(1)

    assert [row["body"] for row in house.bus.rows] == [b"a", b"b"]


async def test_a_commit_that_fails_for_a_moment_is_tried_again(house: House) -> None:
    house.bus.is_broken = True
    peer = await Peer.join(house)

    peer.say(message())
    await house.bus.entered.wait()
    house.bus.is_broken = False

    assert await peer.hear() == Puback(1)


async def test_a_commit_that_keeps_failing_is_never_acknowledged(tmp_path: Path) -> None:
    house = await start(tmp_path, FREE_PORTS.model_copy(update={"retry_seconds": 0.0}))
    house.bus.is_broken = True
    peer = await Peer.join(house)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.hub.http_port}") as client:
        assert await peer.ask(message()) is None
        answer = await client.post(
            "/devices/monitor-1/messages/events", content=b"{}", headers={"Authorization": token_of(house.device(1))}
        )
        house.bus.is_broken = False

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert await (await Peer.join(house)).ask(message()) == Puback(1)
    await house.hub.stop()


async def test_a_full_queue_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    house = await start(tmp_path, FREE_PORTS.model_copy(update={"queue_bytes": 1_048_576, "largest_group_rows": 7}))
    house.bus.gate.clear()
    peer = await Peer.join(house)
    body = bytes(100_000)

    peer.say(*(message(packet_id=number, body=body) for number in range(1, 41)))
    await house.bus.entered.wait()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.hub.http_port}") as client:
        while (await client.get("/readyz")).status_code != 503:
            await asyncio.sleep(0.01)
        house.bus.gate.set()
        assert [await peer.hear() for _ in range(40)] == [Puback(number) for number in range(1, 41)]
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/livez")).status_code == 200
    assert len(house.bus.rows) == 40
    await house.hub.stop()


async def test_stopping_stores_and_acknowledges_what_was_taken(house: House) -> None:
    house.bus.gate.clear()
    peer = await Peer.join(house)
    peer.say(message())
    await house.bus.entered.wait()

    stopping = asyncio.create_task(house.hub.stop())
    await asyncio.sleep(0)
    house.bus.gate.set()

    assert await peer.hear() == Puback(1)
    assert await peer.hear() is None
    await stopping
    assert len(house.bus.rows) == 1
    assert house.registry.activity()["monitor-0"].measured_at is not None


async def test_a_common_client_speaks_to_the_hub_over_tls(house: House) -> None:
    device = house.device()
    client = Client(device.device_id)
    client.set_auth_credentials(f"localhost/{device.device_id}/?api-version=2021-04-12", token_of(device))

    await client.connect("localhost", house.hub.mqtts_port, ssl=client_context(house.certificate), version=MQTTv311)
    for number in range(20):
        client.publish(f"devices/{device.device_id}/messages/events/%24.mid={number}", b"{}", qos=1)
    while sum(table.num_rows for table in house.bus.tables) < 20:
        await asyncio.sleep(0.01)
    await client.disconnect()

    assert len({row["message_id"] for row in house.bus.rows}) == 20


async def test_tls_older_than_1_2_is_refused(house: House) -> None:
    context = client_context(house.certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Peer.dial(house.hub.mqtts_port, context)


async def test_https_takes_messages_and_batches(house: House) -> None:
    headers = {"Authorization": token_of(house.device())}
    async with httpx.AsyncClient(
        verify=client_context(house.certificate), base_url=f"https://localhost:{house.hub.https_port}"
    ) as client:
        path = "/devices/monitor-0/messages/events?api-version=2021-04-12"
        one = await client.post(
            path, content=b"{}", headers=headers | {"iothub-messageid": "m1", "iothub-app-ward": "A"}
        )
        batch = b'[{"body":"e30=","properties":{"iothub-messageid":"m2"}},{"body":"e30="}]'
        many = await client.post(
            path, content=batch, headers=headers | {"Content-Type": "application/vnd.microsoft.iothub.json"}
        )

    assert (one.status_code, one.content) == (204, b"")
    assert many.status_code == 204
    assert [row["body"] for row in house.bus.rows] == [b"{}"] * 3
    assert [row["message_id"] for row in house.bus.rows[:2]] == [
        message_id("monitor-0", mid, b"", 0) for mid in ("m1", "m2")
    ]
    assert msgspec.json.decode(house.bus.rows[0]["properties_json"]) == {"ward": "A"}


async def test_https_refusals_name_reason_and_remedy(house: House) -> None:
    house.registry.disable("monitor-1")
    device = house.device()
    batch_type = {"Content-Type": "application/vnd.microsoft.iothub.json"}
    good = {"Authorization": token_of(device)}
    ghost = {
        "Authorization": make_token("localhost", "ghost", device.primary_key, real_microseconds() // 1_000_000 + 60)
    }
    cases: list[tuple[str, dict[str, str], bytes, int, str]] = [
        ("monitor-0", {}, b"{}", 401, "malformed-token"),
        ("monitor-0", {"Authorization": token_of(device, key=house.device(2).primary_key)}, b"{}", 401, "wrong-key"),
        ("monitor-2", good, b"{}", 401, "wrong-resource"),
        ("monitor-1", {"Authorization": token_of(house.device(1))}, b"{}", 403, "disabled-device"),
        ("ghost", ghost, b"{}", 404, "unknown-device"),
        ("monitor-0", good, bytes(262_145), 413, "oversize"),
        ("monitor-0", good | batch_type, b'{"body":1}', 400, "malformed-batch"),
    ]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.hub.http_port}") as client:
        for device_id, headers, body, status, reason in cases:
            answer = await client.post(f"/devices/{device_id}/messages/events", content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (status, reason)
            assert len(answer.json()["message"]) > 20
        assert (await client.get("/elsewhere")).status_code == 404
    assert house.bus.rows == []


async def test_plain_listeners_stay_on_loopback(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path)
    for address in ("0.0.0.0", "192.0.2.1", "::", "hub.example"):
        with pytest.raises(PlainListenerExposed):
            await Hub(HeldBus(), registry, HubSettings(plain_address=address), Clock()).start()


async def test_a_taken_port_is_named(house: House, tmp_path: Path) -> None:
    settings = HubSettings(mqtt_port=house.hub.mqtt_port, http_port=0)
    with pytest.raises(ListenerUnavailable, match=str(house.hub.mqtt_port)):
        await Hub(HeldBus(), Registry.open(tmp_path / "other"), settings, Clock()).start()


async def test_without_a_certificate_no_tls_listener_opens(tmp_path: Path) -> None:
    hub = Hub(HeldBus(), Registry.open(tmp_path), FREE_PORTS, Clock())
    await hub.start()

    assert hub.mqtt_port
    assert hub.mqtts_port is None
    assert hub.https_port is None
    await hub.stop()
    await hub.wait()


async def test_a_bus_that_breaks_in_an_unknown_way_fails_the_hub_aloud(tmp_path: Path) -> None:
    house = await start(tmp_path)

    async def explode(tables: Sequence[tuple[str, pa.Table]]) -> None:
        raise ZeroDivisionError

    house.bus.publish = explode  # type: ignore[method-assign]
    (await Peer.join(house)).say(message())

    with pytest.raises(ZeroDivisionError):
        await house.hub.wait()
    with pytest.raises(ZeroDivisionError):
        await house.hub.stop()
