"""Step 4: the columns that generated source fills, to the columns of a table. Pure.

Values stay numbers until here, so that a whole column of them becomes text at once. Every text is what
`tokens.render` makes of the same number.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.budget import text_steps
from pulseweir.ingest.device_mapping.timestamps import instants
from pulseweir.ingest.device_mapping.tokens import number_of, render
from pulseweir.records.topics import INSTANT

Cells = list[object]
Integers = npt.NDArray[np.int64]
_PLAIN_FROM, _PLAIN_BELOW = 1e-4, 1e10  # between them Arrow writes a number as `render` does


class Layout(NamedTuple):
    """What the columns of one template hold.

    Attributes:
        type_name: The measurement type.
        identities: Which of correlation_id, patient_id and encounter_id come first, in that order.
        names: The value names that follow, in template order; a name may stand twice.
    """

    type_name: str
    identities: tuple[str, ...]
    names: tuple[str, ...]


class Rows:
    """Measurements as they are found, column by column.

    Templates that read device and instant alike share them: these stand once a match, and measurements point to them.

    Attributes:
        devices: Device ids.
        moments: Date texts, or microseconds since 1970 UTC, one for each device id.
        heads: For each measurement the place of its device id.
        codes: For each measurement the number of its template.
        own: For each template its identities and values.
        messages: The messages that are complete.
        ends: For each of them how many measurements there are up to its end.
    """

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self.layouts = layouts
        self.devices: Cells = []
        self.moments: Cells = []
        self.heads = array("q")
        self.codes = array("q")
        self.own: list[list[Cells]] = [[[] for _ in (*layout.identities, *layout.names)] for layout in layouts]
        self.messages = array("q")
        self.ends = array("q")

    def appends(self) -> list[Callable[..., None]]:
        """What generated source is bound to."""
        shared = (self.devices, self.moments, self.heads, self.codes)
        return [*(column.append for column in shared), *(column.append for each in self.own for column in each)]

    def complete(self, message: int) -> None:
        """Note that a message has all of its measurements."""
        self.messages.append(message)
        self.ends.append(len(self.codes))

    def uncomplete(self) -> None:
        """Take back that the last message is complete."""
        self.messages.pop()
        self.ends.pop()

    def forget(self, devices: int) -> None:
        """Drop what was found since the last complete message, when there were so many device ids."""
        before = self.ends[-1] if self.ends else 0
        for code in self.codes[before:]:
            for column in self.own[code]:
                column.pop()
        del self.codes[before:], self.heads[before:], self.devices[devices:], self.moments[devices:]

    def text_steps(self) -> int:
        """What the interpreter pays for the texts and large integers of the last complete message."""
        before = self.ends[-2] if len(self.ends) > 1 else 0
        cells = [self.devices[head] for head in self.heads[before:]]
        for code in set(self.codes[before:]):
            size = self.codes[before:].count(code)
            cells += [cell for column in self.own[code] for cell in column[-size:]]
        return sum(map(text_steps, cells))


class Columns(NamedTuple):
    """The values of one value name: text and number of each measurement of its template, null where it has none."""

    texts: pa.Array
    numbers: npt.NDArray[np.float64]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which of them are there."""
        found: npt.NDArray[np.bool_] = self.texts.is_valid().to_numpy(zero_copy_only=False)
        return found


class _Places(NamedTuple):
    """Where measurements go: the template of each, how many rows it has, and the first of them."""

    codes: Integers
    counts: Integers
    first: Integers


def to_table(rows: Rows) -> tuple[pa.Table, set[int]]:
    """The measurements as a table of `NORMALIZED_SCHEMA`, and the messages of which a timestamp is none.

    Those messages are not in the table: whoever refuses them knows why.
    """
    if not rows.codes:
        return NORMALIZED_SCHEMA.empty_table(), set()
    moments, bad = instants(rows.moments)
    heads = np.frombuffer(rows.heads, np.int64)
    ends: Integers = np.frombuffer(rows.ends, np.int64)
    sizes = ends - np.concatenate(([0], ends[:-1]))
    messages = np.repeat(np.frombuffer(rows.messages, np.int64), sizes)
    if not bad:
        return _table(rows, messages, moments[heads], heads), set()
    undated = messages[np.isin(heads, bad)]
    table = _table(rows, messages, moments[heads], heads)
    kept = ~np.isin(table["message"].to_numpy(), undated)
    return table.filter(pa.array(kept)), set(undated.tolist())


