"""What is known of each Subscription's notifications while the process runs, and what is due on which."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.ledger import State

_SECOND = 1_000_000
_SHORTEST_SECONDS = 0.001
_NEXT_BEAT_SECONDS = 0.05


@dataclass(slots=True)
class Channel:
    """One Subscription's notifications.

    Attributes:
        version: Version of the Subscription that `definition` was read from.
        definition: What it asks; None when it cannot be done.
        refusal: Why it cannot be done; "" when it can.
        retry_at: Real instant before which nothing is sent.
        sent_at: Real instant of the last notification.
        task: A notification on its way.
    """

    version: int
    definition: Definition | None
    refusal: str
    retry_at: int
    sent_at: int
    task: asyncio.Task[None] | None = None

    def is_busy(self) -> bool:
        """Whether a notification is on its way."""
        return self.task is not None and not self.task.done()

    def due(self, state: State, now: int, house_now: int) -> str:
        """What is to be sent or done now; "" for nothing.

        Args:
            state: How the Subscription stands.
            now: Real instant, microseconds; back-off and heartbeats go by it.
            house_now: Instant by the house's clock, microseconds; the Subscription's end goes by it.
        """
        if state.status == "off":
            return ""
        if self.definition is not None and self.definition.ends is not None and house_now >= self.definition.ends:
            return "end"
        if now < self.retry_at:
            return ""
        if self.definition is None or state.status == "requested" or state.since_position is None:
            return "handshake"
        if state.events > state.delivered:
            return "event-notification"
        heartbeat = self.definition.heartbeat_seconds
        is_silent = heartbeat is not None and now - self.sent_at >= heartbeat * _SECOND
        return "heartbeat" if is_silent or (state.failures and self.definition.topic) else ""


def pause_seconds(channels: Iterable[Channel], now: int, patience_seconds: float) -> float:
    """How long nothing is due, if nothing changes; an end is met within the patience."""
    pause = patience_seconds
    for channel in channels:
        if channel.is_busy():
            continue
        if channel.retry_at > now:
            pause = min(pause, (channel.retry_at - now) / _SECOND)
        if channel.definition is not None and channel.definition.heartbeat_seconds:
            beat = channel.sent_at + channel.definition.heartbeat_seconds * _SECOND
            pause = min(pause, max((beat - now) / _SECOND, _NEXT_BEAT_SECONDS))
    return max(pause, _SHORTEST_SECONDS)
