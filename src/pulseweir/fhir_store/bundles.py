"""Batch and transaction bundles run: many interactions in one request.

Entries run in the order DELETE, POST, PUT and PATCH, GET and are answered in the order sent. In a transaction all of
them happen or none; in a batch each stands alone. Source: http://hl7.org/fhir/R4/http.html#transaction.
"""

import base64
import binascii

import msgspec

from pulseweir.fhir_store.bundle_answers import answered, placed, refusal_of, refused
from pulseweir.fhir_store.bundle_entries import BundleRequest, Entry, condition_of
from pulseweir.fhir_store.bundle_links import Links, has_search
from pulseweir.fhir_store.calls import Reading
from pulseweir.fhir_store.control_parameters import refuse_modifiers
from pulseweir.fhir_store.interactions import (
    Incoming,
    Written,
    check_incoming,
    conditional_update,
    create,
    delete,
    delete_matches,
    find_some,
    nothing_to_patch,
    patch,
    update,
)
from pulseweir.fhir_store.json_text import Document, decode_object, instant_text
from pulseweir.fhir_store.operations import operation_methods
from pulseweir.fhir_store.outcomes import Json, Refusal, done_outcome
from pulseweir.fhir_store.patching import Patch, read_patch
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.reading import answer_reading
from pulseweir.fhir_store.references import check_references
from pulseweir.fhir_store.searching import find_matches
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_rights
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.validation import check_id, check_type, is_resource_id

_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 4, "HEAD": 4}
_SEARCHING = 3
"""Entries that refer to others by a search run once those others are stored."""
_CLASHES = {"find": {"delete"}, "change": {"change", "delete"}, "delete": {"find", "change", "delete"}}
"""What else a transaction may not do with the resource of an entry."""


