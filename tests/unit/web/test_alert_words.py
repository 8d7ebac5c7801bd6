"""What became of an alert, in words: told or not, given or taken, quiet until when, over since when."""

from typing import Any

import pytest

import invented_ward
from invented_ward import BEDS, HOUR, MINUTE, SECOND
from pulseweir.backends.repository.rows import TransitionRow
from pulseweir.site_time import SiteTime
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.web.alert_words import status_words
from pulseweir.web.worklist_page import next_step

NOW = 1_700_000_000 * SECOND
SITE = SiteTime("Europe/Berlin")
SETTINGS = AlertSettings(expected_for_seconds=3_600, clear_after_seconds=1_800)


def words(priority: str = "medium", happened: list[TransitionRow] | None = None, **other: Any) -> str:
    alert = invented_ward.alert_row_of(BEDS[1], NOW, priority, **other)
    return "; ".join(status_words(alert, happened or [], NOW, SETTINGS, SITE))


def shown_to(actor: str, at: int) -> TransitionRow:
    return TransitionRow(
        event_id=f"e{at}",
        alert_id="a",
        patient_id="p",
        rule="news2",
        transition="shown",
        state="notified",
        occurred_at=at,
        actor=actor,
        detail_json="{}",
    )


@pytest.mark.parametrize(
    ("delivery", "told"), [("waiting", "not delivered yet"), ("not-delivered", "not delivered"), ("", "")]
)
def test_whether_it_was_delivered(delivery: str, told: str) -> None:
    assert words(delivery=delivery) == told


def test_who_saw_it_on_a_screen() -> None:
    happened = [shown_to("alex", NOW - 2), shown_to("morgan", NOW - 1)]

    assert words(happened=happened, delivery="seen") == "seen on a screen by morgan"
    assert words(delivery="seen") == "seen on a screen"


def test_a_condition_that_is_over_says_since_when_and_when_the_alert_closes() -> None:
    ended = NOW - 10 * MINUTE

    assert words(ended_at=ended) == (
        f"condition over since {SITE.minute(ended)}, closes {SITE.minute(ended + 30 * MINUTE)}"
    )
    assert words("high", ended_at=ended).endswith("closes once it is acknowledged")


def test_an_alert_that_was_given_is_not_one_that_was_taken() -> None:
    assert words(owner="morgan") == "given to morgan, not acknowledged"
    assert words(owner="morgan", claimed_at=NOW, acknowledged_at=NOW) == ""


def test_known_and_expected_ends() -> None:
    assert words(acknowledged_at=NOW, acknowledge_reason="known-expected") == (
        f"known / expected until {SITE.minute(NOW + HOUR)}, unless it gets worse"
    )
    assert words(acknowledged_at=NOW - 2 * HOUR, acknowledge_reason="known-expected") == ""


def test_suppression_says_until_when_and_what_is_left() -> None:
    until = NOW + 10 * MINUTE

    told = words(suppressed_until=until, suppressed_reason="at theatre", suppressed_seconds=3_600.0)
    spent = words(suppressed_seconds=7_200.0)

    assert told == f"suppressed until {SITE.minute(until)} (at theatre); 1 h of suppression left"
    assert spent == "no suppression left"


def test_a_closed_alert_has_no_present() -> None:
    assert words(closed_at=NOW, delivery="waiting", ended_at=NOW) == ""


def test_an_acknowledged_alert_that_nobody_claimed_counts_down_to_its_reminder() -> None:
    alert = invented_ward.alert_row_of(BEDS[0], NOW, "high", acknowledged_at=NOW, next_step_at=NOW + MINUTE)

    assert next_step(alert, NOW) == ("Claim; reminder in", True)
