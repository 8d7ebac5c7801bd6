"""Step 10: state + measurements → state + scores: what every engine calls. Pure.

The last revision of every window depends only on which measurements arrived, not on their order within the allowed
lateness, their repetition, the cut of their batches or restarts from snapshots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.records.topics import RISK_SCORE_SCHEMA
from pulseweir.scoring.bench import Bench, lay_out, mark_sources
from pulseweir.scoring.evaluation import MAXIMUM_AGE, Known, Subjects, evaluate, look_back
from pulseweir.scoring.instants import effective, is_ahead, taken
from pulseweir.scoring.intake import Intake, read_measurements
from pulseweir.scoring.known_context import news_for, observed, still_needed
from pulseweir.scoring.models.news2 import score_many
from pulseweir.scoring.own_readings import late_after
from pulseweir.scoring.quality import IMPOSSIBLE
from pulseweir.scoring.score_rows import Issue, Scored, describe, table_of
from pulseweir.scoring.series import merge, unmerged
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.shard_state import KNOWN, NEVER, READING, WINDOW, PatientState, Rows, ShardState
from pulseweir.scoring.window_book import Book, open_book
from pulseweir.scoring.windows import closes_at, is_behind_watermark, is_too_late

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Older data that the state does not hold.

    Attributes:
        patient_id: Whose.
        start: From this instant, microseconds.
        end: Up to and without this one.
    """

    patient_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ScoredShard:
    """What one call made of one shard.

    Attributes:
        state: To go on with; the old one is untouched.
        scores: Rows of the risk-scores topic.
        wanted: When not empty, nothing else was done: read these from the lake and call again with them.
        tallies: What became of each measurement row.
    """

    state: ShardState
    scores: pa.Table
    wanted: list[Wanted] = field(default_factory=list)
    tallies: dict[str, int] = field(default_factory=dict)


def score_shard(
    state: ShardState,
    measurements: pa.Table | None,
    history: pa.Table | None,
    now: int,
    settings: WindowSettings | None = None,
) -> ScoredShard:
    """Take measurements of one shard into its windows; close, score and revise what is due.

    Args:
        state: Of this shard; an empty one at the beginning.
        measurements: Rows of the patient-measurements topic; None when only time has passed.
        history: Answer to `wanted`, in the same schema; an empty table when the lake holds nothing. None at first.
        now: Engine clock, microseconds.
        settings: Of the windows.
    """
    settings = settings or WindowSettings()
    if measurements is None or not measurements.num_rows:
        due = [name for name, patient in state.patients.items() if patient.due_at <= now]
        return _Desk(state, due, now, settings).finish() if due else ScoredShard(state, _NOTHING)
    intake = read_measurements(measurements, state.sources, state.contexts, seen=True)
    kept, tallies = _sort_out(intake)
    wanted = [] if history is not None else _wanted(state, intake, kept, settings)
    if wanted:
        return ScoredShard(state, _NOTHING, wanted)
    desk = _Desk(state, intake.patients, now, settings)
    past = None
    if history is not None and history.num_rows:
        past = read_measurements(history, intake.sources, intake.contexts, seen=False)
    desk.take(intake, kept, past, tallies)
    return desk.finish()


_NOTHING = RISK_SCORE_SCHEMA.empty_table()


def _sort_out(intake: Intake) -> tuple[Marks, dict[str, int]]:
    """Which rows concern the windows, and why the others do not."""
    kept = intake.readings["vital"] >= 0
    tallies = {
        "filtered:unscored-vital": int((~kept & ~intake.only_context).sum()),
        "context": int(intake.only_context.sum()),
    }
    return kept, tallies


def _wanted(state: ShardState, intake: Intake, kept: Marks, settings: WindowSettings) -> list[Wanted]:
    """The past of patients whom the state does not know, with what of it is held until later."""
    reach = int(look_back(settings).max()) + settings.window
    instants = effective(intake.readings)
    wanted = []
    for number, name in enumerate(intake.patients):
        if name in state.patients:
            continue
        own = instants[kept & (intake.who == number)]
        if len(own):
            wanted.append(Wanted(name, int(own.min()) - reach, int(own.max() + MAXIMUM_AGE.max())))
    return wanted


