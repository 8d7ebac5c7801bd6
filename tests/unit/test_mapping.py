"""The public face `pulseweir.mapping`: what a program may import, and that it is what the house runs on."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

import pulseweir.mapping
from pulseweir.mapping import (
    NORMALIZED_SCHEMA,
    REJECT_SCHEMA,
    DeviceMapping,
    FhirMapping,
    MappingError,
    MessageError,
    Normalized,
    is_loinc,
)

DEVICE = {
    "templateType": "CollectionContent",
    "template": [
        {
            "templateType": "JsonPathContent",
            "template": {
                "typeName": "pressure",
                "typeMatchExpression": "$..[?(@systolic)]",
                "deviceIdExpression": "$.device",
                "timestampExpression": "$.at",
                "patientIdExpression": "$.patient",
                "values": [{"valueName": "systolic", "valueExpression": "$.systolic", "required": True}],
            },
        }
    ],
}
FHIR = {
    "templateType": "CollectionFhir",
    "template": [
        {
            "templateType": "CodeValueFhir",
            "template": {
                "typeName": "pressure",
                "codes": [{"code": "8480-6", "system": "http://loinc.org"}],
                "periodInterval": 60,
                "value": {"valueType": "SampledData", "valueName": "systolic", "unit": "mmHg", "defaultPeriod": 60000},
            },
        }
    ],
}


@pytest.mark.parametrize("code", ["8867-4", "9279-1", "59408-5", "2708-6", "85354-9", "8480-6", "3150-0", "3151-8"])
def test_a_real_loinc_code_has_its_check_digit(code: str) -> None:
    assert is_loinc(code)


@pytest.mark.parametrize("code", ["3150-6", "3151-4", "8867-5", "8867", "", "abc-1", "8867-44", "８８６７-4"])
def test_a_wrong_loinc_code_is_known_by_its_check_digit(code: str) -> None:
    assert not is_loinc(code)


def test_everything_it_names_is_there() -> None:
    assert all(hasattr(pulseweir.mapping, name) for name in pulseweir.mapping.__all__)
    assert sorted(pulseweir.mapping.__all__, key=lambda name: (name != name.upper(), name[0].islower(), name)) == list(
        pulseweir.mapping.__all__
    )


def test_a_measurement_has_the_fields_it_promises() -> None:
    body = {"device": "d", "at": "2030-01-01T01:00:00.000007+01:00", "patient": "p", "systolic": 120}

    [found] = DeviceMapping.load(DEVICE).normalize({"Body": body, "Properties": {}, "SystemProperties": {}})

    assert (found.type, found.device_id, found.patient_id) == ("pressure", "d", "p")
    assert (found.encounter_id, found.correlation_id) == (None, None)
    assert found.occurred_at == datetime(2030, 1, 1, 0, 0, 0, 7, tzinfo=UTC)
    assert found.occurred_at.tzinfo is UTC
    assert found.properties == {"systolic": "120"}


def test_a_message_error_says_which_template_which_expression_and_why() -> None:
    with pytest.raises(MessageError) as caught:
        DeviceMapping.load(DEVICE).normalize({"Body": {"systolic": 120, "device": "d"}})

    assert (caught.value.template, caught.value.expression, caught.value.reason) == ("0", "$.at", "incompatible-data")
    assert "120" not in str(caught.value)


def test_a_mapping_error_lists_every_fault_with_place_member_and_remedy() -> None:
    text = """{"templateType": "CollectionContent", "template": [
  {"templateType": "CalculatedContent", "template": {"typeName": "a",
     "typeMatchExpression": {"value": "to_array(", "language": "JmesPath"},
     "deviceIdExpression": "$.d", "surplus": 1}},
  {"templateType": "Unknown", "template": {}}]}"""

    with pytest.raises(MappingError) as caught:
        DeviceMapping.loads(text, source="mine.json")

    places = {(fault.line, fault.member) for fault in caught.value.faults}
    assert places >= {
        (3, "template[0].template.typeMatchExpression"),
        (4, "template[0].template.surplus"),
        (2, "template[0].template.timestampExpression"),
        (5, "template[1].templateType"),
    }
    assert all(fault.column and fault.remedy for fault in caught.value.faults)
    assert "mine.json" in str(caught.value)


@pytest.mark.parametrize("kind", [DeviceMapping, FhirMapping])
def test_a_file_that_is_no_text_is_a_fault_of_the_mapping(kind: type[DeviceMapping], tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mapping.json").write_bytes(b'{"templateType": "\xff\xfe"}')

    with pytest.raises(MappingError, match="UTF-8"):
        kind.load(tmp_path / "mapping.json")


def test_a_batch_answers_in_two_tables() -> None:
    bodies = [b'{"systolic": 120, "device": "d", "at": "2030-01-01T00:00:00Z"}', b'{"systolic": 1}', b"{"]

    found = DeviceMapping.load(DEVICE).normalize_batch(bodies)

    assert isinstance(found, Normalized)
    assert isinstance(found.measurements, pa.Table)
    assert found.measurements.schema == NORMALIZED_SCHEMA
    assert found.rejects.schema == REJECT_SCHEMA
    assert found.measurements["text"].to_pylist() == ["120"]
    assert found.rejects["message"].to_pylist() == [1, 2]


def test_an_observation_is_made_new_and_merged_into_a_stored_one() -> None:
    mapping = FhirMapping.load(FHIR)
    group = {
        "measureType": "PRESSURE",
        "deviceId": "d",
        "patientId": "p",
        "data": [{"occurrenceTimeUtc": "2030-01-01T00:00:00Z", "properties": {"systolic": "120"}}],
    }
    later = group | {"data": [{"occurrenceTimeUtc": "2030-01-01T00:01:00Z", "properties": {"systolic": "121"}}]}

    made = mapping.observation(group, patient_id="P", device_id="D", encounter_id="E")
    assert isinstance(made, dict)
    merged = mapping.observation(later, made, patient_id="P", device_id="D")

    assert isinstance(merged, dict)
    assert (made["status"], merged["status"]) == ("final", "amended")
    assert made["encounter"] == {"reference": "Encounter/E"}
    assert str(merged["valueSampledData"]["data"]).startswith("120 121 E")  # type: ignore[index]
    assert mapping.observation(group, made) == made


def test_a_group_of_several_instants_makes_a_list() -> None:
    mapping = FhirMapping.load(FHIR)
    rows = [
        {"occurrenceTimeUtc": f"2030-01-01T0{hour}:00:00Z", "properties": {"systolic": "120"}} for hour in (0, 1, 2)
    ]

    made = mapping.observation({"measureType": "pressure", "data": rows})

    assert isinstance(made, list)
    assert len({str(one["id"]) for one in made}) == 3


def test_a_group_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(MessageError) as caught:
        FhirMapping.load(FHIR).observation({"measureType": "other", "data": []})

    assert caught.value.reason == "no-fhir-template"
