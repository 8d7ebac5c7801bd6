"""Step 13a: a scored window as FHIR: its score Observation, its RiskAssessment, its model's Device, its Flag. Pure.

Source: HL7 FHIR R4 RiskAssessment, Observation, Flag; UK Core NEWS2 examples; extensions flag-detail, flag-priority.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pulseweir.clock import to_text
from pulseweir.hot_path.flag import Episode
from pulseweir.hot_path.score_doubts import abstained_because, flat_lines, inputs, sentences
from pulseweir.hot_path.score_wording import (
    BAND_SYSTEM,
    COMPLETENESS_SYSTEM,
    METHOD_SYSTEM,
    NEWS2_PART_SNOMED,
    NEWS2_SPO2_SCALE_2_SNOMED,
    NEWS2_TOTAL_SNOMED,
    QUALITATIVE_RISK,
    RESPONSE,
    RISK_PROBABILITY,
    RULE_SYSTEM,
    SCORE_SYSTEM,
    SIGNAL_SYSTEM,
    contributions,
    headline,
    model_title,
    parameter_title,
    unknown,
)
from pulseweir.hot_path.scored_window import ABSTAINED, INSUFFICIENT, ScoredWindow
from pulseweir.hot_path.settings import RiskAssessmentSettings
from pulseweir.records.codes import OBSERVATION_CATEGORY, PULSEWEIR, SNOMED, UCUM
from pulseweir.records.identifiers import digest, risk_assessment_id, score_observation_id

Resource = dict[str, Any]

_LEGAL_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_FLAG_PRIORITY = {"low": "PL", "low-medium": "PL", "medium": "PM", "high": "PH"}
_FLAG_DETAIL = "http://hl7.org/fhir/StructureDefinition/flag-detail"
_FLAG_PRIORITY_EXTENSION = "http://hl7.org/fhir/StructureDefinition/flag-priority"
_ASSESSMENT_OF_RISK = {"coding": [{"system": SNOMED, "code": "709510001", "display": "Assessment of risk for disease"}]}
_SURVEY = [{"coding": [{"system": OBSERVATION_CATEGORY, "code": "survey"}]}]
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_PARTIAL = {
    "coding": [{"system": COMPLETENESS_SYSTEM, "code": "partial", "display": "Something was not known or in doubt"}],
    "text": "Partial",
}
_FLAT_LINE = {
    "coding": [{"system": SIGNAL_SYSTEM, "code": "flat-line", "display": "Unchanged for longer than is likely"}],
    "text": "Unchanged for hours: check the sensor",
}
_DOUBTFUL = {
    "coding": [{"system": SIGNAL_SYSTEM, "code": "doubtful", "display": "Not the newest thing known"}],
    "text": "Doubtful: a newer reading could not be used",
}


def model_device_id(model: str, version: str) -> str:
    """The FHIR id of the Device that stands for a model."""
    name = f"model-{model.replace('_', '-')}-{version}"
    return name if _LEGAL_ID.fullmatch(name) else digest("model", model, version)


def model_device(model: str, version: str) -> Resource:
    """The Device that stands for a model."""
    return {
        "resourceType": "Device",
        "id": model_device_id(model, version),
        "identifier": [{"system": f"{PULSEWEIR}/NamingSystem/model", "value": f"{model}|{version}"}],
        "status": "active",
        "deviceName": [{"name": model_title(model), "type": "model-name"}],
        "type": {"text": "Risk model"},
        "version": [{"value": version}],
    }


def assessment_id(window: ScoredWindow) -> str:
    """The FHIR id of a window's RiskAssessment."""
    return risk_assessment_id(
        window.patient_id, window.model, window.model_version, window.window_start, window.window_end
    )


def observation_id(window: ScoredWindow) -> str:
    """The FHIR id of a window's score Observation."""
    return score_observation_id(
        window.patient_id, window.model, window.model_version, window.window_start, window.window_end
    )


def window_resources(window: ScoredWindow, settings: RiskAssessmentSettings) -> list[tuple[str, msgspec.Raw]]:
    """What is written for one window: (address, JSON) of the score Observation, then of the RiskAssessment."""
    observation, assessment = score_observation(window, settings), risk_assessment(window, settings)
    return [
        (f"Observation/{observation['id']}", msgspec.Raw(msgspec.json.encode(observation))),
        (f"RiskAssessment/{assessment['id']}", msgspec.Raw(msgspec.json.encode(assessment))),
    ]


