"""What flows: schemas without personal data, vitals with bounds that make sense."""

import pyarrow as pa
import pytest

from pulseweir.records.codes import VITAL_BY_LOINC, VITAL_BY_NAME, VITALS, Vital
from pulseweir.records.topics import INSTANT, SCHEMAS, SHARD_COLUMN

PERSONAL = ("patient_name", "family", "given", "birth", "address", "phone", "mail", "identifier", "mrn")


@pytest.mark.parametrize("topic", SCHEMAS)
def test_every_topic_is_cut_by_a_column_it_has(topic: str) -> None:
    assert SHARD_COLUMN[topic] in SCHEMAS[topic].names
    assert len(set(SCHEMAS[topic].names)) == len(SCHEMAS[topic].names)


@pytest.mark.parametrize("topic", SCHEMAS)
def test_no_column_holds_who_a_person_is(topic: str) -> None:
    assert [name for name in SCHEMAS[topic].names if any(word in name for word in PERSONAL)] == []


@pytest.mark.parametrize("topic", SCHEMAS)
def test_every_instant_is_in_microseconds_of_utc(topic: str) -> None:
    instants = [field for field in SCHEMAS[topic] if pa.types.is_timestamp(field.type)]

    assert instants
    assert all(field.type == INSTANT for field in instants)


@pytest.mark.parametrize("vital", VITALS, ids=lambda vital: vital.name)
def test_every_vital_has_codes_of_its_own_and_an_age(vital: Vital) -> None:
    assert VITAL_BY_NAME[vital.name] is vital
    assert all(VITAL_BY_LOINC[code] is vital for code in vital.loinc)
    assert vital.maximum_age_seconds > 0


def test_no_two_vitals_share_a_code() -> None:
    assert len(VITAL_BY_LOINC) == sum(len(vital.loinc) for vital in VITALS)


@pytest.mark.parametrize(
    ("name", "number", "is_possible"),
    [
        ("heart_rate", 0, False),
        ("heart_rate", 1, True),
        ("heart_rate", 300, False),
        ("spo2", 100, True),
        ("spo2", 100.1, False),
        ("systolic_bp", 11_647, False),
        ("temperature", 98.6, False),
        ("glasgow_coma_scale", 2, False),
        ("glasgow_coma_scale", 3, True),
        ("glasgow_coma_scale", 15, True),
        ("oxygen_flow", 0, True),
        ("heart_rate", float("nan"), False),
        ("heart_rate", float("inf"), False),
    ],
)
def test_bounds_tell_what_a_living_patient_can_have(name: str, number: float, is_possible: bool) -> None:
    assert VITAL_BY_NAME[name].is_possible(number) is is_possible
