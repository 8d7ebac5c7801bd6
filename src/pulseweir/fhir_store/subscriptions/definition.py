"""A Subscription resource read into what is watched and where it is told. Pure.

Source: HL7 FHIR R4 Subscription, http://hl7.org/fhir/R4/subscription.html, and Subscriptions R5 Backport 1.1.0,
http://hl7.org/fhir/uv/subscriptions-backport, for Subscriptions whose criteria are the canonical URL of a topic.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.query import Criterion, SearchRequest, read_condition
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.subscriptions.topics import TOPICS, watched_type

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
SUBSCRIPTION_SERVER = (
    "http://hl7.org/fhir/uv/subscriptions-backport/CapabilityStatement/backport-subscription-server-r4"
)
"""What the backport asks of a server of R4."""
Content = Literal["empty", "id-only", "full-resource"]
_CONTENTS: tuple[Content, ...] = ("empty", "id-only", "full-resource")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x20-\x7e\t]*)")
_OWN_HEADERS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"})
_MOST_CRITERIA = 20


@dataclass(frozen=True, slots=True)
class Definition:
    """What one Subscription asks.

    Attributes:
        resource_type: Type whose resources are watched.
        filters: Query pairs that a resource must meet.
        topic: Canonical URL of its topic; "" for one with R4 criteria.
        endpoint: Where notifications go.
        headers: Sent along with each; they may hold secrets.
        content: How much of a resource a notification shows.
        heartbeat_seconds: Longest silence on its channel; None for any.
        timeout_seconds: Longest wait for an answer; None for the server's own.
        most_events: Most events of one notification; None for the server's own limit.
        ends: Instant from which it is off, microseconds; None for never.
    """

    resource_type: str
    filters: tuple[tuple[str, str], ...]
    topic: str
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    content: Content
    heartbeat_seconds: int | None = None
    timeout_seconds: int | None = None
    most_events: int | None = None
    ends: int | None = None

    def search(self, count: int, base_url: str = "") -> SearchRequest:
        """The search whose matches concern it."""
        request = SearchRequest(self.resource_type, base_url=base_url, count=count)
        request.criteria.extend(_condition(self.resource_type, name, text) for name, text in self.filters)
        return request


def check_subscription_resource(tree: Json, settings: FhirStoreSettings) -> None:
    """Nothing, if this server can do what a Subscription on its way into the store asks.

    Raises:
        Refusal: 422 when it cannot; one that is `off` is not looked at.
    """
    if tree.get("resourceType") == "Subscription" and tree.get("status") != "off":
        read_definition(tree, settings)


def read_definition(tree: Json, settings: FhirStoreSettings) -> Definition:
    """Read a Subscription.

    Raises:
        Refusal: 422 for another channel than rest-hook, an endpoint that the operator does not allow, criteria that
            cannot be watched, an unknown topic, or an unusable header.
    """
    channel = tree.get("channel")
    channel = channel if isinstance(channel, dict) else {}
    if channel.get("type") != "rest-hook":
        raise _refused("This server sends by rest-hook only.", "Subscription.channel.type", "not-supported")
    criteria = tree.get("criteria")
    resource_type = watched_type(criteria)
    if resource_type is None or not isinstance(criteria, str):
        text = f"The criteria must be a search of one type, such as Observation?code=x, or a topic {TOPICS}TYPE."
        raise _refused(text, "Subscription.criteria", "not-supported")
    payload = str(channel.get("payload", ""))
    if payload.partition(";")[0].strip() not in {"", "application/fhir+json", "application/json"}:
        raise _refused("The payload is application/fhir+json, or none.", "Subscription.channel.payload")
    is_topic = criteria.startswith(TOPICS)
    queries = list(_filters(tree, resource_type)) if is_topic else [criteria.partition("?")[2]]
    return Definition(
        resource_type=resource_type,
        filters=tuple(_read_filters(resource_type, queries)),
        topic=criteria if is_topic else "",
        endpoint=_endpoint(channel, settings),
        headers=tuple(_headers(channel)),
        content=content_of(tree),
        heartbeat_seconds=_whole(channel, "backport-heartbeat-period") if is_topic else None,
        timeout_seconds=_whole(channel, "backport-timeout") if is_topic else None,
        most_events=_whole(channel, "backport-max-count") if is_topic else None,
        ends=_end(tree),
    )


def _end(tree: Json) -> int | None:
    if "end" not in tree:
        return None
    try:
        return date_range(str(tree["end"]))[0]
    except ValueError:
        raise _refused("The end is an instant, such as 2024-01-01T00:00:00Z.", "Subscription.end") from None


def allowed_origins(settings: FhirStoreSettings) -> frozenset[str] | None:
    """Origins that notifications may go to; None for every port of this machine's loopback."""
    if settings.subscriptions.endpoints:
        return frozenset(_origin(each) for each in settings.subscriptions.endpoints)
    return None if settings.security.address is None else frozenset()


