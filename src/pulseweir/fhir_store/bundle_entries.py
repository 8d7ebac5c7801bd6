"""Batch and transaction bundles read: their entries, ready to run. Pure but for the ids that new resources get.

Source: http://hl7.org/fhir/R4/http.html#transaction.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec

from pulseweir.clock import real_microseconds
from pulseweir.fhir_store.calls import Return
from pulseweir.fhir_store.json_text import Document
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.preconditions import none_exist_criteria
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.resource_ids import new_resource_id
from pulseweir.fhir_store.settings import FhirStoreSettings

if TYPE_CHECKING:
    from pulseweir.fhir_store.interactions import Incoming

METHODS = frozenset({"DELETE", "POST", "PUT", "PATCH", "GET", "HEAD"})


Unread = msgspec.Raw | msgspec.UnsetType
"""A member that R4 has and that changes nothing here. Others are refused: `ifNoneExists` must not be passed over."""


def _beside(name: str) -> Any:
    """The place of what R4 puts beside a primitive."""
    return msgspec.field(default=msgspec.UNSET, name=f"_{name}")


class ElementPart(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What every part of a Bundle may have."""

    id: Unread = msgspec.UNSET
    extension: Unread = msgspec.UNSET
    modifier_extension: Unread = msgspec.UNSET


class RequestPart(ElementPart, kw_only=True):
    """``Bundle.entry.request``."""

    method: str
    url: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_none_exist: str | None = None
    method_beside: Unread = _beside("method")
    url_beside: Unread = _beside("url")
    if_match_beside: Unread = _beside("ifMatch")
    if_none_match_beside: Unread = _beside("ifNoneMatch")
    if_modified_since_beside: Unread = _beside("ifModifiedSince")
    if_none_exist_beside: Unread = _beside("ifNoneExist")


class EntryPart(ElementPart):
    """``Bundle.entry``."""

    request: RequestPart | None = None
    full_url: str | None = None
    resource: Unread = msgspec.UNSET
    link: Unread = msgspec.UNSET
    search: Unread = msgspec.UNSET
    response: Unread = msgspec.UNSET
    full_url_beside: Unread = _beside("fullUrl")


