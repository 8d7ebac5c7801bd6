"""What a score says of itself: not to be made, partial and why, doubtful, not known, unchanged for hours."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.fhir_store.validation import check_resource
from pulseweir.hot_path.risk_assessment import risk_assessment, score_observation
from pulseweir.hot_path.score_doubts import sentences
from pulseweir.hot_path.scored_window import ScoredWindow
from pulseweir.hot_path.settings import RiskAssessmentSettings
from risk_rows import fhir_stage, record_stage, row, table
from unit.hot_path.test_risk_assessment import WINDOW

SETTINGS = RiskAssessmentSettings()
PARTIAL = replace(WINDOW, status="partial")


def parts(**points: Any) -> str:
    return json.dumps([{"parameter": name, "points": value} for name, value in points.items()])


def entries(*found: dict[str, Any]) -> str:
    return json.dumps(list(found))


def checked(window: ScoredWindow) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score Observation and RiskAssessment, both valid R4."""
    made = score_observation(window, SETTINGS), risk_assessment(window, SETTINGS)
    for resource in made:
        check_resource(json.loads(json.dumps(resource)), level="strict")
    return made


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("age-under-16", "NEWS2 is not meant for patients under 16 years: not scored."),
        ("pregnancy", "NEWS2 is not meant for pregnant patients: not scored."),
        ("unknown-age", "not known"),
        ("another-reason", "another reason"),
    ],
)
def test_a_score_that_may_not_be_made_predicts_nothing_and_says_why(reason: str, told: str) -> None:
    window = replace(WINDOW, status="abstained", score=None, band=None, single_red=False, abstained=reason)
    observation, assessment = checked(replace(window, contributions_json="[]", basis=[]))

    assert not assessment.keys() & {"prediction", "mitigation"}
    assert told in assessment["note"][0]["text"]
    assert assessment["status"] == "final"
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-applicable"
    assert told in observation["dataAbsentReason"]["text"]
    assert not observation.keys() & {"valueQuantity", "component"}


@pytest.mark.parametrize(
    ("scales", "told"),
    [
        ((0, 3), "SpO2 scale not known: 4 on scale 1, 7 on scale 2; the higher is used."),
        ((3, 0), "SpO2 scale not known: 7 on scale 1, 4 on scale 2; the higher is used."),
        ((3, 3), "SpO2 scale not known; both give this score."),
        ((None, None), "SpO2 scale not known."),
    ],
)
def test_an_unknown_scale_tells_both_totals_and_is_no_lower_bound(scales: tuple[Any, Any], told: str) -> None:
    spo2 = {"parameter": "spo2", "points": 3, "on_scale_1": scales[0], "on_scale_2": scales[1]}
    text = json.dumps([{"parameter": "pulse", "points": 4}, spo2])
    window = replace(PARTIAL, unknown=["spo2_scale"], spo2_scale=None, contributions_json=text)
    observation, assessment = checked(window)

    rationale = assessment["prediction"][0]["rationale"]
    assert told in rationale
    assert "lower bound" not in rationale
    assert "may be higher" not in rationale
    codes = [coding["code"] for part in observation["component"] for coding in part["code"]["coding"]]
    assert not {"1104311000000102", "1104321000000108"} & set(codes)


def test_what_is_not_known_of_the_patient_is_told() -> None:
    rationale = sentences(replace(PARTIAL, unknown=["age", "pregnancy"]))

    assert rationale.endswith("Age not known. Pregnancy not known.")


@pytest.mark.parametrize(
    ("quality", "told"),
    [
        ("impossible", "newest reading impossible"),
        ("suspect", "newest reading suspect and not confirmed"),
        ("future", "newest reading by a clock that is ahead, held until its time"),
        ("not-understood", "newest entry not understood"),
        ("some-other", "newest reading not usable"),
    ],
)
def test_a_doubtful_parameter_is_told_with_its_reason_and_marked(quality: str, told: str) -> None:
    heart = {"vital": "heart_rate", "value": 78, "newest": {"value": 0, "quality": quality}}
    observation, assessment = checked(replace(PARTIAL, doubtful=["pulse"], inputs_json=entries(heart)))

    rationale = assessment["prediction"][0]["rationale"]
    assert f"Doubtful: pulse ({told}; last good value used). The true score may be higher." in rationale
    marked = {
        part["code"]["text"]: part["interpretation"] for part in observation["component"] if "interpretation" in part
    }
    assert [code["coding"][0]["code"] for code in marked["pulse points"]] == ["doubtful"]
    assert len(marked) == 1
    assert observation["interpretation"][0]["coding"][0]["code"] == "partial"
    assert told in observation["note"][0]["text"]


def test_a_doubtful_parameter_without_a_value_is_told_as_not_scored() -> None:
    told = {"vital": "consciousness", "text": "A", "usable": False, "newest": {"quality": "not-understood"}}
    window = replace(PARTIAL, doubtful=["consciousness"], missing=["consciousness"], inputs_json=entries(told))

    assert "Doubtful: consciousness (newest entry not understood; not scored)." in sentences(window)


