"""Step 4: a column of date texts to instants, as `parse_instant` reads each. Pure."""

import numpy as np
import pyarrow as pa

from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, ExpressionFault, parse_instant
from pulseweir.ingest.device_mapping.typed_objects import Flags

Microseconds = np.ndarray[tuple[int], np.dtype[np.int64]]
_SECONDS = "0000-00-00T00:00:00"
_OFFSET = "+00:00"
_ZONES = {"Z", "+00:00", "-00:00"}
# None, or a point with one to six digits.
_FRACTIONS = (0, 2, 3, 4, 5, 6, 7)
_ANY_DIGIT = ord("0")
_LENGTHS = range(len(_SECONDS) + 1, len(_SECONDS) + len(_OFFSET) + 8)
_INSTANT = pa.timestamp("us", "UTC")


def instants_of(texts: pa.StringArray) -> tuple[Microseconds, Flags]:
    """Microseconds since 1970 UTC of each text, and which texts are no instant."""
    instants = np.zeros(len(texts), np.int64)
    bad = np.zeros(len(texts), np.bool_)
    lengths = np.diff(np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4))
    for length in np.unique(lengths).tolist():
        same = lengths == length
        group = texts if same.all() else texts.filter(pa.array(same))
        instants[same], bad[same] = _of_one_length(group, length)
    return instants, bad


def _of_one_length(texts: pa.StringArray, length: int) -> tuple[Microseconds, Flags]:
    if length in _LENGTHS and _is_laid_out(texts, length):
        try:
            instants = texts.cast(_INSTANT).view(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            pass
        else:
            if instants.min() >= FIRST_INSTANT and instants.max() <= LAST_INSTANT:
                return instants, np.zeros(len(texts), np.bool_)
    return _one_by_one(texts)


def _one_by_one(texts: pa.StringArray) -> tuple[Microseconds, Flags]:
    instants = np.zeros(len(texts), np.int64)
    bad = np.zeros(len(texts), np.bool_)
    for place, text in enumerate(texts.to_pylist()):
        try:
            instants[place] = parse_instant(text)
        except ExpressionFault:
            bad[place] = True
    return instants, bad


def _is_laid_out(texts: pa.StringArray, length: int) -> bool:
    """Whether every text is a date, a time to the second or finer, and Z or an offset, digit by digit."""
    start = np.frombuffer(texts.buffers()[1], np.int32, 1, texts.offset * 4)[0]
    letters = np.frombuffer(texts.buffers()[2], np.uint8, length * len(texts), start).reshape(len(texts), length)
    layout = _layout(length, "Z" if letters[0, -1] == ord("Z") else f"{chr(letters[0, -len(_OFFSET)])}{_OFFSET[1:]}")
    if layout is None:
        return False
    is_digit = layout == _ANY_DIGIT
    digits = letters[:, is_digit] - np.uint8(_ANY_DIGIT)
    return bool((digits < 10).all() and (letters[:, ~is_digit] == layout[~is_digit]).all())


def _layout(length: int, zone: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | None:
    """The characters of an instant of some length, 0 for any digit; None when there is none of that length."""
    fraction = length - len(_SECONDS) - len(zone)
    if zone not in _ZONES or fraction not in _FRACTIONS:
        return None
    point = "." + "0" * (fraction - 1) if fraction else ""
    return np.frombuffer(f"{_SECONDS}{point}{zone}".encode(), np.uint8)
