"""Interactions with one resource: create, read, update, patch, delete, and their conditional forms.

Functions that change something run in the writer thread, inside its transaction.
Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

from dataclasses import dataclass, replace

from pulseweir.fhir_store.conditional_references import refuse_conditional_references
from pulseweir.fhir_store.indexing import IndexRows, index_resource
from pulseweir.fhir_store.json_text import check_depth, join_members, split_members
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.patching import Patch, patch_text
from pulseweir.fhir_store.preconditions import check_if_match, check_if_none_match
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.resource_ids import new_resource_id
from pulseweir.fhir_store.searching import find_matches
from pulseweir.fhir_store.security.caller import forbidden
from pulseweir.fhir_store.security.maker import revealed
from pulseweir.fhir_store.session import Stored, WriteSession, find_current, find_versions
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.subscriptions.definition import check_subscription_resource
from pulseweir.fhir_store.validation import check_resource, is_resource_id

_SEVERAL = "Several resources match the condition; make it narrower."


@dataclass(frozen=True, slots=True)
class Incoming:
    """A checked resource on its way into the store.

    Attributes:
        resource_type: FHIR type.
        resource_id: The id in its body, None when it has none.
        tree: The decoded resource.
        parts: Its text, as `split_resource` gives it.
        rows: What it will be found by.
    """

    resource_type: str
    resource_id: str | None
    tree: Json
    parts: tuple[bytes, bytes]
    rows: IndexRows


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    Attributes:
        status: HTTP status of the interaction.
        stored: The version that now holds; None when there is none (delete of nothing).
        is_shown: Whether the answer may show it, however it was asked for.
        is_change: Whether this wrote it; else it was there already.
    """

    status: int
    stored: Stored | None
    is_shown: bool = True
    is_change: bool = True


def check_incoming(tree: Json, text: bytes, wanted_type: str | None, settings: FhirStoreSettings) -> Incoming:
    """Check a resource of a request.

    Raises:
        Refusal: 400 or 422; see `check_depth`, `check_resource`, `refuse_conditional_references`,
            `check_subscription_resource`, `index_resource`.
    """
    check_depth(tree, text, settings.maximum_depth_levels)
    members = split_members(text)
    texts = [*map(bytes, members.values())]
    resource_type = check_resource(tree, wanted_type=wanted_type, level=settings.validation, texts=texts)
    refuse_conditional_references(tree, text)
    check_subscription_resource(tree, settings)
    rows = index_resource(resource_type, tree, texts, settings.time_zone)
    return Incoming(resource_type, tree.get("id"), tree, join_members(members), rows)


def create(
    session: WriteSession, incoming: Incoming, match: Stored | None = None, new_id: str | None = None
) -> Written:
    """Store a new resource under an id of the server's, unless a condition found that it is there already.

    Args:
        session: The write transaction.
        incoming: What to store.
        match: What the condition found.
        new_id: The id, made by chance; None to make it here.
    """
    if match is not None:
        return Written(200, match, is_change=False)
    return Written(201, _insert(session, incoming, new_id or new_resource_id(session.now_microseconds), posted=True))


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
    check_if_none_match(current, if_none_match)
    if current is None:
        return Written(201, _insert(session, incoming, resource_id, posted=False))
    if current.deleted:
        return Written(201, session.replace(current, incoming.tree, incoming.parts, incoming.rows))
    if incoming.parts == (current.meta, current.content):
        # What may not be changed is not confirmed either.
        session.access.check_replace(current, incoming.tree)
        if session.stays(current):
            return Written(200, current, is_change=False)
    return Written(200, session.replace(current, incoming.tree, incoming.parts, incoming.rows))


def conditional_update(
    session: WriteSession,
    incoming: Incoming,
    match: Stored | None,
    *,
    new_id: str | None = None,
    if_match: str | None = None,
    if_none_match: str | None = None,
) -> Written:
    """Update the one resource that matched, or create it; see `create` for `new_id`.

    Raises:
        Refusal: 400 when the body's id is not that of the match, 409 when it belongs to a resource that does not
            match, 412 when a precondition does not hold.
    """
    own = f"{incoming.resource_type}.id"
    if match is not None:
        found = match.resource_id
        if incoming.resource_id not in (None, found):
            raise Refusal(400, "invalid", "The body carries another id than the match.", own)
        named = replace(incoming, resource_id=found)
        return update(session, named, found, if_match, if_none_match)
    check_if_match(None, if_match)
    if incoming.resource_id is None:
        return create(session, incoming, None, new_id)
    current = session.find(incoming.resource_type, incoming.resource_id)
    if current is not None and not current.deleted:
        raise Refusal(409, "conflict", "Nothing matches, but the body's id belongs to another resource.", own)
    return update(session, incoming, incoming.resource_id, None)


