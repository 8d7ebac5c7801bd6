"""Step 10: what each vital is worth at the end of a window, for many windows of many patients at once. Pure.

The value of a vital in a window is the latest usable one before the window's end, not older than the vital's maximum
age. In one minute an arterial pressure comes before a cuff's. Something newer that is not usable (impossible, not
confirmed, not understood, or held because its clock is ahead) does not replace it, but makes it doubtful.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import COMA_VITALS, VITALS
from pulseweir.scoring.bench import Bench, Lookup
from pulseweir.scoring.decisions import (
    AIR_PERCENT,
    FULL_GLASGOW,
    UNSAID,
    Decision,
    decide_consciousness,
    decide_oxygen,
    part_below_full,
    spoken,
)
from pulseweir.scoring.fitting import Trends, fit_trends
from pulseweir.scoring.known_context import Contexts, contexts_at
from pulseweir.scoring.models.news2 import NO_SCALE, News2Inputs
from pulseweir.scoring.own_readings import OwnReadings, is_old, own_readings
from pulseweir.scoring.quality import FLAT_WITHIN, IMPOSSIBLE, VITAL_INDEX
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.shard_state import Context, Rows

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

TREND_HORIZON = 4 * 3600 * MICROSECONDS
"""Trends rest on the readings of the last four hours."""
_TREND_POINTS = 8
_VITALS = len(VITALS)
_HOUR = 3600 * MICROSECONDS
MAXIMUM_AGE = np.array([vital.maximum_age_seconds for vital in VITALS], np.int64) * MICROSECONDS
_WITHOUT_TREND = ("consciousness", "fio2", "oxygen_flow", *COMA_VITALS)
TREND_VITALS = np.array([VITAL_INDEX[vital.name] for vital in VITALS if vital.name not in _WITHOUT_TREND])

HEART_RATE, RESPIRATORY_RATE, SPO2, SYSTOLIC, TEMPERATURE, CONSCIOUSNESS, FIO2, FLOW, GLASGOW, EYE, VERBAL, MOTOR = (
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
        *COMA_VITALS,
    )
)
VITALS_OF = {
    "respiratory_rate": (RESPIRATORY_RATE,),
    "spo2": (SPO2,),
    "air_or_oxygen": (FLOW, FIO2),
    "systolic_bp": (SYSTOLIC,),
    "pulse": (HEART_RATE,),
    "consciousness": (CONSCIOUSNESS, GLASGOW, EYE, VERBAL, MOTOR),
    "temperature": (TEMPERATURE,),
}
"""The vitals that speak for each parameter, in the order in which the deciding functions take them."""


def look_back(settings: WindowSettings) -> Integers:
    """How far before its end a window depends on each vital: stale, fitted, confirmed by one before, flat."""
    confirmed = np.maximum(MAXIMUM_AGE + settings.lateness, TREND_HORIZON) + MAXIMUM_AGE
    return np.maximum(confirmed, MAXIMUM_AGE + FLAT_WITHIN)


@dataclass(frozen=True, slots=True)
class Subjects:
    """The windows to evaluate, ascending by patient and number, each once.

    Attributes:
        who: Patient number.
        number: Window number: its start divided by its length.
        known_at: Held readings are let in up to this instant: the window's end, or now where that is earlier.
    """

    who: Integers
    number: Integers
    known_at: Integers


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known at the end of each window; two-dimensional members have one column a vital.

    Attributes:
        place: Row of `Bench.readings` that holds the vital's value, -1 when nothing is known.
        newest: Row of something newer than that value and not usable, -1 when there is none.
        waits: Whether what `newest` (or, without a value, `place`) names is held until its own time.
        fresh: Whether the value may be scored: usable and not older than its maximum age.
        stale: Whether there is a usable value, but older than that.
        number: The value, NaN unless fresh.
        doubtful: Shape (windows, parameters in the order of `VITALS_OF`): something newer is not usable.
        consciousness: Decided by which of its vitals.
        oxygen: Likewise.
        sign_of_life: Effective instant of the newest usable reading, `UNSAID` when none.
        trends: One line a vital of `TREND_VITALS` and window, row-major.
        own: What happened within the window itself.
        contexts: What is known of the patient.
        inputs: What the models take.
    """

    place: Integers
    newest: Integers
    waits: Marks
    fresh: Marks
    stale: Marks
    number: Numbers
    doubtful: Marks
    consciousness: Decision
    oxygen: Decision
    sign_of_life: Integers
    trends: Trends
    own: OwnReadings
    contexts: Contexts
    inputs: News2Inputs


