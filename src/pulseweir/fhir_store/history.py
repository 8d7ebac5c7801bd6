"""History of a resource, of a type, of everything: which versions, in pages, newest first.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/http.html#history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec

from pulseweir.clock import to_text
from pulseweir.fhir_store.control_parameters import refuse_modifiers
from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Json, Refusal, parameter_place
from pulseweir.fhir_store.paging import PAGE_PARAMETER, decode_page, encode_page, search_digest
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.security.maker import revealed
from pulseweir.fhir_store.session import Stored, WriteSession, find_current
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.summaries import Shape, read_shape
from pulseweir.fhir_store.validation import check_type, is_resource_id

_EVER = 2**62
_UNREAD = frozenset({"_format", "_pretty"})
_PRESENTATION = frozenset({"_count", "_summary", "_elements"})
_TYPES = tuple(RESOURCE_TYPES)

Origin = tuple[str, str]
"""HTTP method and status by which a version came."""
Key = tuple[int, int, int]
"""(updated, row, version) of a version."""


@dataclass(slots=True)
class HistoryRequest:
    """A history, read and checked.

    Attributes:
        path: Below the base URL.
        types: Resource types; exactly one for the history of a resource.
        resource_id: Of the one resource; None for all.
        since: Versions of this microsecond and later only.
        at: Versions that held at some time in this half-open range of microseconds only; None for all.
        count: Versions on a page.
        after: Key of the last version of the page before, and the total; None for the first page.
        digest: Name of the history, which its page tokens carry.
        shape: What is shown of each version; None for all.
        applied: The pairs that were used, for the links.
    """

    path: str
    types: tuple[str, ...]
    resource_id: str | None
    count: int
    since: int = -_EVER
    at: tuple[int, int] | None = None
    after: list[int] | None = None
    digest: str = ""
    shape: Shape | None = None
    applied: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What one page of a history shows.

    Attributes:
        versions: Newest first.
        total: All versions of the history when its first page was read; None when the caller may not know.
        next_after: Key to go on from, and the total; None on the last page.
        origins: By which method and with which status each version came, by row and version.
    """

    versions: list[Stored]
    total: int | None
    next_after: list[int] | None
    origins: dict[tuple[int, int], Origin]


def read_history(segments: Sequence[str], pairs: Pairs, *, strict: bool, settings: FhirStoreSettings) -> HistoryRequest:
    """Read a request for ``_history`` below a resource, a type or the base.

    Raises:
        Refusal: 400 for a value that makes no sense or (strict) an unknown parameter, 404 for an unknown type.
    """
    refuse_modifiers(pairs)
    types = (check_type(segments[0]),) if len(segments) > 1 else _TYPES
    resource_id = segments[1] if len(segments) == 3 else None
    request = HistoryRequest("/".join(segments), types, resource_id, settings.page_resources, shape=read_shape(pairs))
    page = None
    for name, text in pairs:
        if name in _UNREAD:
            continue
        if name == PAGE_PARAMETER:
            page = text
        elif _read_parameter(request, name, text, settings):
            request.applied.append((name, text))
        elif strict:
            takes = "A history takes _count, _since, _at, _summary and _elements only."
            raise Refusal(400, "not-supported", takes, parameter_place(name))
    request.digest = search_digest(request.path, (pair for pair in request.applied if pair[0] not in _PRESENTATION))
    if page is not None:
        request.after = _after(page, request.digest)
        request.applied.append((PAGE_PARAMETER, page))
    return request


def _read_parameter(request: HistoryRequest, name: str, text: str, settings: FhirStoreSettings) -> bool:
    match name:
        case "_count":
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise Refusal(400, "invalid", "_count must be a whole number, such as _count=50.", "http._count")
            request.count = max(1, min(int(text), settings.maximum_page_resources))
        case "_since":
            request.since = _range(name, text, settings.time_zone)[0]
        case "_at":
            request.at = _range(name, text, settings.time_zone)
        case "_type" if len(request.path.split("/")) == 1:
            wanted = [check_type(part) for part in text.split(",")]
            request.types = tuple(each for each in request.types if each in wanted)
        case "_summary" | "_elements":
            return bool(text)
        case _:
            return False
    return True


