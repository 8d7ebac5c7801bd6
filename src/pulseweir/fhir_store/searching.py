"""Searches run: matches, total, included resources, and the searchset Bundle with its links."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus
from uuid import NAMESPACE_OID, uuid5

import msgspec

from pulseweir.fhir_store.including import Including
from pulseweir.fhir_store.outcomes import Refusal, operation_outcome
from pulseweir.fhir_store.paging import PAGE_PARAMETER, encode_page, join_sent
from pulseweir.fhir_store.query import Pairs, read_search
from pulseweir.fhir_store.search_request import REMEMBERED_LETTERS, SearchRequest
from pulseweir.fhir_store.search_sql import compile_search
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.maker import revealed
from pulseweir.fhir_store.security.narrowing import narrow
from pulseweir.fhir_store.security.rights import check_search
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.summaries import Shape

_COLUMNS = 7
_known_quoted = lru_cache(maxsize=4096)(quote_plus)


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
    total: int | None = None
    next_after: list[Any] | None = None


def run_search(session: ReadSession | WriteSession, request: SearchRequest, *, is_as_read: bool = False) -> SearchPage:
    """Find one page of matches, as far as the caller may see them; see `compile_search` for `is_as_read`."""
    if isinstance(session, WriteSession):
        with session.searching():
            return _find_page(session, request)
    return _find_page(session, request, is_as_read=is_as_read)


def _find_page(session: ReadSession | WriteSession, request: SearchRequest, *, is_as_read: bool = False) -> SearchPage:
    for each in request.searches:
        narrow(each, session.access.caller)
    sql = compile_search(request, session, is_as_read=is_as_read)
    rows: list[Any] = []
    if request.count:
        for statement, arguments in sql.page_statements(request.after, request.count + 1):
            rows += session.connection.execute(statement, arguments).fetchall()
            if len(rows) > request.count:
                break
    has_more = len(rows) > request.count
    rows = rows[: request.count]
    types = {session.terms.find(each): each for each in request.types}
    matches = [_stored(types[row[6]], row) for row in rows]
    if "Subscription" in types.values():
        matches = [revealed(session, stored) for stored in matches]
    session.access.showed(matches)
    total: int | None = None
    if request.wants_total or (request.count == 0 and not request.hides_total):
        statement, arguments = sql.count_statement()
        total = int(session.connection.execute(statement, arguments).get)
    elif not (has_more or request.after or request.hides_total):
        total = len(matches)
    included: list[Stored] = []
    if matches and (request.includes or request.reverse_includes):
        found = Including(session, request, lambda asked: _find_page(session, asked).matches).run(matches)
        included = [revealed(session, stored) for stored in found]
    return SearchPage(matches, included, total, _next_after(request, rows[-1], included) if has_more and rows else None)


def _next_after(request: SearchRequest, last: Any, included: list[Stored]) -> list[Any]:
    keys = list(last[_COLUMNS:])
    return [*keys, join_sent([*request.sent, *(each.pk for each in included)])] if request.remembers else keys


def _stored(resource_type: str, row: tuple[Any, ...]) -> Stored:
    pk, resource_id, version, updated, meta, content = row[:6]
    return Stored(pk, resource_type, resource_id, version, updated, False, meta, content)


def find_matches(
    session: WriteSession,
    resource_type: str,
    pairs: Pairs,
    settings: FhirStoreSettings,
    *,
    limit: int = 2,
    base_url: str = "",
) -> list[Stored]:
    """Up to `limit` resources that match the criteria of a conditional interaction.

    Raises:
        Refusal: 412 when there are no criteria, 400 when one is unknown: ignoring it would match too much.
    """
    session.access.caller.require(resource_type, "s")
    check_search(session.access.caller, resource_type, pairs)
    check_search_cost(pairs, settings.limits)
    now = session.now_microseconds
    read = read_search(resource_type, pairs, strict=True, settings=settings, base_url=base_url, now=now)
    if not read.criteria:
        raise Refusal(412, "required", "A conditional request needs search criteria, such as identifier=system|value.")
    return run_search(
        session, SearchRequest(resource_type, base_url=base_url, now=now, criteria=read.criteria, count=limit)
    ).matches


def searchset(page: SearchPage, request: SearchRequest, base_url: str) -> bytes:
    """The searchset Bundle of a page; its links are absolute."""
    here = f"{base_url}/{request.path}" if request.path else base_url
    sent = (pair for pair in request.applied if pair[0] != PAGE_PARAMETER)
    query = "&".join(f"{_quoted(name)}={_quoted(text)}" for name, text in sent)
    links = [{"relation": "self", "url": _link(here, query, request, request.after)}]
    if page.next_after is not None:
        links.append({"relation": "next", "url": _link(here, query, request, page.next_after)})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if page.total is not None:
        bundle["total"] = page.total
    bundle["link"] = links
    shape = Shape(request.summary, request.elements) if request.summary or request.elements else None
    entries = [_entry(stored, base_url, b"match", shape) for stored in page.matches]
    entries += [_entry(stored, base_url, b"include", shape) for stored in page.included]
    if request.notes:
        outcome = msgspec.json.encode(operation_outcome(request.notes))
        # It is stored nowhere, and every entry of a searchset has a name: equal ones have the same.
        name = uuid5(NAMESPACE_OID, outcome.decode()).urn.encode()
        entries.append(b'{"fullUrl":"' + name + b'","resource":' + outcome + b',"search":{"mode":"outcome"}}')
    if entries:
        bundle["entry"] = msgspec.Raw(b"[" + b",".join(entries) + b"]")
    return msgspec.json.encode(bundle)


def _quoted(text: str) -> str:
    return (_known_quoted if len(text) <= REMEMBERED_LETTERS else quote_plus)(text)


def _link(here: str, query: str, request: SearchRequest, after: list[Any] | None) -> str:
    place = f"{PAGE_PARAMETER}={encode_page(after, request.digest)}" if after is not None else ""
    text = "&".join(part for part in (query, place) if part)
    return f"{here}?{text}" if text else here


def _entry(stored: Stored, base_url: str, mode: bytes, shape: Shape | None) -> bytes:
    url = f"{base_url}/{stored.resource_type}/{stored.resource_id}".encode()
    text = stored.text()
    if shape is not None:
        text = shape.apply(text, stored.resource_type, is_match=mode == b"match")
    return b'{"fullUrl":"' + url + b'","resource":' + text + b',"search":{"mode":"' + mode + b'"}}'
