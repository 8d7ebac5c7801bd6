"""Observations that anybody may have written: what their status, coding and unit vouch for is drawn, nothing else."""

from typing import Any

import pytest

from invented_ward import SECOND
from pulseweir.clock import to_text
from pulseweir.web.foreign_observations import UCUM, measured, number_in, vital_of
from pulseweir.web.vitals_history import Sample, history_of_resources

NOW = 1_700_000_000 * SECOND
PULSE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}


def observation(number: float | None = 80, **parts: Any) -> dict[str, Any]:
    value = {} if number is None else {"valueQuantity": {"value": number, "system": UCUM, "code": "/min"}}
    return (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": PULSE,
            "effectiveDateTime": to_text(NOW),
        }
        | value
        | parts
    )


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_was_withdrawn_is_in_no_line_and_struck_in_the_table(status: str) -> None:
    history = history_of_resources([observation(190, status=status), observation(80)], 0)

    assert [sample.number for sample in history.samples["heart_rate"]] == [80.0]
    assert history.withdrawn["heart_rate"] == [Sample(NOW, 190.0, True, withdrawn=status)]


def test_components_of_what_was_withdrawn_are_withdrawn_too() -> None:
    pressure = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
    part = {"code": pressure, "valueQuantity": {"value": 30, "system": UCUM, "code": "mm[Hg]"}}
    panel = observation(None, code={"coding": []}, status="cancelled", component=[part])

    assert history_of_resources([panel], 0).samples == {}


@pytest.mark.parametrize("status", ["registered", "unknown"])
def test_an_observation_without_a_result_says_nothing(status: str) -> None:
    assert list(measured(observation(None, status=status))) == []


@pytest.mark.parametrize("status", ["final", "preliminary", "amended", "corrected"])
def test_what_stands_is_drawn(status: str) -> None:
    assert history_of_resources([observation(80, status=status)], 0).samples["heart_rate"] == [Sample(NOW, 80.0, True)]


@pytest.mark.parametrize(
    ("system", "vital"),
    [
        ("http://loinc.org", "heart_rate"),
        ("urn:oid:2.16.840.1.113883.6.1", "heart_rate"),
        ("urn:local", None),
        ("https://loinc.org", None),
        (None, None),
    ],
)
def test_a_code_counts_in_the_system_of_loinc_only(system: str | None, vital: str | None) -> None:
    assert vital_of({"coding": [{"system": system, "code": "8867-4"}]}) == vital


def test_a_local_code_beside_that_of_loinc_does_no_harm() -> None:
    codings = [{"system": "urn:local", "code": "8310-5"}, {"system": "http://loinc.org", "code": "8867-4"}]

    assert vital_of({"coding": codings}) == "heart_rate"
    assert vital_of({"coding": "8867-4"}) is None
    assert vital_of({"coding": [{"system": "http://loinc.org", "code": ["8867-4"]}]}) is None


@pytest.mark.parametrize(
    ("quantity", "vital", "expected"),
    [
        ({"value": 101.3, "system": UCUM, "code": "[degF]"}, "temperature", 38.5),
        ({"value": 311.65, "system": UCUM, "code": "K"}, "temperature", 38.5),
        ({"value": 101.3, "unit": "°F"}, "temperature", 38.5),
        ({"value": 16, "system": UCUM, "code": "kPa"}, "systolic_bp", 120.01),
        ({"value": 16, "unit": "kPa"}, "systolic_bp", 120.01),
        ({"value": 0.97, "system": UCUM, "code": "1"}, "spo2", 97.0),
        ({"value": 1.5, "system": UCUM, "code": "/s"}, "heart_rate", 90.0),
        ({"value": 80, "unit": "bpm"}, "heart_rate", 80.0),
    ],
)
def test_a_quantity_is_converted_by_the_one_table(quantity: dict[str, Any], vital: str, expected: float) -> None:
    number, why_not = number_in(quantity, vital)

    assert number == pytest.approx(expected, abs=0.01)
    assert why_not == ""


@pytest.mark.parametrize(
    "quantity",
    [
        {"value": 16},
        {"value": 16, "unit": "furlong"},
        {"value": 16, "system": UCUM, "code": "kg"},
        {"value": 16, "system": UCUM, "code": "MMHG"},
        {"value": 16, "system": "urn:local", "code": "mm[Hg]"},
    ],
)
def test_a_quantity_without_a_usable_unit_is_counted_and_not_drawn(quantity: dict[str, Any]) -> None:
    code = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
    history = history_of_resources([observation(None, code=code, valueQuantity=quantity)], 0)

    assert history.samples == {}
    assert history.without_unit == 1


@pytest.mark.parametrize("comparator", ["<", ">", "<=", ">="])
def test_a_limit_is_no_point_of_a_line(comparator: str) -> None:
    quantity = {"value": 40, "comparator": comparator, "system": UCUM, "code": "/min"}
    history = history_of_resources([observation(None, valueQuantity=quantity)], 0)

    assert history.samples == {}
    assert history.with_comparator == 1


def test_sampled_data_is_converted_by_the_unit_of_its_origin() -> None:
    sampled = {"origin": {"value": 0, "system": UCUM, "code": "/s"}, "period": 1000, "data": "1 E 1.5"}
    bare = {"origin": {"value": 0}, "period": 1000, "data": "60 62"}

    history = history_of_resources([observation(None, valueSampledData=sampled)], 0)
    unknown = history_of_resources([observation(None, valueSampledData=bare)], 0)

    assert [sample.number for sample in history.samples["heart_rate"]] == [60.0, 90.0]
    assert unknown.samples == {}
    assert unknown.without_unit == 2


def test_a_value_of_a_clock_ahead_stands_where_it_was_received() -> None:
    ahead = observation(80, effectiveDateTime=to_text(NOW + 480 * SECOND), issued=to_text(NOW))
    behind = observation(80, issued=to_text(NOW + 60 * SECOND))

    assert history_of_resources([ahead], 0).samples["heart_rate"] == [Sample(NOW, 80.0, True, ahead_seconds=480)]
    assert history_of_resources([behind], 0).samples["heart_rate"] == [Sample(NOW, 80.0, True)]


@pytest.mark.parametrize("value", [None, "80", True, [80], {"value": {}}])
def test_nonsense_is_no_value(value: object) -> None:
    assert number_in({"value": value, "system": UCUM, "code": "/min"}, "heart_rate") == (None, "")
    assert list(measured(observation(None, valueQuantity=value))) == []
