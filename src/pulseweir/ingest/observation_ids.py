"""Step 5c: the ids of many Observations at once, the same that `grouping` gives one by one. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pulseweir.ingest.grouping import SINGLE, TICKS_A_MICROSECOND, boundary, identifier_value, segment
from pulseweir.records.codes import SERVICE_SYSTEM

Integers = npt.NDArray[np.int64]
_SECOND = 1_000_000


def resource_ids(
    prefixes: Sequence[tuple[str, str, str]], parts: Sequence[str], pairs: Iterable[tuple[int, int]]
) -> list[str]:
    """The ids of Observations; what is common to many is hashed once.

    Args:
        prefixes: Patient id, Device id and measurement type.
        parts: Segments.
        pairs: For each Observation the places of its prefix and of its segment.

    >>> from pulseweir.ingest.grouping import resource_id
    >>> resource_ids([("p", "d", "t")], ["s"], [(0, 0)]) == [resource_id("p.d.t.s")]
    True
    """
    begun = [_begun(*prefix) for prefix in prefixes]
    ends = [part.encode() for part in parts]
    ids = []
    for prefix, part in pairs:
        one = begun[prefix].copy()
        one.update(ends[part])
        ids.append(one.hexdigest())
    return ids


@lru_cache(maxsize=16_384)
def _begun(patient_id: str, device_id: str, type_name: str) -> "hashlib._Hash":
    """A hash of what comes before the segment; for copying only."""
    return hashlib.sha256(f"{SERVICE_SYSTEM}_{identifier_value(patient_id, device_id, type_name, '')}".encode())


def segments(interval: int, occurred_at: Integers) -> tuple[list[str], Integers]:
    """The different segments of instants, and for each instant the place of its own.

    Args:
        interval: Single, Hourly or Daily.
        occurred_at: Microseconds since 1970 UTC, in the years 1 to 9999.
    """
    if interval == SINGLE:
        instants, place = np.unique(occurred_at, return_inverse=True)
        return [f"{text}.{text}" for text in _compact(instants)], place
    length = interval * 60 * _SECOND
    starts, place = np.unique(occurred_at // length * length, return_inverse=True)
    ticks = [boundary(interval, start * TICKS_A_MICROSECOND)[0] for start in starts.tolist()]
    return [segment(interval, tick, None) for tick in ticks], place


def _compact(instants: Integers) -> list[str]:
    """`20300101000000.5Z` for each instant."""
    seconds, fractions = np.divmod(instants, _SECOND)
    texts = np.datetime_as_string(seconds.astype("M8[s]")).tolist()
    return [
        f"{text[:4]}{text[5:7]}{text[8:10]}{text[11:13]}{text[14:16]}{text[17:]}"
        + (f".{fraction:06d}".rstrip("0") if fraction else "")
        + "Z"
        for text, fraction in zip(texts, fractions.tolist(), strict=True)
    ]
