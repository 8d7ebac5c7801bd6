"""A search as the client wrote it, read into what is to be done. Pure.

Source: HL7 FHIR R4, search, http://hl7.org/fhir/R4/search.html.
"""

from functools import lru_cache
from typing import NamedTuple

from pulseweir.fhir_store.control_parameters import PRESENTATION, refuse_modifiers
from pulseweir.fhir_store.definitions.tables import compartments
from pulseweir.fhir_store.outcomes import Issue, Refusal
from pulseweir.fhir_store.paging import PAGE_PARAMETER, decode_page, search_digest
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, compartment_parameters, parameters_of
from pulseweir.fhir_store.query_conditions import parameter_named, read_condition, shown_name, targets_of
from pulseweir.fhir_store.search_request import (
    ID,
    LAST_UPDATED,
    REMEMBERED_LETTERS,
    Criterion,
    Include,
    Pairs,
    SearchRequest,
)
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.summaries import read_elements

__all__ = [
    "ID",
    "LAST_UPDATED",
    "Criterion",
    "Pairs",
    "SearchRequest",
    "read_condition",
    "read_search",
]

_CONTROL = frozenset({*PRESENTATION, "_sort", "_type", PAGE_PARAMETER})
_REFUSED = frozenset({"_list", "_filter", "_query", "_text", "_content", "_containedType"})


def read_search(  # noqa: PLR0913 - what a search depends on
    resource_type: str,
    pairs: Pairs,
    *,
    strict: bool,
    settings: FhirStoreSettings,
    base_url: str = "",
    now: int = 0,
    compartment: tuple[str, str | None] | None = None,
    path: str | None = None,
    bounds: Pairs = (),
) -> SearchRequest:
    """Read the query of a search.

    Args:
        resource_type: What is searched; "" for every type, or those that `_type` names.
        pairs: Names and values, decoded.
        strict: Whether an unknown parameter is refused.
        settings: Sizes of pages.
        base_url: See `SearchRequest`.
        now: See `SearchRequest`.
        compartment: See `SearchRequest`.
        path: Path of the search below the base URL; the type when not given.
        bounds: Further parameters of an operation; they belong to its links, their meaning is its own.

    Raises:
        Refusal: 400 for a value that makes no sense, an unknown modifier, or (strict) an unknown parameter.
    """
    asked = _Asked(
        resource_type,
        tuple(pairs),
        strict,
        settings.page_resources,
        settings.maximum_page_resources,
        base_url,
        compartment,
        path if path is not None else resource_type,
        tuple(bounds),
    )
    is_short = sum(len(name) + len(text) for name, text in pairs) <= REMEMBERED_LETTERS
    return (_known_search if is_short else _read_search)(asked).again(now)


class _Asked(NamedTuple):
    """All that a search which is read depends on, see `read_search`; the present comes later."""

    resource_type: str
    pairs: tuple[tuple[str, str], ...]
    is_strict: bool
    page_resources: int
    maximum_page_resources: int
    base_url: str
    compartment: tuple[str, str | None] | None
    path: str
    bounds: tuple[tuple[str, str], ...]


def _read_search(asked: _Asked) -> SearchRequest:
    resource_type, compartment = asked.resource_type, asked.compartment
    request = SearchRequest(resource_type, asked.path, asked.base_url)
    request.count, request.compartment = asked.page_resources, compartment
    if compartment is not None:
        _check_compartment(compartment[0], resource_type)
    if not resource_type:
        types = _types(asked.pairs, compartment)
        request.parts = [SearchRequest(each, base_url=asked.base_url, compartment=compartment) for each in types]
    request.applied.extend(asked.bounds)
    page = _read_pairs(request, asked)
    if request.summary == "text" and (request.includes or request.reverse_includes):
        raise Refusal(400, "not-supported", "_summary=text cannot be mixed with _include or _revinclude.")
    searched = (pair for pair in request.applied if pair[0].partition(":")[0] not in PRESENTATION)
    request.digest = search_digest(request.path, (pair for pair in searched if pair[0] != PAGE_PARAMETER))
    if page is not None:
        request.after = decode_page(page, request.digest)
    return request


