"""Which rights an interaction needs, of a request of its own and of a bundle's entry alike. Pure.

What is not listed here needs every right, so that a new operation is closed until somebody thinks of it.
Source: HL7 SMART App Launch 2.2, scopes for requesting FHIR resources.
"""

from collections.abc import Sequence

from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.security.caller import Caller, forbidden
from pulseweir.fhir_store.subscriptions.topics import watched_type

Pairs = Sequence[tuple[str, str]]
_TYPE_LETTERS = {"GET": "s", "POST": "c", "PUT": "us", "PATCH": "us", "DELETE": "ds"}
_INSTANCE_LETTERS = {"GET": "r", "PUT": "u", "PATCH": "u", "DELETE": "d"}
_NOT_CRITERIA = frozenset({"_format", "_pretty", "_summary", "_elements"})
_LONGEST_CHAIN = 8


def check_rights(
    caller: Caller, method: str, segments: Sequence[str], query: Pairs, *, is_conditional: bool = False
) -> None:
    """Nothing, if the caller may do this with resources of the types it names.

    Whether it may do it with the very resources is asked where they are read and written.

    Args:
        caller: Who asks.
        method: HTTP method; HEAD counts as GET.
        segments: Path below the base URL.
        query: Query parameters.
        is_conditional: Whether a create has If-None-Exist.

    Raises:
        Refusal: 403 when it may not.
    """
    # A Bundle needs what its entries need.
    if caller.grants is None or segments == ["metadata"] or (method == "POST" and not segments):
        return
    resource_type = segments[0] if segments and segments[0] in RESOURCE_TYPES else "*"
    last = segments[-1] if segments else ""
    if any(segment.startswith("$") for segment in segments):
        _check_operation(caller, resource_type, segments, query)
    elif resource_type == "*":
        _check_system(caller, segments, query)
    elif len(segments) == 1 or last == "_search":
        is_search = method == "GET" or last == "_search"
        has_criteria = any(name not in _NOT_CRITERIA for name, _ in query)
        letters = "s" if is_search else _TYPE_LETTERS.get(method, "cruds")
        also = "s" if method == "POST" and not is_search and (is_conditional or has_criteria) else ""
        caller.require(resource_type, letters + also)
        check_search(caller, resource_type, query)
    elif segments[1] == "_history":
        caller.require(resource_type, "s")
        _refuse_narrowed(caller, resource_type, "s")
    elif len(segments) == 3 and segments[2] in RESOURCE_TYPES:
        caller.require(resource_type, "r")
        caller.require(segments[2], "s")
        check_search(caller, segments[2], query)
    elif len(segments) == 3 and segments[2] == "*":
        caller.require("*", "s")
        check_search(caller, "*", query)
    else:
        caller.require(resource_type, _INSTANCE_LETTERS.get(method, "cruds"))


def check_search(caller: Caller, resource_type: str, query: Pairs) -> None:
    """Nothing, if the caller may search every type that the criteria look into.

    Raises:
        Refusal: 403 when a chain or ``_has`` leads through a type whose resources it may not all search.
    """
    for name, _ in query:
        for through in sorted(_types_of_chain(resource_type, name)):
            caller.require(through, "s")
            _refuse_narrowed(caller, through, "s")


def check_subscription(caller: Caller, tree: Json) -> None:
    """Nothing, if the caller may see all that a Subscription would send.

    Raises:
        Refusal: 403 when it may not: what a Subscription sends is not held to the scopes of who made it.
    """
    check_watching(caller, watched_type(tree.get("criteria")) or "*")


def check_watching(caller: Caller, resource_type: str) -> None:
    """Nothing, if the caller may see whatever happens to a type.

    Raises:
        Refusal: 403 when it may not.
    """
    caller.require(resource_type, "rs")
    _refuse_narrowed(caller, resource_type, "rs")


def _check_system(caller: Caller, segments: Sequence[str], query: Pairs) -> None:
    """The rights for a search, a history or anything else at the base: those of all types, or of those it names."""
    named = [text.split(",") for name, text in query if name == "_type"]
    for resource_type in sorted(set(named[0])) if len(named) == 1 else ["*"]:
        known = resource_type if resource_type in RESOURCE_TYPES else "*"
        caller.require(known, "s")
        check_search(caller, known, query)
        if segments not in ([], ["_search"]):
            _refuse_narrowed(caller, known, "s")


def _check_operation(caller: Caller, resource_type: str, segments: Sequence[str], query: Pairs) -> None:
    operations = [segment for segment in segments if segment.startswith("$")]
    match operations[0] if len(operations) == 1 else "several":
        case "$validate":
            if not (caller.may(resource_type, "c") or caller.may(resource_type, "u")):
                raise forbidden("To validate needs the right to create or update.")
            if len(segments) > 2:
                caller.require(resource_type, "r")
        case "$lastn":
            caller.require(resource_type, "s")
        case "$everything":
            # It is a search of all types at once, of which the caller gets those that it may search.
            caller.require(resource_type, "rs")
        case "$status" | "$events":
            caller.require("Subscription", "r")
            _refuse_narrowed(caller, "Subscription", "r")
        case "$export":
            _check_export(caller, query)
        case "$export-status":
            # Shown to the client that asked for it, and to nobody else: that is held where exports are found.
            return
        case _:
            caller.require("*", "cruds")
            _refuse_narrowed(caller, "*")


def _check_export(caller: Caller, query: Pairs) -> None:
    named = {each for name, text in query if name == "_type" for each in text.split(",")} or {"*"}
    for each in sorted(name if name in RESOURCE_TYPES else "*" for name in named):
        caller.require(each, "rs")
        _refuse_narrowed(caller, each, "rs")


def _refuse_narrowed(caller: Caller, resource_type: str, letters: str = "cruds") -> None:
    if caller.is_narrowed(resource_type, letters):
        text = "The token reaches some resources of a type only; this request needs one that reaches all."
        raise forbidden(text)


def _types_of_chain(resource_type: str, name: str) -> set[str]:
    """The types that a parameter's name leads through, beyond the one searched.

    >>> sorted(_types_of_chain("Observation", "subject:Patient.name"))
    ['Patient']
    >>> sorted(_types_of_chain("Patient", "_has:Observation:subject:code"))
    ['Observation']
    """
    found: set[str] = set()
    here = {resource_type}
    for _ in range(_LONGEST_CHAIN):
        if name.startswith("_has:"):
            _, through, _, name = [*name.split(":", 3), "", "", ""][:4]
            here = {through}
        elif "." in name:
            head, _, name = name.partition(".")
            parameter, _, wanted = head.partition(":")
            here = {wanted} if wanted else _targets(here, parameter)
        else:
            return found
        found |= {each if each in RESOURCE_TYPES else "*" for each in here}
    raise Refusal(400, "too-costly", "The search leads through too many types; shorten the chain.")


def _targets(types: set[str], parameter: str) -> set[str]:
    names = types & set(RESOURCE_TYPES)
    found = {parameters_of(name)[parameter] for name in names if parameter in parameters_of(name)}
    targets = {target for each in found for target in ((each.target,) if each.target else each.targets)}
    return targets & set(RESOURCE_TYPES) or {"*"}
