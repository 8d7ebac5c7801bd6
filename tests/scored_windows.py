"""Readings scored at once, and the rows that come of them, for tests of what a window says."""

from typing import Any

import msgspec

from patient_measurements import HOUR, NOON, SECOND, Reading, patient_measurements
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.score_shard import ScoredShard, score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import ShardState

NONE_BEFORE = PATIENT_MEASUREMENT_SCHEMA.empty_table()
NORMAL = {"respiratory_rate": 16, "spo2": 98, "systolic_bp": 120, "heart_rate": 70, "temperature": 37, "oxygen_flow": 0}


def full(at: int, patient: str = "ann", **changes: float | str | None) -> list[Reading]:
    """A whole set of observations, normal but for the changes; None leaves one out."""
    values: dict[str, float | str | None] = {**NORMAL, "consciousness": "A", **changes}
    return [Reading(vital, value, at, patient) for vital, value in values.items() if value is not None]


def score(
    *readings: Reading, now: int, state: ShardState | None = None, settings: WindowSettings | None = None
) -> ScoredShard:
    """Score readings at an instant after `NOON`."""
    return score_shard(state or ShardState(), patient_measurements(readings), NONE_BEFORE, NOON + now, settings)


def finals(*readings: Reading, settings: WindowSettings | None = None) -> list[dict[str, Any]]:
    """Finals, in the newest revision of each window, after all windows were closed by the clock."""
    newest = max(one.at for one in readings)
    scored = score(*readings, now=newest + SECOND, settings=settings)
    closed = score_shard(scored.state, None, None, NOON + newest + 2 * HOUR, settings)
    return last_finals(scored, closed)


def last_finals(*scored: ScoredShard) -> list[dict[str, Any]]:
    """The last revision of every window that was closed, in order."""
    last: dict[Any, dict[str, Any]] = {}
    for one in scored:
        for row in one.scores.to_pylist():
            known = last.get((row["patient_id"], row["window_start"]))
            if not row["live"] and (known is None or known["revision"] < row["revision"]):
                last[row["patient_id"], row["window_start"]] = row
    return sorted(last.values(), key=lambda row: row["window_start"])


def lives(scored: ScoredShard) -> list[dict[str, Any]]:
    """The live rows of one call."""
    return [row for row in scored.scores.to_pylist() if row["live"]]


def inputs(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The inputs of a row by vital."""
    return {one["vital"]: one for one in msgspec.json.decode(row["inputs_json"])}


def parts(row: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The contributions of a row by parameter."""
    return {one["parameter"]: one for one in msgspec.json.decode(row["contributions_json"])}


def instant(row: dict[str, Any], column: str) -> int | None:
    """An instant of a row, microseconds after `NOON`."""
    value = row[column]
    return None if value is None else round(value.timestamp() * SECOND) - NOON
