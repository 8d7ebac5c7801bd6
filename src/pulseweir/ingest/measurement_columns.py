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
from pulseweir.ingest.grouping import TICKS_A_MICROSECOND, identifier_value, resource_id, segment
from pulseweir.ingest.identity import Association, Question
from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import MEASUREMENT_SCHEMA

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_FAHRENHEIT = "[degF]"
_NONE = -1


class Words(NamedTuple):
    """A column of words: for each row the place of its word, -1 for none."""

    codes: Integers
    words: list[str]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Words":
        """A text column, dictionary-encoded or not."""
        whole = column.combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.unify_dictionaries().chunk(0) if whole.num_chunks else pa.array([], whole.type)
        if not pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_encode()
        codes = whole.indices.fill_null(_NONE).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(codes, whole.dictionary.to_pylist())

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
        observation, refused = self._observations(runs, may_go_on)
        wanted = may_go_on.copy()
        wanted[list(refused)] = False
        kept = np.flatnonzero(wanted[self.message] & is_known[self._run])
        meaning = self._meaning()
        place, run = meaning.place[kept], self._run[kept]
        table = self._table if len(kept) == len(self.message) else self._table.take(pa.array(kept))
        number = table["number"].to_numpy()
        columns = {
            "patient_id": _take([answer.patient_id for answer in runs], run),
            "encounter_id": _take([answer.encounter_id for answer in runs], run),
            "code": _take(meaning.codes, place),
            "unit": _take(meaning.units, place),
            "observation_id": pa.array(observation, pa.utf8()).take(
                pa.array(self._group()[kept], mask=~meaning.is_bound[place])
            ),
            "implausible": pa.array(meaning.bounds.exceeded(place, number)),
            "mapping_version": _take([self._pair.version], np.zeros(len(kept), np.int64)),
        }
        for name in ("device_id", "type", "name", "text", "number", "occurred_at", "correlation_id"):
            columns[name] = table[name].cast(MEASUREMENT_SCHEMA.field(name).type)
        return pa.table(columns), self.message[kept], refused

    def _group_starts(self) -> Flags:
        return _changes(self._run) | self._type.starts() | self._correlation.starts()

    def _group(self) -> Integers:
        """For each row its place among what can have one Observation: one run, type and correlation."""
        return np.cumsum(self._group_starts()) - 1

    def _observations(
        self, runs: Sequence[Association], may_go_on: Flags
    ) -> tuple[list[str | None], dict[int, MessageError]]:
        """For each group the id of its Observation, None where it has none; and messages that cannot have theirs."""
        first = np.flatnonzero(self._group_starts())
        templates = [self._pair.fhir.template(word) for word in self._type.words]
        groups = zip(
            self._type.codes[first].tolist(),
            self._run[first].tolist(),
            self._occurred[first].tolist(),
            self._correlation.at(first),
            strict=True,
        )
        ids = _ObservationIds()
        found: list[str | None] = []
        refused: dict[int, MessageError] = {}
        for code, run, occurred_at, correlation in groups:
            template = templates[code]
            try:
                found.append(None if template is None else ids.of(template, runs[run], occurred_at, correlation))
            except MessageError as error:
                found.append(None)
                message = int(self.run_message[run])
                if may_go_on[message]:
                    refused.setdefault(message, error)
        return found, refused

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


class _ObservationIds:
    """Ids of Observations, each hashed once."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int, str | None], str] = {}
        self._ids: dict[str, str] = {}

    def of(self, template: FhirTemplate, who: Association, occurred_at: int, correlation_id: str | None) -> str | None:
        """The id; None while it is not known who measured.

        Raises:
            MessageError: The FHIR mapping needs a correlation id and the measurement has none.
        """
        key = (template.interval, occurred_at, correlation_id)
        part = self._parts.get(key)
        if part is None:
            part = segment(template.interval, occurred_at * TICKS_A_MICROSECOND, correlation_id)
            self._parts[key] = part
        if who.missing is not None:
            return None
        value = identifier_value(who.patient_id or "", who.device_resource_id or "", template.type_name, part)
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = resource_id(value)
        return found


def _changes(column: npt.NDArray[np.int64]) -> Flags:
    """Which rows differ from the row before; the first does."""
    changes = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=changes[1:])
    return changes


def _integers(column: pa.ChunkedArray) -> Integers:
    numbers: Integers = column.to_numpy().astype(np.int64)
    return numbers


def _take(words: Sequence[str | None], place: Integers) -> pa.Array:
    return pa.array(words, pa.utf8()).dictionary_encode().take(pa.array(place))
