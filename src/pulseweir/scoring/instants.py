"""Step 10: when a reading counts as true, and from when it may be used. Pure.

A device clock may be ahead of the hub's, and nothing can have been measured after it was received. So a reading is
judged by its *effective instant*: the earlier of measured and first received. One that is more than five minutes
ahead is *held* until its own time comes; it then belongs to the window of its own time, with its true age.
"""

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.quality import FUTURE_TOLERANCE_MICROSECONDS
from pulseweir.scoring.shard_state import Rows

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


def effective(readings: Rows) -> Integers:
    """The effective instant of each reading, microseconds: ages, order and silence are judged by it."""
    instants: Integers = np.minimum(readings["occurred"], readings["arrived"])
    return instants


def is_ahead(readings: Rows) -> Marks:
    """Which readings are held until their own time comes."""
    ahead: Marks = readings["occurred"] > readings["arrived"] + FUTURE_TOLERANCE_MICROSECONDS
    return ahead


def taken(readings: Rows) -> Integers:
    """From when each reading may be used: its window is the one of this instant."""
    return np.where(is_ahead(readings), readings["occurred"], effective(readings))
