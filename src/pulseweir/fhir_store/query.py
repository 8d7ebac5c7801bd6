"""A search as the client wrote it, read into what is to be done. Pure.

Source: HL7 FHIR R4, search, http://hl7.org/fhir/R4/search.html.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pulseweir.fhir_store.outcomes import Issue, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, parameters_of
from pulseweir.fhir_store.settings import FhirStoreSettings

Pairs = Sequence[tuple[str, str]]
PAGE_PARAMETER = "_page"
ID = Parameter("_id", "id")
LAST_UPDATED = Parameter("_lastUpdated", "updated")
_CONTROL = frozenset(
    {"_count", "_sort", "_summary", "_total", "_include", "_revinclude", "_format", "_pretty", PAGE_PARAMETER}
)
_MODIFIERS = {
    "token": frozenset({"", "missing", "not"}),
    "reference": frozenset({"", "missing", *RESOURCE_TYPES}),
    "string": frozenset({"", "missing", "exact", "contains"}),
    "uri": frozenset({"", "missing"}),
    "date": frozenset({"", "missing"}),
    "number": frozenset({"", "missing"}),
    "quantity": frozenset({"", "missing"}),
    "composite": frozenset({""}),
    "id": frozenset({""}),
    "updated": frozenset({""}),
}


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter of a search: any of its values must match.

    Attributes:
        parameter: What is asked.
        modifier: Without its colon; "" for none.
        values: Alternatives, escapes still inside.
    """

    parameter: Parameter
    modifier: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Include:
    """A ``_include`` or ``_revinclude``: source type, its reference parameter, target type or None."""

    source: str
    parameter: Parameter
    target: str | None


@dataclass(slots=True)
class SearchRequest:
    """A search, read and checked.

    Attributes:
        resource_type: What is searched.
        criteria: All must match.
        sort: (parameter, descending), most significant first.
        count: Matches on a page; 0 for the total alone.
        wants_total: Whether the exact total is asked for.
        after: Sort keys of the last match of the page before; None for the first page.
        includes: References to follow from the matches.
        reverse_includes: References to follow to the matches.
        within: Ways in which a match is within the caller's rights, each with all of its criteria; None without
            bounds.
        applied: The pairs that were used, for the links.
        notes: What was ignored.
    """

    resource_type: str
    criteria: list[Criterion] = field(default_factory=list)
    sort: list[tuple[Parameter, bool]] = field(default_factory=list)
    count: int = 0
    wants_total: bool = False
    after: list[Any] | None = None
    includes: list[Include] = field(default_factory=list)
    reverse_includes: list[Include] = field(default_factory=list)
    within: list[list[Criterion]] | None = None
    applied: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)


def read_search(resource_type: str, pairs: Pairs, *, strict: bool, settings: FhirStoreSettings) -> SearchRequest:
    """Read the query of a search on one type.

    Raises:
        Refusal: 400 for a value that makes no sense, an unknown modifier, or (strict) an unknown parameter.
    """
    request = SearchRequest(resource_type, count=settings.page_resources)
    for name, text in pairs:
        if name in _CONTROL or name.partition(":")[0] in {"_include", "_revinclude"}:
            _read_control(request, name, text, settings)
        elif not _read_criterion(request, name, text):
            note = f"{resource_type} has no search parameter `{_shown(name)}`"
            if strict:
                raise Refusal(400, "not-supported", f"{note}; see /metadata, or ask for Prefer: handling=lenient.")
            request.notes.append(Issue("not-supported", f"{note}; it was ignored.", severity="warning"))
            continue
        request.applied.append((name, text))
    return request


def _shown(name: str) -> str:
    return re.sub(r"[^\w:.\-]", "?", name[:64])


def _read_criterion(request: SearchRequest, name: str, text: str) -> bool:
    base, _, modifier = name.partition(":")
    parameter = {"_id": ID, "_lastUpdated": LAST_UPDATED}.get(base) or parameters_of(request.resource_type).get(base)
    if parameter is None or parameter.kind == "special":
        return False
    if modifier not in _MODIFIERS[parameter.kind]:
        shown = _shown(modifier)
        raise Refusal(400, "not-supported", f"Unsupported modifier `{shown}` on search parameter {base}.")
    if text:
        request.criteria.append(Criterion(parameter, modifier, tuple(split_escaped(text, ","))))
    return True


def _read_control(request: SearchRequest, name: str, text: str, settings: FhirStoreSettings) -> None:
    match name.partition(":")[0]:
        case "_count":
            request.count = min(_whole_number(text), settings.maximum_page_resources)
            request.wants_total |= request.count == 0
        case "_summary" if text == "count":
            request.count, request.wants_total = 0, True
        case "_summary" if text != "false":
            request.notes.append(Issue("not-supported", "Only _summary=count is supported.", severity="warning"))
        case "_total":
            request.wants_total |= text in {"accurate", "estimate"}
        case "_sort":
            request.sort.extend(_read_sort(request.resource_type, text))
        case "_include":
            request.includes.append(_read_include(text))
        case "_revinclude":
            request.reverse_includes.append(_read_include(text))
        case "_page":
            request.after = decode_page(text)


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refusal(400, "invalid", "_count must be a whole number, such as _count=50.")
    return int(text)


def _read_sort(resource_type: str, text: str) -> list[tuple[Parameter, bool]]:
    keys = []
    for part in text.split(","):
        name = part.removeprefix("-")
        parameter = {"_id": ID, "_lastUpdated": LAST_UPDATED}.get(name) or parameters_of(resource_type).get(name)
        if parameter is None:
            raise Refusal(400, "not-supported", f"{resource_type} cannot be sorted by `{_shown(name)}`.")
        keys.append((parameter, part.startswith("-")))
    return keys


def _read_include(text: str) -> Include:
    source, name, target = [*text.split(":"), "", ""][:3]
    parameter = parameters_of(source).get(name) if source in RESOURCE_TYPES else None
    if parameter is None or parameter.kind != "reference":
        raise Refusal(400, "not-supported", f"`{_shown(text)}` is no reference parameter, such as Observation:subject.")
    return Include(source, parameter, target or parameter.target)


def split_escaped(text: str, separator: str) -> list[str]:
    r"""Cut at a separator that no backslash escapes; escapes stay.

    >>> split_escaped(r"a\\,b,c", ",")
    ['a\\\\', 'b', 'c']
    """
    if "\\" not in text:
        return text.split(separator)
    parts, current, escaped = [], "", False
    for letter in text:
        if letter == separator and not escaped:
            parts.append(current)
            current = ""
            continue
        current += letter
        escaped = letter == "\\" and not escaped
    return [*parts, current]


def unescape(text: str) -> str:
    r"""A search value without its escapes (``\,`` ``\|`` ``\$`` ``\\``)."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def encode_page(keys: list[Any]) -> str:
    """The text of a page token that holds the sort keys of a page's last match."""
    return base64.urlsafe_b64encode(msgspec.json.encode(keys)).decode().rstrip("=")


def decode_page(text: str) -> list[Any]:
    """The sort keys of a page token.

    Raises:
        Refusal: 400 when it is none of ours.
    """
    try:
        keys = msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_"))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        keys = None
    if not isinstance(keys, list) or not all(type(key) in (int, float, str) for key in keys):
        raise Refusal(400, "invalid", "The page token is not one this server made; start the search again.")
    return keys
