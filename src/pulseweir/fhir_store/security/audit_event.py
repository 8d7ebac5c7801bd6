"""The AuditEvent of one request: who did what to whose data. Pure.

Source: IHE Basic Audit Log Patterns 1.1.3, https://profiles.ihe.net/ITI/BALP/: for a read the server is the source
and the client the destination, for everything else the other way round. One event tells of a whole request, with an
entity for each patient and each resource; it names a profile where that profile's one patient or none fits.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from pulseweir.clock import to_text
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.security.compartment import patients_of
from pulseweir.fhir_store.validation import is_resource_id
from pulseweir.records.codes import PULSEWEIR

if TYPE_CHECKING:
    from pulseweir.fhir_store.security.access import Access, Asked, Pairs, Part
    from pulseweir.fhir_store.session import Stored

TERMS = "http://terminology.hl7.org/CodeSystem"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_REQUEST_ID = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
SOURCE = {"system": DICOM, "code": "110153", "display": "Source Role ID"}
DESTINATION = {"system": DICOM, "code": "110152", "display": "Destination Role ID"}
_ACTIONS = {"create": "C", "read": "R", "vread": "R", "history-instance": "R", "update": "U", "patch": "U"}
_ACTIONS |= {"delete": "D"}
_INTERACTIONS = {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_USER_ROLES = {"C": "AUT", "U": "AUT", "D": "CST"}
_PROFILES = {"C": "Create", "R": "Read", "U": "Update", "D": "Delete", "E": "Query"}
_PRIVATE = frozenset({"email", "phone", "telecom", "address", "birthdate", "death-date"})
"""Parameters whose values are a person's, besides all that search texts."""
_OF_OPERATIONS = frozenset({"max", "start", "end"})
"""Parameters of operations, which no search knows and no person is in."""
_LOOKS = frozenset({"_format", "_pretty", "_summary", "_elements"})
"""Parameters that shape an answer and ask nothing."""
_HIDDEN = "hidden"
CHAIN_EXTENSION = f"{PULSEWEIR}/StructureDefinition/audit-chain"
"""Extension of an AuditEvent with the hash of the one before it."""
_STATUS = "status"
"""Kind of the detail of an entity that says what was answered about it."""


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
        "type": {"system": f"{TERMS}/audit-event-type", "code": "rest", "display": "Restful Operation"},
        "subtype": [{"system": _INTERACTION, "code": interaction, "display": interaction}],
        "action": action,
        "recorded": to_text(recorded_microseconds),
        "outcome": access.outcome,
        "agent": _agents(access, asked, action),
        "source": {
            "site": asked.base_url,
            "observer": named("pulseweir-fhir-store"),
            "type": [{"system": f"{TERMS}/security-source-type", "code": "4", "display": "Application Server"}],
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
        return access.bundle_kind or "transaction" if method == "POST" else "search-system"
    if segments[-1] == "_search" or (method == "GET" and len(segments) != 2):
        return "search-type"
    if method == "PUT" and [kind for kind, _ in access.written[:1]] == ["create"]:
        return "create"
    return _INTERACTIONS.get(method, "operation")


def _patients(access: "Access") -> list[str]:
    shown = [*access.seen, *(stored for _, stored in access.written)]
    found = {patient for stored in shown if not stored.deleted for patient in patients_in(stored)}
    if access.caller.patient is not None:
        found.add(access.caller.patient)
    return sorted(found)


def patients_in(stored: "Stored") -> set[str]:
    """Logical ids of the Patients whose a version is."""
    return patients_of(stored.resource_type, stored.resource_id, stored.tree())


def _agents(access: "Access", asked: "Asked", action: str) -> list[Json]:
    caller, is_read = access.caller, action == "R"
    client = {
        "type": {"coding": [DESTINATION if is_read else SOURCE]},
        "who": named(caller.name),
        "requestor": caller.user is None,
        "network": {"address": asked.address, "type": "2"},
    }
    server = {
        "type": {"coding": [SOURCE if is_read else DESTINATION]},
        "who": named("pulseweir-fhir-store"),
        "requestor": False,
        "network": {"address": asked.base_url, "type": "5"},
    }
    if caller.user is None:
        return [client, server]
    role = {"system": f"{TERMS}/v3-ParticipationType", "code": _USER_ROLES.get(action, "IRCP")}
    return [client, server, {"type": {"coding": [role]}, "who": named(caller.user), "requestor": True}]


def named(name: str) -> Json:
    """Somebody or something that is no resource here."""
    return {"identifier": {"value": name}}


def _entities(access: "Access", asked: "Asked", interaction: str, patients: Sequence[str]) -> list[Json]:
    entities = [entity_of("1", "Person", "1", "Patient", f"Patient/{patient}") for patient in patients]
    entities += [
        entity_of("2", "System Object", "4", "Domain Resource", reference)
        for reference in _data(access, asked, interaction)
    ]
    is_conditional = any(name not in _LOOKS for name, _ in asked.query)
    if is_conditional or interaction.startswith(("search", "history", "operation")):
        entities.append(_query(hidden_query(asked.segments, asked.query)))
    entities += [_part(part) for part in access.parts]
    if asked.request_id:
        kind = {"system": _REQUEST_ID, "code": "XrequestId"}
        entities.append({"type": kind, "what": {"identifier": {"value": asked.request_id}}})
    return entities


def _query(text: str) -> Json:
    kind, role = _coding("audit-entity-type", "2", "System Object"), _coding("object-role", "24", "Query")
    return {"type": kind, "role": role, "query": base64.b64encode(text.encode()).decode()}


def _part(part: "Part") -> Json:
    """An entry of a bundle that searched, or was refused."""
    status = [{"type": _STATUS, "valueString": part.status}]
    if not part.query and len(part.segments) > 1 and is_resource_id(part.segments[1]):
        kind, resource_id, *_ = part.segments
        if kind in RESOURCE_TYPES:
            return entity_of("2", "System Object", "4", "Domain Resource", f"{kind}/{resource_id}") | {"detail": status}
    return _query(f"{part.method} {hidden_query(part.segments, part.query)}") | {"detail": status}


def _data(access: "Access", asked: "Asked", interaction: str) -> Iterable[str]:
    """References to what was written, and to what was read one by one."""
    found = {reference_to(stored): None for _, stored in access.written}
    if interaction in {"read", "vread", "transaction", "batch"}:
        found |= {reference_to(stored): None for stored in access.seen}
    segments = asked.segments
    if not found and len(segments) > 1 and segments[0] in RESOURCE_TYPES and is_resource_id(segments[1]):
        found = {f"{segments[0]}/{segments[1]}": None}
    return found


def reference_to(stored: "Stored") -> str:
    """The reference to one version."""
    return f"{stored.resource_type}/{stored.resource_id}/_history/{stored.version}"


def entity_of(kind: str, kind_name: str, role: str, role_name: str, reference: str) -> Json:
    """An entity of an AuditEvent: codes and displays of its type and role, and what it is."""
    return {
        "what": {"reference": reference},
        "type": _coding("audit-entity-type", kind, kind_name),
        "role": _coding("object-role", role, role_name),
    }


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": f"{TERMS}/{system}", "code": code, "display": display}


def hidden_query(segments: Sequence[str], query: "Pairs") -> str:
    """A search as sent, without texts that could name a person."""
    path = "/".join(segment if segment.isascii() and len(segment) <= 64 else _HIDDEN for segment in segments)
    pairs = [(name[:128], _shown(segments[:1], name, text)) for name, text in query]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _shown(types: Sequence[str], name: str, text: str) -> str:
    if name != "_typeFilter":
        return _HIDDEN if _is_private(types, name) else text
    owner, _, query = text.partition("?")
    return hidden_query([owner], parse_qsl(query, keep_blank_values=True))


def _is_private(types: Sequence[str], name: str) -> bool:
    last = name.rpartition(".")[2].rpartition(":")[2] if "." in name or name.startswith("_has:") else name
    plain = last.partition(":")[0]
    if plain in _PRIVATE or plain.startswith("address") or ":contains" in name or ":exact" in name or ":text" in name:
        return True
    if plain in _OF_OPERATIONS:
        return False
    if plain.startswith("_"):
        # A page's token holds what the last match was sorted by.
        return plain in {"_content", "_text", "_filter", "_page"}
    owners = types if plain == name.partition(":")[0] and types else RESOURCE_TYPES
    kinds = {
        parameters_of(each)[plain].kind for each in owners if each in RESOURCE_TYPES and plain in parameters_of(each)
    }
    return not kinds or "string" in kinds


def _profile(interaction: str, action: str, access: "Access", patients: int) -> str | None:
    """The profile that the event keeps: one patient or none, one resource, a plain interaction that succeeded."""
    if access.outcome != "0" or interaction in {"operation", "transaction", "batch", "patch"} or patients > 1:
        return None
    if interaction.startswith("history"):
        return None
    return f"{BALP}.{'Patient' if patients else ''}{_PROFILES[action]}"
