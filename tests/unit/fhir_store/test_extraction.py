"""What of a resource its searches compare: every kind of parameter, out of every data type that holds it."""

from fractions import Fraction
from typing import Any

import pytest

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.extraction import LOWEST, Unit
from pulseweir.fhir_store.indexing import index_resource
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.units import converted

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"


def texts(resource_type: str, name: str, /, **members: Any) -> set[tuple[str, str]]:
    rows = index_resource(resource_type, {"resourceType": resource_type, **members}).texts
    return {(value, system) for key, value, system in rows if key == f"{resource_type}.{name}"}


def ranges(resource_type: str, name: str, /, **members: Any) -> set[tuple[float, float]]:
    rows = index_resource(resource_type, {"resourceType": resource_type, **members}).ranges
    return {(low, high) for key, low, high in rows if key == f"{resource_type}.{name}"}


CONCEPT = {"coding": [{"system": "s", "code": "c", "display": "Shown Óne"}, {"code": "d"}], "text": "Said"}


@pytest.mark.parametrize(
    ("resource_type", "name", "members", "expected"),
    [
        ("Condition", "code", {"code": CONCEPT}, {("c", "s"), ("d", "")}),
        ("Condition", "code:text", {"code": CONCEPT}, {("shown one", ""), ("said", "")}),
        ("Encounter", "class", {"class": {"system": "s", "code": "c"}}, {("c", "s")}),
        (
            "Patient",
            "identifier",
            {"identifier": [{"system": "s", "value": "1"}, {"value": "2"}]},
            {("1", "s"), ("2", "")},
        ),
        ("Patient", "active", {"active": False}, {("false", "")}),
        ("Patient", "gender", {"gender": "male"}, {("male", "")}),
        ("Patient", "deceased", {}, {("false", "")}),
        ("Patient", "deceased", {"deceasedBoolean": False}, {("false", "")}),
        ("Patient", "deceased", {"deceasedBoolean": True}, {("true", "")}),
        ("Patient", "deceased", {"deceasedDateTime": "2024"}, {("true", "")}),
        (
            "Patient",
            "email",
            {"telecom": [{"system": "email", "value": "a@b"}, {"system": "phone", "value": "1"}]},
            {("a@b", "email")},
        ),
        ("Patient", "name", {"name": [{"family": "Núñez", "given": ["Ana"]}]}, {("nunez", ""), ("ana", "")}),
        ("Patient", "name:exact", {"name": [{"family": "Núñez"}]}, {("Núñez", "")}),
        ("Patient", "address", {"address": [{"line": ["A  St"], "city": "B"}]}, {("a st", ""), ("b", "")}),
        ("Flag", "patient", {"subject": {"reference": "Patient/1"}}, set()),
        ("Flag", "subject", {"subject": {"reference": "Patient/1/_history/2"}}, {("Patient/1", "")}),
        ("Flag", "subject", {"subject": {"reference": "#inside"}}, set()),
        ("Flag", "subject:identifier", {"subject": {"identifier": {"system": "s", "value": "v"}}}, {("v", "s")}),
        (
            "AuditEvent",
            "patient",
            {"agent": [{"who": {"reference": "Device/1"}}], "entity": [{"what": {"reference": "http://x/Patient/2"}}]},
            {("http://x/Patient/2", "")},
        ),
        ("CarePlan", "instantiates-canonical", {"instantiatesCanonical": ["u|1"]}, {("u|1", ""), ("u", "")}),
        ("Device", "url", {"url": "http://x"}, {("http://x", "")}),
        ("Patient", "_profile", {"meta": {"profile": ["p"]}}, {("p", "")}),
        ("Patient", "_tag", {"meta": {"tag": [{"system": "s", "code": "c"}]}}, {("c", "s")}),
        (
            "Patient",
            "mothersMaidenName",
            {
                "extension": [
                    {
                        "url": "http://hl7.org/fhir/StructureDefinition/patient-extensions-Patient-mothersMaidenName",
                        "valueString": "Ray",
                    },
                    {"url": "other", "valueString": "Not"},
                ]
            },
            {("ray", "")},
        ),
        (
            "Group",
            "characteristic-value",
            {"characteristic": [{"code": {"coding": [{"system": "s", "code": "c"}]}, "valueBoolean": True}]},
            {("c$true", ""), ("s|c$true", ""), ("c$|true", ""), ("s|c$|true", "")},
        ),
    ],
)
def test_texts_of_a_parameter(resource_type: str, name: str, members: Json, expected: set[tuple[str, str]]) -> None:
    found = texts(resource_type, name, **members)

    assert found >= expected
    assert len(found) == len(expected) or name == "name"


