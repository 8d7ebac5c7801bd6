"""Step 10: what is known of a patient at the end of each window, field by field. Pure.

Of each field the newest known value before a window's end counts, else the earliest later one: what could not be
read in time revises the windows that did without it, and a service that fails later un-knows nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.scoring.shard_state import KNOWN, Context, Rows

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Contexts:
    """For each window the place of the context that each field is taken from, -1 for unknown.

    Attributes:
        place: Ward and bed: the newest context, whatever it knows.
        age: Age in years.
        sex: Administrative gender.
        scale: SpO2 scale.
        pregnant: Pregnancy.
    """

    place: Integers
    age: Integers
    sex: Integers
    scale: Integers
    pregnant: Integers


def contexts_at(
    who: Integers, known: Rows, contexts: Sequence[Context], subjects: Integers, ends: Integers
) -> Contexts:
    """Find the contexts of windows.

    Args:
        who: Patient number of each row of `known`.
        known: Of dtype `KNOWN`: which context was known when.
        contexts: What `known` holds places in.
        subjects: Patient number of each window.
        ends: End of each window, microseconds.
    """
    version = np.array([one.version for one in contexts], np.int64)[known["context"]]
    order = np.lexsort((known["context"], version, known["at"], who))
    who, known = who[order], known[order]
    changes = np.ones(len(who), np.bool_)
    changes[1:] = (who[1:] != who[:-1]) | (known["context"][1:] != known["context"][:-1])
    who, known = who[changes], known[changes]

    def find(knows: Callable[[Context], bool]) -> Integers:
        marks = np.array([knows(one) for one in contexts], np.bool_)[known["context"]]
        return _newest_or_next(who[marks], known[marks], subjects, ends)

    return Contexts(
        place=find(lambda _: True),
        age=find(lambda one: one.age_years is not None),
        sex=find(lambda one: one.sex is not None),
        scale=find(lambda one: one.spo2_scale is not None),
        pregnant=find(lambda one: one.pregnant is not None),
    )


def _newest_or_next(who: Integers, known: Rows, subjects: Integers, ends: Integers) -> Integers:
    """The newest context before each end, else the earliest after it; rows sorted by patient and instant."""
    if not len(who):
        return np.full(len(ends), -1, np.int64)
    instants, rank = np.unique(known["at"], return_inverse=True)
    size = len(instants) + 1
    following = np.searchsorted(who * size + rank, subjects * size + np.searchsorted(instants, ends), side="left")
    before, after = following - 1, np.minimum(following, len(who) - 1)
    has_before = (before >= 0) & (who[before] == subjects)
    place = np.where(has_before, before, np.where(who[after] == subjects, after, -1))
    return np.where(place < 0, -1, known["context"][place]).astype(np.int64)


def observed(who: Integers, readings: Rows, instants: Integers) -> tuple[Integers, Rows]:
    """What readings tell of contexts: patient numbers, and rows of dtype `KNOWN`."""
    rows = np.flatnonzero(readings["context"] >= 0)
    known = np.zeros(len(rows), KNOWN)
    known["at"], known["context"] = instants[rows], readings["context"][rows]
    return who[rows], known


def news_for(old_who: Integers, old: Rows, who: Integers, known: Rows) -> Integers:
    """Patients of whom something was learnt: a context not known before, or one earlier than all that were."""
    if not len(who):
        return np.zeros(0, np.int64)
    count = int(max(who.max(), old_who.max(initial=0))) + 1
    first = np.full(count, 2**62, np.int64)
    np.minimum.at(first, old_who, old["at"])
    size = int(max(known["context"].max(), old["context"].max(initial=0))) + 1
    unseen = ~np.isin(who * size + known["context"], old_who * size + old["context"])
    return np.unique(who[unseen | (known["at"] < first[who])])


def still_needed(who: Integers, known: Rows, bound: Integers) -> Marks:
    """Which rows to keep: those after each patient's bound, and of the older ones the newest of each context."""
    order = np.lexsort((known["at"], known["context"], who))
    sorted_who, rows = who[order], known[order]
    followed = np.zeros(len(order), np.bool_)
    followed[:-1] = (
        (sorted_who[1:] == sorted_who[:-1])
        & (rows["context"][1:] == rows["context"][:-1])
        & (rows["at"][1:] <= bound[sorted_who[1:]])
    )
    kept = np.ones(len(order), np.bool_)
    kept[order] = ~followed
    return kept
