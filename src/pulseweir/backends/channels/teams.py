"""Step 18: notifications as Adaptive Cards to a Teams Workflows webhook.

Source: Adaptive Cards schema 1.4; Workflows trigger "When a Teams webhook request is received". 202 means accepted,
not read: only an acknowledgement on the alert's page, or a screen that showed it, tells that.
"""

import re
from typing import Any

import httpx
import msgspec

from pulseweir.backends.channels.base import TITLES, Channel, Detail, Notification
from pulseweir.backends.channels.posting import SEND_SECONDS, Poster

CARD_BYTES_AT_MOST = 20_480
"""Teams drops larger messages without a word; its own limit is about 28 KB with markup."""

_STARS = {"high": "***", "medium": "**", "low": "*"}
_COLOURS = {"high": "attention", "medium": "warning", "low": "accent"}
_TEXT_AT_MOST = 500
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#~|])")
_LIST_MARK = re.compile(r"^(\s*)(\d+)([.)])|^(\s*)([-+])(?=\s)", re.MULTILINE)


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
        self,
        webhook_url: str,
        *,
        detail: Detail = "none",
        seconds: float = SEND_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._poster = Poster(self.name, webhook_url, seconds=seconds, transport=transport)
        self._detail = detail

    async def send(self, notification: Notification) -> None:
        """Post the card; returns when the workflow has accepted it.

        Raises:
            ChannelUnavailable: No whole answer, one that asks for patience, or a fault of the other side.
            ChannelRefused: Any other answer, an error told inside a success among them.
        """
        await self._poster.post(teams_message(notification, self._detail), {})

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()


def escaped(text: str) -> str:
    r"""Text for a place where readers of cards look for markdown: every sign stands for itself.

    >>> escaped("1. *Ward* A_b"), escaped("charge-nurse")
    ('1\\. \\*Ward\\* A\\_b', 'charge-nurse')
    """
    marked = _MARKDOWN.sub(r"\\\1", text)
    return _LIST_MARK.sub(
        lambda found: f"{found[1]}{found[2]}\\{found[3]}" if found[2] else f"{found[4]}\\{found[5]}", marked
    )


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
    def words(text: str) -> str:
        return _plain(text)[:text_at_most]

    heading = words(f"{_STARS.get(notification.priority, '*')} {notification.place}")
    look = {"size": "large", "weight": "bolder", "color": _COLOURS.get(notification.priority, "default")}
    facts = [
        {"title": "Priority", "value": escaped(words(notification.priority))},
        {"title": "For", "value": escaped(words(notification.role))},
    ]
    body = [
        _paragraph(heading, look),
        _paragraph(TITLES.get(notification.kind, "Review needed"), {}),
        {"type": "FactSet", "facts": facts},
        _paragraph(words(notification.action), {}),
    ]
    if detail == "minimal":
        body.insert(3, _paragraph(words(f"Reason: {notification.reason}"), {}))
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": f"{heading}: {words(notification.priority)} priority",
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": "Open", "url": notification.link}],
    }


def _paragraph(text: str, look: dict[str, str]) -> dict[str, Any]:
    """Words shown as they are: runs of text know no markdown, text blocks do."""
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **look}]}


def _plain(text: str) -> str:
    """The text without control characters, and without what readers of cards take for a macro such as {{DATE(…)}}."""
    printable = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
    return printable.replace("{{", "{ {").replace("}}", "} }")
