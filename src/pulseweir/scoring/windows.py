"""Step 10: event-time windows: panes, watermarks per patient, lateness, closing. Pure.

A pane is what one patient and one vital did in one window: count, sum, sum of squares, lowest, highest, first and
last. Panes of neighbouring windows add up to longer ones.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.settings import MICROSECONDS, WindowSettings

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Panes:
    """Dense panes: one row a window, one column a vital.

    Attributes:
        count: Readings.
        total: Their sum.
        squares: Sum of their squares.
        lowest: Smallest; +inf when none.
        highest: Largest; -inf when none.
        first: Value with the earliest instant; NaN when none.
        last: Value with the latest instant; NaN when none.
    """

    count: Integers
    total: Numbers
    squares: Numbers
    lowest: Numbers
    highest: Numbers
    first: Numbers
    last: Numbers
    _first_at: Integers
    _last_at: Integers

    @classmethod
    def empty(cls, windows: int, vitals: int) -> "Panes":
        """Panes without a reading."""
        shape = (windows, vitals)
        limits = np.iinfo(np.int64)
        return cls(
            np.zeros(shape, np.int64),
            np.zeros(shape),
            np.zeros(shape),
            np.full(shape, np.inf),
            np.full(shape, -np.inf),
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.full(shape, limits.max),
            np.full(shape, limits.min),
        )

    def add(self, window: Integers, vital: Integers, number: Numbers, occurred: Integers) -> None:
        """Add readings: row, column, value and instant of each."""
        place = window * self.count.shape[1] + vital
        np.add.at(self.count.reshape(-1), place, 1)
        np.add.at(self.total.reshape(-1), place, number)
        np.add.at(self.squares.reshape(-1), place, number * number)
        np.minimum.at(self.lowest.reshape(-1), place, number)
        np.maximum.at(self.highest.reshape(-1), place, number)
        np.minimum.at(self._first_at.reshape(-1), place, occurred)
        np.maximum.at(self._last_at.reshape(-1), place, occurred)
        for instants, values in ((self._first_at, self.first), (self._last_at, self.last)):
            chosen = instants.reshape(-1)[place] == occurred
            values.reshape(-1)[place[chosen]] = number[chosen]


def is_too_late(occurred: Integers, watermark: Integers, settings: WindowSettings) -> Marks:
    """Whether each measurement's window is further behind its patient's watermark than the allowed lateness."""
    window_end = (occurred // settings.window + 1) * settings.window
    return window_end + settings.lateness <= watermark


def closes_at(window_end: Integers | int, touched_at: Integers | int, settings: WindowSettings) -> Integers:
    """When the wall clock closes a window of a patient last heard of at `touched_at`; all in microseconds."""
    grace = int(settings.grace_seconds * MICROSECONDS)
    quiet = int(settings.quiet_seconds * MICROSECONDS)
    return np.maximum(window_end + grace, touched_at + quiet)


def is_behind_watermark(window_end: Integers, watermark: Integers | int, settings: WindowSettings) -> Marks:
    """Whether each window's end lies behind the watermark by more than the devices' disorder."""
    return window_end <= watermark - int(settings.disorder_seconds * MICROSECONDS)
