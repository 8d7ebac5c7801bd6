"""Step 15: a patient's vitals over time: what the FHIR service holds, impossible and withdrawn values marked."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pulseweir.backends.repository.rows import ScoreRow
from pulseweir.clock import to_text
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.records.codes import VITAL_BY_NAME, VITALS
from pulseweir.web.foreign_observations import measured
from pulseweir.web.readings import readings_of

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

MOST_OBSERVATIONS = 5_000
_PAGE = 500
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One measured value.

    Attributes:
        at: When it was true, microseconds: as measured, but no later than it was received.
        number: The value, in the vital's own unit.
        is_possible: Whether a living patient can have it; the others are shown struck through, never scored.
        ahead_seconds: How far the device's clock was ahead.
        withdrawn: entered-in-error or cancelled: in the tables, never in a line; "" for what stands.
    """

    at: int
    number: float
    is_possible: bool
    ahead_seconds: int = 0
    withdrawn: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Vitals over a span.

    Attributes:
        samples: What stands, by vital, oldest first.
        withdrawn: What was withdrawn, likewise.
        source: "fhir", or "scores" when the FHIR service did not answer: then only what was scored is known.
        is_cut: More Observations exist than were read: the oldest are left out.
        without_unit: Values that no usable unit came with: not drawn.
        with_comparator: Values that say only "less" or "more than": not drawn.
        flat: Instants at which a vital's line was marked as flat, with its value, by vital.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    withdrawn: dict[str, list[Sample]] = field(default_factory=dict)
    source: str = "fhir"
    is_cut: bool = False
    without_unit: int = 0
    with_comparator: int = 0
    flat: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


async def read_history(fhir: "FhirClient", patient_id: str, start: int, scored: Sequence[ScoreRow]) -> History:
    """The vitals measured since `start`, microseconds; from the scored windows when the FHIR service is away."""
    query = [
        ("patient", patient_id),
        ("code", ",".join(code for vital in VITALS for code in _codes(vital.name))),
        ("date", f"ge{to_text(start // _SECOND * _SECOND)}"),
        ("_sort", "-date"),
        ("_count", str(_PAGE)),
    ]
    try:
        resources = await fhir.search("Observation", query, limit=MOST_OBSERVATIONS)
    except (RetryLater, RejectRecord):
        return history_of_scores(scored)
    history = history_of_resources(resources, start, is_cut=len(resources) == MOST_OBSERVATIONS)
    return replace(history, flat=flat_lines(scored))


def history_of_resources(resources: Iterable[dict[str, Any]], start: int, *, is_cut: bool = False) -> History:
    """Samples in Observations, their components and their sampled data, since `start`, microseconds."""
    found: dict[str, set[Sample]] = {}
    withdrawn: dict[str, set[Sample]] = {}
    undrawn: Counter[str] = Counter()
    for one in (value for resource in resources for value in measured(resource) if value.at >= start):
        if one.number is None:
            undrawn[one.why_not] += not one.withdrawn
            continue
        is_possible = VITAL_BY_NAME[one.vital].is_possible(one.number)
        sample = Sample(one.at, one.number, is_possible, one.ahead_seconds, one.withdrawn)
        (withdrawn if one.withdrawn else found).setdefault(one.vital, set()).add(sample)
    return History(
        _in_order(found),
        _in_order(withdrawn),
        "fhir",
        is_cut,
        without_unit=undrawn["unit"],
        with_comparator=undrawn["comparator"],
    )


def history_of_scores(rows: Iterable[ScoreRow]) -> History:
    """What the scored windows remember."""
    known = list(rows)
    found: dict[str, set[Sample]] = {}
    for row in known:
        for reading in readings_of(row.inputs_json).values():
            if reading.number is not None:
                is_possible = VITAL_BY_NAME[reading.vital].is_possible(reading.number)
                sample = Sample(reading.at, reading.number, is_possible, reading.ahead_seconds)
                found.setdefault(reading.vital, set()).add(sample)
    return History(_in_order(found), source="scores", flat=flat_lines(known))


def flat_lines(rows: Iterable[ScoreRow]) -> dict[str, list[tuple[int, float]]]:
    """When the scored windows marked a vital's line as flat, and at which value, oldest first."""
    found: dict[str, set[tuple[int, float]]] = {}
    for row in rows:
        for reading in readings_of(row.inputs_json).values():
            if reading.is_flat and reading.number is not None:
                found.setdefault(reading.vital, set()).add((reading.at, reading.number))
    return {vital: sorted(marks) for vital, marks in found.items()}


def _in_order(found: dict[str, set[Sample]]) -> dict[str, list[Sample]]:
    return {vital: sorted(samples) for vital, samples in found.items()}


def _codes(vital: str) -> tuple[str, ...]:
    # Pressures are components of one panel; a server finds it by the panel's code, some also by the component's.
    return ("85354-9", *VITAL_BY_NAME[vital].loinc) if vital == "systolic_bp" else VITAL_BY_NAME[vital].loinc
