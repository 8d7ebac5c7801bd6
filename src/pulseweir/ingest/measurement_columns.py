"""Steps 4-5b: what a mapping made of a batch, as columns of the ``measurements`` topic.

Here each value gets what later steps must not ask again: patient, code, unit, the id of its Observation, and whether a
living patient can have it at all. Everything is done a column at a time; what is the same for many rows is found once.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.errors import MessageError
from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
from pulseweir.ingest.grouping import CORRELATION, correlation_missing
from pulseweir.ingest.identity import Association, Question
from pulseweir.ingest.observation_ids import resource_ids, segments
from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import MEASUREMENT_SCHEMA

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_FAHRENHEIT = "[degF]"
_NONE = -1
_NO_INTERVAL = -2
_WORD = pa.dictionary(pa.int32(), pa.utf8())


class Words(NamedTuple):
    """A column of words: for each row the place of its word, -1 for none."""

    codes: Integers
    words: list[str]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Words":
        """A text column, dictionary-encoded or not."""
        if column.null_count == len(column):
            return cls(np.full(len(column), _NONE, np.int64), [])
        if column.num_chunks > 1:
            column = column.unify_dictionaries().combine_chunks()
        whole = column.chunk(0)
        if not pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_encode()
        indices = whole.indices.fill_null(_NONE) if whole.null_count else whole.indices
        return cls(indices.to_numpy().astype(np.int64), whole.dictionary.to_pylist())

    def at(self, rows: Integers) -> list[str | None]:
        """The words of some rows."""
        words: list[str | None] = [*self.words, None]
        return [words[code] for code in self.codes[rows].tolist()]

    def starts(self) -> Flags:
        """Which rows have another word than the row before."""
        return _changes(self.codes)


class Meaning(NamedTuple):
    """What the FHIR mapping says about the values of a batch: for each row a place in the lists beside it."""

    place: Integers
    codes: list[str | None]
    units: list[str | None]
    is_bound: Flags
    bounds: "Bounds"


class Bounds(NamedTuple):
    """Within what a number can be a living patient's, for each kind of value; unknown ones are never judged."""

    known: Flags
    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]
    highest_counts: Flags
    fahrenheit: Flags

    @classmethod
    def of(cls, codes: Sequence[str | None], units: Sequence[str | None]) -> "Bounds":
        """The bounds of values with these LOINC codes and units."""
        vitals = [VITAL_BY_LOINC.get(code or "") for code in codes]
        rows = [
            (
                vital is not None and vital.lowest is not None and unit in (vital.unit, _FAHRENHEIT),
                vital.lowest if vital else None,
                vital.highest if vital else None,
                vital is not None and vital.highest_is_possible,
                unit == _FAHRENHEIT,
            )
            for vital, unit in zip(vitals, units, strict=True)
        ]
        known, lowest, highest, counts, fahrenheit = zip(*rows, strict=True) if rows else ((),) * 5
        return cls(
            np.array(known, np.bool_),
            np.array(lowest, np.float64),
            np.array(highest, np.float64),
            np.array(counts, np.bool_),
            np.array(fahrenheit, np.bool_),
        )

    def exceeded(self, place: Integers, number: npt.NDArray[np.float64]) -> Flags:
        """Which numbers no living patient can have; never one that is not known or not a number."""
        number = np.where(self.fahrenheit[place], (number - 32) * 5 / 9, number)
        highest = self.highest[place]
        possible = (self.lowest[place] < number) & (number < highest)
        possible |= self.highest_counts[place] & (number == highest)
        exceeded: Flags = self.known[place] & ~np.isnan(number) & ~possible
        return exceeded