@dataclass(frozen=True, slots=True)
class Known:
    """Contexts of the bench's patients: `who` has one patient number a row of `rows`, of dtype `KNOWN`."""

    who: Integers
    rows: Rows
    contexts: Sequence[Context]


def evaluate(bench: Bench, subjects: Subjects, known: Known, settings: WindowSettings) -> Evaluation:
    """Find the value of every vital at the end of every window.

    Args:
        bench: From `lay_out`.
        subjects: The windows.
        known: What is known of the patients.
        settings: Of the windows.
    """
    ends = (subjects.number + 1) * settings.window
    good = Lookup(bench, bench.usable, settings)
    values = _values(bench, good, subjects, ends, settings)
    life = np.where(values.fresh | values.stale, values.at, UNSAID).max(axis=1)
    late_signs = _late_signs(bench, values, life, settings)
    unreadable_at = _unreadable(bench, subjects, ends, settings)
    consciousness = _consciousness(values, unreadable_at)
    removed = np.isnan(consciousness.value) & (unreadable_at != UNSAID)
    values.fresh[np.ix_(removed, VITALS_OF["consciousness"])] = False
    number = np.where(values.fresh, bench.readings["number"][values.place], np.nan)
    oxygen = decide_oxygen(
        [
            spoken((number[:, FLOW] > 0).astype(np.float64), values.at[:, FLOW], values.fresh[:, FLOW]),
            spoken((number[:, FIO2] > AIR_PERCENT).astype(np.float64), values.at[:, FIO2], values.fresh[:, FIO2]),
        ]
    )
    contexts = contexts_at(known.who, known.rows, known.contexts, subjects.who, ends)
    return Evaluation(
        values.place,
        values.newest,
        values.waits,
        values.fresh,
        values.stale,
        number,
        _doubtful(bench, values, removed),
        consciousness,
        oxygen,
        life,
        _trends(bench, good, subjects, ends),
        own_readings(bench, subjects.who, subjects.number, subjects.known_at, late_signs, settings),
        contexts,
        _model_inputs(number, oxygen.value, consciousness.value, _scales(contexts, known.contexts)),
    )


@dataclass(frozen=True, slots=True)
class _Values:
    """The first look at each vital; shapes (windows, vitals). `at` is the effective instant of `place`."""

    place: Integers
    newest: Integers
    waits: Marks
    fresh: Marks
    stale: Marks
    at: Integers
    number: Numbers


def _values(bench: Bench, good: Lookup, subjects: Subjects, ends: Integers, settings: WindowSettings) -> _Values:
    longest = MAXIMUM_AGE + settings.lateness
    known_at = subjects.known_at
    best = good.latest(subjects.who, ends, known_at)
    age = ends[:, None] - bench.effective[best]
    fresh = (best >= 0) & (age <= MAXIMUM_AGE)
    stale = (best >= 0) & ~fresh & (age <= longest)
    everything = Lookup(bench, np.ones(len(bench.who), np.bool_), settings, at_once=True)
    top = everything.latest(subjects.who, ends, known_at)
    recent = (top >= 0) & (ends[:, None] - bench.effective[top] <= longest)
    waits = recent & bench.ahead[top] & (bench.readings["occurred"][top] >= known_at[:, None])
    held_value = fresh | stale
    place = np.where(held_value, best, np.where(recent, top, -1))
    spoils = recent & held_value & (waits | ~bench.usable[top]) & (bench.effective[top] > bench.effective[best])
    return _Values(
        place,
        np.where(spoils, top, -1),
        waits,
        fresh,
        stale,
        bench.effective[place],
        np.where(fresh, bench.readings["number"][place], np.nan),
    )


