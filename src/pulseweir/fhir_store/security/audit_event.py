"""The AuditEvent of one request: who did what to whose data. Pure.

Source: IHE Basic Audit Log Patterns 1.1.3, https://profiles.ihe.net/ITI/BALP/: for a read the server is the source
and the client the destination, for everything else the other way round. One event tells of a whole request, with an
entity for each patient and each resource; it names a profile where that profile's one patient or none fits.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pulseweir.clock import to_text
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.security.compartment import patients_of
from pulseweir.fhir_store.validation import is_resource_id
from pulseweir.records.codes import PULSEWEIR

if TYPE_CHECKING:
    from pulseweir.fhir_store.security.access import Access, Asked
    from pulseweir.fhir_store.session import Stored

_TERMS = "http://terminology.hl7.org/CodeSystem"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_REQUEST_ID = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_SOURCE = {"system": _DICOM, "code": "110153", "display": "Source Role ID"}
_DESTINATION = {"system": _DICOM, "code": "110152", "display": "Destination Role ID"}
_ACTIONS = {"create": "C", "read": "R", "vread": "R", "history-instance": "R", "update": "U", "patch": "U"}
_ACTIONS |= {"delete": "D"}
_USER_ROLES = {"C": "AUT", "U": "AUT", "D": "CST"}
_PROFILES = {"C": "Create", "R": "Read", "U": "Update", "D": "Delete", "E": "Query"}
_PRIVATE = frozenset({"email", "phone", "telecom", "address", "birthdate", "death-date"})
"""Parameters whose values are a person's, besides all that search texts."""
_HIDDEN = "hidden"
CHAIN_EXTENSION = f"{PULSEWEIR}/StructureDefinition/audit-chain"
"""Extension of an AuditEvent with the hash of the one before it."""


def audit_event(access: "Access", recorded_microseconds: int, previous: str) -> Json:
    """The AuditEvent of an access.

    Args:
        access: Who asked, what was asked, and what became of it.
        recorded_microseconds: Now.
        previous: Hash of the AuditEvent before it.
    """
    asked = access.asked
    if asked is None:
        raise ValueError("only requests are audited")
    interaction = interaction_of(asked, access)
    action = _ACTIONS.get(interaction, "E")
    patients = _patients(access)
    event: Json = {
        "resourceType": "AuditEvent",
        "extension": [{"url": CHAIN_EXTENSION, "valueString": previous}],
        "type": {"system": f"{_TERMS}/audit-event-type", "code": "rest", "display": "Restful Operation"},
        "subtype": [{"system": _INTERACTION, "code": interaction, "display": interaction}],
        "action": action,
        "recorded": to_text(recorded_microseconds),
        "outcome": access.outcome,
        "agent": _agents(access, asked, action),
        "source": {
            "site": asked.base_url,
            "observer": _named("pulseweir-fhir-store"),
            "type": [{"system": f"{_TERMS}/security-source-type", "code": "4", "display": "Application Server"}],
        },
    }
    entities = _entities(access, asked, interaction, patients)
    if entities:
        event["entity"] = entities
    profile = _profile(interaction, action, access, len(patients))
    return event | ({"meta": {"profile": [profile]}} if profile else {})


