"""Step 10: event-time windows: panes, watermarks per patient, lateness, closing. Pure.

A pane is what one patient and one vital did in one window: count, sum, sum of squares, lowest, highest, first and
last. Panes of neighbouring windows add up to longer ones.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

MICROSECONDS = 1_000_000
_MINUTE_SECONDS = 60


class WindowSettings(BaseModel):
    """How measurements become windows and windows become scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_seconds: int = Field(60, gt=0, description="Length of a window; a divisor or a multiple of 60")
    lateness_seconds: int = Field(
        14_400, ge=0, description="How late a measurement may be and still revise its windows"
    )
    disorder_seconds: float = Field(
        5, ge=0, description="How far a patient's devices may disagree before a window closes"
    )
    grace_seconds: float = Field(10, ge=0, description="After its end a window of a quiet patient waits this long")
    quiet_seconds: float = Field(2, ge=0, description="A patient without measurements for so long is quiet")
    backfill_after_seconds: int = Field(900, gt=0, description="Older on arrival is backfill: scored, never an alert")
    live_seconds: float = Field(1, gt=0, description="At most one live row a patient in so long")
    batch_seconds: float = Field(0.1, ge=0, description="Measurements are taken in at most once in so long")
    forget_after_seconds: int = Field(86_400, gt=0, description="A patient silent for so long leaves the state")

    @field_validator("window_seconds")
    @classmethod
    def _fits_minutes(cls, seconds: int) -> int:
        if seconds % _MINUTE_SECONDS and _MINUTE_SECONDS % seconds:
            raise ValueError("window_seconds must divide 60 or be a multiple of it")
        return seconds

    @property
    def window(self) -> int:
        """Length of a window, microseconds."""
        return self.window_seconds * MICROSECONDS

    @property
    def lateness(self) -> int:
        """Allowed lateness, microseconds."""
        return self.lateness_seconds * MICROSECONDS

    @property
    def tie_bucket(self) -> int:
        """Readings within so many microseconds tie, and the better source wins: a minute, or a shorter window."""
        return min(self.window_seconds, _MINUTE_SECONDS) * MICROSECONDS


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
