"""Batch and transaction bundles: many interactions in one request.

Entries run in the order DELETE, POST, PUT, GET and are answered in the order sent. In a transaction all of them
happen or none; in a batch each stands alone. Every check of an entry comes before its first write, so a refused
batch entry leaves nothing behind. Source: http://hl7.org/fhir/R4/http.html#transaction.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from pulseweir.fhir_store.interactions import (
    Incoming,
    Written,
    check_incoming,
    conditional_update,
    create,
    delete,
    read,
    read_version,
    update,
)
from pulseweir.fhir_store.json_text import Document, decode_object, instant_text
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal, operation_outcome
from pulseweir.fhir_store.query import Pairs, read_search
from pulseweir.fhir_store.references import check_references
from pulseweir.fhir_store.searching import find_matches, run_search, searchset
from pulseweir.fhir_store.security.limits import check_search_cost
from pulseweir.fhir_store.security.rights import check_rights
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.validation import check_type, is_resource_id

_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}
_LINK = re.compile(
    rb'"(reference|url|uri|valueUri|valueUrl|valueUuid|valueCanonical|instantiatesUri)":"(urn:(?:uuid|oid):[^"\\]+)"'
)
_CONDITIONAL_REFERENCE = re.compile(rb'"reference":"([A-Z][A-Za-z]+)\?((?:[^"\\]|\\.)+)"')


class RequestPart(msgspec.Struct, rename="camel"):
    """``Bundle.entry.request``."""

    method: str
    url: str
    if_match: str | None = None
    if_none_match: str | None = None
    if_none_exist: str | None = None


class EntryPart(msgspec.Struct, rename="camel"):
    """``Bundle.entry``."""

    request: RequestPart | None = None
    full_url: str | None = None
    resource: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class BundlePart(msgspec.Struct, rename="camel"):
    """The Bundle around the entries."""

    type: str
    entry: list[EntryPart] = []


@dataclass(slots=True)
class Entry:
    """One entry, read and ready to run.

    Attributes:
        place: Its position in the bundle.
        request: What is asked.
        path: URL segments without base and query.
        query: Query parameters.
        full_url: What other entries call its resource.
        tree: The decoded resource, None when the entry has none.
        text: The resource as compact JSON text.
        assigned_id: Id that a POST without condition gets.
    """

    place: int
    request: RequestPart
    path: list[str]
    query: Pairs
    full_url: str | None
    tree: Json | None
    text: bytes
    assigned_id: str


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """A batch or transaction, read.

    Attributes:
        is_transaction: Whether all entries stand or fall together.
        entries: In the order sent.
        base_url: Where this server's resources are, for links.
        representation: Whether answers carry the stored resources.
    """

    is_transaction: bool
    entries: list[Entry]
    base_url: str
    representation: bool


def read_bundle(
    document: Document, *, base_url: str, representation: bool, settings: FhirStoreSettings
) -> BundleRequest:
    """Read the Bundle of a request.

    Raises:
        Refusal: 400 when it is no batch or transaction, 413 when it has too many entries.
    """
    if document.tree.get("resourceType") != "Bundle":
        raise Refusal(400, "structure", "Only a Bundle may be posted to the base URL.", "resourceType")
    try:
        bundle = msgspec.json.decode(document.text, type=BundlePart)
    except msgspec.ValidationError as error:
        raise Refusal(400, "structure", f"The Bundle is malformed: {error}.", "Bundle.entry") from None
    if bundle.type not in {"batch", "transaction"}:
        raise Refusal(400, "value", "Bundle.type must be batch or transaction.", "Bundle.type")
    if len(bundle.entry) > settings.maximum_bundle_entries:
        text = f"A Bundle may have {settings.maximum_bundle_entries} entries at most; send several."
        raise Refusal(413, "too-long", text, "Bundle.entry")
    trees = document.tree.get("entry", [])
    entries = [_entry(place, part, trees[place].get("resource"), base_url) for place, part in enumerate(bundle.entry)]
    return BundleRequest(bundle.type == "transaction", entries, base_url, representation)


def _entry(place: int, part: EntryPart, tree: Any, base_url: str) -> Entry:
    where = f"Bundle.entry[{place}]"
    request = part.request
    if request is None or request.method not in _ORDER:
        text = f"{where}.request.method must be GET, POST, PUT or DELETE."
        raise Refusal(400, "value", text, f"{where}.request")
    if tree is not None and not isinstance(tree, dict):
        raise Refusal(400, "structure", f"{where}.resource must be an object.", f"{where}.resource")
    path, _, query = request.url.removeprefix(base_url).partition("?")
    return Entry(
        place,
        request,
        [unquote(segment) for segment in path.split("/") if segment],
        parse_qsl(query, keep_blank_values=True) if query else [],
        part.full_url,
        tree,
        b"" if part.resource is msgspec.UNSET else bytes(part.resource),
        "" if request.method == "PUT" and not query else str(uuid.uuid4()),
    )


class BundleRun:
    """One bundle inside the writer's transaction."""

    def __init__(self, session: WriteSession, request: BundleRequest, settings: FhirStoreSettings) -> None:
        self._session = session
        self._request = request
        self._settings = settings
        self._ids: dict[bytes, bytes] = {}
        self._found: dict[int, Stored] = {}
        self._taken: list[tuple[Entry, Json]] = []

    def run(self) -> bytes:
        """Do every entry; returns the answering Bundle.

        Raises:
            Refusal: Of a transaction's first failed entry; the caller's transaction must be rolled back.
        """
        entries = self._request.entries
        if self._request.is_transaction:
            self._refuse_repeated(entries)
            self._resolve_ids(entries)
        answers: list[bytes] = [b""] * len(entries)
        for entry in sorted(entries, key=lambda entry: _ORDER[entry.request.method]):
            try:
                answers[entry.place] = self._answer(entry)
            except Refusal as refusal:
                if self._request.is_transaction:
                    raise _placed(refusal, entry) from None
                answers[entry.place] = _refused(refusal)
        if self._request.is_transaction:
            self._check_references()
        kind = b"transaction-response" if self._request.is_transaction else b"batch-response"
        return b'{"resourceType":"Bundle","type":"' + kind + b'","entry":[' + b",".join(answers) + b"]}"

    def _refuse_repeated(self, entries: list[Entry]) -> None:
        seen: set[tuple[str, ...]] = set()
        for entry in entries:
            target = tuple(entry.path)
            if entry.request.method in {"PUT", "DELETE"} and len(target) == 2:
                if target in seen:
                    text = "A transaction may change a resource once only."
                    raise Refusal(400, "duplicate", text, f"Bundle.entry[{entry.place}]")
                seen.add(target)

    def _resolve_ids(self, entries: list[Entry]) -> None:
        """Decide every entry's id before anything is written, so that entries can refer to each other."""
        for entry in entries:
            if not entry.full_url or not entry.path or entry.tree is None:
                continue
            try:
                target = self._target(entry)
            except Refusal as refusal:
                raise _placed(refusal, entry) from None
            if entry.full_url.startswith("urn:"):
                self._ids[entry.full_url.encode()] = target.encode()

    def _target(self, entry: Entry) -> str:
        resource_type = check_type(entry.path[0])
        condition = _condition(entry)
        if condition is not None:
            matches = find_matches(self._session, resource_type, condition, self._settings)
            if len(matches) == 1:
                self._found[entry.place] = matches[0]
                return f"{resource_type}/{matches[0].resource_id}"
            if entry.request.method == "PUT" and entry.tree and is_resource_id(entry.tree.get("id")):
                return f"{resource_type}/{entry.tree['id']}"
        if entry.request.method == "PUT" and len(entry.path) > 1:
            return f"{resource_type}/{entry.path[1]}"
        return f"{resource_type}/{entry.assigned_id}"

    def _answer(self, entry: Entry) -> bytes:
        method = "GET" if entry.request.method == "HEAD" else entry.request.method
        is_conditional = entry.request.if_none_exist is not None
        caller = self._session.access.caller
        check_rights(caller, method, entry.path, entry.query, is_conditional=is_conditional)
        check_search_cost(entry.query, self._settings.limits)
        if method == "GET":
            return self._get(entry)
        if not entry.path:
            raise Refusal(400, "value", "The entry's request.url is empty.", f"Bundle.entry[{entry.place}].request.url")
        resource_type = check_type(entry.path[0])
        if method == "DELETE":
            if len(entry.path) != 2:
                raise Refusal(405, "not-supported", "Only DELETE Type/id is supported.")
            written = delete(self._session, resource_type, entry.path[1], entry.request.if_match)
        else:
            incoming = self._incoming(entry, resource_type)
            written = self._post(entry, incoming) if method == "POST" else self._put(entry, incoming)
        return self._written(written)

    def _incoming(self, entry: Entry, resource_type: str) -> Incoming:
        if entry.tree is None:
            path = f"Bundle.entry[{entry.place}].resource"
            raise Refusal(400, "required", "The entry needs a resource.", path)
        tree, text = entry.tree, entry.text
        if self._request.is_transaction and (b'"urn:' in text or b"?" in text):
            linked = self._linked(text)
            if linked != text:
                tree, text = decode_object(linked), linked
        incoming = check_incoming(tree, text, resource_type, self._settings)
        if self._settings.validation == "strict":
            if self._request.is_transaction:
                self._taken.append((entry, tree))
            else:
                check_references(self._session, tree)
        return incoming

    def _check_references(self) -> None:
        """Ask whether references lead anywhere only once all entries of the transaction are stored."""
        for entry, tree in self._taken:
            try:
                check_references(self._session, tree)
            except Refusal as refusal:
                raise _placed(refusal, entry) from None

    def _linked(self, text: bytes) -> bytes:
        """The text with other entries' temporary names and conditional references replaced by ids."""

        def by_name(match: re.Match[bytes]) -> bytes:
            found = self._ids.get(match[2])
            return match[0] if found is None else b'"' + match[1] + b'":"' + found + b'"'

        def by_search(match: re.Match[bytes]) -> bytes:
            pairs = parse_qsl(str(msgspec.json.decode(b'"' + match[2] + b'"')))
            resource_type = check_type(match[1].decode())
            matches = find_matches(self._session, resource_type, pairs, self._settings)
            if len(matches) != 1:
                text = f"A conditional reference to {resource_type} matches {'several' if matches else 'no'} resources."
                raise Refusal(412, "multiple-matches" if matches else "not-found", text)
            return f'"reference":"{resource_type}/{matches[0].resource_id}"'.encode()

        return _CONDITIONAL_REFERENCE.sub(by_search, _LINK.sub(by_name, text))

    def _post(self, entry: Entry, incoming: Incoming) -> Written:
        condition = _condition(entry)
        if entry.place in self._found:
            return Written(200, self._found[entry.place])
        if condition is None and self._request.is_transaction:
            named = Incoming(incoming.resource_type, entry.assigned_id, incoming.tree, incoming.text)
            return update(self._session, named, entry.assigned_id, None)
        if condition is not None and entry.full_url and self._request.is_transaction:
            # Others may refer to it, so its id is settled: create it under exactly that one.
            if len(find_matches(self._session, incoming.resource_type, condition, self._settings)) > 1:
                return create(self._session, incoming, condition, self._settings)
            named = Incoming(incoming.resource_type, entry.assigned_id, incoming.tree, incoming.text)
            return update(self._session, named, entry.assigned_id, None)
        return create(self._session, incoming, condition, self._settings)

    def _put(self, entry: Entry, incoming: Incoming) -> Written:
        if len(entry.path) == 2:
            conditions = entry.request.if_match, entry.request.if_none_match
            return update(self._session, incoming, entry.path[1], *conditions)
        if len(entry.path) == 1 and entry.query:
            return conditional_update(self._session, incoming, entry.query, entry.request.if_match, self._settings)
        raise Refusal(400, "value", "PUT needs Type/id or Type?criteria.", f"Bundle.entry[{entry.place}].request.url")

    def _get(self, entry: Entry) -> bytes:
        if not entry.path:
            raise Refusal(501, "not-supported", "Searching all types is not supported.")
        resource_type = check_type(entry.path[0])
        if len(entry.path) == 1:
            search = read_search(resource_type, entry.query, strict=False, settings=self._settings)
            page = searchset(run_search(self._session, search), search, self._request.base_url)
            return b'{"response":{"status":"200"},"resource":' + page + b"}"
        if len(entry.path) == 2:
            return self._written(Written(200, read(self._session, resource_type, entry.path[1])), representation=True)
        if len(entry.path) == 4 and entry.path[2] == "_history":
            found = read_version(self._session, resource_type, entry.path[1], entry.path[3])
            return self._written(Written(200, found), representation=True)
        raise Refusal(404, "not-supported", "The entry's request.url names nothing this server has.")

    def _written(self, written: Written, *, representation: bool = False) -> bytes:
        stored = written.stored
        if stored is None:
            return b'{"response":{"status":"%d"}}' % written.status
        base = f"{self._request.base_url}/{stored.resource_type}/{stored.resource_id}"
        response = (
            f'"response":{{"status":"{written.status}","location":"{base}/_history/{stored.version}",'
            f'"etag":"W/\\"{stored.version}\\"","lastModified":"{instant_text(stored.updated)}"}}}}'
        ).encode()
        if not stored.deleted and (representation or self._request.representation):
            return b'{"fullUrl":"' + base.encode() + b'","resource":' + stored.text() + b"," + response
        return b"{" + response


def _condition(entry: Entry) -> Pairs | None:
    """The criteria of a conditional create or update, None where the entry has none."""
    if entry.request.method == "POST" and entry.request.if_none_exist is not None:
        return parse_qsl(entry.request.if_none_exist.partition("?")[2] or entry.request.if_none_exist)
    if entry.request.method in {"POST", "PUT"} and entry.query and len(entry.path) == 1:
        return entry.query
    return None


def _placed(refusal: Refusal, entry: Entry) -> Refusal:
    """The refusal with the place of its entry, for a transaction that fails as a whole."""
    where = f"Bundle.entry[{entry.place}]"
    issues = []
    for issue in refusal.issues:
        within = f"{where}.resource.{issue.expression.partition('.')[2]}" if issue.expression else where
        path = issue.expression if issue.expression and issue.expression.startswith("Bundle.") else within
        issues.append(Issue(issue.code, f"{where}: {issue.text}", path, issue.severity))
    return Refusal(refusal.status, issues[0].code, issues[0].text, issues=issues)


def _refused(refusal: Refusal) -> bytes:
    outcome = msgspec.json.encode(operation_outcome(refusal.issues))
    return b'{"response":{"status":"%d","outcome":' % refusal.status + outcome + b"}}"
