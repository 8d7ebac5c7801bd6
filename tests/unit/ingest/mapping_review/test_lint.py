"""Every rule of the linter: what it finds, and that it is silent about a good pair."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mapping_samples import (
    BODY,
    coding,
    component,
    device,
    fhir,
    quantity,
    samples,
    value,
)
from pulseweir.mapping import RULES, DeviceMapping, FhirMapping, Finding, check_device_mapping, lint, located
from pulseweir.records.codes import LOINC, VITALS
from pulseweir.records.quantities import QUANTITIES, QUANTITY_BY_CODE, Quantity, is_loinc, named_quantity
from pulseweir.records.units import UNIT_BY_CODE

Case = tuple[DeviceMapping | None, FhirMapping | None, Sequence[object]]


def query(text: str) -> dict[str, str]:
    return {"value": text, "language": "JmesPath"}


def calculated(match: str = "to_array(@)[?Body.rate]", *values: dict[str, Any], **more: Any) -> DeviceMapping:
    return device(
        {
            "kind": "CalculatedContent",
            "typeMatchExpression": query(match),
            "deviceIdExpression": "$.Body.device",
            "timestampExpression": "$.Body.at",
            "values": list(values),
            **more,
        }
    )


def pressure(code: str, display: str = "", name: str = "diastolic", unit: str = "mm[Hg]") -> FhirMapping:
    parts = [component(code, quantity(name, unit, unit), display)]
    return fhir({"typeName": "pressure", "codes": [coding("85354-9")], "value": None, "components": parts})


def numbers(code: str, unit: str, *read: float, text: str | None = None) -> Case:
    shown = quantity("rate", unit, text or unit)
    bodies = [BODY | {"rate": number} for number in read]
    return device(), fhir({"codes": [coding(code)], "value": shown}), bodies


CASES: dict[str, list[Case]] = {
    "bad-expression": [(device({"timestampExpression": "$.at["}), None, ())],
    "blank-expression": [
        (device({"typeMatchExpression": " "}), None, ()),
        (device({"deviceIdExpression": ""}), None, ()),
    ],
    "boolean-type-match": [
        (calculated("Body.rate == `1`"), None, ()),
        (calculated("contains(keys(Body), 'rate')"), None, ()),
        (calculated("!Body"), None, ()),
    ],
    "list-type-match": [(calculated("to_array(Body)"), None, ()), (calculated("[Body]"), None, ())],
    "filter-on-object": [(device({"typeMatchExpression": "$[?(@.Body)]"}), None, ())],
    "mixed-and-or": [(device({"typeMatchExpression": "$..[?(@a && @b || @c)]"}), None, ())],
    "scope-without-envelope": [
        (device({"kind": "IotJsonPathContent", "typeMatchExpression": "$.Body.readings[*]"}), None, ()),
        (device({"kind": "IotJsonPathContent", "typeMatchExpression": "$..[?(@rate)]"}), None, ()),
    ],
    "integer-division": [(calculated("[Body][?rate]", value("v", query("divide(Body.rate, `2`)"))), None, ())],  # type: ignore[arg-type]
    "integer-wrap": [
        (calculated("[Body][?rate]", value("v", query("multiply(Body.rate, `1000000000`)"))), None, ()),  # type: ignore[arg-type]
        (calculated("[Body][?rate]", value("v", query("pow(Body.rate, `2`)"))), None, ()),  # type: ignore[arg-type]
    ],
    "optional-function-argument": [
        (calculated("[Body][?rate]", value("v", query("add(Body.other, `1.0`)"))), None, ()),  # type: ignore[arg-type]
        (calculated("[Body][?rate]", patientIdExpression=query("join('-', Body.parts)")), None, ()),
    ],
    "duplicate-value": [(device({"values": [value("a"), value("a", "$.b")]}), None, ())],
    "duplicate-type": [(device({}, {"typeMatchExpression": "$..[?(@other)]"}), None, ())],
    "shadowed-match": [(device({}, {}), None, ()), (device({"values": []}, {"values": []}), None, ())],
    "no-fhir-template": [(device({"typeName": "other"}), fhir(), ())],
    "no-device-template": [(device(), fhir({}, {"typeName": "other"}), ())],
    "unused-value": [(device({"values": [value("rate"), value("Rate")]}), fhir(), ())],
    "unbound-value": [(device(), fhir({"value": quantity("Rate")}), ())],
    "unknown-loinc": [(None, fhir({"codes": [coding("3150-6")]}), ()), (None, fhir({"codes": [coding("")]}), ())],
    "code-display": [
        (None, pressure("8867-4", "Diastolic blood pressure"), ()),
        (None, fhir({"codes": [coding("8867-4", "Respiratory rate")]}), ()),
        (None, fhir({"codes": [coding("8867-4", "Heart rate variability")]}), ()),
    ],
    "code-name": [(None, pressure("8480-6", name="diastolic"), ()), (None, pressure("8867-4", name="dbp"), ())],
    "code-system": [
        (None, fhir({"codes": [coding("8867-4", system="https://loinc.org/")]}), ()),
        (None, fhir({"codes": [coding("8867-4", system="LOINC")]}), ()),
    ],
    "duplicate-code": [
        (
            None,
            fhir({"components": [component("8480-6", quantity("a", "mm[Hg]")), component("8480-6", quantity("b"))]}),
            (),
        ),
        (None, fhir({"components": [component("8867-4", quantity("other"))]}), ()),
    ],
    "no-standard-code": [(None, fhir({"codes": [coding("x", system="urn:mine")]}), ())],
    "no-value": [(None, fhir({"value": None}), ())],
    "code-unit": [
        (None, fhir({"value": quantity(code="mm[Hg]", unit="mmHg")}), ()),
        (None, fhir({"value": samples(unit="mmHg"), "periodInterval": 60}), ()),
        (None, fhir({"codes": [coding("14743-9")], "value": quantity(code="mg/dL", unit="mg/dL")}), ()),
    ],
    "missing-unit": [
        (None, fhir({"value": samples(unit=""), "periodInterval": 60}), ()),
        (None, fhir({"value": {"valueType": "Quantity", "valueName": "rate", "unit": "bpm"}}), ()),
    ],
    "not-ucum": [
        (None, fhir({"value": quantity(code="bpm")}), ()),
        (None, fhir({"codes": [coding("8310-5")], "value": quantity(code="°C", unit="°C")}), ()),
    ],
    "unit-text": [(None, fhir({"codes": [coding("29463-7")], "value": quantity(code="kg", unit="lb")}), ())],
    "unit-system": [(None, fhir({"value": quantity(system="http://example.org")}), ())],
    "several-values": [(None, fhir({"periodInterval": 60}), ())],
    "one-sample": [(None, fhir({"value": samples()}), ())],
    "too-many-samples": [(None, fhir({"value": samples(period=1), "periodInterval": 1440}), ())],
    "sparse-samples": [(None, fhir({"value": samples(period=4_000_000), "periodInterval": 60}), ())],
    "no-correlation": [(device(), fhir({"periodInterval": -1}), ())],
    "unused-correlation": [(device({"correlationIdExpression": "$.c"}), fhir(), ())],
    "sampled-vital-sign": [(None, fhir({"value": samples(), "periodInterval": 60}), ())],
    "message-rejected": [(device(), fhir(), [{"rate": 1}])],
    "message-unmatched": [(device(), fhir(), [{"Rate": 1}])],
    "observation-rejected": [(device(), fhir(), [BODY | {"rate": "fast"}])],
    "double-match": [(device({}, {"typeMatchExpression": "$.Body"}), fhir(), [BODY])],
    "implausible-value": [
        numbers("8310-5", "Cel", 98.6),
        numbers("8310-5", "[degF]", 37.0),
        numbers("59408-5", "%", 0.97),
        numbers("8480-6", "kPa", 120),
        numbers("8480-6", "mm[Hg]", 16),
        numbers("99504-3", "mg/dL", 5.4),
        numbers("14743-9", "mmol/L", 110),
        numbers("8302-2", "cm", 1.8),
        numbers("29463-7", "kg", 70_000),
        numbers("8867-4", "/min", 0),
    ],
    "time-without-zone": [
        (device(), fhir(), [BODY | {"at": "2030-01-01T10:00:00"}]),
        (device(), fhir(), [BODY | {"at": "2030-01-01 10:00"}, BODY]),
        (device(), None, [BODY | {"at": "01/31/2030 10:00:00 PM"}]),
        (calculated(), None, [BODY | {"at": "2030-01-01T10:00:00.250"}]),
    ],
    "scientific-number": [numbers("8867-4", "/min", 0.000001)],
}


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"not-loadable"}))
def test_a_rule_finds_what_it_says(rule: str) -> None:
    for device_mapping, fhir_mapping, messages in CASES[rule]:
        found = [one for one in lint(device_mapping, fhir_mapping, messages) if one.rule == rule]

        assert len(found) == 1, rule
        assert found[0].severity == RULES[rule].severity
        assert found[0].message.endswith(".")
        assert found[0].member or found[0].mapping == "message"


GOOD: list[Case] = [
    (device(), fhir(), [BODY]),
    (calculated("[Body][?rate]", value("rate", query("divide(Body.rate, `2.0`)"))), fhir(), [BODY]),  # type: ignore[arg-type]
    (calculated("to_array(@)[?Body.rate]", value("rate", query("Body.x && add(Body.x, `1`)"))), fhir(), [BODY]),  # type: ignore[arg-type]
    (
        calculated(
            "to_array(@)[?Body.rate]",
            value("rate"),
            timestampExpression=query("fromUnixTimestamp(divide(Body.t, `1000`))"),
        ),
        None,
        (),
    ),
    (calculated("Body.readings[?kind == 'hr'].value", value("rate", "$.matchedToken")), fhir(), ()),
    (device({"kind": "IotJsonPathContent", "typeMatchExpression": "$..[?(@Body.rate)]"}), fhir(), ()),
    (device({}, {"typeMatchExpression": "$..[?(@other)]", "values": [value("second")]}), None, ()),
    (None, pressure("8462-4", "Diastolic blood pressure"), ()),
    (None, pressure("8462-4", "Intravascular diastolic", unit="kPa"), ()),
    (None, fhir({"codes": [coding("8867-4", "Puls")]}), ()),
    (None, fhir({"codes": [coding("8867-4"), coding("1234", system="urn:mine")]}), ()),
    (None, fhir({"codes": [coding("8331-1", "Oral temperature")], "value": quantity(code="[degF]", unit="°F")}), ()),
    (None, fhir({"value": quantity(code="{beats}/min", unit="bpm")}), ()),
    (None, fhir({"codes": [coding("40443-4", "Resting heart rate")], "value": quantity("heartRate")}), ()),
    numbers("8310-5", "Cel", 36.6),
    numbers("8310-5", "[degF]", 98.6, text="°F"),
    numbers("59408-5", "%", 97, 100),
    numbers("8480-6", "kPa", 16),
    numbers("29463-7", "[lb_av]", 154, text="lb"),
    numbers("14743-9", "mmol/L", 5.4),
    numbers("99504-3", "mg/dL", 110),
    numbers("55423-8", "{steps}", 0, 12_000),
]


@pytest.mark.parametrize("case", GOOD)
def test_a_good_pair_has_no_findings(case: Case) -> None:
    assert [str(one) for one in lint(*case) if one.severity != "info"] == []


@pytest.mark.parametrize(
    ("case", "unit"),
    [
        (numbers("8310-5", "Cel", 98.6), "[degF]"),
        (numbers("59408-5", "%", 0.97), "1"),
        (numbers("8480-6", "mm[Hg]", 16), "kPa"),
        (numbers("99504-3", "mg/dL", 5.4), "mmol/L"),
        (numbers("14743-9", "mmol/L", 110), "mg/dL"),
        (numbers("8302-2", "cm", 1.8), "m"),
        (numbers("29463-7", "kg", 70_000), "g"),
    ],
)
def test_an_implausible_value_names_the_unit_it_would_fit(case: Case, unit: str) -> None:
    (found,) = [one for one in lint(*case) if one.rule == "implausible-value"]

    assert f"plausible in {unit}:" in found.remedy


def test_a_finding_of_messages_counts_them_and_tells_no_value() -> None:
    found = lint(*numbers("8310-5", "Cel", 98.6, 36.6, 101.3))

    assert [one.rule for one in found] == ["implausible-value"]
    assert found[0].message.endswith("In 2 of 3 messages.")
    assert "98" not in str(found[0])


def test_a_name_that_differs_in_case_only_is_offered() -> None:
    found = {one.rule: one for one in lint(device({"typeName": "HeartRate"}), fhir({"typeName": "heart-rate"}))}

    assert "Nearest: heart-rate." in found["no-fhir-template"].message
    assert "Nearest: HeartRate." in found["no-device-template"].message


def test_errors_come_first_and_a_wrong_code_is_told_once() -> None:
    mapping = fhir(
        {"codes": [coding("8867-4", "Diastolic blood pressure")], "value": quantity("diastolic", "mm[Hg]", "mmHg")}
    )

    found = lint(fhir_mapping=mapping)

    assert [one.rule for one in found] == ["code-display"]
    assert [one.severity for one in lint(device({"typeName": "a", "timestampExpression": "$["}), fhir())] == sorted(
        (one.severity for one in lint(device({"typeName": "a", "timestampExpression": "$["}), fhir())),
        key=["error", "warning", "info"].index,
    )


def test_a_finding_knows_its_line_and_column() -> None:
    text = """{"templateType": "CollectionFhir",
 "template": [{"templateType": "CodeValueFhir", "template": {"typeName": "a",
  "codes": [
   {"system": "http://loinc.org",
    "code": "3150-6"}]}}]}"""

    found = located(lint(fhir_mapping=FhirMapping.loads(text)), "fhir", text, "mine.json")

    wrong = next(one for one in found if one.rule == "unknown-loinc")
    assert (wrong.file, wrong.line, wrong.column) == ("mine.json", 5, 13)
    assert str(wrong).startswith("mine.json:5:13: error [unknown-loinc] a: 3150-6 is no LOINC code")
    other = replace(wrong, mapping="device", line=0, file="")
    assert located([other], "fhir", text, "mine.json") == [other]
    assert located([other], "device", "{", "mine.json") == [other]


def test_a_check_lists_faults_and_expressions_that_fail_later() -> None:
    text = """{"templateType": "CollectionContent", "template": [
 {"templateType": "JsonPathContent", "template": {"typeName": "a", "typeMatchExpression": "$..[?(@a == \\"x\\")]",
  "deviceIdExpression": "$.d", "timestampExpression": "$.t"}}]}"""

    (found,) = check_device_mapping(text, source="mine.json")
    both = check_device_mapping(text.replace('"$.d"', '"$.d", "surplus": 1'), source="mine.json")

    assert (found.rule, found.line, found.file) == ("bad-expression", 2, "mine.json")
    assert "single quotes" in found.remedy
    assert [(one.rule, one.line) for one in both] == [("bad-expression", 2), ("not-loadable", 3)]


def test_findings_are_plain_values() -> None:
    (found,) = lint(fhir_mapping=fhir({"value": None}))

    assert found.to_json()["rule"] == "no-value"
    assert Finding(**found.to_json()) == found  # type: ignore[arg-type]


@pytest.mark.parametrize("known", QUANTITIES, ids=lambda known: known.title)
def test_every_quantity_is_coded_and_measured_in_units_there_are(known: Quantity) -> None:
    assert all(is_loinc(code) for code in known.codes) or known.system != LOINC
    assert set(known.units) <= set(UNIT_BY_CODE)
    assert (known.lowest is None) == (known.highest is None)
    named = named_quantity(known.title)
    assert named is None or named.kind == known.kind


@pytest.mark.parametrize("vital", VITALS, ids=lambda vital: vital.name)
def test_every_vital_of_the_house_is_a_quantity_in_its_unit(vital: Any) -> None:
    known = QUANTITY_BY_CODE[LOINC, vital.loinc[0]]

    assert set(vital.loinc) <= set(known.codes)
    assert not vital.unit or vital.unit in known.units


def test_no_code_is_of_two_quantities() -> None:
    assert len(QUANTITY_BY_CODE) == sum(len(known.codes) for known in QUANTITIES)
    assert all(unit.code == code for code, unit in UNIT_BY_CODE.items())


@pytest.mark.parametrize(
    "text", ["2030-01-01T10:00:00Z", "2030-01-01T10:00:00+02:00", "2030-01-01T10:00:00 -0500", "2030-01-01"]
)
def test_a_time_with_its_zone_and_a_day_are_no_finding(text: str) -> None:
    found = lint(device(), fhir(), [BODY | {"at": text}])

    assert "time-without-zone" not in {one.rule for one in found}
