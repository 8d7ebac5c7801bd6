"""Step 10: what each vital is worth at the end of a window, for many windows of many patients at once. Pure.

The value of a vital in a window is the latest usable one before the window's end, not older than the vital's maximum
age. In one minute an arterial pressure comes before a cuff's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import COMA_VITALS, VITALS
from pulseweir.scoring.fitting import Trends, fit_trends
from pulseweir.scoring.models.news2 import News2Inputs
from pulseweir.scoring.quality import IMPOSSIBLE, VITAL_INDEX, flat_lines, usable
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.shard_state import Context, Rows
from pulseweir.scoring.windows import Panes

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

ARTERIAL_TYPE = "arterial-pressure"
AIR_PERCENT = 21.0
FULL_GLASGOW = 15.0
TREND_HORIZON = 4 * 3600 * MICROSECONDS
"""Trends rest on the readings of the last four hours."""
_TREND_POINTS = 8
_VITALS = len(VITALS)
_HOUR = 3600 * MICROSECONDS
MAXIMUM_AGE = np.array([vital.maximum_age_seconds for vital in VITALS], np.int64) * MICROSECONDS
_WITHOUT_TREND = ("consciousness", "fio2", "oxygen_flow", *COMA_VITALS)
TREND_VITALS = np.array([VITAL_INDEX[vital.name] for vital in VITALS if vital.name not in _WITHOUT_TREND])

HEART_RATE, RESPIRATORY_RATE, SPO2, SYSTOLIC, TEMPERATURE, CONSCIOUSNESS, FIO2, FLOW, GLASGOW = (
    VITAL_INDEX[name]
    for name in (
        "heart_rate",
        "respiratory_rate",
        "spo2",
        "systolic_bp",
        "temperature",
        "consciousness",
        "fio2",
        "oxygen_flow",
        "glasgow_coma_scale",
    )
)


def look_back(settings: WindowSettings) -> Integers:
    """How far before its end a window depends on each vital: shown when stale, fitted, and confirmed by one before."""
    return np.maximum(MAXIMUM_AGE + settings.lateness, TREND_HORIZON) + MAXIMUM_AGE


@dataclass(frozen=True, slots=True)
class Bench:
    """Readings laid out for looking up: sorted by patient and vital, then minute, source rank and instant.

    Attributes:
        who: Patient number of each reading.
        readings: The readings.
        usable: Which of them may be scored.
        flat: Which of them end a flat line.
    """

    who: Integers
    readings: Rows
    usable: Marks
    flat: Marks


@dataclass(frozen=True, slots=True)
class Subjects:
    """The windows to evaluate, ascending by patient and number, each once.

    Attributes:
        who: Patient number.
        number: Window number: its start divided by its length.
    """

    who: Integers
    number: Integers


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known at the end of each window; two-dimensional members have one column a vital.

    Attributes:
        place: Row of `Bench.readings` that holds the vital's value, -1 when nothing is known.
        fresh: Whether that value may be scored: usable and not older than its maximum age.
        stale: Whether there is a usable value, but older than that.
        number: The value, NaN unless fresh.
        trends: One line a vital of `TREND_VITALS` and window, row-major.
        panes: What happened within the window itself.
        newest_occurred: Of the window's own readings, microseconds.
        newest_arrived: Likewise.
        backfill: Whether any of them was already old on arrival.
        context: Place in the contexts, -1 when unknown.
        inputs: What the models take.
    """

    place: Integers
    fresh: Marks
    stale: Marks
    number: Numbers
    trends: Trends
    panes: Panes
    newest_occurred: Integers
    newest_arrived: Integers
    backfill: Marks
    context: Integers
    inputs: News2Inputs


def lay_out(who: Integers, readings: Rows, arterial: Marks, settings: WindowSettings) -> Bench:
    """Sort readings for `evaluate`; `arterial` marks sources that come first within a minute."""
    rank = arterial[readings["source"]] if len(arterial) else np.zeros(len(who), np.bool_)
    bucket = readings["occurred"] // settings.tie_bucket
    series = who * _VITALS + readings["vital"]
    number = np.nan_to_num(readings["number"], nan=-np.inf)
    order = np.lexsort((readings["source"], number, readings["received"], readings["occurred"], rank, bucket, series))
    who, readings, series = who[order], readings[order], series[order]
    possible = np.flatnonzero(readings["quality"] != IMPOSSIBLE)
    kept = readings[possible]
    columns = (series[possible], kept["vital"].astype(np.int64), kept["occurred"])
    marks, flat = np.zeros(len(who), np.bool_), np.zeros(len(who), np.bool_)
    marks[possible] = usable(*columns, kept["quality"], kept["number"])
    flat[possible] = flat_lines(*columns, kept["number"])
    return Bench(who, readings, marks, flat)


