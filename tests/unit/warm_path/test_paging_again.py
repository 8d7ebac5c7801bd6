"""Step 18: when an alert asks for fresh eyes, and when it keeps quiet."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from alert_steps import NOW, SECOND, SETTINGS, fact, raised, run_until, take, transitions
from pulseweir.errors import AlertCommandRefused
from pulseweir.warm_path.alert_commands import acknowledge, assign, claim, escalate, resolve, suppress
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alerts import Alert, Step, advance, delivered, moved, rewound, take_fact, unassigned

HALF_AN_HOUR = 1_800 * SECOND
MINUTE = 60 * SECOND


def seen(alert: Alert, reason: str = "seen-going", now: int = NOW + SECOND) -> Alert:
    step = acknowledge(alert, "ann", reason, now, SETTINGS)
    assert step is not None
    return step.alert


def escalated(alert: Alert) -> Alert:
    return escalate(alert, "ann", NOW + 2 * SECOND, SETTINGS).alert


def suppressed(alert: Alert) -> Alert:
    return suppress(alert, 120, "off ward", "ann", NOW + 2 * SECOND, SETTINGS).alert


def at_seven(**other: Any) -> Alert:
    return raised(score=7.0, reds=[], **other)


BEFORE: dict[str, Callable[[Alert], Alert]] = {
    "untouched": lambda alert: alert,
    "seen": seen,
    "expected": lambda alert: seen(alert, "known-expected"),
    "artefact": lambda alert: seen(alert, "artefact"),
    "claimed": lambda alert: claim(alert, "ann", NOW + SECOND, SETTINGS).alert,
    "given away": lambda alert: assign(alert, "bob", "ann", NOW + SECOND, SETTINGS).alert,
    "escalated": escalated,
    "suppressed": suppressed,
    "over": lambda alert: take(fact(2, status="inactive", end_at=1), alert, NOW + SECOND).alert,
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    "worse",
    [{"score": 19.0, "reds": []}, {"score": 9.0, "reds": []}, {"score": 7.0, "reds": ["spo2"]}],
    ids=["much", "two points", "a single 3"],
)
def test_what_is_worse_pages_at_once_whatever_was_done_before(before: str, worse: dict[str, Any]) -> None:
    alert = BEFORE[before](at_seven())

    step = take(fact(9, **worse), alert, NOW + MINUTE)

    assert len(step.pages) == 1
    assert "worsened" in transitions(step)
    assert step.alert.acknowledged_at is None
    assert step.alert.suppressed_until is None
    assert step.alert.next_step_at is not None


@pytest.mark.parametrize("before", sorted(BEFORE))
def test_one_point_more_pages_nobody(before: str) -> None:
    assert take(fact(9, score=8.0, reds=[]), BEFORE[before](at_seven()), NOW + MINUTE).pages == []


def test_worse_is_counted_from_what_an_acknowledgement_saw() -> None:
    better = take(fact(2, score=7.0, reds=[]), raised(score=12.0, reds=["pulse"]), NOW + SECOND).alert
    alert = seen(better, now=NOW + 2 * SECOND)

    assert take(fact(3, score=8.0, reds=[]), alert, NOW + MINUTE).pages == []
    assert len(take(fact(3, score=9.0, reds=[]), alert, NOW + MINUTE).pages) == 1
    assert len(take(fact(3, score=8.0, reds=["pulse"]), alert, NOW + MINUTE).pages) == 1


def test_a_score_that_creeps_up_pages_each_time_it_has_grown_by_the_limit() -> None:
    alert, paged = claim(at_seven(), "ann", NOW, SETTINGS).alert, []
    for change, score in enumerate((8, 9, 10, 11, 12), start=2):
        step = take(fact(change, score=float(score), reds=[]), alert, NOW + change * MINUTE)
        paged += [score] * len(step.pages)
        alert = claim(step.alert, "ann", NOW + change * MINUTE + 1, SETTINGS).alert if step.pages else step.alert

    assert paged == [9, 11]


def test_a_ladder_that_is_being_climbed_is_not_set_back_by_what_is_worse() -> None:
    alert, _ = run_until(at_seven(), 170)

    step = take(fact(2, score=12.0, reds=[]), alert, NOW + 170 * SECOND)

    assert [page.role for page in step.pages] == ["nurse"]
    assert step.alert.next_step_at == NOW + 180 * SECOND


def test_an_acknowledged_alert_that_gets_worse_climbs_from_the_first_rung() -> None:
    step = take(fact(2, score=12.0, reds=[]), seen(at_seven()), NOW + 30 * MINUTE)

    _, sent = run_until(step.alert, 1_800 + 300)
    assert [role for _, _, role in sent] == ["charge-nurse", "rapid-response", "everyone"]


@pytest.mark.parametrize("reason", ["seen-going", "artefact", "device-problem"])
def test_a_new_episode_pages_after_the_cooldown_and_not_within_it(reason: str) -> None:
    alert = seen(at_seven(), reason)
    again = fact(1, flag_id="f2", score=7.0, reds=[])

    assert take(again, alert, NOW + HALF_AN_HOUR - 1).pages == []
    step = take(again, alert, NOW + HALF_AN_HOUR)
    assert (len(step.pages), step.alert.acknowledged_at) == (1, None)
    assert "new-episode" in transitions(step)


def test_what_is_expected_keeps_quiet_until_the_shift_ends() -> None:
    alert = seen(at_seven(), "known-expected")

    quiet = take(fact(1, flag_id="f2", score=8.0, reds=[]), alert, NOW + 3 * HALF_AN_HOUR)
    assert quiet.pages == []
    alert, sent = run_until(quiet.alert, 43_200)
    assert sent == []
    step = advance(alert, NOW + SECOND + 43_200 * SECOND, SETTINGS)

    assert step is not None
    assert [page.role for page in step.pages] == ["nurse"]
    assert (step.alert.acknowledged_at, step.alert.state) == (None, "raised")
    assert "acknowledgement-expired" in transitions(step)


def test_an_hour_unseen_then_thirteen_new_episodes_page_again_and_again() -> None:
    alert, _ = run_until(raised(score=7.0, reds=[]), 3_600)
    pages = 0
    for episode in range(13):
        now = NOW + 3_600 * SECOND + episode * HALF_AN_HOUR
        alert, _ = run_until(alert, (now - NOW) // SECOND - 1)
        step = take(fact(1, flag_id=f"g{episode}", score=7.0, reds=[]), alert, now)
        alert = step.alert
        pages += len(step.pages)
        assert alert.next_step_at is not None
    assert pages >= 1
    _, sent = run_until(alert, 24 * 3_600)
    assert len(sent) >= 16


def test_an_acknowledged_alert_nobody_takes_is_reminded_of_ever_more_widely() -> None:
    _, sent = run_until(seen(at_seven()), 5 * 3_600)

    assert sent[:4] == [
        (901, "reminder", "nurse"),
        (2_701, "reminder", "charge-nurse"),
        (6_301, "reminder", "rapid-response"),
        (9_901, "reminder", "everyone"),
    ]


@pytest.mark.parametrize("done", ["claimed", "expected"])
def test_nobody_is_reminded_of_what_is_taken_or_expected(done: str) -> None:
    _, sent = run_until(BEFORE[done](at_seven()), 40_000)

    assert sent == []


def test_after_many_reminders_the_widest_circle_is_told() -> None:
    settings = AlertSettings(reminder_circle={"high": "hospital"}, reminders_at_most=2)

    _, sent = run_until(take(fact(), settings=settings).alert, 3_600, settings)

    assert [role for _, kind, role in sent if kind == "reminder"][:3] == ["everyone", "everyone", "hospital"]


def test_a_score_that_wavers_for_two_hours_is_one_alert() -> None:
    alert, ids = None, set()
    for minute in range(120):
        now = NOW + minute * MINUTE
        outside, closing = minute % 3 == 0, minute % 3 == 2
        if alert is not None:
            alert, _ = run_until(alert, minute * 60)
        change = minute + 1
        told = fact(change, flag_id=f"f{minute // 3}", band="medium", score=5.0, reds=[])
        if closing:
            told = fact(change, flag_id=f"f{minute // 3}", band="medium", status="inactive", end_at=1, reds=[])
        step = take_fact(told, alert, now, SETTINGS) if outside or closing else None
        if step is not None:
            alert = step.alert
            ids.add(alert.alert_id)

    assert len(ids) == 1


def test_what_closed_by_itself_within_the_cooldown_opens_again_and_pages_nobody() -> None:
    settings = AlertSettings(clear_after_seconds=0)
    closed = take(fact(2, band="medium", status="inactive", end_at=1), raised(band="medium"), settings=settings).alert
    assert not closed.is_open

    step = take(fact(1, flag_id="f2", band="medium"), closed, NOW + MINUTE, settings)
    later = take(fact(1, flag_id="f2", band="medium"), closed, NOW + HALF_AN_HOUR, settings)

    assert (step.alert.alert_id, step.alert.is_open, step.pages) == (closed.alert_id, True, [])
    assert step.alert.next_step_at is not None
    assert (later.alert.alert_id != closed.alert_id, len(later.pages)) == (True, 1)


@pytest.mark.parametrize("rejected", [False, True])
def test_within_the_quiet_after_closing_only_what_is_worse_is_raised(rejected: bool) -> None:
    closed = resolve(at_seven(), "Seen", "ann", NOW, rejected=rejected).alert
    soon = NOW + 10 * MINUTE

    for flag in ("f1", "f2"):
        assert take_fact(fact(2, flag_id=flag, score=8.0, reds=[]), closed, soon, SETTINGS) is None
        assert take(fact(2, flag_id=flag, score=19.0, reds=[]), closed, soon).pages
        assert take(fact(2, flag_id=flag, score=7.0, reds=[]), closed, NOW + HALF_AN_HOUR).pages


@pytest.mark.parametrize("before", ["untouched", "seen", "claimed", "expected"])
def test_escalated_by_hand_it_climbs_until_somebody_acknowledges(before: str) -> None:
    step = escalate(BEFORE[before](at_seven()), "ann", NOW + 10 * SECOND, SETTINGS)

    assert [page.role for page in step.pages] == ["charge-nurse"]
    assert step.alert.acknowledged_at is None
    _, sent = run_until(step.alert, 400)
    assert sent[:2] == [(130, "escalation", "rapid-response"), (250, "escalation", "everyone")]


def test_when_everybody_was_told_a_person_may_have_them_told_again_after_a_minute() -> None:
    alert, _ = run_until(at_seven(), 300)
    with pytest.raises(AlertCommandRefused, match="call them"):
        escalate(alert, "ann", NOW + 359 * SECOND, SETTINGS)

    step = escalate(alert, "ann", NOW + 360 * SECOND, SETTINGS)

    assert [(page.kind, page.role) for page in step.pages] == [("reminder", "everyone")]


def test_giving_it_away_is_no_acknowledgement() -> None:
    step = assign(at_seven(), "bob", "ann", NOW + SECOND, SETTINGS)
    assert (step.alert.owner, step.alert.acknowledged_at, step.alert.next_step_at) == ("bob", None, NOW + MINUTE)

    taken = acknowledge(step.alert, "bob", "seen-going", NOW + 2 * SECOND, SETTINGS)
    assert taken is not None
    assert (taken.alert.state, taken.alert.claimed_at) == ("in-progress", NOW + 2 * SECOND)
    assert taken.alert.next_step_at is None


def test_what_was_seen_and_given_away_is_reminded_of_until_it_is_taken() -> None:
    given = assign(claim(at_seven(), "ann", NOW, SETTINGS).alert, "bob", "ann", NOW + SECOND, SETTINGS).alert

    assert (given.state, given.next_step_at) == ("acknowledged", NOW + 901 * SECOND)
    taken = acknowledge(given, "bob", "seen-going", NOW + 2 * SECOND, SETTINGS)
    assert taken is not None
    assert taken.alert.next_step_at is None


def test_an_owner_who_may_no_longer_act_leaves_it_to_nobody_and_it_is_reminded_of() -> None:
    step = unassigned(claim(at_seven(), "ann", NOW, SETTINGS).alert, NOW + MINUTE, SETTINGS)

    assert step is not None
    assert (step.alert.owner, step.alert.state) == (None, "acknowledged")
    assert step.alert.next_step_at == NOW + 960 * SECOND
    assert unassigned(step.alert, NOW, SETTINGS) is None


def test_suppression_has_a_budget_and_only_time_that_passed_counts() -> None:
    alert, now = at_seven(), NOW
    for _ in range(2):
        alert = suppress(alert, 120, "off ward", "ann", now, SETTINGS).alert
        now += 120 * SECOND
        step = advance(alert, now, SETTINGS)
        assert step is not None
        alert = step.alert
    with pytest.raises(AlertCommandRefused, match="0 of the 240 seconds"):
        suppress(alert, 1, "off ward", "ann", now, SETTINGS)


def test_renewing_a_suppression_counts_the_time_it_adds() -> None:
    alert = suppress(at_seven(), 120, "off ward", "ann", NOW, SETTINGS).alert

    renewed = suppress(alert, 120, "off ward", "ann", NOW + 10 * SECOND, SETTINGS).alert

    assert renewed.suppressed_seconds == 130
    lifted = take(fact(2, score=12.0, reds=[]), renewed, NOW + 20 * SECOND).alert
    assert (lifted.suppressed_until, lifted.suppressed_seconds) == (None, 20)


def test_a_condition_that_returns_takes_its_ladder_up_where_it_stopped() -> None:
    ended = take(fact(2, status="inactive", end_at=1), at_seven(), NOW + 30 * SECOND).alert

    step = take(fact(1, flag_id="f2", score=7.0, reds=[]), ended, NOW + 600 * SECOND)

    assert step.pages == []
    _, sent = run_until(step.alert, 800)
    assert [at for at, _, _ in sent] == [630, 750]


def test_a_withdrawn_flag_says_so() -> None:
    step = take(fact(2, status="withdrawn", end_at=1), at_seven())

    assert (transitions(step), step.alert.is_open) == (["flag-withdrawn"], True)


def test_the_next_message_goes_where_the_patient_is() -> None:
    step = moved(at_seven(), NOW, ward="Ward B", bed="Bed 9", care_team_id="b", care_team="B nurses")
    assert step is not None
    assert (step.alert.ward, step.alert.care_team, transitions(step)) == ("Ward B", "B nurses", ["moved"])
    assert moved(step.alert, NOW, ward="Ward B", bed="Bed 9", care_team_id="b", care_team="B nurses") is None

    update = take(fact(2, ward="Ward C", bed=None, care_team="C nurses"), step.alert).alert
    assert (update.ward, update.bed, update.care_team) == ("Ward C", None, "C nurses")
    assert take(fact(3, ward=None, bed=None, care_team="Default"), update).alert.care_team == "C nurses"


def of_an_older_release(alert: Alert, **other: Any) -> Alert:
    """What a row of before holds: nothing of what was told."""
    bare = replace(alert, baseline_score=None, baseline_reds_json="null", reds_json="null", paged_at=None)
    return replace(bare, **({"ladder_since": None} | other))


def test_an_alert_of_an_older_release_goes_on_and_pages_nobody_twice() -> None:
    climbing, _ = run_until(at_seven(), 100)
    old = of_an_older_release(climbing)

    step = take(fact(2, score=7.0, reds=["spo2", "pulse"]), old, NOW + 110 * SECOND)
    assert step.pages == []
    _, sent = run_until(step.alert, 300)
    assert [at for at, _, _ in sent] == [180, 300]
    assert take(fact(3, score=7.0, reds=["temperature"]), step.alert, NOW + 120 * SECOND).pages
    assert take(fact(2, score=9.0, reds=["spo2"]), old, NOW + 110 * SECOND).pages


def test_reds_an_older_release_did_not_keep_are_no_news_after_a_rung_either() -> None:
    climbing, _ = run_until(of_an_older_release(at_seven()), 100)

    assert take(fact(2, score=7.0, reds=["spo2"]), climbing, NOW + 110 * SECOND).pages == []


def test_facts_of_an_older_release_name_no_reds_and_page_for_points_alone() -> None:
    alert = at_seven()

    assert take(fact(2, score=8.0), alert, NOW + SECOND).pages == []
    assert take(fact(2, score=9.0), alert, NOW + SECOND).pages


@pytest.mark.parametrize("reminders", [0, 3, 10])
def test_a_high_alert_whose_reminders_had_run_out_gets_its_next_step_back(reminders: int) -> None:
    alert, _ = run_until(at_seven(), 300)
    old = of_an_older_release(alert, reminders=reminders, next_step_at=None)

    step = rewound(old, SETTINGS)

    assert step is not None
    assert step.alert.next_step_at is not None
    assert step.pages == []


def test_a_message_sent_before_an_upgrade_keeps_its_key() -> None:
    step = take(fact())
    climbed = advance(step.alert, NOW + MINUTE, SETTINGS)

    assert climbed is not None
    alert_id = step.alert.alert_id
    keys = [page.key for part in (step, climbed) for page in part.pages]
    assert keys == [f"{alert_id}:high:page:1", f"{alert_id}:high:escalation:2"]


def test_it_is_notified_anew_after_each_time_it_pages_again() -> None:
    first = delivered(at_seven(), NOW, "teams")
    assert first is not None
    again = take(fact(2, score=12.0, reds=[]), first.alert, NOW + MINUTE)

    second: Step | None = delivered(again.alert, NOW + MINUTE, "teams")

    assert second is not None
    assert second.alert.state == "notified"
