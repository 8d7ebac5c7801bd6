"""Rows of the repository as tests need them: everything filled in, what matters given."""

from dataclasses import fields
from typing import Any

from pulseweir.backends.repository.rows import AlertRow, FlagRow, LiveRow, ScoreRow, TransitionRow

MINUTE = 60_000_000
SCORED: dict[str, Any] = {
    "model": "news2",
    "model_version": "1",
    "status": "complete",
    "probability": None,
    "single_red": False,
    "backfill": False,
    "contributions_json": "[]",
    "inputs_json": "[]",
    "missing_json": "[]",
    "stale_json": "[]",
    "newest_received_at": 0,
    "ward": "Ward A",
    "bed": "Bed 01",
    "age_years": 70,
    "sex": "female",
    "spo2_scale": 1,
    "scored_at": 1,
}


def score_row(patient_id: str, minute: int, score: float = 1, *, revision: int = 1, **other: Any) -> ScoreRow:
    start = minute * MINUTE
    facts = {
        "patient_id": patient_id,
        "window_start": start,
        "window_end": start + MINUTE,
        "newest_occurred_at": start + 1,
        "revision": revision,
        "score": score,
        "band": "low",
    }
    return ScoreRow(**(SCORED | facts | other))


def live_row(patient_id: str, minute: int, second: int, **other: Any) -> LiveRow:
    start = minute * MINUTE
    facts = {
        "patient_id": patient_id,
        "window_start": start,
        "window_end": start + MINUTE,
        "newest_occurred_at": start + second * 1_000_000,
        "revision": 0,
        "score": 1.0,
        "band": "low",
        "preliminary": True,
    }
    return LiveRow(**(SCORED | facts | other))


def alert_row(alert_id: str, **other: Any) -> AlertRow:
    optional = [field.name for field in fields(AlertRow) if field.type in (int | None, str | None)]
    nothing: dict[str, Any] = dict.fromkeys(optional)
    facts: dict[str, Any] = {
        "alert_id": alert_id,
        "patient_id": "p1",
        "rule": "news2",
        "flag_id": "f1",
        "state": "raised",
        "priority": "high",
        "band": "high",
        "score": 8.0,
        "reason": "NEWS2 8",
        "action": "Assess now",
        "ward": "Ward A",
        "bed": "Bed 01",
        "raised_at": 10,
        "priority_since": 10,
        "level": 0,
        "reminders": 0,
        "updates": 0,
        "updated_at": 10,
        "missed": False,
    }
    return AlertRow(**(nothing | facts | other))


def flag_row(flag_id: str, start: int, **other: Any) -> FlagRow:
    facts: dict[str, Any] = {
        "flag_id": flag_id,
        "patient_id": "p1",
        "rule": "news2",
        "status": "active",
        "start_at": start,
        "end_at": None,
        "evaluated_until": start + MINUTE,
        "inside_streak": 0,
        "windows": 1,
        "model_version": "1",
        "peak_score": 8.0,
        "peak_band": "high",
        "last_score": 8.0,
        "last_band": "high",
        "first_window_end": start + MINUTE,
        "last_window_start": start,
        "last_window_end": start + MINUTE,
        "backfill": False,
        "ward": "Ward A",
        "bed": "Bed 01",
    }
    return FlagRow(**(facts | other))


def transition_row(event_id: str, **other: Any) -> TransitionRow:
    facts: dict[str, Any] = {
        "event_id": event_id,
        "alert_id": "a1",
        "patient_id": "p1",
        "rule": "news2",
        "transition": "raised",
        "state": "raised",
        "occurred_at": 10,
        "actor": "",
        "detail_json": "{}",
    }
    return TransitionRow(**(facts | other))