def evaluate(bench: Bench, subjects: Subjects, contexts: Sequence[Context], settings: WindowSettings) -> Evaluation:
    """Find the value of every vital at the end of every window.

    Args:
        bench: From `lay_out`.
        subjects: Each window must hold at least one seen reading of the bench.
        contexts: What the readings' contexts are places in.
        settings: Of the windows.
    """
    ends = (subjects.number + 1) * settings.window
    good = _Finder(bench, np.flatnonzero(bench.usable), settings)
    any_quality = _Finder(bench, np.arange(len(bench.who)), settings)
    best = good.latest(subjects.who, ends)
    age = ends[:, None] - bench.readings["occurred"][best]
    fresh = (best >= 0) & (age <= MAXIMUM_AGE)
    stale = (best >= 0) & ~fresh & (age <= MAXIMUM_AGE + settings.lateness)
    other = any_quality.latest(subjects.who, ends)
    recent = ends[:, None] - bench.readings["occurred"][other] <= MAXIMUM_AGE + settings.lateness
    place = np.where(fresh | stale, best, np.where((other >= 0) & recent, other, -1))
    number = np.where(fresh, bench.readings["number"][place], np.nan)
    within = _own_readings(bench, subjects, settings)
    context = _contexts(bench, subjects, ends, contexts)
    scales = np.array([*(one.spo2_scale for one in contexts), 1], np.int64)
    return Evaluation(
        place,
        fresh,
        stale,
        number,
        _trends(bench, good, subjects, ends),
        within.panes,
        within.newest_occurred,
        within.newest_arrived,
        within.backfill,
        context,
        _model_inputs(number, fresh, bench.readings["occurred"][place], scales[context]),
    )


