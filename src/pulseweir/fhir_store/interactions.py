"""Interactions with one resource: create, read, update, delete, history, and their conditional forms.

Functions that change something run in the writer thread, inside its transaction.
Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

import re
import uuid
from dataclasses import dataclass
from email.utils import format_datetime

from pulseweir.clock import from_microseconds
from pulseweir.fhir_store.json_text import check_depth, split_resource
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.searching import find_matches
from pulseweir.fhir_store.session import Stored, WriteSession, find_current, find_versions
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.validation import check_resource, is_resource_id

_ETAG = re.compile(r'(?:W/)?"([^"]{1,64})"|([A-Za-z0-9\-.]{1,64})')


@dataclass(frozen=True, slots=True)
class Incoming:
    """A checked resource on its way into the store.

    Attributes:
        resource_type: FHIR type.
        resource_id: The id in its body, None when it has none.
        tree: The decoded resource.
        text: The resource as compact JSON text.
    """

    resource_type: str
    resource_id: str | None
    tree: Json
    text: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    Attributes:
        status: HTTP status of the interaction.
        stored: The version that now holds; None when there is none (delete of nothing).
    """

    status: int
    stored: Stored | None


def check_incoming(tree: Json, text: bytes, wanted_type: str | None, settings: FhirStoreSettings) -> Incoming:
    """Check a resource of a request.

    Raises:
        Refusal: 400 or 422; see `check_depth` and `check_resource`.
    """
    check_depth(tree, text, settings.maximum_depth_levels)
    resource_type = check_resource(tree, wanted_type=wanted_type, level=settings.validation)
    return Incoming(resource_type, tree.get("id"), tree, text)


def create(session: WriteSession, incoming: Incoming, condition: Pairs | None, settings: FhirStoreSettings) -> Written:
    """Store a new resource under an id of the server's, unless `condition` finds that it is there already.

    Raises:
        Refusal: 412 when several resources match the condition.
    """
    if condition is not None:
        matches = find_matches(session, incoming.resource_type, condition, settings)
        if len(matches) > 1:
            raise _several()
        if matches:
            return Written(200, matches[0])
    return Written(201, _insert(session, incoming, str(uuid.uuid4())))


def update(
    session: WriteSession, incoming: Incoming, resource_id: str, if_match: str | None, if_none_match: str | None = None
) -> Written:
    """Store a resource under the client's id; an equal one is left as it is.

    Raises:
        Refusal: 400 when body and URL disagree about the id, 412 when `if_match` names another version or
            `if_none_match` is ``*`` and there is one.
    """
    if incoming.resource_id != resource_id:
        path = f"{incoming.resource_type}.id"
        raise Refusal(400, "invalid", "The body must carry the id of the URL.", path)
    current = session.find(incoming.resource_type, resource_id)
    check_if_match(current, if_match)
    if current is None:
        return Written(201, _insert(session, incoming, resource_id))
    if if_none_match == "*" and not current.deleted:
        raise Refusal(412, "conflict", "If-None-Match is * and the resource is there already; read it.")
    parts = split_resource(incoming.text)
    if current.deleted:
        return Written(201, session.replace(current, incoming.tree, parts))
    if parts == (current.meta, current.content):
        return Written(200, current)
    return Written(200, session.replace(current, incoming.tree, parts))


def conditional_update(
    session: WriteSession,
    incoming: Incoming,
    condition: Pairs,
    if_match: str | None,
    settings: FhirStoreSettings,
) -> Written:
    """Update the one resource that matches, or create it.

    Raises:
        Refusal: 412 when several match, 400 when the body's id is not that of the match, 409 when the body's id
            belongs to a resource that does not match.
    """
    matches = find_matches(session, incoming.resource_type, condition, settings)
    if len(matches) > 1:
        raise _several()
    if matches:
        found = matches[0].resource_id
        if incoming.resource_id not in (None, found):
            raise Refusal(400, "invalid", "The body carries another id than the match.", f"{incoming.resource_type}.id")
        named = Incoming(incoming.resource_type, found, incoming.tree, incoming.text)
        return update(session, named, found, if_match)
    check_if_match(None, if_match)
    if incoming.resource_id is None:
        return Written(201, _insert(session, incoming, str(uuid.uuid4())))
    current = session.find(incoming.resource_type, incoming.resource_id)
    if current is not None and not current.deleted:
        text = "Nothing matches, but the body's id belongs to another resource."
        raise Refusal(409, "conflict", text, f"{incoming.resource_type}.id")
    return update(session, incoming, incoming.resource_id, None)


