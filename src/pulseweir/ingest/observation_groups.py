"""Step 5c: rows of the ``measurements`` topic to the Observations they belong in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.fhir_mapping.consciousness import is_by_list
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate, ValueTemplate
from pulseweir.ingest.fhir_mapping.text import ObservationText, prepare
from pulseweir.ingest.grouping import (
    CORRELATION,
    TICKS_A_MICROSECOND,
    ObservationGroup,
    boundary,
    identifier_value,
    resource_id,
    segment,
)
from pulseweir.records.columns import values

_REMEMBERED = 4_096
_NUMBERS = frozenset({"Quantity", "SampledData"})
_COLUMNS = (
    "observation_id",
    "type",
    "name",
    "text",
    "device_id",
    "patient_id",
    "encounter_id",
    "correlation_id",
    "implausible",
    "mapping_version",
)


@dataclass(slots=True)
class PendingObservation:
    """One Observation that rows want written.

    Attributes:
        resource_id: Its id.
        type: Measurement type.
        device_id: The device as the mapping knows it.
        patient_id: FHIR id of the Patient.
        encounter_id: FHIR id of the Encounter, None when there is none.
        correlation_id: What ties its measurements together, None when nothing does.
        version: Mapping version of its newest row.
        occurred_at: Of its first row, microseconds.
        received_at: Of its newest row, microseconds.
        rows: (table, place) of every row.
        samples: By value name the text at each microsecond; the row that came last counts.
        bare: Instants of measurements without any value, microseconds.
        implausible: By value name the instants of values no living patient can have.
        superseded: By value name, rows whose text another row of the same instant replaced.
    """

    resource_id: str
    type: str
    device_id: str
    patient_id: str
    encounter_id: str | None
    correlation_id: str | None
    version: str
    occurred_at: int
    received_at: int
    rows: list[tuple[pa.Table, int]] = field(default_factory=list)
    samples: dict[str, dict[int, str]] = field(default_factory=dict)
    bare: list[int] = field(default_factory=list)
    implausible: dict[str, set[int]] = field(default_factory=dict)
    superseded: dict[str, int] = field(default_factory=dict)

    def part(self, template: FhirTemplate) -> str:
        """Its segment: what tells it from other Observations of the same device and type."""
        return segment(template.interval, self.occurred_at * TICKS_A_MICROSECOND, self.correlation_id)

    def group(self, template: FhirTemplate) -> ObservationGroup:
        """Its measurements, sorted by time, in ticks."""
        samples = {
            name: [(instant * TICKS_A_MICROSECOND, text) for instant, text in sorted(texts.items())]
            for name, texts in self.samples.items()
        }
        if template.interval == CORRELATION:
            ticks = [tick for texts in samples.values() for tick, _ in texts]
            ticks += [instant * TICKS_A_MICROSECOND for instant in self.bare]
            return ObservationGroup(min(ticks), max(ticks), samples)
        return ObservationGroup(*boundary(template.interval, self.occurred_at * TICKS_A_MICROSECOND), samples)

    def texts(self) -> dict[str, str]:
        """The one text of each value; for Observations of one instant."""
        return {name: next(iter(texts.values())) for name, texts in self.samples.items()}

    def drop(self, name: str, read: Callable[[str], str | None]) -> list[tuple[pa.Table, int]]:
        """Take out the rows of a value whose text cannot be read; gives those rows."""
        kept: list[tuple[pa.Table, int]] = []
        dropped: list[tuple[pa.Table, int]] = []
        self.samples.pop(name, None)
        self.superseded.pop(name, None)
        for table, place in self.rows:
            text = table["text"][place].as_py()
            if table["name"][place].as_py() != name:
                kept.append((table, place))
            elif read(text) is not None:
                kept.append((table, place))
                self.put(name, values(table["occurred_at"].slice(place, 1))[0], text)
            else:
                dropped.append((table, place))
        self.rows = kept
        return dropped

    def put(self, name: str, instant: int, text: str) -> None:
        """One value; of two texts of one instant the later counts."""
        instants = self.samples.setdefault(name, {})
        if instants.get(instant, text) != text:
            self.superseded[name] = self.superseded.get(name, 0) + 1
        instants[instant] = text

    def is_of(self, template: FhirTemplate, device_resource_id: str, part: str) -> str | None:
        """The identifier's value if this Device's id leads to this Observation's id, else None."""
        value = identifier_value(self.patient_id, device_resource_id, template.type_name, part)
        return value if resource_id(value) == self.resource_id else None


