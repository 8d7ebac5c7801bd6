"""A search that was read and checked: what must match, in which order, with what beside it. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from pulseweir.fhir_store.outcomes import Issue
from pulseweir.fhir_store.parameters import Parameter

Pairs = Sequence[tuple[str, str]]
ID = Parameter("_id", "id")
LAST_UPDATED = Parameter("_lastUpdated", "updated")
REMEMBERED_LETTERS = 4_000
"""Longest parameter of a search that is remembered: a form may hold millions of letters."""


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
class Chain:
    """A chained parameter: a reference leads to a resource of one of these types that meets the type's condition."""

    parameter: Parameter
    targets: tuple[tuple[str, "Condition"], ...]


@dataclass(frozen=True, slots=True)
class Reverse:
    """A ``_has``: a resource of `source` that meets the condition leads here by its reference parameter."""

    source: str
    parameter: Parameter
    condition: "Condition"


Condition = Union[Criterion, Chain, Reverse]  # noqa: UP007 - the names are quoted where the classes refer to it


@dataclass(frozen=True, slots=True)
class Include:
    """A ``_include`` or ``_revinclude``.

    Attributes:
        source: Type that holds the reference.
        parameter: Its reference parameter.
        target: Type it must lead to; None for any.
        iterates: Whether it is followed from included resources too.
    """

    source: str
    parameter: Parameter
    target: str | None
    iterates: bool = False


@dataclass(slots=True)
class SearchRequest:
    """A search, read and checked.

    Attributes:
        resource_type: What is searched; "" for several types, of which `parts` says more.
        path: Path of the search below the base URL, for its links.
        base_url: The server's own base URL, by which absolute references to it are known; "" when there is none.
        now: The present, microseconds, for `ap` of dates; 0 lets `ap` mean "overlaps".
        criteria: All must match.
        unless_missing: All must match where the resource has a value at all.
        parts: One search a type, when not one is searched but several, or none.
        compartment: (type, id) of the compartment the matches are in; None for anywhere. Without an id: in any
            compartment of that type.
        sort: (parameter, descending), most significant first.
        count: Matches on a page; 0 for the total alone.
        wants_total: Whether the exact total is asked for.
        hides_total: Whether no total is wanted, not even a known one.
        after: Sort keys of the last match of the page before; None for the first page.
        digest: Name of what is searched in which order; a page token holds for it alone.
        includes: References to follow from the matches.
        reverse_includes: References to follow to the matches.
        summary: "true", "text" or "data" for a part of each resource; "" for all of it.
        elements: Elements to show, "subject" or "Observation.subject"; none for all.
        sent: Row numbers of included resources that pages before this one had; they are not sent again.
        remembers: Whether page tokens carry what was sent.
        within: Ways in which a match is within the caller's rights, each with all of its criteria; None without
            bounds.
        applied: The pairs that were used, for the links.
        notes: What was ignored.
    """

    resource_type: str
    path: str = ""
    base_url: str = ""
    now: int = 0
    criteria: list[Condition] = field(default_factory=list)
    unless_missing: list[Criterion] = field(default_factory=list)
    parts: list["SearchRequest"] = field(default_factory=list)
    compartment: tuple[str, str | None] | None = None
    sort: list[tuple[Parameter, bool]] = field(default_factory=list)
    count: int = 0
    wants_total: bool = False
    hides_total: bool = False
    after: list[Any] | None = None
    digest: str = ""
    includes: list[Include] = field(default_factory=list)
    reverse_includes: list[Include] = field(default_factory=list)
    summary: str = ""
    elements: tuple[str, ...] = ()
    sent: list[int] = field(default_factory=list)
    remembers: bool = False
    within: list[list[Criterion]] | None = None
    applied: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)

    def again(self, now: int) -> "SearchRequest":
        """The same search at another instant, with lists of its own."""
        return SearchRequest(
            self.resource_type,
            self.path,
            self.base_url,
            now,
            [*self.criteria],
            [*self.unless_missing],
            [part.again(now) for part in self.parts],
            self.compartment,
            [*self.sort],
            self.count,
            self.wants_total,
            self.hides_total,
            None if self.after is None else [*self.after],
            self.digest,
            [*self.includes],
            [*self.reverse_includes],
            self.summary,
            self.elements,
            [*self.sent],
            self.remembers,
            None if self.within is None else [*self.within],
            [*self.applied],
            [*self.notes],
        )

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are searched; none where none of those that were named can match."""
        return (self.resource_type,) if self.resource_type else tuple(part.resource_type for part in self.parts)

    @property
    def searches(self) -> "list[SearchRequest]":
        """One search a type: its parts, or itself."""
        return [self] if self.resource_type else self.parts


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
