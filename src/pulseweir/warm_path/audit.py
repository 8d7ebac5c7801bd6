"""Step 17: every act of a person on a patient's data is logged, chained, and sent to the FHIR service."""

from collections.abc import Mapping

import msgspec

from pulseweir.backends.repository import Transaction, people
from pulseweir.warm_path.alert_store import FhirWrite, put_fhir
from pulseweir.warm_path.care_resources import audit_event, provenance


def record(  # noqa: PLR0913 - an act is as wide as what an auditor asks
    transaction: Transaction,
    *,
    actor: str,
    action: str,
    now: int,
    patient_id: str = "",
    subject: str = "",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Log one act and enter its AuditEvent into the outbox, in the transaction of the act itself.

    An act that changes a Task also leaves its Provenance.

    Args:
        transaction: An open one.
        actor: Sign-in name of the person.
        action: A stable word: read, acknowledge, claim, sign-in, …
        now: Microseconds.
        patient_id: Whose data, if anybody's.
        subject: Reference to what it was done to, such as ``Task/…``.
        detail: Further facts; they stay in the repository.
    """
    act = people.record_act(
        transaction, actor=actor, action=action, now=now, patient_id=patient_id, subject=subject, detail=detail
    )
    body = msgspec.json.encode(audit_event(act)).decode()
    put_fhir(transaction, f"AuditEvent:{act.hash}", FhirWrite(resource_json=body), "", patient_id)
    if subject.startswith("Task/") and action != "read":
        source = msgspec.json.encode(provenance(act)).decode()
        put_fhir(transaction, f"Provenance:{act.hash}", FhirWrite(resource_json=source), "", patient_id)
