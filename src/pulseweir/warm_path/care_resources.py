"""Step 18: Task, Communication, AuditEvent and Provenance: what people were asked, told, and did.

Source: HL7 FHIR R4 Task, Communication, AuditEvent, Provenance; IHE Basic Audit Log Patterns (shapes of AuditEvent).
"""

import re
from typing import Any

from pulseweir.backends.channels.base import Notification
from pulseweir.backends.repository.rows import AuditRow
from pulseweir.clock import to_text
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM, PULSEWEIR
from pulseweir.records.identifiers import digest
from pulseweir.warm_path.alerts import Alert

Resource = dict[str, Any]

_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")

_TASK_STATUS = {
    "raised": "requested",
    "notified": "requested",
    "acknowledged": "accepted",
    "in-progress": "in-progress",
    "resolved": "completed",
    "auto-cleared": "completed",
    "rejected": "rejected",
}
_TASK_PRIORITY = {"high": "stat", "medium": "urgent", "low": "routine"}
_TASK_CODE = f"{PULSEWEIR}/CodeSystem/task-code"
_USER_SYSTEM = f"{PULSEWEIR}/NamingSystem/user"
_RESTFUL = {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"}
_WORK = {"clinical": "Review the patient's risk", "technical": "Check the device"}
_ACTIONS = {"read": "R", "note": "C"}
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"


def task_id(alert_id: str) -> str:
    """The FHIR id of an alert's Task."""
    return digest("Task", alert_id)


def task(alert: Alert) -> Resource:
    """An alert as the Task it asks of its care team, in its latest state."""
    resource: Resource = {
        "resourceType": "Task",
        "id": task_id(alert.alert_id),
        "identifier": [{"system": f"{PULSEWEIR}/NamingSystem/alert", "value": alert.alert_id}],
        "status": _TASK_STATUS[alert.state],
        "businessStatus": {"text": _business_status(alert)},
        "intent": "order",
        "priority": _TASK_PRIORITY[alert.priority],
        "code": {"coding": [{"system": _TASK_CODE, "code": "review-risk"}], "text": _WORK[alert.kind]},
        "description": alert.action,
        "focus": _about(alert),
        "for": {"reference": f"Patient/{alert.patient_id}"},
        "authoredOn": to_text(alert.raised_at),
        "lastModified": to_text(max(alert.updated_at, alert.raised_at)),
    }
    if alert.care_team_id:
        resource["owner"] = {"reference": f"CareTeam/{alert.care_team_id}", "display": alert.care_team}
    if alert.next_step_at is not None:
        resource["restriction"] = {"period": {"end": to_text(alert.next_step_at)}}
    if alert.outcome:
        resource["output"] = [{"type": {"text": "outcome"}, "valueString": alert.outcome}]
        if alert.state == "rejected":
            resource["statusReason"] = {"text": alert.outcome}
    return resource


def _about(alert: Alert) -> Resource:
    """What an alert is about: a Flag, or a device, which FHIR knows by its identifier."""
    if alert.device_id is None:
        return {"reference": f"Flag/{alert.flag_id}"}
    return {"type": "Device", "identifier": {"system": DEVICE_IDENTIFIER_SYSTEM, "value": alert.device_id}}


def communication(
    notification: Notification, alert: Alert, channel: str, sent_at: int | None, not_done: str = ""
) -> Resource:
    """A message at its end; says no more of the patient than the message did.

    Completed, with the instant and the channel, only where a channel that people look at has taken it.

    Args:
        notification: The message.
        alert: What it is about.
        channel: What took it, "" for nothing.
        sent_at: When it was taken, microseconds.
        not_done: Why nobody was told by it; "" where it was taken.

    Source: HL7 FHIR R4 Communication: statusReason goes with not-done.
    """
    resource: Resource = {
        "resourceType": "Communication",
        "id": digest("Communication", notification.key),
        "identifier": [{"system": f"{PULSEWEIR}/NamingSystem/notification", "value": digest(notification.key)}],
        "status": "not-done" if not_done else "completed",
        "category": [{"text": notification.kind}],
        "priority": _TASK_PRIORITY[notification.priority],
        "subject": {"reference": f"Patient/{alert.patient_id}"},
        "about": [
            _about(alert),
            {"reference": f"Task/{task_id(alert.alert_id)}"},
        ],
        "payload": [
            {"contentString": f"{notification.priority} priority, for {notification.role}: {notification.action}"}
        ],
    }
    if not_done:
        resource["statusReason"] = {"text": not_done}
    else:
        resource["medium"] = [{"text": channel}]
        if sent_at is not None:
            resource["sent"] = to_text(sent_at)
    if alert.care_team_id:
        resource["recipient"] = [{"reference": f"CareTeam/{alert.care_team_id}", "display": alert.care_team}]
    return resource


def audit_event(act: AuditRow) -> Resource:
    """What a person did, after the patterns of IHE BALP: who, what, whose data, when."""
    entities: list[Resource] = []
    if act.patient_id:
        entities.append(
            {
                "what": {"reference": f"Patient/{act.patient_id}"},
                "type": {"system": _ENTITY_TYPE, "code": "1"},
                "role": {"system": _OBJECT_ROLE, "code": "1"},
            }
        )
    if act.subject:
        entities.append(
            {
                "what": {"reference" if _REFERENCE.fullmatch(act.subject) else "display": act.subject},
                "type": {"system": _ENTITY_TYPE, "code": "2"},
                "role": {"system": _OBJECT_ROLE, "code": "4"},
            }
        )
    resource: Resource = {
        "resourceType": "AuditEvent",
        "id": digest("AuditEvent", act.hash),
        "type": _RESTFUL,
        "subtype": [{"system": f"{PULSEWEIR}/CodeSystem/act", "code": act.action}],
        "action": _ACTIONS.get(act.action, "U"),
        "recorded": to_text(act.occurred_at),
        "outcome": "0",
        "agent": [
            {
                "who": {"identifier": {"system": _USER_SYSTEM, "value": act.actor}},
                "altId": act.actor,
                "requestor": True,
            }
        ],
        "source": {"observer": {"display": "pulseweir"}},
    }
    return resource | ({"entity": entities} if entities else {})


def provenance(act: AuditRow) -> Resource:
    """Who is responsible for the state a Task is in: the person who acted, and when.

    Source: HL7 FHIR R4 Provenance.
    """
    return {
        "resourceType": "Provenance",
        "id": digest("Provenance", act.hash),
        "target": [{"reference": act.subject}],
        "recorded": to_text(act.occurred_at),
        "activity": {"coding": [{"system": f"{PULSEWEIR}/CodeSystem/act", "code": act.action}]},
        "agent": [{"who": {"identifier": {"system": _USER_SYSTEM, "value": act.actor}}}],
    }


def _business_status(alert: Alert) -> str:
    if alert.acknowledged_at is not None:
        return "acked"
    return f"escalated-{alert.level - 1}" if alert.level > 1 else "unacked"