def _after(text: str, digest: str) -> list[int]:
    keys = decode_page(text, digest)
    if len(keys) != 4 or not all(type(key) is int and abs(key) <= _EVER for key in keys):
        raise Refusal(400, "invalid", "The page token is not one this server made; start again.", "http._page")
    return keys


def _range(name: str, text: str, zone: str) -> tuple[int, int]:
    try:
        # A plus sign in a query is a blank once it is decoded.
        return date_range(text.replace(" ", "+"), zone)
    except ValueError:
        text = f"{name} must be an instant, such as 2024-01-01T00:00:00Z."
        raise Refusal(400, "invalid", text, parameter_place(name)) from None


def find_history(session: ReadSession | WriteSession, request: HistoryRequest) -> HistoryPage:
    """Find one page of versions, as far as the caller may see them.

    Raises:
        Refusal: 404 when the resource never was.
    """
    if request.resource_id is None:
        sources = [_of_type(session, name) for name in request.types]
    else:
        sources = [_of_resource(session, request.types[0], request.resource_id)]
    held = [source for source in sources if source is not None]
    keys: list[Key] = []
    for where, number in held:
        keys.extend(_keys(session, request, where, number))
    keys.sort(key=(lambda key: key[2]) if request.resource_id is not None else None, reverse=True)
    has_more = len(keys) > request.count
    origins: dict[tuple[int, int], Origin] = {}
    found = _versions(session, keys[: request.count], origins)
    shown = [revealed(session, stored) for stored in session.access.show(found)]
    if request.resource_id is not None and found and not shown:
        raise _never(request)
    total = request.after[3] if request.after else sum(_count(session, request, *source) for source in held)
    following = [*keys[request.count - 1], total] if has_more else None
    if any(session.access.caller.is_narrowed(name, "r") for name in request.types):
        # How many versions there are that the caller may not see is not for it to know.
        return HistoryPage(shown, None if has_more or request.after else len(shown), following, origins)
    return HistoryPage(shown, total, following, origins)


def _of_type(session: ReadSession | WriteSession, resource_type: str) -> tuple[str, int] | None:
    number = session.terms.find(resource_type)
    return None if number is None else ("type", number)


def _of_resource(session: ReadSession | WriteSession, resource_type: str, resource_id: str) -> tuple[str, int]:
    current = find_current(session.connection, session.terms, resource_type, resource_id)
    if current is None:
        text = f"There is no {resource_type}/{resource_id}." if is_resource_id(resource_id) else "There is no such id."
        raise Refusal(404, "not-found", text)
    return "pk", current.pk


def _never(request: HistoryRequest) -> Refusal:
    return Refusal(404, "not-found", f"There is no {request.types[0]}/{request.resource_id}.")


def _parts(request: HistoryRequest, where: str) -> list[str]:
    """The two FROM and WHERE clauses: current versions, superseded versions."""
    times = f"{where} = :number AND updated >= :since AND updated < :before"
    ended = (
        " AND :at < COALESCE((SELECT n.updated FROM history n WHERE n.pk = h.pk AND n.version = h.version + 1),"
        " (SELECT r.updated FROM resource r WHERE r.pk = h.pk))"
    )
    return [f"resource h WHERE {times}", f"history h WHERE {times}{ended if request.at else ''}"]


def _bindings(request: HistoryRequest, number: int) -> dict[str, int]:
    low, high = request.at or (0, _EVER)
    after = request.after or [_EVER, _EVER, _EVER]
    times = {"number": number, "since": request.since, "before": high, "at": low}
    return times | {"updated": after[0], "row": after[1], "version": after[2], "limit": request.count + 1}


