"""What a Subscription's endpoint is sent, and what `$status` and `$events` answer.

Source: Subscriptions R5 Backport 1.1.0, notifications in R4, http://hl7.org/fhir/uv/subscriptions-backport.
"""

import uuid
from collections.abc import Sequence

import msgspec

from pulseweir.fhir_store.json_text import instant_text
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.subscriptions.definition import BACKPORT, Content
from pulseweir.fhir_store.subscriptions.ledger import Event, State

_METHODS = {"create": ("POST", "201"), "update": ("PUT", "200"), "delete": ("DELETE", "204")}


def status_parameters(
    state: State, base_url: str, topic: str, kind: str, events: Sequence[Event] = (), content: Content = "empty"
) -> Json:
    """SubscriptionStatus as R4 has it, in Parameters.

    Args:
        state: How the Subscription stands.
        base_url: FHIR base URL of this server.
        topic: Canonical URL of its topic; "" for none.
        kind: "handshake", "heartbeat", "event-notification", "query-status" or "query-event".
        events: Events that are told.
        content: How much of them.
    """
    parameters: list[Json] = [
        {"name": "subscription", "valueReference": {"reference": f"{base_url}/Subscription/{state.resource_id}"}},
        *([{"name": "topic", "valueCanonical": topic}] if topic else []),
        {"name": "status", "valueCode": "requested" if kind == "handshake" else state.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(state.events)},
    ]
    parameters += [_event_part(event, base_url, content) for event in events]
    if state.error:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": state.error}})
    profile = [f"{BACKPORT}/backport-subscription-status-r4"]
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": profile},
        "parameter": parameters,
    }


def notification(
    status: Json, state: State, base_url: str, now: int, events: Sequence[Event] = (), content: Content = "empty"
) -> bytes:
    """The notification Bundle: the status first, then what happened.

    Args:
        status: See `status_parameters`.
        state: How the Subscription stands.
        base_url: FHIR base URL of this server.
        now: Instant of the notification, microseconds.
        events: Events that are told.
        content: How much of them.
    """
    place = f"{base_url}/Subscription/{state.resource_id}/$status"
    first = {
        "fullUrl": f"urn:uuid:{status['id']}",
        "resource": status,
        "request": {"method": "GET", "url": place},
        "response": {"status": "200"},
    }
    entries = [] if content == "empty" else [_entry(event, base_url, content) for event in events]
    bundle = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{BACKPORT}/backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant_text(now),
        "entry": [first, *entries],
    }
    return msgspec.json.encode(bundle)


def _event_part(event: Event, base_url: str, content: Content) -> Json:
    part: list[Json] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": instant_text(event.stored.updated)},
    ]
    if content != "empty":
        part.append({"name": "focus", "valueReference": {"reference": _url(event, base_url)}})
    return {"name": "notification-event", "part": part}


def _entry(event: Event, base_url: str, content: Content) -> Json:
    stored = event.stored
    method, status = _METHODS[event.interaction]
    own = stored.resource_type if method == "POST" else f"{stored.resource_type}/{stored.resource_id}"
    response = {"status": status, "etag": stored.etag, "lastModified": instant_text(stored.updated)}
    entry: Json = {"fullUrl": _url(event, base_url)}
    if content == "full-resource" and not stored.deleted:
        entry["resource"] = msgspec.Raw(stored.text())
    return entry | {"request": {"method": method, "url": own}, "response": response}


def _url(event: Event, base_url: str) -> str:
    return f"{base_url}/{event.stored.resource_type}/{event.stored.resource_id}"
