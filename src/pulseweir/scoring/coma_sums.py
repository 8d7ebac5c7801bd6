"""Step 10: the coma scale from its parts, where all three were charted in one minute and no total was. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.instants import effective, taken
from pulseweir.scoring.quality import GOOD, VITAL_INDEX
from pulseweir.scoring.shard_state import Rows

Integers = npt.NDArray[np.int64]

GLASGOW = VITAL_INDEX["glasgow_coma_scale"]
PARTS = tuple(VITAL_INDEX[f"glasgow_coma_{part}"] for part in ("eye", "verbal", "motor"))
_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Sums:
    """Coma scales made of parts.

    Attributes:
        who: Patient number of each.
        readings: As readings of the coma scale; never `seen`, since they open and fill no window of their own.
        parts: Shape (sums, 3): rows of the eye opening, verbal answer and motor response.
    """

    who: Integers
    readings: Rows
    parts: Integers


def coma_sums(who: Integers, readings: Rows, rank: Integers) -> Sums:
    """Sum the parts of each patient's minute, whatever device sent them; of a part charted twice the later counts.

    Args:
        who: Patient number of each reading.
        readings: Of dtype `READING`.
        rank: Of each source, by its number: decides between equal parts.
    """
    vital = readings["vital"]
    rows = np.flatnonzero((vital >= min(PARTS)) & (vital <= max(PARTS)) & (readings["quality"] == GOOD))
    totals = np.flatnonzero((vital == GLASGOW) & (readings["quality"] == GOOD))
    if not len(rows):
        return Sums(who[rows], readings[rows], np.zeros((0, len(PARTS)), np.int64))
    minutes = taken(readings) // _MINUTE
    keys = who * (int(np.ptp(minutes)) + 1) + (minutes - minutes.min())
    rows = rows[~np.isin(keys[rows], keys[totals])]
    own = readings[rows]
    order = np.lexsort(
        (rank[own["source"]], own["number"], own["received"], own["occurred"], effective(own), own["vital"], keys[rows])
    )
    rows = rows[order]
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (keys[rows][1:] != keys[rows][:-1]) | (vital[rows][1:] != vital[rows][:-1])
    rows = rows[last]
    _, first, count = np.unique(keys[rows], return_index=True, return_counts=True)
    places = rows[first[count == len(PARTS)][:, None] + np.arange(len(PARTS))]
    return Sums(who[places[:, 0]], _summed(readings, places), places)


def _summed(readings: Rows, places: Integers) -> Rows:
    """One reading a sum: as new as its newest part, and from that part's source."""
    newest = places[np.arange(len(places)), np.argmax(readings["occurred"][places], axis=1)]
    sums: Rows = readings[newest]
    for name in ("occurred", "received", "arrived"):
        sums[name] = readings[name][places].max(axis=1)
    sums["number"] = readings["number"][places].sum(axis=1)
    sums["vital"], sums["seen"], sums["context"] = GLASGOW, False, -1
    return sums
