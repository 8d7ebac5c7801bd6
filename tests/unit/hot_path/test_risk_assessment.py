"""Step 13a: what a scored window looks like in FHIR."""

from dataclasses import replace

import msgspec
import pytest

from pulseweir.hot_path.flag import FlagSettings, JudgedWindow, judge
from pulseweir.hot_path.risk_assessment import (
    flag_resource,
    model_device,
    model_device_id,
    risk_assessment,
    score_observation,
    window_resources,
)
from pulseweir.hot_path.score_wording import Contribution, rationale
from pulseweir.hot_path.scored_window import ScoredWindow
from pulseweir.hot_path.settings import RiskAssessmentSettings
from pulseweir.records.codes import SNOMED

SETTINGS = RiskAssessmentSettings()
MINUTE = 60_000_000
WINDOW = ScoredWindow(
    patient_id="p1",
    model="news2",
    model_version="1",
    window_start=0,
    window_end=MINUTE,
    revision=1,
    preliminary=False,
    live=False,
    backfill=False,
    status="complete",
    score=7.0,
    probability=None,
    band="high",
    single_red=True,
    contributions_json='[{"parameter":"respiratory_rate","points":3},{"parameter":"spo2","points":2},'
    '{"parameter":"air_or_oxygen","points":2},{"parameter":"pulse","points":0}]',
    inputs_json="[]",
    missing=[],
    stale=[],
    basis=["a" * 64, "b" * 64],
    newest_occurred_at=1,
    newest_received_at=2,
    ward="Ward A",
    bed="Bed 01",
    age_years=70,
    sex="female",
    spo2_scale=1,
    scored_at=MINUTE,
)


