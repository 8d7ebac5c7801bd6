"""Step 18: the outbox empties: notifications to channels; Task, Communication, AuditEvent to the FHIR service."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import structlog

from pulseweir.backends.channels.base import Channel, Notification
from pulseweir.backends.fhir_answers import BundleAnswer
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, Transaction, alerts, outbox
from pulseweir.backends.repository.rows import AlertRow, OutboxRow
from pulseweir.clock import real_microseconds
from pulseweir.errors import ChannelUnavailable, RejectRecord, RetryLater
from pulseweir.telemetry import NOTIFY_DELIVERIES
from pulseweir.warm_path.alert_delivery import Cause, delivered, not_delivered, waits
from pulseweir.warm_path.alert_store import FhirWrite, change, put_fhir, to_alert
from pulseweir.warm_path.care_resources import communication, task
from pulseweir.warm_path.channel_setup import open_channels
from pulseweir.warm_path.message_retries import (
    Turn,
    after_failure,
    asked_microseconds,
    back_off,
    human_channels,
    turn_of,
)
from pulseweir.warm_path.settings import CoordinationSettings

__all__ = ["OutboxSender", "open_channels"]

_SECOND = 1_000_000
_WRITTEN_ONCE = frozenset({"AuditEvent"})
_PRESENT = frozenset({304, 412})
_NOT_DONE = {
    outbox.FAILED: "No channel took it in the time it had.",
    outbox.LOGGED: "No channel that people look at is set up.",
    outbox.OVERTAKEN: "The alert was answered while the message waited.",
}


class OutboxSender:
    """Sends what waits in the outbox, at least once, and remembers that it did.

    A notification is sent when a channel that people look at has taken it; a log line is written beside and counts for
    nothing. Notifications and FHIR writes do not wait for each other. Several processes may run one each: an entry
    taken in hand is nobody else's until its lease ends.
    """

    def __init__(
        self, repository: Repository, fhir: FhirClient, channels: Mapping[str, Channel], settings: CoordinationSettings
    ) -> None:
        self._repository = repository
        self._fhir = fhir
        self._channels = channels
        self._settings = settings
        self._held_until: dict[str, int] = {}
        self._look_at = 0

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(outbox.NOTIFICATION))
            group.create_task(self._forever(outbox.FHIR))

    async def send_notifications(self) -> int:
        """Try every notification that is due; returns how many were tried."""
        await self._tell_what_waits()
        rows = await self._claim(outbox.NOTIFICATION)
        if rows:
            tried = await asyncio.gather(*(self._notify(row) for row in rows))
            await self._repository.write(self._settle_notifications, tried)
        return len(rows)

    async def write_fhir(self) -> int:
        """Try every FHIR write that is due; returns how many were tried."""
        rows = await self._claim(outbox.FHIR)
        if rows:
            await self._repository.write(outbox.save, await self._put(rows))
        return len(rows)

    async def close(self) -> None:
        """Release the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _forever(self, kind: str) -> None:
        send = self.send_notifications if kind == outbox.NOTIFICATION else self.write_fhir
        while True:
            try:
                sent = await send()
            except RetryLater:
                # The repository is away: what was taken in hand comes back when its lease ends.
                sent = 0
            if not sent:
                await asyncio.sleep(self._settings.poll_seconds)

    async def _claim(self, kind: str) -> list[OutboxRow]:
        now, limit = real_microseconds(), self._settings.batch_size
        if not await self._repository.read(outbox.due, kind, now, limit=1):
            return []
        until = now + int(self._settings.lease_seconds * _SECOND)
        return await self._repository.write(outbox.claim, kind, now, until_real=until, limit=limit)

    # Notifications

    async def _notify(self, row: OutboxRow) -> OutboxRow:
        """The entry after one try, or after its end."""
        names = (*msgspec.json.decode(row.channels_json, type=list[str]), *self._settings.notices.channels)
        usable = human_channels(names, self._channels)
        notification = msgspec.json.decode(row.body_json, type=Notification)
        is_first = not row.attempts and not row.channel_index
        if is_first and ("log" in names or not usable):
            await self._write_line(notification)
        if not usable:
            NOTIFY_DELIVERIES.labels("log", "logged").inc()
            return replace(row, state=outbox.LOGGED)
        if not is_first and await self._is_overtaken(row):
            return replace(row, state=outbox.OVERTAKEN)
        turn = turn_of(row, usable, self._held_until, real_microseconds())
        if not turn.channel:
            return turn.row
        return await self._try(turn, notification, len(usable))

    async def _try(self, turn: Turn, notification: Notification, channels: int) -> OutboxRow:
        row, name = turn.row, turn.channel
        try:
            async with asyncio.timeout(2 * self._settings.send_seconds):
                await self._channels[name].send(notification)
        except (RetryLater, RejectRecord) as error:
            return self._after_failure(row, name, error, channels)
        except Exception as error:  # noqa: BLE001 - a fault of one channel must not keep the others from being tried
            structlog.get_logger().error("channel_broke", channel=name, error=type(error).__name__)
            return self._after_failure(row, name, ChannelUnavailable(name, type(error).__name__), channels)
        NOTIFY_DELIVERIES.labels(name, "sent").inc()
        return replace(row, state=outbox.SENT, channel=name, sent_at=self._repository.clock.now_microseconds())

    def _after_failure(self, row: OutboxRow, name: str, error: RetryLater | RejectRecord, channels: int) -> OutboxRow:
        now = real_microseconds()
        NOTIFY_DELIVERIES.labels(name, "refused" if isinstance(error, RejectRecord) else "retried").inc()
        self._held_until[name] = now + asked_microseconds(error, self._settings)
        after = after_failure(row, error, channels, now, self._settings)
        if after.state == outbox.FAILED:
            NOTIFY_DELIVERIES.labels("", "failed").inc()
            structlog.get_logger().error("notification_failed", entry_key=row.entry_key, error=after.last_error)
        return after

    async def _write_line(self, notification: Notification) -> None:
        log = self._channels.get("log")
        if log is not None:
            await log.send(notification)

    async def _is_overtaken(self, row: OutboxRow) -> bool:
        """Whether people answered the alert since the message was made: it would call them for what is done."""
        alert = await self._repository.read(alerts.alert, row.alert_id)
        made_at = self._repository.clock.at(row.created_at)
        return alert is not None and (alert.closed_at is not None or (alert.acknowledged_at or 0) > made_at)

    async def _tell_what_waits(self) -> None:
        """Say of alerts whose message nobody has taken for a while that it is not delivered yet."""
        now = real_microseconds()
        if now < self._look_at:
            return
        self._look_at = now + min(int(self._settings.undelivered_after_seconds * _SECOND), _SECOND)
        before = now - int(self._settings.undelivered_after_seconds * _SECOND)
        late = await self._repository.read(outbox.alerts_waiting, before)
        if late:
            await self._repository.write(self._mark_waiting, late)

    def _mark_waiting(self, transaction: Transaction, alert_ids: Sequence[str]) -> None:
        now = self._repository.clock.now_microseconds()
        for alert_id in alert_ids:
            change(transaction, alert_id, partial(waits, now=now), self._settings.notices)

    def _settle_notifications(self, transaction: Transaction, rows: Sequence[OutboxRow]) -> None:
        outbox.save(transaction, rows)
        for row in rows:
            if row.state != outbox.WAITING:
                self._settle(transaction, row, msgspec.json.decode(row.body_json, type=Notification))

    def _settle(self, transaction: Transaction, row: OutboxRow, notification: Notification) -> None:
        """What an ended entry means for its alert, and its Communication."""
        now = self._repository.clock.now_microseconds()
        if row.state == outbox.SENT:
            news = partial(delivered, now=row.sent_at or now, channel=row.channel)
            change(transaction, row.alert_id, news, self._settings.notices)
        elif row.state != outbox.OVERTAKEN:
            cause: Cause = "no-channel" if row.state == outbox.LOGGED else "gave-up"
            lost = partial(not_delivered, now=now, kind=notification.kind, role=notification.role, cause=cause)
            change(transaction, row.alert_id, lost, self._settings.notices)
        alert = alerts.alert(transaction, row.alert_id)
        if alert is None:
            return
        resource = communication(notification, to_alert(alert), row.channel, row.sent_at, _NOT_DONE.get(row.state, ""))
        write = FhirWrite(resource_json=msgspec.json.encode(resource).decode())
        put_fhir(transaction, f"Communication:{row.entry_key}", write, row.alert_id, row.patient_id)

    # The FHIR service

    async def _put(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        bodies = await self._repository.read(_bodies, rows)
        entries = [_entry(body) for body in bodies.values()]
        try:
            answers = await self._fhir.write_each(entries)
        except RetryLater as error:
            return [self._write_again(row, error) for row in rows]
        told = zip(bodies.items(), answers, strict=True)
        by_address = {address: _settled(body, answer) for (address, body), answer in told}
        return [self._after_write(row, by_address.get(_address(row))) for row in rows]

    def _after_write(self, row: OutboxRow, answer: BundleAnswer | None) -> OutboxRow:
        if answer is None or answer.is_done:
            return replace(row, state=outbox.SENT, channel="fhir", sent_at=self._repository.clock.now_microseconds())
        waits = answer.is_worth_retrying or answer.lacks_reference
        young = real_microseconds() - row.created_at < self._settings.give_up_after_seconds * _SECOND
        if waits and young:
            return self._write_again(row, RetryLater("", retry_after_seconds=answer.retry_after_seconds))
        structlog.get_logger().error("fhir_write_refused", entry_key=row.entry_key, status=answer.status)
        return replace(row, state=outbox.FAILED, attempts=row.attempts + 1, last_error=f"status-{answer.status}")

    def _write_again(self, row: OutboxRow, error: RetryLater) -> OutboxRow:
        attempts = row.attempts + 1
        pause = asked_microseconds(error, self._settings) or back_off(attempts, self._settings)
        due_at = real_microseconds() + pause
        return replace(row, attempts=attempts, due_at=due_at, last_error=type(error).__name__)


def _entry(body: Mapping[str, Any]) -> dict[str, Any]:
    """The PUT of a resource; what must never change is written where nothing is."""
    request = {"method": "PUT", "url": f"{body['resourceType']}/{body['id']}"}
    if body["resourceType"] in _WRITTEN_ONCE:
        request["ifNoneMatch"] = "*"
    return {"request": request, "resource": body}


def _settled(body: Mapping[str, Any], answer: BundleAnswer) -> BundleAnswer:
    """The answer, a success where what must never change is there already: it was written before a crash."""
    is_there = body["resourceType"] in _WRITTEN_ONCE and answer.status in _PRESENT and not answer.is_whole
    return BundleAnswer(200) if is_there else answer


def _address(row: OutboxRow) -> str:
    """What an entry writes: every Task entry of one alert writes the same, its latest state."""
    write = msgspec.json.decode(row.body_json, type=FhirWrite)
    return f"task-of-{write.task_of_alert}" if write.task_of_alert else row.entry_key


def _bodies(transaction: Transaction, rows: Sequence[OutboxRow]) -> dict[str, dict[str, Any]]:
    """The resource to write for each address, in the order of entry."""
    bodies: dict[str, dict[str, Any]] = {}
    for row in rows:
        write = msgspec.json.decode(row.body_json, type=FhirWrite)
        if not write.task_of_alert:
            bodies[_address(row)] = msgspec.json.decode(write.resource_json)
            continue
        alert: AlertRow | None = alerts.alert(transaction, write.task_of_alert)
        if alert is not None:
            bodies[_address(row)] = task(to_alert(alert))
    return bodies
