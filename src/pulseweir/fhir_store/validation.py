"""Whether a resource may be stored: structure, required codes, a few invariants. Pure."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.indexing import tokens
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.structure import ID_FORM, date_elements, resource_schema

_ID = re.compile(ID_FORM.removesuffix("$"), re.ASCII)
_ISSUE_LIMIT = 10
_UCUM = "http://unitsofmeasure.org"
_CODE_OF_RULE = {"Required": "required", "Enum": "code-invalid", "Type": "structure", "MinItems": "required"}


def is_resource_id(text: object) -> bool:
    """Whether a text may be the logical id of a resource."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def check_type(resource_type: object) -> str:
    """The type, if this store serves it.

    Raises:
        Refusal: 404 for a type that is unknown or not served.
    """
    if resource_type not in RESOURCE_TYPES:
        raise Refusal(404, "not-supported", "This server does not serve that resource type; see /metadata.")
    return str(resource_type)


def check_resource(tree: Json, *, wanted_type: str | None = None, structure: bool = True) -> str:
    """Check a resource that somebody wants stored; returns its type.

    Raises:
        Refusal: 400 without a known or with the wrong resourceType or a malformed id, 422 when the resource breaks
            its definition; every issue names its element.
    """
    resource_type = tree.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in RESOURCE_TYPES:
        raise Refusal(400, "structure", "resourceType is missing or not served; see /metadata.", "resourceType")
    if wanted_type is not None and resource_type != wanted_type:
        raise Refusal(400, "invalid", f"The URL says {wanted_type}, the body {resource_type}.", "resourceType")
    if "id" in tree and not is_resource_id(tree["id"]):
        text = "An id is 1 to 64 characters of A-Z a-z 0-9 - and ."
        raise Refusal(400, "value", text, f"{resource_type}.id")
    if not isinstance(tree.get("meta", {}), dict):
        raise Refusal(400, "structure", f"{resource_type}.meta must be an object.", f"{resource_type}.meta")
    if structure:
        issues = _structure_issues(resource_type, tree) or _rule_issues(resource_type, tree)
        if issues:
            raise Refusal(422, issues[0].code, issues[0].text, issues=issues)
    return resource_type


@cache
def _validator(resource_type: str) -> Any:
    return jsonschema_rs.validator_for(resource_schema(resource_type))


def _structure_issues(resource_type: str, tree: Json) -> list[Issue]:
    validator = _validator(resource_type)
    if validator.is_valid(tree):
        return []
    issues = []
    for error in validator.iter_errors(tree):
        issues.append(_schema_issue(resource_type, error))
        if len(issues) == _ISSUE_LIMIT:
            break
    return issues


def _schema_issue(resource_type: str, error: Any) -> Issue:
    """An issue that names element and rule, never the value: messages travel further than bodies."""
    rule = type(error.kind).__name__.rpartition("_")[2]
    path = expression(resource_type, error.instance_path)
    if rule == "Required":
        path = f"{path}.{error.kind.property}"
        return Issue("required", f"{path} is required.", path)
    sentence = {
        "Enum": "is not a code of its required value set",
        "Type": "has the wrong JSON type",
        "Pattern": "does not have the form of its data type",
        "MinLength": "must not be empty",
        "MinItems": "must not be an empty list",
        "MinProperties": "must not be an empty object",
    }.get(rule, "breaks the definition of its type")
    return Issue(_CODE_OF_RULE.get(rule, "value"), f"{path} {sentence}.", path)


def expression(resource_type: str, path: list[str | int]) -> str:
    """A JSON path as FHIRPath.

    >>> expression("Patient", ["name", 0, "given"])
    'Patient.name[0].given'
    """
    return resource_type + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _rule_issues(resource_type: str, tree: Json) -> list[Issue]:
    rules = _RULES.get(resource_type, ())
    return [issue for rule in (*rules, _dates_exist) for issue in rule(tree)][:_ISSUE_LIMIT]


def _dates_exist(tree: Json) -> Iterator[Issue]:
    """Dates of the first level and of its periods that no calendar has, such as 30 February."""
    for name, kind in date_elements(tree["resourceType"]):
        value = tree.get(name)
        if value is None:
            continue
        if kind == "Period":
            for part in ("start", "end"):
                yield from _date_issue(tree, f"{name}.{part}", value.get(part))
        else:
            yield from _date_issue(tree, name, value)


def _date_issue(tree: Json, name: str, value: object) -> Iterator[Issue]:
    if not isinstance(value, str):
        return
    try:
        date_range(value)
    except ValueError:
        path = f"{tree['resourceType']}.{name}"
        yield Issue("value", f"{path} is no date of the calendar.", path)


def _value_names(element: Json) -> list[str]:
    return [name for name in element if name.startswith("value") and name != "value"]


def _observation_rules(tree: Json) -> Iterator[Issue]:
    values = _value_names(tree)
    if len(values) > 1:
        yield Issue("structure", "Observation.value[x] appears more than once.", "Observation.value")
    if values and "dataAbsentReason" in tree:
        text = "obs-6: dataAbsentReason is allowed only without a value."
        yield Issue("invariant", text, "Observation.dataAbsentReason")
    effective = [name for name in tree if name.startswith("effective")]
    if len(effective) > 1:
        yield Issue("structure", "Observation.effective[x] appears more than once.", "Observation.effective")
    components = tree.get("component")
    if components:
        own = set(tokens(tree["code"]))
        if values and any(own & set(tokens(component["code"])) for component in components):
            text = "obs-7: with a component of the same code there must be no value."
            yield Issue("invariant", text, "Observation.value")


def _risk_rules(tree: Json) -> Iterator[Issue]:
    for place, prediction in enumerate(tree.get("prediction", ())):
        path = f"RiskAssessment.prediction[{place}]"
        if prediction.get("probabilityDecimal", 0) > 100:
            yield Issue("invariant", "ras-2: a probability is at most 100 percent.", f"{path}.probabilityDecimal")
        bounds = prediction.get("probabilityRange", {})
        for name in ("low", "high"):
            quantity = bounds.get(name)
            if quantity and (quantity.get("system"), quantity.get("code")) != (_UCUM, "%"):
                yield Issue(
                    "invariant", "ras-1: bounds of a probability are UCUM %.", f"{path}.probabilityRange.{name}"
                )


_RULES: dict[str, tuple[Callable[[Json], Iterator[Issue]], ...]] = {
    "Observation": (_observation_rules,),
    "RiskAssessment": (_risk_rules,),
}
