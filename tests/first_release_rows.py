"""Rows of the repository of the first public release, at its revision 0002, written down as they were."""

import hashlib
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from first_release import MINUTE, NOON, SECOND


def insert(transaction: Connection, table_name: str, /, **values: Any) -> None:
    """One row of a repository table."""
    columns = ", ".join(values)
    places = ", ".join(f":{column}" for column in values)
    transaction.execute(text(f"INSERT INTO {table_name} ({columns}) VALUES ({places})"), values)


def score(patient_id: str, minute: int, number: float | None, **other: Any) -> dict[str, Any]:
    """A row of `score` for the minute that begins so many minutes after `NOON`."""
    start = NOON + minute * MINUTE
    band = None if number is None else "high" if number >= 7 else "medium" if number >= 5 else "low"
    values: dict[str, Any] = {
        "patient_id": patient_id,
        "model": "news2",
        "window_start": start,
        "window_end": start + MINUTE,
        "model_version": "1",
        "revision": 1,
        "status": "complete" if number is not None else "insufficient-data",
        "score": number,
        "probability": None,
        "band": band,
        "single_red": False,
        "backfill": False,
        "contributions_json": "[]",
        "inputs_json": "[]",
        "missing_json": "[]",
        "stale_json": "[]",
        "newest_occurred_at": start + SECOND,
        "newest_received_at": start + 2 * SECOND,
        "ward": "Ward A",
        "bed": "Bed 01",
        "age_years": 70,
        "sex": "female",
        "spo2_scale": 1,
        "scored_at": start + MINUTE,
        "recorded_at": start + MINUTE,
        "sequence": 1,
        "basis_json": "[]",
        "outside": None if number is None else number >= 5,
        "flag_id": None,
    }
    return values | other


def live_row(patient_id: str, minute: int, number: float | None, **other: Any) -> dict[str, Any]:
    """A row of `live_row`."""
    values = score(patient_id, minute, number) | {"care_team_id": None, "care_team": "Ward team", "preliminary": True}
    return {name: value for name, value in values.items() if name not in {"basis_json", "outside", "flag_id"}} | other


def flag(patient_id: str, flag_id: str, minute: int, number: float, **other: Any) -> dict[str, Any]:
    """An active row of `flag` whose only window outside begins so many minutes after `NOON`."""
    start = NOON + minute * MINUTE
    band = "high" if number >= 7 else "medium"
    values: dict[str, Any] = {
        "flag_id": flag_id,
        "patient_id": patient_id,
        "rule": "news2",
        "status": "active",
        "start_at": start,
        "end_at": None,
        "evaluated_until": start + MINUTE,
        "inside_streak": 0,
        "windows": 1,
        "model_version": "1",
        "peak_score": number,
        "peak_band": band,
        "last_score": number,
        "last_band": band,
        "first_window_end": start + MINUTE,
        "last_window_start": start,
        "last_window_end": start + MINUTE,
        "backfill": False,
        "ward": "Ward A",
        "bed": "Bed 01",
        "change": 1,
        "change_written": 1,
        "change_published": 1,
        "updated_at": start + MINUTE,
        "sequence": 1,
    }
    return values | other


def alert(alert_id: str, patient_id: str, raised: int, number: float, **other: Any) -> dict[str, Any]:
    """A row of `alert`, raised so many microseconds after `NOON`, first page sent, nobody has seen it."""
    priority = "high" if number >= 7 else "medium"
    at = NOON + raised
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "patient_id": patient_id,
        "rule": "news2",
        "flag_id": f"flag-{patient_id}",
        "flag_change": 1,
        "state": "notified",
        "priority": priority,
        "band": priority,
        "score": number,
        "reason": f"NEWS2 {number:g} ({priority}).",
        "action": "Go to the patient now.",
        "ward": "Ward A",
        "bed": "Bed 01",
        "care_team_id": None,
        "care_team": "Ward team",
        "raised_at": at,
        "priority_since": at,
        "level": 1,
        "reminders": 0,
        "next_step_at": at + (60 if priority == "high" else 300) * SECOND,
        "updates": 0,
        "updated_at": at,
        "ended_at": None,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "acknowledge_reason": None,
        "owner": None,
        "claimed_at": None,
        "closed_at": None,
        "outcome": None,
        "missed": False,
        "suppressed_until": None,
        "suppressed_reason": None,
        "suppressed_by": None,
        "sequence": 1,
    }
    return values | other


def message(alert_values: dict[str, Any], kind: str, level: int, **other: Any) -> dict[str, Any]:
    """An entry of `outbox` that tells people of an alert; sent unless it says otherwise."""
    key = f"{alert_values['alert_id']}:{alert_values['priority']}:{kind}:{level}"
    body = {
        "key": key,
        "kind": kind,
        "level": level,
        "role": "nurse",
        "priority": alert_values["priority"],
        "ward": "Ward A",
        "bed": "Bed 01",
        "action": alert_values["action"],
        "link": f"http://127.0.0.1:8080/alerts/{alert_values['alert_id']}",
        "reason": alert_values["reason"],
    }
    values: dict[str, Any] = {
        "entry_key": key,
        "kind": "notification",
        "state": "sent",
        "alert_id": alert_values["alert_id"],
        "patient_id": alert_values["patient_id"],
        "channels_json": '["teams","log"]',
        "channel": "teams",
        "body_json": msgspec.json.encode(body).decode(),
        "attempts": 0,
        "channel_index": 0,
        "created_at": alert_values["raised_at"],
        "due_at": alert_values["raised_at"],
        "sent_at": alert_values["raised_at"],
        "last_error": "",
        "sequence": 1,
    }
    return values | other


def fact(alert_values: dict[str, Any], change: int, number: float, **other: Any) -> dict[str, Any]:
    """A row of `alert-events` in which the hot path tells of the Flag behind an alert."""
    band = "high" if number >= 7 else "medium"
    detail = {
        "flag_id": alert_values["flag_id"],
        "patient_id": alert_values["patient_id"],
        "rule": "news2",
        "change": change,
        "status": "active",
        "band": band,
        "score": number,
        "backfill": False,
        "reason": f"NEWS2 {number:g} ({band}).",
        "start_at": alert_values["raised_at"] - MINUTE,
        "last_window_end": alert_values["raised_at"],
        "end_at": None,
        "ward": "Ward A",
        "bed": "Bed 01",
        "care_team_id": None,
        "care_team": "Ward team",
    } | other
    return {
        "event_id": hashlib.sha256(f"{alert_values['flag_id']}{change}".encode()).hexdigest(),
        "alert_id": "",
        "patient_id": alert_values["patient_id"],
        "rule": "news2",
        "transition": "flag-updated",
        "occurred_at": alert_values["raised_at"],
        "detail_json": msgspec.json.encode(detail).decode(),
    }
