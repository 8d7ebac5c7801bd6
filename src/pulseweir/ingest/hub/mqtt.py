"""Step 1: MQTT 3.1.1 packets out of a stream of bytes. Pure.

Everything a packet may hold is bounded before it is kept: one longer than `Decoder.largest_packet_bytes` is
refused from its first five bytes.

Source: OASIS, MQTT Version 3.1.1, 2014, sections 2 and 3.
"""

from collections.abc import Callable, Iterator

from pulseweir.errors import ProtocolViolation
from pulseweir.ingest.hub.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    LEVEL_3_1_1,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
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
)

_LARGEST_LENGTH = 268_435_455


def malformed(rule: str) -> ProtocolViolation:
    """The violation of a packet that cannot be read."""
    return ProtocolViolation("malformed-packet", rule)


class Decoder:
    """Packets out of a stream of bytes, cut anywhere.

    Attributes:
        largest_packet_bytes: Longest remaining length taken.
    """

    def __init__(self, largest_packet_bytes: int = _LARGEST_LENGTH) -> None:
        self.largest_packet_bytes = largest_packet_bytes
        self._rest = bytearray()
        self._needed_bytes = 2

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Complete packets, in order, decoded one by one as they are taken.

        The iterator is to be taken to its end before the next call.

        Raises:
            ProtocolViolation: ``malformed-packet`` or ``oversize``; packets before it were given. Close.
        """
        data = chunk
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._needed_bytes:
                return
            data = bytes(self._rest)
        position, self._needed_bytes = 0, 2
        end = len(data)
        while position + 2 <= end:
            first = data[position]
            if first & 0xF0 != PUBLISH << 4:
                _check_first(first)
            length, start = data[position + 1], position + 2
            if length >= 0x80:
                length, start = _length(data, position + 1)
                if start == 0:
                    break
            if length > self.largest_packet_bytes:
                raise ProtocolViolation("oversize", f"a packet has more than {self.largest_packet_bytes} bytes")
            if start + length > end:
                self._needed_bytes = start + length - position
                break
            position = start + length
            yield _decode(first, data[start:position])
        self._rest = bytearray(data[position:])


def _length(data: bytes, position: int) -> tuple[int, int]:
    """(remaining length, where it ends), (0, 0) when more bytes are needed."""
    length = 0
    for place in range(4):
        if position + place >= len(data):
            return 0, 0
        byte = data[position + place]
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return length, position + place + 1
    raise malformed("a remaining length has more than four bytes")


def _decode(first: int, body: bytes) -> Packet:
    if first & 0xF0 == PUBLISH << 4:
        return _decode_publish(first, body)
    cursor = _Cursor(body)
    packet = _READERS[first >> 4](cursor)
    cursor.finish()
    return packet


def _check_first(first: int) -> None:
    """Refuse what is no packet before waiting for its rest."""
    kind, flags = first >> 4, first & 0x0F
    if kind not in _READERS:
        raise malformed(f"packet type {kind} is not one of MQTT 3.1.1 at QoS 0 and 1")
    if flags != (2 if kind in (SUBSCRIBE, UNSUBSCRIBE) else 0):
        raise malformed(f"packet type {kind} has reserved flags {flags}")


def _decode_publish(first: int, body: bytes) -> Publish:
    qos = first >> 1 & 3
    if qos == 3 or (qos == 0 and first & 8):
        raise malformed("a PUBLISH has impossible QoS or DUP flags")
    if len(body) < 2:
        raise malformed("a PUBLISH ends before its topic")
    end = 2 + (body[0] << 8 | body[1])
    payload_start = end + 2 if qos else end
    if payload_start > len(body) or end == 2:
        raise malformed("a PUBLISH has no topic, or ends before its payload")
    packet_id = body[end] << 8 | body[end + 1] if qos else 0
    if qos and not packet_id:
        raise malformed("a PUBLISH has packet identifier 0")
    topic = _decode_text(body[2:end])
    if "#" in topic or "+" in topic:
        raise malformed("a PUBLISH has a wildcard in its topic")
    return Publish(topic, body[payload_start:], qos, packet_id, bool(first & 1), bool(first & 8))


def _decode_text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise malformed("a text is not UTF-8") from None
    if "\0" in text:
        raise malformed("a text holds U+0000")
    return text


class _Cursor:
    """Reads the fields of one packet's body."""

    __slots__ = ("body", "position")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.body):
            raise malformed("a packet ends before its fields do")
        taken = self.body[self.position : end]
        self.position = end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2))

    def packet_id(self) -> int:
        number = self.number()
        if not number:
            raise malformed("a packet has packet identifier 0")
        return number

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        return _decode_text(self.binary())

    @property
    def has_more(self) -> bool:
        return self.position < len(self.body)

    def finish(self) -> None:
        if self.has_more:
            raise malformed("a packet goes on after its fields")


