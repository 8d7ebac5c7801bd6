"""Steps 17-18: alerts and what happened to them, as stored."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import ColumnElement, case, exists, func, or_, select, update

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from pulseweir.backends.repository.schema import ALERT, ALERT_TRANSITION, FLAG, LIVE_ROW
from pulseweir.backends.repository.scores import DEFAULT_MODEL
from pulseweir.backends.repository.store import Transaction

Tab = Literal["unit", "mine", "unassigned", "escalated", "done", "missed", "devices"]
"""The lists of the worklist page; "devices" holds the open technical alerts; the others clinical ones, and
technical ones that page nurses."""

CLINICAL, TECHNICAL = "clinical", "technical"
"""Kinds of alerts: about a patient, about a device."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a patient is and who answers for them."""

    ward: str
    bed: str | None
    care_team_id: str | None
    care_team: str | None


_RANK = case((ALERT.c.priority == "high", 0), (ALERT.c.priority == "medium", 1), else_=2)


def worklist(
    transaction: Transaction,
    tab: Tab = "unit",
    *,
    wards: Collection[str] | None = None,
    user_name: str = "",
    limit: int = 200,
) -> list[AlertRow]:
    """One list of the worklist page.

    Open lists: unacknowledged first, then by priority, then by waiting time. "done" and "missed": newest first.
    """
    conditions = [_TAB_CONDITIONS[tab]]
    if tab == "mine":
        conditions.append(ALERT.c.owner == user_name)
    if wards is not None:
        conditions.append(ALERT.c.ward.in_(wards))
    query = select(*changes.columns(AlertRow, ALERT)).where(*conditions).limit(limit)
    if tab in ("done", "missed"):
        ordered = query.order_by(ALERT.c.updated_at.desc())
    else:
        ordered = query.order_by(ALERT.c.acknowledged_at.is_not(None), _RANK, ALERT.c.raised_at)
    return changes.typed(AlertRow, transaction.execute(ordered))


def open_alerts(
    transaction: Transaction, *, wards: Collection[str] | None = None, patient_id: str | None = None
) -> list[AlertRow]:
    """Alerts that are not closed, most urgent first."""
    conditions: list[ColumnElement[bool]] = [ALERT.c.closed_at.is_(None)]
    if wards is not None:
        conditions.append(ALERT.c.ward.in_(wards))
    if patient_id is not None:
        conditions.append(ALERT.c.patient_id == patient_id)
    query = select(*changes.columns(AlertRow, ALERT)).where(*conditions).order_by(_RANK, ALERT.c.raised_at)
    return changes.typed(AlertRow, transaction.execute(query))


def open_technical(transaction: Transaction, priority: str) -> list[AlertRow]:
    """Open alerts about devices of one priority, oldest first."""
    query = (
        select(*changes.columns(AlertRow, ALERT))
        .where(ALERT.c.closed_at.is_(None), ALERT.c.kind == TECHNICAL, ALERT.c.priority == priority)
        .order_by(ALERT.c.raised_at)
    )
    return changes.typed(AlertRow, transaction.execute(query))


def alert(transaction: Transaction, alert_id: str) -> AlertRow | None:
    """One alert."""
    query = select(*changes.columns(AlertRow, ALERT)).where(ALERT.c.alert_id == alert_id)
    found = changes.typed(AlertRow, transaction.execute(query))
    return found[0] if found else None


def newest_alert(transaction: Transaction, patient_id: str, rule: str) -> AlertRow | None:
    """The alert of one patient and rule family that was raised last, open or closed."""
    query = (
        select(*changes.columns(AlertRow, ALERT))
        .where(ALERT.c.patient_id == patient_id, ALERT.c.rule == rule)
        .order_by(ALERT.c.raised_at.desc(), ALERT.c.sequence.desc())
        .limit(1)
    )
    found = changes.typed(AlertRow, transaction.execute(query))
    return found[0] if found else None


def alerts_of(transaction: Transaction, patient_id: str, *, start: int = 0) -> list[AlertRow]:
    """One patient's alerts that were open after `start`, newest first."""
    query = (
        select(*changes.columns(AlertRow, ALERT))
        .where(ALERT.c.patient_id == patient_id, or_(ALERT.c.closed_at.is_(None), ALERT.c.closed_at > start))
        .order_by(ALERT.c.raised_at.desc())
    )
    return changes.typed(AlertRow, transaction.execute(query))


def changed_since(transaction: Transaction, since: int) -> list[AlertRow]:
    """Alerts that changed after this sequence."""
    query = select(*changes.columns(AlertRow, ALERT)).where(ALERT.c.sequence > since).order_by(ALERT.c.sequence)
    return changes.typed(AlertRow, transaction.execute(query))


def due(transaction: Transaction, now: int, *, limit: int = 200) -> list[AlertRow]:
    """Open alerts whose next rung or reminder is due, most overdue first."""
    query = (
        select(*changes.columns(AlertRow, ALERT))
        .where(ALERT.c.next_step_at <= now, ALERT.c.closed_at.is_(None))
        .order_by(ALERT.c.next_step_at)
        .limit(limit)
    )
    return changes.typed(AlertRow, transaction.execute(query))