@pytest.mark.parametrize(
    ("members", "low", "high"),
    [
        ({"occurrenceDateTime": "2024-02"}, "2024-02", "2024-02"),
        ({"occurrencePeriod": {"start": "2024-02-01", "end": "2024-02-03"}}, "2024-02-01", "2024-02-03"),
        ({"occurrenceTiming": {"event": ["2024-02-05", "2024-02-01"]}}, "2024-02-01", "2024-02-05"),
        ({"occurrenceTiming": {"repeat": {"boundsPeriod": {"start": "2024", "end": "2025"}}}}, "2024", "2025"),
    ],
)
def test_dates_reach_from_their_first_to_their_last_moment(members: Json, low: str, high: str) -> None:
    assert ranges("ServiceRequest", "occurrence", **members) == {(date_range(low)[0], date_range(high)[1])}


def test_probabilities_are_numbers_and_ranges() -> None:
    prediction = [{"probabilityDecimal": 0}, {"probabilityRange": {"low": {"value": 1}, "high": {"value": 2.5}}}]

    assert ranges("RiskAssessment", "probability", prediction=prediction) == {(0, 0), (1, 2.5)}


def test_quantities_keep_their_unit_and_open_ends() -> None:
    condition = {"onsetAge": {"value": 40, "comparator": "<", "system": UCUM, "code": "a", "unit": "years"}}

    rows = index_resource("Condition", condition)

    assert rows.amounts == {("Condition.onset-age", (LOWEST, 40.0, Unit(UCUM, "a", "years")))}


def test_an_observation_costs_no_row_beside_its_columns() -> None:
    code = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
    component = {"code": code, "valueQuantity": {"value": 120, "system": UCUM, "code": "mm[Hg]"}}
    tree = {
        "resourceType": "Observation",
        "status": "final",
        "code": code,
        "subject": {"reference": "Patient/1"},
        "effectiveTiming": {"event": ["2024"]},
        "valueSampledData": {"origin": {"value": 0, "code": "x"}, "lowerLimit": 1, "upperLimit": 3},
        "component": [component],
    }

    rows = index_resource("Observation", tree)

    assert not rows.texts
    assert not rows.amounts
    assert rows.observation is not None
    assert rows.observation.low == date_range("2024")[0]
    assert rows.observation.value == (1, 3, Unit("", "x", ""))
    assert rows.components[0].value == (120, 120, Unit(UCUM, "mm[Hg]", ""))


def test_what_cannot_be_indexed_is_refused() -> None:
    with pytest.raises(Refusal):
        index_resource("Patient", {"name": [{"family": {"a": 1}}], "identifier": ["x"]})


@pytest.mark.parametrize(
    ("number", "source", "target", "expected"),
    [
        (1, "kg", "g", 1000),
        (212, "[degF]", "Cel", 100),
        (37, "Cel", "[degF]", "98.6"),
        ("98.6", "[degF]", "Cel", 37),
        (1, "K", "Cel", "-272.15"),
        (1, "Hz", "/min", 60),
        (5, "odd", "odd", 5),
        (1, "kg", "m", None),
    ],
)
def test_units_convert_on_their_scale(number: str, source: str, target: str, expected: str | None) -> None:
    found = converted(Fraction(number), source, target)

    assert found == (None if expected is None else Fraction(expected))
