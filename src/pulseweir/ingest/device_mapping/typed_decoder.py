"""Step 4, tier 2: message bodies straight to columns, for mappings that read members by plain paths. Pure.

From the paths the templates read, a plan makes structs for msgspec, and then works on whole columns. What it decides
is exact. Whatever raises any doubt, a message that a template refuses above all, it leaves to the tiers that know
every case and every error.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from pulseweir.ingest.device_mapping.budget import STEP_LIMIT, TEXT_SHIFT
from pulseweir.ingest.device_mapping.templates import Template
from pulseweir.ingest.device_mapping.typed_batch import Batch, decoded_properties
from pulseweir.ingest.device_mapping.typed_columns import Column
from pulseweir.ingest.device_mapping.typed_guards import SPARE_OBJECTS, doubtful_bodies, joined_bodies
from pulseweir.ingest.device_mapping.typed_objects import Flags, Objects, Places, decoded_bodies, inner_paths, shape_of
from pulseweir.ingest.device_mapping.typed_paths import (
    BODY,
    ENVELOPE,
    PROPERTIES,
    TOP,
    Fields,
    Path,
    Reading,
    Unplannable,
    Wanted,
    paths_of,
    reading_of,
    tested_paths,
)
from pulseweir.ingest.device_mapping.typed_rows import Identity, Slot, long_table

_FIELD_STEPS = 24
_NAME_STEPS = 8
_WALK_STEPS = 4
_USUAL_BYTES = 512
Texts = Sequence[str | None] | None


def plan(templates: Sequence[Template]) -> "TypedPlan | None":
    """A typed plan for all templates of a mapping; None when they read messages in ways it does not know."""
    try:
        found = TypedPlan([reading_of(template) for template in templates])
    except Unplannable:
        return None
    return found if found.is_worthwhile else None


class TypedPlan:
    """How to decode messages for the templates of one mapping.

    Attributes:
        is_worthwhile: Whether it decides messages of the usual size that a template matches.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        """Plan.

        Args:
            readings: What each template reads, in mapping order.

        Raises:
            Unplannable: Typed decoding cannot tell which messages match.
        """
        checks = [reading.match.check for reading in readings]
        paths = {path for check in checks for path in paths_of(check)}
        paths |= {path for reading in readings if reading.fields for path in reading.fields.paths}
        self._inner = inner_paths(paths)
        if not all(_is_known(path) for check in checks for path in paths_of(check)):
            raise Unplannable("a member outside the body and the properties")
        if not all(self._is_scalar(path) for check in checks for path in tested_paths(check)):
            raise Unplannable("a comparison of an object")
        self._readings = [replace(reading, fields=self._within_reach(reading.fields)) for reading in readings]
        scans = [(reading.match.token, reading.match.triggers) for reading in readings]
        self._of_body = frozenset(name for token, names in scans if token != ENVELOPE for name in names)
        self._of_top = frozenset(name for token, names in scans if token == ENVELOPE for name in names)
        self._shape = shape_of(paths, self._forbidden)
        self._objects = len(self._shape.nodes) + SPARE_OBJECTS + len(PROPERTIES) + 1
        self._size_limit = self._affordable_size()
        makes_rows = any(reading.fields is not None for reading in self._readings)
        self.is_worthwhile = makes_rows and self._size_limit >= _USUAL_BYTES

    def _affordable_size(self) -> int:
        """The bytes a body or a text of properties may have for its message to stay within its budget by far.

        A message is walked from its top and from its body, each of its objects is tested by each template, and fields
        are read. That takes fewer steps than here, comparisons apart, which are counted as they are made.
        """
        paths = [path for reading in self._readings for path in paths_of(reading.match.check)]
        fields = sum(reading.fields.weight for reading in self._readings if reading.fields)
        tests = sum(len(path) + 2 for path in paths) * self._objects
        fixed = _FIELD_STEPS * (2 * len(self._readings) + fields) + _NAME_STEPS * tests
        a_character = _WALK_STEPS + (len(paths) + fields) / (1 << TEXT_SHIFT)
        return int((STEP_LIMIT // 2 - fixed) / a_character / (1 + len(PROPERTIES)))

    def _within_reach(self, fields: Fields | None) -> Fields | None:
        return fields if fields and all(self._is_scalar(path) for path in fields.paths) else None

    def _is_scalar(self, path: Path) -> bool:
        return _is_known(path) and len(path) > 1 and path not in self._inner

    def _forbidden(self, path: Path) -> frozenset[str]:
        """Members with which an object other than the one a scan is meant for may match it."""
        return self._of_top if path == BODY else self._of_top | self._of_body

    def decode(
        self,
        bodies: Sequence[bytes],
        properties: Texts = None,
        system_properties: Texts = None,
        *,
        nesting_limit: int = 64,
    ) -> tuple[pa.Table, list[int]]:
        """The measurements of the messages it decides, and the indexes of those it leaves undecided, in order.

        Args:
            bodies: Of the messages, as sent, none larger than allowed.
            properties: Application properties of each message as JSON text; None for none at all.
            system_properties: Likewise.
            nesting_limit: How deep a body may nest.

        Returns:
            A table of `NORMALIZED_SCHEMA`, whose messages are places in `bodies`. A message in neither matched nothing.
        """
        structs, places = decoded_bodies(self._shape, bodies)
        kept = np.array(places, np.int64)
        undecided = np.ones(len(bodies), np.bool_)
        if not structs:
            return long_table(kept, [], []), np.flatnonzero(undecided).tolist()
        if len(places) < len(bodies):
            bodies = [bodies[place] for place in places]
        batch = self._batch(structs, bodies, nesting_limit)
        self._add_properties(batch, (properties, system_properties), places)
        for path in self._shape.suspects:
            batch.doubtful |= batch.present(path)
        table = self._table(kept, batch)
        undecided[kept] = batch.doubtful
        return table, np.flatnonzero(undecided).tolist()

    def _batch(self, structs: list[object], bodies: Sequence[bytes], nesting_limit: int) -> Batch:
        joined = joined_bodies(bodies)
        objects = Objects(self._shape, structs)
        batch = Batch(objects)
        batch.doubtful |= np.array(list(map(len, bodies))) > self._size_limit
        scanned = partial(self._scanned, batch)
        batch.doubtful |= doubtful_bodies(bodies, joined, objects.counts(), scanned, nesting_limit)
        return batch

    def _scanned(self, batch: Batch) -> dict[bytes, Flags]:
        """Each member name that scans look for, in quotes, with which bodies have it at their top."""
        found = {name: batch.present((*BODY, name)) for name in self._of_body}
        found |= {name: np.zeros(len(batch.doubtful), np.bool_) for name in self._of_top}
        return {f'"{name}"'.encode(): has for name, has in found.items()}

    def _add_properties(self, batch: Batch, texts: tuple[Texts, Texts], places: Sequence[int]) -> None:
        """Decode the properties, which no template may match."""
        triggers = self._of_body | self._of_top
        for path, column in zip(PROPERTIES, texts, strict=True):
            if column is None:
                continue
            texts_here = [column[place] for place in places]
            batch.doubtful |= np.array([len(text or "") for text in texts_here]) > self._size_limit
            members, refused = decoded_properties(texts_here)
            batch.properties[path] = members
            batch.doubtful[refused] = True
            if triggers:
                batch.doubtful |= np.array([not triggers.isdisjoint(each) for each in members], np.bool_)

    def _table(self, kept: Places, batch: Batch) -> pa.Table:
        """The rows of all messages that nothing in a template makes doubtful."""
        matched = [batch.holds(reading.match.check) for reading in self._readings]
        batch.doubtful |= batch.steps * self._objects > STEP_LIMIT // 2
        for reading, matches in zip(self._readings, matched, strict=True):
            batch.doubtful |= matches if reading.fields is None else matches & _refused(reading.fields, batch)
        identities: list[Identity] = []
        slots: list[Slot] = []
        for reading, matches in zip(self._readings, matched, strict=True):
            if reading.fields is not None:
                is_sure = matches & ~batch.doubtful
                slots += _slots(reading.fields, len(identities), is_sure, batch)
                identities.append(_identity(reading, reading.fields, is_sure, batch))
        return long_table(kept, identities, slots)


def _is_known(path: Path) -> bool:
    """Whether a path leads to the message, into its body or to one of its properties."""
    return not path or path[:1] == BODY or (path[0] in TOP and len(path) <= 2)


def _refused(fields: Fields, batch: Batch) -> Flags:
    """Messages that lack what a template requires, if it matches them."""
    refused = batch.column(fields.timestamp.sources).instants[1]
    for field in fields.wanted:
        refused = refused | batch.column(field.sources).huge
        for formula in field.formulas:
            refused = refused | batch.failed(formula)
        if field.required and field is not fields.timestamp:
            refused = refused | batch.column(field.sources).blank
    return refused


def _identity(reading: Reading, fields: Fields, matched: Flags, batch: Batch) -> Identity:
    def column(field: Wanted | None) -> Column | None:
        return None if field is None else batch.column(field.sources)

    return Identity(
        reading.type_name,
        matched,
        batch.column(fields.device.sources),
        batch.column(fields.timestamp.sources),
        column(fields.patient),
        column(fields.encounter),
        column(fields.correlation),
    )


def _slots(fields: Fields, template: int, matched: Flags, batch: Batch) -> list[Slot]:
    """A slot for each value, and one for measurements without any."""
    slots: list[Slot] = []
    taken: dict[str, Flags] = {}
    for value in fields.values:
        column = batch.column(value.sources)
        filled = matched & column.told
        if value.label in taken:
            filled &= ~taken[value.label]
            taken[value.label] = taken[value.label] | filled
        else:
            taken[value.label] = filled
        slots.append(Slot(template, filled, value.label, column))
    if not any(value.required for value in fields.values):
        slots.append(Slot(template, matched & ~np.logical_or.reduce([~matched, *taken.values()])))
    return slots