def delete(session: WriteSession, resource_type: str, resource_id: str, if_match: str | None) -> Written:
    """Mark a resource as gone; deleting nothing is a success."""
    current = session.find(resource_type, resource_id)
    check_if_match(current, if_match)
    if current is None or current.deleted:
        return Written(204, None)
    return Written(204, session.delete(current))


def read(session: ReadSession | WriteSession, resource_type: str, resource_id: str) -> Stored:
    """The current version.

    Raises:
        Refusal: 404 when there is none, 410 when it was deleted.
    """
    found = find_current(session.connection, session.terms, resource_type, resource_id)
    if found is None or not session.access.show([found]):
        raise _not_found(resource_type, resource_id)
    if found.deleted:
        raise _gone(found)
    return found


def read_version(session: ReadSession | WriteSession, resource_type: str, resource_id: str, version: str) -> Stored:
    """One version.

    Raises:
        Refusal: 404 when there is none, 410 when it is a deletion.
    """
    current = find_current(session.connection, session.terms, resource_type, resource_id)
    if current is None or not (version.isascii() and version.isdigit() and len(version) < 10):
        raise _not_found(resource_type, resource_id)
    number = int(version)
    found = current if current.version == number else next(find_versions(session.connection, current, number), None)
    if found is None or not session.access.show([found]):
        raise _not_found(resource_type, resource_id)
    if found.deleted:
        raise _gone(found)
    return found


def history(session: ReadSession, resource_type: str, resource_id: str) -> list[Stored]:
    """All versions, newest first.

    Raises:
        Refusal: 404 when the id was never used.
    """
    current = find_current(session.connection, session.terms, resource_type, resource_id)
    versions = [] if current is None else [current, *find_versions(session.connection, current)]
    shown = session.access.show(versions)
    if not shown:
        raise _not_found(resource_type, resource_id)
    return shown


def check_if_match(current: Stored | None, if_match: str | None) -> None:
    """Nothing, if the precondition holds.

    Raises:
        Refusal: 412 when it does not, 400 when it is no entity tag.
    """
    if if_match is None:
        return
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise Refusal(400, "invalid", 'If-Match must be one entity tag, such as W/"3".')
    wanted = match[1] or match[2]
    if current is None or current.deleted or str(current.version) != wanted:
        held = "nothing" if current is None or current.deleted else f"version {current.version}"
        raise Refusal(412, "conflict", f"If-Match names another version than the one held ({held}); read it again.")


def last_modified(stored: Stored) -> str:
    """The HTTP date of a version."""
    return format_datetime(from_microseconds(stored.updated), usegmt=True)


def _insert(session: WriteSession, incoming: Incoming, resource_id: str) -> Stored:
    if not is_resource_id(resource_id):
        raise Refusal(
            400, "value", "An id is 1 to 64 characters of A-Z a-z 0-9 - and .", f"{incoming.resource_type}.id"
        )
    return session.insert(incoming.resource_type, resource_id, incoming.tree, split_resource(incoming.text))


def _several() -> Refusal:
    return Refusal(412, "multiple-matches", "Several resources match the condition; make it narrower.")


def _not_found(resource_type: str, resource_id: str) -> Refusal:
    shown = f" {resource_type}/{resource_id}" if is_resource_id(resource_id) else ""
    return Refusal(404, "not-found", f"There is no{shown} (in that version).")


def _gone(stored: Stored) -> Refusal:
    text = f"{stored.resource_type}/{stored.resource_id} was deleted."
    return Refusal(410, "deleted", text, headers={"etag": stored.etag})
