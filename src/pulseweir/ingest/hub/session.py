"""Step 1: one device's MQTT connection as a state machine: bytes in, events and answers out. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from pulseweir.errors import ProtocolViolation
from pulseweir.ingest.hub.dialect import (
    LARGEST_SUBSCRIPTIONS,
    RETAIN_PROPERTY,
    WILL_PROPERTY,
    Properties,
    bag_of,
    may_subscribe,
    parse_bag,
)
from pulseweir.ingest.hub.mqtt import Decoder
from pulseweir.ingest.hub.packets import (
    ACCEPTED,
    BAD_CREDENTIALS,
    CONNACK_LEVEL_5_UNSUPPORTED,
    IDENTIFIER_REJECTED,
    LEVEL_3_1_1,
    LEVEL_5,
    NOT_AUTHORIZED,
    SUBSCRIPTION_FAILED,
    UNACCEPTABLE_LEVEL,
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
    encode,
    encode_pubacks,
)

# A topic is at most 65 535 bytes; with its length and the packet identifier that is what stands before a body.
_LARGEST_HEAD_BYTES = 65_539


class Telemetry(NamedTuple):
    """A message to store; `packet_id` is to be acknowledged when it is durable, 0 for none."""

    body: bytes
    properties: Properties
    packet_id: int


class Left(NamedTuple):
    """The connection is over: close it.

    Attributes:
        reason: Kebab-case word for the counters; "disconnect" when the client left in peace.
    """

    reason: str


Event = Connect | Telemetry | Left


class Session:
    """What one connection has said, and what is to be answered.

    A `Connect` event asks for `accept` or `refuse` before the next event is taken.

    Attributes:
        device_id: "" until accepted.
        is_over: Whether the connection is to be closed once `take_output` is written.
    """

    __slots__ = ("_decoder", "_largest_message_bytes", "_output", "_subscriptions", "_will", "device_id", "is_over")

    def __init__(self, largest_message_bytes: int) -> None:
        self._decoder = Decoder(largest_message_bytes + _LARGEST_HEAD_BYTES)
        self._largest_message_bytes = largest_message_bytes
        self._output: list[bytes] = []
        self._subscriptions: set[str] = set()
        self._will: Telemetry | None = None
        self.device_id = ""
        self.is_over = False

    def receive(self, chunk: bytes) -> Iterator[Event]:
        """The events of bytes that arrived; take them to the end. Nothing comes after `Left`."""
        try:
            for packet in self._decoder.feed(chunk):
                event = self._telemetry(packet) if isinstance(packet, Publish) else self._take(packet)
                if event is not None:
                    yield event
                if self.is_over:
                    return
        except ProtocolViolation as violation:
            self.is_over = True
            yield Left(violation.reason)

    def accept(self, device_id: str, connect: Connect) -> None:
        """Let the client in; `will` keeps its last message.

        Raises:
            ProtocolViolation: Its will goes elsewhere than to its own events; nothing was answered: refuse it.
        """
        if connect.will is not None:
            properties = parse_bag(bag_of(connect.will.topic, device_id))
            properties.application.update([WILL_PROPERTY])
            self._will = Telemetry(connect.will.payload, properties, 0)
        self.device_id = device_id
        self._output.append(encode(Connack(session_present=False, code=ACCEPTED)))

    def refuse(self, code: int) -> None:
        """Turn the client away with a CONNACK code."""
        self._output.append(encode(Connack(session_present=False, code=code)))
        self.is_over = True

    def acknowledge(self, packet_ids: list[int]) -> None:
        """Answer messages that are durable, in the order they came."""
        self._output.append(encode_pubacks(packet_ids))

    def take_will(self) -> Telemetry | None:
        """The will, once: to be stored when the connection broke without a DISCONNECT."""
        will, self._will = self._will, None
        return will

    def take_output(self) -> bytes:
        """Bytes to write now; "" for none."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _telemetry(self, packet: Publish) -> Telemetry:
        if not self.device_id:
            raise ProtocolViolation("not-connected", "the first packet must be CONNECT")
        if packet.qos == 2:
            raise ProtocolViolation("qos-2", "QoS 2 is not offered; publish at QoS 1")
        bag = bag_of(packet.topic, self.device_id)
        if len(packet.payload) + len(bag) > self._largest_message_bytes:
            raise ProtocolViolation("oversize", f"a message has more than {self._largest_message_bytes} bytes")
        properties = parse_bag(bag)
        if packet.retain:
            properties.application[RETAIN_PROPERTY] = "true"
        return Telemetry(packet.payload, properties, packet.packet_id)

    def _take(self, packet: Packet) -> Event | None:
        if isinstance(packet, Connect):
            return self._introduce(packet)
        if not self.device_id:
            raise ProtocolViolation("not-connected", "the first packet must be CONNECT")
        match packet:
            case Pingreq():
                self._output.append(encode(Pingresp()))
            case Subscribe():
                self._subscribe(packet)
            case Unsubscribe(packet_id, filters):
                self._subscriptions.difference_update(filters)
                self._output.append(encode(Unsuback(packet_id)))
            case Disconnect():
                self._will = None
                self.is_over = True
                return Left("disconnect")
            case Puback():
                pass
            case _:
                raise ProtocolViolation("malformed-packet", "a client sent a packet that only servers send")
        return None

    def _introduce(self, packet: Connect) -> Event:
        if self.device_id:
            raise ProtocolViolation("malformed-packet", "a client sent CONNECT twice")
        if packet.level == LEVEL_3_1_1:
            if packet.client_id:
                return packet
            self.refuse(IDENTIFIER_REJECTED)
            return Left("no-client-id")
        if packet.level == LEVEL_5:
            self._output.append(CONNACK_LEVEL_5_UNSUPPORTED)
            self.is_over = True
        else:
            self.refuse(UNACCEPTABLE_LEVEL)
        return Left("unsupported-level")

    def _subscribe(self, packet: Subscribe) -> None:
        codes = []
        for topic_filter, qos in packet.filters:
            is_granted = may_subscribe(topic_filter, self.device_id) and (
                topic_filter in self._subscriptions or len(self._subscriptions) < LARGEST_SUBSCRIPTIONS
            )
            if is_granted:
                self._subscriptions.add(topic_filter)
            codes.append(min(qos, 1) if is_granted else SUBSCRIPTION_FAILED)
        self._output.append(encode(Suback(packet.packet_id, tuple(codes))))


def refusal_code(reason: str) -> int:
    """The CONNACK code that tells a client why it was refused, as far as it may know."""
    codes = {
        "client-id-mismatch": IDENTIFIER_REJECTED,
        "malformed-username": BAD_CREDENTIALS,
        "malformed-token": BAD_CREDENTIALS,
    }
    return codes.get(reason, NOT_AUTHORIZED)
