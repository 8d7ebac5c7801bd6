"""Step 1: the few MQTT 3.1.1 packets a sending device writes and reads, in the Azure IoT Hub dialect. Pure.

Source: OASIS MQTT Version 3.1.1, 2014, sections 2 and 3; Microsoft, "Communicate with an IoT hub using MQTT", 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

API_VERSION = "2021-04-12"
CONNACK = 0x20
PUBACK = 0x40
PINGRESP = 0xD0
PINGREQ_PACKET = b"\xc0\x00"
DISCONNECT_PACKET = b"\xe0\x00"
DUP_BIT = 0x08
_PUBLISH_QOS_1 = 0x32
_CONNECT_FLAGS = 0xC2  # user name, password, clean session


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet from the hub.

    Attributes:
        kind: First byte without its flags: `CONNACK`, `PUBACK`, `PINGRESP` or another.
        body: What follows the remaining length.
    """

    kind: int
    body: bytes


def connect_packet(host_name: str, device_id: str, token: str, keep_alive_seconds: int) -> bytes:
    """CONNECT of a device with a SAS token as its password."""
    user_name = f"{host_name}/{device_id}/?api-version={API_VERSION}"
    head = _text("MQTT") + bytes([4, _CONNECT_FLAGS]) + keep_alive_seconds.to_bytes(2, "big")
    return _framed(0x10, head + _text(device_id) + _text(user_name) + _text(token))


def events_topic(device_id: str, message_id: str, properties: Mapping[str, str] | None = None) -> str:
    """The topic that carries a message's id and properties in its property bag.

    >>> events_topic("m-1", "a/1", {"site": "x y"})
    'devices/m-1/messages/events/$.ct=application%2Fjson&$.ce=utf-8&$.mid=a%2F1&site=x%20y'
    """
    bag = f"$.ct=application%2Fjson&$.ce=utf-8&$.mid={quote(message_id, safe='')}"
    for name, text in (properties or {}).items():
        bag += f"&{quote(name, safe='')}={quote(text, safe='')}"
    return f"devices/{device_id}/messages/events/{bag}"


def publish_packet(topic: str, packet_id: int, body: bytes) -> bytes:
    """PUBLISH at QoS 1."""
    return _framed(_PUBLISH_QOS_1, _text(topic) + packet_id.to_bytes(2, "big") + body)


def as_duplicate(packet: bytes) -> bytes:
    """The same PUBLISH, marked as sent before."""
    return bytes([packet[0] | DUP_BIT]) + packet[1:]


def take_packets(buffer: bytearray) -> list[Packet]:
    """The whole packets at the front of the buffer, removed from it; what is incomplete stays.

    Raises:
        ValueError: The remaining length is not one; close the connection.
    """
    packets: list[Packet] = []
    start = 0
    while (sized := _body_place(buffer, start)) is not None:
        first, end = sized
        packets.append(Packet(buffer[start] & 0xF0, bytes(buffer[first:end])))
        start = end
    del buffer[:start]
    return packets


def _body_place(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Where the body of the packet at `start` begins and ends; None while it is incomplete."""
    length = 0
    for index in range(4):
        place = start + 1 + index
        if place >= len(buffer):
            return None
        length |= (buffer[place] & 0x7F) << (7 * index)
        if not buffer[place] & 0x80:
            end = place + 1 + length
            return (place + 1, end) if end <= len(buffer) else None
    raise ValueError("remaining length longer than four bytes")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _framed(first_byte: int, body: bytes) -> bytes:
    header = bytearray([first_byte])
    length = len(body)
    while True:
        length, digit = divmod(length, 128)
        header.append(digit | 0x80 if length else digit)
        if not length:
            return bytes(header) + body