def collect(tables: Iterable[pa.Table]) -> tuple[dict[str, PendingObservation], int]:
    """Pending Observations by id in order of arrival, and how many rows belong in none."""
    pending: dict[str, PendingObservation] = {}
    without = 0
    for table in tables:
        columns = [values(table[name]) for name in _COLUMNS]
        occurred = values(table["occurred_at"])
        received = values(table["received_at"])
        for place, row in enumerate(zip(*columns, occurred, received, strict=True)):
            if row[0] is None or row[5] is None:
                without += 1
            else:
                _add(pending, (table, place), row)
    return pending, without


def _add(pending: dict[str, PendingObservation], where: tuple[pa.Table, int], row: tuple[Any, ...]) -> None:
    identity, kind, name, text, device, patient, encounter, correlation, implausible, version, occurred, received = row
    found = pending.get(identity)
    if found is None:
        found = pending[identity] = PendingObservation(
            identity, kind, device, patient, encounter, correlation, version, occurred, received
        )
    found.rows.append(where)
    found.version = version
    found.received_at = max(found.received_at, received)
    if name is None:
        found.bare.append(occurred)
        return
    found.put(name, occurred, text)
    if implausible:
        found.implausible.setdefault(name, set()).add(occurred)
    elif name in found.implausible:
        _no_longer(found.implausible, name, occurred)


def _no_longer(implausible: dict[str, set[int]], name: str, instant: int) -> None:
    """A plausible text has replaced that of this instant."""
    implausible[name].discard(instant)
    if not implausible[name]:
        del implausible[name]


class Found(NamedTuple):
    """What rows of one mapping version and measurement type are written by.

    Attributes:
        template: The FHIR template.
        text: Its prepared text; None when it needs building value by value.
        names: Every value name it has.
        judged: Those of its values that have to be numbers, or levels of consciousness by the list.
    """

    template: FhirTemplate
    text: ObservationText | None
    names: frozenset[str]
    judged: tuple[ValueTemplate, ...]


class Templates:
    """Finds the FHIR template that made a row's Observation id.

    Args:
        mappings: Of the catalog and the site.
    """

    def __init__(self, mappings: Mappings) -> None:
        self._mappings = mappings
        self._found: dict[tuple[str, str], Found] = {}

    def find(self, version: str, type_name: str) -> Found | None:
        """The template and its prepared text; None when no mapping has the type.

        Rows of a mapping that is not known any more are written by the mapping of today.
        """
        found = self._found.get((version, type_name))
        if found is None:
            exact = self._mappings.by_version.get(version)
            found = self._search(exact, type_name)
            if exact is not None and found is not None:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[version, type_name] = found
        return found

    def _search(self, exact: MappingPair | None, type_name: str) -> Found | None:
        others = [*([self._mappings.site] if self._mappings.site else []), *self._mappings.by_kind.values()]
        candidates: list[MappingPair] = [exact] if exact else others
        for pair in candidates:
            template = pair.fhir.template(type_name)
            if template is not None:
                parts = [value for _, value in template.parts]
                names = frozenset(value.value_name for value in parts)
                judged = tuple(value for value in parts if value.value_type in _NUMBERS or is_by_list(value))
                return Found(template, prepare(template), names, judged)
        return None
