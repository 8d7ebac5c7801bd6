"""The invariants of R4 that the store holds resources to. Pure.

Rules about which elements stand together are tables; rules about values are functions. Left out are the rules that
only warn, and those of types that are not served. Source: the constraints of http://hl7.org/fhir/R4.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from pulseweir.fhir_store.contained import contained_faults
from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.definitions.tables import known_types
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.primitives import Fault

ValueRule = Callable[[Json], Iterator[Fault]]
UCUM = "http://unitsofmeasure.org"
_NAMED_TYPE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?$")
_QUANTITIES = ("Quantity", "SimpleQuantity", "Age", "Count", "Distance", "Duration")


class _Needs(NamedTuple):
    """An element that stands only beside others."""

    key: str
    owner: str
    element: str
    others: tuple[str, ...]
    text: str


class _OneOf(NamedTuple):
    """At least one of some elements must be there; `exactly`: not two."""

    key: str
    owner: str
    elements: tuple[str, ...]
    text: str
    exactly: bool = False


class _Apart(NamedTuple):
    """Two elements that never stand together; the first is named as the one too much."""

    key: str
    owner: str
    elements: tuple[str, str]
    text: str


_NEEDS = (
    *(_Needs("qty-3", each, "code", ("system",), "a coded unit needs its system") for each in _QUANTITIES),
    _Needs("cpt-2", "ContactPoint", "value", ("system",), "a value needs a system"),
    _Needs("att-1", "Attachment", "data", ("contentType",), "data needs a content type"),
    _Needs("rat-1", "Ratio", "numerator", ("denominator",), "a numerator needs a denominator"),
    _Needs("rat-1", "Ratio", "denominator", ("numerator",), "a denominator needs a numerator"),
    _Needs("trd-2", "TriggerDefinition", "condition", ("data",), "a condition needs data"),
    _Needs("tim-9", "Timing.repeat", "offset", ("when",), "an offset needs a when"),
    _Needs("tim-1", "Timing.repeat", "duration", ("durationUnit",), "a duration needs its unit"),
    _Needs("tim-2", "Timing.repeat", "period", ("periodUnit",), "a period needs its unit"),
    _Needs("tim-6", "Timing.repeat", "periodMax", ("period",), "periodMax needs a period"),
    _Needs("tim-7", "Timing.repeat", "durationMax", ("duration",), "durationMax needs a duration"),
    _Needs("tim-8", "Timing.repeat", "countMax", ("count",), "countMax needs a count"),
    _Needs("gol-1", "Goal.target", "detail", ("measure",), "a detail needs a measure"),
    _Needs("prr-1", "ServiceRequest", "orderDetail", ("code",), "an order detail needs a code"),
    _Needs("drt-1", "Duration", "code", ("value",), "a coded unit needs a value"),
)
_ONE_OF = (
    _OneOf("ext-1", "Extension", ("extension", "value"), "either extensions or a value", exactly=True),
    _OneOf("obs-3", "Observation.referenceRange", ("low", "high", "text"), "a low, a high or a text"),
    _OneOf("con-1", "Condition.stage", ("summary", "assessment"), "a summary or an assessment"),
    _OneOf("con-2", "Condition.evidence", ("code", "detail"), "a code or a detail"),
    _OneOf("org-1", "Organization", ("identifier", "name"), "a name or an identifier"),
    _OneOf(
        "pat-1",
        "Patient.contact",
        ("name", "telecom", "address", "organization"),
        "a contact's details or organization",
    ),
    _OneOf("ppc-1", "Consent", ("policy", "policyRule"), "a policy or a policy rule"),
    *(
        _OneOf(key, f"DataRequirement.{part}", ("path", "searchParam"), "a path or a searchParam", exactly=True)
        for key, part in (("drq-1", "codeFilter"), ("drq-2", "dateFilter"))
    ),
    _OneOf("exp-1", "Expression", ("expression", "reference"), "an expression or a reference"),
    _OneOf("bdl-5", "Bundle.entry", ("resource", "request", "response"), "a resource, a request or a response"),
)
_APART = (
    _Apart("obs-6", "Observation", ("dataAbsentReason", "value"), "dataAbsentReason is allowed only without a value"),
    _Apart("sev-1", "AuditEvent.entity", ("query", "name"), "either a name or a query"),
    _Apart("cpl-3", "CarePlan.activity", ("detail", "reference"), "either a reference or a detail"),
    _Apart("tim-10", "Timing.repeat", ("when", "timeOfDay"), "either a time of day or a when"),
    _Apart("trd-1", "TriggerDefinition", ("timing", "data"), "either a timing or data"),
    _Apart("sqty-1", "SimpleQuantity", ("comparator", "comparator"), "a simple quantity has no comparator"),
)


def presence_faults(owner: str, present: set[str]) -> Iterator[Fault]:
    """Faults that the names of an object's elements show; choices count under their common name."""
    for needs in _NEEDS:
        if needs.owner == owner and needs.element in present and not present.issuperset(needs.others):
            yield (needs.element,), "invariant", f"breaks {needs.key}: {needs.text}"
    for one_of in _ONE_OF:
        if one_of.owner == owner:
            count = len(present.intersection(one_of.elements))
            if count == 0 or (count > 1 and one_of.exactly):
                yield (), "invariant", f"breaks {one_of.key}: it must have {one_of.text}"
    for apart in _APART:
        if apart.owner == owner and present.issuperset(apart.elements):
            yield (apart.elements[0],), "invariant", f"breaks {apart.key}: {apart.text}"


