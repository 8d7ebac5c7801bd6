"""What a resource is found by: the rows of the search index, out of its tree. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product
from typing import Any

from pulseweir.fhir_store.dates import NO_DATE
from pulseweir.fhir_store.definitions.tables import Component, ValuePath
from pulseweir.fhir_store.extraction import (
    Amount,
    Token,
    amount_of,
    effective_range,
    identifier_types,
    normalized,
    numbers,
    points_to,
    reference_text,
    strings,
    token_texts,
    tokens,
    values_at,
)
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.parameters import Parameter, parameters_of

OBSERVATION_COLUMNS = {
    "subject": "subject",
    "code": "code_set",
    "date": "low",
    "status": "status",
    "category": "category_set",
    "device": "device",
    "encounter": "encounter",
    "value-quantity": "value_low",
    "value-concept": "concept_set",
}
"""Parameters of Observation that have a column of their own, with its name (of a range: its lower end)."""

REFERENCE_COLUMNS = ("subject", "device", "encounter")
"""Those of them that are references; the members of an Observation have the same names."""

_NO_VALUE = frozenset({"id", "extension"})
"""Members that make no value of an element."""

COMPONENT_COLUMNS = {
    "component-code": "code_set",
    "component-value-quantity": "value_low",
    "component-value-concept": "concept_set",
}
"""Parameters of Observation whose values stand in the columns of its components."""


@dataclass(frozen=True, slots=True)
class Coded:
    """The codings of a concept, and the texts by which `:text` finds it."""

    tokens: tuple[Token, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservationColumns:
    """The promoted columns of an Observation; None where the element is missing."""

    subject: str | None
    code: Coded
    low: int
    high: int
    status: str | None
    category: Coded
    device: str | None
    encounter: str | None
    value: Amount | None
    concept: Coded


@dataclass(frozen=True, slots=True)
class ComponentColumns:
    """The columns of one component of an Observation."""

    code: Coded
    value: Amount | None
    concept: Coded


@dataclass(slots=True)
class IndexRows:
    """The index of one resource.

    Attributes:
        texts: (parameter key, value, system) of tokens, references, strings, URIs. Further keys hold what modifiers
            ask for: `:exact` of strings, `:text` of tokens, `:of-type` of identifiers, `:identifier` of references;
            and `:present` says that a value is there which none of these has, such as a reference with a display alone.
        ranges: (parameter key, low, high) of dates and numbers.
        amounts: (parameter key, quantity).
        observation: The columns of an Observation; None for another type.
        components: The columns of its components.
    """

    texts: set[tuple[str, str, str]] = field(default_factory=set)
    ranges: set[tuple[str, float, float]] = field(default_factory=set)
    amounts: set[tuple[str, Amount]] = field(default_factory=set)
    observation: ObservationColumns | None = None
    components: tuple[ComponentColumns, ...] = ()


def index_resource(resource_type: str, tree: Json) -> IndexRows:
    """Every row by which this resource is found.

    Raises:
        Refusal: 422 when its structure is so wrong that it cannot be indexed, which only unvalidated ones can be.
    """
    try:
        return _index(resource_type, tree)
    except (AttributeError, TypeError, KeyError, IndexError):
        text = "The resource cannot be indexed: an element that searches use has the wrong JSON type."
        raise Refusal(422, "structure", text, resource_type) from None


def _index(resource_type: str, tree: Json) -> IndexRows:
    rows = IndexRows()
    by_member, always = _plan(resource_type)
    for member in tree:
        for parameter, path in by_member.get(member, ()):
            _index_path(rows, parameter, path, tree)
    for parameter in always:
        _index_truth(rows, parameter, tree)
    if resource_type == "Observation":
        rows.observation = _observation_columns(tree)
        for name in REFERENCE_COLUMNS:
            rows.texts.update(_beside_column(f"Observation.{name}", tree.get(name)))
        if "component" in tree:
            rows.components = tuple(_component_columns(each) for each in tree["component"] if isinstance(each, dict))
    elif resource_type == "Group":
        for parameter in filter(lambda each: each.roots, parameters_of(resource_type).values()):
            _index_composite(rows, parameter, tree)
    return rows


Plan = tuple[dict[str, tuple[tuple[Parameter, ValuePath], ...]], tuple[Parameter, ...]]
"""(paths by the first member they need, parameters that ask whether something is there)."""


@cache
def _plan(resource_type: str) -> Plan:
    promoted = OBSERVATION_COLUMNS | COMPONENT_COLUMNS if resource_type == "Observation" else {}
    by_member: dict[str, list[tuple[Parameter, ValuePath]]] = {}
    always = []
    for name, parameter in parameters_of(resource_type).items():
        if name in promoted or parameter.key != f"{resource_type}.{name}" or parameter.roots:
            continue
        if any(path.truth for path in parameter.paths):
            always.append(parameter)
            continue
        for path in parameter.paths:
            by_member.setdefault(path.members[0].partition("[")[0], []).append((parameter, path))
    return {member: tuple(each) for member, each in by_member.items()}, tuple(always)


def _index_path(rows: IndexRows, parameter: Parameter, path: ValuePath, tree: Json) -> None:
    key = parameter.key
    for value in values_at(path, tree):
        match parameter.kind:
            case "date":
                low, high = effective_range(value)
                if low != NO_DATE:
                    rows.ranges.add((key, low, high))
            case "number":
                number = numbers(value)
                if number is not None:
                    rows.ranges.add((key, *number))
            case "quantity":
                amount = amount_of(value, path.type)
                if amount is not None:
                    rows.amounts.add((key, amount))
            case _:
                found = list(_text_rows(parameter, path, value))
                rows.texts.update(found or _presence(key, value))


def _presence(key: str, value: Any) -> list[tuple[str, str, str]]:
    """A row for a value that has nothing to be found by, so that `:missing` does not say there is none."""
    is_there = type(value) is dict and any(member not in _NO_VALUE for member in value)
    return [(f"{key}:present", "", "")] if is_there else []


def _text_rows(parameter: Parameter, path: ValuePath, value: Any) -> Iterator[tuple[str, str, str]]:
    key = parameter.key
    if parameter.kind == "token":
        for code, system in tokens(value, path.type):
            yield key, code, system
        for text in token_texts(value, path.type):
            yield f"{key}:text", normalized(text), ""
        if path.type == "Identifier":
            for code, system in identifier_types(value):
                yield f"{key}:of-type", code, system
    elif parameter.kind == "reference":
        yield from _reference_rows(parameter, path, value)
    elif parameter.kind == "string":
        for text in strings(value, path.type):
            yield key, normalized(text), ""
            yield f"{key}:exact", text, ""
    elif parameter.kind == "uri" and isinstance(value, str):
        yield key, value, ""


def _reference_rows(parameter: Parameter, path: ValuePath, value: Any) -> Iterator[tuple[str, str, str]]:
    reference = reference_text(value)
    if reference and points_to(reference, path.target):
        yield parameter.key, reference, ""
        if path.type == "canonical" and "|" in reference:
            yield parameter.key, reference.partition("|")[0], ""
    yield from _identifier_rows(parameter.key, value)


def _beside_column(key: str, reference: Any) -> list[tuple[str, str, str]]:
    """What the index has of a reference that stands in a column."""
    found = list(_identifier_rows(key, reference))
    return found if found or reference_text(reference) else _presence(key, reference)


def _identifier_rows(key: str, reference: Any) -> Iterator[tuple[str, str, str]]:
    if type(reference) is dict and "identifier" in reference and type(reference["identifier"]) is dict:
        for code, system in tokens(reference["identifier"], "Identifier"):
            yield f"{key}:identifier", code, system


def _index_truth(rows: IndexRows, parameter: Parameter, tree: Json) -> None:
    values = [value for path in parameter.paths for value in values_at(path, tree)]
    rows.texts.add((parameter.key, "true" if any(value is not False for value in values) else "false", ""))


def _index_composite(rows: IndexRows, parameter: Parameter, tree: Json) -> None:
    """Both sides in one text, each with and without its system, joined by `$`: `system|code$system|code`."""
    for root in parameter.roots:
        nodes = values_at(ValuePath(tuple(root.path.split(".")), ""), tree) if root.path else [tree]
        for node in nodes:
            sides = [list(_side_texts(component, node)) for component in root.components]
            rows.texts.update((parameter.key, "$".join(each), "") for each in product(*sides))


def _side_texts(component: Component, node: Json) -> Iterator[str]:
    for path in component.paths:
        for value in values_at(path, node):
            for code, system in tokens(value, path.type):
                yield code
                yield f"{system}|{code}"


_UNCODED = Coded()


def _coded(concepts: Any) -> Coded:
    if concepts is None:
        return _UNCODED
    concepts = concepts if type(concepts) is list else [concepts]
    if len(concepts) == 1 and len(concepts[0].get("coding", ())) == 1:
        (coding,) = concepts[0]["coding"]
        return _one_coding(
            coding.get("code", ""), coding.get("system", ""), coding.get("display", ""), concepts[0].get("text", "")
        )
    codings = {token for concept in concepts for token in tokens(concept, "CodeableConcept")}
    texts = {normalized(text) for concept in concepts for text in token_texts(concept, "CodeableConcept")}
    return Coded(tuple(sorted(codings)), tuple(sorted(texts)))


@lru_cache(maxsize=4096)
def _one_coding(code: str, system: str, display: str, text: str) -> Coded:
    texts = sorted({normalized(each) for each in (display, text) if each})
    return Coded(((code, system),) if code or system else (), tuple(texts))


def _observation_columns(tree: Json) -> ObservationColumns:
    effective = tree.get("effectiveDateTime") or tree.get("effectivePeriod") or tree.get("effectiveInstant")
    low, high = effective_range(effective or tree.get("effectiveTiming"))
    return ObservationColumns(
        subject=reference_text(tree.get("subject")),
        code=_coded(tree.get("code")),
        low=low,
        high=high,
        status=str(tree.get("status", "")) or None,
        category=_coded(tree.get("category")),
        device=reference_text(tree.get("device")),
        encounter=reference_text(tree.get("encounter")),
        value=_value(tree),
        concept=_coded(tree.get("valueCodeableConcept")),
    )


def _component_columns(component: Json) -> ComponentColumns:
    return ComponentColumns(
        _coded(component.get("code")), _value(component), _coded(component.get("valueCodeableConcept"))
    )


def _value(node: Json) -> Amount | None:
    quantity, sampled = node.get("valueQuantity"), node.get("valueSampledData")
    if isinstance(quantity, dict):
        return amount_of(quantity, "Quantity")
    return amount_of(sampled, "SampledData") if isinstance(sampled, dict) else None
