"""Step 10: the readings of several patients laid out for looking up what was last known before an instant. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import VITALS
from pulseweir.records.hand_charted import is_hand_charted
from pulseweir.scoring.coma_sums import coma_sums
from pulseweir.scoring.instants import effective, is_ahead
from pulseweir.scoring.quality import IMPOSSIBLE, flat_lines, usable
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import Rows, Source

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

ARTERIAL_TYPE = "arterial-pressure"
_VITALS = len(VITALS)


@dataclass(frozen=True, slots=True)
class SourceMarks:
    """What matters of each source, by its number.

    Attributes:
        arterial: Comes before a cuff's pressure of the same minute.
        by_hand: Charted by people.
        device: A number for the device.
        rank: Place among the sources in the order of their names: who came first decides nothing.
    """

    arterial: Marks
    by_hand: Marks
    device: Integers
    rank: Integers


def mark_sources(sources: Iterable[Source], settings: WindowSettings) -> SourceMarks:
    """The marks of all known sources; one more at the end, so that there is always one."""
    return _marks(tuple(sources), settings.hand_charted_types)


@lru_cache(maxsize=4)
def _marks(sources: tuple[Source, ...], hand_charted_types: tuple[str, ...]) -> SourceMarks:
    """A shard meets new sources seldom and is scored often: they are looked at once."""
    devices: dict[str, int] = {}
    rank = np.zeros(len(sources) + 1, np.int64)
    rank[sorted(range(len(sources)), key=sources.__getitem__)] = np.arange(len(sources))
    return SourceMarks(
        np.array([*(one.type == ARTERIAL_TYPE for one in sources), False], np.bool_),
        np.array([*(is_hand_charted(one.type, hand_charted_types) for one in sources), False], np.bool_),
        np.array([*(devices.setdefault(one.device_id, len(devices)) for one in sources), -1], np.int64),
        rank,
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """Readings laid out for looking up: sorted by patient and vital, then minute, source rank and effective instant.

    Attributes:
        who: Patient number of each reading.
        readings: The readings, and coma scales summed from their parts.
        effective: Their effective instants.
        ahead: Which are held until their own time.
        usable: Which of them may be scored, once their time has come.
        flat: Which of them end a flat line.
        sum_of: Place in `parts` of a summed coma scale, -1 for what was charted.
        parts: Shape (sums, 3): places in this bench.
        sources: What matters of the readings' sources.
    """

    who: Integers
    readings: Rows
    effective: Integers
    ahead: Marks
    usable: Marks
    flat: Marks
    sum_of: Integers
    parts: Integers
    sources: SourceMarks


def lay_out(who: Integers, readings: Rows, sources: SourceMarks, settings: WindowSettings) -> Bench:
    """Sum, sort and judge readings."""
    sums = coma_sums(who, readings, sources.rank)
    sum_of = np.concatenate([np.full(len(who), -1, np.int64), np.arange(len(sums.who))])
    if len(sums.who):
        who, readings = np.concatenate([who, sums.who]), np.concatenate([readings, sums.readings])
    instants = effective(readings)
    bucket = instants // settings.tie_bucket
    series = who * _VITALS + readings["vital"]
    number = np.nan_to_num(readings["number"], nan=-np.inf)
    order = np.lexsort(
        (
            sources.rank[readings["source"]],
            number,
            readings["received"],
            readings["occurred"],
            instants,
            sources.arterial[readings["source"]],
            bucket,
            series,
        )
    )
    who, readings, series, instants = who[order], readings[order], series[order], instants[order]
    ahead = is_ahead(readings)
    marks, flat = _judged(series, readings, instants, ahead)
    place_of = np.zeros(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    return Bench(who, readings, instants, ahead, marks, flat, sum_of[order], place_of[sums.parts], sources)


def _judged(series: Integers, readings: Rows, instants: Integers, ahead: Marks) -> tuple[Marks, Marks]:
    """Which readings are usable, which end a flat line; held ones and others do not confirm each other."""
    marks, flat = np.zeros(len(series), np.bool_), np.zeros(len(series), np.bool_)
    possible = readings["quality"] != IMPOSSIBLE
    for chosen in (possible & ~ahead, possible & ahead):
        rows = np.flatnonzero(chosen)
        if not len(rows):
            continue
        kept = readings[rows]
        columns = (series[rows], kept["vital"].astype(np.int64), instants[rows])
        marks[rows] = usable(*columns, kept["quality"], kept["number"])
        flat[rows] = flat_lines(*columns, kept["number"])
    return marks, flat


class Lookup:
    """Finds the last of some readings of a patient and vital that was known, and might be used, before an instant."""

    def __init__(self, bench: Bench, chosen: Marks, settings: WindowSettings, *, at_once: bool = False) -> None:
        """Look among `chosen` readings; with `at_once`, held ones are found from their reception on."""
        held = np.zeros(len(chosen), np.bool_) if at_once else bench.ahead
        self._steady = _Steady(bench, np.flatnonzero(chosen & ~held), settings.tie_bucket)
        self._held = _Held(bench, np.flatnonzero(chosen & held))

    def latest(self, who: Integers, ends: Integers, known_at: Integers) -> Integers:
        """Places in the bench, shape (windows, vitals); -1 for none.

        Args:
            who: Patient number of each window.
            ends: End of each window; whole tie buckets.
            known_at: Held readings are let in up to this instant.
        """
        series = who[:, None] * _VITALS + np.arange(_VITALS)
        return np.maximum(self._steady.latest(series, ends[:, None]), self._held.latest(series, known_at[:, None]))

    def latest_of(self, vital: int, who: Integers, ends: Integers, known_at: Integers) -> Integers:
        """The same for one vital, shape (windows,)."""
        series = who * _VITALS + vital
        return np.maximum(self._steady.latest(series, ends), self._held.latest(series, known_at))

    def latest_steady(self, series: Integers, before: Integers) -> Integers:
        """Without held readings, for explicit series numbers (patient times vitals, plus vital)."""
        return self._steady.latest(series, before)


class _Steady:
    """Readings of trustworthy clocks, by their effective instant."""

    def __init__(self, bench: Bench, places: Integers, bucket: int) -> None:
        self._places, self._bucket = places, bucket
        buckets = bench.effective[places] // bucket
        self._origin = int(buckets.min(initial=2**60))
        self._span = int(buckets.max(initial=0)) - self._origin + 2
        self._series = bench.who[places] * _VITALS + bench.readings["vital"][places]
        self._keys = self._series * self._span + (buckets - self._origin)

    def latest(self, series: Integers, before: Integers) -> Integers:
        """Places in the bench; -1 for none. `before` must be whole buckets."""
        if not len(self._places):
            return np.full(np.broadcast_shapes(series.shape, before.shape), -1, np.int64)
        bucket = np.clip(before // self._bucket - self._origin, 0, self._span - 1)
        found = np.searchsorted(self._keys, series * self._span + bucket, side="left") - 1
        matches = (found >= 0) & (self._series[found] == series)
        return np.where(matches, self._places[found], -1)


class _Held:
    """Readings whose clock was ahead: let in at their own time, but as old as their reception makes them."""

    def __init__(self, bench: Bench, places: Integers) -> None:
        occurred = bench.readings["occurred"][places]
        series = bench.who[places] * _VITALS + bench.readings["vital"][places]
        order = np.lexsort((occurred, series))
        # Ranks of instants: microseconds up to any year that a device says would not fit beside the series.
        self._instants, rank = np.unique(occurred[order], return_inverse=True)
        self._series = series[order]
        self._keys = self._series * (len(self._instants) + 1) + rank
        # The bench is sorted by series, then effective instant: the highest place let in so far is the newest one.
        self._newest = np.maximum.accumulate(places[order])

    def latest(self, series: Integers, before: Integers) -> Integers:
        """Places in the bench; -1 for none."""
        if not len(self._keys):
            return np.full(np.broadcast_shapes(series.shape, before.shape), -1, np.int64)
        rank = np.searchsorted(self._instants, before, side="left")
        found = np.searchsorted(self._keys, series * (len(self._instants) + 1) + rank, side="left") - 1
        matches = (found >= 0) & (self._series[found] == series)
        return np.where(matches, self._newest[found], -1)