class BundleRun:
    """One bundle inside the writer's transaction."""

    def __init__(self, session: WriteSession, request: BundleRequest, settings: FhirStoreSettings) -> None:
        self._session = session
        self._request = request
        self._settings = settings
        self._links = Links()
        self._matches: dict[int, list[Stored]] = {}
        self._shared: dict[int, int] = {}
        self._made: dict[int, Stored] = {}
        self._taken: list[tuple[Entry, Stored]] = []

    def run(self) -> bytes:
        """Do every entry; returns the answering Bundle.

        Raises:
            Refusal: Of a transaction's first failed entry; the caller's transaction must be rolled back.
        """
        entries = self._request.entries
        self._session.access.begins_bundle("transaction" if self._request.is_transaction else "batch")
        self._look_up(entries)
        if self._request.is_transaction:
            self._settle(entries)
        answers: list[bytes] = [b""] * len(entries)
        for entry in sorted(entries, key=self._turn):
            answers[entry.place] = self._together(entry) if self._request.is_transaction else self._alone(entry)
        if self._request.is_transaction:
            self._check_references()
        kind = b"transaction-response" if self._request.is_transaction else b"batch-response"
        return b'{"resourceType":"Bundle","type":"' + kind + b'","entry":[' + b",".join(answers) + b"]}"

    def _note(self, entry: Entry, status: int) -> None:
        """Tell the audit of an entry that wrote nothing."""
        self._session.access.did_part(entry.request.method, entry.path, entry.query, status)

    def _look_up(self, entries: list[Entry]) -> None:
        """Read what the entries name, all at once."""
        named: dict[str, list[str]] = {}
        for entry in entries:
            is_write = entry.request.method in {"PUT", "PATCH", "DELETE"}
            if is_write and len(entry.path) == 2 and is_resource_id(entry.path[1]):
                named.setdefault(entry.path[0], []).append(entry.path[1])
        for resource_type, names in named.items():
            self._session.look_up(resource_type, names)

    def _turn(self, entry: Entry) -> int:
        turn = _ORDER.get(entry.request.method, 0)
        if turn in {1, 2} and self._request.is_transaction and has_search(entry.text):
            return _SEARCHING
        return turn

    def _together(self, entry: Entry) -> bytes:
        """The answer to an entry of a transaction, which ends when one is refused."""
        try:
            return self._answer(entry)
        except Refusal as refusal:
            self._note(entry, refusal.status)
            raise placed(refusal, entry) from None

    def _alone(self, entry: Entry) -> bytes:
        """The answer to an entry of a batch; whatever it raises, it leaves nothing behind and stops no other.

        Raises:
            apsw.Error: SQLite gave the whole transaction up, as when the disk is full: nothing of it is stored.
        """
        noted = len(self._session.access.written), len(self._session.access.parts)
        try:
            if entry.request.method in {"GET", "HEAD"}:
                return self._answer(entry)
            with self._session.undoable():
                return self._done(entry)
        except Exception as error:  # noqa: BLE001 - a fault in one entry must not take the answers of all others
            if self._session.is_lost(error):
                raise
            refusal = refusal_of(error, entry)
            self._session.access.undo_parts(*noted)
            self._note(entry, refusal.status)
            return refused(refusal.located(f"Bundle.entry[{entry.place}]"))
        finally:
            self._taken.clear()

    def _done(self, entry: Entry) -> bytes:
        answer = self._answer(entry)
        self._check_references()
        return answer

    def _settle(self, entries: list[Entry]) -> None:
        """Decide every entry's target before anything is written, so that entries can refer to each other."""
        conditional_creates: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        changed: dict[str, set[str]] = {}
        names: set[str] = set()
        for entry in entries:
            if entry.request.method in {"GET", "HEAD"} or not entry.path or entry.path[-1].startswith("$"):
                continue
            try:
                targets = self._targets(entry, conditional_creates)
                self._refuse_repeated(entry, targets, changed, names)
            except Refusal as refusal:
                self._note(entry, refusal.status)
                raise placed(refusal, entry) from None
            if entry.full_url and entry.tree is not None and entry.request.method in {"POST", "PUT"}:
                self._links.add(entry.full_url, targets[0])

    def _targets(self, entry: Entry, creates: dict[tuple[str, tuple[tuple[str, str], ...]], int]) -> list[str]:
        """`Type/id` of what an entry is about; of a delete by criteria there may be several, or none."""
        method, resource_type = entry.request.method, check_type(entry.path[0])
        condition = condition_of(entry)
        if condition is None:
            is_named = method != "POST" and len(entry.path) > 1
            return [f"{resource_type}/{entry.path[1] if is_named else entry.assigned_id}"]
        matches = self._find(entry, resource_type, condition)
        self._matches[entry.place] = matches
        if matches or method in {"DELETE", "PATCH"}:
            return [f"{resource_type}/{match.resource_id}" for match in matches]
        if method == "PUT" and entry.tree and is_resource_id(entry.tree.get("id")):
            return [f"{resource_type}/{entry.tree['id']}"]
        if method == "POST":
            first = creates.setdefault((resource_type, tuple(sorted(condition))), entry.place)
            if first != entry.place:
                self._shared[entry.place] = first
                return [f"{resource_type}/{self._request.entries[first].assigned_id}"]
        return [f"{resource_type}/{entry.assigned_id}"]

    def _refuse_repeated(self, entry: Entry, targets: list[str], changed: dict[str, set[str]], names: set[str]) -> None:
        where = f"Bundle.entry[{entry.place}]"
        if entry.full_url and entry.full_url in names:
            raise Refusal(400, "duplicate", "Two entries have the same fullUrl.", f"{where}.fullUrl")
        names.add(entry.full_url or "")
        # Conditional creates may find the same resource, unless another entry deletes it.
        kind = "find" if entry.request.method == "POST" else "delete" if entry.request.method == "DELETE" else "change"
        for target in targets:
            kinds = changed.setdefault(target, set())
            if kinds & _CLASHES[kind]:
                raise Refusal(400, "duplicate", "A transaction may change a resource once only.", where)
            kinds.add(kind)

    def _find(self, entry: Entry, resource_type: str, condition: Pairs) -> list[Stored]:
        if entry.place in self._matches:
            return self._matches[entry.place]
        limit = self._settings.conditional_delete_resources if entry.request.method == "DELETE" else 1
        return find_some(self._session, resource_type, condition, self._settings, self._request.base_url, limit)

    def _answer(self, entry: Entry) -> bytes:
        if entry.fault is not None:
            raise entry.fault
        method = "GET" if entry.request.method == "HEAD" else entry.request.method
        is_conditional = entry.request.if_none_exist is not None
        caller = self._session.access.caller
        check_rights(caller, method, entry.path, entry.query, is_conditional=is_conditional)
        check_search_cost(entry.query, self._settings.limits)
        refuse_modifiers(entry.query, entry.path[-1] if entry.path else "")
        if method == "GET" or (entry.path and entry.path[-1].startswith("$")):
            return self._read(entry)
        url = f"Bundle.entry[{entry.place}].request.url"
        if not entry.path:
            raise Refusal(400, "value", "The entry's request.url is empty.", url)
        resource_type = check_type(entry.path[0])
        if len(entry.path) > 2 or (method == "POST" and len(entry.path) != 1):
            raise Refusal(400, "value", f"{method} is not possible at the entry's request.url.", url)
        if len(entry.path) == 2:
            check_id(entry.path[1])
        if method == "DELETE":
            return self._delete(entry, resource_type)
        if method == "PATCH":
            return self._written(entry, self._patch(entry, resource_type))
        incoming = self._incoming(entry, resource_type)
        return self._written(entry, self._post(entry, incoming) if method == "POST" else self._put(entry, incoming))

    def _incoming(self, entry: Entry, resource_type: str) -> Incoming:
        tree, text = self._resource(entry)
        if self._request.is_transaction and self._links.may_concern(text):
            linked = self._links.replace(text, entry.full_url, self._found)
            if linked != text:
                return check_incoming(decode_object(linked), linked, resource_type, self._settings)
        if isinstance(entry.checked, Exception):
            raise entry.checked
        return entry.checked or check_incoming(tree, text, resource_type, self._settings)

    def _resource(self, entry: Entry) -> tuple[Json, bytes]:
        if entry.tree is None:
            path = f"Bundle.entry[{entry.place}].resource"
            raise Refusal(400, "required", "The entry needs a resource.", path)
        return entry.tree, entry.text

    def _found(self, resource_type: str, criteria: Pairs) -> str:
        """`Type/id` of the one resource that a reference searches."""
        matches = find_matches(
            self._session, check_type(resource_type), criteria, self._settings, base_url=self._request.base_url
        )
        if len(matches) != 1:
            text = f"A conditional reference to {resource_type} matches {'several' if matches else 'no'} resources."
            raise Refusal(412, "multiple-matches" if matches else "not-found", text)
        return f"{resource_type}/{matches[0].resource_id}"

    def _check_references(self) -> None:
        """Ask whether references lead anywhere only once all entries are stored."""
        for entry, stored in self._taken:
            try:
                check_references(self._session, stored.tree())
            except Refusal as refusal:
                raise placed(refusal, entry) from None

    def _post(self, entry: Entry, incoming: Incoming) -> Written:
        condition = condition_of(entry)
        if condition is None:
            return create(self._session, incoming, None, entry.assigned_id)
        first = self._shared.get(entry.place)
        if first is not None:
            return Written(200, self._made[first])
        match = next(iter(self._find(entry, incoming.resource_type, condition)), None)
        written = create(self._session, incoming, match, entry.assigned_id)
        if written.stored is not None:
            self._made[entry.place] = written.stored
        return written

    def _put(self, entry: Entry, incoming: Incoming) -> Written:
        if_match, if_none_match = entry.request.if_match, entry.request.if_none_match
        if len(entry.path) == 2:
            return update(self._session, incoming, entry.path[1], if_match, if_none_match)
        match = next(iter(self._find(entry, incoming.resource_type, entry.query)), None)
        return conditional_update(
            self._session,
            incoming,
            match,
            new_id=entry.assigned_id,
            if_match=if_match,
            if_none_match=if_none_match,
        )

    def _patch(self, entry: Entry, resource_type: str) -> Written:
        change = self._change(entry)
        if len(entry.path) == 2:
            resource_id = entry.path[1]
        else:
            match = next(iter(self._find(entry, resource_type, entry.query)), None)
            if match is None:
                raise nothing_to_patch()
            resource_id = match.resource_id
        return patch(self._session, (resource_type, resource_id), change, entry.request.if_match, self._settings)

    def _change(self, entry: Entry) -> Patch:
        """The patch inside the Binary of an entry."""
        tree, _ = self._resource(entry)
        path = f"Bundle.entry[{entry.place}].resource"
        if tree.get("resourceType") != "Binary":
            raise Refusal(400, "structure", "A patch in a bundle is a Binary with contentType and data.", path)
        try:
            body = base64.b64decode(str(tree.get("data", "")), validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(400, "structure", "The data of the Binary is not base64.", f"{path}.data") from None
        if self._request.is_transaction and self._links.may_concern(body):
            body = self._links.replace(msgspec.json.format(body, indent=-1), entry.full_url, self._found)
        return read_patch(str(tree.get("contentType", "")), body, self._settings)

    def _delete(self, entry: Entry, resource_type: str) -> bytes:
        if len(entry.path) == 2:
            written = [delete(self._session, resource_type, entry.path[1], entry.request.if_match)]
        else:
            matches = self._find(entry, resource_type, entry.query)
            written = delete_matches(self._session, matches, entry.request.if_match)
        gone = [each.stored for each in written if each.stored is not None]
        response: Json = {"status": "204"}
        if len(gone) == 1:
            response |= {"etag": gone[0].etag, "lastModified": instant_text(gone[0].updated)}
        return msgspec.json.encode({"response": response})

    def _read(self, entry: Entry) -> bytes:
        request = entry.request
        if entry.path and entry.path[-1].startswith("$"):
            _check_method(entry)
        reading = Reading(
            entry.path,
            entry.query,
            self._request.base_url,
            self._session.now_microseconds,
            if_none_match=request.if_none_match,
            if_modified_since=request.if_modified_since,
            document=None if entry.tree is None else Document(entry.tree, entry.text),
            security=self._request.security,
        )
        answer = answer_reading(self._session, reading, self._settings)
        self._note(entry, answer.status)
        return answered(entry, answer, self._request.base_url)

    def _written(self, entry: Entry, written: Written) -> bytes:
        stored = written.stored
        if stored is None:
            return b'{"response":{"status":"%d"}}' % written.status
        if self._settings.validation == "strict" and not (entry.request.method == "POST" and written.status == 200):
            self._taken.append((entry, stored))
        base = f"{self._request.base_url}/{stored.resource_type}/{stored.resource_id}"
        response = (
            f'"response":{{"status":"{written.status}","location":"{base}/_history/{stored.version}",'
            f'"etag":"W/\\"{stored.version}\\"","lastModified":"{instant_text(stored.updated)}"'
        ).encode()
        match self._request.wanted_return if written.is_shown else "minimal":
            case "representation":
                return b'{"fullUrl":"' + base.encode() + b'","resource":' + stored.text() + b"," + response + b"}}"
            case "OperationOutcome":
                outcome = msgspec.json.encode(done_outcome("Stored."))
                return b"{" + response + b',"outcome":' + outcome + b"}}"
        return b"{" + response + b"}}"


def _check_method(entry: Entry) -> None:
    """Nothing, if an operation may be asked so; HEAD counts as GET."""
    method = "GET" if entry.request.method == "HEAD" else entry.request.method
    allowed = operation_methods(entry.path)
    if method not in allowed:
        text = f"{method} is not supported here; {' or '.join(allowed)} is."
        raise Refusal(405, "not-supported", text, f"Bundle.entry[{entry.place}].request.method")