def score_observation(window: ScoredWindow, settings: RiskAssessmentSettings) -> Resource:
    """The score and its parts as an Observation.

    A score that could not, or may not, be made has a `dataAbsentReason`; a partial one an `interpretation` and a note,
    and for each part that is not known a component without a value.
    """
    number = _whole(window.score)
    measured = {"dataAbsentReason": _absence(window)} if number is None else {"valueQuantity": _points(number)}
    is_partial = window.status == "partial"
    resource = {
        "resourceType": "Observation",
        "id": observation_id(window),
        "status": _status(window),
        "category": _SURVEY,
        "code": _score_code(window.model, settings.snomed_score_codes),
        "subject": {"reference": f"Patient/{window.patient_id}"},
        "effectivePeriod": _period(window),
        "device": {"reference": f"Device/{model_device_id(window.model, window.model_version)}"},
        **measured,
        "interpretation": [_PARTIAL] if is_partial else [],
        "note": [{"text": sentences(window)}] if is_partial else [],
        "derivedFrom": _observations(window.basis[-settings.basis_limit :]),
        "component": _components(window, settings.snomed_score_codes),
    }
    return {name: content for name, content in resource.items() if content}


def risk_assessment(window: ScoredWindow, settings: RiskAssessmentSettings) -> Resource:
    """One window and model. A score is no probability: `probabilityDecimal` is there only if the model gives one.

    A patient whom the model may not score gets no prediction at all, and a note that says why.
    """
    identifier = assessment_id(window)
    resource: Resource = {
        "resourceType": "RiskAssessment",
        "id": identifier,
        "identifier": [{"system": f"{PULSEWEIR}/NamingSystem/risk-assessment", "value": identifier}],
        "status": _status(window),
        "method": _method(window.model, window.model_version),
        "code": _ASSESSMENT_OF_RISK,
        "subject": {"reference": f"Patient/{window.patient_id}"},
        "occurrencePeriod": _period(window),
        "performer": {"reference": f"Device/{model_device_id(window.model, window.model_version)}"},
        "basis": _observations([observation_id(window), *window.basis[-settings.basis_limit :]]),
    }
    if window.status == ABSTAINED:
        return resource | {"note": [{"text": abstained_because(window.abstained or "")}]}
    resource["prediction"] = [_prediction(window)]
    response = None if window.status == INSUFFICIENT else RESPONSE.get(window.band or "")
    return resource | ({"mitigation": response} if response else {})


def flag_resource(
    episode: Episode, assessments: Sequence[str], settings: RiskAssessmentSettings, *, at_least: bool = False
) -> Resource:
    """A Flag in its latest state.

    Args:
        episode: The Flag.
        assessments: Ids of its windows' RiskAssessments, oldest first.
        settings: How much is told.
        at_least: Whether the score of its newest window outside is the least that the true one can be.
    """
    told = headline(episode.rule, episode.last_score, episode.last_band, at_least=at_least)
    period = {"start": to_text(episode.start_at)}
    if episode.end_at is not None:
        period["end"] = to_text(episode.end_at)
    evidence = [
        {"url": _FLAG_DETAIL, "valueReference": {"reference": f"RiskAssessment/{identifier}"}}
        for identifier in assessments[-settings.evidence_limit :]
    ]
    priority = {"system": "http://hl7.org/fhir/flag-priority-code", "code": _FLAG_PRIORITY.get(episode.peak_band, "PM")}
    return {
        "resourceType": "Flag",
        "id": episode.flag_id,
        "extension": [
            {"url": _FLAG_PRIORITY_EXTENSION, "valueCodeableConcept": {"coding": [priority]}},
            *evidence,
        ],
        "identifier": [{"system": f"{PULSEWEIR}/NamingSystem/flag", "value": episode.flag_id}],
        "status": "entered-in-error" if episode.status == "withdrawn" else episode.status,
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "clinical"}]}
        ],
        "code": {"coding": [{"system": RULE_SYSTEM, "code": episode.rule}], "text": f"{told}: review"},
        "subject": {"reference": f"Patient/{episode.patient_id}"},
        "period": period,
        "author": {"reference": f"Device/{model_device_id(episode.rule, episode.model_version)}"},
    }


def _status(window: ScoredWindow) -> str:
    if not window.is_final:
        return "preliminary"
    return "amended" if window.revision > 1 else "final"