_known_search = lru_cache(maxsize=1024)(_read_search)
"""A search that is read says the same again: screens ask for the same charts all the time."""


def _read_pairs(request: SearchRequest, asked: _Asked) -> str | None:
    """Take in every parameter; returns the token of the page asked for, None for the first."""
    page = None
    refuse_modifiers(asked.pairs)
    for name, text in asked.pairs:
        if not text and name.partition(":")[0] in _CONTROL:
            continue
        try:
            is_known = _read_pair(request, name, text, asked.maximum_page_resources)
            if not is_known:
                _unknown(request, name, strict=asked.is_strict)
                continue
        except Refusal as refusal:
            raise refusal.located(f"http.{shown_name(name)}") from None
        page = text if name == PAGE_PARAMETER else page
        request.applied.append((name, text))
    return page


def _read_pair(request: SearchRequest, name: str, text: str, maximum_page_resources: int) -> bool:
    """Take in one parameter; False when it is not known."""
    base = name.partition(":")[0]
    if base in _REFUSED or (base == "_type" and request.resource_type):
        raise Refusal(400, "not-supported", f"This server does not support {base}; leave it out.")
    if name == PAGE_PARAMETER:
        return True
    if base in _CONTROL:
        _read_control(request, name, text, maximum_page_resources)
        return True
    return not text or _read_criterion(request, name, text)


def _unknown(request: SearchRequest, name: str, *, strict: bool) -> None:
    note = f"{request.resource_type or 'A search of several types'} has no search parameter `{shown_name(name)}`"
    if strict:
        raise Refusal(400, "not-supported", f"{note}; see /metadata, or ask for Prefer: handling=lenient.")
    request.notes.append(Issue("not-supported", f"{note}; it was ignored.", severity="warning"))


def _types(pairs: Pairs, compartment: tuple[str, str | None] | None) -> tuple[str, ...]:
    """The types that a search of several is for."""
    named = [[*filter(None, text.split(","))] for name, text in pairs if name == "_type" and text.strip(",")]
    if len(named) > 1:
        raise Refusal(400, "invalid", "_type may be given once; join types by commas.", "http._type")
    for each in named[0] if named else ():
        if each not in RESOURCE_TYPES:
            text = f"_type names `{shown_name(each)}`, which this server does not hold."
            raise Refusal(400, "not-supported", text, "http._type")
    wanted = tuple(dict.fromkeys(named[0])) if named else RESOURCE_TYPES
    if compartment is None:
        return wanted
    inside = compartment[0]
    return tuple(each for each in wanted if each == inside or compartment_parameters(inside, each))


def _check_compartment(owner: str, resource_type: str) -> None:
    if owner not in compartments():
        raise Refusal(404, "not-supported", f"No compartment belongs to a {shown_name(owner)}.")
    if resource_type not in {"", owner} and not compartment_parameters(owner, resource_type):
        raise Refusal(404, "not-supported", f"The compartment of a {owner} holds no {shown_name(resource_type)}.")


def _read_criterion(request: SearchRequest, name: str, text: str) -> bool:
    if request.resource_type:
        condition = read_condition(request.resource_type, name, text)
        request.criteria.extend([condition] if condition else [])
        return condition is not None
    if name.startswith("_has:"):
        _check_reverse(request, name)
    found = [(part, read_condition(part.resource_type, name, text)) for part in request.parts]
    if not all(condition for _, condition in found):
        return False
    for part, condition in found:
        part.criteria.extend([condition] if condition else [])
    return True


