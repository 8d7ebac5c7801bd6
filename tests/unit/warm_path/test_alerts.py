"""Step 18: the alert state machine."""

from itertools import pairwise

import pytest
from pydantic import ValidationError

from alert_steps import NOW, SECOND, SETTINGS, fact, raised, run_until, take, transitions
from pulseweir.errors import AlertCommandRefused
from pulseweir.warm_path.alert_commands import acknowledge, add_note, assign, claim, escalate, resolve, suppress
from pulseweir.warm_path.alert_settings import AlertSettings, Rung
from pulseweir.warm_path.alerts import Alert, Step, advance, delivered, take_fact

CLEAR = int(AlertSettings().clear_after_seconds * 1_000_000)


def climb(alert: Alert, seconds: float) -> Step:
    step = advance(alert, NOW + int(seconds * SECOND), SETTINGS)
    assert step is not None
    return step


def test_a_flag_raises_an_alert_that_says_what_to_do_and_pages_at_once() -> None:
    step = take(fact())

    assert (step.alert.state, step.alert.priority, step.alert.level) == ("raised", "high", 1)
    assert step.alert.action
    assert [(page.kind, page.role) for page in step.pages] == [("page", "nurse")]
    assert transitions(step) == ["raised", "paged"]


def test_a_high_alert_climbs_its_ladder_until_acknowledged() -> None:
    alert, told = raised(), []
    for seconds in (59, 60, 179, 180, 299, 300):
        step = advance(alert, NOW + seconds * SECOND, SETTINGS)
        if step is not None:
            alert = step.alert
            told += [(seconds, page.role) for page in step.pages]

    assert told == [(60, "charge-nurse"), (180, "rapid-response"), (300, "everyone")]


def test_at_high_reminders_grow_slower_and_never_end() -> None:
    alert, sent = run_until(raised(), 24 * 3_600)
    times = [at for at, kind, _ in sent if kind == "reminder"]

    assert times[:4] == [420, 660, 1_140, 2_100]
    assert {later - sooner for sooner, later in pairwise(times[6:])} == {3_600}
    assert len(times) > SETTINGS.reminders_at_most
    assert alert.next_step_at is not None


def test_below_high_reminders_end() -> None:
    alert, sent = run_until(raised(band="medium"), 7 * 24 * 3_600)

    assert len([kind for _, kind, _ in sent if kind == "reminder"]) == SETTINGS.reminders_at_most
    assert alert.next_step_at is None


def test_after_an_outage_every_overdue_rung_is_climbed() -> None:
    step = climb(raised(), 200)

    assert [page.role for page in step.pages] == ["charge-nurse", "rapid-response"]
    assert step.alert.next_step_at == NOW + 300 * SECOND


def test_a_medium_alert_waits_longer_and_a_low_one_only_shows() -> None:
    medium, low = take(fact(band="medium")), take(fact(band="low-medium"))

    assert medium.alert.next_step_at == NOW + 300 * SECOND
    assert (low.alert.priority, low.pages, low.alert.next_step_at) == ("low", [], None)


def test_backfill_raises_nothing_and_updates_nothing() -> None:
    assert take_fact(fact(backfill=True), None, NOW, SETTINGS) is None
    assert take_fact(fact(2, backfill=True), raised(), NOW, SETTINGS) is None


def test_a_flag_that_began_as_backfill_and_goes_on_live_does_raise() -> None:
    assert take(fact(2)).alert.state == "raised"


def test_new_facts_update_the_open_alert_without_a_second_page() -> None:
    step = take(fact(2, score=9.0), raised(), NOW + SECOND)

    assert (step.alert.updates, step.alert.score, step.pages) == (1, 9.0, [])


def test_the_same_fact_twice_is_taken_once() -> None:
    assert take_fact(fact(), raised(), NOW, SETTINGS) is None


def test_a_rise_of_priority_pages_anew_and_asks_for_fresh_eyes() -> None:
    seen = acknowledge(raised(band="medium"), "nurse", "seen-going", NOW, SETTINGS)
    assert seen is not None

    step = take(fact(2), seen.alert, NOW + 5 * SECOND)

    assert (step.alert.priority, step.alert.acknowledged_at, step.alert.raised_at) == ("high", None, NOW)
    assert [page.role for page in step.pages] == ["nurse"]
    assert step.alert.next_step_at == NOW + 65 * SECOND


