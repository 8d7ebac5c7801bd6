"""Step 4: columns of messages to one long table of measured values, by index arithmetic. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.typed_columns import Column
from pulseweir.ingest.device_mapping.typed_objects import Flags, Places
from pulseweir.records.topics import INSTANT


@dataclass(frozen=True, slots=True)
class Identity:
    """What all rows of one template's measurements say.

    Attributes:
        type_name: The measurement type.
        matched: Messages with a measurement of this template.
        device, timestamp: Filled wherever the template matched.
        patient, encounter, correlation: None when not asked for.
    """

    type_name: str
    matched: Flags
    device: Column
    timestamp: Column
    patient: Column | None
    encounter: Column | None
    correlation: Column | None


@dataclass(frozen=True, slots=True)
class Slot:
    """One row that a matching message may get.

    Attributes:
        template: The template that makes it, as a place among the identities.
        filled: Messages that get the row.
        name: Of the value; None for the row of a measurement without values.
        value: None for that row.
    """

    template: int
    filled: Flags
    name: str | None = None
    value: Column | None = None


def long_table(messages: Places, identities: Sequence[Identity], slots: Sequence[Slot]) -> pa.Table:
    """The table of `NORMALIZED_SCHEMA`.

    Args:
        messages: Index in the batch of each message the columns are about.
        identities: Of each template that makes measurements, in mapping order.
        slots: By template, then in the order of its values.
    """
    if not slots or not len(messages):
        return NORMALIZED_SCHEMA.empty_table()
    return _LongTable(identities, slots).table(messages)


class _LongTable:
    """Where each row of a long table comes from: a message, a slot, and the template of the slot."""

    def __init__(self, identities: Sequence[Identity], slots: Sequence[Slot]) -> None:
        self._identities = identities
        self._slots = slots
        self._cells = np.flatnonzero(_side_by_side([slot.filled for slot in slots]))
        self._message = self._cells // len(slots)
        self._slot = self._cells - self._message * len(slots)
        self._template = np.array([slot.template for slot in slots])[self._slot]
        self._identity_cells = self._message * len(identities) + self._template

    def table(self, messages: Places) -> pa.Table:
        """The rows in order of message and slot."""
        identities = self._identities
        instants, instant_at = self._of_identities([identity.timestamp for identity in identities])
        values, value_at = _gathered([slot.value for slot in self._slots], self._cells, self._message)
        arrays = [
            pa.array(messages.astype(np.int32)[self._message]),
            pa.array(self._ordinals()),
            _named([identity.type_name for identity in identities], self._template),
            self._coded([identity.device for identity in identities]),
            pa.array(np.concatenate([column.instants[0] for column in instants])[instant_at]).view(INSTANT),
            self._coded([identity.patient for identity in identities]),
            self._coded([identity.encounter for identity in identities]),
            self._coded([identity.correlation for identity in identities]),
            _named([slot.name for slot in self._slots], self._slot),
            _taken([column.texts for column in values], value_at),
            _numbers([column.numbers for column in values], value_at),
        ]
        return pa.Table.from_arrays(arrays, schema=NORMALIZED_SCHEMA)

    def _ordinals(self) -> np.ndarray:
        """The place of each row's measurement in its message."""
        matched = _side_by_side([identity.matched for identity in self._identities])
        matched = matched.reshape(-1, len(self._identities))
        ordinals: np.ndarray = np.take(np.cumsum(matched, axis=1, dtype=np.int32), self._identity_cells) - 1
        return ordinals

    def _of_identities(self, columns: Sequence[Column | None]) -> tuple[list[Column], Places]:
        return _gathered(columns, self._identity_cells, self._message)

    def _coded(self, columns: Sequence[Column | None]) -> pa.Array:
        """The text each row takes of its template's column, coded."""
        different, at = self._of_identities(columns)
        texts = pa.concat_arrays([pa.array([], pa.utf8()), *(column.texts for column in different)])
        if not len(texts):
            return pa.DictionaryArray.from_arrays(pa.nulls(len(at), pa.int32()), texts)
        every = (texts.fill_null("") if texts.null_count else texts).dictionary_encode()
        return _dictionary(np.where(at < 0, -1, every.indices.to_numpy()[at]), every.dictionary)


def _gathered(columns: Sequence[Column | None], cells: Places, message: Places) -> tuple[list[Column], Places]:
    """The different columns, and where each row finds itself in all of them put together; -1 for nowhere.

    Args:
        columns: To choose from.
        cells: Message and choice of each row, as a place in a matrix of both.
        message: Which message each row is about.
    """
    different = list(dict.fromkeys(column for column in columns if column is not None))
    if not different:
        return different, np.full(len(cells), -1, np.int64)
    places: dict[Column | None, Places] = {None: np.full(len(different[0].filled), -1, np.int64)}
    start = 0
    for column in different:
        places[column] = np.where(column.told, column.places + start, -1)
        start += len(column.texts)
    if len(different) == 1 and None not in columns:
        return different, places[different[0]][message]
    return different, _side_by_side([places[column] for column in columns])[cells]


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """A matrix with a row for each message, row after row."""
    return np.ascontiguousarray(np.array(columns).T).ravel()


def _dictionary(codes: np.ndarray, texts: pa.StringArray) -> pa.Array:
    """Coded texts, null for a negative code."""
    missing = codes < 0
    coded = pa.array(codes.astype(np.int32), mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(coded, texts)


def _named(names: Sequence[str | None], choice: Places) -> pa.Array:
    """The name each row takes, coded."""
    known = list(dict.fromkeys(name for name in names if name is not None))
    codes = np.array([-1 if name is None else known.index(name) for name in names])
    return _dictionary(codes[choice], pa.array(known, pa.utf8()))


def _taken(texts: Sequence[pa.StringArray], at: Places) -> pa.Array:
    every = pa.concat_arrays([*texts, pa.nulls(1, pa.string())])
    return every.take(pa.array(np.where(at < 0, len(every) - 1, at)))


def _numbers(numbers: Sequence[np.ndarray], at: Places) -> pa.Array:
    """The numbers; not-a-number, and the last of all for -1, become null."""
    every = np.concatenate([*numbers, np.array([np.nan])])
    return pa.array(every[at], from_pandas=True)