def _filters(tree: Json, resource_type: str) -> Iterator[str]:
    for text in _extensions(tree.get("_criteria"), "backport-filter-criteria"):
        about, _, query = str(text).partition("?")
        if about != resource_type or not query:
            raise _refused(f"A filter of this topic begins with {resource_type}?", "Subscription.criteria.extension")
        yield query


def _read_filters(resource_type: str, queries: list[str]) -> Iterator[tuple[str, str]]:
    try:
        pairs = [pair for query in queries for pair in parse_qsl(query, strict_parsing=bool(query), errors="strict")]
    except ValueError:
        raise _refused("The criteria are no query of a URL.", "Subscription.criteria") from None
    if len(pairs) > _MOST_CRITERIA:
        raise _refused(f"Criteria have {_MOST_CRITERIA} parameters at most.", "Subscription.criteria", "too-costly")
    for name, text in pairs:
        _condition(resource_type, name, text)
        yield name, text


def _condition(resource_type: str, name: str, text: str) -> Criterion:
    """One parameter; what it asks must show in the resource itself."""
    try:
        condition = read_condition(resource_type, name, text)
    except Refusal as refusal:
        raise _refused(refusal.issues[0].text, "Subscription.criteria", refusal.issues[0].code) from None
    if not isinstance(condition, Criterion):
        shown = re.sub(r"[^\w:.\-]", "?", name[:64])
        word = "cannot be followed in a Subscription" if condition else f"is no search parameter of {resource_type}"
        raise _refused(f"`{shown}` {word}.", "Subscription.criteria", "not-supported")
    return condition


def _endpoint(channel: Json, settings: FhirStoreSettings) -> str:
    endpoint = str(channel.get("endpoint", ""))
    where = "Subscription.channel.endpoint"
    allowed = allowed_origins(settings)
    try:
        parts = urlsplit(endpoint)
        origin, host = _origin(endpoint), parts.hostname or ""
    except ValueError:
        raise _refused("The endpoint is no URL.", where) from None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.fragment:
        raise _refused("The endpoint must be an absolute http or https URL, without a user name.", where)
    if origin not in allowed if allowed is not None else host not in _LOOPBACK:
        text = "The operator does not allow this endpoint; fhir_store.subscriptions.endpoints names those allowed."
        raise _refused(text, where, "forbidden")
    return endpoint


def _origin(url: str) -> str:
    """Scheme, host and port, the port always told.

    >>> _origin("https://Hooks.example.org/a")
    'https://hooks.example.org:443'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _headers(channel: Json) -> Iterator[tuple[str, str]]:
    lines = channel.get("header", [])
    for line in lines if isinstance(lines, list) else [None]:
        match = _HEADER.fullmatch(line) if isinstance(line, str) else None
        if match is None or match[1].lower() in _OWN_HEADERS:
            text = "A header is `Name: value` in ASCII, and none of those that the transport sets itself."
            raise _refused(text, "Subscription.channel.header")
        yield match[1], match[2]


def content_of(tree: Json) -> Content:
    """How much of a resource the notifications of a Subscription show.

    Raises:
        Refusal: 422 when it asks for what is none of the backport's contents.
    """
    channel = tree.get("channel")
    channel = channel if isinstance(channel, dict) else {}
    if not str(tree.get("criteria", "")).startswith(TOPICS):
        return "full-resource" if channel.get("payload") else "empty"
    found = _extensions(channel.get("_payload"), "backport-payload-content")
    wanted = found[0] if found else "empty"
    for content in _CONTENTS:
        if wanted == content:
            return content
    raise _refused(f"The payload's content is one of {', '.join(_CONTENTS)}.", "Subscription.channel.payload.extension")


def _whole(channel: Json, name: str) -> int | None:
    found = _extensions(channel, name)
    if not found:
        return None
    if type(found[0]) is not int or not 0 < found[0] < 10_000_000:
        raise _refused(f"{name} is a positive number.", "Subscription.channel.extension")
    return found[0]


def _extensions(element: Any, name: str) -> list[Any]:
    """Values of an element's extensions of one kind."""
    extensions = element.get("extension", ()) if isinstance(element, dict) else ()
    return [
        value
        for each in extensions
        if isinstance(each, dict) and each.get("url") == f"{BACKPORT}/{name}"
        for member, value in each.items()
        if member.startswith("value")
    ]


def _refused(text: str, expression: str, code: str = "business-rule") -> Refusal:
    return Refusal(422, code, text, expression)
