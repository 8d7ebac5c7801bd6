"""Step 18: notifications as signed JSON to any receiver: an on-call system, a pager gateway, an integration engine.

Source: Standard Webhooks specification 1.0, https://www.standardwebhooks.com: headers webhook-id, webhook-timestamp and
webhook-signature, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence

import httpx
import msgspec

from pulseweir.backends.channels.base import Channel, Detail, Notification
from pulseweir.backends.channels.posting import SEND_SECONDS, Poster
from pulseweir.clock import real_microseconds, to_text
from pulseweir.errors import RefuseToStart

SCHEMA_VERSION = 1
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_SECOND = 1_000_000


def webhook_body(notification: Notification, detail: Detail = "none") -> bytes:
    """The JSON object that is posted, version 1; `reason`, patient data, only with detail minimal."""
    told: dict[str, object] = {
        "version": SCHEMA_VERSION,
        "event": notification.kind,
        "key": notification.key,
        "level": notification.level,
        "priority": notification.priority,
        "ward": notification.ward,
        "bed": notification.bed,
        "role": notification.role,
        "action": notification.action,
        "link": notification.link,
        "raised_at": to_text(notification.raised_at) if notification.raised_at else None,
    }
    if detail == "minimal":
        told["reason"] = notification.reason
    return msgspec.json.encode(told)


def keys_of(text: str) -> tuple[bytes, ...]:
    """The signing keys in a secret: one a line or word, base64, with or without the prefix `whsec_`.

    Several sign together, so that a receiver can change from one to the next.

    Raises:
        RefuseToStart: There is none, or one is not base64 of 24 to 64 bytes.
    """
    keys = []
    for word in text.split():
        try:
            key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) not in _KEY_BYTES:
            break
        keys.append(key)
    else:
        if keys:
            return tuple(keys)
    message = (
        "The signing key of channel webhook is not base64 of 24 to 64 bytes. "
        "Make one with `openssl rand -base64 32` and give it to the receiver too."
    )
    raise RefuseToStart(message)


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature: one signature a key, parted by blanks."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


class WebhookChannel(Channel):
    """Posts signed JSON to one address.

    Args:
        address: Where to; https, or plain on this machine.
        secret: Signing keys, as `keys_of` reads them.
        detail: How much may be said.
        seconds: Limit for the whole exchange.
        transport: Stands in for the network in tests.
        now: Real time in microseconds.

    Raises:
        RefuseToStart: The address is plain beyond this machine, or no address; the secret is none.
    """

    name = "webhook"

    def __init__(
        self,
        address: str,
        secret: str,
        *,
        detail: Detail = "none",
        seconds: float = SEND_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], int] = real_microseconds,
    ) -> None:
        self._poster = Poster(self.name, address, seconds=seconds, transport=transport)
        self._keys = keys_of(secret)
        self._detail = detail
        self._now = now
        if not self._poster.is_private:
            message = "Channel webhook sends to other machines by https only. Correct coordination.webhook.url."
            raise RefuseToStart(message)

    async def send(self, notification: Notification) -> None:
        """Post the message; returns when the receiver has taken it.

        A repeated message has the same webhook-id: by that a receiver knows it again.

        Raises:
            ChannelUnavailable: No whole answer, one that asks for patience, or a fault of the other side.
            ChannelRefused: Any other answer, an error told inside a success among them.
        """
        body = webhook_body(notification, self._detail)
        timestamp = self._now() // _SECOND
        headers = {
            "webhook-id": notification.key,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._keys, notification.key, timestamp, body),
        }
        await self._poster.post(body, headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()
