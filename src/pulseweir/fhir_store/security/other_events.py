"""AuditEvents of what is no answered request: logins that failed, and notifications that left the house. Pure.

Source: DICOM PS3.15 A.5 (user authentication, login; export); IHE Basic Audit Log Patterns 1.1.3, privacy disclosure
at the source, https://profiles.ihe.net/ITI/BALP/.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pulseweir.clock import to_text
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.audit_event import (
    BALP,
    CHAIN_EXTENSION,
    DESTINATION,
    DICOM,
    SOURCE,
    TERMS,
    entity_of,
    named,
    patients_in,
    reference_to,
)

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import Stored

_SERVER = "pulseweir-fhir-store"


def failed_login(address: str, reason: str, left_out: int, *, recorded: int, previous: str) -> Json:
    """The AuditEvent of a request that did not say who sends it, or not truly.

    Args:
        address: Network address it came from.
        reason: What was wrong; nothing of what was sent.
        left_out: How many like it since the last such event have none of their own.
        recorded: Now, microseconds.
        previous: Hash of the AuditEvent before it.
    """
    more = f" {left_out} more since the last such event are not told one by one." if left_out else ""
    stranger = {"who": named("unknown"), "requestor": True, "network": {"address": address, "type": "2"}}
    return {
        "resourceType": "AuditEvent",
        "extension": [{"url": CHAIN_EXTENSION, "valueString": previous}],
        "type": {"system": DICOM, "code": "110114", "display": "User Authentication"},
        "subtype": [{"system": DICOM, "code": "110122", "display": "Login"}],
        "action": "E",
        "recorded": to_text(recorded),
        "outcome": "4",
        "outcomeDesc": reason + more,
        "agent": [stranger, {"who": named(_SERVER), "requestor": False}],
        "source": _source(),
    }


def disclosure(  # noqa: PLR0913 - what a notification tells to whom
    told: "Sequence[Stored]",
    *,
    subscription: str,
    maker: str,
    origin: str,
    outcome: str,
    recorded: int,
    previous: str,
) -> Json:
    """The AuditEvent of a notification that told of resources.

    Args:
        told: The versions.
        subscription: Reference to the Subscription.
        maker: Name of the client that made it.
        origin: Scheme, host and port of its endpoint; the rest of the URL may hold a secret.
        outcome: "0" when the endpoint took it, "4" when it may have read it all the same.
        recorded: Now, microseconds.
        previous: Hash of the AuditEvent before it.
    """
    patients = sorted({patient for stored in told for patient in patients_in(stored)})
    versions = dict.fromkeys(reference_to(stored) for stored in told)
    event: Json = {
        "resourceType": "AuditEvent",
        "extension": [{"url": CHAIN_EXTENSION, "valueString": previous}],
        "type": {"system": DICOM, "code": "110106", "display": "Export"},
        "subtype": [{"system": f"{TERMS}/iso-21089-lifecycle", "code": "disclose", "display": "Disclose"}],
        "action": "R",
        "recorded": to_text(recorded),
        "outcome": outcome,
        "agent": [
            {"type": {"coding": [SOURCE]}, "who": named(_SERVER), "requestor": False},
            {
                "type": {"coding": [DESTINATION]},
                "who": named(origin),
                "requestor": False,
                "network": {"address": origin, "type": "5"},
            },
            {"who": named(maker), "requestor": True},
        ],
        "source": _source(),
        "entity": [
            *(entity_of("1", "Person", "1", "Patient", f"Patient/{patient}") for patient in patients),
            *(entity_of("2", "System Object", "4", "Domain Resource", reference) for reference in versions),
            entity_of("2", "System Object", "9", "Subscriber", subscription),
        ],
    }
    profile = {"meta": {"profile": [f"{BALP}.PrivacyDisclosure.Source"]}} if len(patients) == 1 else {}
    return event | profile


def _source() -> Json:
    return {
        "observer": named(_SERVER),
        "type": [{"system": f"{TERMS}/security-source-type", "code": "4", "display": "Application Server"}],
    }
