"""What the export's paths answer: kick-off, status, files, cancellation.

Source: Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/export.html.
"""

import asyncio
from datetime import UTC
from email.utils import format_datetime

import msgspec

from pulseweir.clock import from_microseconds
from pulseweir.fhir_store.calls import Call, Reading
from pulseweir.fhir_store.export.exports import Export, Exports
from pulseweir.fhir_store.export.kickoff import read_kickoff
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.json_text import instant_text, parse_object
from pulseweir.fhir_store.operations import parameter_pairs
from pulseweir.fhir_store.outcomes import Answer, Json, Refusal
from pulseweir.fhir_store.security.access import current_access
from pulseweir.fhir_store.security.rights import check_rights
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
            return _status(exports, exports.find(name, _owner()), call, needs_token=needs_token)
        case [_, name], "DELETE":
            exports.cancel(exports.find(name, _owner()))
            return Answer(202)
        case [_, name, file], "GET":
            return await _file(exports, exports.find(name, _owner()), file)
        case [*_, "$export"] | [_, _] | [_, _, _], _:
            allowed = "GET, POST" if call.segments[-1] == "$export" else "GET, DELETE"
            text = f"{call.method} is not supported here; {allowed} is."
            raise Refusal(405, "not-supported", text, headers={"allow": allowed})
    raise Refusal(404, "not-found", "There is nothing at that path; see /metadata.")


async def _begin(exports: Exports, call: Call) -> Answer:
    if call.preference("respond-async") is None:
        raise Refusal(400, "required", "An export is answered later: send Prefer: respond-async.")
    document = parse_object(call.body) if call.method == "POST" and call.body.strip() else None
    pairs = parameter_pairs(Reading(call.segments, call.query, call.base_url, 0, document=document))
    wanted = read_kickoff(call.segments, pairs, lenient=call.preference("handling") == "lenient")
    # The types may stand in the body, of which the check at the door knows nothing.
    check_rights(current_access().caller, "GET", ["$export"], [("_type", ",".join(wanted.types))])
    if wanted.group:
        check_id(wanted.group)
        await exports.store.query(lambda session: read(session, "Group", wanted.group))
    url = f"{call.base_url}/{'/'.join(call.segments)}"
    export = exports.begin(_owner(), url, wanted)
    return Answer(202, headers={"content-location": f"{call.base_url}/{STATUS}/{export.name}"})


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
        "output": [{"type": each.type, "url": f"{place}/{each.name}", "count": each.count} for each in export.files],
        "error": [],
    }
    expires = format_datetime(from_microseconds(exports.expires(export)).astimezone(UTC), usegmt=True)
    return Answer(200, msgspec.json.encode(manifest), {"content-type": "application/json", "expires": expires})


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
