"""Scored windows as the hot path reads them, and the stages that take them in."""

from typing import Any

import pyarrow as pa

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository
from pulseweir.hot_path.fhir_risk import FhirRiskStage
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.settings import CareRoutingSettings, FhirRiskSettings, RiskAssessmentSettings
from pulseweir.records.topics import RISK_SCORE_SCHEMA

MINUTE = 60_000_000
FLAGS, ROUTING = FlagSettings(), CareRoutingSettings()


def row(patient_id: str, minute: int, score: float | None = 1, **other: Any) -> dict[str, Any]:
    start = minute * MINUTE
    band = None if score is None else "high" if score >= 7 else "medium" if score >= 5 else "low"
    facts = {
        "patient_id": patient_id,
        "model": "news2",
        "model_version": "1",
        "window_start": start,
        "window_end": start + MINUTE,
        "revision": 1,
        "preliminary": False,
        "live": False,
        "backfill": False,
        "status": "insufficient-data" if score is None else "complete",
        "score": score,
        "probability": None,
        "band": band,
        "single_red": False,
        "contributions_json": '[{"parameter":"pulse","points":2}]',
        "inputs_json": "[]",
        "missing": [],
        "stale": [],
        "basis": ["b" * 64],
        "newest_occurred_at": start + 30_000_000,
        "newest_received_at": start + 31_000_000,
        "ward": "Ward A",
        "bed": "Bed 01",
        "age_years": 70,
        "sex": "female",
        "spo2_scale": 1,
        "scored_at": start + MINUTE,
    }
    return facts | other


def live(patient_id: str, minute: int, score: float, **other: Any) -> dict[str, Any]:
    return row(patient_id, minute, score, live=True, preliminary=True, revision=0, **other)


def table(*rows: dict[str, Any]) -> dict[int, pa.Table]:
    return {0: pa.Table.from_pylist(list(rows), schema=RISK_SCORE_SCHEMA)}


def record_stage(repository: Repository, bus: EmbeddedBus) -> RecordStage:
    return RecordStage(repository, bus, FLAGS, ROUTING)


def fhir_stage(repository: Repository, fhir: FhirClient, **options: Any) -> FhirRiskStage:
    return FhirRiskStage(repository, fhir, FhirRiskSettings(**options), RiskAssessmentSettings(), ROUTING)
