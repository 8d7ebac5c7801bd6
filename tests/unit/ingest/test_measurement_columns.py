"""Columns of a batch hold what the rules give for each value alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measured_rows import measured
from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, parse_instant
from pulseweir.ingest.grouping import identifier_value, resource_id, segment
from pulseweir.ingest.identity import Association
from pulseweir.records.codes import VITAL_BY_LOINC

NOON = parse_instant("2030-05-01T12:00:00Z")
WHO = Association("device-1", "patient-1", None, None)
INTERVALS = {"single": 0, "session": -1, "hourly": 60, "daily": 1_440}
NAMES = {
    "pulse": ("8867-4", "/min"),
    "warmth": ("8310-5", "[degF]"),
    "saturation": ("59408-5", "%"),
    "mood": (None, "x"),
}


def part(name: str) -> dict[str, Any]:
    code, unit = NAMES[name]
    system = "http://loinc.org" if code else "http://example.org"
    value = {
        "valueType": "Quantity",
        "valueName": name,
        "unit": unit,
        "code": unit,
        "system": "http://unitsofmeasure.org",
    }
    return {"codes": [{"code": code or "mood", "system": system, "display": name}], "value": value}


def pair() -> MappingPair:
    """A type of every interval, each with all values but one."""
    templates = [
        {
            "templateType": "CodeValueFhir",
            "template": {
                "typeName": name,
                "periodInterval": interval,
                "codes": [{"code": "panel", "system": "http://example.org"}],
                "components": [part(value) for value in NAMES],
            },
        }
        for name, interval in INTERVALS.items()
    ]
    fhir = json.dumps({"templateType": "CollectionFhir", "template": templates})
    return MappingPair.loads("site", '{"templateType": "CollectionContent", "template": []}', fhir)


PAIR = pair()
measurements = st.builds(
    Measurement,
    st.sampled_from([*INTERVALS, "Hourly", "unmapped"]),
    st.sampled_from(["monitor-1", "monitor-2"]),
    st.one_of(st.integers(FIRST_INSTANT, LAST_INSTANT), st.integers(NOON, NOON + 3), st.just(NOON)),
    st.sampled_from([None, "a"]),
    st.none(),
    st.sampled_from(["c-1", "c-2"]),
    st.dictionaries(
        st.sampled_from([*NAMES, "unbound"]),
        st.one_of(st.sampled_from(["0", "36.6", "97.9", "100", "300", "A", "1e999", "1_0"]), st.integers().map(str)),
        max_size=3,
    ),
)


def expected(one: Measurement, name: str | None, text: str | None, number: float | None) -> dict[str, Any]:
    template = PAIR.fhir.template(one.type)
    binding = PAIR.fhir.binding(one.type, name) if name is not None else None
    code, unit = binding or (None, None)
    vital = VITAL_BY_LOINC.get(code or "")
    implausible = False
    if vital is not None and number is not None:
        implausible = not vital.is_possible((number - 32) * 5 / 9 if unit == "[degF]" else number)
    observation = None
    if template is not None and (binding or name is None):
        where = segment(template.interval, one.occurred_at_microseconds * 10, one.correlation_id)
        observation = resource_id(identifier_value("patient-1", "device-1", template.type_name, where))
    return {
        "type": one.type,
        "device_id": one.device_id,
        "name": name,
        "text": text,
        "number": number,
        "code": code,
        "unit": unit,
        "observation_id": observation,
        "implausible": implausible,
        "patient_id": "patient-1",
        "mapping_version": PAIR.version,
    }


@given(st.lists(measurements, max_size=12))
def test_a_batch_gives_each_value_what_the_rules_give_it_alone(found: list[Measurement]) -> None:
    table = measured(found, WHO, PAIR, "m", 0)

    rows = table.drop_columns(["occurred_at", "received_at"]).to_pylist()
    numbers = iter(row["number"] for row in rows)
    wanted = [
        expected(one, name, text, next(numbers))
        for one in found
        for name, text in (one.properties.items() or [(None, None)])
    ]
    assert [{key: row[key] for key in expectation} for row, expectation in zip(rows, wanted, strict=True)] == wanted


@pytest.mark.parametrize(("text", "implausible"), [("97.9", False), ("10", True), ("120", False), ("200", True)])
def test_bounds_of_celsius_hold_for_fahrenheit(text: str, implausible: bool) -> None:
    one = Measurement("single", "d", NOON, None, None, None, {"warmth": text})

    assert measured([one], WHO, PAIR, "m", 0)["implausible"].to_pylist() == [implausible]


def test_a_measurement_without_values_is_one_row_that_belongs_in_an_observation() -> None:
    one = Measurement("single", "d", NOON, None, None, None, {})

    [row] = measured([one], WHO, PAIR, "m", 0).to_pylist()

    assert (row["name"], row["text"], row["number"], row["code"]) == (None, None, None, None)
    assert row["observation_id"] is not None
