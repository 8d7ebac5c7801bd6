"""Step 15: pushes what changes to any number of screens, with one query a poll however many they are."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from pulseweir.backends.repository import Repository, Transaction, alerts, changes, scores
from pulseweir.backends.repository.rows import AlertRow, LiveRow
from pulseweir.errors import RetryLater

_WAITING_UPDATES = 256


@dataclass(frozen=True, slots=True)
class LiveUpdate:
    """What screens must know.

    Attributes:
        sequence: Ask for changes after this one to go on from here.
        server_time: Microseconds of the house's clock.
        complete: Whether this is the full state, not a difference.
        rows: Live rows, all or those that changed.
        alerts: Alerts, the open ones or those that changed.
    """

    sequence: int
    server_time: int
    complete: bool
    rows: list[LiveRow]
    alerts: list[AlertRow]


class _Subscriber:
    """A queue that says when it had to forget something."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[LiveUpdate] = asyncio.Queue(_WAITING_UPDATES)
        self._incomplete = True

    def offer(self, update: LiveUpdate) -> None:
        """Queue an update; a full queue is emptied and the full state is due instead."""
        if self.queue.full():
            self._incomplete = True
            while not self.queue.empty():
                self.queue.get_nowait()
        self.queue.put_nowait(update)

    def begins_anew(self) -> bool:
        """Whether the full state is due; asking settles it."""
        incomplete, self._incomplete = self._incomplete, False
        return incomplete


def _after(sequence: int, update: LiveUpdate) -> LiveUpdate:
    """What an update holds that changed after `sequence`: a look may begin before what a subscriber has been told."""
    rows = [row for row in update.rows if row.sequence > sequence]
    return replace(update, rows=rows, alerts=[alert for alert in update.alerts if alert.sequence > sequence])


class LiveFeed:
    """Fans changes out to subscribers.

    A subscriber first gets the full state, then every change in order. One that is too slow is given the full
    state again instead of growing a queue without bound. Screens limit what they show by ward themselves.
    """

    def __init__(self, repository: Repository, poll_seconds: float = 0.1) -> None:
        self._repository = repository
        self._poll_seconds = poll_seconds
        self._subscribers: set[_Subscriber] = set()
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to poll."""
        if self._task is None:
            self._task = asyncio.create_task(self._poll())

    async def close(self) -> None:
        """Stop polling; subscribers wait in vain from here on and should be cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def state(self) -> LiveUpdate:
        """The full state now."""
        return await self._repository.read(self._read, None)

    async def subscribe(self) -> AsyncGenerator[LiveUpdate]:
        """The full state, then each change as it is committed."""
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            seen = -1
            while True:
                update = await (self.state() if subscriber.begins_anew() else subscriber.queue.get())
                if len(self._subscribers) == 1 and update.complete:
                    self._sequence = max(self._sequence, update.sequence)
                if update.complete or update.sequence > seen:
                    news = update if update.complete else _after(seen, update)
                    seen = update.sequence
                    yield news
        finally:
            self._subscribers.discard(subscriber)

    async def _poll(self) -> None:
        while True:
            if self._subscribers:
                await self.look()
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> None:
        """Tell the subscribers what has changed since the last look."""
        try:
            update = await self._repository.read(self._read, self._sequence)
        except RetryLater:
            return
        self._sequence = update.sequence
        if not update.rows and not update.alerts:
            return
        for subscriber in self._subscribers:
            subscriber.offer(update)

    def _read(self, transaction: Transaction, since: int | None) -> LiveUpdate:
        sequence = changes.latest(transaction)
        now = self._repository.clock.now_microseconds()
        if since is None:
            rows = scores.live_rows(transaction, model=None)
            return LiveUpdate(sequence, now, True, rows, alerts.open_alerts(transaction))
        if sequence == since:
            return LiveUpdate(sequence, now, False, [], [])
        rows = scores.live_rows(transaction, model=None, since=since)
        return LiveUpdate(sequence, now, False, rows, alerts.changed_since(transaction, since))
