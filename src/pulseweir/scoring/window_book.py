"""Step 10: which windows of which patients are open, closed, or to be revised. Pure."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.shard_state import WINDOW, Rows

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Book:
    """The windows of several patients that had data, ascending by patient and number.

    Attributes:
        who: Patient number.
        windows: Of dtype `WINDOW`.
    """

    who: Integers
    windows: Rows

    def affected_by(self, who: Integers, first: Integers, last: Integers) -> Marks:
        """Which windows lie in any of the ranges (patient, first number, last number), both ends included."""
        number = self.windows["number"]
        origin = int(min(number.min(initial=2**60), first.min(initial=2**60)))
        span = int(max(number.max(initial=0), last.max(initial=0))) - origin + 2
        keys = self.who * span + (number - origin)
        steps = np.zeros(len(keys) + 1, np.int64)
        np.add.at(steps, np.searchsorted(keys, who * span + (first - origin), side="left"), 1)
        np.add.at(steps, np.searchsorted(keys, who * span + (last - origin), side="right"), -1)
        covered: Marks = np.cumsum(steps[:-1]) > 0
        return covered

    def issued(self, rows: Integers, digest: npt.NDArray[np.uint64]) -> "Book":
        """The book after new revisions of some windows."""
        windows = self.windows.copy()
        windows["revision"][rows] += 1
        windows["digest"][rows] = digest
        return replace(self, windows=windows)

    def without_emptied(self, who: Integers, number: Integers) -> "Book":
        """The book without open windows that hold no reading any more; `who` and `number` say which hold one."""
        keys = np.stack([self.who, self.windows["number"]], axis=1)
        held = {(int(one), int(window)) for one, window in zip(who, number, strict=True)}
        kept = np.array([tuple(key) in held for key in keys.tolist()], np.bool_) | (self.windows["revision"] > 0)
        return Book(self.who[kept], self.windows[kept])

    def newest(self, patients: int) -> Integers:
        """Number of each patient's newest window; -1 for a patient without one."""
        newest = np.full(patients, -1, np.int64)
        np.maximum.at(newest, self.who, self.windows["number"])
        return newest


def open_book(old_who: Integers, old: Rows, who: Integers, number: Integers) -> Book:
    """Known windows, and those that new readings open: each once, new ones at revision 0."""
    fresh = np.zeros(len(number), WINDOW)
    fresh["number"] = number
    all_who = np.concatenate([old_who, who])
    windows = np.concatenate([old, fresh])
    order = np.lexsort((-windows["revision"], windows["number"], all_who))
    all_who, windows = all_who[order], windows[order]
    first = np.ones(len(windows), np.bool_)
    first[1:] = (all_who[1:] != all_who[:-1]) | (windows["number"][1:] != windows["number"][:-1])
    return Book(all_who[first], windows[first])
