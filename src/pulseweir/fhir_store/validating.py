"""The operation ``$validate``: whether a resource could be stored, without storing it.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/resource-operation-validate.html.
"""

from dataclasses import dataclass

import msgspec

from pulseweir.fhir_store.calls import Reading
from pulseweir.fhir_store.control_parameters import refuse_modifiers
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.json_text import check_depth
from pulseweir.fhir_store.outcomes import Answer, Issue, Json, Refusal, operation_outcome
from pulseweir.fhir_store.session import WriteSession, find_current
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.validation import check_resource

_MODES = frozenset({"", "create", "update", "delete", "profile"})
Session = ReadSession | WriteSession


@dataclass(slots=True)
class _Asked:
    resource: Json | None = None
    mode: str = ""
    profile: str = ""


def answer_validate(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    """An OperationOutcome with all that is wrong; its status is 200 whatever it says.

    Raises:
        Refusal: 400 when there is nothing to validate or the mode is none, 404 or 410 when the stored resource that is
            asked about is not there.
    """
    asked = _read(reading, settings)
    names = reading.segments[:-1]
    if asked.resource is None and len(names) == 2 and asked.mode != "delete":
        asked.resource = read(session, names[0], names[1]).tree()
    if asked.mode == "delete":
        issues = _delete_issues(session, names)
    elif asked.resource is None:
        raise Refusal(
            400,
            "required",
            "Send the resource to validate, bare or as the parameter `resource`.",
            "Parameters.parameter",
        )
    else:
        issues = _issues(asked, asked.resource, names, settings)
    if asked.profile:
        text = "The profile named was not used: only the definitions of R4 and its vital-signs profiles are known."
        issues.append(Issue("not-supported", text, severity="warning"))
    if all(issue.severity == "warning" for issue in issues):
        issues.append(Issue("informational", "Validation found nothing wrong.", severity="information"))
    return Answer(200, msgspec.json.encode(operation_outcome(issues)))


def _read(reading: Reading, settings: FhirStoreSettings) -> _Asked:
    asked = _Asked()
    for name, text in reading.query:
        _set(asked, name, text)
    refuse_modifiers(reading.query, reading.segments[-1])
    if reading.document is not None:
        tree = reading.document.tree
        check_depth(tree, reading.document.text, settings.maximum_depth_levels)
        if tree.get("resourceType") == "Parameters":
            _read_parameters(asked, tree)
        else:
            asked.resource = tree
    if asked.mode not in _MODES:
        raise Refusal(400, "value", "mode must be create, update, delete or profile.", "Parameters.parameter")
    return asked


def _read_parameters(asked: _Asked, tree: Json) -> None:
    parts = tree.get("parameter", [])
    if not isinstance(parts, list):
        raise Refusal(400, "structure", "Parameters.parameter must be an array.", "Parameters.parameter")
    for part in parts:
        if not isinstance(part, dict):
            raise Refusal(400, "structure", "Parameters.parameter holds objects.", "Parameters.parameter")
        refuse_modifiers([(str(part.get("name")), "")], "$validate")
        if part.get("name") == "resource" and isinstance(part.get("resource"), dict):
            asked.resource = part["resource"]
        for member, value in part.items():
            if member.startswith("value") and isinstance(value, str):
                _set(asked, str(part.get("name")), value)


def _set(asked: _Asked, name: str, text: str) -> None:
    if name == "mode":
        asked.mode = text
    elif name == "profile":
        asked.profile = text


def _issues(asked: _Asked, resource: Json, names: list[str], settings: FhirStoreSettings) -> list[Issue]:
    level = settings.validation if settings.validation != "off" else "structure"
    try:
        resource_type = check_resource(resource, wanted_type=names[0] if names else None, level=level)
    except Refusal as refusal:
        return list(refusal.issues)
    path = f"{resource_type}.id"
    if len(names) == 2 and resource.get("id", names[1]) != names[1]:
        return [Issue("invalid", "The body carries another id than the URL.", path)]
    if asked.mode == "update" and "id" not in resource:
        return [Issue("required", "An update needs the id in the body.", path)]
    return []


def _delete_issues(session: Session, names: list[str]) -> list[Issue]:
    if len(names) != 2:
        raise Refusal(400, "required", "To validate a delete, ask Type/id/$validate.", "Parameters.parameter")
    current = find_current(session.connection, session.terms, names[0], names[1])
    if current is None or current.deleted or not session.access.sees(current):
        return [Issue("not-found", "There is nothing to delete.")]
    if names[0] == "AuditEvent":
        return [Issue("business-rule", "An AuditEvent stays as it was written.")]
    return []
