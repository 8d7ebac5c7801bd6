"""What a resource is found by: the rows of the search index, out of its tree. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product, repeat
from typing import Any, NamedTuple

from pulseweir.fhir_store.dates import NO_DATE
from pulseweir.fhir_store.definitions.tables import Component, ValuePath
from pulseweir.fhir_store.extraction import (
    Amount,
    Token,
    amount_of,
    contained_reference,
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
from pulseweir.fhir_store.json_text import KNOWN_BYTES, KNOWN_TEXTS
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

STATUS_KEY, USUAL_STATUS = "Observation.status", "final"
"""Nearly all Observations are final, so that an index of their column would not help; the others have rows."""

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


class Coded(NamedTuple):
    """The codings of a concept, and the texts by which `:text` finds it."""

    tokens: tuple[Token, ...] = ()
    texts: tuple[str, ...] = ()


class ObservationColumns(NamedTuple):
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


class ComponentColumns(NamedTuple):
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
        zone: IANA name of the zone whose days are meant where a date says no more.
    """

    texts: set[tuple[str, str, str]] = field(default_factory=set)
    ranges: set[tuple[str, float, float]] = field(default_factory=set)
    amounts: set[tuple[str, Amount]] = field(default_factory=set)
    observation: ObservationColumns | None = None
    components: tuple[ComponentColumns, ...] = ()
    zone: str = "UTC"


def index_resource(resource_type: str, tree: Json, texts: Iterable[bytes] = (), zone: str = "UTC") -> IndexRows:
    """Every row by which this resource is found.

    Args:
        resource_type: FHIR type.
        tree: The decoded resource.
        texts: Those of its members, in order, where they are known: what they say is remembered.
        zone: IANA name of the zone whose days are meant where a date says no more.

    Raises:
        Refusal: 422 when its structure is so wrong that it cannot be indexed, which only unvalidated ones can be, or
            a number is too large to be compared.
    """
    try:
        return _index(resource_type, tree, texts, IndexRows(zone=zone))
    except (AttributeError, TypeError, KeyError, IndexError):
        text = "The resource cannot be indexed: an element that searches use has the wrong JSON type."
        raise Refusal(422, "structure", text, resource_type) from None
    except OverflowError:
        text = "The resource cannot be indexed: an element that searches use is too large a number."
        raise Refusal(422, "value", text, resource_type) from None


_MemberRows = tuple[IndexRows, Any]
"""(what one member of a resource is found by, its column of an Observation or None)."""


def _index(resource_type: str, tree: Json, texts: Iterable[bytes], rows: IndexRows) -> IndexRows:
    columns = _index_members(rows, resource_type, tree, texts)
    for parameter in _plan(resource_type)[1]:
        _index_truth(rows, parameter, tree)
    if resource_type == "Observation":
        rows.observation = _observation_columns(tree, columns, rows.zone)
        if rows.observation.status not in {None, USUAL_STATUS}:
            rows.texts.add((STATUS_KEY, str(rows.observation.status), ""))
        if "component" in tree:
            rows.components = tuple(_component_columns(each) for each in tree["component"] if isinstance(each, dict))
    elif resource_type == "Group":
        for parameter in filter(lambda each: each.roots, parameters_of(resource_type).values()):
            _index_composite(rows, parameter, tree)
    return rows


def _index_members(rows: IndexRows, resource_type: str, tree: Json, texts: Iterable[bytes]) -> dict[str, Any]:
    """Add what each member is found by; returns their columns of an Observation."""
    indexed = _plan(resource_type)[0]
    columns: dict[str, Any] = {}
    for (member, value), text in zip(tree.items(), texts or repeat(b""), strict=False):
        if member not in indexed:
            continue
        if not text or len(text) > KNOWN_BYTES or type(value) is str:
            columns[member] = _index_member(rows, resource_type, member, value)
            continue
        known, columns[member] = _known_rows(resource_type, member, value, text, rows.zone)
        if known.texts or known.ranges or known.amounts:
            rows.texts |= known.texts
            rows.ranges |= known.ranges
            rows.amounts |= known.amounts
    return columns


@cache
def _known() -> dict[tuple[str, str, bytes, str], _MemberRows]:
    """What members said that came before; codes, units and references come again and again."""
    return {}


def _known_rows(resource_type: str, member: str, value: Any, text: bytes, zone: str) -> _MemberRows:
    known, key = _known(), (resource_type, member, text, zone)
    found = known.get(key)
    if found is None:
        rows = IndexRows(zone=zone)
        found = rows, _index_member(rows, resource_type, member, value)
        if len(known) >= KNOWN_TEXTS:
            known.clear()
        known[key] = found
    return found


def _index_member(rows: IndexRows, resource_type: str, member: str, value: Any) -> Any:
    """Add what a member is found by; returns its column of an Observation."""
    for parameter, path in _plan(resource_type)[0][member]:
        _index_path(rows, parameter, path, {member: value})
    if resource_type != "Observation" or member not in _COLUMNS:
        return None
    if member in REFERENCE_COLUMNS:
        rows.texts.update(_beside_column(f"Observation.{member}", value))
    return _COLUMNS[member](value)


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
    if resource_type == "Observation":
        by_member = dict.fromkeys(_COLUMNS, []) | by_member
    return {member: tuple(each) for member, each in by_member.items()}, tuple(always)


def _index_path(rows: IndexRows, parameter: Parameter, path: ValuePath, tree: Json) -> None:
    key = parameter.key
    for value in values_at(path, tree):
        match parameter.kind:
            case "date":
                low, high = effective_range(value, rows.zone)
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
    reference = reference_text(value) if path.type != "Resource" else contained_reference(value)
    if reference and points_to(reference, path.target or parameter.target):
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
        said = coding.get("code", ""), coding.get("system", ""), coding.get("display", ""), concepts[0].get("text", "")
        return (_known_coding if sum(map(len, said)) <= KNOWN_BYTES else _one_coding)(*said)
    codings = {token for concept in concepts for token in tokens(concept, "CodeableConcept")}
    texts = {normalized(text) for concept in concepts for text in token_texts(concept, "CodeableConcept")}
    return Coded(tuple(sorted(codings)), tuple(sorted(texts)))


def _one_coding(code: str, system: str, display: str, text: str) -> Coded:
    texts = sorted({normalized(each) for each in (display, text) if each})
    return Coded(((code, system),) if code or system else (), tuple(texts))


_known_coding = lru_cache(maxsize=4096)(_one_coding)


_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "subject": reference_text,
    "device": reference_text,
    "encounter": reference_text,
    "code": _coded,
    "category": _coded,
    "valueCodeableConcept": _coded,
    "valueQuantity": lambda value: _value({"valueQuantity": value}),
    "valueSampledData": lambda value: _value({"valueSampledData": value}),
}
"""Members of an Observation that have a column of their own, with what it holds."""


def _observation_columns(tree: Json, columns: Mapping[str, Any], zone: str) -> ObservationColumns:
    effective = tree.get("effectiveDateTime") or tree.get("effectivePeriod") or tree.get("effectiveInstant")
    low, high = effective_range(effective or tree.get("effectiveTiming"), zone)
    column = columns.get
    return ObservationColumns(
        subject=column("subject"),
        code=column("code", _UNCODED),
        low=low,
        high=high,
        status=str(tree.get("status", "")) or None,
        category=column("category", _UNCODED),
        device=column("device"),
        encounter=column("encounter"),
        value=column("valueQuantity") or column("valueSampledData"),
        concept=column("valueCodeableConcept", _UNCODED),
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
