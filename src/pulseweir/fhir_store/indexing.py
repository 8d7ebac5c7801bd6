"""What a resource is found by: the rows of the search index, out of its tree. Pure."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pulseweir.fhir_store.dates import NO_DATE, date_range
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import Parameter, parameters_of

Token = tuple[str, str]
"""(code, system); system is "" where there is none."""

OBSERVATION_COLUMNS = {
    "subject": "subject",
    "code": "code_set",
    "date": "low",
    "status": "status",
    "category": "category_set",
    "device": "device",
    "encounter": "encounter",
}
"""Parameters of Observation that have a column of their own, with its name (a date: its first microsecond)."""

_FAR_FUTURE = 2**62


@dataclass(slots=True)
class IndexRows:
    """The index of one resource.

    Attributes:
        texts: (parameter key, value, system) of tokens, references, strings, URIs.
        ranges: (parameter key, low, high) of dates and numbers.
        observation: The columns of an Observation; None for another type.
    """

    texts: set[tuple[str, str, str]] = field(default_factory=set)
    ranges: set[tuple[str, float, float]] = field(default_factory=set)
    observation: "ObservationColumns | None" = None


@dataclass(frozen=True, slots=True)
class ObservationColumns:
    """The promoted columns of an Observation; None where the element is missing."""

    subject: str | None
    code: tuple[Token, ...]
    low: int
    high: int
    status: str | None
    category: tuple[Token, ...]
    device: str | None
    encounter: str | None


def index_resource(resource_type: str, tree: Json) -> IndexRows:
    """Every row by which this resource is found."""
    rows = IndexRows()
    for element, parameters in _by_element(resource_type):
        if element in tree:
            for parameter in parameters:
                _index_parameter(rows, parameter, tree)
    if resource_type == "Observation":
        rows.observation = _observation_columns(tree)
    return rows


@cache
def _by_element(resource_type: str) -> tuple[tuple[str, tuple[Parameter, ...]], ...]:
    """Parameters by the first element they need, so that absent elements cost one look-up."""
    promoted = OBSERVATION_COLUMNS if resource_type == "Observation" else {}
    found: dict[str, list[Parameter]] = {}
    for parameter in parameters_of(resource_type).values():
        if parameter.name in promoted:
            continue
        for names, target in parameter.paths:
            single = Parameter(parameter.name, parameter.kind, parameter.key, ((names, target),))
            found.setdefault(names[0], []).append(single)
    return tuple((element, tuple(parameters)) for element, parameters in found.items())


def _index_parameter(rows: IndexRows, parameter: Parameter, tree: Json) -> None:
    for value, target in values_at(parameter, tree):
        if parameter.kind == "date":
            low, high = effective_range(value)
            if low != NO_DATE:
                rows.ranges.add((parameter.key, low, high))
        elif parameter.kind == "number":
            if isinstance(value, int | float):
                rows.ranges.add((parameter.key, float(value), float(value)))
        else:
            rows.texts.update(_text_rows(parameter, value, target))


def _text_rows(parameter: Parameter, value: Any, target: str | None) -> Iterator[tuple[str, str, str]]:
    if parameter.kind == "token":
        for code, system in tokens(value):
            yield parameter.key, code, system
    elif parameter.kind == "reference":
        reference = reference_text(value)
        if reference and (target is None or reference.startswith(target + "/")):
            yield parameter.key, reference, ""
    elif parameter.kind == "string":
        for text in strings(value):
            yield parameter.key, normalized(text), ""
            yield parameter.key + ":exact", text, ""
    elif isinstance(value, str):
        yield parameter.key, value, ""


def values_at(parameter: Parameter, tree: Json) -> Iterator[tuple[Any, str | None]]:
    """The values of a parameter in a resource, each with the target type its path is bound to."""
    for names, target in parameter.paths:
        for value in _walk(tree, names):
            yield value, target


def _walk(node: Any, names: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, names)
    elif not names:
        if node is not None:
            yield node
    elif isinstance(node, dict) and names[0] in node:
        yield from _walk(node[names[0]], names[1:])


def tokens(value: Any) -> list[Token]:
    """(code, system) of a code, boolean, Coding, CodeableConcept, Identifier or ContactPoint."""
    if isinstance(value, bool):
        return [("true" if value else "false", "")]
    if isinstance(value, str):
        return [(value, "")]
    if not isinstance(value, dict):
        return []
    if "coding" in value:
        return [token for coding in _walk(value["coding"], ()) for token in tokens(coding)]
    code = value.get("code", value.get("value"))
    system = value.get("system", "")
    return [(code, system)] if isinstance(code, str) and isinstance(system, str) else []


def reference_text(value: Any) -> str | None:
    """A Reference (or canonical) as it is compared: relative where it can be, without a version."""
    text = value.get("reference") if isinstance(value, dict) else value
    if not isinstance(text, str) or text.startswith("#"):
        return None
    return text.partition("/_history/")[0]


def strings(value: Any) -> list[str]:
    """The texts of a string, HumanName or Address."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict):
        return []
    members = (
        "text",
        "family",
        "given",
        "prefix",
        "suffix",
        "line",
        "city",
        "district",
        "state",
        "postalCode",
        "country",
    )
    return [text for name in members for text in _walk(value.get(name), ()) if isinstance(text, str)]


def normalized(text: str) -> str:
    """A text as string searches compare it: without case and accents, one space between words."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in decomposed if not unicodedata.combining(letter)).split())


def effective_range(value: Any) -> tuple[int, int]:
    """Microseconds [low, high) of a date, dateTime, instant or Period; NO_DATE twice when it is none."""
    if isinstance(value, str):
        try:
            return date_range(value)
        except ValueError:
            return NO_DATE, NO_DATE
    if not isinstance(value, dict) or not ("start" in value or "end" in value):
        return NO_DATE, NO_DATE
    low = effective_range(value["start"])[0] if "start" in value else NO_DATE + 1
    high = effective_range(value["end"])[1] if "end" in value else _FAR_FUTURE
    return low, high


def _observation_columns(tree: Json) -> ObservationColumns:
    effective = tree.get("effectiveDateTime") or tree.get("effectivePeriod") or tree.get("effectiveInstant")
    low, high = effective_range(effective)
    return ObservationColumns(
        subject=reference_text(tree.get("subject")),
        code=tuple(sorted(set(tokens(tree.get("code"))))),
        low=low,
        high=high,
        status=str(tree.get("status", "")) or None,
        category=tuple(sorted({token for concept in _walk(tree.get("category"), ()) for token in tokens(concept)})),
        device=reference_text(tree.get("device")),
        encounter=reference_text(tree.get("encounter")),
    )
