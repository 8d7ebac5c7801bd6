"""Step 18: what must leave the house: notifications and writes to the FHIR service."""

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import func, select, update

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import OutboxRow
from pulseweir.backends.repository.schema import ALERT, OUTBOX
from pulseweir.backends.repository.store import Transaction

NOTIFICATION, FHIR = "notification", "fhir"
WAITING, SENT, FAILED = "waiting", "sent", "failed"
LOGGED = "logged"
"""Ended without anybody told: no channel that people look at is set up, so that only a log line was written."""
OVERTAKEN = "overtaken"
"""Ended without being taken: the alert was acknowledged or closed while the message waited."""


def put(transaction: Transaction, rows: Iterable[OutboxRow]) -> int:
    """Enter what must leave; a key that is already there changes nothing. Returns how many were new."""
    entries = list(rows)
    if not entries:
        return 0
    first = changes.take(transaction, len(entries))
    numbered = [replace(row, sequence=first + place) for place, row in enumerate(entries)]
    return changes.insert_new(transaction, OUTBOX, map(changes.values_of, numbered))


def due(transaction: Transaction, kind: str, now_real: int, *, limit: int = 100) -> list[OutboxRow]:
    """Entries to try now, in order of entry.

    Args:
        transaction: An open one.
        kind: `NOTIFICATION` or `FHIR`.
        now_real: Real instant, microseconds.
        limit: At most so many.
    """
    query = (
        select(*changes.columns(OutboxRow, OUTBOX))
        .where(OUTBOX.c.state == WAITING, OUTBOX.c.kind == kind, OUTBOX.c.due_at <= now_real)
        .order_by(OUTBOX.c.sequence)
        .limit(limit)
    )
    return changes.typed(OutboxRow, transaction.execute(query))


def claim(transaction: Transaction, kind: str, now_real: int, *, until_real: int, limit: int = 100) -> list[OutboxRow]:
    """Take entries to try now; nobody else is given them before `until_real`.

    A sender that dies leaves them to the next one after that instant.
    """
    rows = due(transaction, kind, now_real, limit=limit)
    keys = [row.entry_key for row in rows]
    transaction.execute(update(OUTBOX).where(OUTBOX.c.entry_key.in_(keys)).values(due_at=until_real))
    return rows


def save(transaction: Transaction, rows: Iterable[OutboxRow]) -> None:
    """Store what became of tries."""
    changes.upsert(transaction, OUTBOX, map(changes.values_of, rows))


def of_alert(transaction: Transaction, alert_id: str, *, kind: str = NOTIFICATION) -> list[OutboxRow]:
    """Entries of one alert, in order."""
    query = (
        select(*changes.columns(OutboxRow, OUTBOX))
        .where(OUTBOX.c.alert_id == alert_id, OUTBOX.c.kind == kind)
        .order_by(OUTBOX.c.sequence)
    )
    return changes.typed(OutboxRow, transaction.execute(query))


def alerts_waiting(transaction: Transaction, before_real: int) -> list[str]:
    """Open alerts of which nothing is known yet and a message waits since before this real instant."""
    query = (
        select(OUTBOX.c.alert_id)
        .distinct()
        .join(ALERT, ALERT.c.alert_id == OUTBOX.c.alert_id)
        .where(OUTBOX.c.state == WAITING, OUTBOX.c.kind == NOTIFICATION, OUTBOX.c.created_at <= before_real)
        .where(ALERT.c.delivery == "", ALERT.c.closed_at.is_(None))
    )
    return list(transaction.execute(query).scalars())


def newest(transaction: Transaction, kind: str, *, limit: int) -> list[OutboxRow]:
    """The entries that came last, newest first."""
    query = (
        select(*changes.columns(OutboxRow, OUTBOX))
        .where(OUTBOX.c.kind == kind)
        .order_by(OUTBOX.c.sequence.desc())
        .limit(limit)
    )
    return changes.typed(OutboxRow, transaction.execute(query))


def count(transaction: Transaction) -> dict[tuple[str, str], int]:
    """Entries by (kind, state)."""
    query = select(OUTBOX.c.kind, OUTBOX.c.state, func.count()).group_by(OUTBOX.c.kind, OUTBOX.c.state)
    return {(kind, state): number for kind, state, number in transaction.execute(query)}
