"""Step 1: the control packets of MQTT 3.1.1, and their bytes. Pure.

Those of both directions, so that the hub, the edge and tests share one codec; `mqtt.Decoder` reads them.

Source: OASIS, MQTT Version 3.1.1, 2014, sections 2 and 3.
"""

from typing import NamedTuple

LEVEL_3_1_1 = 4
LEVEL_5 = 5

ACCEPTED = 0
UNACCEPTABLE_LEVEL = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
BAD_CREDENTIALS = 4
NOT_AUTHORIZED = 5
SUBSCRIPTION_FAILED = 0x80

# CONNACK of MQTT 5 with reason 0x84 and no properties: the one answer a client of level 5 can read.
CONNACK_LEVEL_5_UNSUPPORTED = b"\x20\x03\x00\x84\x00"

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


class Will(NamedTuple):
    """The message a server publishes when the connection breaks."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Connect(NamedTuple):
    """A client introduces itself. Of a level other than 3.1.1 only the level is read."""

    level: int
    client_id: str
    keep_alive_seconds: int
    clean_session: bool
    username: str | None
    password: bytes | None
    will: Will | None


class Connack(NamedTuple):
    """The server's answer to `Connect`."""

    session_present: bool
    code: int


class Publish(NamedTuple):
    """A message. `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool
    duplicate: bool


class Puback(NamedTuple):
    """A QoS 1 message was taken."""

    packet_id: int


class Subscribe(NamedTuple):
    """Topic filters, each with the QoS wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Suback(NamedTuple):
    """A QoS granted, or `SUBSCRIPTION_FAILED`, for each filter in order."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(NamedTuple):
    """Topic filters to leave."""

    packet_id: int
    filters: tuple[str, ...]


class Unsuback(NamedTuple):
    """The filters were left."""

    packet_id: int


class Pingreq(NamedTuple):
    """A client is alive."""


class Pingresp(NamedTuple):
    """So is the server."""


class Disconnect(NamedTuple):
    """A client leaves in peace; its will is forgotten."""


Packet = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)


def encode(packet: Packet) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one line a packet type
    """The bytes of a packet."""
    match packet:
        case Publish():
            return _encode_publish(packet)
        case Puback(packet_id):
            return encode_pubacks([packet_id])
        case Connect():
            return _frame(CONNECT << 4, _connect_body(packet))
        case Connack(session_present, code):
            return bytes((CONNACK << 4, 2, session_present, code))
        case Subscribe(packet_id, filters):
            wanted = b"".join(_text(topic_filter) + bytes((qos,)) for topic_filter, qos in filters)
            return _frame(SUBSCRIBE << 4 | 2, packet_id.to_bytes(2) + wanted)
        case Suback(packet_id, codes):
            return _frame(SUBACK << 4, packet_id.to_bytes(2) + bytes(codes))
        case Unsubscribe(packet_id, topics):
            return _frame(UNSUBSCRIBE << 4 | 2, packet_id.to_bytes(2) + b"".join(map(_text, topics)))
        case Unsuback(packet_id):
            return _frame(UNSUBACK << 4, packet_id.to_bytes(2))
        case Pingreq():
            return bytes((PINGREQ << 4, 0))
        case Pingresp():
            return bytes((PINGRESP << 4, 0))
        case Disconnect():
            return bytes((DISCONNECT << 4, 0))


def encode_pubacks(packet_ids: list[int]) -> bytes:
    """One PUBACK an id, as one write."""
    return b"".join([_PUBACK_HEAD + packet_id.to_bytes(2) for packet_id in packet_ids])


_PUBACK_HEAD = bytes((PUBACK << 4, 2))


def _encode_publish(packet: Publish) -> bytes:
    first = PUBLISH << 4 | packet.duplicate << 3 | packet.qos << 1 | packet.retain
    packet_id = packet.packet_id.to_bytes(2) if packet.qos else b""
    return _frame(first, _text(packet.topic) + packet_id + packet.payload)


def _connect_body(packet: Connect) -> bytes:
    flags = packet.clean_session << 1
    fields = [_text(packet.client_id)]
    if packet.will is not None:
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
        fields += [_text(packet.will.topic), _binary(packet.will.payload)]
    if packet.username is not None:
        flags |= 0x80
        fields.append(_text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        fields.append(_binary(packet.password))
    head = _binary(b"MQTT") + bytes((packet.level, flags)) + packet.keep_alive_seconds.to_bytes(2)
    return head + b"".join(fields)


def _frame(first: int, body: bytes) -> bytes:
    head = bytearray((first,))
    length = len(body)
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _binary(content: bytes) -> bytes:
    return len(content).to_bytes(2) + content


def _text(content: str) -> bytes:
    return _binary(content.encode())
