"""Searches run: matches, total, included resources, and the searchset Bundle with its links."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from pulseweir.fhir_store.extraction import points_to, reference_text, values_at
from pulseweir.fhir_store.json_text import decode_object
from pulseweir.fhir_store.outcomes import Refusal, operation_outcome
from pulseweir.fhir_store.query import PAGE_PARAMETER, Include, Pairs, SearchRequest, encode_page, read_search
from pulseweir.fhir_store.search_sql import SearchCompiler
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.narrowing import narrow
from pulseweir.fhir_store.security.rights import check_search
from pulseweir.fhir_store.session import Stored, WriteSession, find_current
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession

_INCLUDED_LIMIT = 10_000


@dataclass(slots=True)
class SearchPage:
    """What one page of a search found.

    Attributes:
        matches: In order.
        included: Resources that ``_include`` and ``_revinclude`` add.
        total: All matches, None when they were not counted.
        next_after: Sort keys to go on from; None on the last page.
    """

    matches: list[Stored]
    included: list[Stored]
    total: int | None
    next_after: list[Any] | None


def run_search(session: ReadSession | WriteSession, request: SearchRequest) -> SearchPage:
    """Find one page of matches, as far as the caller may see them."""
    narrow(request, session.access.caller)
    if isinstance(session, WriteSession):
        with session.searching():
            return _find_page(session, request)
    return _find_page(session, request)


def _find_page(session: ReadSession | WriteSession, request: SearchRequest) -> SearchPage:
    sql = SearchCompiler(request, session.terms, session.connection).compile()
    rows: list[Any] = []
    if request.count:
        statement, arguments = sql.page_statement(request.after, request.count + 1)
        rows = session.connection.execute(statement, arguments).fetchall()
    has_more = len(rows) > request.count
    rows = rows[: request.count]
    matches = [_stored(request.resource_type, row[:6]) for row in rows]
    session.access.showed(matches)
    total: int | None = None
    if request.wants_total:
        statement, arguments = sql.count_statement()
        total = int(session.connection.execute(statement, arguments).get)
    elif not has_more and request.after is None:
        total = len(matches)
    included = _included(session, request, matches) if request.includes or request.reverse_includes else []
    included = session.access.show(included, "rs")
    return SearchPage(matches, included, total, list(rows[-1][6:]) if has_more else None)


def _stored(resource_type: str, row: tuple[Any, ...]) -> Stored:
    pk, resource_id, version, updated, meta, content = row
    return Stored(pk, resource_type, resource_id, version, updated, False, meta, content)


def find_matches(session: WriteSession, resource_type: str, pairs: Pairs, settings: FhirStoreSettings) -> list[Stored]:
    """Up to two resources that match the criteria of a conditional interaction.

    Raises:
        Refusal: 412 when there are no criteria, 400 when one is unknown: ignoring it would match too much.
    """
    session.access.caller.require(resource_type, "s")
    check_search(session.access.caller, resource_type, pairs)
    check_search_cost(pairs, settings.limits)
    request = read_search(resource_type, pairs, strict=True, settings=settings)
    if not request.criteria:
        raise Refusal(412, "required", "A conditional request needs search criteria, such as identifier=system|value.")
    request.count, request.wants_total = 2, False
    request.sort, request.after, request.includes, request.reverse_includes = [], None, [], []
    return run_search(session, request).matches


def _included(session: ReadSession | WriteSession, request: SearchRequest, matches: list[Stored]) -> list[Stored]:
    found: dict[tuple[str, str], Stored] = {}
    present = {(match.resource_type, match.resource_id) for match in matches}
    for include in request.includes:
        if include.source == request.resource_type:
            for resource_type, resource_id in _targets(include, matches):
                stored = find_current(session.connection, session.terms, resource_type, resource_id)
                if stored and not stored.deleted and (resource_type, resource_id) not in present:
                    found[resource_type, resource_id] = stored
    for include in request.reverse_includes:
        for stored in _sources(session, include, matches):
            if (stored.resource_type, stored.resource_id) not in present:
                found[stored.resource_type, stored.resource_id] = stored
    return list(found.values())


def _targets(include: Include, matches: list[Stored]) -> Iterable[tuple[str, str]]:
    for match in matches:
        tree = decode_object(b"{" + match.content + b"}")
        for path in include.parameter.paths:
            for value in values_at(path, tree):
                reference = reference_text(value) or ""
                resource_type, _, resource_id = reference.rpartition("/")
                if resource_id and points_to(reference, include.target) and points_to(reference, path.target):
                    yield resource_type, resource_id


def _sources(session: ReadSession | WriteSession, include: Include, matches: list[Stored]) -> list[Stored]:
    references = [f"{match.resource_type}/{match.resource_id}" for match in matches]
    if not references:
        return []
    settings = FhirStoreSettings()
    request = read_search(
        include.source, [(include.parameter.name, ",".join(references))], strict=True, settings=settings
    )
    request.count, request.wants_total = _INCLUDED_LIMIT, False
    return run_search(session, request).matches


def searchset(page: SearchPage, request: SearchRequest, base_url: str) -> bytes:
    """The searchset Bundle of a page; its links are absolute."""
    here = f"{base_url}/{request.resource_type}"
    query = urlencode([pair for pair in request.applied if pair[0] != PAGE_PARAMETER])
    links = [{"relation": "self", "url": _link(here, query, request.after)}]
    if page.next_after is not None:
        links.append({"relation": "next", "url": _link(here, query, page.next_after)})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if page.total is not None:
        bundle["total"] = page.total
    bundle["link"] = links
    entries = [_entry(stored, base_url, b"match") for stored in page.matches]
    entries += [_entry(stored, base_url, b"include") for stored in page.included]
    if request.notes:
        outcome = msgspec.json.encode(operation_outcome(request.notes))
        entries.append(b'{"resource":' + outcome + b',"search":{"mode":"outcome"}}')
    if entries:
        bundle["entry"] = msgspec.Raw(b"[" + b",".join(entries) + b"]")
    return msgspec.json.encode(bundle)


def _link(here: str, query: str, after: list[Any] | None) -> str:
    place = f"{PAGE_PARAMETER}={encode_page(after)}" if after is not None else ""
    text = "&".join(part for part in (query, place) if part)
    return f"{here}?{text}" if text else here


def _entry(stored: Stored, base_url: str, mode: bytes) -> bytes:
    url = f"{base_url}/{stored.resource_type}/{stored.resource_id}".encode()
    return b'{"fullUrl":"' + url + b'","resource":' + stored.text() + b',"search":{"mode":"' + mode + b'"}}'
