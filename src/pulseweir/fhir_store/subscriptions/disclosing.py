"""Which notifications the audit tells of: those that show a client's endpoint what is stored here. Pure."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.caller import ANYBODY, HOUSE
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.maker import Maker
from pulseweir.fhir_store.security.other_events import disclosure
from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.ledger import Event, State


def audit_of(
    guard: Guard, state: State, definition: Definition, maker: Maker, told: Sequence[Event], outcome: str
) -> Callable[[str, int], Json] | None:
    """What makes the AuditEvent of a notification from the hash before it and the instant; None when it leaves none.

    Args:
        guard: Whose accesses are audited.
        state: The Subscription.
        definition: What it asks.
        maker: Whoever made it.
        told: Events that were told.
        outcome: "0" when the endpoint took them, "4" when it may have read them all the same.
    """
    is_house = maker.origin == HOUSE.origin
    is_unasked = maker.origin == ANYBODY.origin and guard.settings.audit != "always"
    if guard.trail is None or is_house or is_unasked or not told or definition.content == "empty":
        return None
    if definition.resource_type == "AuditEvent":
        # It would be told as well, and so on for ever.
        return None
    parts = urlsplit(definition.endpoint)
    origin = f"{parts.scheme}://{parts.netloc}"

    def make(previous: str, recorded: int) -> Json:
        return disclosure(
            [event.subject for event in told],
            subscription=f"Subscription/{state.resource_id}/_history/{state.version}",
            maker=maker.name,
            origin=origin,
            outcome=outcome,
            recorded=recorded,
            previous=previous,
        )

    return make
