"""Step 5: Subscriptions at work: changes become events, events become notifications. Runs beside the server.

One task looks at changes in their order; each Subscription's notifications are a task of their own, so that a slow
endpoint holds up nobody else. Delivery is at least once, in the order of the events' numbers.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import structlog

from pulseweir.clock import real_microseconds
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.subscriptions.definition import Definition, read_definition
from pulseweir.fhir_store.subscriptions.delivery import NotificationFailed, Sender
from pulseweir.fhir_store.subscriptions.ledger import (
    Change,
    Event,
    State,
    begin,
    changes,
    events,
    note_events,
    note_failure,
    note_success,
    state_of,
    states,
    subscription_resource,
    take_up,
)
from pulseweir.fhir_store.subscriptions.matching import Matcher
from pulseweir.telemetry import FHIR_STORE_NOTIFICATIONS

_SECOND = 1_000_000
_CHANGES_AT_ONCE = 500
_PATIENCE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
_log = structlog.get_logger()


@dataclass(slots=True)
class _Channel:
    """What is known of one Subscription's notifications while the process runs.

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


class SubscriptionService:
    """Serves the Subscriptions of one store.

    Args:
        store: Where they are.
        base_url: FHIR base URL for the links in notifications.
        now: The real instant, microseconds; back-off and heartbeats go by it.
        transport: Of the HTTP client; None for the network.
        chance: Source of the back-off's randomness.
    """

    def __init__(
        self,
        store: FhirStore,
        base_url: str,
        *,
        now: Callable[[], int] = real_microseconds,
        transport: httpx.AsyncBaseTransport | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._settings = store.settings.subscriptions
        self._now = now
        self._chance = chance or random.Random()  # noqa: S311 - back-off, not a secret
        self._matcher = Matcher(base_url)
        self._sender = Sender.open(base_url, self._settings.timeout_seconds, transport)
        self._slots = asyncio.Semaphore(self._settings.concurrent_deliveries)
        self._channels: dict[int, _Channel] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; what was not delivered by then is delivered after the next start."""
        loop = asyncio.get_running_loop()

        def ring() -> None:
            if not self._wake.is_set():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._wake.set)

        self._store.after_commit = ring
        try:
            await self._persist(self.begin)
            while True:
                self._wake.clear()
                await self._persist(self.turn)
                # Not wait_for: when the wait ends as the task is cancelled, it forgets the cancellation.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_seconds()):
                        await self._wake.wait()
                # Commits come in swarms: one look is enough for those that follow closely.
                await asyncio.sleep(_GATHER_SECONDS)
        finally:
            self._store.after_commit = None
            await self.close()

    async def begin(self) -> None:
        """Take up the Subscriptions that are stored."""
        await self._store.write(begin)

    async def turn(self) -> None:
        """Look at all changes, then set off every notification that is due."""
        while await self._follow():
            pass
        now = self._now()
        standing = await self._store.query(states)
        for gone in self._channels.keys() - {state.pk for state in standing}:
            if not self._channels[gone].is_busy():
                del self._channels[gone]
        for state in standing:
            channel = await self._channel(state, now)
            if not channel.is_busy() and (kind := self._due(state, channel, now)):
                channel.task = asyncio.create_task(self._tell(state, channel, kind))

    async def settle(self) -> None:
        """Take turns until nothing is on its way and nothing is due now."""
        while True:
            await self.turn()
            running = [channel.task for channel in self._channels.values() if channel.task and channel.is_busy()]
            if not running:
                return
            await asyncio.gather(*running)

    async def close(self) -> None:
        """Give up what is on its way, and let go of the connections."""
        running = [channel.task for channel in self._channels.values() if channel.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._sender.http.aclose()
        self._matcher.close()

    async def _follow(self) -> bool:
        """Make events of the oldest changes; False when there were none."""
        found = await self._store.query(lambda session: changes(session, _CHANGES_AT_ONCE))
        if not found:
            return False
        touched = {change.stored.pk for change in found if change.stored.resource_type == "Subscription"}
        if touched:
            await self._store.write(lambda session: take_up(session, touched))
        matched = await self._matched(found)
        await self._store.write(lambda session: note_events(session, matched, found[-1].position))
        return True

    async def _matched(self, found: list[Change]) -> dict[int, list[Change]]:
        now = self._now()
        asked: dict[int, Definition] = {}
        begun: dict[int, int] = {}
        for state in await self._store.query(states):
            channel = await self._channel(state, now)
            if state.since_position is not None and channel.definition is not None:
                asked[state.pk], begun[state.pk] = channel.definition, state.since_position
        if not asked:
            return {}
        matched = await asyncio.to_thread(self._matcher.match, found, asked)
        return {pk: [each for each in those if each.position > begun[pk]] for pk, those in matched.items()}

    async def _channel(self, state: State, now: int) -> _Channel:
        """What is known of a Subscription; read anew when it has another version."""
        known = self._channels.get(state.pk)
        if known is not None and known.version == state.version:
            return known
        stored = await self._store.query(lambda session: subscription_resource(session, state.pk))
        definition, refusal = None, ""
        try:
            if stored is not None and not stored.deleted:
                definition = read_definition(stored.tree(), self._store.settings)
                await asyncio.to_thread(self._matcher.match, [], {state.pk: definition})
        except Refusal as error:
            definition, refusal = None, error.issues[0].text
        channel = _Channel(state.version, definition, refusal, now, now)
        if known is not None:
            is_asked_anew = state.failures == 0
            channel.task, channel.sent_at = known.task, known.sent_at
            channel.retry_at = now if is_asked_anew else known.retry_at
        self._channels[state.pk] = channel
        return channel

    def _due(self, state: State, channel: _Channel, now: int) -> str:
        """What is to be sent now; "" for nothing."""
        if state.status == "off" or now < channel.retry_at:
            return ""
        if channel.definition is None or state.status == "requested" or state.since_position is None:
            return "handshake"
        if state.events > state.delivered:
            return "event-notification"
        heartbeat = channel.definition.heartbeat_seconds
        is_silent = heartbeat is not None and now - channel.sent_at >= heartbeat * _SECOND
        return "heartbeat" if is_silent or (state.failures and channel.definition.topic) else ""

    async def _tell(self, state: State, channel: _Channel, kind: str) -> None:
        """One notification, and what became of it."""
        try:
            async with self._slots:
                delivered = await self._send(state, channel, kind)
            kept = self._settings.events_kept
            await self._store.write(lambda session: note_success(session, state, delivered, kept))
            channel.retry_at = channel.sent_at = self._now()
            FHIR_STORE_NOTIFICATIONS.labels("delivered").inc()
        except NotificationFailed as error:
            await self._failed(state, channel, str(error))
        except RetryLater:
            # The store cannot write: what was sent is sent again once it can.
            channel.retry_at = self._now() + _SECOND
        self._wake.set()

    async def _send(self, state: State, channel: _Channel, kind: str) -> int:
        """Send; returns the number of the newest event that was told."""
        definition = channel.definition
        if definition is None:
            raise NotificationFailed(channel.refusal)
        if not definition.topic and kind == "handshake":
            return 0
        told = []
        if kind == "event-notification":
            most = min(self._settings.events_per_notification, definition.most_events or 1_000_000)
            is_one_by_one = not definition.topic and definition.content != "empty"
            told = await self._store.query(lambda session: events(session, state, state.delivered, state.events, most))
            if is_one_by_one:
                return await self._send_singly(definition, state, told)
        await self._sender.send(definition, state, self._now(), kind, told)
        return told[-1].number if told else 0

    async def _send_singly(self, definition: Definition, state: State, told: list[Event]) -> int:
        """Send each event by a request of its own, up to the first that is not taken."""
        delivered = 0
        for event in told:
            try:
                await self._sender.send(definition, state, self._now(), "event-notification", [event])
            except NotificationFailed:
                if delivered:
                    break
                raise
            delivered = event.number
        return delivered

    async def _failed(self, state: State, channel: _Channel, text: str) -> None:
        settings, now = self._settings, self._now()
        ceiling = min(settings.retry_ceiling_seconds, settings.retry_seconds * 2 ** min(state.failures, 40))
        channel.retry_at = now + round(self._chance.uniform(0, ceiling) * _SECOND)
        limits = settings.failures_until_error, round(settings.hours_until_off * 3_600 * _SECOND)
        FHIR_STORE_NOTIFICATIONS.labels("failed").inc()
        with suppress(RetryLater):
            await self._store.write(lambda session: note_failure(session, state, text, now, limits))
        after = await self._store.query(lambda session: state_of(session, state.pk))
        if after is not None and after.status != state.status:
            _log.warning("fhir_subscription_failing", step=5, id=state.resource_id, status=after.status)

    def _pause_seconds(self) -> float:
        """How long nothing is due, if nothing changes."""
        now, pause = self._now(), _PATIENCE_SECONDS
        for channel in self._channels.values():
            if channel.is_busy():
                continue
            if channel.retry_at > now:
                pause = min(pause, (channel.retry_at - now) / _SECOND)
            if channel.definition is not None and channel.definition.heartbeat_seconds:
                beat = channel.sent_at + channel.definition.heartbeat_seconds * _SECOND
                pause = min(pause, max(beat - now, 50_000) / _SECOND)
        return max(pause, 0.001)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something, again and again until it is done: the server beside it goes on meanwhile."""
        while True:
            try:
                await work()
            except RetryLater:
                await asyncio.sleep(1)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the server, nor pass unseen
                _log.error("fhir_subscriptions_failed", step=5, error=type(error).__name__)
                await asyncio.sleep(1)
            else:
                return
