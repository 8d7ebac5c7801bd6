"""Step 14: scores of windows and the live row of each patient."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import ColumnElement, Table, bindparam, func, select, tuple_, update

from pulseweir.backends.repository import changes
from pulseweir.backends.repository.rows import LiveRow, RecordedWindow, ScorePoint, ScoreRow, WindowRow
from pulseweir.backends.repository.schema import LIVE_ROW, SCORE
from pulseweir.backends.repository.store import Transaction

DEFAULT_MODEL = "news2"
WindowKey = tuple[str, str, int, int]
"""patient_id, model, window_start, window_end."""

_CHUNK = 400
_AnyRow = TypeVar("_AnyRow", ScoreRow, LiveRow)
_Window = TypeVar("_Window", ScoreRow, RecordedWindow)


def key_of(row: ScoreRow | RecordedWindow) -> WindowKey:
    """What a row of `score` is about."""
    return (row.patient_id, row.model, row.window_start, row.window_end)


def live_rows(
    transaction: Transaction,
    *,
    wards: Collection[str] | None = None,
    model: str | None = DEFAULT_MODEL,
    since: int = 0,
) -> list[LiveRow]:
    """The newest state of every patient, by ward and bed.

    Args:
        transaction: An open one.
        wards: Only these; None for all.
        model: Only this one; None for all.
        since: Only rows that changed after this sequence.
    """
    conditions: list[ColumnElement[bool]] = [LIVE_ROW.c.sequence > since]
    if model is not None:
        conditions.append(LIVE_ROW.c.model == model)
    if wards is not None:
        conditions.append(LIVE_ROW.c.ward.in_(wards))
    query = (
        select(*changes.columns(LiveRow, LIVE_ROW))
        .where(*conditions)
        .order_by(LIVE_ROW.c.ward, LIVE_ROW.c.bed, LIVE_ROW.c.patient_id)
    )
    return changes.typed(LiveRow, transaction.execute(query))


def live_row(transaction: Transaction, patient_id: str, *, model: str = DEFAULT_MODEL) -> LiveRow | None:
    """The newest state of one patient; None when nothing was ever scored."""
    found = live_rows_of(transaction, [patient_id], model=model)
    return found[0] if found else None


def live_rows_of(
    transaction: Transaction, patients: Sequence[str], *, model: str | None = DEFAULT_MODEL
) -> list[LiveRow]:
    """The newest state of some patients."""
    rows: list[LiveRow] = []
    for first in range(0, len(patients), _CHUNK):
        query = select(*changes.columns(LiveRow, LIVE_ROW)).where(
            LIVE_ROW.c.patient_id.in_(patients[first : first + _CHUNK])
        )
        if model is not None:
            query = query.where(LIVE_ROW.c.model == model)
        rows.extend(changes.typed(LiveRow, transaction.execute(query)))
    return rows


def score_history(
    transaction: Transaction, patient_id: str, *, model: str = DEFAULT_MODEL, start: int = 0, end: int | None = None
) -> list[ScoreRow]:
    """One patient's final windows that end after `start` and begin before `end`, oldest first."""
    query = select(*changes.columns(ScoreRow, SCORE)).where(
        SCORE.c.patient_id == patient_id, SCORE.c.model == model, SCORE.c.window_end > start
    )
    if end is not None:
        query = query.where(SCORE.c.window_start < end)
    return changes.typed(ScoreRow, transaction.execute(query.order_by(SCORE.c.window_start, SCORE.c.window_end)))


def known_since(transaction: Transaction, patient_id: str) -> int | None:
    """Start of a patient's first scored window; None before there is one."""
    found: int | None = transaction.scalar(
        select(func.min(SCORE.c.window_start)).where(SCORE.c.patient_id == patient_id)
    )
    return found


def recent_points(
    transaction: Transaction, *, since: int, wards: Collection[str] | None = None, model: str = DEFAULT_MODEL
) -> dict[str, list[ScorePoint]]:
    """Final windows that ended after `since`, by patient, oldest first: for sparklines and changes over hours."""
    query = select(*changes.columns(ScorePoint, SCORE)).where(SCORE.c.model == model, SCORE.c.window_end > since)
    if wards is not None:
        query = query.where(SCORE.c.ward.in_(wards))
    points: dict[str, list[ScorePoint]] = {}
    for point in changes.typed(ScorePoint, transaction.execute(query.order_by(SCORE.c.window_end))):
        points.setdefault(point.patient_id, []).append(point)
    return points


def windows(transaction: Transaction, keys: Sequence[WindowKey]) -> dict[WindowKey, ScoreRow]:
    """The stored rows of these windows."""
    return {key_of(row): row for row in _of_windows(transaction, ScoreRow, keys)}


def recorded(transaction: Transaction, keys: Sequence[WindowKey]) -> dict[WindowKey, RecordedWindow]:
    """Which revisions of these windows are stored."""
    return {key_of(row): row for row in _of_windows(transaction, RecordedWindow, keys)}


