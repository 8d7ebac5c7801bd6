"""Step 13b: Flag episodes as stored."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Column, ColumnElement, Integer, bindparam, func, or_, select, update

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import FlagRow
from pulseweir.backends.repository.schema import FLAG
from pulseweir.backends.repository.store import Transaction

ACTIVE, INACTIVE, WITHDRAWN = "active", "inactive", "withdrawn"
_CHUNK = 400


def open_flags(
    transaction: Transaction, *, wards: Collection[str] | None = None, patient_id: str | None = None
) -> list[FlagRow]:
    """Active Flags, newest first."""
    conditions: list[ColumnElement[bool]] = [FLAG.c.status == ACTIVE]
    if wards is not None:
        conditions.append(FLAG.c.ward.in_(wards))
    if patient_id is not None:
        conditions.append(FLAG.c.patient_id == patient_id)
    return _rows(transaction, *conditions)


def flags_of(transaction: Transaction, patient_id: str, *, start: int = 0, end: int | None = None) -> list[FlagRow]:
    """One patient's Flags (not the withdrawn ones) that touch a span of time, newest first."""
    conditions = [
        FLAG.c.patient_id == patient_id,
        FLAG.c.status != WITHDRAWN,
        or_(FLAG.c.end_at.is_(None), FLAG.c.end_at > start),
    ]
    if end is not None:
        conditions.append(FLAG.c.start_at < end)
    return _rows(transaction, *conditions)


def episodes(transaction: Transaction, patient_id: str, rule: str) -> list[FlagRow]:
    """Every episode of one patient and rule, withdrawn ones too, oldest first."""
    return _rows(transaction, FLAG.c.patient_id == patient_id, FLAG.c.rule == rule)[::-1]


def newest_episodes(transaction: Transaction, patients: Sequence[str]) -> dict[tuple[str, str], FlagRow]:
    """The newest standing episode of each patient and rule."""
    newest: dict[tuple[str, str], FlagRow] = {}
    for first in range(0, len(patients), _CHUNK):
        chunk = patients[first : first + _CHUNK]
        latest = (
            select(FLAG.c.patient_id, FLAG.c.rule, func.max(FLAG.c.start_at).label("start_at"))
            .where(FLAG.c.patient_id.in_(chunk), FLAG.c.status != WITHDRAWN)
            .group_by(FLAG.c.patient_id, FLAG.c.rule)
            .subquery()
        )
        query = select(*changes.columns(FlagRow, FLAG)).join(
            latest,
            (FLAG.c.patient_id == latest.c.patient_id)
            & (FLAG.c.rule == latest.c.rule)
            & (FLAG.c.start_at == latest.c.start_at),
        )
        for row in changes.typed(FlagRow, transaction.execute(query.where(FLAG.c.status != WITHDRAWN))):
            newest[row.patient_id, row.rule] = row
    return newest


def by_id(transaction: Transaction, flag_ids: Sequence[str]) -> dict[str, FlagRow]:
    """Flags by their ids."""
    found: dict[str, FlagRow] = {}
    for first in range(0, len(flag_ids), _CHUNK):
        for row in _rows(transaction, FLAG.c.flag_id.in_(flag_ids[first : first + _CHUNK])):
            found[row.flag_id] = row
    return found


def save(transaction: Transaction, rows: Iterable[FlagRow], *, now: int) -> list[FlagRow]:
    """Store changed Flags; each gets a new change number and sequence."""
    changed = list(rows)
    if not changed:
        return []
    first = changes.take(transaction, len(changed))
    numbered = [
        replace(row, change=row.change + 1, updated_at=now, sequence=first + place) for place, row in enumerate(changed)
    ]
    changes.upsert(transaction, FLAG, map(changes.values_of, numbered))
    return numbered


def keep(transaction: Transaction, rows: Iterable[FlagRow]) -> None:
    """Store how far windows were judged, where nothing that others see has changed."""
    changes.upsert(transaction, FLAG, map(changes.values_of, rows))


def of_patients_unwritten(transaction: Transaction, patients: Sequence[str]) -> list[FlagRow]:
    """Flags of these patients whose newest change has not reached the FHIR service."""
    found: list[FlagRow] = []
    for first in range(0, len(patients), _CHUNK):
        chunk = patients[first : first + _CHUNK]
        found += _rows(transaction, FLAG.c.patient_id.in_(chunk), FLAG.c.change_written < FLAG.c.change)
    return found


def unwritten(transaction: Transaction, *, limit: int) -> list[FlagRow]:
    """Flags whose newest change has not reached the FHIR service, oldest change first."""
    query = (
        select(*changes.columns(FlagRow, FLAG))
        .where(FLAG.c.change_written < FLAG.c.change)
        .order_by(FLAG.c.sequence)
        .limit(limit)
    )
    return changes.typed(FlagRow, transaction.execute(query))


def mark_written(transaction: Transaction, written: Iterable[tuple[str, int]]) -> None:
    """Remember the change of each Flag that the FHIR service now holds; an older one changes nothing."""
    _mark(transaction, FLAG.c.change_written, written)


def unpublished(transaction: Transaction, *, limit: int = 1_000) -> list[FlagRow]:
    """Flags whose newest change is not on the bus, oldest change first."""
    query = (
        select(*changes.columns(FlagRow, FLAG))
        .where(FLAG.c.change_published < FLAG.c.change)
        .order_by(FLAG.c.sequence)
        .limit(limit)
    )
    return changes.typed(FlagRow, transaction.execute(query))


def mark_published(transaction: Transaction, published: Iterable[tuple[str, int]]) -> None:
    """Remember the change of each Flag that is on the bus; an older one changes nothing."""
    _mark(transaction, FLAG.c.change_published, published)


def count_open(transaction: Transaction) -> dict[str, int]:
    """Active Flags by their worst band."""
    query = select(FLAG.c.peak_band, func.count()).where(FLAG.c.status == ACTIVE).group_by(FLAG.c.peak_band)
    return {band: count for band, count in transaction.execute(query)}


def _rows(transaction: Transaction, *conditions: ColumnElement[bool]) -> list[FlagRow]:
    query = select(*changes.columns(FlagRow, FLAG)).where(*conditions).order_by(FLAG.c.start_at.desc(), FLAG.c.flag_id)
    return changes.typed(FlagRow, transaction.execute(query))


def _mark(transaction: Transaction, column: Column[int], marks: Iterable[tuple[str, int]]) -> None:
    rows = [{"marked_flag": flag_id, "marked_change": change} for flag_id, change in marks]
    if rows:
        change = bindparam("marked_change", type_=Integer)
        statement = update(FLAG).where(FLAG.c.flag_id == bindparam("marked_flag"), column < change)
        transaction.execute(statement.values({column.name: change}), rows)
