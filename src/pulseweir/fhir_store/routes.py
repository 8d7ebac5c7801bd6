"""Which interaction a request means, and its answer in HTTP's words."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers

from pulseweir.clock import to_text
from pulseweir.fhir_store.bundles import BundleRun, read_bundle
from pulseweir.fhir_store.capability import capability_statement
from pulseweir.fhir_store.interactions import (
    Incoming,
    Written,
    check_incoming,
    conditional_update,
    create,
    delete,
    history,
    last_modified,
    read,
    read_version,
    update,
)
from pulseweir.fhir_store.json_text import parse_object
from pulseweir.fhir_store.outcomes import Answer, Json, Refusal, operation_outcome
from pulseweir.fhir_store.query import Pairs, read_search
from pulseweir.fhir_store.references import check_references
from pulseweir.fhir_store.searching import run_search, searchset
from pulseweir.fhir_store.security.access import current_access
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_rights
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import check_type


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: HTTP method; HEAD has become GET.
        segments: Path below the base URL, decoded.
        query: Query parameters, those of a search form included.
        headers: As sent.
        body: As sent.
        base_url: Absolute FHIR base URL for links.
        security: What the CapabilityStatement says about who may come in; only of a call for that.
    """

    method: str
    segments: list[str]
    query: Pairs
    headers: Headers
    body: bytes
    base_url: str
    security: Json = field(default_factory=dict)

    def preference(self, name: str) -> str | None:
        """The value of one `Prefer` preference."""
        for part in self.headers.get("prefer", "").replace(";", ",").split(","):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value.strip('"')
        return None


Answerer = Callable[[FhirStore, Call], Awaitable[Answer]]


async def answer_call(store: FhirStore, call: Call) -> Answer:
    """Do what a request asks.

    Raises:
        Refusal: It cannot be done; the status says why.
        RetryLater: The store could not write.
    """
    segments = call.segments
    is_conditional = "if-none-exist" in call.headers
    check_rights(current_access().caller, call.method, segments, call.query, is_conditional=is_conditional)
    check_search_cost(call.query, store.settings.limits)
    if not segments:
        return await _only(call, {"POST": _bundle})(store, call)
    if segments == ["metadata"]:
        return await _only(call, {"GET": _metadata})(store, call)
    check_type(segments[0])
    if segments[-1].startswith("$"):
        raise Refusal(404, "not-supported", "This server has no such operation; see /metadata.")
    return await _only(call, _routes(segments))(store, call)


def _routes(segments: list[str]) -> dict[str, Answerer]:
    match segments[1:]:
        case []:
            return {"GET": _search, "POST": _create, "PUT": _conditional_update}
        case ["_search"]:
            return {"POST": _search, "GET": _search}
        case [_]:
            return {"GET": _read, "PUT": _update, "DELETE": _delete}
        case [_, "_history"]:
            return {"GET": _history}
        case [_, "_history", _]:
            return {"GET": _read_version}
    raise Refusal(404, "not-supported", "There is nothing at that path; see /metadata.")


def _only(call: Call, routes: dict[str, Answerer]) -> Answerer:
    if call.method not in routes:
        allowed = ", ".join(sorted(routes))
        text = f"{call.method} is not supported here; {allowed} is."
        raise Refusal(405, "not-supported", text, headers={"allow": allowed})
    return routes[call.method]


async def _metadata(store: FhirStore, call: Call) -> Answer:
    return Answer(200, capability_statement(call.base_url, store.settings, call.security))


async def _bundle(store: FhirStore, call: Call) -> Answer:
    representation = call.preference("return") == "representation"
    document = parse_object(call.body)
    bundle = read_bundle(document, base_url=call.base_url, representation=representation, settings=store.settings)
    return Answer(200, await store.write(lambda session: BundleRun(session, bundle, store.settings).run()))


async def _search(store: FhirStore, call: Call) -> Answer:
    strict = call.preference("handling") == "strict"
    request = read_search(call.segments[0], call.query, strict=strict, settings=store.settings)
    page = await store.query(lambda session: run_search(session, request))
    return Answer(200, searchset(page, request, call.base_url))


