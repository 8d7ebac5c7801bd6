"""Steps 8 and 10: the quality of each measurement by itself and by what was measured with it. Pure."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.consciousness import LETTERS, letter_of
from pulseweir.scoring.quality import (
    FUTURE,
    FUTURE_TOLERANCE_MICROSECONDS,
    GOOD,
    IMPOSSIBLE,
    SUSPECT,
    VITAL_INDEX,
    contradicting_pressures,
    normalise,
    range_quality,
)

Integers = npt.NDArray[np.int64]


def judge(measurements: pa.Table) -> Integers:
    """Quality of each measurement, as places in `QUALITIES`; what earlier readings say is left to scoring.

    A clock far ahead hides what else there is to say; `judge_values` says it.
    """
    ahead = (
        instants(measurements["occurred_at"]) > instants(measurements["received_at"]) + FUTURE_TOLERANCE_MICROSECONDS
    )
    return np.where(ahead, FUTURE, judge_values(measurements))


def judge_values(measurements: pa.Table) -> Integers:
    """Quality of each measurement whatever its instants; a text about consciousness not understood is impossible."""
    codes, words = coded(measurements["code"])
    vitals = [VITAL_INDEX[VITAL_BY_LOINC[word].name] if word in VITAL_BY_LOINC else -1 for word in words]
    vital = np.array([*vitals, -1], np.int64)[codes]
    number = np.array(pc.fill_null(measurements["number"], np.nan).to_numpy(), np.float64)
    quality = np.full(len(vital), GOOD, np.int64)
    known = vital >= 0
    quality[known] = range_quality(vital[known], number[known])
    spoken = np.flatnonzero(vital == VITAL_INDEX["consciousness"])
    quality[spoken] = np.where(consciousness_letters(measurements["text"], spoken) < 0, IMPOSSIBLE, GOOD)
    guessed = np.zeros(len(vital), np.bool_)
    guessed[known] = normalise(vital[known], number[known]).guessed
    implausible = np.array(pc.fill_null(measurements["implausible"], False), np.bool_)
    quality[implausible & ~guessed] = IMPOSSIBLE
    # What is impossible by itself says nothing against the others.
    possible = np.where(quality == IMPOSSIBLE, np.nan, number)
    crossed = contradicting_pressures(_same_reading(measurements), vital, possible)
    quality[crossed & (quality == GOOD)] = SUSPECT
    return quality


def consciousness_letters(text: pa.ChunkedArray, rows: Integers) -> Integers:
    """Place in `LETTERS` of the text of each of some rows; -1 where it is not understood."""
    if not len(rows):
        return np.zeros(0, np.int64)
    codes, words = coded(text.take(pa.array(rows)))
    letters = [letter_of(word) for word in words]
    return np.array([*(-1 if letter is None else LETTERS.index(letter) for letter in letters), -1], np.int64)[codes]


def coded(column: pa.ChunkedArray) -> tuple[Integers, list[str]]:
    """A column of words as numbers into a list of its words; -1, which is also the last place, for null."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.utf8())
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    return np.array(whole.indices.fill_null(-1), np.int64), whole.dictionary.to_pylist()


def instants(column: pa.ChunkedArray) -> Integers:
    """A column of instants as microseconds."""
    return np.array(column.cast(pa.int64()), np.int64)


def _same_reading(measurements: pa.Table) -> Integers:
    """Equal numbers for rows of one device, type and instant."""
    group = np.zeros(measurements.num_rows, np.int64)
    for column in (
        coded(measurements["device_id"])[0],
        coded(measurements["type"])[0],
        instants(measurements["occurred_at"]),
    ):
        _, place = np.unique(column, return_inverse=True)
        _, group = np.unique(group * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    return group.astype(np.int64)
