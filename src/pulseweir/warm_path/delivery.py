"""Step 18: the outbox empties: notifications to channels; Task, Communication, AuditEvent to the FHIR service."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import structlog

from pulseweir.backends.channels.base import Channel, Notification
from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.channels.teams import TeamsChannel
from pulseweir.backends.fhir_answers import BundleAnswer
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, Transaction, alerts, outbox
from pulseweir.backends.repository.rows import AlertRow, OutboxRow
from pulseweir.clock import real_microseconds
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.telemetry import NOTIFY_DELIVERIES
from pulseweir.warm_path.alert_store import FhirWrite, change, put_fhir, to_alert
from pulseweir.warm_path.alerts import delivered
from pulseweir.warm_path.care_resources import communication, task
from pulseweir.warm_path.settings import CoordinationSettings

_SECOND = 1_000_000
_LONGEST_BACK_OFF_DOUBLINGS = 12
_WRITTEN_ONCE = frozenset({"AuditEvent"})
_PRESENT = frozenset({304, 412})


def open_channels(settings: CoordinationSettings) -> dict[str, Channel]:
    """The channels that the settings give an address to, by name."""
    channels: dict[str, Channel] = {"log": LogChannel()}
    webhook = settings.webhook_url()
    if webhook:
        channels["teams"] = TeamsChannel(webhook, detail=settings.teams_detail)
    return channels


class OutboxSender:
    """Sends what waits in the outbox, at least once, and remembers that it did.

    Notifications and FHIR writes do not wait for each other. Several processes may run one each: an entry taken in
    hand is nobody else's until its lease ends.
    """

    def __init__(
        self, repository: Repository, fhir: FhirClient, channels: Mapping[str, Channel], settings: CoordinationSettings
    ) -> None:
        self._repository = repository
        self._fhir = fhir
        self._channels = channels
        self._settings = settings

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(outbox.NOTIFICATION))
            group.create_task(self._forever(outbox.FHIR))

    async def send_notifications(self) -> int:
        """Try every notification that is due; returns how many were tried."""
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
        names = msgspec.json.decode(row.channels_json, type=list[str])
        usable = [name for name in names if name in self._channels] or ["log"]
        name = usable[row.channel_index % len(usable)]
        notification = msgspec.json.decode(row.body_json, type=Notification)
        try:
            await self._channels[name].send(notification)
        except RetryLater as error:
            NOTIFY_DELIVERIES.labels(name, "retried").inc()
            is_spent = row.attempts + 1 >= self._settings.attempts_per_channel
            return self._try_again(row, error, len(usable), is_spent)
        except RejectRecord as error:
            NOTIFY_DELIVERIES.labels(name, "refused").inc()
            return self._try_again(row, error, len(usable), True)
        NOTIFY_DELIVERIES.labels(name, "sent").inc()
        return replace(row, state=outbox.SENT, channel=name, sent_at=self._repository.clock.now_microseconds())

    def _try_again(
        self, row: OutboxRow, error: RetryLater | RejectRecord, channels: int, next_channel: bool
    ) -> OutboxRow:
        """The entry after a failure: the same channel later, or the next one at once; after the last, the first."""
        now = real_microseconds()
        failed = replace(row, last_error=type(error).__name__, attempts=row.attempts + 1)
        if now - row.created_at > self._settings.give_up_after_seconds * _SECOND:
            NOTIFY_DELIVERIES.labels("", "failed").inc()
            structlog.get_logger().error("notification_failed", entry_key=row.entry_key, error=failed.last_error)
            return replace(failed, state=outbox.FAILED)
        if not next_channel:
            return replace(failed, due_at=now + self._pause(failed.attempts, error))
        moved = replace(failed, attempts=0, channel_index=row.channel_index + 1)
        rounds, place = divmod(moved.channel_index, channels)
        return replace(moved, due_at=now if place else now + self._pause(rounds + 2, error))

    def _pause(self, attempts: int, error: RetryLater | RejectRecord) -> int:
        """Microseconds until the next try: doubling, or what the other side asked for."""
        asked = error.retry_after_seconds if isinstance(error, RetryLater) else None
        doubled = self._settings.first_retry_seconds * 2 ** min(attempts - 1, _LONGEST_BACK_OFF_DOUBLINGS)
        return int(min(asked or doubled, self._settings.longest_retry_seconds) * _SECOND)

    def _settle_notifications(self, transaction: Transaction, rows: Sequence[OutboxRow]) -> None:
        outbox.save(transaction, rows)
        for row in rows:
            if row.state != outbox.SENT or row.sent_at is None:
                continue
            sent_at, channel = row.sent_at, row.channel
            first = partial(delivered, now=sent_at, channel=channel)
            change(transaction, row.alert_id, first, self._settings.notices)
            alert = alerts.alert(transaction, row.alert_id)
            if alert is not None:
                notification = msgspec.json.decode(row.body_json, type=Notification)
                resource = communication(notification, to_alert(alert), channel, sent_at)
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
        due_at = real_microseconds() + self._pause(attempts, error)
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
