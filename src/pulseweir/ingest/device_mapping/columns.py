"""Step 4: the rows that generated source makes, one tuple a measurement, to the columns of a table. Pure.

Values stay numbers until here, so that a whole column of them becomes text at once. Every text is what
`tokens.render` makes of the same number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.timestamps import instants
from pulseweir.ingest.device_mapping.tokens import number_of, render
from pulseweir.records.topics import INSTANT

Row = tuple[object, ...]
Integers = npt.NDArray[np.int64]
_PLAIN_FROM, _PLAIN_BELOW = 1e-4, 1e10  # between them Arrow writes a number as `render` does


class Layout(NamedTuple):
    """What the rows of one template hold: message, device id, moment, then these.

    Attributes:
        type_name: The measurement type.
        identities: Which of correlation_id, patient_id and encounter_id follow, in that order.
        names: The value names that follow, in template order; a name may stand twice.
    """

    type_name: str
    identities: tuple[str, ...]
    names: tuple[str, ...]


class Columns(NamedTuple):
    """The values of one value name: text and number of each measurement of its template, null where it has none."""

    texts: pa.Array
    numbers: npt.NDArray[np.float64]


class Rows(NamedTuple):
    """The rows of every template that made any, side by side."""

    layouts: list[Layout]
    columns: list[list[Sequence[object]]]

    def column(self, place: int) -> list[object]:
        """One of the first columns, over all templates."""
        return [cell for columns in self.columns for cell in columns[place]]

    def identity(self, name: str) -> list[object]:
        """An optional identity over all templates; None where a template has no such field."""
        cells: list[object] = []
        for layout, columns in zip(self.layouts, self.columns, strict=True):
            if name in layout.identities:
                cells += columns[3 + layout.identities.index(name)]
            else:
                cells += [None] * len(columns[0])
        return cells


def to_table(layouts: Sequence[Layout], rows: list[list[Row]]) -> tuple[pa.Table, set[int]]:
    """The rows as a table of `NORMALIZED_SCHEMA`, and the messages whose timestamps are none.

    Args:
        layouts: Of each template.
        rows: Of each template, ordered by message and match; those of messages without a timestamp are taken out.
    """
    undated: set[int] = set()
    while True:
        made = _side_by_side(layouts, rows)
        if not made.layouts:
            return NORMALIZED_SCHEMA.empty_table(), undated
        moments, bad = instants(made.column(2))
        if not bad:
            return _table(made, moments), undated
        messages = made.column(0)
        undated |= {messages[place] for place in bad}  # type: ignore[misc]
        for each in rows:
            each[:] = [row for row in each if row[0] not in undated]


def _side_by_side(layouts: Sequence[Layout], rows: list[list[Row]]) -> Rows:
    used = [number for number, each in enumerate(rows) if each]
    return Rows([layouts[number] for number in used], [list(zip(*rows[number], strict=True)) for number in used])


def _table(rows: Rows, moments: Integers) -> pa.Table:
    messages = np.array(rows.column(0), np.int64)
    order = np.argsort(messages, kind="stable")
    counts, source, names, values = _properties(rows, order)
    at = np.repeat(order, counts[order])
    ordered = messages[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    places = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    arrays = {
        "message": pa.array(messages[at].astype(np.int32)),
        "measurement": pa.array(np.repeat(places, counts[order]).astype(np.int32)),
        "type": _types(rows, at),
        "device_id": _names(rows.column(1), at),
        "occurred_at": pa.array(moments[at]).cast(INSTANT),
        "name": names,
        "text": values.texts.take(pa.array(source)),
        "number": pa.array(values.numbers[source], mask=np.isnan(values.numbers[source])),
    }
    for name in ("patient_id", "encounter_id", "correlation_id"):
        arrays[name] = _names(rows.identity(name), at)
    return pa.Table.from_arrays([arrays[name] for name in NORMALIZED_SCHEMA.names], schema=NORMALIZED_SCHEMA)


def _types(rows: Rows, at: Integers) -> pa.Array:
    known = list(dict.fromkeys(layout.type_name for layout in rows.layouts))
    codes = [known.index(layout.type_name) for layout in rows.layouts]
    sizes = [len(columns[0]) for columns in rows.columns]
    return pa.DictionaryArray.from_arrays(np.repeat(np.array(codes, np.int32), sizes)[at], pa.array(known, pa.utf8()))


def _names(cells: list[object], at: Integers) -> pa.Array:
    encoded = pa.array(cells, pa.utf8()).dictionary_encode()
    return encoded.take(pa.array(at))


def _properties(rows: Rows, order: Integers) -> tuple[Integers, Integers, pa.Array, Columns]:
    """How many rows each measurement has, where each row's value lies, the names, and all values side by side."""
    known = list(dict.fromkeys(name for layout in rows.layouts for name in layout.names))
    parts: list[tuple[int, int, Columns]] = []
    counts = np.zeros(len(order), np.int64)
    begin = 0
    for layout, columns in zip(rows.layouts, rows.columns, strict=True):
        size = len(columns[0])
        for name, cells in zip(layout.names, columns[3 + len(layout.identities) :], strict=True):
            made = value_columns(cells)
            parts.append((begin, known.index(name), made))
            counts[begin : begin + size] += _present(made)
        begin += size
    empty = Columns(pa.nulls(1, pa.utf8()), np.array([np.nan]))
    values = _joined([*(made for _, _, made in parts), empty])
    counts = np.maximum(counts, 1)
    next_row = np.empty(len(order), np.int64)
    next_row[order] = np.cumsum(counts[order]) - counts[order]
    source = np.full(int(counts.sum()), len(values.texts) - 1)
    codes = np.full(len(source), -1, np.int32)
    offset = 0
    for begin, code, made in parts:
        size = len(made.texts)
        present = np.flatnonzero(_present(made))
        target = next_row[begin : begin + size]
        source[target[present]] = present + offset
        codes[target[present]] = code
        target[present] += 1
        offset += size
    names = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(known, pa.utf8()))
    return counts, source, names, values


