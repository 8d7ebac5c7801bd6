"""Step 5c: a measurement group to its Observation, new or merged into a stored one. Pure.

Instants are ticks of 100 ns since 1970 UTC.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass

from pulseweir.ingest.device_mapping.tokens import instant_text
from pulseweir.ingest.fhir_mapping.templates import Coding, ComponentTemplate, FhirTemplate, ValueTemplate
from pulseweir.ingest.fhir_mapping.values import Period, create, element_name, merge, parse_ticks, type_mismatch
from pulseweir.ingest.grouping import (
    TICKS_A_MICROSECOND,
    TICKS_A_SECOND,
    ObservationGroup,
    identifier_value,
    resource_id,
)
from pulseweir.records.codes import PULSEWEIR, SERVICE_SYSTEM

IMPLAUSIBLE: dict[str, object] = {
    "coding": [
        {
            "system": f"{PULSEWEIR}/CodeSystem/plausibility",
            "code": "implausible",
            "display": "Outside the bounds of a living patient",
        }
    ]
}
"""The interpretation that marks a value outside the absolute bounds of its code: kept, shown, never scored."""
_Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Subject:
    """FHIR ids of whom and what an Observation is about; None leaves the reference out."""

    patient_id: str | None
    device_id: str | None
    encounter_id: str | None = None


_UNKNOWN_VALUE: _Json = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]
}


def tick_text(tick: int, *, short: bool) -> str:
    """RFC 3339 text of a tick: with seven digits, or with as few as it needs."""
    seconds, fraction = divmod(tick, TICKS_A_SECOND)
    if short and fraction % TICKS_A_MICROSECOND == 0:
        return instant_text(tick // TICKS_A_MICROSECOND)
    return f"{instant_text(seconds * 1_000_000)[:-1]}.{fraction:07d}Z"


def new_observation(
    template: FhirTemplate,
    part: str,
    group: ObservationGroup,
    subject: Subject,
    *,
    dates: bool = False,
    implausible: Collection[str] = (),
) -> _Json:
    """The Observation of a group that has none yet.

    Args:
        template: Of the group's measurement type.
        part: The group's segment, which makes its identifier.
        group: The measurements.
        subject: References.
        dates: Write a single instant as effectiveDateTime.
        implausible: Names of values to mark.

    Raises:
        MessageError: The measurements do not fit the template.
    """
    value = identifier_value(subject.patient_id or "", subject.device_id or "", template.type_name, part)
    period = (group.start, group.end)
    made: _Json = {
        "resourceType": "Observation",
        "id": resource_id(value),
        "identifier": [{"system": SERVICE_SYSTEM, "value": value}],
        "status": "final",
    }
    if template.category:
        made["category"] = copy.deepcopy(list(template.category))
    made["code"] = concept(template.codes, template.type_name)
    made.update(_references(subject))
    made.update(_effective(period, dates=dates))
    if template.value is not None and template.value.value_name in group.samples:
        made[element_name(template.value)] = create(template.value, group.samples[template.value.value_name], period)
        _mark(made, template.value.value_name, implausible)
    components = [
        _component(component.codes, component.value, group, period, implausible)
        for component in template.components
        if component.value.value_name in group.samples
    ]
    if components:
        made["component"] = components
    if dates:
        _say_absent(made)
    return made


def _say_absent(observation: _Json) -> None:
    """Give a vital sign without any value the reason its profile asks for; take that away once there is one.

    Source: FHIR R4 vital-signs profile, vs-2; Observation, obs-6.
    """
    has_value = "component" in observation or any(name.startswith("value") for name in observation)
    if has_value:
        if observation.get("dataAbsentReason") == _UNKNOWN_VALUE:
            del observation["dataAbsentReason"]
    elif any(coding.get("code") == "vital-signs" for coding in _category_codings(observation)):
        observation.setdefault("dataAbsentReason", copy.deepcopy(_UNKNOWN_VALUE))


def _category_codings(observation: _Json) -> list[_Json]:
    categories = observation.get("category")
    listed = categories if isinstance(categories, list) else []
    return [coding for category in listed for coding in category.get("coding", [])]


def concept(codes: Collection[Coding], name: str) -> _Json:
    """A code: the mapping's codings first, then the predecessor's own coding of the name."""
    service = {"system": SERVICE_SYSTEM, "code": name, "display": name}
    return {"coding": [*(dict(coding) for coding in codes), service], "text": name}


def _references(subject: Subject) -> _Json:
    named = (
        ("subject", "Patient", subject.patient_id),
        ("encounter", "Encounter", subject.encounter_id),
        ("device", "Device", subject.device_id),
    )
    return {element: {"reference": f"{kind}/{logical}"} for element, kind, logical in named if logical}


def _effective(period: Period, *, dates: bool) -> _Json:
    start, end = period
    if dates and start == end:
        return {"effectiveDateTime": tick_text(start, short=True)}
    return {"effectivePeriod": {"start": tick_text(start, short=dates), "end": tick_text(end, short=dates)}}


def _mark(target: _Json, name: str, implausible: Collection[str]) -> None:
    if name in implausible:
        target["interpretation"] = [copy.deepcopy(IMPLAUSIBLE)]


def _component(
    codes: Collection[Coding],
    value: ValueTemplate,
    group: ObservationGroup,
    period: Period,
    implausible: Collection[str],
) -> _Json:
    made: _Json = {"code": concept(codes, value.value_name)}
    made[element_name(value)] = create(value, group.samples[value.value_name], period)
    _mark(made, value.value_name, implausible)
    return made


def merged_observation(
    template: FhirTemplate,
    group: ObservationGroup,
    existing: _Json,
    *,
    dates: bool = False,
    implausible: Collection[str] = (),
    overrides: bool = True,
) -> _Json:
    """A stored Observation with a group's measurements in it; equal to `existing` when nothing changes.

    New samples win over stored ones of the same time, the period widens to hold both, and what the stored
    Observation lacks is created. A change makes the status ``amended``.

    Args:
        template: Of the group's measurement type.
        group: The new measurements.
        existing: The stored Observation, not changed.
        dates: Write a single instant as effectiveDateTime.
        implausible: Names of values to mark.
        overrides: False for measurements older than what is stored: they only add what is missing.

    Raises:
        MessageError: The stored values are of another type than the template's.
    """
    merged = copy.deepcopy(existing)
    merged.pop("category", None)
    if template.category:
        merged["category"] = copy.deepcopy(list(template.category))
    old = stored_period(existing) or (group.start, group.end)
    period = (min(old[0], group.start), max(old[1], group.end))
    if period != stored_period(existing):
        for name in ("effectiveDateTime", "effectiveInstant", "effectivePeriod"):
            merged.pop(name, None)
        merged.update(_effective(period, dates=dates))
    if template.value is not None and template.value.value_name in group.samples:
        _merge_value(merged, template.value, group, (period, old), implausible, overrides=overrides)
    for component in template.components:
        if component.value.value_name in group.samples:
            _merge_component(merged, component, group, (period, old), implausible, overrides=overrides)
    if dates:
        _say_absent(merged)
    if merged == existing:
        return existing
    merged["status"] = "amended"
    return merged


def stored_period(observation: _Json) -> Period | None:
    """The ticks a stored Observation covers; None when it says nothing about time."""
    moment = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    if isinstance(moment, str):
        return parse_ticks(moment), parse_ticks(moment)
    period = observation.get("effectivePeriod")
    if not isinstance(period, dict):
        return None
    start = period.get("start") or period.get("end")
    end = period.get("end") or period.get("start")
    return (parse_ticks(str(start)), parse_ticks(str(end))) if start and end else None


def _merge_component(
    merged: _Json,
    component: ComponentTemplate,
    group: ObservationGroup,
    periods: tuple[Period, Period],
    implausible: Collection[str],
    *,
    overrides: bool,
) -> None:
    stored = _component_of(merged, component.value.value_name)
    if stored is not None:
        _merge_value(stored, component.value, group, periods, implausible, overrides=overrides)
        return
    components = merged.setdefault("component", [])
    if isinstance(components, list):
        components.append(_component(component.codes, component.value, group, periods[0], implausible))


def _merge_value(
    target: _Json,
    value: ValueTemplate,
    group: ObservationGroup,
    periods: tuple[Period, Period],
    implausible: Collection[str],
    *,
    overrides: bool,
) -> None:
    element = element_name(value)
    samples = group.samples[value.value_name]
    if any(name.startswith("value") and name != element for name in target):
        raise type_mismatch(value)
    period, old = periods
    if element not in target:
        target[element] = create(value, samples, period)
    elif value.value_type == "SampledData":
        target[element] = merge(value, samples, period, target[element], old, overrides=overrides)
    elif overrides:
        target[element] = create(value, samples, period)
        _unmark(target)
    else:
        return
    _mark(target, value.value_name, implausible)


def _unmark(target: _Json) -> None:
    if target.get("interpretation") == [IMPLAUSIBLE]:
        del target["interpretation"]


def _component_of(observation: _Json, name: str) -> _Json | None:
    components = observation.get("component")
    found = components if isinstance(components, list) else []
    return next((component for component in found if _is_named(component, name)), None)


def _is_named(component: _Json, name: str) -> bool:
    code = component.get("code")
    codings = code.get("coding", []) if isinstance(code, dict) else []
    return any(coding.get("system") == SERVICE_SYSTEM and coding.get("code") == name for coding in codings)