def patch(
    session: WriteSession, name: tuple[str, str], change: Patch, if_match: str | None, settings: FhirStoreSettings
) -> Written:
    """Change parts of a resource; a patch that changes nothing keeps the version.

    What the client says about meta.versionId and meta.lastUpdated is passed over, as in an update.

    Args:
        session: The write transaction.
        name: Type and id of the resource.
        change: What to change.
        if_match: The version the client wants to change; None for whichever is held.
        settings: How closely the outcome is checked.

    Raises:
        Refusal: 404 or 410 when there is none, 412 when `if_match` names another version, 403 when it tests what the
            caller may not read, 422 when the patch cannot be done, makes another resource of it or an invalid one.
    """
    resource_type, resource_id = name
    current = session.find(resource_type, resource_id)
    check_if_match(current, if_match)
    if current is None:
        raise _not_found(resource_type, resource_id)
    if current.deleted:
        raise _gone(current)
    is_shown = session.access.sees(current, "rs")
    if change.tests and not is_shown:
        raise forbidden("To test values in a patch needs the right to read; leave the tests out.")
    document = patch_text(current.text(), resource_type, change)
    for member, held in (("resourceType", resource_type), ("id", resource_id)):
        if document.tree.get(member) != held:
            text = f"A patch leaves {member} as it is; create another resource instead."
            raise Refusal(422, "business-rule", text, f"{resource_type}.{member}")
    incoming = check_incoming(document.tree, document.text, resource_type, settings)
    return replace(update(session, incoming, resource_id, None), is_shown=is_shown)


def delete(session: WriteSession, resource_type: str, resource_id: str, if_match: str | None) -> Written:
    """Mark a resource as gone; deleting nothing is a success.

    Raises:
        Refusal: 412 when `if_match` names another version.
    """
    current = session.find(resource_type, resource_id)
    check_if_match(current, if_match)
    if current is None or current.deleted:
        return Written(204, None)
    return Written(204, session.delete(current))


def delete_matches(session: WriteSession, matches: list[Stored], if_match: str | None) -> list[Written]:
    """Delete what a condition found: all of it or, when one of them may not be deleted, nothing.

    Raises:
        Refusal: 412 when `if_match` names another version than one that matched.
    """
    for match in matches:
        check_if_match(match, if_match)
        session.access.check_delete(match)
    if not matches:
        check_if_match(None, if_match)
    return [Written(204, session.delete(match)) for match in matches]


def find_one(
    session: WriteSession, resource_type: str, condition: Pairs, settings: FhirStoreSettings, base_url: str
) -> Stored | None:
    """The one resource that matches a condition, None when there is none.

    Raises:
        Refusal: 412 when several match or there are no criteria, 400 when one is unknown.
    """
    return next(iter(find_some(session, resource_type, condition, settings, base_url)), None)


def find_some(
    session: WriteSession,
    resource_type: str,
    condition: Pairs,
    settings: FhirStoreSettings,
    base_url: str,
    limit: int = 1,
) -> list[Stored]:
    """What matches a condition, at most `limit` resources.

    Raises:
        Refusal: 412 when more match or there are no criteria, 400 when one is unknown.
    """
    matches = find_matches(session, resource_type, condition, settings, limit=limit + 1, base_url=base_url)
    if len(matches) > limit:
        text = f"More than {limit} match the condition; make it narrower." if limit > 1 else _SEVERAL
        raise Refusal(412, "multiple-matches", text)
    return matches


def nothing_to_patch() -> Refusal:
    """404 for a conditional patch that finds nothing."""
    return Refusal(404, "not-found", "Nothing matches the criteria, so there is nothing to patch.")


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
    return revealed(session, found)


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
    return revealed(session, found)


def _insert(session: WriteSession, incoming: Incoming, resource_id: str, *, posted: bool) -> Stored:
    if not is_resource_id(resource_id):
        raise Refusal(
            400, "value", "An id is 1 to 64 characters of A-Z a-z 0-9 - and .", f"{incoming.resource_type}.id"
        )
    return session.insert(
        incoming.resource_type, resource_id, incoming.tree, incoming.parts, incoming.rows, posted=posted
    )


def _not_found(resource_type: str, resource_id: str) -> Refusal:
    return Refusal(404, "not-found", f"There is no {resource_type}/{resource_id} (in that version).")


def _gone(stored: Stored) -> Refusal:
    text = f"{stored.resource_type}/{stored.resource_id} was deleted."
    return Refusal(410, "deleted", text, headers={"etag": stored.etag})
