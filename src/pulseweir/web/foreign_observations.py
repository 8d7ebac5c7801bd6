"""Step 15: vitals in Observations that anybody may have written: only what its code, status and unit vouch for. Pure.

Source: R4 Observation (status is a modifier element: an entered-in-error or cancelled Observation is no observation;
registered is one without a result yet), R4 datatypes Quantity and SampledData, UCUM.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pulseweir.clock import to_microseconds
from pulseweir.records.codes import VITAL_BY_LOINC, VITAL_BY_NAME
from pulseweir.records.units import convert, written_unit

LOINC_SYSTEMS = ("http://loinc.org", "urn:oid:2.16.840.1.113883.6.1")
UCUM = "http://unitsofmeasure.org"
WITHDRAWN = ("entered-in-error", "cancelled")
_WITHOUT_RESULT = ("registered", "unknown")
_SECOND = 1_000_000
_MILLISECOND = 1_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of one vital in an Observation.

    Attributes:
        vital: Name in `codes.VITALS`.
        at: When it was true, microseconds: as measured, but no later than it was issued.
        number: In the vital's own unit; None when it cannot be drawn.
        withdrawn: entered-in-error or cancelled; "" for what stands.
        why_not: Why it has no number: "unit" or "comparator"; "" when it has one.
        ahead_seconds: How far its clock was ahead of when it was issued.
    """

    vital: str
    at: int
    number: float | None
    withdrawn: str = ""
    why_not: str = ""
    ahead_seconds: int = 0


def measured(resource: dict[str, Any]) -> Iterator[Measured]:
    """The vitals of an Observation, of its components and of its sampled data."""
    moment, issued, status = _effective(resource), _instant(resource.get("issued")), resource.get("status")
    if moment is None:
        return
    withdrawn = status if isinstance(status, str) and status in WITHDRAWN else ""
    for part in (resource, *_dicts(resource.get("component"))):
        vital = vital_of(part.get("code"))
        if vital is None:
            continue
        if status in _WITHOUT_RESULT and not _has_value(part):
            continue
        for occurred_at, number, why_not in _values(part, vital, moment):
            at = occurred_at if issued is None else min(occurred_at, issued)
            yield Measured(vital, at, number, withdrawn, why_not, (occurred_at - at) // _SECOND)


def vital_of(concept: object) -> str | None:
    """The vital that a CodeableConcept means by a LOINC code of LOINC's own system; None for every other."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for coding in _dicts(codings):
        code = coding.get("code")
        if coding.get("system") in LOINC_SYSTEMS and isinstance(code, str) and code in VITAL_BY_LOINC:
            return VITAL_BY_LOINC[code].name
    return None


def number_in(quantity: object, vital: str) -> tuple[float | None, str]:
    """A Quantity in the vital's own unit, and why there is none: "unit", "comparator", or "" when it has no value.

    The code counts where its system is UCUM; else what is written as the unit. A quantity without a unit that measures
    the same has no number: 16 may be kPa or mmHg.

    >>> number_in({"value": 16, "system": UCUM, "code": "kPa"}, "systolic_bp")
    (120.01, '')
    >>> number_in({"value": 101.3, "unit": "degF"}, "temperature"), number_in({"value": 16}, "systolic_bp")
    ((38.5, ''), (None, 'unit'))
    """
    if not isinstance(quantity, dict):
        return None, ""
    number = quantity.get("value")
    if not isinstance(number, int | float) or isinstance(number, bool):
        return None, ""
    if quantity.get("comparator"):
        return None, "comparator"
    converted = _converted(float(number), quantity, vital)
    return (None, "unit") if converted is None else (round(converted, 3), "")


def _converted(number: float, quantity: dict[str, Any], vital: str) -> float | None:
    code, system, written = quantity.get("code"), quantity.get("system"), quantity.get("unit")
    target = VITAL_BY_NAME[vital].unit
    if isinstance(code, str) and system == UCUM:
        return number if code == target else convert(number, code, target)
    unit = written_unit(written if isinstance(written, str) else code if isinstance(code, str) and not system else None)
    return None if unit is None else convert(number, unit.code, target)


def _values(part: dict[str, Any], vital: str, moment: int) -> Iterator[tuple[int, float | None, str]]:
    number, why_not = number_in(part.get("valueQuantity"), vital)
    if number is not None or why_not:
        yield moment, number, why_not
    integer = part.get("valueInteger")
    if isinstance(integer, int) and not isinstance(integer, bool):
        unitless = VITAL_BY_NAME[vital].unit in ("", "{score}")
        yield moment, float(integer) if unitless else None, "" if unitless else "unit"
    yield from _sampled(part.get("valueSampledData"), vital, moment)


def _sampled(data: object, vital: str, start: int) -> Iterator[tuple[int, float | None, str]]:
    """The points of SampledData; slots without a number are left out, as a gap."""
    if not isinstance(data, dict):
        return
    given = data.get("origin")
    origin: dict[str, Any] = given if isinstance(given, dict) else {}
    base, factor, period = (
        _number(value) for value in (origin.get("value"), data.get("factor", 1), data.get("period"))
    )
    for slot, text in enumerate(str(data.get("data", "")).split()):
        try:
            raw = float(text)
        except ValueError:
            continue
        number = _converted(base + factor * raw, origin, vital)
        yield start + int(slot * period * _MILLISECOND), number, "unit" if number is None else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _has_value(part: dict[str, Any]) -> bool:
    return any(name.startswith("value") for name in part)


def _dicts(values: object) -> Iterable[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list | tuple) else []


def _effective(resource: dict[str, Any]) -> int | None:
    period = resource.get("effectivePeriod")
    start = period.get("start") if isinstance(period, dict) else None
    return _instant(resource.get("effectiveDateTime") or resource.get("effectiveInstant") or start)


def _instant(text: object) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
