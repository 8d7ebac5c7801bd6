"""Facts of a Flag, and alerts that they make."""

from typing import Any

from pulseweir.records.flag_facts import FlagFact
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alerts import Alert, Step, advance, take_fact

SECOND = 1_000_000
NOW = 1_000 * SECOND
SETTINGS = AlertSettings()


def fact(change: int = 1, **other: Any) -> FlagFact:
    """What a Flag says: high, 8 points, in Ward A, unless told otherwise."""
    facts: dict[str, Any] = {
        "flag_id": "f1",
        "patient_id": "p1",
        "rule": "news2",
        "change": change,
        "status": "active",
        "band": "high",
        "score": 8.0,
        "backfill": False,
        "reason": "NEWS2 8",
        "start_at": 0,
        "last_window_end": 60 * SECOND,
        "end_at": None,
        "ward": "Ward A",
        "bed": "Bed 01",
        "care_team_id": None,
        "care_team": "Ward team",
    }
    return FlagFact(**(facts | other))


def take(
    given_fact: FlagFact, current: Alert | None = None, now: int = NOW, settings: AlertSettings = SETTINGS
) -> Step:
    """The step that a fact makes."""
    step = take_fact(given_fact, current, now, settings)
    assert step is not None
    return step


def raised(**other: Any) -> Alert:
    """An alert raised by a fact at NOW."""
    return take(fact(**other)).alert


def transitions(step: Step) -> list[str]:
    """What happened, in order."""
    return [event.transition for event in step.events]


def run_until(
    alert: Alert, seconds: int, settings: AlertSettings = SETTINGS
) -> tuple[Alert, list[tuple[int, str, str]]]:
    """The alert after this many seconds, and what was sent: when, what, to whom."""
    sent: list[tuple[int, str, str]] = []
    end = NOW + seconds * SECOND
    while alert.next_step_at is not None and alert.next_step_at <= end:
        due = alert.next_step_at
        step = advance(alert, due, settings)
        assert step is not None
        alert = step.alert
        sent += [((due - NOW) // SECOND, page.kind, page.role) for page in step.pages]
        assert alert.next_step_at is None or alert.next_step_at > due
    return alert, sent
