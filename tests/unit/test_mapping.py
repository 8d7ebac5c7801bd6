"""The public face `pulseweir.mapping`: checks, dry runs, LOINC check digits."""

from typing import Any

import pytest

from pulseweir.mapping import DeviceMapping, FhirMapping, MappingError, check, dry_run, explain, is_loinc


def device(**template: Any) -> DeviceMapping:
    full = {
        "typeName": "pressure",
        "typeMatchExpression": "$..[?(@systolic)]",
        "deviceIdExpression": "$.device",
        "timestampExpression": "$.at",
        "values": [
            {"valueName": "systolic", "valueExpression": "$.systolic"},
            {"valueName": "pulse", "valueExpression": "$.pulse"},
        ],
    }
    container = {"templateType": "JsonPathContent", "template": full | template}
    return DeviceMapping.load({"templateType": "CollectionContent", "template": [container]})


def fhir(code: str = "8480-6", display: str = "Systolic blood pressure", unit: str = "mm[Hg]") -> FhirMapping:
    template = {
        "typeName": "pressure",
        "codes": [{"code": "85354-9", "system": "http://loinc.org"}],
        "components": [
            {
                "codes": [{"code": code, "system": "http://loinc.org", "display": display}],
                "value": {
                    "valueType": "Quantity",
                    "valueName": "systolic",
                    "unit": unit,
                    "system": "http://unitsofmeasure.org",
                    "code": unit,
                },
            }
        ],
    }
    container = {"templateType": "CodeValueFhir", "template": template}
    return FhirMapping.load({"templateType": "CollectionFhir", "template": [container]})


@pytest.mark.parametrize("code", ["8867-4", "9279-1", "59408-5", "2708-6", "85354-9", "8480-6", "3150-0", "3151-8"])
def test_a_real_loinc_code_has_its_check_digit(code: str) -> None:
    assert is_loinc(code)


@pytest.mark.parametrize("code", ["3150-6", "3151-4", "8867-5", "8867", "", "abc-1", "8867-44", "８８６７-4"])
def test_a_wrong_loinc_code_is_known_by_its_check_digit(code: str) -> None:
    assert not is_loinc(code)


@pytest.mark.parametrize(
    ("mapping", "rule", "severity"),
    [
        (fhir(code="3150-6"), "unknown-loinc", "error"),
        (fhir(code="8867-4", display="Diastolic blood pressure"), "code-display", "error"),
        (fhir(unit="mmHg"), "code-unit", "warning"),
    ],
)
def test_a_code_that_does_not_fit_is_a_finding(mapping: FhirMapping, rule: str, severity: str) -> None:
    findings = {finding.rule: finding for finding in check(device(), mapping)}

    assert findings[rule].severity == severity
    assert findings[rule].place == "pressure.systolic"


def test_a_value_or_type_that_no_observation_holds_is_a_finding() -> None:
    assert [finding.rule for finding in check(device(), fhir())] == ["unused-value"]
    assert [finding.rule for finding in check(device(typeName="other"), fhir())] == ["no-fhir-template"]


def test_an_expression_that_will_fail_is_a_finding() -> None:
    rules = {finding.rule for finding in check(device(timestampExpression="$.at["), fhir())}
    assert "bad-expression" in rules
    assert "blank-expression" in {finding.rule for finding in check(device(typeMatchExpression=" "), fhir())}


def test_a_dry_run_shows_measurements_observations_and_what_is_lost() -> None:
    body = {"device": "d", "at": "2030-01-01T00:00:00Z", "systolic": 120, "pulse": 61}

    (tried,) = dry_run(device(), fhir(), [body])

    assert tried["error"] is None
    assert tried["measurements"][0]["properties"] == {"systolic": "120", "pulse": "61"}  # type: ignore[index]
    assert tried["observations"][0]["component"][0]["valueQuantity"]["value"] == 120  # type: ignore[index]
    assert tried["warnings"] == ["The value [pulse] of pressure is not represented in the FHIR mapping."]


def test_a_dry_run_says_why_nothing_came_out() -> None:
    unmatched, refused = dry_run(device(), fhir(), [{"diastolic": 1}, {"systolic": 120, "device": "d"}])

    assert "No measurements were produced" in str(unmatched["warnings"])
    assert refused["error"]["reason"] == "incompatible-data"  # type: ignore[index]
    assert refused["error"]["template"] == "0"  # type: ignore[index]


def test_a_type_without_template_is_a_warning_of_the_dry_run() -> None:
    body = {"device": "d", "at": "2030-01-01T00:00:00Z", "systolic": 120}

    (tried,) = dry_run(device(typeName="other"), fhir(), [body])

    assert tried["warnings"] == ["No Fhir Template exists with the type name [other]."]


def test_a_mapping_of_another_shape_is_refused() -> None:
    with pytest.raises(MappingError):
        DeviceMapping.load({"templateType": "CollectionFhir", "template": []})


def test_an_explanation_says_what_each_template_found_and_shows_no_value() -> None:
    (matched,) = explain(device(), {"device": "d-secret", "systolic": 120, "pulse": [1]})
    (unmatched,) = explain(device(), {"diastolic": 1})
    (broken,) = explain(device(typeMatchExpression="$["), {})

    assert matched["matches"] == 1
    assert {one["field"]: one["found"] for one in matched["fields"]} == {  # type: ignore[attr-defined]
        "DeviceIdExpression": "text",
        "TimestampExpression": "nothing",
        "systolic": "integer",
        "pulse": "array",
    }
    assert "d-secret" not in str(matched)
    assert unmatched["matches"] == 0
    assert "$[" in str(broken["error"])
