"""Whether a Subscription may still send: what whoever made it may see now, not what it might when it was stored."""

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.security.caller import ANYBODY, HOUSE, ISSUER_ORIGIN, Caller
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.maker import Maker
from pulseweir.fhir_store.security.rights import check_watching

_HOUR = 3_600 * 1_000_000


def objection(guard: Guard, maker: Maker, resource_type: str, now: int, signed_token_hours: float) -> str:
    """Why a Subscription may not send now; "" when it may.

    Args:
        guard: Who knows the clients.
        maker: Whoever made it.
        resource_type: The type that it watches.
        now: Real instant, microseconds.
        signed_token_hours: How long rights from a signed token count.
    """
    caller = present_caller(guard, maker, now, signed_token_hours)
    if caller is None:
        return "Whoever made it is no client of this server any more, or has to store it anew."
    try:
        check_watching(caller, resource_type)
    except Refusal:
        return f"Whoever made it may no longer read and search every {resource_type}."
    return ""


def present_caller(guard: Guard, maker: Maker, now: int, signed_token_hours: float) -> Caller | None:
    """The rights that the maker of a Subscription has now; None when it has none."""
    if maker.origin == HOUSE.origin:
        return HOUSE
    if maker.origin == ANYBODY.origin:
        return ANYBODY if guard.is_open else None
    if maker.origin == "client":
        return guard.clients.by_name(maker.name, now) if guard.clients is not None else None
    is_trusted = guard.issuer is not None and maker.origin == ISSUER_ORIGIN + guard.issuer.issuer
    if not is_trusted or now - maker.written > signed_token_hours * _HOUR:
        return None
    return Caller(maker.name, maker.grants, maker.patient, maker.user, origin=maker.origin)
