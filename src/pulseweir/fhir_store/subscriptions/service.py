"""Step 5: Subscriptions at work: changes become events, events become notifications. Runs beside the server.

One task looks at changes in their order; each Subscription's notifications are a task of their own, so that a slow
endpoint holds up nobody else. Delivery is at least once, in the order of the events' numbers.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress

import httpx
import structlog

from pulseweir.clock import real_microseconds
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.maker import Maker, maker_of
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.subscriptions.channels import Channel, pause_seconds
from pulseweir.fhir_store.subscriptions.definition import Definition, read_definition
from pulseweir.fhir_store.subscriptions.delivery import NotificationFailed, Sender
from pulseweir.fhir_store.subscriptions.disclosing import audit_of
from pulseweir.fhir_store.subscriptions.ledger import (
    Change,
    Event,
    State,
    begin,
    changes,
    events,
    note_end,
    note_events,
    note_failure,
    note_success,
    state_of,
    states,
    subscription_resource,
    take_up,
)
from pulseweir.fhir_store.subscriptions.matching import Matcher, Matches
from pulseweir.fhir_store.subscriptions.standing import objection
from pulseweir.telemetry import FHIR_STORE_NOTIFICATIONS

_SECOND = 1_000_000
_CHANGES_AT_ONCE = 500
_PATIENCE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
_log = structlog.get_logger()


class SubscriptionService:
    """Serves the Subscriptions of one store.

    Args:
        store: Where they are.
        base_url: FHIR base URL for the links in notifications.
        guard: Who knows the makers of Subscriptions and what they may see; none lets everybody see everything.
        now: The real instant, microseconds; back-off and heartbeats go by it.
        transport: Of the HTTP client; None for the network.
        chance: Source of the back-off's randomness.
    """

    def __init__(
        self,
        store: FhirStore,
        base_url: str,
        *,
        guard: Guard | None = None,
        now: Callable[[], int] = real_microseconds,
        transport: httpx.AsyncBaseTransport | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._settings = store.settings.subscriptions
        self._guard = guard or Guard()
        self._now = now
        self._chance = chance or random.Random()  # noqa: S311 - back-off, not a secret
        self._matcher = Matcher(base_url, store.settings.time_zone)
        self._sender = Sender.open(base_url, self._settings, transport)
        self._slots = asyncio.Semaphore(self._settings.concurrent_deliveries)
        self._channels: dict[int, Channel] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; what was not delivered by then is delivered after the next start."""
        loop = asyncio.get_running_loop()

        def ring(changed: Set[str]) -> None:
            # Without a Subscription nothing is noted, and a look would cost every commit.
            if (self._channels or "Subscription" in changed) and not self._wake.is_set():
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
                    async with asyncio.timeout(pause_seconds(self._channels.values(), self._now(), _PATIENCE_SECONDS)):
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
            if not channel.is_busy() and (kind := channel.due(state, now, self._store.now_microseconds())):
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
        matches = await self._matched(found)
        now = self._now()

        def note(session: WriteSession) -> None:
            note_events(session, matches.found, found[-1].position)
            for pk, kind in matches.failed.items():
                state = state_of(session, pk)
                if state is not None:
                    text = f"A change could not be held against the criteria ({kind}), and is not told. Ask for it."
                    note_failure(session, state, text, now, self._limits(is_lasting=True))

        await self._store.write(note)
        for pk, kind in matches.failed.items():
            _log.error("fhir_subscription_not_matched", step=5, subscription=pk, error=kind)
        return True

    async def _matched(self, found: list[Change]) -> Matches:
        now = self._now()
        asked: dict[int, Definition] = {}
        begun: dict[int, int] = {}
        for state in await self._store.query(states):
            channel = await self._channel(state, now)
            if state.since_position is not None and channel.definition is not None:
                asked[state.pk], begun[state.pk] = channel.definition, state.since_position
        if not asked:
            return Matches({}, {})
        matches = await asyncio.to_thread(self._matcher.match, found, asked)
        told = {
            pk: [each for each in those if each.position > begun[pk] and not _is_over(asked[pk], each)]
            for pk, those in matches.found.items()
        }
        return Matches(told, matches.failed)

    async def _channel(self, state: State, now: int) -> Channel:
        """What is known of a Subscription; read anew when it has another version."""
        known = self._channels.get(state.pk)
        if known is not None and known.version == state.version:
            return known
        stored = await self._store.query(lambda session: subscription_resource(session, state.pk))
        definition, refusal = None, ""
        try:
            if stored is not None and not stored.deleted:
                definition = read_definition(stored.tree(), self._store.settings)
                await asyncio.to_thread(self._matcher.check, definition)
        except Refusal as error:
            definition, refusal = None, error.issues[0].text
        except Exception as error:  # noqa: BLE001 - one Subscription that cannot be read must not hold up the others
            definition, refusal = None, f"It could not be read ({type(error).__name__}). Store it otherwise."
            _log.error("fhir_subscription_not_read", step=5, subscription=state.pk, error=type(error).__name__)
        channel = Channel(state.version, definition, refusal, now, now)
        if known is not None:
            is_asked_anew = state.failures == 0
            channel.task, channel.sent_at = known.task, known.sent_at
            channel.retry_at = now if is_asked_anew else known.retry_at
        self._channels[state.pk] = channel
        return channel

    async def _tell(self, state: State, channel: Channel, kind: str) -> None:
        """One notification, and what became of it."""
        try:
            if kind == "end":
                await self._store.write(lambda session: note_end(session, state))
            else:
                async with self._slots:
                    await self._notify(state, channel, kind)
                channel.retry_at = channel.sent_at = self._now()
                FHIR_STORE_NOTIFICATIONS.labels("delivered").inc()
        except NotificationFailed as error:
            await self._failed(state, channel, error)
        except RetryLater:
            # The store cannot write: what was sent is sent again once it can.
            channel.retry_at = self._now() + _SECOND
        except Exception as error:  # noqa: BLE001 - told by the Subscription's status and the log
            _log.error("fhir_notification_failed", step=5, subscription=state.pk, error=type(error).__name__)
            text = f"The notification could not be made ({type(error).__name__}). Ask for what changed."
            await self._failed(state, channel, NotificationFailed(text, is_lasting=True))
        self._wake.set()

    async def _notify(self, state: State, channel: Channel, kind: str) -> None:
        """Send one notification and note that it was taken.

        Raises:
            NotificationFailed: It was not.
            RetryLater: It was, and the store could not note it.
        """
        definition = channel.definition
        if definition is None:
            raise NotificationFailed(channel.refusal, is_lasting=True)
        told: list[Event] = []
        if kind == "event-notification":
            most = min(self._settings.events_per_notification, definition.most_events or 1_000_000)
            told = await self._store.query(lambda session: events(session, state, state.delivered, state.events, most))
        # A resource a request: those that were taken before one that was not are not sent again.
        is_one_by_one = bool(told) and not definition.topic and definition.content != "empty"
        taken: list[Event] = []
        for part in [[event] for event in told] if is_one_by_one else [told]:
            maker = await self._maker(state)
            try:
                self._check_rights(maker, definition)
                if definition.topic or kind != "handshake":
                    await self._sender.send(definition, state, self._now(), kind, part)
            except NotificationFailed as error:
                make = audit_of(self._guard, state, definition, maker, part, "4") if error.may_have_arrived else None
                if make is not None and self._guard.trail is not None:
                    self._guard.trail.post_event(make)
                if taken:
                    break
                raise
            taken += part
        await self._note_taken(state, definition, taken)

    async def _note_taken(self, state: State, definition: Definition, taken: list[Event]) -> None:
        make = audit_of(self._guard, state, definition, await self._maker(state), taken, "0")
        kept, delivered = self._settings.events_kept, taken[-1].number if taken else 0
        trail = self._guard.trail

        def note(session: WriteSession) -> None:
            note_success(session, state, delivered, kept)
            if make is not None and trail is not None:
                trail.append_event(session, lambda previous: make(previous, session.now_microseconds))

        await self._store.write(note)

    async def _maker(self, state: State) -> Maker:
        return await self._store.query(lambda session: maker_of(session, state.pk, state.version))

    def _check_rights(self, maker: Maker, definition: Definition) -> None:
        hours = self._settings.signed_token_hours
        text = objection(self._guard, maker, definition.resource_type, self._now(), hours)
        if text:
            raise NotificationFailed(text, is_lasting=True)

    async def _failed(self, state: State, channel: Channel, error: NotificationFailed) -> None:
        settings, now = self._settings, self._now()
        ceiling = min(settings.retry_ceiling_seconds, settings.retry_seconds * 2 ** min(state.failures, 40))
        wished = min(error.retry_after_seconds or 0.0, settings.retry_ceiling_seconds)
        channel.retry_at = now + round(max(self._chance.uniform(0, ceiling), wished) * _SECOND)
        limits, text = self._limits(is_lasting=error.is_lasting), str(error)
        FHIR_STORE_NOTIFICATIONS.labels("failed").inc()
        with suppress(RetryLater):
            await self._store.write(lambda session: note_failure(session, state, text, now, limits))
        after = await self._store.query(lambda session: state_of(session, state.pk))
        if after is not None and after.status != state.status:
            _log.warning("fhir_subscription_failing", step=5, id=state.resource_id, status=after.status)

    def _limits(self, *, is_lasting: bool) -> tuple[int, int]:
        settings = self._settings
        until_off = round(settings.hours_until_off * 3_600 * _SECOND)
        return 1 if is_lasting else settings.failures_until_error, until_off

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


def _is_over(definition: Definition, change: Change) -> bool:
    return definition.ends is not None and change.stored.updated >= definition.ends
