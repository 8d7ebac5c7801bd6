"""The MQTT codec: every packet survives the trip, in any pieces, and no bytes can break the decoder."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.errors import ProtocolViolation
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0#+"), min_size=1, max_size=40)
ids = st.integers(1, 65_535)
bodies = st.binary(max_size=400)
wills = st.builds(Will, topic=names, payload=bodies, qos=st.integers(0, 2), retain=st.booleans())


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    username = draw(st.none() | texts)
    return Connect(
        level=4,
        client_id=draw(texts),
        keep_alive_seconds=draw(st.integers(0, 65_535)),
        clean_session=draw(st.booleans()),
        username=username,
        password=None if username is None else draw(st.none() | bodies),
        will=draw(st.none() | wills),
    )


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    qos = draw(st.integers(0, 2))
    return Publish(
        topic=draw(names),
        payload=draw(bodies),
        qos=qos,
        packet_id=draw(ids) if qos else 0,
        retain=draw(st.booleans()),
        duplicate=bool(qos) and draw(st.booleans()),
    )


filters = st.lists(st.tuples(names, st.integers(0, 2)), min_size=1, max_size=5).map(tuple)
packets: st.SearchStrategy[Packet] = st.one_of(
    connects(),
    publishes(),
    st.builds(Connack, session_present=st.booleans(), code=st.integers(0, 5)),
    st.builds(Puback, packet_id=ids),
    st.builds(Subscribe, packet_id=ids, filters=filters),
    st.builds(Suback, packet_id=ids, codes=st.lists(st.sampled_from([0, 1, 2, 0x80])).map(tuple)),
    st.builds(Unsubscribe, packet_id=ids, filters=st.lists(names, min_size=1, max_size=5).map(tuple)),
    st.builds(Unsuback, packet_id=ids),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)


@given(st.lists(packets, max_size=8), st.data())
def test_packets_survive_the_trip_in_any_pieces(sent: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(encode(packet) for packet in sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    decoder = Decoder()

    received = [packet for start, end in pairwise(cuts) for packet in decoder.feed(stream[start:end])]

    assert [(type(packet), packet) for packet in received] == [(type(packet), packet) for packet in sent]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_break_the_decoder(chunks: list[bytes]) -> None:
    decoder = Decoder(1_000)
    with suppress(ProtocolViolation):
        for chunk in chunks:
            for packet in decoder.feed(chunk):
                encode(packet)


@given(packets, st.integers(0, 7), st.data())
def test_a_flipped_bit_is_another_packet_or_a_violation(packet: Packet, bit: int, data: st.DataObject) -> None:
    raw = bytearray(encode(packet))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << bit
    with suppress(ProtocolViolation):
        list(Decoder().feed(bytes(raw)))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x36\x07\x00\x03a/b\x00\x01", "QoS 3"),
        (b"\x38\x05\x00\x03a/b", "DUP at QoS 0"),
        (b"\x32\x07\x00\x03a/b\x00\x00", "packet identifier 0"),
        (b"\x30\x05\x00\x03a/#", "wildcard"),
        (b"\x30\x02\x00\x00", "no topic"),
        (b"\x30\x04\x00\x09ab", "topic longer than the packet"),
        (b"\x30\x05\x00\x03\xff\xfe\xfd", "not UTF-8"),
        (b"\x30\x05\x00\x03a\x00b", "U+0000"),
        (b"\x80\x08\x00\x01\x00\x03a/b\x00", "SUBSCRIBE without its flags"),
        (b"\x82\x02\x00\x01", "SUBSCRIBE without a filter"),
        (b"\x82\x08\x00\x01\x00\x03a/b\x03", "SUBSCRIBE with QoS 3"),
        (b"\x50\x02\x00\x01", "PUBREC"),
        (b"\x00\x00", "type 0"),
        (b"\xf0\x00", "type 15"),
        (b"\xc0\x01\x00", "PINGREQ with a body"),
        (b"\x30\xff\xff\xff\xff\x01", "five length bytes"),
        (b"\x10\x0c\x00\x04MQTT\x04\x01\x00\x00\x00\x00", "reserved CONNECT flag"),
        (b"\x10\x0c\x00\x04MQTT\x04\x40\x00\x00\x00\x00", "password without user name"),
        (b"\x10\x0c\x00\x04MQTT\x04\x20\x00\x00\x00\x00", "will retain without will"),
        (b"\x10\x0c\x00\x04HTTP\x04\x00\x00\x00\x00\x00", "another protocol"),
        (b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x00x", "more than its fields"),
    ],
)
def test_a_malformed_packet_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(ProtocolViolation) as raised:
        list(Decoder().feed(raw))

    assert raised.value.reason == "malformed-packet", why


def test_an_oversize_packet_is_refused_from_its_first_bytes() -> None:
    with pytest.raises(ProtocolViolation) as raised:
        list(Decoder(1_000).feed(b"\x30\xe9\x07"))

    assert raised.value.reason == "oversize"


def test_packets_before_a_malformed_one_are_given() -> None:
    good = Publish("a", b"1", 1, 7, retain=False, duplicate=False)
    packets_given = Decoder().feed(encode(good) + b"\xf0\x00")

    assert next(packets_given) == good
    with pytest.raises(ProtocolViolation):
        next(packets_given)


@pytest.mark.parametrize("level", [3, 5, 6])
def test_of_another_protocol_level_only_the_level_is_read(level: int) -> None:
    name = b"\x00\x06MQIsdp" if level == 3 else b"\x00\x04MQTT"
    body = name + bytes((level,)) + b"whatever stands here"

    (connect,) = Decoder().feed(bytes((0x10, len(body))) + body)

    assert isinstance(connect, Connect)
    assert connect.level == level
    assert connect.client_id == ""


def test_a_packet_that_drips_in_byte_by_byte_is_read() -> None:
    sent = Publish("topic", bytes(5_000), 1, 1, retain=False, duplicate=False)
    decoder = Decoder()

    received = [packet for byte in encode(sent) for packet in decoder.feed(bytes((byte,)))]

    assert received == [sent]