def test_priority_never_falls() -> None:
    assert take(fact(2, band="medium"), raised()).alert.priority == "high"


def test_another_episode_goes_into_the_open_alert() -> None:
    step = take(fact(1, flag_id="f2"), raised(), NOW + SECOND)

    assert (step.alert.flag_id, step.alert.updates) == ("f2", 1)


def test_high_latches_until_acknowledged_and_is_listed_as_missed() -> None:
    ended = take(fact(2, status="inactive", end_at=1), raised()).alert
    assert ended.is_open
    assert ended.missed
    assert ended.next_step_at is None

    seen = acknowledge(ended, "nurse", "seen-going", NOW, SETTINGS)

    assert seen is not None
    assert (seen.alert.state, seen.alert.next_step_at) == ("acknowledged", NOW + CLEAR)
    assert climb(seen.alert, CLEAR // SECOND).alert.state == "auto-cleared"


def test_an_acknowledged_alert_clears_when_its_condition_ends() -> None:
    seen = acknowledge(raised(), "nurse", "seen-going", NOW, SETTINGS)
    assert seen is not None

    step = climb(take(fact(2, status="inactive", end_at=1), seen.alert).alert, CLEAR // SECOND)

    assert (step.alert.state, step.alert.missed) == ("auto-cleared", False)


def test_a_medium_alert_clears_by_itself_and_counts_as_missed() -> None:
    ended = take(fact(2, status="inactive", end_at=1), raised(band="medium")).alert
    assert (ended.is_open, ended.next_step_at) == (True, NOW + CLEAR)

    step = climb(ended, CLEAR // SECOND)

    assert (step.alert.state, step.alert.missed, step.pages) == ("auto-cleared", True, [])


def test_an_episode_that_came_and_went_unseen_is_a_missed_alert() -> None:
    step = take(fact(2, status="inactive", end_at=1))

    assert transitions(step)[0] == "raised"
    assert step.alert.missed


def test_a_condition_that_returns_before_anyone_looked_escalates_again() -> None:
    ended = take(fact(2, status="inactive", end_at=1), raised()).alert

    step = take(fact(1, flag_id="f2"), ended, NOW + SECOND)

    assert (step.alert.ended_at, step.alert.missed, step.pages) == (None, False, [])
    assert step.alert.next_step_at == NOW + 61 * SECOND


def test_a_withdrawn_flag_ends_its_alert_and_never_raises_one() -> None:
    assert take_fact(fact(status="withdrawn"), None, NOW, SETTINGS) is None
    assert take(fact(2, status="withdrawn"), raised()).alert.ended_at == NOW


def test_acknowledging_stops_the_ladder_and_doing_it_twice_is_nothing() -> None:
    step = acknowledge(raised(), "nurse", "seen-going", NOW + 9 * SECOND, SETTINGS)
    assert step is not None

    assert (step.alert.state, step.alert.next_step_at) == ("acknowledged", NOW + 909 * SECOND)
    assert advance(step.alert, NOW + 908 * SECOND, SETTINGS) is None
    assert acknowledge(step.alert, "other", "artefact", NOW, SETTINGS) is None


def test_acknowledging_asks_for_one_of_the_reasons() -> None:
    with pytest.raises(AlertCommandRefused, match="seen-going"):
        acknowledge(raised(), "nurse", "whatever", NOW, SETTINGS)


def test_claiming_acknowledges_and_takes_over() -> None:
    step = claim(raised(), "nurse", NOW)

    assert (step.alert.state, step.alert.owner, step.alert.acknowledged_by) == ("in-progress", "nurse", "nurse")
    assert transitions(step) == ["acknowledged", "claimed"]
    assert transitions(assign(step.alert, "doctor", "nurse", NOW)) == ["assigned"]


def test_closing_needs_a_reason_and_happens_once() -> None:
    with pytest.raises(AlertCommandRefused, match="say why"):
        resolve(raised(), "  ", "nurse", NOW)
    closed = resolve(raised(), "Oxygen given", "nurse", NOW).alert
    rejected = resolve(raised(), "Probe fell off", "nurse", NOW, rejected=True).alert

    assert (closed.state, closed.outcome, rejected.state) == ("resolved", "Oxygen given", "rejected")
    with pytest.raises(AlertCommandRefused, match="already resolved"):
        resolve(closed, "again", "nurse", NOW)


def test_after_closing_the_condition_stays_quiet_unless_it_gets_worse() -> None:
    closed = resolve(raised(band="medium"), "Known", "nurse", NOW).alert
    soon, later = NOW + 60 * SECOND, NOW + 1_801 * SECOND

    assert take_fact(fact(2, band="medium"), closed, soon, SETTINGS) is None
    assert take(fact(2), closed, soon).alert.priority == "high"
    assert take(fact(2, band="medium"), closed, later).alert.alert_id != closed.alert_id
    assert take_fact(fact(1, flag_id="f2", band="medium"), closed, soon, SETTINGS) is None
    assert take(fact(1, flag_id="f2", band="medium", score=10.0), closed, soon).alert.state == "raised"


def test_a_person_escalates_at_once_rung_by_rung_until_everybody_is_told() -> None:
    alert, told = raised(), []

    for _ in range(len(SETTINGS.ladders["high"]) - 1):
        step = escalate(alert, "nurse", NOW, SETTINGS)
        alert = step.alert
        told += [(page.kind, page.level) for page in step.pages]

    assert told == [("escalation", level) for level in range(2, len(SETTINGS.ladders["high"]) + 1)]
    assert [event.actor for event in step.events] == ["nurse"]
    with pytest.raises(AlertCommandRefused, match="everybody"):
        escalate(alert, "nurse", NOW, SETTINGS)


def test_the_timer_does_not_repeat_a_rung_that_a_person_told() -> None:
    alert = escalate(raised(), "nurse", NOW, SETTINGS).alert

    later = climb(alert, SETTINGS.ladders["high"][2].after_seconds)

    assert [page.level for page in later.pages] == [3]


def test_suppression_is_timed_reasoned_and_visible() -> None:
    alert = raised()
    with pytest.raises(AlertCommandRefused, match="at most 120"):
        suppress(alert, 121, "off ward", "nurse", NOW, SETTINGS)
    held = suppress(alert, 100, "off ward", "nurse", NOW, SETTINGS).alert

    assert (held.suppressed_reason, held.suppressed_by, held.state) == ("off ward", "nurse", "raised")
    assert advance(held, NOW + 99 * SECOND, SETTINGS) is None
    resumed = climb(held, 100)
    assert [page.role for page in resumed.pages] == ["charge-nurse"]
    assert resumed.alert.suppressed_until is None
    assert transitions(resumed)[0] == "suppression-ended"


def test_a_note_is_kept_with_its_author() -> None:
    [event] = add_note(raised(), " Family informed ", "nurse", NOW).events

    assert (event.transition, event.actor, event.detail["text"]) == ("noted", "nurse", "Family informed")


def test_delivery_makes_it_notified_once() -> None:
    step = delivered(raised(), NOW, "teams")
    assert step is not None

    assert step.alert.state == "notified"
    assert delivered(step.alert, NOW, "log") is None


def test_an_on_delay_waits_until_the_patient_was_outside_long_enough() -> None:
    slow = AlertSettings(on_delay_seconds={"high": 120})

    assert take_fact(fact(), None, NOW, slow) is None
    assert take(fact(last_window_end=120 * SECOND), settings=slow).alert.state == "raised"


def test_no_priority_goes_without_an_action_and_ladders_only_climb() -> None:
    with pytest.raises(ValidationError, match="no action text for priority low"):
        AlertSettings(actions={"high": "a", "medium": "b"})
    with pytest.raises(ValidationError, match="no such priority"):
        AlertSettings(reminder_seconds={"urgent": 1})
    backwards = (Rung(after_seconds=9, role="a"), Rung(after_seconds=1, role="b"))
    with pytest.raises(ValidationError, match="must grow"):
        AlertSettings(ladders={"high": backwards})