def windows_ending_from(transaction: Transaction, patient_id: str, model: str, end: int) -> list[WindowRow]:
    """One patient's windows that end at `end` or later, in order."""
    query = select(*changes.columns(WindowRow, SCORE)).where(
        SCORE.c.patient_id == patient_id, SCORE.c.model == model, SCORE.c.window_end >= end
    )
    return changes.typed(WindowRow, transaction.execute(query.order_by(SCORE.c.window_end, SCORE.c.window_start)))


def is_newer(row: ScoreRow, stored: ScoreRow | RecordedWindow) -> bool:
    """Whether a row replaces the stored one of the same window: a later revision, or a later model version."""
    if row.model_version != stored.model_version:
        return row.scored_at > stored.scored_at
    return row.revision > stored.revision


def newer_scores(transaction: Transaction, rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    """Those of the rows, one a window, that are new or newer than what is stored; changes nothing."""
    newest: dict[WindowKey, ScoreRow] = {}
    for row in rows:
        known = newest.get(key_of(row))
        if known is None or is_newer(row, known):
            newest[key_of(row)] = row
    stored = recorded(transaction, list(newest))
    return [row for key, row in newest.items() if key not in stored or is_newer(row, stored[key])]


def save_scores(transaction: Transaction, rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    """Store those that are new or newer than what is there; redelivery and disorder change nothing.

    Returns:
        The rows stored, one a window, with their sequence.
    """
    return put_scores(transaction, newer_scores(transaction, rows))


def put_scores(transaction: Transaction, rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Store rows that `newer_scores` let pass in the same transaction."""
    return _save(transaction, SCORE, rows)


def save_live(transaction: Transaction, rows: Iterable[LiveRow]) -> list[LiveRow]:
    """Store those newer than the patient's present live row; the others change nothing.

    Returns:
        The rows stored, at most one a patient and model, with their sequence.
    """
    newest: dict[tuple[str, str], LiveRow] = {}
    for row in rows:
        known = newest.get((row.patient_id, row.model))
        if known is None or row.order > known.order:
            newest[row.patient_id, row.model] = row
    patients = sorted({patient for patient, _ in newest})
    present = {(row.patient_id, row.model): row for row in live_rows_of(transaction, patients, model=None)}
    fresh = [row for key, row in newest.items() if key not in present or row.order > present[key].order]
    return _save(transaction, LIVE_ROW, fresh)


def put_live(transaction: Transaction, rows: Sequence[LiveRow]) -> list[LiveRow]:
    """Store present live rows again, with what changed about them beside their scores."""
    return _save(transaction, LIVE_ROW, rows)


def link_windows(transaction: Transaction, links: Iterable[tuple[WindowKey, str | None]]) -> None:
    """Write which Flag each window belongs to."""
    rows = [
        {"of_patient": patient_id, "of_model": model, "of_start": start, "of_end": end, "linked_flag": flag_id}
        for (patient_id, model, start, end), flag_id in links
    ]
    if not rows:
        return
    statement = update(SCORE).where(
        SCORE.c.patient_id == bindparam("of_patient"),
        SCORE.c.model == bindparam("of_model"),
        SCORE.c.window_start == bindparam("of_start"),
        SCORE.c.window_end == bindparam("of_end"),
    )
    transaction.execute(statement.values(flag_id=bindparam("linked_flag")), rows)


def windows_of_flags(transaction: Transaction, flag_ids: Sequence[str]) -> dict[str, list[RecordedWindow]]:
    """The windows linked to each Flag, in order."""
    linked: dict[str, list[RecordedWindow]] = {}
    for first in range(0, len(flag_ids), _CHUNK):
        query = select(*changes.columns(RecordedWindow, SCORE)).where(
            SCORE.c.flag_id.in_(flag_ids[first : first + _CHUNK])
        )
        ordered = query.order_by(SCORE.c.window_start, SCORE.c.window_end)
        for row in changes.typed(RecordedWindow, transaction.execute(ordered)):
            if row.flag_id is not None:
                linked.setdefault(row.flag_id, []).append(row)
    return linked


def _of_windows(transaction: Transaction, kind: type[_Window], keys: Sequence[WindowKey]) -> list[_Window]:
    identity = tuple_(SCORE.c.patient_id, SCORE.c.model, SCORE.c.window_start, SCORE.c.window_end)
    found: list[_Window] = []
    for first in range(0, len(keys), _CHUNK):
        query = select(*changes.columns(kind, SCORE)).where(identity.in_(keys[first : first + _CHUNK]))
        found += changes.typed(kind, transaction.execute(query))
    return found


def _save(transaction: Transaction, table: Table, rows: Sequence[_AnyRow]) -> list[_AnyRow]:
    if not rows:
        return []
    first = changes.take(transaction, len(rows))
    numbered = [replace(row, sequence=first + place) for place, row in enumerate(rows)]
    changes.upsert(transaction, table, map(changes.values_of, numbered))
    return numbered
