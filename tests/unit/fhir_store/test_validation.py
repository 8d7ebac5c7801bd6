"""Which resources the store takes, and how it names what is wrong with the others."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.definitions.tables import elements_of
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.validation import check_resource

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


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_every_type_has_elements_and_parameters(resource_type: str) -> None:
    assert "meta" in elements_of(resource_type)
    assert all(found.key.startswith(resource_type) for found in parameters_of(resource_type).values())


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
