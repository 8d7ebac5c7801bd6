"""``Subscription/$status`` and ``Subscription/[id]/$events``.

Source: Subscriptions R5 Backport 1.1.0, http://hl7.org/fhir/uv/subscriptions-backport.
"""

import msgspec

from pulseweir.fhir_store.calls import Reading
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.outcomes import Answer, Json, Refusal, parameter_place
from pulseweir.fhir_store.query import Pairs
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.subscriptions.definition import Content, content_of
from pulseweir.fhir_store.subscriptions.ledger import State, events, states
from pulseweir.fhir_store.subscriptions.notification import notification, status_parameters
from pulseweir.fhir_store.subscriptions.topics import TOPICS

Session = ReadSession | WriteSession
_CONTENTS: dict[str, Content] = {each: each for each in ("empty", "id-only", "full-resource")}
_MOST_STATUSES = 1_000


def answer_status(session: Session, reading: Reading, pairs: Pairs) -> Answer:
    """How one Subscription stands, or each that `id` and `status` name.

    Raises:
        Refusal: 404 or 410 when there is no such Subscription, 400 for other parameters.
    """
    if len(reading.segments) == 3:
        found = [_state(session, reading.segments[1])]
    else:
        wanted = _wanted(pairs)
        found = [
            state
            for state in states(session)
            if (not wanted["id"] or state.resource_id in wanted["id"])
            and (not wanted["status"] or state.status in wanted["status"])
        ][:_MOST_STATUSES]
    entries = [_status_entry(session, state, reading.base_url) for state in found]
    bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    bundle["link"] = [{"relation": "self", "url": f"{reading.base_url}/{'/'.join(reading.segments)}"}]
    return Answer(200, msgspec.json.encode(bundle | ({"entry": entries} if entries else {})))


def answer_events(session: Session, reading: Reading, pairs: Pairs, settings: FhirStoreSettings) -> Answer:
    """Events of a Subscription with numbers in the asked range, the oldest when there are too many.

    They show what its notifications show, unless the request asks for another content.

    Raises:
        Refusal: 404 or 410 when there is no such Subscription, 400 for parameters that make no sense.
    """
    state = _state(session, reading.segments[1])
    asked = dict(pairs)
    since = _number(asked, "eventsSinceNumber", 1)
    until = min(_number(asked, "eventsUntilNumber", state.events), state.events)
    tree = read(session, "Subscription", state.resource_id).tree()
    content = _CONTENTS.get(asked["content"]) if "content" in asked else content_of(tree)
    if content is None:
        raise Refusal(400, "invalid", f"content is one of {', '.join(_CONTENTS)}.", "http.content")
    told = events(session, state, since - 1, until, settings.subscriptions.events_per_notification)
    # Whoever may read the Subscription may still not read what it is about.
    seen = {id(stored) for stored in session.access.show([event.stored for event in told])}
    told = [event for event in told if content == "empty" or id(event.stored) in seen]
    topic = _topic(session, state)
    status = status_parameters(state, reading.base_url, topic, "query-event", told, content)
    return Answer(200, notification(status, state, reading.base_url, reading.now, told, content))


def _state(session: Session, resource_id: str) -> State:
    stored = read(session, "Subscription", resource_id)
    found = states(session, resource_id)
    if found:
        return found[0]
    status = str(stored.tree().get("status", "requested"))
    return State(stored.pk, resource_id, stored.version, status, None, 0, 0, 0, None, "")


def _topic(session: Session, state: State) -> str:
    criteria = str(read(session, "Subscription", state.resource_id).tree().get("criteria", ""))
    return criteria if criteria.startswith(TOPICS) else ""


def _status_entry(session: Session, state: State, base_url: str) -> Json:
    status = status_parameters(state, base_url, _topic(session, state), "query-status")
    return {"fullUrl": f"urn:uuid:{status['id']}", "resource": status, "search": {"mode": "match"}}


def _wanted(pairs: Pairs) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {"id": set(), "status": set()}
    for name, text in pairs:
        if name in wanted:
            wanted[name].update(text.split(","))
        elif name not in {"_format", "_pretty"}:
            raise Refusal(400, "not-supported", "$status takes id and status only.", parameter_place(name))
    return wanted


def _number(asked: dict[str, str], name: str, otherwise: int) -> int:
    text = asked.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refusal(400, "invalid", f"{name} must be a whole number.", f"http.{name}")
    return int(text)