def _check_reverse(request: SearchRequest, name: str) -> None:
    """Nothing, if a ``_has`` leads to each of several types; else what it leads to is named, which a search can do."""
    _, source, by, _ = [*name.split(":", 3), "", "", ""][:4]
    parameter = parameters_of(source).get(by) if source in RESOURCE_TYPES else None
    if parameter is None or parameter.kind != "reference":
        return
    possible = targets_of(parameter)
    if not {*request.types} <= {*possible}:
        ways = f"search {'it' if len(possible) == 1 else 'one of these'} by _type" if possible else "leave it out"
        text = f"{source}.{by} leads to {', '.join(possible) or 'no type that this server holds'} only; {ways}."
        raise Refusal(400, "not-supported", text)


def _read_control(request: SearchRequest, name: str, text: str, maximum_page_resources: int) -> None:
    match name.partition(":")[0]:
        case "_count":
            request.count = min(_whole_number(text), request.count and maximum_page_resources)
        case "_summary":
            _read_summary(request, text)
        case "_elements":
            request.elements += tuple(read_elements(text))
        case "_total":
            _read_total(request, text)
        case "_sort":
            request.sort.extend(_read_sort(request, text))
        case "_include":
            request.includes.extend(_read_include(request, name, text))
        case "_revinclude":
            request.reverse_includes.extend(_read_reverse_include(request, name, text))
        case "_contained":
            if text != "false":
                raise Refusal(
                    400, "not-supported", "This server searches no contained resources; leave _contained out."
                )


def _read_summary(request: SearchRequest, text: str) -> None:
    if text == "count":
        request.count, request.hides_total = 0, False
    elif text in {"true", "text", "data"}:
        request.summary = text
    elif text != "false":
        raise Refusal(400, "invalid", "_summary is true, text, data, count or false.")


def _read_total(request: SearchRequest, text: str) -> None:
    if text not in {"none", "estimate", "accurate"}:
        raise Refusal(400, "invalid", "_total is none, estimate or accurate.")
    # Who asks for the count alone gets it.
    request.hides_total = text == "none" and ("_summary", "count") not in request.applied
    request.wants_total = text != "none"


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refusal(400, "invalid", "_count must be a whole number, such as _count=50.")
    return int(text)


def _read_sort(request: SearchRequest, text: str) -> list[tuple[Parameter, bool]]:
    keys = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        name = part.removeprefix("-")
        several = {"_id": ID, "_lastUpdated": LAST_UPDATED}.get(name)
        parameter = several if not request.resource_type else parameter_named(request.resource_type, name)
        if parameter is None or parameter.kind == "composite":
            shown = request.resource_type or "A search of several types"
            raise Refusal(400, "not-supported", f"{shown} cannot be sorted by `{shown_name(name)}`.")
        keys.append((parameter, part.startswith("-")))
    return keys


def _read_include(request: SearchRequest, name: str, text: str) -> list[Include]:
    iterates = ":" in name
    sources = request.types
    if text == "*":
        pairs = [(source, parameter) for source in sources for parameter in _references(source)]
        return [Include(source, parameter, parameter.target, iterates) for source, parameter in pairs]
    source, by, target = _parts(text)
    named = _references(source) if by == "*" else [each for each in _references(source) if each.name == by]
    if not named or (target and target not in RESOURCE_TYPES):
        raise _no_reference(text)
    return [Include(source, parameter, target or parameter.target, iterates) for parameter in named]


def _read_reverse_include(request: SearchRequest, name: str, text: str) -> list[Include]:
    if text != "*":
        return _read_include(request, name, text)
    return [
        Include(source, parameter, None, ":" in name)
        for source in RESOURCE_TYPES
        for parameter in _references(source)
        if parameter.target is None and set(targets_of(parameter)) & set(request.types)
    ]


def _parts(text: str) -> tuple[str, str, str]:
    source, by, target, more = [*text.split(":", 3), "", "", ""][:4]
    if more or source not in RESOURCE_TYPES:
        raise _no_reference(text)
    return source, by, target


def _references(resource_type: str) -> list[Parameter]:
    return [parameter for parameter in parameters_of(resource_type).values() if parameter.kind == "reference"]


def _no_reference(text: str) -> Refusal:
    return Refusal(
        400, "not-supported", f"`{shown_name(text)}` is no reference parameter, such as Observation:subject."
    )