@cache
def value_rules(owner: str) -> tuple[tuple[frozenset[str], ValueRule], ...]:
    """(elements that must be there for it to apply, rule) of a type; rules see only objects that are else right."""
    own = tuple((frozenset(needs), rule) for each, needs, rule in _RULES if each == owner)
    general = ((frozenset({"contained"}), contained_faults),) if owner in known_types() else ()
    return own + general


def _broken(key: str, path: tuple[str | int, ...], text: str) -> Fault:
    return path, "invariant", f"breaks {key}: {text}"


def _has_code(concept: Json | None, system: str, codes: tuple[str, ...]) -> bool:
    codings = (concept or {}).get("coding", ())
    return any(coding.get("system") == system and coding.get("code") in codes for coding in codings)


def _period(node: Json) -> Iterator[Fault]:
    start, end = node.get("start"), node.get("end")
    if start and end and date_range(start)[0] >= date_range(end)[1]:
        yield _broken("per-1", ("start",), "a period starts before it ends")


def _range(node: Json) -> Iterator[Fault]:
    low, high = node["low"], node["high"]
    values = (low.get("value"), high.get("value"))
    if None not in values and low.get("code") == high.get("code") and values[0] > values[1]:
        yield _broken("rng-2", ("low",), "low is at most high")


def _duration(node: Json) -> Iterator[Fault]:
    if node["system"] != UCUM:
        yield _broken("drt-1", ("system",), "the unit of a duration is a UCUM unit")


def _measured(key: str) -> ValueRule:
    """What holds of every Age, Count and Distance."""

    def rule(node: Json) -> Iterator[Fault]:
        if "value" in node and "code" not in node:
            yield _broken(key, ("code",), "a value needs a coded unit")
        if node.get("system", UCUM) != UCUM:
            yield _broken(key, ("system",), "the unit is a UCUM unit")

    return rule


def _age(node: Json) -> Iterator[Fault]:
    if node["value"] <= 0:
        yield _broken("age-1", ("value",), "an age is positive")


def _count(node: Json) -> Iterator[Fault]:
    if node.get("code", "1") != "1":
        yield _broken("cnt-3", ("code",), "the unit of a count is 1")
    if "value" in node and node["value"] % 1:
        yield _broken("cnt-3", ("value",), "a count is a whole number")


def _offset(node: Json) -> Iterator[Fault]:
    if not {"C", "CM", "CD", "CV"}.isdisjoint(node["when"]):
        yield _broken("tim-9", ("when",), "an offset needs another when than a meal itself")


def _trigger(node: Json) -> Iterator[Fault]:
    kind = node["type"]
    needed = {"named-event": "name", "periodic": "timing"}.get(kind, "data" if kind.startswith("data-") else "type")
    if not any(name.startswith(needed) for name in node):
        yield _broken("trd-3", (needed,), "its type asks for it")


def _care_team(node: Json) -> Iterator[Fault]:
    inside = {f"#{inner.get('id')}": inner.get("resourceType") for inner in node.get("contained", ())}
    for place, participant in enumerate(node["participant"]):
        member = participant.get("member", {})
        text = member.get("reference", "")
        match = _NAMED_TYPE.search(text)
        kind = inside.get(text) or (match[1] if match else member.get("type", "Practitioner"))
        if "onBehalfOf" in participant and kind in known_types() and kind != "Practitioner":
            path = ("participant", place, "onBehalfOf")
            yield _broken("ctm-1", path, "only a Practitioner is there on behalf of somebody")


def _not_negative(node: Json) -> Iterator[Fault]:
    for key, name in (("tim-4", "duration"), ("tim-5", "period")):
        if (node.get(name) or 0) < 0:
            yield _broken(key, (name,), "it is not negative")


def _observation(node: Json) -> Iterator[Fault]:
    own = _codings(node["code"])
    if own and any(own & _codings(component["code"]) for component in node["component"] if "code" in component):
        yield _broken("obs-7", ("value",), "with a component of the same code there is no value")


def _codings(concept: Json) -> set[tuple[Any, Any]]:
    return {(coding.get("system"), coding.get("code")) for coding in concept.get("coding", ()) if "code" in coding}


def _prediction(node: Json) -> Iterator[Fault]:
    if node.get("probabilityDecimal", 0) > 100:
        yield _broken("ras-2", ("probability",), "a probability is at most 100 percent")
    for name in ("low", "high"):
        quantity = node.get("probabilityRange", {}).get(name)
        if quantity and (quantity.get("system"), quantity.get("code")) != (UCUM, "%"):
            yield _broken("ras-1", ("probability", name), "bounds of a probability are UCUM %")


