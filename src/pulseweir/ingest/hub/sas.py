"""Step 1: shared access signatures of devices: made, and verified. Pure.

Source: Microsoft Learn, "Control access to IoT Hub by using shared access signatures" (token structure), and
"Communicate with an IoT hub using the MQTT protocol". What is verified is the resource *as sent*: clients differ
in how they encode it, and each signs what it sends.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from re import ASCII
from re import compile as compile_pattern
from urllib.parse import quote, unquote

from pulseweir.errors import DeviceRefused

PREFIX = "SharedAccessSignature "
LONGEST_TOKEN = 4_096
_FIELDS = frozenset({"sig", "se", "sr", "skn"})
_EXPIRY = compile_pattern(r"[0-9]{1,12}", ASCII)
_VERSION_SEGMENT = "api-version="
_NO_KEY = bytes(32)


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart, not yet verified.

    Attributes:
        resource: ``sr`` as sent, still encoded: what was signed.
        expires_unix: Seconds since 1970 UTC.
        signature: Base64 text of the HMAC-SHA256.
    """

    resource: str
    expires_unix: int
    signature: str


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must satisfy beside its signature.

    Attributes:
        host_names: Names of this hub, lower case; a token for another host is refused.
        skew_seconds: How far a device's clock may be behind or ahead.
        longest_life_seconds: Refuse a token that expires later than this from now; None for any.
    """

    host_names: frozenset[str]
    skew_seconds: int = 300
    longest_life_seconds: int | None = None


def make_token(host: str, device_id: str, key: str, expires_unix: int) -> str:
    """A device's token for a hub.

    Args:
        host: The hub's host name.
        device_id: The device.
        key: The device's key, base64.
        expires_unix: Seconds since 1970 UTC.

    >>> make_token("hub", "d 1", "a2V5", 1700000000).split("&")[1:]
    ['se=1700000000', 'sr=hub%2Fdevices%2Fd%201']
    """
    resource = quote(f"{host}/devices/{device_id}", safe="")
    signature = sign(key, resource, expires_unix)
    return f"{PREFIX}sig={quote(signature, safe='')}&se={expires_unix}&sr={resource}"


def sign(key: str, resource: str, expires_unix: int) -> str:
    """The signature over a resource as sent and its expiry, base64."""
    return _signature(b64decode(key), resource, str(expires_unix))


def parse_token(text: str) -> Token:
    """The parts of a token, its fields in any order.

    Raises:
        DeviceRefused: ``malformed-token``: correct the device's connection settings.
    """
    if len(text) > LONGEST_TOKEN or not text.startswith(PREFIX):
        raise _malformed()
    pairs = [pair.partition("=") for pair in text[len(PREFIX) :].strip().split("&")]
    fields = {name: content for name, _, content in pairs}
    if len(fields) != len(pairs) or not _FIELDS.issuperset(fields) or fields.get("skn"):
        raise _malformed()
    expiry = fields.get("se", "")
    if not _EXPIRY.fullmatch(expiry) or not fields.get("sr") or not fields.get("sig"):
        raise _malformed()
    return Token(fields["sr"], int(expiry), unquote(fields["sig"]))


def verify(text: str, resource: str, keys: Sequence[str], rules: TokenRules, now_unix: float) -> tuple[Token, int]:
    """Check a token for a resource, such as ``hub/devices/monitor-1``; no keys stands for an unknown device.

    All keys are always compared, each in constant time.

    Returns:
        The token and the index of the key that signed it.

    Raises:
        DeviceRefused: ``malformed-token``, ``wrong-resource``, ``expired-token``, ``token-lives-too-long`` or
            ``wrong-key``; the device needs a new token or the right key.
    """
    token = parse_token(text)
    if not covers(token.resource, resource, rules.host_names):
        raise DeviceRefused("wrong-resource", "The token is for another hub or device; make one for this device.")
    if token.expires_unix + rules.skew_seconds < now_unix:
        raise DeviceRefused("expired-token", "Make a new token, and check the device's clock.")
    longest = rules.longest_life_seconds
    if longest is not None and token.expires_unix > now_unix + longest + rules.skew_seconds:
        raise DeviceRefused("token-lives-too-long", "Make a token with a nearer expiry.")
    return token, _signing_key(token, keys)


def covers(sent: str, resource: str, host_names: frozenset[str]) -> bool:
    """Whether a token's resource, as sent, is the wanted one or above it by whole segments.

    >>> covers("hub%2fdevices%2Fa", "hub/devices/a/messages", frozenset({"hub"}))
    True
    >>> covers("hub/devices/a", "hub/devices/ab", frozenset({"hub"}))
    False
    """
    segments = unquote(sent).strip("/").split("/")
    if len(segments) > 1 and segments[-1].startswith(_VERSION_SEGMENT):
        segments.pop()
    wanted = resource.split("/")
    if segments[0].lower() not in host_names:
        return False
    return segments[1:] == wanted[1 : len(segments)]


def _signing_key(token: Token, keys: Sequence[str]) -> int:
    given = token.signature.encode("utf-8", "replace")
    secrets = [b64decode(key) for key in keys] or [_NO_KEY]
    matches = [
        hmac.compare_digest(_signature(secret, token.resource, str(token.expires_unix)).encode(), given)
        for secret in secrets
    ]
    if not keys or True not in matches:
        raise DeviceRefused("wrong-key", "Compare the device's key with: pulseweir device show ID.")
    return matches.index(True)


def _signature(secret: bytes, resource: str, expiry: str) -> str:
    return b64encode(hmac.new(secret, f"{resource}\n{expiry}".encode(), sha256).digest()).decode()


def _malformed() -> DeviceRefused:
    return DeviceRefused("malformed-token", "Give 'SharedAccessSignature sr=…&sig=…&se=…', as the device SDKs make it.")
