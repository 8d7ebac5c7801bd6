"""The vital-signs profiles of R4: what an Observation of a vital sign must say. Pure.

An Observation that claims a profile in `meta.profile` is held to it. One of the category vital-signs must say whose
it is, and have a value or say why not; its UCUM unit must be one of that vital sign. Strict validation holds it,
and every Observation coded as one of these vital signs, to the whole profile, as HL7's validator does.
Source: http://hl7.org/fhir/R4/observation-vitalsigns.html.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pulseweir.fhir_store.invariants import UCUM
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.primitives import Fault

_PROFILE = "http://hl7.org/fhir/StructureDefinition/"
_LOINC = "http://loinc.org"
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"


class _Vital(NamedTuple):
    """One profile: its LOINC code, the UCUM codes of its value (none: it has no value), its components."""

    code: str
    units: tuple[str, ...]
    components: tuple[str, ...] = ()


_LENGTHS = ("cm", "[in_i]")
_VITALS = {
    "heartrate": _Vital("8867-4", ("/min",)),
    "resprate": _Vital("9279-1", ("/min",)),
    "oxygensat": _Vital("2708-6", ("%",)),
    "bodytemp": _Vital("8310-5", ("Cel", "[degF]")),
    "bp": _Vital("85354-9", (), ("8480-6", "8462-4")),
    "bodyweight": _Vital("29463-7", ("g", "kg", "[lb_av]")),
    "bodyheight": _Vital("8302-2", _LENGTHS),
    "headcircum": _Vital("9843-4", _LENGTHS),
    "bmi": _Vital("39156-5", ("kg/m2",)),
    "vitalspanel": _Vital("85353-1", ()),
}
_UNITS = {vital.code: vital.units for vital in _VITALS.values() if vital.units} | {
    "8480-6": ("mm[Hg]",),
    "8462-4": ("mm[Hg]",),
}
_BY_CODE = {vital.code: name for name, vital in _VITALS.items()}
_COMPONENT_UNITS = frozenset(
    ("%", "cm", "[in_i]", "kg", "g", "[lb_av]", "Cel", "[degF]", "mm[Hg]", "/min", "kg/m2", "m2")
)


def vital_sign_faults(tree: Json, *, strict: bool) -> Iterator[Fault]:
    """What breaks the vital-signs profiles in an Observation whose structure is right."""
    profiles = tree["meta"].get("profile", ()) if "meta" in tree else ()
    claimed = [url.removeprefix(_PROFILE).partition("|")[0] for url in profiles if url.startswith(_PROFILE)]
    names = {name for name in claimed if name in _VITALS}
    is_categorized = _has_category(tree)
    if strict:
        names |= {_BY_CODE[code] for code in _loinc_codes(tree["code"]) if code in _BY_CODE}
    is_full = bool(names) or "vitalsigns" in claimed or (strict and is_categorized)
    if not is_full and not is_categorized:
        return
    yield from _common(tree)
    if not is_full:
        yield from _unit_faults(tree)
        return
    if not any(name in tree for name in ("effectiveDateTime", "effectivePeriod", "_effectiveDateTime")):
        yield ("effective",), "required", "is required of a vital sign, as a dateTime or a Period"
    if not is_categorized:
        yield ("category",), "required", "must have the category vital-signs"
    yield from _component_units(tree)
    for name in sorted(names):
        yield from _profile_faults(tree, name)


def _has_category(tree: Json) -> bool:
    for concept in tree.get("category", ()):
        for coding in concept.get("coding", ()):
            if coding.get("code") == "vital-signs" and coding.get("system") == _CATEGORIES:
                return True
    return False


def _loinc_codes(concept: Json) -> list[str]:
    return [coding.get("code", "") for coding in concept.get("coding", ()) if coding.get("system") == _LOINC]


def _has_value(node: Json) -> bool:
    return "dataAbsentReason" in node or any(name.startswith(("value", "_value")) for name in node)


def _common(tree: Json) -> Iterator[Fault]:
    if "subject" not in tree:
        yield ("subject",), "required", "is required of a vital sign"
    if len(tree.get("effectiveDateTime", "2024-01-01")) < 8:
        yield ("effective",), "invariant", "breaks vs-1: a vital sign's time is precise to the day"
    components = tree.get("component")
    if components:
        for place, component in enumerate(components):
            if not _has_value(component):
                text = "breaks vs-3: a component has a value or says why not"
                yield ("component", place), "invariant", text
    elif "hasMember" not in tree and not _has_value(tree):
        yield ("value",), "invariant", "breaks vs-2: a vital sign has a value or says why not"


def _unit_faults(tree: Json) -> Iterator[Fault]:
    """UCUM units that are none of the coded vital sign; quantities without a UCUM code are let pass."""
    if "valueQuantity" in tree:
        yield from _unit_fault(tree, ())
    for place, component in enumerate(tree.get("component", ())):
        if "valueQuantity" in component:
            yield from _unit_fault(component, ("component", place))


def _unit_fault(node: Json, path: tuple[str | int, ...]) -> Iterator[Fault]:
    quantity = node["valueQuantity"]
    if quantity.get("system") == UCUM:
        for code in _loinc_codes(node.get("code", {})):
            if code in _UNITS and quantity.get("code") not in _UNITS[code]:
                yield (*path, "value", "code"), "code-invalid", f"must be {' or '.join(_UNITS[code])}"


def _component_units(tree: Json) -> Iterator[Fault]:
    for place, component in enumerate(tree.get("component", ())):
        quantity = component.get("valueQuantity")
        if quantity and quantity.get("code") not in _COMPONENT_UNITS:
            yield ("component", place, "value", "code"), "code-invalid", "is not a unit of vital signs"


def _profile_faults(tree: Json, name: str) -> Iterator[Fault]:
    vital = _VITALS[name]
    if vital.code not in _loinc_codes(tree["code"]):
        yield ("code",), "required", f"must have the LOINC code {vital.code} of the profile {name}"
    if vital.units:
        if "valueQuantity" in tree:
            yield from _quantity_faults(tree["valueQuantity"], ("value",), vital.units)
        elif any(each.startswith("value") for each in tree):
            yield ("value",), "structure", f"must be a Quantity in the profile {name}"
    elif any(each.startswith("value") for each in tree):
        yield ("value",), "structure", f"is not allowed in the profile {name}"
    components = tree.get("component", ())
    for code in vital.components:
        places = [at for at, each in enumerate(components) if code in _loinc_codes(each.get("code", {}))]
        if len(places) != 1:
            yield ("component",), "required", f"must have one component with the LOINC code {code}"
        for at in places:
            if "valueQuantity" in components[at]:
                path = ("component", at, "value")
                yield from _quantity_faults(components[at]["valueQuantity"], path, _UNITS[code])


def _quantity_faults(quantity: Json, path: tuple[str | int, ...], units: tuple[str, ...]) -> Iterator[Fault]:
    for name in ("value", "unit"):
        if name not in quantity and "_" + name not in quantity:
            yield (*path, name), "required", "is required of a vital sign"
    if quantity.get("system") != UCUM:
        yield (*path, "system"), "value", f"must be {UCUM}"
    elif quantity.get("code") not in units:
        yield (*path, "code"), "code-invalid", f"must be {' or '.join(units)}"