def _keys(session: ReadSession | WriteSession, request: HistoryRequest, where: str, number: int) -> Iterable[Key]:
    if request.resource_id is None:
        rest = "AND updated <= :updated AND (updated, pk, version) < (:updated, :row, :version)"
        order = "updated DESC, pk DESC, version DESC"
    else:
        # The clock may have been set back between two versions of one resource: their numbers tell the order.
        rest, order = "AND version < :version", "version DESC"
    bindings = _bindings(request, number)
    for part in _parts(request, where):
        statement = f"SELECT updated, pk, version FROM {part} {rest} ORDER BY {order} LIMIT :limit"  # noqa: S608 - fixed
        yield from session.connection.execute(statement, bindings)


def _count(session: ReadSession | WriteSession, request: HistoryRequest, where: str, number: int) -> int:
    bindings = _bindings(request, number)
    statements = [f"SELECT count(*) FROM {part}" for part in _parts(request, where)]  # noqa: S608 - fixed
    return sum(int(session.connection.execute(statement, bindings).get) for statement in statements)


def _versions(
    session: ReadSession | WriteSession, keys: list[Key], origins: dict[tuple[int, int], Origin]
) -> list[Stored]:
    before = "r.posted, (SELECT p.deleted FROM history p WHERE p.pk = r.pk AND p.version = ?3)"
    current = (
        f"SELECT t.text, r.id, r.deleted, r.meta, r.content, {before}"  # noqa: S608 - fixed
        " FROM resource r JOIN term t ON t.id = r.type"
        " WHERE r.pk = ?1 AND r.version = ?2"
    )
    superseded = (
        f"SELECT t.text, r.id, h.deleted, h.meta, h.content, {before}"  # noqa: S608 - fixed
        " FROM history h JOIN resource r ON r.pk = h.pk JOIN term t ON t.id = r.type"
        " WHERE h.pk = ?1 AND h.version = ?2"
    )
    found = []
    for updated, pk, version in keys:
        named = pk, version, version - 1
        row: Any = session.connection.execute(current, named).fetchone()
        row = row or session.connection.execute(superseded, named).fetchone()
        resource_type, resource_id, deleted, meta, content, posted, is_again = row
        origins[pk, version] = _origin(version, deleted=deleted, posted=posted, is_again=is_again)
        found.append(Stored(pk, resource_type, resource_id, version, updated, bool(deleted), meta, content))
    return found


def _origin(version: int, *, deleted: bool, posted: bool, is_again: bool | None) -> Origin:
    """How a version came; `is_again` when the one before it was a deletion."""
    if deleted:
        return "DELETE", "204"
    if version == 1:
        return "POST" if posted else "PUT", "201"
    return "PUT", "201" if is_again else "200"


def history_bundle(page: HistoryPage, request: HistoryRequest, base_url: str) -> bytes:
    """The history Bundle of a page; its links are absolute."""
    here = f"{base_url}/{request.path}"
    asked = [pair for pair in request.applied if pair[0] != PAGE_PARAMETER]
    links = [{"relation": "self", "url": _link(here, request.applied)}]
    if page.next_after is not None:
        following = [*asked, (PAGE_PARAMETER, encode_page(page.next_after, request.digest))]
        links.append({"relation": "next", "url": _link(here, following)})
    bundle: Json = {"resourceType": "Bundle", "type": "history"}
    if page.total is not None:
        bundle["total"] = page.total
    bundle["link"] = links
    if page.versions:
        bundle["entry"] = [
            _entry(stored, base_url, request.shape, page.origins[stored.pk, stored.version]) for stored in page.versions
        ]
    return msgspec.json.encode(bundle)


def _link(here: str, pairs: Pairs) -> str:
    return f"{here}?{urlencode(pairs)}" if pairs else here


def _entry(stored: Stored, base_url: str, shape: Shape | None, origin: Origin) -> Json:
    name = f"{stored.resource_type}/{stored.resource_id}"
    method, status = origin
    entry: Json = {"fullUrl": f"{base_url}/{name}"}
    if not stored.deleted:
        text = stored.text()
        entry["resource"] = msgspec.Raw(text if shape is None else shape.apply(text, stored.resource_type))
    entry["request"] = {"method": method, "url": stored.resource_type if method == "POST" else name}
    entry["response"] = {"status": status, "etag": stored.etag, "lastModified": to_text(stored.updated)}
    return entry
