"""FHIR mappings beyond the vectors: faults, departures from the predecessor, the prepared text."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.device_mapping.tokens import instant_text, parse_instant
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.observations import Subject, new_observation
from pulseweir.ingest.fhir_mapping.text import Particulars, prepare
from pulseweir.ingest.fhir_mapping.values import decimal_text
from pulseweir.ingest.grouping import SINGLE, ObservationGroup, boundary, identifier_value, resource_id, segment

CATALOG = Mappings.load(catalog_directory())
NOON = parse_instant("2030-05-01T12:00:00Z")


def mapping(**template: Any) -> FhirMapping:
    full = {"typeName": "t", "codes": [{"code": "8867-4", "system": "http://loinc.org"}], **template}
    return FhirMapping.load(
        {"templateType": "CollectionFhir", "template": [{"templateType": "CodeValueFhir", "template": full}]}
    )


def group(*data: tuple[str, dict[str, str]], correlation: str | None = None) -> dict[str, Any]:
    rows = [{"occurrenceTimeUtc": f"2030-05-01T{time}Z", "properties": texts} for time, texts in data]
    return {"measureType": "T", "deviceId": "d", "patientId": "p", "correlationId": correlation, "data": rows}


QUANTITY = {"valueType": "Quantity", "valueName": "v", "unit": "u"}
SAMPLED = {"valueType": "SampledData", "valueName": "v", "defaultPeriod": 60_000, "unit": "u"}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{", "document"),
        ('{"templateType": "Other", "template": []}', "Expected TemplateType value CollectionFhirTemplate"),
        ({"valeu": {}}, "valeu"),
        ({"typeName": " "}, "Empty type name is not allowed"),
        ({"codes": None}, "Required property 'Codes'"),
        ({"codes": 5}, "codes: is not an array"),
        ({"periodInterval": "Weekly"}, "no known interval"),
        ({"value": {"valueType": "Ratio"}}, "no value type"),
        ({"value": {}}, "Required property 'ValueType'"),
        ({"value": {"valueType": "SampledData", "valueName": "v"}}, "milliseconds"),
        ({"components": [{"codes": []}]}, "has no value"),
        ({"typeName": " ", "components": [{"codes": []}]}, "has no value"),
        ({"components": 1}, "components: is not an array"),
        ({"category": 1}, "category: is not an array"),
    ],
)
def test_a_bad_fhir_mapping_is_refused_with_the_place(text: Any, fragment: str) -> None:
    load = FhirMapping.loads if isinstance(text, str) else lambda members: mapping(**members)

    with pytest.raises(MappingError) as caught:
        load(text)
    assert fragment in str(caught.value)


def test_two_templates_of_one_type_are_refused_whatever_their_case() -> None:
    one = {"templateType": "CodeValueFhir", "template": {"typeName": "a", "codes": []}}
    two = {"templateType": "CodeValueFhirTemplate", "template": {"typeName": "A", "codes": []}}

    with pytest.raises(MappingError, match="Duplicate template defined for type name: 'A'"):
        FhirMapping.loads(json.dumps({"templateType": "CollectionFhir", "template": [one, two]}))


def test_a_value_knows_its_code_and_unit() -> None:
    fhir = CATALOG.by_kind["bedside-monitor"].fhir

    assert fhir.binding("cuff-pressure", "diastolic") == ("8462-4", "mm[Hg]")
    assert fhir.binding("SPO2", "spo2") == ("59408-5", "%")
    assert fhir.binding("consciousness-voice", "consciousness") == ("67775-7", None)
    assert fhir.binding("spo2", "other") is None


def test_two_readings_within_a_second_are_two_observations() -> None:
    readings = group(("12:00:00.25", {"v": "1"}), ("12:00:00.5", {"v": "2"}))
    made = mapping(value=QUANTITY).observation(readings, compatibility="pulseweir")

    assert isinstance(made, list)
    assert [one["identifier"][0]["value"] for one in made] == [  # type: ignore[index]
        "p.d.t.20300501120000.25Z.20300501120000.25Z",
        "p.d.t.20300501120000.5Z.20300501120000.5Z",
    ]


def test_a_day_is_one_observation() -> None:
    made = mapping(periodInterval="Daily", value=SAMPLED | {"defaultPeriod": 3_600_000}).observation(
        group(("00:00:00", {"v": "1"}), ("23:59:59", {"v": "2"}))
    )

    assert isinstance(made, dict)
    assert made["effectivePeriod"] == {"start": "2030-05-01T00:00:00.0000000Z", "end": "2030-05-01T23:59:59.9999999Z"}
    assert made["valueSampledData"]["data"] == "1 " + "E " * 22 + "2"  # type: ignore[index]


def test_a_session_without_correlation_id_is_refused() -> None:
    with pytest.raises(MessageError) as caught:
        mapping(periodInterval="CorrelationId", value=QUANTITY).observation(group(("12:00:00", {"v": "1"})))
    assert caught.value.reason == "correlation-id-missing"


def test_a_session_of_years_is_refused_rather_than_built() -> None:
    fhir = mapping(periodInterval="CorrelationId", value=SAMPLED | {"defaultPeriod": 1})
    data = group(("12:00:00", {"v": "1"}), ("23:00:00", {"v": "1"}), correlation="c")

    with pytest.raises(MessageError) as caught:
        fhir.observation(data)
    assert caught.value.reason == "limit-exceeded"


def test_an_observation_without_a_value_gets_one_later() -> None:
    fhir = mapping(value=QUANTITY, components=[{"codes": [], "value": QUANTITY | {"valueName": "w"}}])
    first = fhir.observation(group(("12:00:00", {"w": "5"})))
    assert isinstance(first, dict)

    merged = fhir.observation(group(("12:00:00", {"v": "7"})), first)

    assert isinstance(merged, dict)
    assert merged["status"] == "amended"
    assert merged["valueQuantity"] == {"value": 7, "unit": "u"}
    assert merged["component"] == first["component"]


def test_a_changed_sampling_period_keeps_stored_samples_at_their_times() -> None:
    hour = {"periodInterval": "Hourly"}
    stored = mapping(**hour, value=SAMPLED).observation(group(("12:00:00", {"v": "1"}), ("12:02:00", {"v": "2"})))
    assert isinstance(stored, dict)

    merged = mapping(**hour, value=SAMPLED | {"defaultPeriod": 120_000}).observation(
        group(("12:04:00", {"v": "3"})), stored
    )

    assert isinstance(merged, dict)
    assert str(merged["valueSampledData"]["data"]).startswith("1 2 3 E")  # type: ignore[index]
    assert merged["valueSampledData"]["period"] == 120_000  # type: ignore[index]


def test_samples_of_a_component_outside_the_stored_session_are_kept() -> None:
    fhir = mapping(periodInterval=-1, components=[{"codes": [], "value": SAMPLED}])
    stored = fhir.observation(group(("12:02:00", {"v": "2"}), correlation="c"))
    assert isinstance(stored, dict)

    merged = fhir.observation(group(("12:00:00", {"v": "0"}), ("12:05:00", {"v": "5"}), correlation="c"), stored)

    assert isinstance(merged, dict)
    assert merged["component"][0]["valueSampledData"]["data"] == "0 E 2 E E 5"  # type: ignore[index]


def test_merging_what_is_stored_already_changes_nothing() -> None:
    fhir = mapping(value=QUANTITY)
    stored = fhir.observation(group(("12:00:00", {"v": "7"})), compatibility="pulseweir")
    assert isinstance(stored, dict)

    assert fhir.observation(group(("12:00:00", {"v": "7"})), stored) is stored


def test_names_of_a_group_may_have_any_case_and_properties_any_form() -> None:
    data = {
        "Type": "t",
        "Data": [{"OccurrenceTimeUtc": "2030-05-01T12:00:00Z", "Properties": [{"Name": "v", "Value": "7"}]}],
    }

    made = mapping(value=QUANTITY).observation(data)

    assert isinstance(made, dict)
    assert made["valueQuantity"] == {"value": 7, "unit": "u"}


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "--1", "1e", "NaN", "Infinity", "0x1", "１２"])
def test_what_is_no_decimal_becomes_no_quantity(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        mapping(value=QUANTITY).observation(group(("12:00:00", {"v": text})))
    assert caught.value.reason == "not-a-quantity"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4), st.integers(-9, 9))
def test_a_decimal_text_is_json_and_the_same_number(number: Any, power: int) -> None:
    for text in (str(number), f"{number:f}E{power:+03d}"):
        found = decimal_text(text)
        assert found is not None
        assert float(json.loads(found)) == pytest.approx(float(text))


SINGLE_TEMPLATES = [
    (pair, template)
    for pair in CATALOG.by_kind.values()
    for template in pair.fhir.templates.values()
    if template.interval == SINGLE
]


@pytest.mark.parametrize(("pair", "template"), SINGLE_TEMPLATES, ids=lambda one: getattr(one, "type_name", ""))
@pytest.mark.parametrize("encounter", [None, "stay-1"])
def test_the_prepared_text_is_the_observation(pair: Any, template: Any, encounter: str | None) -> None:
    text = prepare(template)
    assert text is not None
    tick = NOON * 10
    part = segment(template.interval, tick, None)
    value = identifier_value("p-1", "d-1", template.type_name, part)
    texts = dict.fromkeys(text.names, "36.60")
    marked = {sorted(text.names)[0]}
    samples = {name: [(tick, found)] for name, found in texts.items()}

    about = Particulars(resource_id(value), value, "p-1", "d-1", encounter, instant_text(NOON), instant_text(NOON + 1))
    quick = msgspec.json.decode(text.render(about, texts, marked))

    observed = ObservationGroup(*boundary(template.interval, tick), samples)
    subject = Subject("p-1", "d-1", encounter)
    plain = new_observation(template, part, observed, subject, dates=True, implausible=marked)
    assert quick == plain | {"issued": "2030-05-01T12:00:00.000001Z"}


def test_a_type_with_sampled_data_or_a_period_has_no_prepared_text() -> None:
    assert prepare(mapping(value=SAMPLED).templates["t"]) is None
    assert prepare(mapping(value=QUANTITY, periodInterval=60).templates["t"]) is None
