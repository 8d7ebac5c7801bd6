"""What one parameter of a search asks: criteria, chains and ``_has``. Pure.

Source: HL7 FHIR R4, search, http://hl7.org/fhir/R4/search.html.
"""

import re
from functools import cache, lru_cache

from pulseweir.fhir_store.definitions.tables import known_types
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, parameters_of
from pulseweir.fhir_store.search_request import (
    ID,
    LAST_UPDATED,
    REMEMBERED_LETTERS,
    Chain,
    Condition,
    Criterion,
    Reverse,
    split_escaped,
    unescape,
)
from pulseweir.fhir_store.search_value_sets import tokens_in

_MODIFIERS = {
    "token": frozenset({"", "missing", "not", "text", "in", "not-in", "of-type"}),
    "reference": frozenset({"", "missing", "identifier", *known_types()}),
    "string": frozenset({"", "missing", "exact", "contains"}),
    "uri": frozenset({"", "missing", "above", "below"}),
    "date": frozenset({"", "missing"}),
    "number": frozenset({"", "missing"}),
    "quantity": frozenset({"", "missing"}),
    "composite": frozenset({""}),
    "id": frozenset({"", "missing", "not"}),
    "updated": frozenset({"", "missing"}),
}
_LONGEST_CHAIN = 8
_UNHELD = {"Patient": frozenset({"age", "birthOrderBoolean"})}
"""Parameters of R4's registry that say nowhere what they search."""


def shown_name(name: str) -> str:
    """A name as a message may show it: short, and of letters that no page takes for markup."""
    return re.sub(r"[^\w:.\-*]", "?", name[:64])


def parameter_named(resource_type: str, name: str) -> Parameter | None:
    """A search parameter that can be asked for, `_id` and `_lastUpdated` included."""
    own = {"_id": ID, "_lastUpdated": LAST_UPDATED}.get(name)
    found = own or parameters_of(resource_type).get(name)
    return None if found is None or found.kind == "special" else found


def _refuse_known(resource_type: str, name: str) -> None:
    """Nothing, unless R4 has a parameter that this server cannot answer: left out, it would find more."""
    if name in parameters_of(resource_type) or name in _UNHELD.get(resource_type, ()):
        raise Refusal(400, "not-supported", f"This server does not search {resource_type} by {name}; leave it out.")


def read_condition(resource_type: str, name: str, text: str, links: int = 0) -> Condition | None:
    """What one parameter of a search asks, chains and ``_has`` included; None for a parameter that is not known.

    Raises:
        Refusal: 400 for a modifier or a chain that cannot be followed.
    """
    is_short = len(name) + len(text) <= REMEMBERED_LETTERS
    return (_known_condition if is_short else _read_condition)(resource_type, name, text, links)


def _read_condition(resource_type: str, name: str, text: str, links: int) -> Condition | None:
    if links > _LONGEST_CHAIN:
        raise Refusal(400, "too-costly", "The search leads through too many types; shorten the chain.")
    if name.startswith("_has:"):
        return _read_reverse(resource_type, name, text, links)
    head, dot, rest = name.partition(".")
    base, colon, modifier = head.partition(":")
    parameter = parameter_named(resource_type, base)
    if parameter is None:
        _refuse_known(resource_type, base)
        return None
    if dot:
        return _read_chain(parameter, modifier, rest, text, links)
    if not _takes(parameter, modifier) or (colon and not modifier):
        shown = shown_name(modifier)
        raise Refusal(400, "not-supported", f"Unsupported modifier `{shown}` on search parameter {base}.")
    if modifier == "missing" and text not in {"true", "false"}:
        raise Refusal(400, "invalid", f"{base}:missing must be true or false.")
    values = tuple(filter(None, split_escaped(text, ",")))
    if not values:
        raise Refusal(400, "invalid", f"{base} has no value; leave it out, or give it one.")
    if modifier in {"in", "not-in"}:
        members = tuple(token for url in values for token in tokens_in(unescape(url)))
        return Criterion(parameter, "" if modifier == "in" else "not", members)
    return Criterion(parameter, modifier, values)


_known_condition = lru_cache(maxsize=4096)(_read_condition)


def _takes(parameter: Parameter, modifier: str) -> bool:
    if modifier == "of-type":
        return parameter.kind == "token" and any(path.type == "Identifier" for path in parameter.paths)
    return modifier in _MODIFIERS[parameter.kind]


def _read_chain(parameter: Parameter, wanted: str, rest: str, text: str, links: int) -> Chain | None:
    if parameter.kind != "reference":
        raise Refusal(400, "not-supported", f"{parameter.name} is no reference; nothing can be chained to it.")
    possible = targets_of(parameter)
    if not possible:
        named = parameter.target or " or ".join(parameter.targets)
        text = f"{parameter.name} leads to {named[:200]}, which this server does not hold: nothing can be asked there."
        raise Refusal(400, "not-supported", text)
    if wanted and wanted not in possible:
        raise Refusal(
            400,
            "not-supported",
            f"Unsupported modifier `{shown_name(wanted)}` on search parameter "
            f"{parameter.name}: it leads to {', '.join(possible)}.",
        )
    found = []
    for each in (wanted,) if wanted else possible:
        condition = read_condition(each, rest, text, links + 1)
        found.extend([(each, condition)] if condition else [])
    return Chain(parameter, tuple(found)) if found else None


def _read_reverse(resource_type: str, name: str, text: str, links: int) -> Reverse | None:
    _, source, by, rest = [*name.split(":", 3), "", "", ""][:4]
    parameter = parameters_of(source).get(by) if source in RESOURCE_TYPES else None
    if parameter is None or parameter.kind != "reference" or not rest:
        text = "_has names a type, its reference parameter and what to ask there: _has:Observation:patient:code."
        raise Refusal(400, "not-supported", text)
    if resource_type not in targets_of(parameter):
        raise Refusal(400, "not-supported", f"{source}.{by} does not lead to {resource_type}; see /metadata.")
    condition = read_condition(source, rest, text, links + 1)
    return Reverse(source, parameter, condition) if condition else None


@cache
def targets_of(parameter: Parameter) -> tuple[str, ...]:
    """The types held here that a reference parameter may lead to."""
    named = (parameter.target,) if parameter.target else parameter.targets
    return tuple(each for each in RESOURCE_TYPES if each in named or not named)