class NormalizedShare:
    """What one mapping pair made of its share of a batch, on the way to rows of the topic.

    Args:
        pair: That made it; every row carries its version.
        normalized: In the schema of normalized batches, `message` counting from 0.
    """

    def __init__(self, pair: MappingPair, normalized: pa.Table) -> None:
        self._pair = pair
        self._table = normalized
        self._type = Words.of(normalized["type"])
        self._correlation = Words.of(normalized["correlation_id"])
        self._occurred = _integers(normalized["occurred_at"].cast(pa.int64()))
        self.message = _integers(normalized["message"])
        """For each row its message."""
        device, encounter = Words.of(normalized["device_id"]), Words.of(normalized["encounter_id"])
        patient = Words.of(normalized["patient_id"])
        starts = _changes(self.message) | _changes(self._occurred)
        starts |= device.starts() | encounter.starts() | patient.starts()
        # Rows that follow each other with the same question are a run; a run never crosses messages.
        self._run = np.cumsum(starts) - 1
        first = np.flatnonzero(starts)
        self.run_message = self.message[first]
        """For each run its message."""
        asked = zip(
            device.at(first), self._occurred[first].tolist(), encounter.at(first), patient.at(first), strict=True
        )
        self.questions = [Question(device_id or "", *rest) for device_id, *rest in asked]
        """For each run who is asked about."""
        measurement = _integers(normalized["measurement"])
        self._is_first = _changes(self.message) | _changes(measurement)

    def types(self, is_counted: Flags) -> dict[str, int]:
        """How many measurements of each type the counted messages hold."""
        counted = self._type.codes[self._is_first & is_counted[self.message]]
        numbers = np.bincount(counted, minlength=len(self._type.words)).tolist()
        return {word: number for word, number in zip(self._type.words, numbers, strict=True) if number}

    def first_occurred(self, is_counted: Flags) -> tuple[Integers, Integers]:
        """The counted messages, each with when its first measurement was made."""
        first = np.flatnonzero(_changes(self.message) & is_counted[self.message])
        return self.message[first], self._occurred[first]

    def rows(
        self, answers: Mapping[Question, Association], may_go_on: Flags
    ) -> tuple[pa.Table, Integers, dict[int, MessageError]]:
        """Rows of the topic but for what only the device message knows, the message of each, and refused messages.

        Args:
            answers: To all questions. Rows whose answer is missing are left out.
            may_go_on: For each message whether anything of it is wanted.
        """
        runs = [answers[question] for question in self.questions]
        is_known = np.array([answer.missing is None for answer in runs], np.bool_)
        ids, id_of_group, refused = self._observations(runs, may_go_on)
        wanted = may_go_on.copy()
        wanted[list(refused)] = False
        kept = np.flatnonzero(wanted[self.message] & is_known[self._run])
        meaning = self._meaning()
        place, run = meaning.place[kept], self._run[kept]
        table = self._table if len(kept) == len(self.message) else self._table.take(pa.array(kept))
        number = table["number"].to_numpy()
        id_of_row = id_of_group[self._group()[kept]]
        columns = {
            "patient_id": _take([answer.patient_id for answer in runs], run),
            "encounter_id": _take([answer.encounter_id for answer in runs], run),
            "code": _take(meaning.codes, place),
            "unit": _take(meaning.units, place),
            "observation_id": pa.array(ids, pa.utf8()).take(
                pa.array(id_of_row, mask=(id_of_row == _NONE) | ~meaning.is_bound[place])
            ),
            "implausible": pa.array(meaning.bounds.exceeded(place, number)),
            "mapping_version": _take([self._pair.version], np.zeros(len(kept), np.int64)),
        }
        for name in ("device_id", "type", "name", "text", "number", "occurred_at", "correlation_id"):
            columns[name] = _cast(table[name], MEASUREMENT_SCHEMA.field(name).type)
        return pa.table(columns), self.message[kept], refused

    def _group_starts(self) -> Flags:
        return _changes(self._run) | self._type.starts() | self._correlation.starts()

    def _group(self) -> Integers:
        """For each row its place among what can have one Observation: one run, type and correlation."""
        return np.cumsum(self._group_starts()) - 1

    def _observations(
        self, runs: Sequence[Association], may_go_on: Flags
    ) -> tuple[list[str], Integers, dict[int, MessageError]]:
        """Ids of Observations, for each group the place of its own, -1 for none; and messages that are refused."""
        first = np.flatnonzero(self._group_starts())
        type_of, run_of = self._type.codes[first], self._run[first]
        templates = [self._pair.fhir.template(word) for word in self._type.words]
        interval = np.array([_NO_INTERVAL if one is None else one.interval for one in templates], np.int64)[type_of]
        blank = np.array([*(not word.strip() for word in self._correlation.words), True], np.bool_)
        is_refused = (interval == CORRELATION) & blank[self._correlation.codes[first]]
        is_refused &= may_go_on[self.message[first]]
        refused = dict.fromkeys(self.message[first[is_refused]].tolist(), correlation_missing())
        is_known = np.array([answer.missing is None for answer in runs], np.bool_)
        wanted = np.flatnonzero((interval != _NO_INTERVAL) & is_known[run_of] & ~is_refused)
        prefixes, prefix_of = self._prefixes(runs, templates, type_of[wanted], run_of[wanted])
        parts, part_of = self._parts(interval[wanted], first[wanted])
        pairs, place = np.unique(prefix_of * max(len(parts), 1) + part_of, return_inverse=True)
        prefix, part = np.divmod(pairs, max(len(parts), 1))
        ids = resource_ids(prefixes, parts, zip(prefix.tolist(), part.tolist(), strict=True))
        found = np.full(len(first), _NONE, np.int64)
        found[wanted] = place
        return ids, found, refused

    @staticmethod
    def _prefixes(
        runs: Sequence[Association], templates: Sequence[FhirTemplate | None], type_of: Integers, run_of: Integers
    ) -> tuple[list[tuple[str, str, str]], Integers]:
        """The different (patient, Device, type) of groups, and for each group the place of its own."""
        wearers: dict[tuple[str, str], int] = {}
        wearer = np.array(
            [
                wearers.setdefault((answer.patient_id or "", answer.device_resource_id or ""), len(wearers))
                for answer in runs
            ],
            np.int64,
        )
        width = max(len(templates), 1)
        found, place = np.unique(wearer[run_of] * width + type_of, return_inverse=True)
        people = list(wearers)
        names = ["" if template is None else template.type_name for template in templates]
        return [(*people[one // width], names[one % width]) for one in found.tolist()], place

    def _parts(self, interval: Integers, rows: Integers) -> tuple[list[str], Integers]:
        """The different segments of groups, each given by its first row; and for each group the place of its own."""
        parts: list[str] = []
        place = np.zeros(len(rows), np.int64)
        for one in np.unique(interval).tolist():
            here = interval == one
            if one == CORRELATION:
                found, own = self._correlation.words, self._correlation.codes[rows[here]]
            else:
                found, own = segments(one, self._occurred[rows[here]])
            place[here] = own + len(parts)
            parts += found
        return parts, place

    def _meaning(self) -> Meaning:
        names = Words.of(self._table["name"])
        width = len(names.words) + 1
        pairs, place = np.unique(self._type.codes * width + names.codes + 1, return_inverse=True)
        codes: list[str | None] = []
        units: list[str | None] = []
        bound: list[bool] = []
        for type_code, name_code in (divmod(one, width) for one in pairs.tolist()):
            type_name = self._type.words[type_code]
            binding = self._pair.fhir.binding(type_name, names.words[name_code - 1]) if name_code else None
            codes.append(binding.code if binding else None)
            units.append(binding.unit if binding else None)
            # A measurement without values belongs in the Observation of its type, where there is one.
            bound.append(binding is not None or not name_code)
        return Meaning(place, codes, units, np.array(bound, np.bool_), Bounds.of(codes, units))


def _changes(column: npt.NDArray[np.int64]) -> Flags:
    """Which rows differ from the row before; the first does."""
    changes = np.empty(len(column), np.bool_)
    changes[:1] = True
    np.not_equal(column[1:], column[:-1], out=changes[1:])
    return changes


def _integers(column: pa.ChunkedArray) -> Integers:
    numbers: Integers = column.to_numpy().astype(np.int64)
    return numbers


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)


def _take(words: Sequence[str | None], place: Integers) -> pa.Array:
    """A dictionary-encoded column that has at each row the word at a place."""
    different: dict[str, int] = {}
    codes = [_NONE if word is None else different.setdefault(word, len(different)) for word in words]
    if not different:
        return pa.nulls(len(place), _WORD)
    indices = np.array(codes, np.int32)[place]
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices == _NONE), pa.array(different, pa.utf8()))