def misplaced(transaction: Transaction) -> list[tuple[str, Place]]:
    """Open alerts whose patient is now elsewhere, or another team's, with the place; one nobody can place stays."""
    model = case((ALERT.c.kind == CLINICAL, ALERT.c.rule), else_=DEFAULT_MODEL)
    columns = ("ward", "bed", "care_team_id", "care_team")
    query = (
        select(ALERT.c.alert_id, *(LIVE_ROW.c[name] for name in columns))
        .join(LIVE_ROW, (LIVE_ROW.c.patient_id == ALERT.c.patient_id) & (LIVE_ROW.c.model == model))
        .where(ALERT.c.closed_at.is_(None), LIVE_ROW.c.ward.is_not(None))
        .where(or_(*(ALERT.c[name].is_distinct_from(LIVE_ROW.c[name]) for name in columns)))
    )
    return [(alert_id, Place(*place)) for alert_id, *place in transaction.execute(query)]


def owned(transaction: Transaction) -> list[tuple[str, str, str | None]]:
    """Open alerts that have an owner: alert, owner, ward."""
    query = select(ALERT.c.alert_id, ALERT.c.owner, ALERT.c.ward).where(
        ALERT.c.closed_at.is_(None), ALERT.c.owner.is_not(None)
    )
    return [(alert_id, owner, ward) for alert_id, owner, ward in transaction.execute(query)]


def closed_while_present(transaction: Transaction, before: int) -> list[tuple[str, str]]:
    """Newest alerts of patients that a person closed at `before` or earlier, each with the Flag that still stands."""
    newer = ALERT.alias("newer")
    newest = ~exists().where(
        newer.c.patient_id == ALERT.c.patient_id, newer.c.rule == ALERT.c.rule, newer.c.raised_at > ALERT.c.raised_at
    )
    same = (ALERT.c.patient_id == FLAG.c.patient_id) & (ALERT.c.rule == FLAG.c.rule)
    query = (
        select(ALERT.c.alert_id, FLAG.c.flag_id)
        .join(ALERT, same)
        .where(FLAG.c.status == "active", FLAG.c.backfill.is_(False))
        .where(ALERT.c.state.in_(("resolved", "rejected")), ALERT.c.closed_at <= before, newest)
    )
    return [(alert_id, flag_id) for alert_id, flag_id in transaction.execute(query)]


def save(transaction: Transaction, row: AlertRow, events: Iterable[TransitionRow]) -> AlertRow:
    """Store an alert with what just happened to it; an event that is already there stays as it is."""
    happened = list(events)
    first = changes.take(transaction, 1 + len(happened))
    numbered = replace(row, sequence=first)
    changes.upsert(transaction, ALERT, [changes.values_of(numbered)])
    stored = [replace(event, sequence=first + 1 + place) for place, event in enumerate(happened)]
    changes.insert_new(transaction, ALERT_TRANSITION, map(changes.values_of, stored))
    return numbered


def transitions(transaction: Transaction, alert_ids: Sequence[str]) -> dict[str, list[TransitionRow]]:
    """What happened to each of these alerts, oldest first."""
    query = (
        select(*changes.columns(TransitionRow, ALERT_TRANSITION))
        .where(ALERT_TRANSITION.c.alert_id.in_(alert_ids))
        .order_by(ALERT_TRANSITION.c.sequence)
    )
    found: dict[str, list[TransitionRow]] = {alert_id: [] for alert_id in alert_ids}
    for row in changes.typed(TransitionRow, transaction.execute(query)):
        found[row.alert_id].append(row)
    return found


def unpublished(transaction: Transaction, *, limit: int = 500) -> list[TransitionRow]:
    """Transitions that are not on the bus yet, in order."""
    query = (
        select(*changes.columns(TransitionRow, ALERT_TRANSITION))
        .where(ALERT_TRANSITION.c.published.is_(False))
        .order_by(ALERT_TRANSITION.c.sequence)
        .limit(limit)
    )
    return changes.typed(TransitionRow, transaction.execute(query))


def mark_published(transaction: Transaction, event_ids: Sequence[str]) -> None:
    """These transitions are on the bus."""
    transaction.execute(
        update(ALERT_TRANSITION).where(ALERT_TRANSITION.c.event_id.in_(event_ids)).values(published=True)
    )


def count_unacknowledged(transaction: Transaction) -> dict[str, int]:
    """Open clinical alerts nobody has acknowledged, by priority."""
    query = (
        select(ALERT.c.priority, func.count())
        .where(_OPEN_CLINICAL, ALERT.c.acknowledged_at.is_(None))
        .group_by(ALERT.c.priority)
    )
    return {priority: count for priority, count in transaction.execute(query)}


def count(transaction: Transaction) -> int:
    """Alerts ever raised."""
    return transaction.execute(select(func.count()).select_from(ALERT)).scalar_one()


# A technical alert above low pages nurses: they find it where they look.
_IS_CLINICAL = or_(ALERT.c.kind == CLINICAL, ALERT.c.priority != "low")
_OPEN_CLINICAL = ALERT.c.closed_at.is_(None) & _IS_CLINICAL

_TAB_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "unit": _OPEN_CLINICAL,
    "mine": _OPEN_CLINICAL,
    "unassigned": _OPEN_CLINICAL & ALERT.c.owner.is_(None),
    "escalated": _OPEN_CLINICAL & (ALERT.c.level > 1),
    "done": ALERT.c.closed_at.is_not(None) & _IS_CLINICAL,
    "missed": ALERT.c.missed.is_(True) & _IS_CLINICAL,
    "devices": ALERT.c.closed_at.is_(None) & (ALERT.c.kind == TECHNICAL),
}
