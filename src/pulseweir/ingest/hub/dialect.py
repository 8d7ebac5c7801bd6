"""Step 1: what Azure IoT Hub lays over MQTT and HTTPS: topics, user names, property bags. Pure.

Source: Microsoft Learn, "Communicate with an IoT hub using the MQTT protocol" and "Create and read IoT Hub
messages" (names of system properties).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from pulseweir.errors import DeviceRefused, ProtocolViolation
from pulseweir.ingest.hub.packets import Connect

MESSAGE_ID = "message-id"
WILL_PROPERTY = ("iothub-MessageType", "Will")
RETAIN_PROPERTY = "mqtt-retain"
CREATION_TIME_PROPERTY = "iothub-creation-time-utc"
_CREATION_TIME = "$.ctime"
LARGEST_BAG_PROPERTIES = 100
LARGEST_SUBSCRIPTIONS = 5

# Short names of the MQTT property bag, and the names readers of the hub find the same values under.
SYSTEM_NAMES = {
    "$.mid": MESSAGE_ID,
    "$.cid": "correlation-id",
    "$.uid": "user-id",
    "$.ct": "content-type",
    "$.ce": "content-encoding",
}
_SHORT_NAMES = {name: short for short, name in SYSTEM_NAMES.items()}
_DEVICE_FILTERS = frozenset({"$iothub/methods/POST/#", "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"})


class Properties(NamedTuple):
    """What a sender says about its message beside the body: its own properties, and those with a meaning."""

    application: dict[str, str]
    system: dict[str, str]

    @property
    def message_id(self) -> str | None:
        """The sender's own id of the message, if it gave one."""
        return self.system.get(MESSAGE_ID)


def events_topic(device_id: str) -> str:
    """Where a device publishes; the property bag follows."""
    return f"devices/{device_id}/messages/events/"


def bag_of(topic: str, device_id: str) -> str:
    """The property bag in a publish topic.

    Raises:
        ProtocolViolation: ``wrong-topic``: a device may publish to its own events only.
    """
    prefix = events_topic(device_id)
    if topic.startswith(prefix):
        return topic[len(prefix) :]
    if topic == prefix[:-1]:
        return ""
    raise ProtocolViolation("wrong-topic", "a device may publish to devices/{its id}/messages/events/ only")


def parse_bag(bag: str) -> Properties:
    """Properties of a bag of percent-encoded pairs.

    Raises:
        ProtocolViolation: ``too-many-properties``.

    >>> parse_bag("%24.mid=m1&ward=A%2F1&flag")
    Properties(application={'ward': 'A/1', 'flag': ''}, system={'message-id': 'm1'})
    """
    application: dict[str, str] = {}
    system: dict[str, str] = {}
    if not bag:
        return Properties(application, system)
    pairs = bag.removeprefix("?").rstrip("/").split("&")
    if len(pairs) > LARGEST_BAG_PROPERTIES:
        raise ProtocolViolation("too-many-properties", f"a message has more than {LARGEST_BAG_PROPERTIES} properties")
    for pair in pairs:
        raw_name, _, content = pair.partition("=")
        if "%" in content:
            content = unquote(content)
        is_system, name = _property_name(raw_name)
        if is_system:
            system[name] = content
        elif name:
            application[name] = content
    return Properties(application, system)


@lru_cache(4_096)
def _property_name(raw: str) -> tuple[bool, str]:
    """(whether it is a system property, its name) of a name in a bag. Devices use few names, again and again."""
    name = unquote(raw)
    if name == _CREATION_TIME:
        return False, CREATION_TIME_PROPERTY
    return name.startswith("$."), SYSTEM_NAMES.get(name, name)


def format_bag(properties: Properties) -> str:
    """The bag that `parse_bag` reads."""
    pairs = [(_SHORT_NAMES.get(name, name), content) for name, content in properties.system.items()]
    pairs += properties.application.items()
    return "&".join(f"{quote(name, safe='')}={quote(content, safe='')}" for name, content in pairs)


def parse_username(username: str | None, host_names: frozenset[str]) -> tuple[str, str]:
    """(host, device id) of ``{host}/{id}``, ``{host}/{id}/?api-version=…`` or ``{host}/{id}/api-version=…``.

    Raises:
        DeviceRefused: ``malformed-username`` or ``wrong-host``: correct the device's connection settings.
    """
    host, _, rest = (username or "").partition("/")
    device_id, _, options = rest.partition("/")
    if not device_id or (options and not options.removeprefix("?").startswith("api-version=")):
        raise DeviceRefused("malformed-username", "Give '{host}/{device id}/?api-version=2021-04-12' as user name.")
    if host.lower() not in host_names:
        raise DeviceRefused("wrong-host", "Connect by a name of this hub, or add the name to hub.host_names.")
    return host, device_id


def device_of(connect: Connect, host_names: frozenset[str]) -> str:
    """The device id of a CONNECT whose client id and user name agree.

    Raises:
        DeviceRefused: ``client-id-mismatch`` or as `parse_username`.
    """
    _, device_id = parse_username(connect.username, host_names)
    if device_id != connect.client_id:
        raise DeviceRefused("client-id-mismatch", "The MQTT client id must be the device id of the user name.")
    return device_id


def may_subscribe(topic_filter: str, device_id: str) -> bool:
    """Whether a filter is one of those a device has: its own messages, twin and methods."""
    return topic_filter in _DEVICE_FILTERS or topic_filter == f"devices/{device_id}/messages/devicebound/#"


def system_head(device_id: str, generation: int) -> str:
    """The start of a message's system properties as JSON, equal for all messages of a connection; not closed."""
    method = {"scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    members = {
        "iothub-connection-device-id": device_id,
        "iothub-connection-auth-method": msgspec.json.encode(method).decode(),
        "iothub-connection-auth-generation-id": str(generation),
        "iothub-message-source": "Telemetry",
    }
    return msgspec.json.encode(members).decode()[:-1]


def system_properties_json(head: str, enqueued: str, sent: Mapping[str, str]) -> str:
    """All system properties of a message as one JSON object of text.

    Args:
        head: From `system_head`.
        enqueued: When the hub took it, RFC 3339.
        sent: System properties the sender gave; it cannot give those of `head`.
    """
    if not sent:
        return f'{head},"iothub-enqueuedtime":"{enqueued}"}}'
    return f'{head},"iothub-enqueuedtime":"{enqueued}",{msgspec.json.encode(sent)[1:].decode()}'
