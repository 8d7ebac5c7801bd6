"""Step 5c: whether code, display, value name and unit of a FHIR mapping agree. Pure.

Source: LOINC, UCUM and the vital-signs profiles, as `records.quantities` and `records.units` hold them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.templates import Coding, FhirTemplate, ValueTemplate
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.lint_rules import found
from pulseweir.records.codes import LOINC, SNOMED, UCUM
from pulseweir.records.quantities import (
    MDC,
    QUANTITY_BY_CODE,
    Quantity,
    is_loinc,
    named_quantity,
    value_named,
)
from pulseweir.records.units import UNIT_BY_CODE, Unit, written_unit

_SYSTEMS = (LOINC, SNOMED, MDC)


class Part(NamedTuple):
    """One part of a FHIR template that has codes: the Observation itself, or a component.

    Attributes:
        place: Measurement type and value name.
        member: Path of the object with the member ``codes``.
        codes: Its codes.
        value: Its value; None for an Observation that has none of its own.
    """

    place: str
    member: str
    codes: tuple[Coding, ...]
    value: ValueTemplate | None

    @property
    def quantity(self) -> Quantity | None:
        """What the first known code means; None when no code is known."""
        known = (QUANTITY_BY_CODE.get((coding.get("system", ""), coding.get("code", ""))) for coding in self.codes)
        return next((quantity for quantity in known if quantity is not None), None)


def parts_of(mapping: FhirMapping) -> Iterator[tuple[FhirTemplate, list[Part]]]:
    """Every template with its parts, its own codes first."""
    for index, template in enumerate(mapping.templates.values()):
        member = f"template[{index}].template"
        name = f"{template.type_name}.{template.value.value_name}" if template.value else template.type_name
        own = Part(name, member, template.codes, template.value)
        parts = [
            Part(
                f"{template.type_name}.{component.value.value_name}",
                f"{member}.components[{at}]",
                component.codes,
                component.value,
            )
            for at, component in enumerate(template.components)
        ]
        yield template, [own, *parts]


def lint_codes(mapping: FhirMapping) -> Iterator[Finding]:
    """Codes, displays, systems and units that do not agree, template by template."""
    for _, parts in parts_of(mapping):
        yield from _repeated(parts)
        for part in parts:
            told = [
                one
                for at, coding in enumerate(part.codes)
                for one in _coding(part, coding, f"{part.member}.codes[{at}]")
            ]
            yield from told
            yield from _no_standard(part)
            # A wrong code makes its unit and value name look wrong: said once, where it can be put right.
            is_wrong = any(one.rule == "code-display" for one in told)
            yield from () if is_wrong else _name(part)
            yield from _unit(part, None if is_wrong else part.quantity)


def _coding(part: Part, coding: Coding, member: str) -> Iterator[Finding]:
    code, system, display = (coding.get(name, "") for name in ("code", "system", "display"))
    if system not in _SYSTEMS:
        near = next((one for one in _SYSTEMS if _looks_like(system, one)), None)
        if near is not None:
            message = f"The system {system} is not {near}, to the character: readers do not recognize the code."
            yield found("code-system", part.place, message, f"Write {near}.", mapping="fhir", member=f"{member}.system")
        return
    if system == LOINC and not is_loinc(code):
        message = f"{code or 'An empty code'} is no LOINC code: its check digit is wrong."
        yield found("unknown-loinc", part.place, message, "Look the code up.", mapping="fhir", member=f"{member}.code")
        return
    meant, named = QUANTITY_BY_CODE.get((system, code)), named_quantity(display)
    if meant is not None and named is not None and meant.kind != named.kind:
        message = f"{code} means {meant.title}, the display says {display}."
        remedy = f"Write {named.codes[0]}, or correct the display."
        yield found("code-display", part.place, message, remedy, mapping="fhir", member=f"{member}.code")


def _looks_like(system: str, known: str) -> bool:
    def bare(text: str) -> str:
        return text.casefold().removeprefix("https://").removeprefix("http://").removeprefix("www.").strip("/ ")

    return bool(system) and (bare(system) == bare(known) or bare(system) == bare(known).partition(".")[0])


def _name(part: Part) -> Iterator[Finding]:
    meant, named = part.quantity, None if part.value is None else value_named(part.value.value_name)
    if meant is None or named is None or meant.kind == named.kind or meant.system != named.system:
        return
    message = f"The value {part.value.value_name if part.value else ''} is coded as {meant.title} ({meant.codes[0]})."
    remedy = f"{named.title} is {named.codes[0]}: correct the code, or rename the value in both mappings."
    yield found("code-name", part.place, message, remedy, mapping="fhir", member=f"{part.member}.codes")


def _no_standard(part: Part) -> Iterator[Finding]:
    if any(coding.get("system") in _SYSTEMS for coding in part.codes):
        return
    message = "No code of LOINC, SNOMED CT or MDC: other systems cannot read it, and the house does not score it."
    yield found(
        "no-standard-code", part.place, message, "Add a LOINC code.", mapping="fhir", member=f"{part.member}.codes"
    )


def _repeated(parts: list[Part]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for part in parts:
        for coding in part.codes:
            key = (coding.get("system", ""), coding.get("code", ""))
            before = seen.setdefault(key, part.place)
            if key[1] and before != part.place:
                message = f"{key[1]} is the code of {before} as well: readers cannot tell the two apart."
                remedy = "Give each part its own code."
                member = f"{part.member}.codes"
                yield found("duplicate-code", part.place, message, remedy, mapping="fhir", member=member)


def _unit(part: Part, quantity: Quantity | None) -> Iterator[Finding]:
    value = part.value
    if value is None or value.value_type not in {"Quantity", "SampledData"}:
        return
    member = f"{part.member}.value"
    written, told = value.code or value.unit, False
    for finding in _ucum(part, value, member):
        told = True
        yield finding
    unit = written_unit(value.code) or written_unit(value.unit)
    if quantity is None or not quantity.units:
        return
    preferred = quantity.units[0]
    if not (written or "").strip():
        message = f"{quantity.title} has no unit here."
        yield found("missing-unit", part.place, message, _unit_remedy(value, preferred), mapping="fhir", member=member)
    elif unit is not None and unit.code not in quantity.units and not _same_dimension(unit, quantity):
        message = f"{quantity.title} is measured in {' or '.join(quantity.units[:2])}, not in {written}."
        remedy = f"{_unit_remedy(value, preferred)} Or correct the LOINC code."
        yield found("code-unit", part.place, message, remedy, mapping="fhir", member=member)
    elif value.value_type == "Quantity" and value.code is None and not told:
        message = f"{quantity.title} has a unit text and no UCUM code: programs cannot read it."
        yield found("missing-unit", part.place, message, _unit_remedy(value, preferred), mapping="fhir", member=member)


def _same_dimension(unit: Unit, quantity: Quantity) -> bool:
    return any(UNIT_BY_CODE[code].dimension == unit.dimension for code in quantity.units)


def _unit_remedy(value: ValueTemplate, code: str) -> str:
    return f"Write unit {code}." if value.value_type == "SampledData" else f"Write system {UCUM} and code {code}."


def _ucum(part: Part, value: ValueTemplate, member: str) -> Iterator[Finding]:
    if value.code is None:
        return
    meant = written_unit(value.code)
    if value.system == UCUM and meant is not None and meant.code != value.code:
        message = f"{value.code} is no UCUM code."
        remedy = f"Write code {meant.code}; {value.code} may stay as the unit's text."
        yield found("not-ucum", part.place, message, remedy, mapping="fhir", member=f"{member}.code")
    if value.system != UCUM and meant is not None:
        message = "The unit's code has no UCUM system: programs cannot tell what it is."
        yield found("unit-system", part.place, message, f"Write system {UCUM}.", mapping="fhir", member=member)
    text = written_unit(value.unit)
    if text is not None and meant is not None and text.code != meant.code and not _are_synonyms(text, meant):
        message = f"The unit's text {value.unit} and its code {value.code} say different things."
        remedy = f"Write code {text.code}, or correct the text."
        yield found("unit-text", part.place, message, remedy, mapping="fhir", member=member)


def _are_synonyms(one: Unit, other: Unit) -> bool:
    return (one.dimension, one.factor, one.offset) == (other.dimension, other.factor, other.offset)