def test_the_window_the_basis_the_method_and_the_performer_are_told() -> None:
    observation, assessment = score_observation(WINDOW, SETTINGS), risk_assessment(WINDOW, SETTINGS)

    assert assessment["occurrencePeriod"] == {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:01:00.000Z"}
    assert assessment["basis"][0]["reference"] == f"Observation/{observation['id']}"
    assert [one["reference"] for one in observation["derivedFrom"]] == [f"Observation/{one}" for one in WINDOW.basis]
    assert assessment["method"]["coding"][0]["code"] == "news2"
    assert assessment["performer"] == {"reference": "Device/model-news2-1"}
    assert model_device("news2", "1")["id"] == "model-news2-1"


def test_a_score_is_no_probability() -> None:
    [prediction] = risk_assessment(WINDOW, SETTINGS)["prediction"]

    assert "probabilityDecimal" not in prediction
    assert prediction["rationale"] == (
        "NEWS2 7 (high). Raised by respiratory rate 3, oxygen saturation 2, supplemental oxygen 2."
    )


def test_a_models_probability_is_told_in_percent() -> None:
    window = replace(WINDOW, model="fitted", probability=0.1234)

    assert risk_assessment(window, SETTINGS)["prediction"][0]["probabilityDecimal"] == 12.34


@pytest.mark.parametrize(
    ("band", "told"), [("low", "low"), ("low-medium", "moderate"), ("medium", "moderate"), ("high", "high")]
)
def test_each_band_is_told_in_hl7s_words_and_exactly(band: str, told: str) -> None:
    [prediction] = risk_assessment(replace(WINDOW, band=band), SETTINGS)["prediction"]

    assert [coding["code"] for coding in prediction["qualitativeRisk"]["coding"]] == [told, band]


def test_insufficient_data_has_no_risk_no_mitigation_and_says_what_is_missing() -> None:
    window = replace(
        WINDOW,
        status="insufficient-data",
        score=None,
        band=None,
        contributions_json="[]",
        missing=["spo2", "pulse"],
        stale=["pulse"],
    )
    assessment, observation = risk_assessment(window, SETTINGS), score_observation(window, SETTINGS)

    [prediction] = assessment["prediction"]
    assert "qualitativeRisk" not in prediction
    assert "mitigation" not in assessment
    assert prediction["rationale"] == "Insufficient data, not scored. Missing: oxygen saturation. Stale: pulse."
    assert "valueQuantity" not in observation
    assert "dataAbsentReason" in observation


def test_a_partial_score_says_that_it_is_a_lower_bound() -> None:
    window = replace(WINDOW, status="partial", missing=["temperature"])

    assert risk_assessment(window, SETTINGS)["prediction"][0]["rationale"].endswith(
        "Missing: temperature. The total is a lower bound."
    )


def test_the_status_follows_the_revision() -> None:
    live = replace(WINDOW, live=True, preliminary=True, revision=0)

    statuses = [risk_assessment(window, SETTINGS)["status"] for window in (live, WINDOW, replace(WINDOW, revision=2))]

    assert statuses == ["preliminary", "final", "amended"]
    assert risk_assessment(live, SETTINGS)["id"] == risk_assessment(WINDOW, SETTINGS)["id"]


def test_our_own_codes_are_always_there_and_snomeds_where_wanted() -> None:
    with_snomed = score_observation(WINDOW, SETTINGS)
    without = score_observation(WINDOW, RiskAssessmentSettings(snomed_score_codes=False))

    assert {"system": SNOMED, "code": "1104051000000101"} in with_snomed["code"]["coding"]
    assert SNOMED not in msgspec.json.encode(without).decode()
    assert without["code"]["coding"][0]["code"] == "news2-total"
    assert [part["valueQuantity"]["value"] for part in without["component"]] == [3, 2, 2, 0]


def test_scale_2_has_its_own_sub_score_code() -> None:
    parts = score_observation(replace(WINDOW, spo2_scale=2), SETTINGS)["component"]

    codes = [coding["code"] for part in parts for coding in part["code"]["coding"]]
    assert "1104321000000108" in codes
    assert "1104311000000102" not in codes


def test_the_basis_is_capped_at_the_newest() -> None:
    window = replace(WINDOW, basis=[f"{number:064}" for number in range(9)])

    basis = risk_assessment(window, RiskAssessmentSettings(basis_limit=2))["basis"]

    assert [one["reference"][-1] for one in basis[1:]] == ["7", "8"]


def test_a_window_is_written_as_two_addresses_and_bodies() -> None:
    (first, observation), (second, assessment) = window_resources(WINDOW, SETTINGS)

    assert first == f"Observation/{msgspec.json.decode(observation)['id']}"
    assert second == f"RiskAssessment/{msgspec.json.decode(assessment)['id']}"


def test_a_flag_tells_its_worst_band_its_newest_score_and_its_evidence() -> None:
    windows = [
        JudgedWindow(start=0, end=MINUTE, outside=True, score=9.0, band="high", model_version="1"),
        JudgedWindow(start=MINUTE, end=2 * MINUTE, outside=True, score=5.0, band="medium", model_version="1"),
    ]
    [episode] = judge(windows, patient_id="p1", rule="news2", settings=FlagSettings()).episodes

    flag = flag_resource(episode, ["1" * 64, "2" * 64], RiskAssessmentSettings(evidence_limit=1))

    priority, *evidence = flag["extension"]
    assert priority["valueCodeableConcept"]["coding"][0]["code"] == "PH"
    assert [one["valueReference"]["reference"] for one in evidence] == ["RiskAssessment/" + "2" * 64]
    assert (flag["status"], flag["code"]["text"]) == ("active", "NEWS2 5 (medium): review")
    assert flag["period"] == {"start": "1970-01-01T00:00:00.000Z"}
    assert flag_resource(replace(episode, status="withdrawn"), [], SETTINGS)["status"] == "entered-in-error"


def test_a_device_id_is_legal_whatever_the_models_name() -> None:
    assert model_device_id("personal_baseline", "2") == "model-personal-baseline-2"
    assert len(model_device_id("modèle", "1")) == 64


def test_points_that_raised_nothing_are_not_told() -> None:
    assert rationale([Contribution("pulse", 0)], [], []) == "No parameter raised it."