def _table(rows: Rows, messages: Integers, moments: Integers, heads: Integers) -> pa.Table:
    codes = np.frombuffer(rows.codes, np.int64)
    used = np.flatnonzero(np.bincount(codes)).tolist()
    values = {code: [value_columns(cells) for cells in _value_cells(rows, code)] for code in used}
    counts = np.zeros(len(codes), np.int64)
    for code in used:
        if values[code]:
            counts[codes == code] = sum(made.present.astype(np.int64) for made in values[code])
    counts = np.maximum(counts, 1)
    places = _Places(codes, counts, np.cumsum(counts) - counts)
    at = np.repeat(np.arange(len(codes)), counts)
    begins = np.flatnonzero(np.concatenate(([True], messages[1:] != messages[:-1])))
    ordinals = np.arange(len(codes)) - np.repeat(begins, np.diff(np.append(begins, len(codes))))
    arrays = {
        "message": pa.array(messages[at].astype(np.int32)),
        "measurement": pa.array(ordinals[at].astype(np.int32)),
        "type": _types(rows.layouts, codes, at),
        "device_id": pa.array(rows.devices, pa.utf8()).dictionary_encode().take(pa.array(heads[at])),
        "occurred_at": pa.array(moments[at]).cast(INSTANT),
    }
    arrays |= _properties(rows.layouts, places, values)
    for name in ("patient_id", "encounter_id", "correlation_id"):
        arrays[name] = _identities(rows, name, codes, at)
    return pa.Table.from_arrays([arrays[name] for name in NORMALIZED_SCHEMA.names], schema=NORMALIZED_SCHEMA)


def _value_cells(rows: Rows, code: int) -> list[Cells]:
    return rows.own[code][len(rows.layouts[code].identities) :]


def _types(layouts: Sequence[Layout], codes: Integers, at: Integers) -> pa.Array:
    known = list(dict.fromkeys(layout.type_name for layout in layouts))
    numbers = np.array([known.index(layout.type_name) for layout in layouts], np.int32)
    return pa.DictionaryArray.from_arrays(numbers[codes][at], pa.array(known, pa.utf8()))


def _identities(rows: Rows, name: str, codes: Integers, at: Integers) -> pa.Array:
    cells = np.full(len(codes), None, object)
    for code, layout in enumerate(rows.layouts):
        if name in layout.identities:
            cells[codes == code] = rows.own[code][layout.identities.index(name)]
    if not any(name in layout.identities for layout in rows.layouts):
        return pa.DictionaryArray.from_arrays(pa.nulls(len(at), pa.int32()), pa.array([], pa.utf8()))
    return pa.array(cells, pa.utf8()).dictionary_encode().take(pa.array(at))


def _properties(layouts: Sequence[Layout], places: _Places, values: dict[int, list[Columns]]) -> dict[str, pa.Array]:
    """The columns name, text and number: each value goes to the next row of its measurement."""
    known = list(dict.fromkeys(name for layout in layouts for name in layout.names))
    parts = [made for each in values.values() for made in each]
    texts = pa.concat_arrays([pa.nulls(1, pa.utf8()), *(made.texts for made in parts)])
    numbers = np.concatenate([np.array([np.nan]), *(made.numbers for made in parts)])
    source = np.zeros(int(places.counts.sum()), np.int64)
    names = np.full(len(source), -1, np.int32)
    offset = 1
    for code, each in values.items():
        target = places.first[places.codes == code]
        for name, made in zip(layouts[code].names, each, strict=True):
            present = np.flatnonzero(made.present)
            source[target[present]] = present + offset
            names[target[present]] = known.index(name)
            target[present] += 1
            offset += len(made.texts)
    chosen = numbers[source]
    return {
        "name": pa.DictionaryArray.from_arrays(pa.array(names, mask=names < 0), pa.array(known, pa.utf8())),
        "text": texts.take(pa.array(source)),
        "number": pa.array(chosen, mask=np.isnan(chosen)),
    }


def value_columns(cells: Sequence[object]) -> Columns:
    """Texts and numbers of the values of one name: texts, integers and floats in any mixture, None for none."""
    kinds = set(map(type, cells)) - {type(None)}
    make = _MAKERS.get(kinds.pop(), _mixed) if len(kinds) == 1 else _mixed
    return make(cells)


def _integers(cells: Sequence[object]) -> Columns:
    try:
        column = pa.array(cells, pa.int64())
    except OverflowError:
        return _mixed(cells)
    return Columns(column.cast(pa.utf8()), _numbers(column, column.fill_null(0).to_numpy().astype(np.float64)))


def _floats(cells: Sequence[object]) -> Columns:
    column = pa.array(cells, pa.float64())
    numbers = column.fill_null(0.0).to_numpy()
    sizes = np.abs(numbers)
    is_plain = ((sizes >= _PLAIN_FROM) & (sizes < _PLAIN_BELOW)) | (sizes == 0)
    return Columns(column.cast(pa.utf8()), _numbers(column, numbers)) if is_plain.all() else _mixed(cells)


def _texts(cells: Sequence[object]) -> Columns:
    column = pa.array(cells, pa.utf8())
    encoded = column.dictionary_encode()
    meanings = [number_of(text) for text in encoded.dictionary.to_pylist()]
    numbers = np.array([np.nan if number is None else number for number in meanings] + [np.nan])
    return Columns(column, numbers[encoded.indices.fill_null(-1).to_numpy()])


def _mixed(cells: Sequence[object]) -> Columns:
    return _texts([None if cell is None else render(cell) for cell in cells])


def _numbers(column: pa.Array, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if column.null_count == 0:
        return numbers
    return np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, numbers)


_MAKERS: dict[type, Callable[[Sequence[object]], Columns]] = {int: _integers, float: _floats, str: _texts}
