"""Step 4: one member of a batch of messages as texts, numbers and instants, exactly as its tokens become them. Pure."""

from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from pulseweir.ingest.device_mapping.tokens import ExpressionFault, instant_of, number_of, render
from pulseweir.ingest.device_mapping.typed_instants import Microseconds, instants_of
from pulseweir.ingest.device_mapping.typed_objects import Flags, Places

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
# Between these, Arrow writes a float as `render` does.
_PLAIN_FROM = 1e-4
_PLAIN_BELOW = 1e9
_BITS = 64


class Column:
    """One member of every message of a batch.

    Attributes:
        filled: Which messages have it, and not null.
        places: Row of `texts` and `numbers` by message; meaningless where it is not filled.
    """

    def __init__(self, values: Sequence[object]) -> None:
        """Take the values.

        Args:
            values: By message; UNSET for none.
        """
        self.filled: Flags = np.ones(len(values), np.bool_)
        self.places: Places = np.arange(len(values), dtype=np.int64)
        self._values = values
        self._strings: pa.StringArray | None = None
        self._numbers: np.ndarray | None = None
        kind = type(values[0]) if values else str
        if kind is str:
            self._strings = _strings(values)
        elif kind is int or kind is float:
            self._numbers = _numbers(values, booleans=True)
        if self._strings is None and self._numbers is None:
            self._settle()

    def _settle(self) -> None:
        """Drop the missing values, then see whether the others have one type."""
        kinds = set(map(type, self._values))
        if type(None) in kinds or type(UNSET) in kinds:
            self.filled = np.array([value is not None and value is not UNSET for value in self._values], np.bool_)
            self.places = np.cumsum(self.filled) - 1
            self._values = list(compress(self._values, self.filled))
            kinds -= {type(None), type(UNSET)}
        if kinds <= {str}:
            self._strings = _strings(self._values)
        elif kinds <= {int, float}:
            self._numbers = _numbers(self._values)

    @cached_property
    def texts(self) -> pa.StringArray:
        """The rendered values, one row for each message that is filled; null where a value has no text."""
        if self._strings is not None:
            return self._strings
        if self._numbers is None:
            return pa.array([_rendered(value) for value in self._values], pa.string())
        texts = pa.array(self._numbers).cast(pa.string())
        if self._numbers.dtype.kind == "i":
            return texts
        size = np.abs(self._numbers)
        is_plain = (size < _PLAIN_BELOW) & ((size >= _PLAIN_FROM) | (size == 0))
        odd = np.flatnonzero(~is_plain)
        if not odd.size:
            return texts
        written = texts.to_pylist()
        for place in odd.tolist():
            written[place] = render(self._values[place])
        return pa.array(written, pa.string())

    @cached_property
    def numbers(self) -> Numbers:
        """The number each text means, not-a-number for none; rows as `texts`."""
        if self._numbers is not None:
            numbers = self._numbers.astype(np.float64)
            return np.where(np.isfinite(numbers), numbers, np.nan)
        texts = self.texts.to_pylist()
        meant = {text: None if text is None else number_of(text) for text in set(texts)}
        return np.array([np.nan if meant[text] is None else meant[text] for text in texts], np.float64)

    @cached_property
    def blank(self) -> Flags:
        """Messages whose value has no text, or one of nothing but white space."""
        if self._numbers is not None:
            return ~self.filled
        texts: Sequence[Any] = self.texts.to_pylist() if self._strings is None else self._values
        if None not in texts and all(map(str.strip, texts)):
            return ~self.filled
        return self._failing([text is None or not text.strip() for text in texts])

    @cached_property
    def huge(self) -> Flags:
        """Messages with an integer of more than 64 bits, which may be long to write out."""
        if self._strings is not None or self._numbers is not None:
            return np.zeros(len(self.filled), np.bool_)
        return (
            self._failing([type(value) is int and value.bit_length() > _BITS for value in self._values]) & self.filled
        )

    @cached_property
    def told(self) -> Flags:
        """Messages that have a value with a text."""
        if not self.texts.null_count:
            return self.filled
        return ~self._failing([text is None for text in self.texts.to_pylist()])

    @cached_property
    def instants(self) -> tuple[Microseconds, Flags]:
        """Microseconds since 1970 UTC, rows as `texts`, and which messages have none."""
        if self._strings is not None:
            instants, bad = instants_of(self._strings)
        else:
            pairs = [_instant(value) for value in self._values]
            instants = np.array([instant for instant, _ in pairs], np.int64)
            bad = np.array([is_bad for _, is_bad in pairs], np.bool_)
        return instants, self._failing(bad)

    def _failing(self, rows: Sequence[bool] | Flags) -> Flags:
        """From which rows fail to which messages do, those without a row among them."""
        failing: Flags = np.ones(len(self.filled), np.bool_)
        failing[self.filled] = rows
        return failing


def _strings(values: Sequence[object]) -> pa.StringArray | None:
    """The values as texts; None when they are not all texts."""
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowException, TypeError):
        return None
    return None if texts.null_count else texts


def _numbers(values: Sequence[object], *, booleans: bool = False) -> np.ndarray | None:
    """The values as 64-bit integers or floats; None when they are something else.

    Args:
        values: Not empty.
        booleans: Whether one of them may be true or false, which would look like 1 or 0.
    """
    try:
        numbers = np.array(values)
    except (OverflowError, ValueError):
        return None
    if numbers.dtype.kind not in "if" or (booleans and ((numbers == 0) | (numbers == 1)).any()):
        return None
    return numbers


def _rendered(value: object) -> str | None:
    try:
        return render(value)
    except ExpressionFault:
        return None


def _instant(value: object) -> tuple[int, bool]:
    try:
        return instant_of(value), False
    except ExpressionFault:
        return 0, True
