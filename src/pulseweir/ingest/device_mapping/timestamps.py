"""Step 4: many timestamps at once. Pure.

The common form ``2030-01-02T03:04:05Z``, with up to six digits of a second, is read by Arrow, column by column; any
other goes through `tokens.parse_instant`, which both equal.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.ingest.device_mapping.tokens import ExpressionFault, parse_instant

_FORM: Final = "0000-00-00T00:00:00"
_MARKS: Final = [place for place, character in enumerate(_FORM) if character != "0"]
_DIGITS: Final = [place for place, character in enumerate(_FORM) if character == "0"]
_KIND: Final = pa.timestamp("us", tz="UTC")


def instants(tokens: Sequence[object]) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Microseconds since 1970 UTC of date texts (or microseconds as they are), and the places of those that are none.

    >>> instants(["1970-01-01T00:00:01Z", 5, "soon"])
    (array([1000000,       5,       0]), [2])
    """
    quick = _quick(tokens)
    if quick is not None:
        return quick, []
    known: dict[object, int | None] = {}
    for token in tokens:
        if token not in known:
            known[token] = _one(token)
    found = [known[token] for token in tokens]
    bad = [place for place, moment in enumerate(found) if moment is None]
    return np.array([moment or 0 for moment in found], np.int64), bad


def _one(token: object) -> int | None:
    if not isinstance(token, str):
        return token if isinstance(token, int) else None
    try:
        return parse_instant(token)
    except ExpressionFault:
        return None


def _quick(tokens: Sequence[object]) -> npt.NDArray[np.int64] | None:
    """All at once, when all are texts of the common form and of one length."""
    try:
        column = pa.array(tokens, pa.utf8())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    width = len(tokens[0]) if tokens and isinstance(tokens[0], str) else 0
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32, len(tokens) + 1)
    if not 20 <= width <= 27 or width == 21 or column.null_count or (np.diff(ends) != width).any():
        return None
    letters = np.frombuffer(data, np.uint8, len(tokens) * width).reshape(-1, width)
    marks = np.frombuffer(("--T::" + ("." if width > 20 else "") + "Z").encode(), np.uint8)
    places = [*_MARKS, *([19] if width > 20 else []), width - 1]
    digits = [*_DIGITS, *range(20, width - 1)]
    if (
        (letters[:, places] != marks).any()
        or (letters[:, digits] - 48 > 9).any()
        or (letters[:, :4] == 48).all(1).any()
    ):
        return None
    try:
        moments: npt.NDArray[np.int64] = column.cast(_KIND).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    return moments
