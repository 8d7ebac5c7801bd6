"""Step 5c: FHIR mapping JSON to templates, every fault with its place. Pure."""

from dataclasses import dataclass
from typing import Literal

from pulseweir.ingest.device_mapping.loader import (
    Compatibility,
    Faults,
    refuse_unknown,
    required,
    required_text,
)
from pulseweir.ingest.device_mapping.located_json import Node
from pulseweir.ingest.grouping import INTERVALS, SINGLE

ValueType = Literal["SampledData", "Quantity", "String", "CodeableConcept"]
VALUE_TYPES: dict[str, ValueType] = {
    "sampleddata": "SampledData",
    "quantity": "Quantity",
    "string": "String",
    "codeableconcept": "CodeableConcept",
}
Coding = dict[str, str]
Concept = dict[str, object]
_TEMPLATE_MEMBERS = ("typeName", "codes", "category", "periodInterval", "value", "components")


@dataclass(frozen=True, slots=True)
class ValueTemplate:
    """What one value[x] looks like.

    Attributes:
        value_type: Which value[x].
        value_name: The measured value that fills it.
        unit: Human unit of Quantity and SampledData.
        system: Unit system of Quantity.
        code: Unit code of Quantity.
        period_milliseconds: Distance of two samples of SampledData.
        concept: The CodeableConcept that presence asserts.
    """

    value_type: ValueType
    value_name: str
    unit: str | None = None
    system: str | None = None
    code: str | None = None
    period_milliseconds: float = 0.0
    concept: Concept | None = None


@dataclass(frozen=True, slots=True)
class ComponentTemplate:
    """One component: its codes and its value."""

    codes: tuple[Coding, ...]
    value: ValueTemplate


@dataclass(frozen=True, slots=True)
class FhirTemplate:
    """How measurements of one type become Observations.

    Attributes:
        type_name: The measurement type.
        codes: Codings of the Observation.
        category: Its categories, ready to use.
        interval: Minutes of one Observation; 0 one an instant, -1 one a correlation id.
        value: Its value[x], if any.
        components: Its components.
    """

    type_name: str
    codes: tuple[Coding, ...]
    category: tuple[Concept, ...] = ()
    interval: int = SINGLE
    value: ValueTemplate | None = None
    components: tuple[ComponentTemplate, ...] = ()

    @property
    def parts(self) -> list[tuple[tuple[Coding, ...], ValueTemplate]]:
        """Every value with the codes that say what it is: the Observation's own first."""
        own = [(self.codes, self.value)] if self.value else []
        return own + [(component.codes, component.value) for component in self.components]


def load_template(
    container: Node, place: str, faults: Faults, compatibility: Compatibility = "strict"
) -> FhirTemplate | None:
    """One container of the collection; None with faults when it is not usable.

    ``strict`` loads a periodInterval that no Observation can be made with, as the predecessor does.
    """
    content = _content(container, place, faults)
    if content is None:
        return None
    place = f"{place}.template"
    refuse_unknown(content, _TEMPLATE_MEMBERS, place, faults)
    type_name = required_text(content, "typeName", place, faults)
    if type_name is not None and not type_name.strip():
        faults.add(content.member("typeName"), f"{place}.typeName", "Empty type name is not allowed.", "Name it.")
    codes = required(content, "codes", place, faults)
    codings = _codings(codes, f"{place}.codes", faults)
    value = _value(content.member("value"), f"{place}.value", faults)
    components = _components(content.member("components"), f"{place}.components", faults)
    category = _category(content.member("category"), f"{place}.category", faults)
    interval = _interval(content.member("periodInterval"), f"{place}.periodInterval", faults, compatibility)
    if type_name is None or codes is None:
        return None
    return FhirTemplate(type_name, codings, category, interval, value, components)


def _content(container: Node, place: str, faults: Faults) -> Node | None:
    if container.members is None:
        faults.add(container, place, "is not an object.", "Write templateType and template.")
        return None
    kind = required_text(container, "templateType", place, faults)
    if kind is None:
        return None
    if kind.casefold() not in {"codevaluefhir", "codevaluefhirtemplate"}:
        problem = f"No match found for template type '{kind}'."
        faults.add(container.member("templateType"), f"{place}.templateType", problem, "Use CodeValueFhir.")
        return None
    content = required(container, "template", place, faults)
    if content is not None and content.members is None:
        faults.add(content, f"{place}.template", "is not an object.", "Write the template's members in braces.")
        return None
    return content


def _text(node: Node, name: str) -> str | None:
    found = node.member(name)
    return None if found is None or found.scalar is None else str(found.scalar)


