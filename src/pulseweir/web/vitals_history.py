"""Step 15: a patient's vitals over time: every Observation the FHIR service holds, impossible values marked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pulseweir.backends.repository.rows import ScoreRow
from pulseweir.clock import to_microseconds, to_text
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.records.codes import VITAL_BY_LOINC, VITAL_BY_NAME, VITALS
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
        occurred_at: Device clock, microseconds.
        number: The value, in the vital's own unit.
        is_possible: Whether a living patient can have it; the others are shown struck through, never scored.
    """

    occurred_at: int
    number: float
    is_possible: bool


@dataclass(frozen=True, slots=True)
class History:
    """Vitals over a span.

    Attributes:
        samples: By vital, oldest first.
        source: "fhir", or "scores" when the FHIR service did not answer: then only what was scored is known.
        is_cut: More Observations exist than were read: the oldest are left out.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    source: str = "fhir"
    is_cut: bool = False


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
    return history_of_resources(resources, start, is_cut=len(resources) == MOST_OBSERVATIONS)


def history_of_resources(resources: Iterable[dict[str, Any]], start: int, *, is_cut: bool = False) -> History:
    """Samples in Observations, their components and their sampled data."""
    found: dict[str, set[Sample]] = {}
    for resource in resources:
        for vital, occurred_at, number in _values(resource):
            if occurred_at >= start:
                sample = Sample(occurred_at, number, VITAL_BY_NAME[vital].is_possible(number))
                found.setdefault(vital, set()).add(sample)
    return History({vital: sorted(samples) for vital, samples in found.items()}, "fhir", is_cut)


def history_of_scores(rows: Iterable[ScoreRow]) -> History:
    """What the scored windows remember."""
    found: dict[str, set[Sample]] = {}
    for row in rows:
        for reading in readings_of(row.inputs_json).values():
            if reading.number is not None:
                is_possible = VITAL_BY_NAME[reading.vital].is_possible(reading.number)
                sample = Sample(reading.occurred_at, reading.number, is_possible)
                found.setdefault(reading.vital, set()).add(sample)
    return History({vital: sorted(samples) for vital, samples in found.items()}, "scores")


def _codes(vital: str) -> tuple[str, ...]:
    # Pressures are components of one panel; a server finds it by the panel's code, some also by the component's.
    return ("85354-9", *VITAL_BY_NAME[vital].loinc) if vital == "systolic_bp" else VITAL_BY_NAME[vital].loinc


def _values(resource: dict[str, Any]) -> Iterable[tuple[str, int, float]]:
    moment = _effective(resource)
    if moment is None:
        return
    for part in (resource, *resource.get("component", ())):
        vital = _vital(part)
        if vital is None:
            continue
        number = part.get("valueQuantity", {}).get("value")
        if isinstance(number, int | float):
            yield vital, moment, float(number)
        yield from ((vital, at, sample) for at, sample in _sampled(part.get("valueSampledData"), moment))


def _vital(part: dict[str, Any]) -> str | None:
    codings = part.get("code", {}).get("coding", ())
    return next(
        (VITAL_BY_LOINC[code].name for code in (one.get("code") for one in codings) if code in VITAL_BY_LOINC), None
    )


def _sampled(data: dict[str, Any] | None, start: int) -> Iterable[tuple[int, float]]:
    """The points of SampledData; slots without a number are left out, as a gap."""
    if not data:
        return
    origin = float(data.get("origin", {}).get("value", 0) or 0)
    factor, period = float(data.get("factor", 1)), float(data.get("period", 0))
    for slot, text in enumerate(str(data.get("data", "")).split()):
        if text not in ("E", "U", "L"):
            yield start + int(slot * period * 1_000), origin + factor * float(text)


def _effective(resource: dict[str, Any]) -> int | None:
    text = (
        resource.get("effectiveDateTime")
        or resource.get("effectiveInstant")
        or resource.get("effectivePeriod", {}).get("start")
    )
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
