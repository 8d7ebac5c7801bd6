"""Which interaction a request means, and its answer in HTTP's words."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import msgspec

from pulseweir.fhir_store.bundle_checking import check_entries
from pulseweir.fhir_store.bundle_entries import read_bundle
from pulseweir.fhir_store.bundles import BundleRun
from pulseweir.fhir_store.calls import Call, Reading
from pulseweir.fhir_store.capability import capability_statement
from pulseweir.fhir_store.control_parameters import refuse_modifiers
from pulseweir.fhir_store.interactions import (
    Incoming,
    Written,
    check_incoming,
    conditional_update,
    create,
    delete,
    delete_matches,
    find_one,
    find_some,
    nothing_to_patch,
    patch,
    update,
)
from pulseweir.fhir_store.json_text import parse_object
from pulseweir.fhir_store.operations import operation_methods
from pulseweir.fhir_store.outcomes import Answer, Refusal, done_outcome
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.patching import PATCH_TYPES, Patch, read_patch
from pulseweir.fhir_store.preconditions import last_modified, none_exist_criteria
from pulseweir.fhir_store.provenance_header import HEADER, read_provenance, refuse_provenance
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.reading import answer_reading, no_such_path, read_answer
from pulseweir.fhir_store.references import check_references
from pulseweir.fhir_store.security.access import current_access
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_rights
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import check_id, check_type

Answerer = Callable[[FhirStore, Call], Awaitable[Answer]]
_SHORT_BYTES = 16_384
"""A resource no longer than this is indexed and written within a fraction of a millisecond."""


async def answer_call(store: FhirStore, call: Call) -> Answer:
    """Do what a request asks.

    Raises:
        Refusal: It cannot be done; the status says why.
        RetryLater: The store could not write.
    """
    is_conditional = "if-none-exist" in call.headers
    check_rights(current_access().caller, call.method, call.segments, call.query, is_conditional=is_conditional)
    check_search_cost(call.query, store.settings.limits)
    if call.query:
        refuse_modifiers(call.query, call.segments[-1] if call.segments else "")
    routes = _routes_at(call.segments)
    if call.method not in routes:
        allowed = ", ".join(sorted({*routes, *({"HEAD"} if "GET" in routes else ())}))
        text = f"{call.method} is not supported here; {allowed} is."
        raise Refusal(405, "not-supported", text, headers={"allow": allowed})
    return await routes[call.method](store, call)


def _routes_at(segments: list[str]) -> dict[str, Answerer]:
    if any(segment.startswith("$") for segment in segments):
        return dict.fromkeys(operation_methods(segments), _operate)
    shape = "/".join(_shape(segments))
    if shape not in ROUTES:
        raise no_such_path()
    return ROUTES[shape]


def _shape(segments: list[str]) -> Iterator[str]:
    """A path with its types, ids and versions by those names."""
    for place, segment in enumerate(segments):
        if segment.startswith("_") or segments == ["metadata"]:
            yield segment
        elif place == 0:
            check_type(segment)
            yield "type"
        elif place == 1:
            check_id(segment)
            yield "id"
        elif place == 2 and (segment == "*" or segment in RESOURCE_TYPES):
            yield "type"
        else:
            yield "version" if place == 3 else "?"


async def _metadata(store: FhirStore, call: Call) -> Answer:
    return Answer(200, capability_statement(call.base_url, store.settings, call.security))


async def _bundle(store: FhirStore, call: Call) -> Answer:
    refuse_provenance(call.headers.get(HEADER))
    document = parse_object(call.body)
    wanted = call.wanted_return if call.preference("return") else None
    bundle = read_bundle(
        document, base_url=call.base_url, wanted_return=wanted, settings=store.settings, security=call.security
    )
    await check_entries(bundle, store.settings)
    return Answer(200, await store.write(lambda session: BundleRun(session, bundle, store.settings).run()))


def _reading(store: FhirStore, call: Call) -> Reading:
    headers = call.headers
    return Reading(
        call.segments,
        call.query,
        call.base_url,
        store.now_microseconds(),
        call.is_strict,
        headers.get("if-none-match"),
        headers.get("if-modified-since"),
    )


async def _look(store: FhirStore, call: Call) -> Answer:
    reading = _reading(store, call)
    return await store.query(lambda session: answer_reading(session, reading, store.settings))


async def _operate(store: FhirStore, call: Call) -> Answer:
    reading = _reading(store, call)
    if call.method == "POST" and call.body.strip():
        reading = replace(reading, document=parse_object(call.body))
    return await store.query(lambda session: answer_reading(session, reading, store.settings))


async def _read(store: FhirStore, call: Call) -> Answer:
    reading = _reading(store, call)
    resource_type, resource_id = call.segments
    return store.read(lambda session: read_answer(session, reading, resource_type, resource_id))


async def _create(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    condition = _create_condition(call)

    def work(session: WriteSession) -> Written:
        if condition is None:
            return create(session, incoming)
        try:
            match = find_one(session, incoming.resource_type, condition, store.settings, call.base_url)
        except Refusal as refusal:
            raise refusal.located("http.If-None-Exist" if "if-none-exist" in call.headers else "http.url") from None
        return create(session, incoming, match)

    return await _write(store, call, work, is_plain=condition is None)


def _create_condition(call: Call) -> Pairs | None:
    text = call.headers.get("if-none-exist")
    if text is not None:
        return none_exist_criteria(text, call.segments[0])
    # Clients in use send POST Type?criteria and mean a conditional create: ignoring it would make duplicates.
    return call.criteria or None


async def _update(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    conditions = call.headers.get("if-match"), call.headers.get("if-none-match")
    return await _write(
        store, call, lambda session: update(session, incoming, call.segments[1], *conditions), is_plain=True
    )


async def _conditional_update(store: FhirStore, call: Call) -> Answer:
    incoming = _incoming(store, call)
    if_match, if_none_match = call.headers.get("if-match"), call.headers.get("if-none-match")

    def work(session: WriteSession) -> Written:
        match = find_one(session, incoming.resource_type, call.criteria, store.settings, call.base_url)
        return conditional_update(session, incoming, match, if_match=if_match, if_none_match=if_none_match)

    return await _write(store, call, work)


def _incoming(store: FhirStore, call: Call) -> Incoming:
    document = parse_object(call.body)
    return check_incoming(document.tree, document.text, call.segments[0], store.settings)


async def _patch(store: FhirStore, call: Call) -> Answer:
    change = _read_patch(store, call)
    resource_type, resource_id = call.segments
    if_match = call.headers.get("if-match")
    return await _write(
        store, call, lambda session: patch(session, (resource_type, resource_id), change, if_match, store.settings)
    )


async def _conditional_patch(store: FhirStore, call: Call) -> Answer:
    change = _read_patch(store, call)
    resource_type, if_match = call.segments[0], call.headers.get("if-match")

    def work(session: WriteSession) -> Written:
        match = find_one(session, resource_type, call.criteria, store.settings, call.base_url)
        if match is None:
            raise nothing_to_patch()
        return patch(session, (resource_type, match.resource_id), change, if_match, store.settings)

    return await _write(store, call, work)


def _read_patch(store: FhirStore, call: Call) -> Patch:
    try:
        return read_patch(call.headers.get("content-type", ""), call.body, store.settings)
    except Refusal as refusal:
        if refusal.status == 415:
            refusal.headers["accept-patch"] = ", ".join(PATCH_TYPES)
        raise


async def _delete(store: FhirStore, call: Call) -> Answer:
    refuse_provenance(call.headers.get(HEADER))
    resource_type, resource_id = call.segments
    if_match = call.headers.get("if-match")
    written = await store.write(lambda session: delete(session, resource_type, resource_id, if_match))
    return _deleted(call, [written])


async def _conditional_delete(store: FhirStore, call: Call) -> Answer:
    refuse_provenance(call.headers.get(HEADER))
    resource_type, if_match = call.segments[0], call.headers.get("if-match")
    limit = store.settings.conditional_delete_resources

    def work(session: WriteSession) -> list[Written]:
        matches = find_some(session, resource_type, call.criteria, store.settings, call.base_url, limit)
        return delete_matches(session, matches, if_match)

    return _deleted(call, await store.write(work))


async def _write(
    store: FhirStore, call: Call, work: Callable[[WriteSession], Written], *, is_plain: bool = False
) -> Answer:
    """Do a write and answer it; a plain one searches for nothing, so that its size says how long it takes."""
    store_provenance = read_provenance(call.headers.get(HEADER), store.settings)
    is_short = is_plain and store.settings.validation != "strict" and len(call.body) <= _SHORT_BYTES

    def checked(session: WriteSession) -> Written:
        written = work(session)
        is_own = written.status == 201 or call.method != "POST"
        if store.settings.validation == "strict" and written.stored is not None and is_own:
            check_references(session, written.stored.tree())
        if store_provenance is not None:
            store_provenance(session, written)
        return written

    return _written(call, await store.write(checked, is_short=is_short))


def _written(call: Call, written: Written) -> Answer:
    stored = written.stored
    if stored is None:
        return Answer(written.status)
    headers = {
        "location": f"{call.base_url}/{stored.resource_type}/{stored.resource_id}/_history/{stored.version}",
        "etag": stored.etag,
        "last-modified": last_modified(stored),
    }
    match call.wanted_return if written.is_shown else "minimal":
        case "minimal":
            return Answer(written.status, b"", headers)
        case "OperationOutcome":
            return Answer(written.status, msgspec.json.encode(done_outcome("Stored.")), headers)
    return Answer(written.status, stored.text(), headers)


def _deleted(call: Call, written: list[Written]) -> Answer:
    gone = [each.stored for each in written if each.stored is not None]
    headers = {"etag": gone[0].etag} if len(gone) == 1 else {}
    if call.wanted_return == "OperationOutcome":
        return Answer(200, msgspec.json.encode(done_outcome(f"{len(gone)} deleted.")), headers)
    return Answer(204, headers=headers)


ROUTES: dict[str, dict[str, Answerer]] = {
    "": {"GET": _look, "POST": _bundle},
    "metadata": {"GET": _metadata},
    "_history": {"GET": _look},
    "_search": {"GET": _look, "POST": _look},
    "type": {
        "GET": _look,
        "POST": _create,
        "PUT": _conditional_update,
        "PATCH": _conditional_patch,
        "DELETE": _conditional_delete,
    },
    "type/_search": {"GET": _look, "POST": _look},
    "type/_history": {"GET": _look},
    "type/id": {"GET": _read, "PUT": _update, "PATCH": _patch, "DELETE": _delete},
    "type/id/_history": {"GET": _look},
    "type/id/_history/version": {"GET": _look},
    "type/id/type": {"GET": _look},
}
"""Who answers at a path, by its shape and the HTTP method."""