def interaction_of(asked: "Asked", access: "Access") -> str:
    """The RESTful interaction that a request is, as FHIR codes it."""
    segments, method = asked.segments, asked.method
    if any(segment.startswith("$") for segment in segments):
        return "operation"
    if "_history" in segments:
        return {1: "history-system", 2: "history-type", 3: "history-instance"}.get(len(segments), "vread")
    if not segments:
        return "transaction" if method == "POST" else "search-system"
    if segments[-1] == "_search" or (method == "GET" and len(segments) != 2):
        return "search-type"
    if method == "PUT" and [kind for kind, _ in access.written] == ["create"]:
        return "create"
    return {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


def _patients(access: "Access") -> list[str]:
    shown = [*access.seen, *(stored for _, stored in access.written)]
    found = {patient for stored in shown if not stored.deleted for patient in _patients_of(stored)}
    if access.caller.patient is not None:
        found.add(access.caller.patient)
    return sorted(found)


def _patients_of(stored: "Stored") -> set[str]:
    return patients_of(stored.resource_type, stored.resource_id, stored.tree())


def _agents(access: "Access", asked: "Asked", action: str) -> list[Json]:
    caller, is_read = access.caller, action == "R"
    client = {
        "type": {"coding": [_DESTINATION if is_read else _SOURCE]},
        "who": _named(caller.name),
        "requestor": caller.user is None,
        "network": {"address": asked.address, "type": "2"},
    }
    server = {
        "type": {"coding": [_SOURCE if is_read else _DESTINATION]},
        "who": _named("pulseweir-fhir-store"),
        "requestor": False,
        "network": {"address": asked.base_url, "type": "5"},
    }
    if caller.user is None:
        return [client, server]
    role = {"system": f"{_TERMS}/v3-ParticipationType", "code": _USER_ROLES.get(action, "IRCP")}
    return [client, server, {"type": {"coding": [role]}, "who": _named(caller.user), "requestor": True}]


def _named(name: str) -> Json:
    return {"identifier": {"value": name}}


def _entities(access: "Access", asked: "Asked", interaction: str, patients: Sequence[str]) -> list[Json]:
    entities = [_entity("1", "Person", "1", "Patient", f"Patient/{patient}") for patient in patients]
    entities += [
        _entity("2", "System Object", "4", "Domain Resource", reference)
        for reference in _data(access, asked, interaction)
    ]
    if interaction.startswith(("search", "history", "operation")):
        query = {"type": _coding("audit-entity-type", "2", "System Object")}
        query["role"] = _coding("object-role", "24", "Query")
        entities.append(query | {"query": base64.b64encode(hidden_query(asked).encode()).decode()})
    if asked.request_id:
        kind = {"system": _REQUEST_ID, "code": "XrequestId"}
        entities.append({"type": kind, "what": {"identifier": {"value": asked.request_id}}})
    return entities


def _data(access: "Access", asked: "Asked", interaction: str) -> Iterable[str]:
    """References to what was written, and to what was read one by one."""
    found = {_reference(stored): None for _, stored in access.written}
    if interaction in {"read", "vread", "transaction"}:
        found |= {_reference(stored): None for stored in access.seen}
    segments = asked.segments
    if not found and len(segments) > 1 and segments[0] in RESOURCE_TYPES and is_resource_id(segments[1]):
        found = {f"{segments[0]}/{segments[1]}": None}
    return found


def _reference(stored: "Stored") -> str:
    return f"{stored.resource_type}/{stored.resource_id}/_history/{stored.version}"


def _entity(kind: str, kind_name: str, role: str, role_name: str, reference: str) -> Json:
    return {
        "what": {"reference": reference},
        "type": _coding("audit-entity-type", kind, kind_name),
        "role": _coding("object-role", role, role_name),
    }


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": f"{_TERMS}/{system}", "code": code, "display": display}


def hidden_query(asked: "Asked") -> str:
    """The search as sent, without texts that could name a person."""
    path = "/".join(segment if segment.isascii() and len(segment) <= 64 else _HIDDEN for segment in asked.segments)
    pairs = [(name[:128], _HIDDEN if _is_private(asked, name) else text) for name, text in asked.query]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _is_private(asked: "Asked", name: str) -> bool:
    last = name.rpartition(".")[2].rpartition(":")[2] if "." in name or name.startswith("_has:") else name
    plain = last.partition(":")[0]
    if plain in _PRIVATE or plain.startswith("address") or ":contains" in name or ":exact" in name or ":text" in name:
        return True
    if plain.startswith("_"):
        return plain in {"_content", "_text", "_filter"}
    types = asked.segments[:1] if plain == name.partition(":")[0] and asked.segments else RESOURCE_TYPES
    kinds = {
        parameters_of(each)[plain].kind for each in types if each in RESOURCE_TYPES and plain in parameters_of(each)
    }
    return not kinds or "string" in kinds


def _profile(interaction: str, action: str, access: "Access", patients: int) -> str | None:
    """The profile that the event keeps: one patient or none, one resource, a plain interaction that succeeded."""
    if access.outcome != "0" or interaction in {"operation", "transaction", "patch"} or patients > 1:
        return None
    if interaction.startswith("history"):
        return None
    return f"{_PROFILE}.{'Patient' if patients else ''}{_PROFILES[action]}"
