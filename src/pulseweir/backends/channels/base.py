"""Step 18: a channel that carries notifications to people."""

from dataclasses import dataclass
from typing import Literal, Protocol

Detail = Literal["none", "minimal"]
"""How much a message may say: bed and link only, or also what raised the score."""


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


class Channel(Protocol):
    """Somewhere people look.

    A message may arrive twice after a crash or a lost answer, never unnoticed not at all: `send` returns only when
    the other side has taken it.

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
