"""Step 10: which values can be trusted: ranges, guessed units, cross-checks, spikes, flat lines. Pure.

A value is *good*, *suspect* (unusual: it counts once a second reading confirms it), *impossible* (kept and shown,
never scored) or *future* (its device's clock is ahead: held out of scoring).

Source: plausible ranges of MIT-LCP mimic-code; narrower ranges, rates of change and artefact rules as collected in
the house's clinical notes, where rates of change are starting points to be tuned.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import COMA_VITALS, VITALS

Numbers = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

QUALITIES = ("good", "suspect", "impossible", "future")
GOOD, SUSPECT, IMPOSSIBLE, FUTURE = range(4)

VITAL_INDEX = {vital.name: index for index, vital in enumerate(VITALS)}
_MICROSECONDS = 1_000_000
_MINUTE = 60 * _MICROSECONDS
FUTURE_TOLERANCE_MICROSECONDS = 5 * _MINUTE

_UNUSUAL_OUTSIDE = {
    "heart_rate": (20, 250),
    "respiratory_rate": (3, 60),
    "spo2": (70, 100),
    "systolic_bp": (40, 280),
    "diastolic_bp": (15, 180),
    "temperature": (30, 43),
}
_CHANGE_PER_MINUTE = {
    "heart_rate": 60.0,
    "respiratory_rate": 20.0,
    "spo2": 10.0,
    "systolic_bp": 50.0,
    "diastolic_bp": 50.0,
    "mean_bp": 50.0,
    "temperature": 0.3,
}
_FLAT_EXEMPT = ("temperature", "consciousness", "fio2", "oxygen_flow", *COMA_VITALS)

_LOWEST = np.array([-np.inf if vital.lowest is None else vital.lowest for vital in VITALS])
_HIGHEST = np.array([np.inf if vital.highest is None else vital.highest for vital in VITALS])
_HIGHEST_ALLOWED = np.array([vital.highest_is_possible for vital in VITALS])
_USUAL_LOW = np.array([_UNUSUAL_OUTSIDE.get(vital.name, (-np.inf, np.inf))[0] for vital in VITALS])
_USUAL_HIGH = np.array([_UNUSUAL_OUTSIDE.get(vital.name, (-np.inf, np.inf))[1] for vital in VITALS])
_MAXIMUM_CHANGE = np.array([_CHANGE_PER_MINUTE.get(vital.name, np.inf) for vital in VITALS])
_MAXIMUM_AGE = np.array([vital.maximum_age_seconds for vital in VITALS], np.int64) * _MICROSECONDS
_EXEMPT_FROM_FLAT = np.array([vital.name in _FLAT_EXEMPT for vital in VITALS])

_SPO2 = VITAL_INDEX["spo2"]
_TEMPERATURE = VITAL_INDEX["temperature"]
_FIO2 = VITAL_INDEX["fio2"]
_SYSTOLIC, _DIASTOLIC, _MEAN = (VITAL_INDEX[name] for name in ("systolic_bp", "diastolic_bp", "mean_bp"))
_ROOM_AIR_PERCENT = 20.0


@dataclass(frozen=True, slots=True)
class Normalised:
    """Numbers in the house's units.

    Attributes:
        number: Converted where a unit was guessed, else as given.
        guessed: Whether the unit was guessed from the value alone; such a value is suspect.
    """

    number: Numbers
    guessed: Marks


def normalise(vital: Indices, number: Numbers) -> Normalised:
    """Bring numbers to the house's units where their size gives the unit away.

    Inhaled oxygen is charted as a fraction and as per cent alike, which no other reading can be mistaken for. A
    saturation of 1 or less as a fraction and a temperature from 60 to 115 as Fahrenheit are guesses.

    >>> one = normalise(np.array([_FIO2, _SPO2, _TEMPERATURE]), np.array([0.4, 0.97, 98.6]))
    >>> one.number.tolist(), one.guessed.tolist()
    ([40.0, 97.0, 37.0], [False, True, True])
    """
    with np.errstate(invalid="ignore"):
        fraction = (vital == _FIO2) & (number >= 0.2) & (number <= 1)
        saturation = (vital == _SPO2) & (number > 0) & (number <= 1)
        fahrenheit = (vital == _TEMPERATURE) & (number >= 60) & (number <= 115)
    converted = np.where(fraction | saturation, np.round(number * 100, 6), number)
    converted = np.where(fahrenheit, np.round((number - 32) / 1.8, 6), converted)
    return Normalised(converted, saturation | fahrenheit)


def range_quality(vital: Indices, number: Numbers) -> npt.NDArray[np.int8]:
    """Quality of each reading by itself: ranges and guessed units; NaN is impossible."""
    normal = normalise(vital, number)
    value = normal.number
    with np.errstate(invalid="ignore"):
        possible = (value > _LOWEST[vital]) & (
            (value < _HIGHEST[vital]) | (_HIGHEST_ALLOWED[vital] & (value == _HIGHEST[vital]))
        )
        possible &= ~((vital == _FIO2) & (value < _ROOM_AIR_PERCENT))
        usual = (value >= _USUAL_LOW[vital]) & (value <= _USUAL_HIGH[vital])
    quality = np.where(usual & ~normal.guessed, GOOD, SUSPECT)
    return np.where(possible, quality, IMPOSSIBLE).astype(np.int8)


def contradicting_pressures(group: Indices, vital: Indices, number: Numbers) -> Marks:
    """Readings whose pressures contradict each other: systolic not above diastolic, or the mean not between.

    Args:
        group: Equal numbers for readings of one device, type and instant; from 0, without gaps.
        vital: Index into `VITALS`.
        number: The values.
    """
    count = int(group.max(initial=-1)) + 1
    systolic, diastolic, mean = (
        _per_group(group, number, vital == which, count) for which in (_SYSTOLIC, _DIASTOLIC, _MEAN)
    )
    with np.errstate(invalid="ignore"):
        crossed = systolic <= diastolic
        outside = (mean > systolic) | (mean < diastolic)
    is_pressure = (vital == _SYSTOLIC) | (vital == _DIASTOLIC) | (vital == _MEAN)
    contradicting: Marks = (is_pressure & crossed[group]) | ((vital == _MEAN) & outside[group])
    return contradicting


def _per_group(group: Indices, number: Numbers, chosen: Marks, count: int) -> Numbers:
    column = np.full(count, np.nan)
    column[group[chosen]] = number[chosen]
    return column


def usable(
    series: Indices, vital: Indices, occurred: Instants, quality: npt.NDArray[np.int8], number: Numbers
) -> Marks:
    """Which readings may be scored: good ones, and suspect ones that the reading before them confirms.

    All arguments are sorted by series, then time. Only earlier readings decide, so that a window keeps its verdict
    whatever follows it.

    Args:
        series: One number per patient and vital.
        vital: Index into `VITALS`.
        occurred: Microseconds.
        quality: As `range_quality` gives it.
        number: The values.
    """
    doubtful = (quality == SUSPECT) | ((quality == GOOD) & spikes(series, vital, occurred, number))
    confirmed = np.zeros(len(series), np.bool_)
    near = (series[1:] == series[:-1]) & (occurred[1:] - occurred[:-1] <= _MAXIMUM_AGE[vital[1:]])
    confirmed[1:] = doubtful[1:] & doubtful[:-1] & near
    trusted: Marks = ((quality == GOOD) & ~doubtful) | confirmed
    return trusted


_NEIGHBOURS = 4
_NEIGHBOURHOOD = 10 * _MINUTE


def spikes(series: Indices, vital: Indices, occurred: Instants, number: Numbers) -> Marks:
    """Readings that leap from their predecessors: over four robust sigma and faster than the vital can change.

    Judged against the four readings before, where these lie within ten minutes; sparse readings are never spikes.
    """
    found = np.zeros(len(series), np.bool_)
    here = np.arange(_NEIGHBOURS, len(series))
    first = here - _NEIGHBOURS
    here = here[(series[here] == series[first]) & (occurred[here] - occurred[first] <= _NEIGHBOURHOOD)]
    if not len(here):
        return found
    before = number[here[:, None] - np.arange(1, _NEIGHBOURS + 1)]
    middle = np.median(before, axis=1)
    sigma = 1.4826 * np.median(np.abs(before - middle[:, None]), axis=1)
    minutes = np.maximum((occurred[here] - occurred[here - 1]) / _MINUTE, 1.0)
    leap = np.abs(number[here] - middle)
    found[here] = (leap > 4 * sigma) & (leap > _MAXIMUM_CHANGE[vital[here]] * minutes)
    return found


FLAT_WITHIN = 5 * 60 * _MINUTE
"""Long enough for ten readings of a cuff that measures every half hour; a window looks back so far."""


def flat_lines(series: Indices, vital: Indices, occurred: Instants, number: Numbers, *, readings: int = 10) -> Marks:
    """Readings that end a run of identical values: ten or more within the last five hours, over a quarter hour or more.

    A sensor may have come off, or a value was carried on by hand. Such readings are marked for people, and still
    scored: charted values repeat honestly. Saturation of 100 % and slow vitals are exempt.
    """
    if not len(series):
        return np.zeros(0, np.bool_)
    starts = np.ones(len(series), np.bool_)
    starts[1:] = (series[1:] != series[:-1]) | (number[1:] != number[:-1])
    place = np.arange(len(series))
    first = np.maximum.accumulate(np.where(starts, place, 0))
    # One clock over all series, on which longer pauses, and the steps between series, last just too long.
    steps = np.minimum(np.diff(occurred, prepend=occurred[0]), FLAT_WITHIN + 1)
    steps[1:][series[1:] != series[:-1]] = FLAT_WITHIN + 1
    clock = np.cumsum(steps)
    first = np.maximum(first, np.searchsorted(np.maximum.accumulate(clock), clock - FLAT_WITHIN))
    long = (place - first + 1 >= readings) & (occurred - occurred[first] >= 15 * _MINUTE)
    exempt = _EXEMPT_FROM_FLAT[vital] | ((vital == _SPO2) & (number == 100))
    flat: Marks = long & ~exempt
    return flat
