"""The values of search parameters out of a resource, in the form in which they are compared. Pure.

Source: http://hl7.org/fhir/R4/search.html, the table of data types a kind of parameter compares.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from pulseweir.fhir_store.dates import NO_DATE, date_range
from pulseweir.fhir_store.definitions.tables import ValuePath, known_types
from pulseweir.fhir_store.outcomes import Json

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:", re.ASCII)
Token = tuple[str, str]
"""(code, system); system is "" where there is none."""
FAR_FUTURE = 2**62
LOWEST, HIGHEST = -1.7e308, 1.7e308
"""Ends of a quantity that is open on that side."""


class Unit(NamedTuple):
    """The unit of a quantity as the resource gives it; "" where it does not."""

    system: str
    code: str
    text: str


class Amount(NamedTuple):
    """A quantity as it is compared: from `low` to `high` (equal for an exact value) in its own unit."""

    low: float
    high: float
    unit: Unit


Walk = Callable[[Any], Iterator[Any]]


def values_at(path: ValuePath, tree: Json) -> Iterator[Any]:
    """The JSON values at a path, arrays taken apart."""
    return _walker(path.members)(tree)


@cache
def _walker(members: tuple[str, ...]) -> Walk:
    steps = tuple(_step(member) for member in members)

    def walk(node: Any) -> Iterator[Any]:
        return _walk(node, steps, 0)

    return walk


Step = tuple[str, tuple[str, str] | None, bool]
"""(member, (member, value) its items must have, only the first item)."""


def _step(member: str) -> Step:
    name, bracket, inside = member.partition("[")
    condition, equals, wanted = inside.removesuffix("]").partition("=")
    return name, (condition, wanted) if equals else None, bool(bracket) and not equals


def _walk(node: Any, steps: tuple[Step, ...], at: int) -> Iterator[Any]:
    if at == len(steps):
        if node is not None:
            yield node
        return
    name, condition, is_first = steps[at]
    value = node.get(name) if type(node) is dict else None
    if value is None:
        return
    items = value if type(value) is list else (value,)
    for item in items[:1] if is_first else items:
        if condition is None or (type(item) is dict and item.get(condition[0]) == condition[1]):
            yield from _walk(item, steps, at + 1)


def tokens(value: Any, type_name: str) -> Iterator[Token]:
    """(code, system) of a value of a data type that token parameters compare."""
    if type_name == "CodeableConcept":
        for coding in value.get("coding", ()):
            yield from tokens(coding, "Coding")
    elif type_name == "Coding":
        if "code" in value or "system" in value:
            yield str(value.get("code", "")), str(value.get("system", ""))
    elif type_name in {"Identifier", "ContactPoint"}:
        if "value" in value:
            yield str(value["value"]), str(value.get("system", ""))
    elif type_name == "boolean":
        yield ("true" if value else "false"), ""
    elif isinstance(value, str):
        yield value, ""


def token_texts(value: Any, type_name: str) -> Iterator[str]:
    """The texts by which `:text` finds a token."""
    if type_name == "CodeableConcept":
        yield from (coding["display"] for coding in value.get("coding", ()) if "display" in coding)
        yield from _texts(value, ("text",))
    elif type_name == "Coding":
        yield from _texts(value, ("display",))
    elif type_name == "Identifier":
        yield from _texts(value.get("type", {}), ("text",))


def identifier_types(value: Json) -> Iterator[Token]:
    """(type's code, bar, value; type's system) of an Identifier with a type, by which `:of-type` finds it."""
    if "type" in value and "value" in value:
        for code, system in tokens(value["type"], "CodeableConcept"):
            yield f"{code}|{value['value']}", system


def reference_text(value: Any) -> str | None:
    """A Reference (or canonical) as it is compared: relative where it can be, without a version; None for none."""
    text = value.get("reference") if isinstance(value, dict) else value
    if not isinstance(text, str) or text.startswith("#"):
        return None
    return text.partition("/_history/")[0]


def contained_reference(value: Any) -> str | None:
    """What leads to a resource that stands in another one whole: its type and id; None where it has none."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return None
    return f"{value.get('resourceType')}/{value['id']}"


def reference_version(value: Any) -> str:
    """The version that a Reference names; "" for none."""
    text = value.get("reference") if isinstance(value, dict) else value
    return text.partition("/_history/")[2] if isinstance(text, str) else ""


def points_to(reference: str, target: str | None) -> bool:
    """Whether a reference is one to a type.

    >>> points_to("https://example.org/fhir/Patient/1", "Patient")
    True
    """
    return target is None or f"/{reference}".rpartition("/")[0].endswith(f"/{target}")