def _present(made: Columns) -> npt.NDArray[np.bool_]:
    present: npt.NDArray[np.bool_] = made.texts.is_valid().to_numpy(zero_copy_only=False)
    return present


def _joined(parts: list[Columns]) -> Columns:
    return Columns(pa.concat_arrays([part.texts for part in parts]), np.concatenate([part.numbers for part in parts]))


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
    numbers = pc.fill_null(column, 0).to_numpy().astype(np.float64)
    return Columns(column.cast(pa.utf8()), _without(column, numbers))


def _floats(cells: Sequence[object]) -> Columns:
    column = pa.array(cells, pa.float64())
    numbers = pc.fill_null(column, 0.0).to_numpy()
    sizes = np.abs(numbers)
    is_plain = ((sizes >= _PLAIN_FROM) & (sizes < _PLAIN_BELOW)) | (sizes == 0)
    if not is_plain.all():
        return _mixed(cells)
    return Columns(column.cast(pa.utf8()), _without(column, numbers))


def _texts(cells: Sequence[object]) -> Columns:
    column = pa.array(cells, pa.utf8())
    encoded = column.dictionary_encode()
    meanings = [number_of(text) for text in encoded.dictionary.to_pylist()]
    numbers = np.array([np.nan if number is None else number for number in meanings] + [np.nan])
    return Columns(column, numbers[pc.fill_null(encoded.indices, -1).to_numpy()])


def _mixed(cells: Sequence[object]) -> Columns:
    return _texts([None if cell is None else render(cell) for cell in cells])


def _without(column: pa.Array, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (
        numbers
        if column.null_count == 0
        else np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, numbers)
    )


_MAKERS: dict[type, Callable[[Sequence[object]], Columns]] = {int: _integers, float: _floats, str: _texts}
