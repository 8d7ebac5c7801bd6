"""Step 18: stores what happened to an alert, with everything that must leave because of it, in one transaction."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import msgspec

from pulseweir.backends.channels.base import Notification
from pulseweir.backends.repository import Transaction, alerts, outbox
from pulseweir.backends.repository.rows import AlertRow, OutboxRow, TransitionRow
from pulseweir.clock import real_microseconds
from pulseweir.warm_path.alert_delivery import on_its_way
from pulseweir.warm_path.alerts import Alert, Step
from pulseweir.warm_path.settings import NoticeSettings

_ALERT_FIELDS = tuple(field.name for field in fields(Alert))


@dataclass(frozen=True, slots=True)
class FhirWrite:
    """An outbox entry for the FHIR service: the Task of an alert in its latest state, or a resource as it is."""

    task_of_alert: str = ""
    resource_json: str = ""


def to_alert(row: AlertRow) -> Alert:
    """The alert that a row holds."""
    return Alert(**{name: getattr(row, name) for name in _ALERT_FIELDS})


def store(transaction: Transaction, step: Step, notices: NoticeSettings) -> AlertRow:
    """Store an alert, its events, its messages and its Task. Doing it twice leaves one of each."""
    alert = on_its_way(step.alert) if step.pages else step.alert
    row = AlertRow(**{name: getattr(alert, name) for name in _ALERT_FIELDS})
    events = [
        TransitionRow(
            event_id=event.event_id,
            alert_id=alert.alert_id,
            patient_id=alert.patient_id,
            rule=alert.rule,
            transition=event.transition,
            state=str(event.detail.get("state", alert.state)),
            occurred_at=event.occurred_at,
            actor=event.actor,
            detail_json=msgspec.json.encode(dict(event.detail)).decode(),
        )
        for event in step.events
    ]
    saved = alerts.save(transaction, row, events)
    outbox.put(transaction, _messages(step, notices))
    if events:
        write = FhirWrite(task_of_alert=alert.alert_id)
        put_fhir(transaction, f"Task:{alert.alert_id}:{saved.sequence}", write, alert.alert_id, alert.patient_id)
    return saved


def change(
    transaction: Transaction, alert_id: str, do: Callable[[Alert], Step | None], notices: NoticeSettings
) -> AlertRow | None:
    """Apply something to an alert as it is now; None when there is no such alert or nothing came of it."""
    row = alerts.alert(transaction, alert_id)
    step = None if row is None else do(to_alert(row))
    return None if step is None else store(transaction, step, notices)


def put_fhir(transaction: Transaction, key: str, write: FhirWrite, alert_id: str, patient_id: str) -> None:
    """Enter a write to the FHIR service."""
    now = real_microseconds()
    entry = OutboxRow(
        entry_key=key,
        kind=outbox.FHIR,
        alert_id=alert_id,
        patient_id=patient_id,
        channels_json='["fhir"]',
        body_json=msgspec.json.encode(write).decode(),
        created_at=now,
        due_at=now,
    )
    outbox.put(transaction, [entry])


def _messages(step: Step, notices: NoticeSettings) -> list[OutboxRow]:
    alert, now = step.alert, real_microseconds()
    link = f"{notices.public_url.rstrip('/')}/alerts/{alert.alert_id}"
    channels = msgspec.json.encode(notices.channels).decode()
    entries = []
    for page in step.pages:
        notification = Notification(
            key=page.key,
            kind=page.kind,
            level=page.level,
            role=page.role,
            priority=alert.priority,
            ward=alert.ward,
            bed=alert.bed,
            action=alert.action,
            link=link,
            reason=alert.reason,
            raised_at=alert.raised_at,
        )
        entries.append(
            OutboxRow(
                entry_key=page.key,
                kind=outbox.NOTIFICATION,
                alert_id=alert.alert_id,
                patient_id=alert.patient_id,
                channels_json=channels,
                body_json=msgspec.json.encode(notification).decode(),
                created_at=now,
                due_at=now,
            )
        )
    return entries
