"""Step 10: patient measurements, as the bus and the lake hold them, become readings of the engine. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import PATIENT_CONTEXT_TYPE
from pulseweir.scoring.judgement import coded, consciousness_letters, instants, judge_values
from pulseweir.scoring.quality import FUTURE, GOOD, IMPOSSIBLE, QUALITIES, SUSPECT, VITAL_INDEX, normalise
from pulseweir.scoring.shard_state import READING, Context, Rows, Source

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
_CONSCIOUSNESS_VITAL = VITAL_INDEX["consciousness"]
_UNKNOWN_VITAL = -1
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Intake:
    """The rows of one table as readings.

    Attributes:
        patients: Patient ids, each once.
        who: Index into `patients`, one a row.
        readings: Of dtype `READING`, one a row; `vital` is -1 where the code is no vital sign of the house.
        only_context: Rows that carry nothing but what is known of the patient.
        sources: The sources handed in, and new ones.
        contexts: The contexts handed in, and new ones.
    """

    patients: Sequence[str]
    who: Integers
    readings: Rows
    only_context: Marks
    sources: Mapping[Source, int]
    contexts: Mapping[Context, int]


def read_measurements(
    table: pa.Table, sources: Mapping[Source, int], contexts: Mapping[Context, int], *, seen: bool
) -> Intake:
    """Turn a table of patient measurements into readings.

    Args:
        table: Columns of ``PATIENT_MEASUREMENT_SCHEMA``.
        sources: Known sources with their numbers; not changed.
        contexts: Known contexts with their numbers; not changed.
        seen: Whether the rows came on the bus, rather than back from the lake.
    """
    whole = table.unify_dictionaries().combine_chunks()
    readings = np.zeros(whole.num_rows, READING)
    codes, words = coded(whole["patient_id"])
    used, who = np.unique(codes, return_inverse=True)
    patients = [words[code] for code in used]
    codes, code_words = coded(whole["code"])
    vitals = [
        VITAL_INDEX[VITAL_BY_LOINC[word].name] if word in VITAL_BY_LOINC else _UNKNOWN_VITAL for word in code_words
    ]
    vital = np.array([*vitals, _UNKNOWN_VITAL], np.int64)[codes]
    qualities, quality_words = coded(whole["quality"])
    quality = np.array([*(QUALITIES.index(word) for word in quality_words), GOOD], np.int8)[qualities]
    ahead = np.flatnonzero(quality == FUTURE)
    if len(ahead):
        quality[ahead] = judge_values(whole.take(pa.array(ahead)))
    number = np.array(pc.fill_null(whole["number"], np.nan).to_numpy(), np.float64)
    spoken = np.flatnonzero(vital == _CONSCIOUSNESS_VITAL)
    letters = consciousness_letters(whole["text"], spoken)
    number[spoken] = np.where(letters < 0, np.nan, letters)
    quality[spoken] = np.where(letters < 0, IMPOSSIBLE, GOOD)
    scored = (vital != _UNKNOWN_VITAL) & ((quality == GOOD) | (quality == SUSPECT))
    number[scored] = normalise(vital[scored], number[scored]).number
    readings["occurred"] = instants(whole["occurred_at"])
    readings["received"] = readings["arrived"] = instants(whole["received_at"])
    readings["number"] = number
    readings["vital"] = vital
    readings["quality"] = quality
    readings["seen"] = seen
    readings["observation"] = np.array(pc.fill_null(whole["observation_id"], "").to_pylist(), "S64")
    readings["source"], sources = _sources(whole, sources)
    readings["context"], contexts = _contexts(whole, contexts)
    types, type_words = coded(whole["type"])
    only_context = np.array([*(word == PATIENT_CONTEXT_TYPE for word in type_words), False], np.bool_)[types]
    readings["vital"][only_context] = _UNKNOWN_VITAL
    return Intake(patients, who, readings, only_context, sources, contexts)


def _sources(table: pa.Table, known: Mapping[Source, int]) -> tuple[Integers, Mapping[Source, int]]:
    columns = [coded(table[name]) for name in ("device_id", "type", "name")]
    combined, places = _combined([codes for codes, _ in columns])
    words = [[*words, ""] for _, words in columns]
    keys = [Source(*(words[part][code] for part, code in enumerate(codes))) for codes in places]
    return _numbered(keys, combined, known)


def _contexts(table: pa.Table, known: Mapping[Context, int]) -> tuple[Integers, Mapping[Context, int]]:
    versions, version = np.unique(_filled(table["context_version"], 0), return_inverse=True)
    age = _filled(table["age_years"], -1)
    scale = _filled(table["spo2_scale"], 0)
    pregnant = _filled(table["pregnant"], -1)
    words = [coded(table[name]) for name in ("sex", "ward", "bed")]
    combined, places = _combined([version, age, scale, *(codes for codes, _ in words), pregnant])
    texts: list[list[str | None]] = [[*values, None] for _, values in words]
    keys = [
        Context(
            int(versions[one[0]]),
            None if one[1] < 0 else one[1],
            texts[0][one[3]],
            texts[1][one[4]],
            texts[2][one[5]],
            one[2] or None,
            None if one[6] < 0 else bool(one[6]),
        )
        for one in places
    ]
    numbers, contexts = _numbered(keys, combined, known)
    return np.where(versions[version] > 0, numbers, -1), contexts


def _filled(column: pa.ChunkedArray, value: int) -> Integers:
    return np.array(pc.fill_null(column.cast(pa.int64()), value), np.int64)


def _combined(columns: Sequence[Integers]) -> tuple[Integers, list[list[int]]]:
    """Number the distinct combinations of integer columns; also each combination's values."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, place = np.unique(column, return_inverse=True)
        _, key = np.unique(key * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    _, first = np.unique(key, return_index=True)
    return key, [[int(column[row]) for column in columns] for row in first]


def _numbered(
    keys: Sequence[_Key], combined: Integers, known: Mapping[_Key, int]
) -> tuple[Integers, Mapping[_Key, int]]:
    fresh = [key for key in keys if key not in known]
    if fresh:
        known = {**known, **{key: len(known) + place for place, key in enumerate(fresh)}}
    numbers: Any = np.array([known[key] for key in keys], np.int64)
    return (numbers[combined] if len(keys) else np.zeros(0, np.int64)), known
