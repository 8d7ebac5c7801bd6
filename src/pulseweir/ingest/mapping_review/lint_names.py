"""Steps 4 and 5c: whether the two mappings of a pair name the same types and values. Pure."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import combinations

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.templates import Template
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.lint_rules import found


def lint_names(device_mapping: DeviceMapping, fhir_mapping: FhirMapping) -> Iterator[Finding]:
    """Types and value names that only one of the two mappings has."""
    by_type = _by_type(device_mapping)
    for templates in by_type.values():
        yield from _device_side(templates, fhir_mapping)
    for index, fhir in enumerate(fhir_mapping.templates.values()):
        yield from _fhir_side(fhir, index, by_type)


def lint_repeats(device_mapping: DeviceMapping) -> Iterator[Finding]:
    """Types made by several templates, and values that are measured twice."""
    for templates in _by_type(device_mapping).values():
        for template in templates:
            yield from _repeated_values(template)
        if len(templates) > 1:
            indexes = ", ".join(str(one.index) for one in templates)
            message = f"Templates {indexes} make this type; every one that matches a message runs."
            remedy = "See that they cannot match the same message, or make different values."
            last = templates[-1]
            yield found("duplicate-type", last.type_name, message, remedy, member=f"{_member(last)}.typeName")
        for one, other in combinations(templates, 2):
            yield from _shadowed(one, other)


def _by_type(mapping: DeviceMapping) -> dict[str, list[Template]]:
    found_types: dict[str, list[Template]] = {}
    for template in mapping.templates:
        found_types.setdefault(template.type_name.casefold(), []).append(template)
    return found_types


def _member(template: Template) -> str:
    return f"template[{template.index}].template"


def _device_side(templates: list[Template], mapping: FhirMapping) -> Iterator[Finding]:
    first = templates[0]
    fhir = mapping.template(first.type_name)
    if fhir is None:
        near = _near(first.type_name, (one.type_name for one in mapping.templates.values()))
        message = f"No FHIR template has this type: its measurements become no Observation.{near}"
        yield found("no-fhir-template", first.type_name, message, "Add one.", member=f"{_member(first)}.typeName")
        return
    told: set[str] = set()
    for template in templates:
        for at, value in enumerate(template.values):
            if mapping.binding(template.type_name, value.label) is not None or value.label in told:
                continue
            told.add(value.label)
            near = _near(value.label, (one.value_name for _, one in fhir.parts))
            message = f"The FHIR template of this type does not use this value: it is in no Observation.{near}"
            remedy = "Add it as value or component."
            place, member = f"{template.type_name}.{value.label}", f"{_member(template)}.values[{at}].valueName"
            yield found("unused-value", place, message, remedy, member=member)


def _fhir_side(fhir: FhirTemplate, index: int, by_type: dict[str, list[Template]]) -> Iterator[Finding]:
    member = f"template[{index}].template"
    templates = by_type.get(fhir.type_name.casefold())
    if templates is None:
        near = _near(fhir.type_name, (one[0].type_name for one in by_type.values()))
        message = f"No device template makes this type: the FHIR template is never used.{near}"
        remedy = "Remove it, or correct the type name."
        yield found("no-device-template", fhir.type_name, message, remedy, mapping="fhir", member=f"{member}.typeName")
        return
    made = {value.label for template in templates for value in template.values}
    members = [f"{member}.value"] if fhir.value else []
    members += [f"{member}.components[{at}].value" for at in range(len(fhir.components))]
    for (_, value), place in zip(fhir.parts, members, strict=True):
        if value.value_name in made:
            continue
        near = _near(value.value_name, made)
        message = f"No device template of this type makes the value {value.value_name or '(blank)'}.{near}"
        remedy = "Correct valueName, upper and lower case included."
        where = f"{fhir.type_name}.{value.value_name}"
        yield found("unbound-value", where, message, remedy, mapping="fhir", member=f"{place}.valueName")


def _near(name: str, others: Iterable[str]) -> str:
    by_folded = {other.casefold(): other for other in others}
    near = get_close_matches(name.casefold(), by_folded, 1)
    return f" Nearest: {by_folded[near[0]]}." if near else ""


def _repeated_values(template: Template) -> Iterator[Finding]:
    seen: set[str] = set()
    for at, value in enumerate(template.values):
        if value.label in seen:
            message = "The value name stands twice in one template; the first that finds something wins."
            place, member = f"{template.type_name}.{value.label}", f"{_member(template)}.values[{at}].valueName"
            yield found("duplicate-value", place, message, "Remove one, or rename it.", member=member)
        seen.add(value.label)


def _shadowed(one: Template, other: Template) -> Iterator[Finding]:
    if one.type_match is None or other.type_match is None:
        return
    same = (one.type_match.text.strip(), one.type_match.language) == (
        other.type_match.text.strip(),
        other.type_match.language,
    )
    shared = [value.label for value in one.values if any(value.label == twin.label for twin in other.values)]
    if not same or not (shared or not (one.values or other.values)):
        return
    names = ", ".join(dict.fromkeys(shared)) or "the event"
    message = f"Templates {one.index} and {other.index} match the same messages and both make {names}."
    yield found(
        "shadowed-match",
        other.type_name,
        message,
        "Remove one, or narrow its typeMatchExpression.",
        member=f"{_member(other)}.typeMatchExpression",
    )