async def _create(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    condition = _create_condition(call)
    written = await _store(store, incoming, lambda session: create(session, incoming, condition, store.settings))
    return _written(call, written)


def _create_condition(call: Call) -> Pairs | None:
    text = call.headers.get("if-none-exist")
    if text is not None:
        return parse_qsl(text.partition("?")[2] or text, keep_blank_values=True)
    # Clients in use send POST Type?criteria and mean a conditional create: ignoring it would make duplicates.
    return [pair for pair in call.query if pair[0] not in {"_format", "_pretty"}] or None


async def _update(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    conditions = call.headers.get("if-match"), call.headers.get("if-none-match")
    written = await _store(store, incoming, lambda session: update(session, incoming, call.segments[1], *conditions))
    return _written(call, written)


async def _conditional_update(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    if_match = call.headers.get("if-match")
    written = await _store(
        store,
        incoming,
        lambda session: conditional_update(session, incoming, call.query, if_match, store.settings),
    )
    return _written(call, written)


async def _store(store: FhirStore, incoming: Incoming, work: Callable[[WriteSession], Written]) -> Written:
    def checked(session: WriteSession) -> Written:
        written = work(session)
        if store.settings.validation == "strict":
            check_references(session, incoming.tree)
        return written

    return await store.write(checked)


def _incoming(store: FhirStore, call: Call) -> Incoming:
    document = parse_object(call.body)
    return check_incoming(document.tree, document.text, call.segments[0], store.settings)


async def _delete(store: FhirStore, call: Call) -> Answer:
    if_match = call.headers.get("if-match")
    written = await store.write(lambda session: delete(session, call.segments[0], call.segments[1], if_match))
    return Answer(204, headers={"etag": written.stored.etag} if written.stored else {})


async def _read(store: FhirStore, call: Call) -> Answer:
    return _found(call, store.read(lambda session: read(session, call.segments[0], call.segments[1])))


async def _read_version(store: FhirStore, call: Call) -> Answer:
    resource_type, resource_id, _, version = call.segments
    return _found(call, store.read(lambda session: read_version(session, resource_type, resource_id, version)))


async def _history(store: FhirStore, call: Call) -> Answer:
    versions = await store.query(lambda session: history(session, call.segments[0], call.segments[1]))
    return Answer(200, _history_bundle(versions, call.base_url))


def _found(call: Call, stored: Stored) -> Answer:
    headers = {"etag": stored.etag, "last-modified": last_modified(stored)}
    if stored.etag in call.headers.get("if-none-match", "").split(", "):
        return Answer(304, headers=headers)
    return Answer(200, stored.text(), headers)


def _written(call: Call, written: Written) -> Answer:
    stored = written.stored
    if stored is None:
        return Answer(written.status)
    headers = {
        "location": f"{call.base_url}/{stored.resource_type}/{stored.resource_id}/_history/{stored.version}",
        "etag": stored.etag,
        "last-modified": last_modified(stored),
    }
    match call.preference("return"):
        case "minimal":
            return Answer(written.status, b"", headers)
        case "OperationOutcome":
            outcome = operation_outcome([])
            outcome["issue"] = [{"severity": "information", "code": "informational", "details": {"text": "Stored."}}]
            return Answer(written.status, msgspec.json.encode(outcome), headers)
    return Answer(written.status, stored.text(), headers)


def _history_bundle(versions: list[Stored], base_url: str) -> bytes:
    entries = []
    here = f"{base_url}/{versions[0].resource_type}/{versions[0].resource_id}"
    for stored in versions:
        method = "DELETE" if stored.deleted else "POST" if stored.version == 1 else "PUT"
        entry = {
            "fullUrl": here,
            "request": {"method": method, "url": f"{stored.resource_type}/{stored.resource_id}"},
            "response": {
                "status": {"DELETE": "204", "POST": "201"}.get(method, "200"),
                "etag": stored.etag,
                "lastModified": to_text(stored.updated),
            },
        }
        entries.append(entry if stored.deleted else entry | {"resource": msgspec.Raw(stored.text())})
    bundle = {
        "resourceType": "Bundle",
        "type": "history",
        "total": len(versions),
        "link": [{"relation": "self", "url": f"{here}/_history"}],
        "entry": entries,
    }
    return msgspec.json.encode(bundle)