def _task(node: Json) -> Iterator[Fault]:
    authored, modified = node.get("authoredOn"), node.get("lastModified")
    if authored and modified and date_range(modified)[1] <= date_range(authored)[0]:
        yield _broken("inv-1", ("lastModified",), "it is not before authoredOn")


def _allergy(node: Json) -> Iterator[Fault]:
    system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
    is_error = _has_code(node.get("verificationStatus"), system, ("entered-in-error",))
    if is_error and "clinicalStatus" in node:
        yield _broken("ait-2", ("clinicalStatus",), "an error has no clinical status")
    if not is_error and "clinicalStatus" not in node:
        yield _broken("ait-1", ("clinicalStatus",), "it is required unless entered in error")


def _condition(node: Json) -> Iterator[Fault]:
    status = node.get("clinicalStatus")
    system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    if any(name.startswith("abatement") for name in node) and not _has_code(
        status, system, ("resolved", "remission", "inactive")
    ):
        yield _broken("con-4", ("clinicalStatus",), "an abated condition is inactive, resolved or in remission")
    verification = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
    if status and _has_code(node.get("verificationStatus"), verification, ("entered-in-error",)):
        yield _broken("con-5", ("clinicalStatus",), "an error has no clinical status")


def _group(node: Json) -> Iterator[Fault]:
    if node["actual"] is not True:
        yield _broken("grp-1", ("member",), "only an actual group has members")


def _organization(node: Json) -> Iterator[Fault]:
    for key, name in (("org-2", "address"), ("org-3", "telecom")):
        for place, item in enumerate(node.get(name, ())):
            if item.get("use") == "home":
                yield _broken(key, (name, place, "use"), "an organization has no home")


def _bundle(node: Json) -> Iterator[Fault]:
    kind = node["type"]
    if "total" in node and kind not in {"searchset", "history"}:
        yield _broken("bdl-1", ("total",), "only a search or a history has a total")
    requested = {"batch", "transaction", "history"}
    answered = {"batch-response", "transaction-response", "history"}
    for place, entry in enumerate(node.get("entry", ())):
        path = ("entry", place)
        if "search" in entry and kind != "searchset":
            yield _broken("bdl-2", (*path, "search"), "only a search has it")
        if ("request" in entry) != (kind in requested):
            yield _broken("bdl-3", (*path, "request"), "batch, transaction and history have it, others not")
        if ("response" in entry) != (kind in answered):
            yield _broken("bdl-4", (*path, "response"), "responses and history have it, others not")
        if "/_history/" in entry.get("fullUrl", ""):
            yield _broken("bdl-8", (*path, "fullUrl"), "it names no version")
    if kind != "history":
        yield from _repeated_urls(node)
    if kind in {"document", "message"}:
        yield from _document(node)


def _repeated_urls(node: Json) -> Iterator[Fault]:
    seen = set()
    for place, entry in enumerate(node.get("entry", ())):
        if "fullUrl" in entry:
            version = entry.get("resource", {}).get("meta", {}).get("versionId")
            if (entry["fullUrl"], version) in seen:
                yield _broken("bdl-7", ("entry", place, "fullUrl"), "two entries have it")
            seen.add((entry["fullUrl"], version))


def _document(node: Json) -> Iterator[Fault]:
    first = (node.get("entry") or [{}])[0].get("resource", {}).get("resourceType")
    if node["type"] == "message":
        if first != "MessageHeader":
            yield _broken("bdl-12", ("entry",), "a message starts with a MessageHeader")
        return
    if not node.get("identifier", {}).keys() >= {"system", "value"}:
        yield _broken("bdl-9", ("identifier",), "a document has an identifier with system and value")
    if "timestamp" not in node:
        yield _broken("bdl-10", ("timestamp",), "a document has a date")
    if first != "Composition":
        yield _broken("bdl-11", ("entry",), "a document starts with a Composition")


_RULES: tuple[tuple[str, tuple[str, ...], ValueRule], ...] = (
    ("Period", ("start", "end"), _period),
    ("Range", ("low", "high"), _range),
    ("Duration", ("code", "system"), _duration),
    ("Age", (), _measured("age-1")),
    ("Age", ("value",), _age),
    ("Count", (), _measured("cnt-3")),
    ("Count", (), _count),
    ("Distance", (), _measured("dis-1")),
    ("Timing.repeat", (), _not_negative),
    ("Timing.repeat", ("offset", "when"), _offset),
    ("TriggerDefinition", ("type",), _trigger),
    ("CareTeam", ("participant",), _care_team),
    ("Observation", ("value", "component", "code"), _observation),
    ("RiskAssessment.prediction", ("probability",), _prediction),
    ("Task", ("authoredOn", "lastModified"), _task),
    ("AllergyIntolerance", (), _allergy),
    ("Condition", (), _condition),
    ("Group", ("member", "actual"), _group),
    ("Organization", (), _organization),
    ("Bundle", ("type",), _bundle),
)