def _period(window: ScoredWindow) -> dict[str, str]:
    return {"start": to_text(window.window_start), "end": to_text(window.window_end)}


def _observations(identifiers: Sequence[str]) -> list[dict[str, str]]:
    return [{"reference": f"Observation/{identifier}"} for identifier in identifiers]


def _whole(score: float | None) -> float | None:
    return int(score) if score is not None and score == int(score) else score


def _points(number: float) -> Resource:
    return {"value": number, "unit": "{score}", "system": UCUM, "code": "{score}"}


def _prediction(window: ScoredWindow) -> Resource:
    prediction: Resource = {"outcome": {"text": "Clinical deterioration"}}
    if window.probability is not None:
        prediction["probabilityDecimal"] = round(window.probability * 100, 3)
    if window.status == INSUFFICIENT:
        told = f"Insufficient data, not scored. {unknown(window.missing, window.stale)} {sentences(window)}"
        prediction["rationale"] = told.replace("  ", " ").strip()
        return prediction
    if window.band is not None:
        prediction["qualitativeRisk"] = _risk(window.band)
    prediction["rationale"] = f"{headline(window.model, window.score, window.band)}. {sentences(window)}"
    return prediction


@lru_cache(maxsize=64)
def _risk(band: str) -> Resource:
    coding = [{"system": BAND_SYSTEM, "code": band}]
    if band in QUALITATIVE_RISK:
        coding.insert(0, {"system": RISK_PROBABILITY, "code": QUALITATIVE_RISK[band]})
    return {"coding": coding, "text": band}


@lru_cache(maxsize=64)
def _method(model: str, version: str) -> Resource:
    method = {"system": METHOD_SYSTEM, "code": model} | ({"version": "2017"} if model == "news2" else {})
    return {"coding": [method], "text": f"{model}@{version}"}


@lru_cache(maxsize=64)
def _score_code(model: str, with_snomed: bool) -> Resource:
    coding = [{"system": SCORE_SYSTEM, "code": f"{model}-total", "display": f"{model_title(model)} total score"}]
    if model == "news2" and with_snomed:
        coding.append({"system": SNOMED, "code": NEWS2_TOTAL_SNOMED})
    return {"coding": coding, "text": f"{model_title(model)} total score"}


@lru_cache(maxsize=256)
def _part_code(model: str, parameter: str, scale: int | None, with_snomed: bool) -> Resource:
    coding = [{"system": SCORE_SYSTEM, "code": f"{model}-{parameter.replace('_', '-')}"}]
    snomed = NEWS2_PART_SNOMED.get(parameter)
    if parameter == "spo2":
        # The code of this part names the scale: where that is not known, there is none.
        snomed = {1: snomed, 2: NEWS2_SPO2_SCALE_2_SNOMED}.get(scale or 0)
    if model == "news2" and with_snomed and snomed is not None:
        coding.append({"system": SNOMED, "code": snomed})
    return {"coding": coding, "text": f"{parameter_title(parameter)} points"}


def _components(window: ScoredWindow, with_snomed: bool) -> list[Resource]:
    if window.status == ABSTAINED:
        return []
    parts = [part for part in contributions(window.contributions_json) if part.points is not None]
    scored = [part.parameter for part in parts]
    flat = flat_lines(inputs(window.inputs_json), scored)
    made = []
    for part in parts:
        component = {
            "code": _part_code(window.model, part.parameter, window.spo2_scale, with_snomed),
            "valueQuantity": _points(_whole(part.points) or 0),
        }
        marks = [_FLAT_LINE] * (part.parameter in flat) + [_DOUBTFUL] * (part.parameter in window.doubtful)
        made.append(component | ({"interpretation": marks} if marks else {}))
    for name in dict.fromkeys([*window.missing, *window.stale]):
        if name not in scored:
            absent = _absent("unknown", "too old to be scored" if name in window.stale else "no usable value")
            code = _part_code(window.model, name, window.spo2_scale, with_snomed)
            made.append({"code": code, "dataAbsentReason": absent})
    return made


def _absence(window: ScoredWindow) -> Resource:
    """Why a window has no score."""
    if window.status == ABSTAINED:
        return _absent("not-applicable", abstained_because(window.abstained or ""))
    return _absent("unknown", "insufficient data")


def _absent(code: str, text: str) -> Resource:
    return {"coding": [{"system": _ABSENT, "code": code}], "text": text}