class BundlePart(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The Bundle around the entries."""

    type: str
    entry: list[msgspec.Raw] = []
    resource_type: Unread = msgspec.UNSET
    id: Unread = msgspec.UNSET
    meta: Unread = msgspec.UNSET
    implicit_rules: Unread = msgspec.UNSET
    language: Unread = msgspec.UNSET
    identifier: Unread = msgspec.UNSET
    timestamp: Unread = msgspec.UNSET
    total: Unread = msgspec.UNSET
    link: Unread = msgspec.UNSET
    signature: Unread = msgspec.UNSET
    id_beside: Unread = _beside("id")
    implicit_rules_beside: Unread = _beside("implicitRules")
    language_beside: Unread = _beside("language")
    type_beside: Unread = _beside("type")
    timestamp_beside: Unread = _beside("timestamp")
    total_beside: Unread = _beside("total")


_ENTRY = msgspec.json.Decoder(EntryPart)


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
        checked: The resource ready to store, or why it is refused; None while nobody has looked.
        fault: Why the entry cannot be run at all; None when it can.
    """

    place: int
    request: RequestPart
    path: list[str]
    query: Pairs
    full_url: str | None
    tree: Json | None
    text: bytes
    assigned_id: str
    checked: "Incoming | Exception | None" = None
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """A batch or transaction, read.

    Attributes:
        is_transaction: Whether all entries stand or fall together.
        entries: In the order sent.
        base_url: Where this server's resources are, for links.
        wanted_return: What answers carry besides status and place; None when the client did not say.
        security: What the CapabilityStatement says about who may come in.
    """

    is_transaction: bool
    entries: list[Entry]
    base_url: str
    wanted_return: Return | None
    security: Json = field(default_factory=dict)


def read_bundle(
    document: Document,
    *,
    base_url: str,
    wanted_return: Return | None,
    settings: FhirStoreSettings,
    security: Json | None = None,
) -> BundleRequest:
    """Read the Bundle of a request; an entry of a batch that cannot be read is refused alone, when its turn comes.

    Raises:
        Refusal: 400 when it is no batch or transaction, or an entry of a transaction is none; 413 when it has too
            many entries.
    """
    if document.tree.get("resourceType") != "Bundle":
        raise Refusal(400, "structure", "Only a Bundle may be posted to the base URL.", "resourceType")
    try:
        bundle = msgspec.json.decode(document.text, type=BundlePart)
    except msgspec.ValidationError as error:
        raise Refusal(400, "structure", f"The Bundle is malformed: {str(error)[:200]}.", "Bundle") from None
    if bundle.type not in {"batch", "transaction"}:
        raise Refusal(400, "value", "Bundle.type must be batch or transaction.", "Bundle.type")
    if len(bundle.entry) > settings.maximum_bundle_entries:
        text = f"A Bundle may have {settings.maximum_bundle_entries} entries at most; send several."
        raise Refusal(413, "too-long", text, "Bundle.entry")
    trees = document.tree.get("entry", [])
    is_transaction = bundle.type == "transaction"
    read = _entry if is_transaction else _entry_or_fault
    entries = [read(place, text, trees[place], base_url) for place, text in enumerate(bundle.entry)]
    return BundleRequest(is_transaction, entries, base_url, wanted_return, security or {})


def _entry_or_fault(place: int, text: msgspec.Raw, tree: Any, base_url: str) -> Entry:
    """An entry of a batch; what is wrong with it concerns it alone."""
    try:
        return _entry(place, text, tree, base_url)
    except Exception as error:  # noqa: BLE001 - told in its own answer, as is whatever it raises later
        request = tree.get("request") if isinstance(tree, dict) else None
        said = request if isinstance(request, dict) else {}
        method, url = (said[name] if isinstance(said.get(name), str) else "" for name in ("method", "url"))
        path = [unquote(segment) for segment in url.partition("?")[0].split("/") if segment]
        named = RequestPart(method=method if method in METHODS else "")
        return Entry(place, named, path, [], None, None, b"", "", fault=error)


def _entry(place: int, text: msgspec.Raw, members: Any, base_url: str) -> Entry:
    where = f"Bundle.entry[{place}]"
    try:
        part = _ENTRY.decode(text)
    except msgspec.ValidationError as error:
        said = f"{where} is malformed: {str(error)[:200]}."
        raise Refusal(400, "structure", said, where) from None
    tree, request = members.get("resource"), part.request
    if request is None or request.method not in METHODS:
        said = f"{where}.request.method must be GET, HEAD, POST, PUT, PATCH or DELETE."
        raise Refusal(400, "value", said, f"{where}.request")
    if tree is not None and not isinstance(tree, dict):
        raise Refusal(400, "structure", f"{where}.resource must be an object.", f"{where}.resource")
    url = _type_to_create(request, tree) if request.url is None else request.url
    if url is None:
        raise Refusal(400, "required", f"{where}.request.url is missing.", f"{where}.request.url")
    path, _, query = url.removeprefix(base_url).partition("?")
    return Entry(
        place,
        request,
        [unquote(segment) for segment in path.split("/") if segment],
        parse_qsl(query, keep_blank_values=True) if query else [],
        part.full_url,
        tree,
        b"" if part.resource is msgspec.UNSET else bytes(part.resource),
        "" if request.method == "PUT" and not query else new_resource_id(real_microseconds()),
    )


def _type_to_create(request: RequestPart, tree: Json | None) -> str | None:
    """The URL of a create that names none, as HAPI's client sends it: it can only mean the type of its resource."""
    resource_type = tree.get("resourceType") if tree and request.method == "POST" else None
    return resource_type if isinstance(resource_type, str) else None


def condition_of(entry: Entry) -> Pairs | None:
    """The criteria of a conditional interaction that changes something, None where the entry has none."""
    if entry.request.method == "POST" and entry.request.if_none_exist is not None:
        return none_exist_criteria(entry.request.if_none_exist, entry.path[0] if entry.path else "")
    if entry.request.method in {"POST", "PUT", "PATCH", "DELETE"} and entry.query and len(entry.path) == 1:
        return entry.query
    return None
