"""What the repository recorded of windows, for comparison with the reference."""

from datetime import datetime
from typing import Any

import msgspec

from paths.journey import Journey, Json
from paths.recount import MINUTE, Patient
from paths.reference_scores import ExpectedScore
from pulseweir.backends.repository import scores
from pulseweir.backends.repository.rows import Scored, ScoreRow
from pulseweir.clock import to_microseconds


def windows_of(journey: Journey, patient: Patient) -> list[ScoreRow]:
    """The recorded windows of one patient's replay, each in its newest revision, oldest first."""
    first = patient.charted[0].at + patient.shift(journey.start)
    with journey.repository.reading() as transaction:
        return [
            row
            for row in scores.score_history(transaction, patient.patient_id, start=first - MINUTE, end=journey.start)
            if row.window_start < journey.start - 10 * MINUTE
        ]


def told(row: ScoreRow) -> ExpectedScore:
    """A recorded window in the words of the reference."""
    missing = frozenset(msgspec.json.decode(row.missing_json, type=list[str]))
    doubtful = frozenset(msgspec.json.decode(row.doubtful_json, type=list[str]))
    score = None if row.score is None else int(row.score)
    systolic = next((one for one in inputs_of(row) if one["vital"] == "systolic_bp" and one["usable"]), None)
    at = None if systolic is None else instant(systolic["occurred_at"])
    return ExpectedScore(row.window_start, row.status, score, row.band, row.single_red, missing, doubtful, at)


def inputs_of(row: Scored) -> list[Json]:
    return msgspec.json.decode(row.inputs_json, type=list[dict[str, Any]])


def instant(text: str) -> int:
    return to_microseconds(datetime.fromisoformat(text))