class _Finder:
    """Looks up the last of some readings of a patient and vital before an instant."""

    def __init__(self, bench: Bench, places: Integers, settings: WindowSettings) -> None:
        self._places = places
        self._bucket = settings.tie_bucket
        buckets = bench.readings["occurred"][places] // self._bucket
        self._origin = int(buckets.min(initial=2**60))
        self._span = int(buckets.max(initial=0)) - self._origin + 2
        self._series = bench.who[places] * _VITALS + bench.readings["vital"][places]
        self._keys = self._series * self._span + (buckets - self._origin)

    def latest(self, who: Integers, before: Integers) -> Integers:
        """Places in the bench, shape (windows, vitals); -1 for none. `before` must be whole buckets."""
        series = who[:, None] * _VITALS + np.arange(_VITALS)
        return self.latest_of(series, before[:, None])

    def latest_of(self, series: Integers, before: Integers) -> Integers:
        """The same for chosen series."""
        if not len(self._places):
            return np.full(np.broadcast_shapes(series.shape, before.shape), -1, np.int64)
        bucket = np.clip(before // self._bucket - self._origin, 0, self._span - 1)
        found = np.searchsorted(self._keys, series * self._span + bucket, side="left") - 1
        matches = (found >= 0) & (self._series[found] == series)
        return np.where(matches, self._places[found], -1)


@dataclass(frozen=True, slots=True)
class _Own:
    panes: Panes
    newest_occurred: Integers
    newest_arrived: Integers
    backfill: Marks


def _own_readings(bench: Bench, subjects: Subjects, settings: WindowSettings) -> _Own:
    """What happened within each window itself."""
    count = len(subjects.who)
    number = bench.readings["occurred"] // settings.window
    origin = int(min(number.min(initial=2**60), subjects.number.min(initial=2**60)))
    span = int(max(number.max(initial=0), subjects.number.max(initial=0))) - origin + 1
    keys = subjects.who * span + (subjects.number - origin)
    wanted = bench.who * span + (number - origin)
    row = np.minimum(np.searchsorted(keys, wanted), max(count - 1, 0))
    inside = np.flatnonzero((keys[row] == wanted) & bench.readings["seen"]) if count else np.zeros(0, np.int64)
    row, own = row[inside], bench.readings[inside]
    occurred, arrived = np.zeros(count, np.int64), np.zeros(count, np.int64)
    backfill = np.zeros(count, np.bool_)
    np.maximum.at(occurred, row, own["occurred"])
    np.maximum.at(arrived, row, own["arrived"])
    np.logical_or.at(backfill, row, is_backfill(own, settings))
    panes = Panes.empty(count, _VITALS)
    possible = own["quality"] != IMPOSSIBLE
    own, row = own[possible], row[possible]
    panes.add(row, own["vital"].astype(np.int64), own["number"], own["occurred"])
    return _Own(panes, occurred, arrived, backfill)


def is_backfill(readings: Rows, settings: WindowSettings) -> Marks:
    """Whether each reading was already old when it arrived."""
    old: Marks = readings["arrived"] - readings["occurred"] > settings.backfill_after_seconds * MICROSECONDS
    return old


def _contexts(bench: Bench, subjects: Subjects, ends: Integers, contexts: Sequence[Context]) -> Integers:
    """The newest context known at each window's end."""
    known = np.flatnonzero(bench.readings["context"] >= 0)
    if not len(known):
        return np.full(len(ends), -1, np.int64)
    occurred = bench.readings["occurred"][known]
    version = np.array([one.version for one in contexts], np.int64)[bench.readings["context"][known]]
    order = np.lexsort((version, occurred, bench.who[known]))
    known, occurred = known[order], occurred[order]
    origin = int(min(occurred.min(), ends.min(initial=2**60)))
    span = int(max(occurred.max(), ends.max(initial=0))) - origin + 2
    keys = bench.who[known] * span + (occurred - origin)
    found = np.searchsorted(keys, subjects.who * span + (ends - origin), side="left") - 1
    matches = (found >= 0) & (bench.who[known[found]] == subjects.who)
    return np.where(matches, bench.readings["context"][known[found]], -1).astype(np.int64)


def _trends(bench: Bench, good: _Finder, subjects: Subjects, ends: Integers) -> Trends:
    """Fit through the last usable reading of each half hour of the last four; independent of what is older."""
    series = (subjects.who[:, None] * _VITALS + TREND_VITALS)[:, :, None]
    steps = np.arange(_TREND_POINTS) * (TREND_HORIZON // _TREND_POINTS)
    before = (ends[:, None] - steps)[:, None, :]
    places = good.latest_of(series, before).reshape(-1, _TREND_POINTS)
    occurred = bench.readings["occurred"][places]
    start = np.repeat(ends - TREND_HORIZON, len(TREND_VITALS))[:, None]
    known = (places >= 0) & (occurred >= start)
    known[:, 1:] &= places[:, 1:] != places[:, :-1]
    hours = np.where(known, (occurred - start) / _HOUR, np.nan)
    return fit_trends(hours, np.where(known, bench.readings["number"][places], np.nan))


def _model_inputs(number: Numbers, fresh: Marks, occurred: Integers, scale: Integers) -> News2Inputs:
    glasgow = np.where(np.isnan(number[:, GLASGOW]), np.nan, number[:, GLASGOW] < FULL_GLASGOW)
    letters = np.where(np.isnan(number[:, CONSCIOUSNESS]), np.nan, number[:, CONSCIOUSNESS] > 0)
    return News2Inputs(
        respiratory_rate=number[:, RESPIRATORY_RATE],
        spo2=number[:, SPO2],
        on_oxygen=_oxygen(number, fresh, occurred),
        spo2_scale=scale,
        systolic_bp=number[:, SYSTOLIC],
        pulse=number[:, HEART_RATE],
        not_alert=np.where(np.isnan(letters), glasgow, letters),
        temperature=number[:, TEMPERATURE],
    )


def _oxygen(number: Numbers, fresh: Marks, occurred: Integers) -> Numbers:
    """Whether oxygen is given: the newer of concentration and flow decides; at one instant either suffices."""
    by_fraction = np.where(fresh[:, FIO2], number[:, FIO2] > AIR_PERCENT, np.nan)
    by_flow = np.where(fresh[:, FLOW], number[:, FLOW] > 0, np.nan)
    newer = occurred[:, FIO2] - occurred[:, FLOW]
    both = np.where(newer > 0, by_fraction, np.where(newer < 0, by_flow, np.fmax(by_fraction, by_flow)))
    return np.where(fresh[:, FIO2] & fresh[:, FLOW], both, np.fmax(by_fraction, by_flow))
