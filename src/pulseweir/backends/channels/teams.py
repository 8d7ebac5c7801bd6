"""Step 18: notifications as Adaptive Cards to a Teams Workflows webhook.

Source: Adaptive Cards schema 1.4; Workflows trigger "When a Teams webhook request is received". 202 means accepted,
not read: only an acknowledgement on the alert's page tells that.
"""

from typing import Any

import httpx
import msgspec

from pulseweir.backends.channels.base import Channel, Detail, Notification
from pulseweir.errors import ChannelRefused, ChannelUnavailable

CARD_BYTES_AT_MOST = 20_480
"""Teams drops larger messages without a word; its own limit is about 28 KB with markup."""

"""What a card may say: none = ward, bed and a link; minimal = also what raised the score."""

_STARS = {"high": "***", "medium": "**", "low": "*"}
_COLOURS = {"high": "attention", "medium": "warning", "low": "accent"}
_TITLES = {"page": "Review needed", "escalation": "Not acknowledged: escalated", "reminder": "Still not acknowledged"}
_TEXT_AT_MOST = 500


def teams_message(notification: Notification, detail: Detail = "none") -> bytes:
    """The body of the request: one Adaptive Card 1.4, never above `CARD_BYTES_AT_MOST`."""
    body = msgspec.json.encode(_message(notification, detail, _TEXT_AT_MOST))
    if len(body) > CARD_BYTES_AT_MOST:
        body = msgspec.json.encode(_message(notification, "none", 80))
    return body


class TeamsChannel(Channel):
    """Posts cards to one Workflows webhook address, which is a secret."""

    name = "teams"

    def __init__(
        self, webhook_url: str, *, detail: Detail = "none", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._webhook_url = webhook_url
        self._detail = detail
        self._http = httpx.AsyncClient(transport=transport, timeout=10, follow_redirects=False)

    async def send(self, notification: Notification) -> None:
        """Post the card; returns when the workflow has accepted it.

        Raises:
            ChannelUnavailable: No answer, 408, 429 or a fault of the other side.
            ChannelRefused: Any other answer.
        """
        try:
            answer = await self._http.post(
                self._webhook_url,
                content=teams_message(notification, self._detail),
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            # The error's own text may name the address, which is a secret.
            raise ChannelUnavailable(self.name, type(error).__name__) from None
        if answer.is_success:
            return
        if answer.status_code in (408, 429) or answer.is_server_error:
            wait = answer.headers.get("retry-after", "")
            seconds = float(wait) if wait.isdigit() else None
            raise ChannelUnavailable(self.name, f"status {answer.status_code}", retry_after_seconds=seconds)
        raise ChannelRefused(self.name, answer.status_code)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _message(notification: Notification, detail: Detail, text_at_most: int) -> dict[str, Any]:
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": _card(notification, detail, text_at_most),
            }
        ],
    }


def _card(notification: Notification, detail: Detail, text_at_most: int) -> dict[str, Any]:
    where = " · ".join(filter(None, (notification.ward, notification.bed))) or "Bed unknown"
    heading = f"{_STARS.get(notification.priority, '*')} {where}"
    facts = [
        {"title": "Priority", "value": notification.priority},
        {"title": "For", "value": notification.role},
    ]
    if detail == "minimal":
        facts.append({"title": "Reason", "value": notification.reason[:text_at_most]})
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": f"{heading[:text_at_most]}: {notification.priority} priority",
        "body": [
            {
                "type": "TextBlock",
                "text": heading[:text_at_most],
                "size": "large",
                "weight": "bolder",
                "color": _COLOURS.get(notification.priority, "default"),
                "wrap": True,
            },
            {"type": "TextBlock", "text": _TITLES.get(notification.kind, "Review needed"), "wrap": True},
            {"type": "FactSet", "facts": facts},
            {"type": "TextBlock", "text": notification.action[:text_at_most], "wrap": True},
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open", "url": notification.link}],
    }
