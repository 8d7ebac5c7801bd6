"""Step 18: which channel a message is tried on, and when again. Pure.

Only channels that people look at are tried. One that is away is tried again a few times, one that refuses or asks for
patience at once hands over to the next; after the last the first has its turn again, ever more slowly, until one has
taken the message or its time is over.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pulseweir.backends.channels.base import HUMAN_CHANNELS
from pulseweir.backends.repository import outbox
from pulseweir.backends.repository.rows import OutboxRow
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.warm_path.settings import CoordinationSettings

_SECOND = 1_000_000
_LONGEST_BACK_OFF_DOUBLINGS = 12


def human_channels(listed: Iterable[str], opened: Collection[str]) -> tuple[str, ...]:
    """The channels to try, in order, each once: listed, set up, and such as people look at."""
    return tuple(dict.fromkeys(name for name in listed if name in opened and name in HUMAN_CHANNELS))


@dataclass(frozen=True, slots=True)
class Turn:
    """Which channel has its turn.

    Attributes:
        row: The entry, moved on to that channel.
        channel: Its name; "" where every channel has asked for patience.
    """

    row: OutboxRow
    channel: str


def turn_of(row: OutboxRow, usable: Sequence[str], held_until: Mapping[str, int], now: int) -> Turn:
    """The channel to try now: the entry's own, or the next one that has not asked for patience.

    Args:
        row: An entry that is due.
        usable: Channels in order; at least one.
        held_until: Until when a channel asked to be left alone, real microseconds.
        now: Real instant.
    """
    for step in range(len(usable)):
        index = row.channel_index + step
        name = usable[index % len(usable)]
        if held_until.get(name, 0) <= now:
            return Turn(row if step == 0 else replace(row, channel_index=index, attempts=0), name)
    return Turn(replace(row, due_at=min(held_until[name] for name in usable)), "")


def after_failure(
    row: OutboxRow, error: RetryLater | RejectRecord, channels: int, now: int, settings: CoordinationSettings
) -> OutboxRow:
    """The entry after a channel did not take it: that channel later, the next one at once, or given up.

    Args:
        row: The entry as it was tried.
        error: What the channel raised.
        channels: How many there are to try.
        now: Real instant, microseconds.
        settings: How often and how long.
    """
    failed = replace(row, last_error=type(error).__name__, attempts=row.attempts + 1)
    if now - row.created_at > settings.give_up_after_seconds * _SECOND:
        return replace(failed, state=outbox.FAILED)
    asked = asked_microseconds(error, settings)
    is_spent = failed.attempts >= settings.attempts_per_channel or (asked > 0 and channels > 1)
    if isinstance(error, RetryLater) and not is_spent:
        return replace(failed, due_at=now + (asked or back_off(failed.attempts, settings)))
    moved = replace(failed, attempts=0, channel_index=row.channel_index + 1)
    rounds, place = divmod(moved.channel_index, channels)
    return replace(moved, due_at=now if place else now + (asked or back_off(rounds + 2, settings)))


def asked_microseconds(error: RetryLater | RejectRecord, settings: CoordinationSettings) -> int:
    """How long the other side asked to be left alone, the longest pause at most; 0 when it did not, or for the past."""
    asked = error.retry_after_seconds if isinstance(error, RetryLater) else None
    return int(min(max(asked or 0.0, 0.0), settings.longest_retry_seconds) * _SECOND)


def back_off(attempts: int, settings: CoordinationSettings) -> int:
    """Microseconds until the next try, doubled with each."""
    doubled: float = settings.first_retry_seconds * 2 ** min(attempts - 1, _LONGEST_BACK_OFF_DOUBLINGS)
    return int(min(doubled, settings.longest_retry_seconds) * _SECOND)


def failing_channels(rows: Sequence[OutboxRow], usable: Sequence[str], at_least: int) -> tuple[str, ...]:
    """Channels that took none of the last messages they were tried for.

    Args:
        rows: Entries, newest first.
        usable: Channels in the order they are tried.
        at_least: How many messages in a row a channel must have failed.
    """
    return tuple(name for name in usable if _fails(name, rows, usable, at_least))


def _fails(name: str, rows: Sequence[OutboxRow], usable: Sequence[str], at_least: int) -> bool:
    failed = 0
    for row in rows:
        if row.channel == name:
            return False
        failed += name in _tried_in_vain(row, usable)
        if failed >= at_least:
            return True
    return False


def _tried_in_vain(row: OutboxRow, usable: Sequence[str]) -> set[str]:
    """The channels that an entry has been through without being taken."""
    tried = row.channel_index + (1 if row.attempts else 0)
    return {usable[place] for place in range(min(tried, len(usable)))} - {row.channel}
