"""The hub on real sockets: who is let in, and that one peer cannot harm another."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub_house import FREE_PORTS, House, Peer, accepted, connect_of, ended, hang_up, message, start, token_of
from pulseweir.ingest.hub.packets import (
    CONNACK_LEVEL_5_UNSUPPORTED,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Will,
)
from pulseweir.ingest.hub.registry import Device, Registry


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


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"password": b"SharedAccessSignature sr=a"}, 4, "malformed-token"),
        ({"password": None}, 4, "malformed-token"),
        ({"username": None, "password": None}, 4, "malformed-username"),
        ({"username": "elsewhere/monitor-0"}, 5, "wrong-host"),
        ({"username": "localhost/monitor-1"}, 2, "client-id-mismatch"),
        ({"client_id": "", "username": "localhost/"}, 2, "no-client-id"),
        ({"client_id": "ghost", "username": "localhost/ghost"}, 5, "wrong-resource"),
        ({"will": Will("devices/monitor-1/messages/events/", b"", 0, False)}, 5, "wrong-topic"),
    ],
)
async def test_a_wrong_introduction_gets_the_protocol_s_own_code(
    house: House, change: dict[str, Any], code: int, reason: str
) -> None:
    before = ended(reason)
    peer = await Peer.dial(house.hub.mqtt_port)

    assert await peer.ask(connect_of(house.device())._replace(**change)) == accepted(code)

    assert await peer.hear() is None
    assert ended(reason) == before + 1


async def test_wrong_keys_expired_tokens_unknown_and_disabled_devices_are_refused(house: House) -> None:
    device = house.device()
    ghost = Device("ghost", "", True, device.primary_key, device.secondary_key, 0, 0)
    house.registry.disable("monitor-1")
    refusals = {
        "wrong-key": connect_of(device, token=token_of(device, key=house.device(2).primary_key)),
        "expired-token": connect_of(device, token=token_of(device, seconds=-400)),
        "unknown-device": connect_of(ghost),
        "disabled-device": connect_of(house.device(1)),
    }
    for reason, introduction in refusals.items():
        before = ended(reason)
        peer = await Peer.dial(house.hub.mqtt_port)
        assert await peer.ask(introduction) == accepted(5)
        assert await peer.hear() is None
        assert ended(reason) == before + 1


async def test_the_secondary_key_lets_in_too(house: House) -> None:
    device = house.device()
    peer = await Peer.dial(house.hub.mqtt_port)

    assert await peer.ask(connect_of(device, token=token_of(device, key=device.secondary_key))) == accepted(0)


async def test_level_5_is_refused_in_its_own_words(house: House) -> None:
    peer = await Peer.dial(house.hub.mqtt_port)

    peer.say(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")

    assert await peer.reader.read() == CONNACK_LEVEL_5_UNSUPPORTED


@pytest.mark.parametrize("change", ["disable", "rotate"])
async def test_a_live_connection_is_cut_when_its_device_or_key_goes(house: House, change: str) -> None:
    peer, other = await Peer.join(house), await Peer.join(house, 1)
    elsewhere = Registry.open(house.registry.path.parent)

    if change == "disable":
        elsewhere.disable("monitor-0")
    else:
        elsewhere.rotate_key("monitor-0", "primary")

    async with asyncio.timeout(5):
        assert await peer.hear() is None
    assert await other.ask(Pingreq()) == Pingresp()


async def test_a_connection_ends_with_its_token(tmp_path: Path) -> None:
    house = await start(tmp_path, FREE_PORTS.model_copy(update={"token_skew_seconds": 0}))
    device = house.device()
    peer = await Peer.dial(house.hub.mqtt_port)

    assert await peer.ask(connect_of(device, token=token_of(device, seconds=2))) == accepted(0)

    assert await peer.hear() is None
    await house.hub.stop()


async def test_a_second_connection_drops_the_first(house: House) -> None:
    first = await Peer.join(house)
    second = await Peer.join(house)

    assert await first.hear() is None
    assert await second.ask(message()) == Puback(1)


async def test_a_silent_connection_is_cut_and_its_will_is_stored(house: House) -> None:
    will = Will("devices/monitor-0/messages/events/a=b", b"gone", 1, retain=False)
    peer = await Peer.join(house, will=will, keep_alive=1)

    assert await peer.hear() is None

    while not house.bus.rows:
        await asyncio.sleep(0.01)
    (row,) = house.bus.rows
    assert row["body"] == b"gone"
    assert msgspec.json.decode(row["properties_json"]) == {"a": "b", "iothub-MessageType": "Will"}


async def test_a_connection_that_never_says_who_it_is_is_cut(tmp_path: Path) -> None:
    house = await start(tmp_path, FREE_PORTS.model_copy(update={"connect_timeout_seconds": 0.2}))
    peer = await Peer.dial(house.hub.mqtt_port)

    assert await peer.hear() is None
    await house.hub.stop()


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (message(body=bytes(262_145)), "oversize"),
        (b"\x30\xff\xff\xff\x7f", "oversize"),
        (b"\xf0\x00", "malformed-packet"),
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", "malformed-packet"),
        (message("monitor-1"), "wrong-topic"),
        (Publish("devices/monitor-0/messages/events/", b"", 2, 1, False, False), "qos-2"),
    ],
)
async def test_a_peer_that_breaks_the_rules_harms_only_itself(
    house: House, attack: Publish | bytes, reason: str
) -> None:
    before = ended(reason)
    other, peer = await Peer.join(house, 1), await Peer.join(house)

    assert await peer.ask(attack) is None

    assert ended(reason) == before + 1
    assert await other.ask(message("monitor-1")) == Puback(1)
    assert [row["device_id"] for row in house.bus.rows] == ["monitor-1"]


async def test_the_largest_message_is_taken(house: House) -> None:
    peer = await Peer.join(house)

    assert await peer.ask(message(body=bytes(262_144))) == Puback(1)


async def test_leaving_in_peace_is_no_refusal(house: House) -> None:
    before = ended("disconnect")
    peer = await Peer.join(house)

    assert await peer.ask(Disconnect()) is None
    assert ended("disconnect") == before + 1
