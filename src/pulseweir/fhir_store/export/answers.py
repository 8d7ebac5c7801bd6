"""What the export's paths answer: kick-off, status, files, cancellation.

Source: Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/export.html.
"""

import asyncio
from datetime import UTC
from email.utils import format_datetime

import msgspec

from pulseweir.clock import from_microseconds, real_microseconds
from pulseweir.fhir_store.calls import Call, Reading
from pulseweir.fhir_store.export.exports import Export, Exports
from pulseweir.fhir_store.export.kickoff import Wanted, read_kickoff
from pulseweir.fhir_store.export.writing import ExportedFile, group_members
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.json_text import instant_text, parse_object
from pulseweir.fhir_store.operations import parameter_pairs
from pulseweir.fhir_store.outcomes import Answer, Json, Refusal
from pulseweir.fhir_store.search_sql import compile_search
from pulseweir.fhir_store.security.access import current_access
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_rights, check_search
from pulseweir.fhir_store.session import find_current
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.validation import check_id

STATUS = "$export-status"


def is_export(segments: list[str]) -> bool:
    """Whether a path is one of the export's.

    >>> is_export(["Patient", "$export"]), is_export(["$export-status", "x"]), is_export(["Patient"])
    (True, True, False)
    """
    return bool(segments) and (segments[-1] == "$export" or segments[0] == STATUS)


async def answer_export(exports: Exports, call: Call, *, needs_token: bool) -> Answer:
    """Do what a request about exports asks.

    Args:
        exports: The exports of the store.
        call: The request.
        needs_token: Whether the files are shown to known clients only.

    Raises:
        Refusal: It cannot be done; the status says why.
    """
    check_rights(current_access().caller, call.method, call.segments, call.query)
    match call.segments, call.method:
        case [*_, "$export"], "GET" | "POST":
            return await _begin(exports, call)
        case [_, name], "GET":
            export = exports.find(name, _owner())
            _check_wanted(export.wanted)
            return _status(exports, export, call, needs_token=needs_token)
        case [_, name], "DELETE":
            exports.cancel(exports.find(name, _owner()))
            return Answer(202)
        case [_, name, file], "GET":
            export = exports.find(name, _owner())
            _check_wanted(export.wanted)
            return await _file(exports, export, file)
        case [*_, "$export"] | [_, _] | [_, _, _], _:
            allowed = "GET, POST" if call.segments[-1] == "$export" else "GET, DELETE"
            text = f"{call.method} is not supported here; {allowed} is."
            raise Refusal(405, "not-supported", text, headers={"allow": allowed})
    raise Refusal(404, "not-found", "There is nothing at that path; see /metadata.")


async def _begin(exports: Exports, call: Call) -> Answer:
    if call.preference("respond-async") is None:
        raise Refusal(400, "required", "An export is answered later: send Prefer: respond-async.", "http.Prefer")
    is_post = call.method == "POST"
    document = parse_object(call.body) if is_post and call.body.strip() else None
    reading = Reading(call.segments, call.query, call.base_url, 0, call.is_strict, document=document)
    pairs = parameter_pairs(reading)
    current_access().asks(pairs)
    check_search_cost(pairs, exports.store.settings.limits)
    is_lenient = call.preference("handling") == "lenient"
    wanted = read_kickoff(call.segments, pairs, lenient=is_lenient, is_post=is_post)
    _check_wanted(wanted)
    for each in wanted.filters:
        check_search_cost(each.pairs, exports.store.settings.limits)
    if wanted.group:
        check_id(wanted.group)
    await exports.store.query(lambda session: _check_held(session, wanted))
    url = f"{call.base_url}/{'/'.join(call.segments)}"
    export = exports.begin(_owner(), url, wanted)
    return Answer(202, headers={"content-location": f"{call.base_url}/{STATUS}/{export.name}"})


def _check_wanted(wanted: Wanted) -> None:
    """Nothing, if the caller may see all of it now: the files are not narrowed to what it may see.

    Raises:
        Refusal: 403 when it may not, or has lost the right since it asked.
    """
    caller = current_access().caller
    check_rights(caller, "GET", ["$export"], [("_type", ",".join(wanted.types))])
    for each in wanted.filters:
        check_search(caller, each.type, each.pairs)


def _check_held(session: ReadSession, wanted: Wanted) -> None:
    """Nothing, if the Group and the patients are there and the filters can be searched.

    Raises:
        Refusal: 404 for the Group, 400 for anything else.
    """
    members: list[str] | None = None
    if wanted.group:
        try:
            members = group_members(session, read(session, "Group", wanted.group), real_microseconds())
        except Refusal:
            raise Refusal(404, "not-found", "There is no such Group, or no more.") from None
    for each in wanted.patients:
        held = find_current(session.connection, session.terms, "Patient", each)
        is_held = held is not None and not held.deleted and session.access.sees(held)
        if not is_held or (members is not None and each not in members):
            where = "in the Group" if wanted.group else "on this server"
            raise Refusal(400, "not-found", f"A patient that is asked for is not {where}.", "Parameters.parameter")
    for each_filter in wanted.filters:
        compile_search(each_filter.search(), session)


def _status(exports: Exports, export: Export, call: Call, *, needs_token: bool) -> Answer:
    if export.status == "working":
        return Answer(202, headers={"x-progress": f"{export.written} resources written", "retry-after": "1"})
    if export.status == "failed":
        raise Refusal(500, "exception", "The export failed; the server's log says why. Ask for it again.")
    place = f"{call.base_url}/{STATUS}/{export.name}"
    manifest: Json = {
        "transactionTime": instant_text(export.instant),
        "request": export.url,
        "requiresAccessToken": needs_token,
        "output": [_listed(each, place) for each in export.files if not (each.tells_deletions or each.tells_faults)],
        "error": [_listed(each, place) for each in export.files if each.tells_faults],
    }
    deleted = [_listed(each, place) for each in export.files if each.tells_deletions]
    if deleted:
        manifest["deleted"] = deleted
    expires = format_datetime(from_microseconds(exports.expires(export)).astimezone(UTC), usegmt=True)
    return Answer(200, msgspec.json.encode(manifest), {"content-type": "application/json", "expires": expires})


def _listed(file: ExportedFile, place: str) -> Json:
    return {"type": file.type, "url": f"{place}/{file.name}", "count": file.count}


async def _file(exports: Exports, export: Export, name: str) -> Answer:
    if export.status != "ready" or name not in {each.name for each in export.files}:
        raise Refusal(404, "not-found", "The export has no such file.")
    try:
        body = await asyncio.to_thread((exports.folder(export) / name).read_bytes)
    except FileNotFoundError:
        raise Refusal(404, "not-found", "The file has expired; ask for the export again.") from None
    return Answer(200, body, {"content-type": "application/fhir+ndjson"})


def _owner() -> str:
    return msgspec.json.encode(current_access().caller.identity).decode()