def _codings(node: Node | None, place: str, faults: Faults) -> tuple[Coding, ...]:
    if node is None or node.is_null:
        return ()
    if node.items is None:
        faults.add(node, place, "is not an array.", "Write an array of {code, system, display}.")
        return ()
    codings: list[Coding] = []
    for index, item in enumerate(node.items):
        if item.members is None:
            faults.add(item, f"{place}[{index}]", "is not an object.", "Write {code, system, display}.")
            continue
        refuse_unknown(item, ("code", "system", "display"), f"{place}[{index}]", faults)
        written = {name: _text(item, name) for name in ("system", "code", "display")}
        codings.append({name: text for name, text in written.items() if text is not None})
    return tuple(codings)


def _category(node: Node | None, place: str, faults: Faults) -> tuple[Concept, ...]:
    if node is None or node.is_null:
        return ()
    if node.items is None:
        faults.add(node, place, "is not an array.", "Write an array of {text, codes}.")
        return ()
    concepts: list[Concept] = []
    for index, item in enumerate(node.items):
        refuse_unknown(item, ("text", "codes"), f"{place}[{index}]", faults)
        concepts.append(_concept(item, f"{place}[{index}]", faults))
    return tuple(concepts)


def _concept(node: Node, place: str, faults: Faults) -> Concept:
    concept: Concept = {}
    codings = _codings(node.member("codes"), f"{place}.codes", faults)
    if codings:
        concept["coding"] = list(codings)
    text = _text(node, "text")
    if text is not None:
        concept["text"] = text
    return concept


def _interval(node: Node | None, place: str, faults: Faults, compatibility: Compatibility) -> int:
    if node is None or node.is_null:
        return SINGLE
    written = node.scalar
    if isinstance(written, str):
        named = INTERVALS.get(written.casefold())
        if named is not None:
            return named
        written = int(written) if written.lstrip("-").isdecimal() and len(written) < 6 else None
    if isinstance(written, int) and not isinstance(written, bool) and compatibility == "strict":
        return written
    if written not in INTERVALS.values() or isinstance(written, bool):
        faults.add(
            node, place, "is no known interval.", "Use CorrelationId (-1), Single (0), Hourly (60), Daily (1440)."
        )
        return SINGLE
    return int(str(written))


def _value(node: Node | None, place: str, faults: Faults) -> ValueTemplate | None:
    if node is None or node.is_null:
        return None
    if node.members is None:
        faults.add(node, place, "is not an object.", "Write valueType and valueName.")
        return None
    written = required_text(node, "valueType", place, faults)
    name = _text(node, "valueName") or ""
    value_type = VALUE_TYPES.get((written or "").casefold())
    if written is None or value_type is None:
        if written is not None:
            problem = f"'{written}' is no value type."
            faults.add(
                node.member("valueType"), f"{place}.valueType", problem, f"Use {', '.join(VALUE_TYPES.values())}."
            )
        return None
    period = _period(node, place, faults) if value_type == "SampledData" else 0.0
    concept = _concept(node, place, faults) if value_type == "CodeableConcept" else None
    return ValueTemplate(
        value_type, name, _text(node, "unit"), _text(node, "system"), _text(node, "code"), period, concept
    )


def _period(node: Node, place: str, faults: Faults) -> float:
    found = node.member("defaultPeriod")
    period = found.scalar if found else None
    if not isinstance(period, int | float) or isinstance(period, bool) or not period > 0:
        problem = "SampledData needs the milliseconds between two samples."
        faults.add(found or node, f"{place}.defaultPeriod", problem, "Write a number above 0.")
        return 1.0
    return float(period)


def _components(node: Node | None, place: str, faults: Faults) -> tuple[ComponentTemplate, ...]:
    if node is None or node.is_null:
        return ()
    if node.items is None:
        faults.add(node, place, "is not an array.", "Write an array of {codes, value}.")
        return ()
    components: list[ComponentTemplate] = []
    for index, item in enumerate(node.items):
        refuse_unknown(item, ("codes", "value"), f"{place}[{index}]", faults)
        codings = _codings(item.member("codes"), f"{place}[{index}].codes", faults)
        before = len(faults.found)
        value = _value(item.member("value"), f"{place}[{index}].value", faults)
        if value is None:
            if len(faults.found) == before:
                faults.add(item, f"{place}[{index}]", "has no value.", "Add value with valueType and valueName.")
            continue
        components.append(ComponentTemplate(codings, value))
    return tuple(components)