def _unreadable(bench: Bench, subjects: Subjects, ends: Integers, settings: WindowSettings) -> Integers:
    """When the newest text about consciousness that was not understood was true, `UNSAID` for none that matters."""
    texts = (bench.readings["vital"] == CONSCIOUSNESS) & (bench.readings["quality"] == IMPOSSIBLE)
    if not texts.any():
        return np.full(len(ends), UNSAID, np.int64)
    place = Lookup(bench, texts, settings).latest_of(CONSCIOUSNESS, subjects.who, ends, subjects.known_at)
    at = bench.effective[place]
    matters = (place >= 0) & (ends - at <= MAXIMUM_AGE[CONSCIOUSNESS])
    return np.where(matters, at, UNSAID)


def _consciousness(values: _Values, unreadable_at: Integers) -> Decision:
    """Letter, coma scale and parts: see `decide_consciousness`."""
    parts = [EYE, VERBAL, MOTOR]
    number, at, fresh = values.number, values.at, values.fresh
    with np.errstate(invalid="ignore"):
        letter = (number[:, CONSCIOUSNESS] > 0).astype(np.float64)
        scale = (number[:, GLASGOW] < FULL_GLASGOW).astype(np.float64)
    inputs = [
        spoken(letter, at[:, CONSCIOUSNESS], fresh[:, CONSCIOUSNESS]),
        spoken(scale, at[:, GLASGOW], fresh[:, GLASGOW]),
        *part_below_full(number[:, parts], at[:, parts], fresh[:, parts]),
    ]
    return decide_consciousness(inputs, unreadable_at)


def _doubtful(bench: Bench, values: _Values, removed: Marks) -> Marks:
    """Parameters with a fresh value of which something newer is known that is not usable."""
    spoilt_at = np.where(values.newest >= 0, bench.effective[values.newest], UNSAID)
    only_bad = (values.place >= 0) & ~values.fresh & ~values.stale
    spoilt_at = np.where(only_bad, values.at, spoilt_at)
    good_at = np.where(values.fresh, values.at, UNSAID)
    marks = []
    for vitals in VITALS_OF.values():
        newest_good = good_at[:, vitals].max(axis=1)
        marks.append((newest_good != UNSAID) & (spoilt_at[:, vitals].max(axis=1) > newest_good))
    doubtful = np.stack(marks, axis=1)
    doubtful[:, list(VITALS_OF).index("consciousness")] |= removed
    return doubtful


def _late_signs(bench: Bench, values: _Values, life: Integers, settings: WindowSettings) -> Marks:
    """Whether the newest usable reading was already old on arrival: all of them, where several are equally new."""
    signs = (values.fresh | values.stale) & (values.at == life[:, None])
    old = is_old(bench, settings)[values.place]
    late: Marks = signs.any(axis=1) & ~(signs & ~old).any(axis=1)
    return late


def _trends(bench: Bench, good: Lookup, subjects: Subjects, ends: Integers) -> Trends:
    """Fit through the last usable reading of each half hour of the last four; independent of what is older."""
    series = (subjects.who[:, None] * _VITALS + TREND_VITALS)[:, :, None]
    steps = np.arange(_TREND_POINTS) * (TREND_HORIZON // _TREND_POINTS)
    before = (ends[:, None] - steps)[:, None, :]
    places = good.latest_steady(series, before).reshape(-1, _TREND_POINTS)
    instants = bench.effective[places]
    start = np.repeat(ends - TREND_HORIZON, len(TREND_VITALS))[:, None]
    known = (places >= 0) & (instants >= start)
    known[:, 1:] &= places[:, 1:] != places[:, :-1]
    hours = np.where(known, (instants - start) / _HOUR, np.nan)
    return fit_trends(hours, np.where(known, bench.readings["number"][places], np.nan))


def _scales(contexts: Contexts, known: Sequence[Context]) -> Integers:
    scales = np.array([*(one.spo2_scale or NO_SCALE for one in known), NO_SCALE], np.int64)
    return scales[contexts.scale]


def _model_inputs(number: Numbers, on_oxygen: Numbers, not_alert: Numbers, scale: Integers) -> News2Inputs:
    return News2Inputs(
        respiratory_rate=number[:, RESPIRATORY_RATE],
        spo2=number[:, SPO2],
        on_oxygen=on_oxygen,
        spo2_scale=scale,
        systolic_bp=number[:, SYSTOLIC],
        pulse=number[:, HEART_RATE],
        not_alert=not_alert,
        temperature=number[:, TEMPERATURE],
    )
