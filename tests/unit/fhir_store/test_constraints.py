"""Every constraint of severity error that R4 has for the types served: kept, shown by what breaks it, or why not."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pulseweir.fhir_store.definitions.tables import is_complex, served_types
from pulseweir.fhir_store.narrative import XHTML, narrative_fault
from pulseweir.fhir_store.validation import resource_issues

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
PATIENT = {"reference": "Patient/1"}
CODE = {"text": "x"}
INSIDE = {"resourceType": "Practitioner", "id": "x"}
LINK = {"url": "http://example.org/l", "valueReference": {"reference": "#y"}}
TERMS = "http://terminology.hl7.org/CodeSystem"


def patient(**members: Any) -> Json:
    return {"resourceType": "Patient", **members}


def extended(**value: Any) -> Json:
    return patient(extension=[{"url": "http://example.org/e", **value}])


def timed(**repeat: Any) -> Json:
    return extended(valueTiming={"repeat": repeat})


def bundle(kind: str, *entries: Json, **members: Any) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **members}


def observation(**members: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "a"}]}, **members}


def condition(**members: Any) -> Json:
    return {"resourceType": "Condition", "subject": PATIENT, **members}


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": f"{TERMS}/{system}", "code": code}]}


def prediction(**members: Any) -> Json:
    return {"resourceType": "RiskAssessment", "status": "final", "subject": PATIENT, "prediction": [members]}


def team(member: Json, *contained: Json) -> Json:
    participant = {"member": member, "onBehalfOf": {"reference": "Organization/1"}}
    return {"resourceType": "CareTeam", "participant": [participant]} | (
        {"contained": [*contained]} if contained else {}
    )


ERROR = concept("allergyintolerance-verification", "entered-in-error")
ALLERGY = {"resourceType": "AllergyIntolerance", "patient": PATIENT}
COMPOSITION = {
    "resourceType": "Composition",
    "status": "final",
    "type": CODE,
    "date": "2024",
    "author": [PATIENT],
    "title": "x",
}
ENTRY = {"fullUrl": "urn:uuid:1", "resource": patient()}
DOCUMENT = {"identifier": {"system": "u:s", "value": "v"}, "timestamp": "2024-01-01T00:00:00Z"}
REQUEST = {"method": "GET", "url": "Patient"}
AUDIT = {
    "resourceType": "AuditEvent",
    "type": {"code": "rest"},
    "recorded": "2024-01-01T00:00:00Z",
    "agent": [{"requestor": True}],
    "source": {"observer": PATIENT},
}
BREAKS: dict[str, list[Json]] = {
    "age-1": [
        condition(onsetAge={"value": 3, "system": UCUM}),
        condition(onsetAge={"value": 3, "system": "u:x", "code": "a"}),
        condition(onsetAge={"value": 0, "system": UCUM, "code": "a"}),
    ],
    "ait-1": [ALLERGY],
    "ait-2": [
        ALLERGY | {"clinicalStatus": concept("allergyintolerance-clinical", "active"), "verificationStatus": ERROR}
    ],
    "att-1": [patient(photo=[{"data": "QUJD"}])],
    "bdl-1": [bundle("collection", ENTRY, total=1)],
    "bdl-2": [bundle("collection", ENTRY | {"search": {"mode": "match"}})],
    "bdl-3": [bundle("batch", ENTRY), bundle("collection", ENTRY | {"request": REQUEST})],
    "bdl-4": [bundle("batch-response", ENTRY), bundle("collection", ENTRY | {"response": {"status": "200"}})],
    "bdl-5": [bundle("collection", {"fullUrl": "urn:uuid:1"})],
    "bdl-7": [bundle("collection", ENTRY, ENTRY)],
    "bdl-8": [bundle("collection", ENTRY | {"fullUrl": "http://x.test/Patient/1/_history/1"})],
    "bdl-9": [bundle("document", {"resource": COMPOSITION}, timestamp="2024-01-01T00:00:00Z")],
    "bdl-10": [bundle("document", {"resource": COMPOSITION}, identifier=DOCUMENT["identifier"])],
    "bdl-11": [bundle("document", ENTRY, **DOCUMENT), {"resourceType": "Bundle", "type": "document", **DOCUMENT}],
    "bdl-12": [bundle("message", ENTRY)],
    "cnt-3": [
        extended(valueCount={"value": 3, "system": UCUM}),
        extended(valueCount={"value": 3, "system": UCUM, "code": "kg"}),
        extended(valueCount={"value": 3, "system": "u:x", "code": "1"}),
        extended(valueCount={"value": 2.5, "system": UCUM, "code": "1"}),
    ],
    "con-1": [condition(stage=[{"type": CODE}])],
    "con-2": [condition(evidence=[{"extension": [{"url": "u:x", "valueCode": "x"}]}])],
    "con-4": [
        condition(abatementString="x"),
        condition(abatementString="x", clinicalStatus=concept("condition-clinical", "active")),
    ],
    "con-5": [
        condition(
            clinicalStatus=concept("condition-clinical", "active"),
            verificationStatus=concept("condition-ver-status", "entered-in-error"),
        )
    ],
    "cpl-3": [
        {
            "resourceType": "CarePlan",
            "status": "draft",
            "intent": "plan",
            "subject": PATIENT,
            "activity": [{"reference": {"reference": "Task/1"}, "detail": {"status": "unknown"}}],
        }
    ],
    "cpt-2": [patient(telecom=[{"value": "1"}])],
    "ctm-1": [
        team({"reference": "Organization/2"}),
        team({"reference": "https://a.test/fhir/Patient/1/_history/2"}),
        team({"reference": "#x"}, {"resourceType": "Patient", "id": "x"}),
        team({"type": "Patient", "identifier": {"value": "x"}}),
    ],
    "dis-1": [extended(valueDistance={"value": 3}), extended(valueDistance={"value": 3, "system": "u:x", "code": "m"})],
    "dom-2": [
        patient(
            contained=[INSIDE | {"contained": [INSIDE | {"id": "y"}], "extension": [LINK]}],
            generalPractitioner=[{"reference": "#x"}],
        )
    ],
    "dom-3": [patient(contained=[INSIDE])],
    "dom-4": [patient(contained=[INSIDE | {"meta": {"versionId": "1"}}], generalPractitioner=[{"reference": "#x"}])],
    "dom-5": [
        patient(contained=[INSIDE | {"meta": {"security": [{"code": "R"}]}}], generalPractitioner=[{"reference": "#x"}])
    ],
    "drq-1": [extended(valueDataRequirement={"type": "Patient", "codeFilter": [{"code": [{"code": "x"}]}]})],
    "drq-2": [
        extended(valueDataRequirement={"type": "Patient", "dateFilter": [{"path": "x", "searchParam": "y"}]}),
    ],
    "drt-1": [
        extended(valueDuration={"value": 3, "system": "u:x", "code": "h"}),
        extended(valueDuration={"system": UCUM, "code": "h"}),
    ],
    "exp-1": [extended(valueExpression={"language": "text/fhirpath"})],
    "ext-1": [extended(), extended(valueCode="x", extension=[{"url": "u:x", "valueCode": "x"}])],
    "gol-1": [
        {
            "resourceType": "Goal",
            "lifecycleStatus": "active",
            "description": CODE,
            "subject": PATIENT,
            "target": [{"detailString": "x"}],
        }
    ],
    "grp-1": [{"resourceType": "Group", "type": "person", "actual": False, "member": [{"entity": PATIENT}]}],
    "inv-1": [
        {
            "resourceType": "Task",
            "status": "draft",
            "intent": "order",
            "authoredOn": "2024-02-02",
            "lastModified": "2024-02-01",
        }
    ],
    "obs-3": [observation(referenceRange=[{"type": CODE}])],
    "obs-6": [observation(valueString="x", dataAbsentReason=CODE)],
    "obs-7": [observation(valueString="x", component=[{"code": {"coding": [{"code": "a"}]}}])],
    "org-1": [{"resourceType": "Organization", "active": True}],
    "org-2": [{"resourceType": "Organization", "name": "x", "address": [{"use": "home", "city": "x"}]}],
    "org-3": [
        {"resourceType": "Organization", "name": "x", "telecom": [{"use": "home", "system": "phone", "value": "1"}]}
    ],
    "pat-1": [patient(contact=[{"gender": "male"}])],
    "per-1": [extended(valuePeriod={"start": "2024-02", "end": "2024-01"})],
    "ppc-1": [{"resourceType": "Consent", "status": "draft", "scope": CODE, "category": [CODE]}],
    "prr-1": [
        {
            "resourceType": "ServiceRequest",
            "status": "draft",
            "intent": "order",
            "subject": PATIENT,
            "orderDetail": [CODE],
        }
    ],
    "qty-3": [observation(valueQuantity={"value": 1, "code": "kg"}), condition(onsetAge={"value": 1, "code": "a"})],
    "ras-1": [
        prediction(probabilityRange={"low": {"value": 1}}),
        prediction(probabilityRange={"high": {"value": 1, "system": "u:x", "code": "%"}}),
    ],
    "ras-2": [prediction(probabilityDecimal=100.1)],
    "rat-1": [
        observation(valueRatio={"numerator": {"value": 1}}),
        observation(valueRatio={"denominator": {"value": 1}}),
    ],
    "ref-1": [
        patient(generalPractitioner=[{"reference": "#y"}]),
        patient(generalPractitioner=[{"reference": "#y"}, {"reference": "#x"}], contained=[INSIDE]),
        bundle("collection", {"resource": patient(generalPractitioner=[{"reference": "#y"}])}),
    ],
    "rng-2": [observation(valueRange={"low": {"value": 2}, "high": {"value": 1}})],
    "sev-1": [AUDIT | {"entity": [{"name": "x", "query": "QUJD"}]}],
    "sqty-1": [observation(referenceRange=[{"low": {"value": 1, "comparator": "<"}}])],
    "tim-1": [timed(duration=1)],
    "tim-2": [timed(period=1)],
    "tim-4": [timed(duration=-1, durationUnit="h")],
    "tim-5": [timed(period=-1, periodUnit="h")],
    "tim-6": [timed(periodMax=1)],
    "tim-7": [timed(durationMax=1)],
    "tim-8": [timed(countMax=1)],
    "tim-9": [timed(offset=5), timed(offset=5, when=["CM"])],
    "tim-10": [timed(when=["AC"], timeOfDay=["10:00:00"])],
    "trd-1": [
        extended(valueTriggerDefinition={"type": "periodic", "timingDate": "2024", "data": [{"type": "Patient"}]})
    ],
    "trd-2": [
        extended(
            valueTriggerDefinition={
                "type": "named-event",
                "name": "x",
                "condition": {"language": "x", "expression": "y"},
            }
        )
    ],
    "trd-3": [
        extended(valueTriggerDefinition={"type": "named-event"}),
        extended(valueTriggerDefinition={"type": "periodic", "name": "x"}),
        extended(valueTriggerDefinition={"type": "data-added", "name": "x"}),
    ],
    "txt-1": [patient(text={"status": "generated", "div": f'<div xmlns="{XHTML}"><form>x</form></div>'})],
    "txt-2": [patient(text={"status": "generated", "div": f'<div xmlns="{XHTML}"> <p/> </div>'})],
}
"""By the key of a constraint: resources that break it, and nothing else."""
UNREACHED = "belongs to ElementDefinition, which only conformance resources have, and these are not served"
NOT_KEPT = {
    "ele-1": "an empty element is a fault of structure, and named as one",
    **{
        f"ppc-{number}": "R4 compares the system with the literal text 'something', which no real Consent carries"
        for number in (2, 3, 4, 5)
    },
    **{f"eld-{number}": UNREACHED for number in (*range(1, 9), *range(11, 20), 22)},
}
"""By the key of a constraint: why nothing looks for it under that name."""


@pytest.mark.parametrize("key", BREAKS)
def test_a_resource_that_breaks_a_constraint_is_told_which(key: str) -> None:
    for tree in BREAKS[key]:
        issues = resource_issues(tree)

        assert [issue for issue in issues if f"breaks {key}:" in issue.text], (tree, issues)
        assert len(issues) == 1, issues
        assert issues[0].code == "invariant"


@pytest.mark.parametrize(
    "tree",
    [
        condition(onsetAge={"value": 3, "system": UCUM, "code": "a"}),
        extended(valueCount={"value": 3.0, "system": UCUM, "code": "1"}),
        extended(valueTriggerDefinition={"type": "data-added", "data": [{"type": "Patient"}]}),
        observation(valueRatio={"extension": [{"url": "u:x", "valueCode": "x"}]}),
        timed(offset=5, when=["AC"]),
        team({"reference": "Practitioner/2"}),
        team({"reference": "urn:uuid:6e5f0c5e-8f3c-4a5e-9a39-1f2bb6b3f6a1"}),
        team({"identifier": {"value": "x"}}),
        team({"reference": "#x"}, INSIDE),
        patient(contained=[INSIDE | {"extension": [{"url": "u:x", "valueReference": {"reference": "#"}}]}]),
        extended(valueExpression={"language": "text/cql", "reference": "#y"}),
        bundle("collection", {"resource": patient(generalPractitioner=[{"reference": "#x"}], contained=[INSIDE])}),
    ],
)
def test_a_resource_that_comes_close_is_taken(tree: Json) -> None:
    assert resource_issues(tree) == []


def test_a_link_is_looked_for_where_texts_are_known_too() -> None:
    tree = patient(generalPractitioner=[{"reference": "#y"}])

    for text in (b'[{"reference":"#y"}]', b'[{"reference":"\\u0023y"}]'):
        issues = resource_issues(tree, texts=[b'"Patient"', text])
        assert [issue.expression for issue in issues] == ["Patient.generalPractitioner[0].reference"]


@pytest.mark.parametrize(
    "within",
    [
        '<p onclick="x">y</p>',
        '<a href=" java&#x9;script:x">y</a>',
        '<a href="data:text/html,x">y</a>',
        '<p style="width: exp/* */ression(x)">y</p>',
        '<p style="x: url( javascript:x )">y</p>',
        "<svg/>y",
        '<p xmlns="http://www.w3.org/1998/Math/MathML">y</p>',
        "<?x y?>z",
        '<iframe src="x"/>y',
        '<img src="vbscript:x"/>',
        "&nbsp;y",
        "<b>y",
        "</div><div>y",
        "\ud7ff<script>y</script>",
    ],
)
def test_a_narrative_holds_nothing_that_runs(within: str) -> None:
    assert narrative_fault(f'<div xmlns="{XHTML}">{within}</div>')


@pytest.mark.parametrize(
    "within",
    [
        '<a href="https://example.org/x?y=1&amp;z=2" title="x">y</a>',
        '<a name="x"/>y',
        '<p style="color: red" class="x" id="y" xml:lang="en" lang="en">y</p>',
        '<table border="1"><tr><td colspan="2" nowrap="nowrap">y</td></tr></table>',
        '<img src="data:image/png;base64,QUJD" alt="x"/>',
        '<img src="#x"/>',
        "&lt;script&gt; &#160; y <!-- z -->",
    ],
)
def test_a_narrative_may_be_formatted(within: str) -> None:
    assert narrative_fault(f'<div xmlns="{XHTML}">{within}</div>') is None
    assert narrative_fault(f"<div>{within}</div>") is None


def test_a_narrative_without_a_sound_div_is_refused() -> None:
    bombs = [
        f'<!DOCTYPE x [<!ENTITY a "{"b" * 50}">]><div>&a;</div>',
        "<div><!DOCTYPE x []>y</div>",
        "<p>x</p>",
        "x",
        "",
    ]

    assert all(map(narrative_fault, bombs))
    assert narrative_fault("<div>" * 100_000) is not None


def test_every_constraint_of_the_definitions_is_accounted_for(r4_package: Path) -> None:
    wanted: dict[str, set[str]] = {}
    with tarfile.open(r4_package) as package:
        for member in package:
            name = member.name.rpartition("/")[2]
            file = package.extractfile(member) if name.startswith("StructureDefinition-") else None
            definition: Json = json.load(file) if file else {}
            type_name = definition.get("id", "")
            is_ours = type_name in served_types() or type_name in {"SimpleQuantity", "DomainResource"}
            if is_ours or (definition.get("kind") == "complex-type" and is_complex(type_name)):
                for element in definition["snapshot"]["element"]:
                    for constraint in element.get("constraint", []):
                        if constraint["severity"] == "error":
                            wanted.setdefault(constraint["key"], set()).add(element["path"])

    assert len(wanted) > 80
    assert set(wanted) == {*BREAKS, *NOT_KEPT}
    assert BREAKS.keys().isdisjoint(NOT_KEPT)
