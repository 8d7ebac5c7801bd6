"""Step 13a: the words and codes in which a score is told to FHIR and to people. Pure.

Source: Royal College of Physicians, NEWS2, 2017, chart 4 (responses, in our words); UK Core ValueSet
EarlyWarningSubScore 1.8.0 (SNOMED CT UK extension codes); HL7 CodeSystem risk-probability.
"""

from collections.abc import Sequence

import msgspec

from pulseweir.records.codes import PULSEWEIR

SCORE_SYSTEM = f"{PULSEWEIR}/CodeSystem/early-warning-score"
BAND_SYSTEM = f"{PULSEWEIR}/CodeSystem/risk-band"
METHOD_SYSTEM = f"{PULSEWEIR}/CodeSystem/scoring-method"
RULE_SYSTEM = f"{PULSEWEIR}/CodeSystem/flag-rule"
SIGNAL_SYSTEM = f"{PULSEWEIR}/CodeSystem/signal-quality"
COMPLETENESS_SYSTEM = f"{PULSEWEIR}/CodeSystem/score-completeness"
RISK_PROBABILITY = "http://terminology.hl7.org/CodeSystem/risk-probability"

QUALITATIVE_RISK = {"low": "low", "low-medium": "moderate", "medium": "moderate", "high": "high"}
"""HL7 has no low-medium: it is told as moderate, with our own coding for the exact band beside it."""

NEWS2_TOTAL_SNOMED = "1104051000000101"
NEWS2_PART_SNOMED = {
    "respiratory_rate": "1104301000000104",
    "spo2": "1104311000000102",
    "air_or_oxygen": "1104331000000105",
    "systolic_bp": "1104341000000101",
    "pulse": "1104351000000103",
    "consciousness": "1104361000000100",
    "temperature": "1104371000000107",
}
NEWS2_SPO2_SCALE_2_SNOMED = "1104321000000108"

RESPONSE = {
    "low": "Continue routine monitoring, at least every 12 hours; from 1 point on a registered nurse assesses and the "
    "next set is due within 4 to 6 hours.",
    "low-medium": "One parameter scores 3: a registered nurse informs the medical team, who review the patient and "
    "decide on escalation; monitor at least hourly.",
    "medium": "Urgent response: inform the medical team at once and have the patient assessed by a clinician competent "
    "in acute illness; monitor at least hourly.",
    "high": "Emergency response: inform the medical team at once, at specialist registrar level or above, assess by a "
    "team with critical-care skills, consider a higher level of care; monitor continuously.",
}

_TITLES = {
    "respiratory_rate": "respiratory rate",
    "spo2": "oxygen saturation",
    "air_or_oxygen": "supplemental oxygen",
    "systolic_bp": "systolic pressure",
    "heart_rate": "heart rate",
}


class Contribution(msgspec.Struct, frozen=True):
    """What one parameter added to a score; saturation on an unknown scale has both, and `points` the higher."""

    parameter: str
    points: float | None = None
    on_scale_1: float | None = None
    on_scale_2: float | None = None


_CONTRIBUTIONS = msgspec.json.Decoder(list[Contribution])


def contributions(text: str) -> list[Contribution]:
    """Decode a `contributions_json` column."""
    return _CONTRIBUTIONS.decode(text)


def model_title(model: str) -> str:
    """What people call a model.

    >>> model_title("news2"), model_title("personal_baseline")
    ('NEWS2', 'personal baseline')
    """
    return "NEWS2" if model == "news2" else model.replace("_", " ").replace("-", " ")


def parameter_title(parameter: str) -> str:
    """What people call a parameter."""
    return _TITLES.get(parameter, parameter.replace("_", " "))


def headline(model: str, score: float | None, band: str | None, *, at_least: bool = False) -> str:
    """A score in a few words; a partial one is told as the least it can be.

    >>> headline("news2", 8.0, "high"), headline("news2", 8.0, "high", at_least=True)
    ('NEWS2 8 (high)', 'NEWS2 at least 8 (high)')
    """
    number = "" if score is None else f" {'at least ' if at_least else ''}{score:g}"
    return f"{model_title(model)}{number}" + (f" ({band})" if band else "")


def rationale(parts: Sequence[Contribution], missing: Sequence[str], stale: Sequence[str]) -> str:
    """What raised the score, and what was not known.

    >>> rationale([Contribution("pulse", 2), Contribution("spo2", 3), Contribution("temperature", 0)], [], ["spo2"])
    'Raised by oxygen saturation 3, pulse 2. Stale: oxygen saturation.'
    """
    raised = sorted((part for part in parts if part.points), key=lambda part: -(part.points or 0))
    told = ", ".join(f"{parameter_title(part.parameter)} {part.points:g}" for part in raised)
    return f"{f'Raised by {told}.' if raised else 'No parameter raised it.'} {unknown(missing, stale)}".strip()


def unknown(missing: Sequence[str], stale: Sequence[str]) -> str:
    """What was not known when a score was made; empty when all was."""
    named = (("Missing", [name for name in missing if name not in stale]), ("Stale", stale))
    return " ".join(f"{word}: {', '.join(map(parameter_title, names))}." for word, names in named if names)
