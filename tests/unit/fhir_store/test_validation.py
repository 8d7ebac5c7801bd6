"""Which resources the store takes, and how it names what is wrong with the others."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.validation import check_resource, resource_issues

Json = dict[str, Any]
LOINC = "http://loinc.org"


def coded(code: str) -> Json:
    return {"coding": [{"system": LOINC, "code": code}]}


def good() -> Json:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": coded("85354-9"),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2024-02-29T10:00:00.000Z",
        "component": [{"code": coded("8480-6"), "valueQuantity": {"value": 120.50, "unit": "mmHg"}}],
    }


BROKEN: list[tuple[Json, str]] = [
    ({"status": None}, "Observation.status"),
    ({"status": "done"}, "Observation.status"),
    ({"code": {}}, "Observation.code"),
    ({"code": "8867-4"}, "Observation.code"),
    ({"category": []}, "Observation.category"),
    ({"category": coded("x")}, "Observation.category"),
    ({"subject": {"reference": "p1"}}, "Observation.subject.reference"),
    ({"subject": "Patient/p1"}, "Observation.subject"),
    ({"effectiveDateTime": "2024-01-01T10:00:00"}, "Observation.effective"),
    ({"effectiveDateTime": "yesterday"}, "Observation.effective"),
    ({"effectiveDateTime": "2023-02-30"}, "Observation.effective"),
    ({"effectivePeriod": {"start": "2024-01-01"}}, "Observation.effective"),
    ({"valueQuantity": {"value": "72"}}, "Observation.value.value"),
    ({"valueQuantity": {"value": 1}, "valueString": "x"}, "Observation.value"),
    ({"valueQuantity": {"value": 1}, "dataAbsentReason": coded("x")}, "Observation.dataAbsentReason"),
    ({"valueQuantity": {"value": 1}, "component": [{"code": coded("85354-9")}]}, "Observation.value"),
    ({"component": [{"valueString": "x"}]}, "Observation.component[0].code"),
    ({"identifier": [{"value": ""}]}, "Observation.identifier[0].value"),
]


def test_a_good_observation_is_taken() -> None:
    assert check_resource(good()) == "Observation"


@pytest.mark.parametrize(("change", "place"), BROKEN, ids=[place + str(n) for n, (_, place) in enumerate(BROKEN)])
def test_a_broken_observation_names_its_element(change: Json, place: str) -> None:
    resource = {name: value for name, value in (good() | change).items() if value is not None}

    with pytest.raises(Refusal) as raised:
        check_resource(resource)

    assert raised.value.status == 422
    assert raised.value.issues[0].expression == place


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        ({}, 400),
        ({"resourceType": "Nonsense"}, 400),
        ({"resourceType": 7}, 400),
        ({"resourceType": ["Patient"]}, 400),
        ({"resourceType": "Patient", "id": "a b"}, 400),
        ({"resourceType": "Patient", "id": "x" * 65}, 400),
        ({"resourceType": "Patient", "id": "ab\n"}, 400),
        ({"resourceType": "RiskAssessment", "status": "final"}, 422),
        ({"resourceType": "Provenance", "target": [{"reference": "Flag/1"}]}, 422),
        ({"resourceType": "AuditEvent", "recorded": "2024-01-01"}, 422),
        ({"resourceType": "Task", "status": "requested"}, 422),
    ],
)
def test_a_broken_resource_is_refused(resource: Json, status: int) -> None:
    with pytest.raises(Refusal) as raised:
        check_resource(resource)

    assert raised.value.status == status


@pytest.mark.parametrize(
    ("prediction", "place"),
    [
        ({"probabilityDecimal": 101}, "RiskAssessment.prediction[0].probability"),
        ({"probabilityRange": {"low": {"value": 1}}}, "RiskAssessment.prediction[0].probability.low"),
    ],
)
def test_probabilities_are_percentages(prediction: Json, place: str) -> None:
    subject = {"reference": "Patient/1"}
    resource = {"resourceType": "RiskAssessment", "status": "final", "subject": subject, "prediction": [prediction]}

    with pytest.raises(Refusal) as raised:
        check_resource(resource)

    assert raised.value.issues[0].expression == place


def test_refusals_never_repeat_a_value() -> None:
    with pytest.raises(Refusal) as raised:
        check_resource(good() | {"status": "canary-4711", "valueQuantity": {"value": "canary-4712"}})

    assert "canary" not in str(raised.value.outcome())


@example(datetime(9999, 2, 1))  # noqa: DTZ001
@given(st.datetimes(min_value=datetime(1900, 1, 1)))  # noqa: DTZ001 - the zone is in the text
def test_finer_dates_lie_within_coarser_ones(instant: datetime) -> None:
    text = instant.isoformat(timespec="microseconds") + "Z"

    ranges = [date_range(part) for part in (text, text[:19] + "Z", text[:10], text[:7], text[:4])]

    for (low, high), (outer_low, outer_high) in zip(ranges, ranges[1:], strict=False):
        assert outer_low <= low < high <= outer_high


@pytest.mark.parametrize("text", ["", "24", "2024-13", "2024-02-30", "2024-01-01T25:00Z", "2024-01-01T00:00:00+15:00"])
def test_what_no_calendar_has_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        date_range(text)


PATIENT: Json = {"resourceType": "Patient"}
ODD_PATIENTS: list[tuple[Json, str | None]] = [
    ({"_birthDate": {"extension": [{"url": "http://a", "valueString": "x"}]}}, None),
    ({"_birthDate": {"id": "x"}}, "Patient.birthDate"),
    ({"birthDate": "1980", "_birthDate": {"id": "x"}}, None),
    ({"birthDate": "1980", "_birthDate": {}}, "Patient.birthDate"),
    ({"name": [{"given": ["a", None], "_given": [None, {"extension": [{"url": "u", "valueCode": "x"}]}]}]}, None),
    ({"name": [{"given": ["a", None]}]}, "Patient.name[0].given[1]"),
    ({"name": [{"given": [None], "_given": [None]}]}, "Patient.name[0].given[0]"),
    ({"_name": [{"id": "x"}]}, "Patient._name"),
    ({"name": [{}]}, "Patient.name[0]"),
    ({"name": [{"id": "x"}]}, "Patient.name[0]"),
    ({"extension": [{"url": "http://a"}]}, "Patient.extension[0]"),
    ({"extension": [{"valueString": "x"}]}, "Patient.extension[0].url"),
    ({"contained": [{"resourceType": "Practitioner", "id": "x"}]}, "Patient.contained[0]"),
    (
        {"contained": [{"resourceType": "Practitioner", "id": "x"}], "generalPractitioner": [{"reference": "#x"}]},
        None,
    ),
    (
        {
            "contained": [{"resourceType": "Practitioner", "id": "x", "gender": "odd"}],
            "generalPractitioner": [{"reference": "#x"}],
        },
        "Patient.contained[0].gender",
    ),
    ({"contained": [{"resourceType": "Nonsense", "id": "x"}]}, "Patient.contained[0].resourceType"),
    ({"text": {"status": "generated", "div": "<div>x<script>y</script></div>"}}, "Patient.text.div"),
    ({"text": {"status": "generated", "div": '<div onclick="x">y</div>'}}, "Patient.text.div"),
    ({"text": {"status": "generated", "div": "<div> </div>"}}, "Patient.text.div"),
    ({"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>a &lt; b</p></div>'}}, None),
    ({"deceasedBoolean": True, "deceasedDateTime": "2024"}, "Patient.deceased"),
    ({"multipleBirthInteger": True}, "Patient.multipleBirth"),
    ({"multipleBirthInteger": 2**31}, "Patient.multipleBirth"),
    ({"active": 1}, "Patient.active"),
    ({"photo": [{"contentType": "image/png", "data": "QUJD"}]}, None),
    ({"photo": [{"contentType": "image/png", "data": "Q?=="}]}, "Patient.photo[0].data"),
    ({"photo": [{"data": "QUJD"}]}, "Patient.photo[0].data"),
    ({"telecom": [{"value": "1"}]}, "Patient.telecom[0].value"),
    ({"link": [{"other": {"reference": "Device/1"}, "type": "refer"}]}, "Patient.link[0].other.reference"),
    ({"link": [{"other": {"reference": "Patient?identifier=a|b"}, "type": "refer"}]}, None),
    (
        {"link": [{"other": {"reference": "https://a.example/fhir/Device/1"}, "type": "refer"}]},
        "Patient.link[0].other.reference",
    ),
    ({"language": "en-GB"}, None),
    ({"language": "no language at all"}, "Patient.language"),
    ({"identifier": [{"period": {"start": "2024-02", "end": "2024-01"}}]}, "Patient.identifier[0].period.start"),
    ({"identifier": [{"period": {"start": "2024-02-05", "end": "2024-02"}}]}, None),
    ({"name": [{"family": "a\x00b"}]}, "Patient.name[0].family"),
    ({"gender": ["male"]}, "Patient.gender"),
    ({"birthDate": "2023-02-29"}, "Patient.birthDate"),
    ({"birthDate": "0001-01-01"}, None),
    ({"birthDate": "0000-01-01"}, "Patient.birthDate"),
]


@pytest.mark.parametrize(("members", "place"), ODD_PATIENTS, ids=[str(n) for n in range(len(ODD_PATIENTS))])
def test_every_element_is_held_to_its_definition(members: Json, place: str | None) -> None:
    issues = resource_issues(PATIENT | members)

    assert [issue.expression for issue in issues] == ([] if place is None else [place])


RULES: list[tuple[str, Json, str]] = [
    ("AllergyIntolerance", {"patient": {"reference": "Patient/1"}}, "ait-1"),
    ("Organization", {"active": True}, "org-1"),
    ("Organization", {"name": "x", "telecom": [{"system": "phone", "value": "1", "use": "home"}]}, "org-3"),
    ("Group", {"type": "person", "actual": False, "member": [{"entity": {"reference": "Patient/1"}}]}, "grp-1"),
    (
        "Task",
        {"status": "draft", "intent": "order", "authoredOn": "2024-02-02", "lastModified": "2024-02-01"},
        "inv-1",
    ),
    ("Bundle", {"type": "collection", "total": 1}, "bdl-1"),
    ("Bundle", {"type": "transaction", "entry": [{"fullUrl": "urn:uuid:1", "resource": PATIENT}]}, "bdl-3"),
    ("Bundle", {"type": "collection", "entry": [{"fullUrl": "urn:uuid:1"}]}, "bdl-5"),
    ("Bundle", {"type": "collection", "entry": [{"fullUrl": "urn:a:1", "resource": PATIENT}] * 2}, "bdl-7"),
    ("Bundle", {"type": "document", "timestamp": "2024-02-02T00:00:00Z"}, "bdl-9"),
    (
        "Condition",
        {
            "subject": {"reference": "Patient/1"},
            "abatementString": "x",
            "clinicalStatus": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
            },
        },
        "con-4",
    ),
    (
        "Observation",
        {"status": "final", "code": coded("1"), "referenceRange": [{"low": {"value": 2}, "high": {"value": 1}}, {}]},
        "must not be empty",
    ),
    (
        "Observation",
        {"status": "final", "code": coded("1"), "valueRange": {"low": {"value": 2}, "high": {"value": 1}}},
        "rng-2",
    ),
    ("Observation", {"status": "final", "code": coded("1"), "valueQuantity": {"value": 2, "code": "mg"}}, "qty-3"),
    (
        "Observation",
        {"status": "final", "code": coded("1"), "referenceRange": [{"low": {"value": 2, "comparator": "<"}}]},
        "sqty-1",
    ),
]


@pytest.mark.parametrize(("resource_type", "members", "key"), RULES, ids=[key for _, _, key in RULES])
def test_invariants_are_kept(resource_type: str, members: Json, key: str) -> None:
    issues = resource_issues({"resourceType": resource_type, **members})

    assert any(key in issue.text for issue in issues)


def test_a_required_code_may_stand_in_a_concept_of_several() -> None:
    system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    condition: Json = {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}
    both = {"coding": [{"system": "http://own", "code": "x"}, {"system": system, "code": "active"}]}

    assert resource_issues(condition | {"clinicalStatus": both}) == []
    assert [issue.code for issue in resource_issues(condition | {"clinicalStatus": {"text": "active"}})] == [
        "code-invalid"
    ]


def test_faults_in_masses_are_bounded() -> None:
    extensions = [{"url": "u"}] * 100_000

    assert len(resource_issues(PATIENT | {"extension": extensions})) == 50


def test_a_deep_nest_of_extensions_is_judged() -> None:
    inner: Json = {"url": "u", "valueString": "x"}
    for _ in range(95):
        inner = {"url": "u", "extension": [inner]}

    assert resource_issues(PATIENT | {"extension": [inner]}) == []


def test_unvalidated_resources_are_only_asked_for_type_and_id() -> None:
    assert check_resource(PATIENT | {"colour": "red"}, level="off") == "Patient"
