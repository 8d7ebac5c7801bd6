"""Twenty Observations, four right and sixteen wrong in one way each: all judged rightly, each fault at its place."""

import copy
from typing import Any

import pytest

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.validation import check_resource, resource_issues

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
PROFILE = "http://hl7.org/fhir/StructureDefinition/heartrate"


def coded(code: str, system: str = LOINC) -> Json:
    return {"coding": [{"system": system, "code": code}]}


VITAL = coded("vital-signs", "http://terminology.hl7.org/CodeSystem/observation-category")


def quantity(value: float, code: str) -> Json:
    return {"value": value, "unit": code, "system": UCUM, "code": code}


HEART_RATE: Json = {
    "resourceType": "Observation",
    "id": "hr",
    "meta": {"profile": [PROFILE]},
    "status": "final",
    "category": [VITAL],
    "code": coded("8867-4"),
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2024-02-29T10:00:00Z",
    "valueQuantity": quantity(72, "/min"),
}
BLOOD_PRESSURE: Json = {
    "resourceType": "Observation",
    "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]},
    "status": "final",
    "category": [VITAL],
    "code": coded("85354-9"),
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "0001-01-01",
    "component": [
        {"code": coded("8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
        {"code": coded("8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
    ],
}
EXTENDED: Json = HEART_RATE | {
    "_status": {"extension": [{"url": "http://example.org/why", "valueString": "checked"}]},
    "extension": [{"url": "http://example.org/own", "extension": [{"url": "part", "valueDecimal": 1.50}]}],
}
CONTAINED: Json = HEART_RATE | {
    "subject": {"reference": "#p"},
    "contained": [{"resourceType": "Patient", "id": "p", "birthDate": "1980-02", "_birthDate": {"id": "a"}}],
}


def changed(base: Json, **members: Any) -> Json:
    tree = copy.deepcopy(base) | members
    return {name: value for name, value in tree.items() if value is not None}


WRONG: dict[str, tuple[Json, str, str]] = {
    "no status": (changed(HEART_RATE, status=None), "required", "Observation.status"),
    "no code": (changed(HEART_RATE, code=None), "required", "Observation.code"),
    "status of another set": (changed(HEART_RATE, status="bogus"), "code-invalid", "Observation.status"),
    "odd id": (changed(HEART_RATE, id="a_b"), "value", "Observation.id"),
    "unknown element": (changed(HEART_RATE, colour="red"), "structure", "Observation.colour"),
    "number as text": (
        changed(HEART_RATE, valueQuantity=quantity(72, "/min") | {"value": "72"}),
        "structure",
        "Observation.value.value",
    ),
    "two values": (changed(HEART_RATE, valueString="72"), "structure", "Observation.value"),
    "empty array": (changed(HEART_RATE, category=[]), "structure", "Observation.category"),
    "time without zone": (
        changed(HEART_RATE, effectiveDateTime="2024-02-29T10:00:00"),
        "value",
        "Observation.effective",
    ),
    "no such day": (changed(HEART_RATE, effectiveDateTime="2023-02-30"), "value", "Observation.effective"),
    "wrong reference target": (
        changed(HEART_RATE, subject={"reference": "Organization/o1"}),
        "value",
        "Observation.subject.reference",
    ),
    "object instead of list": (changed(HEART_RATE, category=VITAL), "structure", "Observation.category"),
    "obs-6": (changed(HEART_RATE, dataAbsentReason=coded("x")), "invariant", "Observation.dataAbsentReason"),
    "obs-7": (
        changed(HEART_RATE, component=[{"code": coded("8867-4"), "valueQuantity": quantity(1, "/min")}]),
        "invariant",
        "Observation.value",
    ),
    "profile without category": (changed(HEART_RATE, category=None), "required", "Observation.category"),
    "unit that is no UCUM code": (
        changed(HEART_RATE, valueQuantity=quantity(72, "bpm")),
        "code-invalid",
        "Observation.value.code",
    ),
}


@pytest.mark.parametrize(
    "tree", [HEART_RATE, BLOOD_PRESSURE, EXTENDED, CONTAINED], ids=["hr", "bp", "extended", "inside"]
)
def test_right_ones_are_taken(tree: Json) -> None:
    assert check_resource(tree) == "Observation"


@pytest.mark.parametrize(("tree", "code", "place"), WRONG.values(), ids=WRONG)
def test_wrong_ones_are_refused_at_their_place(tree: Json, code: str, place: str) -> None:
    with pytest.raises(Refusal) as raised:
        check_resource(tree)

    assert [(issue.code, issue.expression) for issue in raised.value.issues] == [(code, place)]


def test_all_faults_are_named_at_once() -> None:
    tree = changed(HEART_RATE, status="bogus", colour="red", effectiveDateTime="soon", category=[])

    places = {issue.expression for issue in resource_issues(tree)}

    assert places == {
        "Observation.status",
        "Observation.colour",
        "Observation.effective",
        "Observation.category",
    }


VITAL_FAULTS: list[tuple[Json, str]] = [
    (changed(HEART_RATE, subject=None), "Observation.subject"),
    (changed(HEART_RATE, effectiveDateTime=None), "Observation.effective"),
    (changed(HEART_RATE, effectiveDateTime="2024-02"), "Observation.effective"),
    (changed(HEART_RATE, valueQuantity=None), "Observation.value"),
    (changed(HEART_RATE, valueQuantity=None, valueString="72"), "Observation.value"),
    (changed(HEART_RATE, code=coded("9279-1")), "Observation.code"),
    (changed(HEART_RATE, valueQuantity={"value": 72, "unit": "bpm"}), "Observation.value.system"),
    (changed(BLOOD_PRESSURE, component=BLOOD_PRESSURE["component"][:1]), "Observation.component"),
    (
        changed(BLOOD_PRESSURE, component=[*BLOOD_PRESSURE["component"], {"code": coded("8478-0")}]),
        "Observation.component[2]",
    ),
    (
        changed(
            BLOOD_PRESSURE,
            component=[BLOOD_PRESSURE["component"][0], {"code": coded("8462-4"), "valueQuantity": quantity(8, "kPa")}],
        ),
        "Observation.component[1].value.code",
    ),
]


@pytest.mark.parametrize(("tree", "place"), VITAL_FAULTS, ids=[str(n) for n in range(len(VITAL_FAULTS))])
def test_a_claimed_vital_sign_profile_is_held(tree: Json, place: str) -> None:
    assert place in [issue.expression for issue in resource_issues(tree)]


def test_the_category_alone_asks_for_less() -> None:
    plain = changed(HEART_RATE, meta=None, effectiveDateTime=None, valueQuantity={"value": 72, "unit": "bpm"})

    assert resource_issues(plain) == []
    assert "Observation.value.code" in [
        issue.expression for issue in resource_issues(changed(plain, valueQuantity=quantity(72, "mm[Hg]")))
    ]
    assert len(resource_issues(plain, level="strict")) == 2


def test_strict_holds_a_vital_signs_code_to_its_profile() -> None:
    plain = changed(HEART_RATE, meta=None, category=None)

    assert resource_issues(plain) == []
    assert [issue.expression for issue in resource_issues(plain, level="strict")] == ["Observation.category"]
