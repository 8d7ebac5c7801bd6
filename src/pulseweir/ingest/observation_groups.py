"""Step 5c: rows of the ``measurements`` topic to the Observations they belong in."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
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
        implausible: Names of values no living patient can have.
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
    implausible: set[str] = field(default_factory=set)
    superseded: Counter[str] = field(default_factory=Counter)

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
            return ObservationGroup(min(ticks), max(ticks), samples)
        return ObservationGroup(*boundary(template.interval, self.occurred_at * TICKS_A_MICROSECOND), samples)

    def texts(self) -> dict[str, str]:
        """The one text of each value; for Observations of one instant."""
        return {name: next(iter(texts.values())) for name, texts in self.samples.items()}

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
    instants = found.samples.setdefault(name, {})
    if instants.get(occurred, text) != text:
        found.superseded[name] += 1
    instants[occurred] = text
    if implausible:
        found.implausible.add(name)
    else:
        found.implausible.discard(name)


class Templates:
    """Finds the FHIR template that made a row's Observation id.

    Args:
        mappings: Of the catalog and the site.
    """

    def __init__(self, mappings: Mappings) -> None:
        self._mappings = mappings
        self.find = lru_cache(maxsize=4_096)(self._find)

    def _find(self, version: str, type_name: str) -> tuple[FhirTemplate, ObservationText | None] | None:
        """The template and its prepared text; None when no mapping has the type.

        Rows of a mapping that has since been replaced are written by the mapping of today.
        """
        exact = self._mappings.by_version.get(version)
        others = [*([self._mappings.site] if self._mappings.site else []), *self._mappings.by_kind.values()]
        candidates: list[MappingPair] = [exact] if exact else others
        for pair in candidates:
            template = pair.fhir.template(type_name)
            if template is not None:
                return template, prepare(template)
        return None