def is_absolute(reference: str) -> bool:
    """Whether a reference is an absolute URI of any scheme.

    >>> is_absolute("did:web:example.org"), is_absolute("resource:0"), is_absolute("Patient/1")
    (True, True, False)
    """
    return _SCHEME.match(reference) is not None


def tells_type(reference: str) -> bool:
    """Whether a reference tells the type of what it leads to, as an address of a FHIR server does.

    >>> tells_type("https://example.org/fhir/Patient/1"), tells_type("urn:uuid:x"), tells_type("https://a.org/x")
    (True, False, False)
    """
    return reference.rpartition("/")[0].rpartition("/")[2] in known_types()


def strings(value: Any, type_name: str) -> Iterator[str]:
    """The texts of a string, HumanName or Address."""
    if isinstance(value, str):
        yield value
    elif type_name == "HumanName":
        yield from _texts(value, ("text", "family", "given", "prefix", "suffix"))
    elif type_name == "Address":
        yield from _texts(value, ("text", "line", "city", "district", "state", "postalCode", "country"))


def _texts(value: Any, members: tuple[str, ...]) -> Iterator[str]:
    for name in members:
        found = value.get(name)
        for text in found if isinstance(found, list) else (found,):
            if isinstance(text, str):
                yield text


def normalized(text: str) -> str:
    """A text as string searches compare it: without case and accents, one space between words."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in decomposed if not unicodedata.combining(letter)).split())


def effective_range(value: Any, zone: str = "UTC") -> tuple[int, int]:
    """Microseconds [low, high) of a date, dateTime, instant, Period or Timing; NO_DATE twice when it is none."""
    if isinstance(value, str):
        try:
            return date_range(value, zone)
        except ValueError:
            return NO_DATE, NO_DATE
    if not isinstance(value, dict):
        return NO_DATE, NO_DATE
    if "event" in value or "repeat" in value:
        return _timing_range(value, zone)
    if not ("start" in value or "end" in value):
        return NO_DATE, NO_DATE
    low = effective_range(value["start"], zone)[0] if "start" in value else NO_DATE + 1
    high = effective_range(value["end"], zone)[1] if "end" in value else FAR_FUTURE
    return low, high


def _timing_range(timing: Json, zone: str) -> tuple[int, int]:
    ranges = [effective_range(event, zone) for event in timing.get("event", ()) if event is not None]
    bounds = timing.get("repeat", {}).get("boundsPeriod")
    if bounds:
        ranges.append(effective_range(bounds, zone))
    ranges = [each for each in ranges if each[0] != NO_DATE]
    if not ranges:
        return NO_DATE, NO_DATE
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def numbers(value: Any) -> tuple[float, float] | None:
    """[low, high] of a number or a Range; None when it has no number."""
    if isinstance(value, dict):
        amount = amount_of(value, "Range")
        return None if amount is None else (amount.low, amount.high)
    number = _number(value, None)
    return None if number is None else (number, number)


def _number(value: Any, otherwise: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def amount_of(value: Json, type_name: str) -> Amount | None:
    """A Quantity, Range, Money or SampledData as it is compared; None without a number."""
    if type_name == "Range":
        return _range_amount(value)
    if type_name == "SampledData":
        origin = value.get("origin", {})
        low, high = _number(value.get("lowerLimit"), LOWEST), _number(value.get("upperLimit"), HIGHEST)
        return Amount(low, high, _unit(origin)) if low is not None and high is not None else None
    number = _number(value.get("value"), None)
    if number is None:
        return None
    if type_name == "Money":
        return Amount(number, number, Unit("urn:iso:std:iso:4217", str(value.get("currency", "")), ""))
    comparator = value.get("comparator", "")
    low = LOWEST if comparator.startswith("<") else number
    high = HIGHEST if comparator.startswith(">") else number
    return Amount(low, high, _unit(value))


def _range_amount(value: Json) -> Amount | None:
    ends = [value.get(name, {}).get("value") for name in ("low", "high")]
    if ends == [None, None]:
        return None
    low, high = _number(ends[0], LOWEST), _number(ends[1], HIGHEST)
    unit = _unit(value.get("low") or value.get("high") or {})
    return Amount(LOWEST if low is None else low, HIGHEST if high is None else high, unit)


def _unit(quantity: Json) -> Unit:
    get = quantity.get
    return Unit(str(get("system", "")), str(get("code", "")), str(get("unit", "")))
