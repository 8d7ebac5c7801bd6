"""Step 10: the readings of several patients in one sorted table, and what new readings change in it. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.instants import effective, taken
from pulseweir.scoring.shard_state import Rows

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Merged:
    """Old and new readings, one for each patient, source and instant.

    Attributes:
        who: Patient number of each reading, ascending.
        readings: The readings that hold now.
        changed: Whether the reading arrived just now on the bus and says something new.
        duplicate: One a new reading, in the order handed in: nothing new, or superseded by a newer correction.
        since: Effective instant of each reading, or of the version it replaces where that one was earlier.
        moved: Whether the reading is taken at another instant than the version it replaces.
    """

    who: Integers
    readings: Rows
    changed: Marks
    duplicate: Marks
    since: Integers
    moved: Marks


def unmerged(who: Integers, readings: Rows) -> Merged:
    """Readings to which nothing new was added."""
    nothing = np.zeros(len(who), np.bool_)
    return Merged(who, readings, nothing, np.zeros(0, np.bool_), effective(readings), nothing)


def merge(old_who: Integers, old: Rows, new_who: Integers, new: Rows) -> Merged:
    """Let readings of one patient, source and instant replace each other: the one received last holds.

    The result does not depend on the order of arrival: at equal reception the larger number holds.
    """
    who = np.concatenate([old_who, new_who])
    readings = np.concatenate([old, new])
    is_new = np.arange(len(who)) >= len(old_who)
    comparable = np.nan_to_num(readings["number"], nan=-np.inf)
    order = np.lexsort(
        (is_new, readings["seen"], comparable, readings["received"], readings["occurred"], readings["source"], who)
    )
    starts, ends = _runs(who[order], readings["source"][order], readings["occurred"][order])
    winner = order[ends]
    held = _held_before(order, starts, is_new, readings)
    arrived = (
        np.logical_or.reduceat((is_new & readings["seen"])[order], starts) if len(order) else np.zeros(0, np.bool_)
    )
    known = held >= 0
    result = readings[winner]
    result["arrived"] = _first_reception(order, starts, ends, comparable, readings["arrived"])
    same = known & (comparable[winner] == comparable[held])
    for name in ("quality", "arrived"):
        same &= result[name] == readings[name][held]
    changed = arrived & ~same
    result["seen"] = arrived | readings["seen"][winner] | known
    speaks = np.zeros(len(who), np.bool_)
    speaks[winner] = changed
    before = readings[held]
    since = np.where(known, np.minimum(effective(result), effective(before)), effective(result))
    moved = changed & known & (taken(result) != taken(before))
    return Merged(who[winner], result, changed, ~speaks[len(old_who) :], since, moved)


def _runs(who: Integers, source: npt.NDArray[np.int32], occurred: Integers) -> tuple[Integers, Integers]:
    """First and last place of each run of equal keys in sorted columns."""
    if not len(who):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    differs = (who[1:] != who[:-1]) | (source[1:] != source[:-1]) | (occurred[1:] != occurred[:-1])
    starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
    ends = np.concatenate([starts[1:], [len(who)]]) - 1
    return starts, ends


def _first_reception(
    order: Integers, starts: Integers, ends: Integers, number: npt.NDArray[np.float64], arrived: Integers
) -> Integers:
    """For each run, when the value that holds was first received."""
    if not len(order):
        return np.zeros(0, np.int64)
    winner = np.repeat(order[ends], ends - starts + 1)
    same = number[order] == number[winner]
    earliest: Integers = np.minimum.reduceat(np.where(same, arrived[order], np.iinfo(np.int64).max), starts)
    return earliest


def _held_before(order: Integers, starts: Integers, is_new: Marks, readings: Rows) -> Integers:
    """For each run, the reading that had been seen before, or -1."""
    if not len(order):
        return np.zeros(0, np.int64)
    candidate = np.where(~is_new[order] & readings["seen"][order], order, -1)
    held: Integers = np.maximum.reduceat(candidate, starts)
    return held
