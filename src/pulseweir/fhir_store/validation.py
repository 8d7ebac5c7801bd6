"""Whether a resource may be stored: structure, codes, references, invariants, the vital-signs profiles. Pure."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pulseweir.fhir_store.contained import lost_links, may_link
from pulseweir.fhir_store.definitions.tables import known_types, served_types
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal
from pulseweir.fhir_store.primitives import Fault
from pulseweir.fhir_store.shapes import check_resource_shape
from pulseweir.fhir_store.vital_signs import vital_sign_faults

Level = Literal["off", "structure", "strict"]
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_ISSUE_LIMIT = 50


def is_resource_id(text: object) -> bool:
    """Whether a text may be the logical id of a resource."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def check_id(text: str) -> str:
    """The logical id out of a URL.

    Raises:
        Refusal: 400 for a text that no resource can have as its id.
    """
    if _ID.fullmatch(text) is None:
        raise Refusal(400, "value", "An id is 1 to 64 characters of A-Z a-z 0-9 - and .", "Resource.id")
    return text


def check_type(resource_type: object) -> str:
    """The type, if this store serves it.

    Raises:
        Refusal: 404 for a type that is unknown or not served.
    """
    if resource_type not in served_types():
        raise Refusal(404, "not-supported", "This server does not serve that resource type; see /metadata.")
    return str(resource_type)


def check_resource(
    tree: Json, *, wanted_type: str | None = None, level: Level = "structure", texts: Iterable[bytes] = ()
) -> str:
    """Check a resource that somebody wants stored; returns its type.

    Whether its references lead anywhere is not asked here; see `references.check_references`.

    Args:
        tree: The decoded resource.
        wanted_type: The type that it must have; None for any.
        level: How closely to look.
        texts: Those of its members, in order, where they are known: what is known to be right is not checked again.

    Raises:
        Refusal: 400 without a known or with the wrong resourceType or a malformed id, 422 when the resource breaks
            its definition; every issue names its element.
    """
    resource_type = tree.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in served_types():
        raise Refusal(400, "structure", "resourceType is missing or not served; see /metadata.", "resourceType")
    if wanted_type is not None and resource_type != wanted_type:
        raise Refusal(400, "invalid", f"The URL says {wanted_type}, the body {resource_type}.", "resourceType")
    if "id" in tree and not is_resource_id(tree["id"]):
        text = "An id is 1 to 64 characters of A-Z a-z 0-9 - and ."
        raise Refusal(400, "value", text, f"{resource_type}.id")
    if not isinstance(tree.get("meta", {}), dict):
        raise Refusal(400, "structure", f"{resource_type}.meta must be an object.", f"{resource_type}.meta")
    if level != "off":
        issues = resource_issues(tree, level=level, texts=texts)
        if issues:
            raise Refusal(422, issues[0].code, issues[0].text, issues=issues)
    return resource_type


def resource_issues(tree: Json, *, level: Level = "structure", texts: Iterable[bytes] = ()) -> list[Issue]:
    """All that is wrong with a resource of any R4 type, at most fifty things; none names a value."""
    faults = check_resource_shape(tree, texts)
    if not faults and (not texts or any(map(may_link, texts))):
        faults = [*lost_links(tree)]
    if not faults and tree["resourceType"] == "Observation":
        faults = [*vital_sign_faults(tree, strict=level == "strict")]
    if not faults:
        return []
    root = tree.get("resourceType")
    shown = root if isinstance(root, str) and root in known_types() else "Resource"
    return [_issue(shown, fault) for fault in faults[:_ISSUE_LIMIT]]


def _issue(resource_type: str, fault: Fault) -> Issue:
    path, code, text = fault
    place = expression(resource_type, path)
    return Issue(code, f"{place} {text}.", place)


def expression(resource_type: str, path: tuple[str | int, ...] | list[Any]) -> str:
    """A path of element names and positions as FHIRPath; a choice goes by its common name.

    >>> expression("Patient", ("name", 0, "given"))
    'Patient.name[0].given'
    """
    return resource_type + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
