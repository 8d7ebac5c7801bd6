"""Step 18: a channel that carries notifications to people."""

from dataclasses import dataclass
from typing import Literal, Protocol

Detail = Literal["none", "minimal"]
"""How much a message may say: bed and link only, or also what raised the score."""

Security = Literal["starttls", "tls", "none"]
"""How a connection to a mail server is kept private: TLS after a plain greeting, from the first byte, or not at all."""

HUMAN_CHANNELS = ("teams", "email", "webhook")
"""Channels that people look at, in the order they are tried by default. A log line tells nobody."""

TITLES = {"page": "Review needed", "escalation": "Not acknowledged: escalated", "reminder": "Still not acknowledged"}
"""What a message is about, by its kind."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message about one alert.

    Attributes:
        key: The same for every try of this message.
        kind: page, escalation, reminder.
        level: Rung of the ladder, 1 and up.
        role: Who is told.
        priority: high, medium, low.
        ward: Where, None when unknown.
        bed: Where, None when unknown.
        action: What to do; holds no patient data.
        link: Address of the alert's page, which asks to sign in.
        reason: What raised the score. Patient data: only for channels allowed to carry it.
        raised_at: When the alert was raised, microseconds; 0 in messages of an older release.
    """

    key: str
    kind: str
    level: int
    role: str
    priority: str
    ward: str | None
    bed: str | None
    action: str
    link: str
    reason: str
    raised_at: int = 0

    @property
    def place(self) -> str:
        """Ward and bed in words."""
        return " · ".join(filter(None, (self.ward, self.bed))) or "Bed unknown"


class Channel(Protocol):
    """Somewhere people look.

    A message may arrive twice after a crash or a lost answer, never unnoticed not at all: `send` returns only when
    the other side has taken it. Taken is not read: only a screen or an acknowledgement tells that.

    Attributes:
        name: What settings, metrics and the outbox call it.
    """

    name: str

    async def send(self, notification: Notification) -> None:
        """Hand one message over.

        Raises:
            ChannelUnavailable: Try again later.
            ChannelRefused: Never through this channel; use the next.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