class _Desk:
    """The patients one call works on, side by side; numbers of patients are places in `names`."""

    def __init__(self, state: ShardState, names: Sequence[str], now: int, settings: WindowSettings) -> None:
        self._state, self._names, self._now, self._settings = state, list(names), now, settings
        self._old = [state.patients.get(name) for name in names]
        self._sources, self._contexts = state.sources, state.contexts
        self._tallies: dict[str, int] = {}
        self._released_at = self._column("released_at", 0)
        self._watermark = self._column("watermark", -NEVER)
        self._touched_at = self._column("touched_at", now)
        self._live_at = self._column("live_at", -NEVER)
        self._live_waits = self._column("live_waits", 0).astype(np.bool_)
        self._merged = unmerged(*self._gathered("readings", READING))
        self._known_who, self._known = self._gathered("known", KNOWN)
        self._informed = np.zeros(0, np.int64)
        self._book = Book(*self._gathered("windows", WINDOW))
        self._revise = np.zeros(len(self._book.who), np.bool_)

    def _column(self, name: str, missing: int) -> Integers:
        return np.array([missing if one is None else getattr(one, name) for one in self._old], np.int64)

    def _gathered(self, name: str, kind: np.dtype[np.void]) -> tuple[Integers, Rows]:
        parts = [np.zeros(0, kind) if one is None else getattr(one, name) for one in self._old]
        who = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        # Joined as bytes: numpy compares the fields of structured arrays pair by pair, a hundred times slower.
        joined = np.concatenate([part.view(np.uint8) for part in parts]) if parts else np.zeros(0, np.uint8)
        return who, joined.view(kind)

    def take(self, intake: Intake, kept: Marks, past: Intake | None, tallies: dict[str, int]) -> None:
        """Merge new readings, and the past of new patients, into what is known."""
        self._sources, self._contexts = intake.sources, intake.contexts
        late = kept & is_too_late(taken(intake.readings), self._watermark[intake.who], self._settings)
        rows = np.flatnonzero(kept & ~late)
        who, new = intake.who[rows], intake.readings[rows]
        old_who, old = self._merged.who, self._merged.readings
        np.maximum.at(self._watermark, who, effective(new))
        if past is not None:
            self._sources, self._contexts = past.sources, past.contexts
            past_who, past_readings = self._past(past)
            old_who, old = np.concatenate([old_who, past_who]), np.concatenate([old, past_readings])
        self._learn(intake, old_who, old, who, new)
        self._merged = merge(old_who, old, who, new)
        self._tallies = tallies | {"filtered:too-late": int(late.sum())} | self._became(new)
        self._touched_at[who] = self._now

    def _became(self, new: Rows) -> dict[str, int]:
        """What became of new readings; one that waits for its own time is counted once, as held."""
        fresh = ~self._merged.duplicate
        held = fresh & is_ahead(new) & (new["occurred"] > self._now)
        impossible = fresh & ~held & (new["quality"] == IMPOSSIBLE)
        return {
            "filtered:duplicate": int((~fresh).sum()),
            "held": int(held.sum()),
            "filtered:implausible": int(impossible.sum()),
            "scored": int((fresh & ~held & ~impossible).sum()),
        }

    def _past(self, past: Intake) -> tuple[Integers, Rows]:
        """Rows of the lake that belong to patients new to the state, as far as they were known by now."""
        place = {name: number for number, name in enumerate(self._names) if self._old[number] is None}
        number = np.array([place.get(name, -1) for name in past.patients], np.int64)[past.who]
        known = effective(past.readings) <= self._watermark[number]
        rows = np.flatnonzero((number >= 0) & (past.readings["vital"] >= 0) & known)
        return number[rows], past.readings[rows]

    def _learn(self, intake: Intake, old_who: Integers, old: Rows, who: Integers, new: Rows) -> None:
        """Take in what became known of patients, by itself or with readings."""
        rows = np.flatnonzero(intake.only_context)
        told_who, told = observed(intake.who[rows], intake.readings[rows], intake.readings["occurred"][rows])
        before_who, before = observed(old_who, old, effective(old))
        with_who, with_readings = observed(who, new, effective(new))
        self._informed = news_for(
            np.concatenate([self._known_who, before_who]),
            np.concatenate([self._known, before]),
            np.concatenate([told_who, with_who]),
            np.concatenate([told, with_readings]),
        )
        self._known_who = np.concatenate([self._known_who, told_who])
        self._known = np.concatenate([self._known, told])
        order = np.argsort(self._known_who, kind="stable")
        self._known_who, self._known = self._known_who[order], self._known[order]

    def _turn_pages(self) -> None:
        """Open the windows of changed readings and of held ones let in now; mark closed ones that these can change."""
        merged, window = self._merged, self._settings.window
        ahead, instants = is_ahead(merged.readings), taken(merged.readings)
        waits = ahead & (instants > self._now)
        let_in = ahead & merged.readings["seen"] & ~waits & (instants > self._released_at[merged.who])
        rows = np.flatnonzero(merged.changed | let_in)
        who, first = merged.who[rows], merged.since[rows] // window
        reach = look_back(self._settings)[merged.readings["vital"][rows]]
        opened = rows[~waits[rows]]
        self._book = open_book(self._book.who, self._book.windows, merged.who[opened], instants[opened] // window)
        if merged.moved.any():
            own = merged.readings["seen"] & ~waits
            self._book = self._book.without_emptied(merged.who[own], instants[own] // window)
        self._revise = self._book.affected_by(who, first, (instants[rows] + reach) // window + 1)
        self._revise |= np.isin(self._book.who, self._informed)
        self._live_waits[who] = True
        self._live_waits[self._informed] = True
        self._waits = waits & merged.readings["seen"]
        self._released_at[:] = np.maximum(self._released_at, self._now)

    def finish(self) -> ScoredShard:
        """Score every window that is due and return the new shard state."""
        self._turn_pages()
        sources = mark_sources(self._sources, self._settings)
        bench = lay_out(self._merged.who, self._merged.readings, sources, self._settings)
        tables = [self._finals(bench), self._lives(bench)]
        state = ShardState(self._patients(), self._sources, self._contexts)
        tallies = {name: rows for name, rows in self._tallies.items() if rows}
        return ScoredShard(state, pa.concat_tables(tables), [], tallies)

    def _finals(self, bench: Bench) -> pa.Table:
        windows = self._book.windows
        closable = (windows["revision"] == 0) & self._is_over()
        rows = np.flatnonzero(closable | (self._revise & (windows["revision"] > 0)))
        if not len(rows):
            return _NOTHING
        ends = (windows["number"][rows] + 1) * self._settings.window
        scored = self._scored(bench, Subjects(self._book.who[rows], windows["number"][rows], ends))
        described = describe(scored, ends, self._settings)
        differs = np.flatnonzero((windows["revision"][rows] == 0) | (windows["digest"][rows] != described.digest))
        self._book = self._book.issued(rows[differs], described.digest[differs])
        revision = self._book.windows["revision"][rows[differs]]
        return table_of(scored, described, differs, Issue(revision, self._now, live=False), self._settings)

    def _is_over(self) -> Marks:
        """Which windows the watermark has passed, or the wall clock where the patient is quiet."""
        settings = self._settings
        ends = (self._book.windows["number"] + 1) * settings.window
        passed = is_behind_watermark(ends, self._watermark[self._book.who], settings)
        by_clock = closes_at(ends, self._touched_at[self._book.who], settings)
        over: Marks = passed | (by_clock <= self._now)
        return over

    def _lives(self, bench: Bench) -> pa.Table:
        due = np.flatnonzero(self._live_waits & (self._live_due_at() <= self._now))
        newest = self._book.newest(len(self._names))
        held = self._merged.readings[self._waits]
        np.maximum.at(newest, self._merged.who[self._waits], effective(held) // self._settings.window)
        due = due[newest[due] >= 0]
        if not len(due):
            return _NOTHING
        known_at = np.minimum((newest[due] + 1) * self._settings.window, self._now + 1)
        scored = self._scored(bench, Subjects(due, newest[due], known_at))
        described = describe(scored, np.full(len(due), self._now), self._settings)
        self._live_at[due] = self._now
        self._live_waits[due] = False
        issue = Issue(np.zeros(len(due), np.int64), self._now, live=True)
        return table_of(scored, described, np.arange(len(due)), issue, self._settings)

    def _live_due_at(self) -> Integers:
        """When each patient may have a live row: backfill waits for quiet, since its finals follow at once."""
        interval = int(self._settings.live_seconds * MICROSECONDS)
        quiet = int(self._settings.quiet_seconds * MICROSECONDS)
        rows = np.flatnonzero(effective(self._merged.readings) == self._watermark[self._merged.who])
        backfill = np.zeros(len(self._names), np.bool_)
        newest = self._merged.readings[rows]
        by_hand = mark_sources(self._sources, self._settings).by_hand[newest["source"]]
        old = newest["arrived"] - newest["occurred"] > late_after(by_hand, self._settings)
        backfill[self._merged.who[rows[old]]] = True
        return np.maximum(self._live_at + interval, np.where(backfill, self._touched_at + quiet, -NEVER))

    def _scored(self, bench: Bench, subjects: Subjects) -> Scored:
        who, known = observed(bench.who, bench.readings, bench.effective)
        contexts = Known(
            np.concatenate([self._known_who, who]), np.concatenate([self._known, known]), list(self._contexts)
        )
        evaluation = evaluate(bench, subjects, contexts, self._settings)
        scores = score_many(evaluation.inputs)
        return Scored(bench, subjects, evaluation, scores, self._names, self._sources, self._contexts)

    def _patients(self) -> Mapping[str, PatientState]:
        """All patients of the shard: these as they are now, the others as they were."""
        patients = dict(self._state.patients)
        readings = self._shares(self._merged.who, self._merged.readings, self._kept_readings())
        windows = self._shares(self._book.who, self._book.windows, self._kept_windows())
        known = self._shares(self._known_who, self._known, self._kept_contexts())
        released = self._next_release()
        live_due = self._live_due_at()
        forget = int(self._settings.forget_after_seconds * MICROSECONDS)
        for number, name in enumerate(self._names):
            if self._watermark[number] == -NEVER:
                continue
            touched_at, waits = int(self._touched_at[number]), bool(self._live_waits[number])
            open_numbers = windows[number]["number"][windows[number]["revision"] == 0]
            due_at = touched_at + forget
            if len(open_numbers):
                end = (int(open_numbers.min()) + 1) * self._settings.window
                due_at = min(due_at, int(closes_at(end, touched_at, self._settings)))
            elif not waits and due_at <= self._now:
                del patients[name]
                continue
            if waits:
                due_at = min(due_at, int(live_due[number]))
            due_at = min(due_at, int(released[number]))
            patients[name] = PatientState(
                readings[number],
                windows[number],
                int(self._watermark[number]),
                touched_at,
                int(self._live_at[number]),
                waits,
                due_at,
                known[number],
                int(self._released_at[number]),
            )
        return patients

    def _kept_readings(self) -> Marks:
        """Readings that a window within the allowed lateness may still need."""
        lateness = self._settings.lateness
        needed = look_back(self._settings) + lateness + 2 * self._settings.window
        readings = self._merged.readings
        kept: Marks = effective(readings) > self._watermark[self._merged.who] - needed[readings["vital"]]
        return kept

    def _kept_contexts(self) -> Marks:
        """Contexts that a window within the allowed lateness may still need."""
        return still_needed(
            self._known_who, self._known, self._watermark - self._settings.lateness - 2 * self._settings.window
        )

    def _next_release(self) -> Integers:
        """When the next held reading of each patient is let in; `NEVER` without one."""
        released = np.full(len(self._names), NEVER, np.int64)
        waits = self._waits & self._kept_readings()
        np.minimum.at(released, self._merged.who[waits], self._merged.readings["occurred"][waits])
        return released

    def _kept_windows(self) -> Marks:
        ends = (self._book.windows["number"] + 1) * self._settings.window
        recent = ends > self._watermark[self._book.who] - self._settings.lateness
        kept: Marks = recent | (self._book.windows["revision"] == 0)
        return kept

    def _shares(self, who: Integers, rows: Rows, kept: Marks) -> list[Rows]:
        """The kept rows of each patient, as arrays of their own."""
        who, rows = who[kept], rows[kept]
        bounds = np.searchsorted(who, np.arange(len(self._names) + 1))
        return [rows[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