def test_a_missing_part_is_a_component_without_a_value() -> None:
    window = replace(PARTIAL, missing=["temperature", "consciousness"], stale=["temperature"])
    observation, _ = checked(window)

    absent = {part["code"]["text"]: part["dataAbsentReason"]["text"] for part in observation["component"][4:]}
    assert absent == {"temperature points": "too old to be scored", "consciousness points": "no usable value"}


def test_a_complete_score_has_no_note_and_no_mark() -> None:
    observation, assessment = checked(WINDOW)

    assert not observation.keys() & {"note", "interpretation"}
    assert "note" not in assessment


@pytest.mark.parametrize(("vital", "parameter"), [("systolic_bp", "systolic_bp"), ("heart_rate", "pulse")])
def test_a_value_unchanged_for_hours_is_marked_on_its_part(vital: str, parameter: str) -> None:
    window = replace(
        WINDOW,
        contributions_json=parts(**{parameter: 0, "spo2": 2}),
        inputs_json=entries({"vital": vital, "value": 118, "flat_line": True}, {"vital": "spo2", "value": 95}),
    )
    observation, assessment = checked(window)

    flat, other = observation["component"]
    assert flat["interpretation"][0]["coding"][0]["code"] == "flat-line"
    assert "interpretation" not in other
    assert "Unchanged for hours, check the sensor" in assessment["prediction"][0]["rationale"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            {"vital": "glasgow_coma_scale", "value": 6, "summed_from_parts": True},
            "Consciousness by a Glasgow coma scale of 6, summed from its parts.",
        ),
        ({"vital": "glasgow_coma_scale", "value": 3}, "Consciousness by a Glasgow coma scale of 3."),
        ({"vital": "consciousness", "text": "C"}, "Consciousness: new confusion."),
        ({"vital": "consciousness", "text": "CVPU"}, "Consciousness: not alert, level not recorded."),
        ({"vital": "fio2", "value": 50}, "Oxygen by an inhaled fraction of 50 %."),
        ({"vital": "fio2", "value": 0.5}, "Oxygen by an inhaled fraction of 50 %."),
        ({"vital": "oxygen_flow", "value": 2.5}, "Oxygen by a flow of 2.5 L/min."),
    ],
)
def test_the_words_follow_the_entry_that_decided(found: dict[str, Any], told: str) -> None:
    others = ({"vital": "consciousness", "text": "A"}, {"vital": "oxygen_flow", "value": 0})
    window = replace(
        WINDOW,
        contributions_json=parts(consciousness=3, air_or_oxygen=2),
        inputs_json=entries(*others, found | {"decides": True}),
    )

    assert sentences(window).endswith(told)
    assert sentences(window).count("Oxygen by") + sentences(window).count("Consciousness") == 1


def test_what_decided_and_raised_nothing_is_not_told() -> None:
    air = entries({"vital": "oxygen_flow", "value": 0, "decides": True})

    assert "Oxygen" not in sentences(replace(WINDOW, contributions_json=parts(air_or_oxygen=0), inputs_json=air))


def test_too_few_values_tell_what_is_known_so_far() -> None:
    window = replace(
        WINDOW, status="insufficient-data", score=None, band=None, missing=["spo2"], contributions_json=parts(pulse=1)
    )
    _, assessment = checked(window)

    assert assessment["prediction"][0]["rationale"] == (
        "Insufficient data, not scored. Missing: oxygen saturation. Known so far: pulse 1; at least 1 in total."
    )
    assert "mitigation" not in assessment


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"status": "partial", "missing": ["temperature"]}, "NEWS2 at least 8 (high): review"),
        ({"status": "partial", "missing": ["temperature"], "doubtful": ["pulse"]}, "NEWS2 8 (high): review"),
        ({"status": "partial", "unknown": ["age"]}, "NEWS2 8 (high): review"),
        ({"status": "partial", "missing": ["pulse"], "unknown": ["spo2_scale"]}, "NEWS2 8 (high): review"),
        ({}, "NEWS2 8 (high): review"),
    ],
)
async def test_a_flag_says_at_least_where_its_score_is_a_lower_bound(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient, facts: dict[str, Any], told: str
) -> None:
    batch = table(row("p1", 0, 8, **facts), row("p2", 0, None, status="abstained", abstained="pregnancy"))
    await record_stage(repository, bus).handle(batch)

    await fhir_stage(repository, fhir).handle(batch)

    [flag] = await fhir.search("Flag", {})
    assert flag["code"]["text"] == told
    [abstained] = [one for one in await fhir.search("RiskAssessment", {}) if "prediction" not in one]
    assert abstained["subject"]["reference"] == "Patient/p2"