def _read_connect(cursor: _Cursor) -> Connect:
    name = cursor.binary()
    level = cursor.byte()
    if (name, level) != (b"MQTT", LEVEL_3_1_1):
        if name not in (b"MQTT", b"MQIsdp"):
            raise malformed("a CONNECT names another protocol")
        cursor.position = len(cursor.body)
        return Connect(level, "", 0, True, None, None, None)
    flags = cursor.byte()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 0x04 and flags & 0x38) or flags & 0xC0 == 0x40:
        raise malformed("a CONNECT has impossible flags")
    keep_alive_seconds = cursor.number()
    client_id = cursor.text()
    will = Will(cursor.text(), cursor.binary(), will_qos, bool(flags & 0x20)) if flags & 0x04 else None
    username = cursor.text() if flags & 0x80 else None
    password = cursor.binary() if flags & 0x40 else None
    return Connect(level, client_id, keep_alive_seconds, bool(flags & 2), username, password, will)


def _read_connack(cursor: _Cursor) -> Connack:
    return Connack(bool(cursor.byte() & 1), cursor.byte())


def _read_puback(cursor: _Cursor) -> Puback:
    return Puback(cursor.packet_id())


def _read_subscribe(cursor: _Cursor) -> Subscribe:
    packet_id = cursor.packet_id()
    filters = []
    while cursor.has_more:
        topic_filter, qos = cursor.text(), cursor.byte()
        if qos > 2 or not topic_filter:
            raise malformed("a SUBSCRIBE has an empty filter or an impossible QoS")
        filters.append((topic_filter, qos))
    if not filters:
        raise malformed("a SUBSCRIBE has no filter")
    return Subscribe(packet_id, tuple(filters))


def _read_suback(cursor: _Cursor) -> Suback:
    packet_id = cursor.packet_id()
    return Suback(packet_id, tuple(cursor.take(len(cursor.body) - cursor.position)))


def _read_unsubscribe(cursor: _Cursor) -> Unsubscribe:
    packet_id = cursor.packet_id()
    filters = []
    while cursor.has_more:
        filters.append(cursor.text())
    if not all(filters) or not filters:
        raise malformed("an UNSUBSCRIBE has no filter, or an empty one")
    return Unsubscribe(packet_id, tuple(filters))


def _read_unsuback(cursor: _Cursor) -> Unsuback:
    return Unsuback(cursor.packet_id())


_READERS: dict[int, Callable[[_Cursor], Packet]] = {
    CONNECT: _read_connect,
    CONNACK: _read_connack,
    PUBACK: _read_puback,
    SUBSCRIBE: _read_subscribe,
    SUBACK: _read_suback,
    UNSUBSCRIBE: _read_unsubscribe,
    UNSUBACK: _read_unsuback,
    PINGREQ: lambda _: Pingreq(),
    PINGRESP: lambda _: Pingresp(),
    DISCONNECT: lambda _: Disconnect(),
}
