"""Vitals over time from Observations, and names from Patients."""

from typing import Any

import invented_ward
from invented_ward import BEDS, SECOND
from pulseweir.clock import to_text
from pulseweir.web.charts import chart_json, is_gap
from pulseweir.web.names import person_of
from pulseweir.web.vitals_history import History, Sample, history_of_resources, history_of_scores

NOW = 1_700_000_000 * SECOND


def observation(**parts: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "effectiveDateTime": to_text(NOW)} | parts


def coded(loinc: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": loinc}]}


def quantity(number: float, code: str) -> dict[str, Any]:
    return {"value": number, "system": "http://unitsofmeasure.org", "code": code}


def test_components_become_series_of_their_own() -> None:
    panel = observation(
        code=coded("85354-9"),
        component=[
            {"code": coded("8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
            {"code": coded("8462-4"), "valueQuantity": quantity(70, "mm[Hg]")},
        ],
    )

    history = history_of_resources([panel], 0)

    assert history.samples["systolic_bp"] == [Sample(NOW, 120.0, True)]
    assert history.samples["diastolic_bp"] == [Sample(NOW, 70.0, True)]


def test_impossible_values_are_kept_and_marked() -> None:
    history = history_of_resources([observation(code=coded("8480-6"), valueQuantity=quantity(11_647, "mm[Hg]"))], 0)

    assert history.samples["systolic_bp"] == [Sample(NOW, 11_647.0, False)]


def test_sampled_data_unfolds_and_its_empty_slots_stay_gaps() -> None:
    sampled = {"origin": quantity(0, "/min"), "period": 1000, "data": "60 E 62"}

    history = history_of_resources([observation(code=coded("8867-4"), valueSampledData=sampled)], 0)

    assert [(one.at - NOW, one.number) for one in history.samples["heart_rate"]] == [
        (0, 60.0),
        (2 * SECOND, 62.0),
    ]


def test_what_cannot_be_read_is_left_out() -> None:
    resources = [
        observation(code=coded("0000-0"), valueQuantity=quantity(1, "/min")),
        observation(code=coded("8867-4"), valueCodeableConcept={"text": "high"}),
        {"code": coded("8867-4"), "valueQuantity": quantity(60, "/min"), "effectiveDateTime": "yesterday"},
        {"code": coded("8867-4"), "valueQuantity": quantity(60, "/min")},
    ]

    assert history_of_resources(resources, 0).samples == {}


def test_values_before_the_span_are_left_out() -> None:
    assert (
        history_of_resources([observation(code=coded("8867-4"), valueQuantity=quantity(60, "/min"))], NOW + 1).samples
        == {}
    )


def test_scored_windows_stand_in_and_say_so() -> None:
    history = history_of_scores(invented_ward.history_of(BEDS[0], NOW))

    assert history.source == "scores"
    assert len(history.samples["spo2"]) > 10


def test_charts_of_a_patient_without_anything_are_still_charts() -> None:
    item = chart_json([], [], [], History(), span=(NOW - 10, NOW), spo2_scale=2)

    assert item["root_id"]


def test_half_an_hour_without_data_breaks_the_line() -> None:
    assert is_gap(NOW, NOW + 1_801 * SECOND)
    assert not is_gap(NOW, NOW + 1_799 * SECOND)


def test_names_are_read_as_fhir_gives_them() -> None:
    assert person_of({"name": [{"text": "Hazel Example"}], "birthDate": "1950-01-01"}).initials == "HE"
    assert (
        person_of(
            {"name": [{"use": "nickname", "text": "Zed"}, {"use": "official", "family": "Q", "given": ["R"]}]}
        ).name
        == "R Q"
    )
    assert person_of({}).initials == ""
