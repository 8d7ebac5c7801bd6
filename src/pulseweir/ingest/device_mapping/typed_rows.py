"""Step 4: columns of messages to one long table of measured values, by index arithmetic. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pulseweir.ingest.device_mapping.batch_schema import NORMALIZED_SCHEMA
from pulseweir.ingest.device_mapping.typed_columns import Column, Places
from pulseweir.ingest.device_mapping.typed_objects import Flags
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
    row, slot = np.nonzero(np.column_stack([slot.filled for slot in slots]))
    template = np.array([slot.template for slot in slots])[slot]
    matched = np.column_stack([identity.matched for identity in identities])
    instants, at = _gathered([identity.timestamp for identity in identities], row, template)
    values, value_at = _gathered([slot.value for slot in slots], row, slot)

    def coded(columns: Sequence[Column | None]) -> pa.Array:
        return _coded(columns, row, template)

    arrays = [
        pa.array(messages[row], pa.int32()),
        pa.array((np.cumsum(matched, axis=1, dtype=np.int32) - 1)[row, template], pa.int32()),
        _named([identity.type_name for identity in identities], template),
        coded([identity.device for identity in identities]),
        pa.array(np.concatenate([column.instants[0] for column in instants])[at]).view(INSTANT),
        coded([identity.patient for identity in identities]),
        coded([identity.encounter for identity in identities]),
        coded([identity.correlation for identity in identities]),
        _named([slot.name for slot in slots], slot),
        _taken([column.texts for column in values], value_at),
        _numbers([column.numbers for column in values], value_at),
    ]
    return pa.Table.from_arrays(arrays, schema=NORMALIZED_SCHEMA)


def _gathered(columns: Sequence[Column | None], row: Places, choice: Places) -> tuple[list[Column], Places]:
    """The different columns, and where each row finds itself in all of them put together; -1 for nowhere.

    Args:
        columns: To choose from.
        row: Which message each row is about.
        choice: Which column each row takes.
    """
    different = list(dict.fromkeys(column for column in columns if column is not None))
    if not different:
        return different, np.full(len(row), -1, np.int64)
    places: dict[Column | None, Places] = {None: np.full(len(different[0].filled), -1, np.int64)}
    start = 0
    for column in different:
        places[column] = np.where(column.told, column.places + start, -1)
        start += len(column.texts)
    if len(different) == 1 and None not in columns:
        return different, places[different[0]][row]
    return different, np.column_stack([places[column] for column in columns])[row, choice]


def _coded(columns: Sequence[Column | None], row: Places, choice: Places) -> pa.Array:
    different, at = _gathered(columns, row, choice)
    if not different:
        return pa.DictionaryArray.from_arrays(pa.nulls(len(row), pa.int32()), pa.array([], pa.utf8()))
    every = pa.concat_arrays([column.texts for column in different]).fill_null("").dictionary_encode()
    codes = every.indices.to_numpy()
    if not len(codes):
        return pa.DictionaryArray.from_arrays(pa.nulls(len(row), pa.int32()), every.dictionary)
    return pa.DictionaryArray.from_arrays(pa.array(codes[at], pa.int32(), mask=at < 0), every.dictionary)


def _named(names: Sequence[str | None], choice: Places) -> pa.Array:
    """The name each row takes, coded."""
    known = list(dict.fromkeys(name for name in names if name is not None))
    codes = np.array([-1 if name is None else known.index(name) for name in names], np.int32)[choice]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(known, pa.utf8()))


def _taken(texts: Sequence[pa.StringArray], at: Places) -> pa.Array:
    every = pa.concat_arrays([*texts, pa.nulls(1, pa.string())])
    return every.take(pa.array(np.where(at < 0, len(every) - 1, at)))


def _numbers(numbers: Sequence[np.ndarray], at: Places) -> pa.Array:
    """The numbers; not-a-number, and the last of all for -1, become null."""
    every = np.concatenate([*numbers, np.array([np.nan])])
    return pa.array(every[at], from_pandas=True)
