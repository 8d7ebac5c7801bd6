"""Step 13b: brings the stored Flag episodes up to date with new and revised windows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from pulseweir.backends.repository import Transaction, flags, scores
from pulseweir.backends.repository.rows import FlagRow, ScoreRow, WindowRow
from pulseweir.hot_path.flag import (
    ACTIVE,
    SEVERITY,
    Episode,
    FlagSettings,
    JudgedWindow,
    Judgement,
    judge,
    where_to_begin,
)
from pulseweir.hot_path.vital_limits import Breach, breaches, worst

_EPISODE_FIELDS = tuple(field.name for field in fields(Episode))
_BOOKKEEPING = {"evaluated_until", "inside_streak"}
_SEEN = tuple(name for name in _EPISODE_FIELDS if name not in _BOOKKEEPING)

PatientRule = tuple[str, str]


@dataclass(slots=True)
class _Work:
    """What one patient and rule needs: the windows to judge, and the Flags the result replaces."""

    windows: dict[tuple[int, int], JudgedWindow]
    resume: Episode | None
    replaced: list[FlagRow]
    linked: dict[tuple[int, int], str | None]


def link_to_flags(
    transaction: Transaction, fresh: Sequence[ScoreRow], settings: FlagSettings, *, now: int
) -> list[ScoreRow]:
    """Judge new and revised windows, store what changes in the Flags and in the links of other windows.

    Args:
        transaction: The one in which the rows will be stored too.
        fresh: Rows that `scores.newer_scores` let pass, not stored yet.
        settings: When Flags open and close.
        now: Microseconds.

    Returns:
        The same rows, each with the Flag it belongs to.
    """
    groups: dict[PatientRule, list[ScoreRow]] = {}
    for row in fresh:
        groups.setdefault((row.patient_id, row.model), []).append(row)
    newest = flags.newest_episodes(transaction, sorted({patient for patient, _ in groups}))
    linked: list[ScoreRow] = []
    changed_flags: list[FlagRow] = []
    kept_flags: list[FlagRow] = []
    for (patient_id, rule), rows in groups.items():
        work = _prepare(transaction, rows, newest.get((patient_id, rule)), settings)
        judgement = judge(
            work.windows.values(), patient_id=patient_id, rule=rule, settings=settings, resume=work.resume
        )
        changed, kept = _differences(judgement, work.replaced)
        changed_flags += changed
        kept_flags += kept
        linked += [replace(row, flag_id=judgement.links[row.window_start, row.window_end]) for row in rows]
        moved = {key: judgement.links[key] for key, flag_id in work.linked.items() if judgement.links[key] != flag_id}
        scores.link_windows(
            transaction, [((patient_id, rule, start, end), flag_id) for (start, end), flag_id in moved.items()]
        )
    flags.save(transaction, changed_flags, now=now)
    flags.keep(transaction, kept_flags)
    return linked


def to_episode(row: FlagRow) -> Episode:
    """The episode that a stored Flag holds."""
    return Episode(**{name: getattr(row, name) for name in _EPISODE_FIELDS})


def breaches_of(row: ScoreRow, settings: FlagSettings) -> list[Breach]:
    """The limits of single vitals that a window is beyond."""
    limits = settings.range_for(row.patient_id, row.ward, row.model).vital_limits
    return breaches(limits, row.inputs_json, row.age_years)


def _prepare(
    transaction: Transaction, rows: Sequence[ScoreRow], newest: FlagRow | None, settings: FlagSettings
) -> _Work:
    changed = {(row.window_start, row.window_end): _judged(row, settings) for row in rows}
    first = min(end for _, end in changed)
    if newest is not None and newest.status == ACTIVE and first > newest.evaluated_until:
        return _Work(changed, to_episode(newest), [newest], {})
    resume: Episode | None = None
    stored: list[FlagRow] = []
    if newest is not None and first <= newest.evaluated_until:
        stored = flags.episodes(transaction, newest.patient_id, newest.rule)
        standing = [to_episode(row) for row in stored if row.status != flags.WITHDRAWN]
        first, resume = where_to_begin(list(changed.values()), standing)
    replaced = [
        row for row in stored if row.first_window_end >= first or (resume is not None and row.flag_id == resume.flag_id)
    ]
    before = scores.windows_ending_from(transaction, rows[0].patient_id, rows[0].model, first)
    linked = {(row.window_start, row.window_end): row.flag_id for row in before}
    whole = _whole(transaction, rows[0], list(linked)) if settings.has_limits else {}
    stood = {key: _judged(whole.get(key, row), settings) for key, row in zip(linked, before, strict=True)}
    return _Work(stood | changed, resume, replaced, {key: linked[key] for key in linked.keys() - changed.keys()})


def _whole(
    transaction: Transaction, of: ScoreRow, spans: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], ScoreRow | WindowRow]:
    """Stored windows with their inputs, by start and end."""
    keys = [(of.patient_id, of.model, start, end) for start, end in spans]
    return {(row.window_start, row.window_end): row for row in scores.windows(transaction, keys).values()}


def _judged(row: ScoreRow | WindowRow, settings: FlagSettings) -> JudgedWindow:
    limited = breaches_of(row, settings) if isinstance(row, ScoreRow) else []
    return JudgedWindow(
        start=row.window_start,
        end=row.window_end,
        outside=row.outside,
        score=row.score,
        band=worst([row.band, *(breach.band for breach in limited)], SEVERITY),
        model_version=row.model_version,
        backfill=row.backfill,
        ward=row.ward,
        bed=row.bed,
    )


def _differences(judgement: Judgement, replaced: Iterable[FlagRow]) -> tuple[list[FlagRow], list[FlagRow]]:
    """Flags that changed for others to see, and Flags whose bookkeeping alone moved."""
    stored = {row.flag_id: row for row in replaced}
    changed: list[FlagRow] = []
    kept: list[FlagRow] = []
    for episode in judgement.episodes:
        facts = {name: getattr(episode, name) for name in _EPISODE_FIELDS}
        row = stored.pop(episode.flag_id, None)
        if row is None:
            changed.append(FlagRow(**facts))
        elif any(getattr(row, name) != facts[name] for name in _SEEN):
            changed.append(replace(row, **facts))
        elif any(getattr(row, name) != facts[name] for name in _BOOKKEEPING):
            kept.append(replace(row, **facts))
    gone = [row for row in stored.values() if row.status != flags.WITHDRAWN]
    changed += [replace(row, status=flags.WITHDRAWN, end_at=row.end_at or row.evaluated_until) for row in gone]
    return changed, kept
