"""Device clocks ahead of the hub's: judged by reception, held beyond five minutes, visible all the while."""

from typing import Any

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading, patient_measurements
from pulseweir.scoring.score_shard import score_shard
from pulseweir.scoring.shard_state import ShardState
from scored_windows import NONE_BEFORE, finals, full, inputs, instant, last_finals, lives, score


def ahead(by: int, at: int, **changes: Any) -> list[Reading]:
    """A set received at an instant whose clock is ahead."""
    return [
        Reading(one.vital, one.value, at + by, type=f"{one.vital}-ahead", device="fast", received=at)
        for one in full(at, **changes)
    ]


def test_a_little_ahead_counts_at_once_at_its_reception() -> None:
    fast = ahead(4 * MINUTE + 59 * SECOND, 10 * SECOND, heart_rate=60)
    honest = full(30 * SECOND, heart_rate=140)

    scored = score(*fast, *honest, now=40 * SECOND)
    [row] = finals(*fast, *honest)

    for one in (row, *lives(scored)):
        assert inputs(one)["heart_rate"]["value"] == 140.0
    assert (instant(row, "window_start"), row["score"]) == (0, 3.0)


def test_a_reading_only_of_a_fast_device_is_as_old_as_its_reception() -> None:
    [row] = finals(*ahead(2 * MINUTE, 0))

    entry = inputs(row)["heart_rate"]
    assert (instant(row, "window_start"), entry["age_seconds"]) == (0, 60)
    assert (entry["occurred_at"] > entry["effective_at"], instant(row, "sign_of_life_at")) == (True, 0)


def test_a_set_charted_far_ahead_is_held_visibly_then_scored_with_its_true_age() -> None:
    charted = ahead(8 * MINUTE, 0, heart_rate=140, respiratory_rate=30, spo2=85, systolic_bp=85, consciousness="U")

    held = score(*charted, now=SECOND)
    early = score_shard(held.state, None, None, NOON + 8 * MINUTE - SECOND)
    released = score_shard(early.state, None, None, NOON + 8 * MINUTE)
    closed = score_shard(released.state, None, None, NOON + 10 * MINUTE)

    [shown] = lives(held)
    assert held.tallies == {"held": 7}
    assert (shown["status"], shown["score"], shown["sign_of_life_at"]) == ("insufficient-data", None, None)
    entry = inputs(shown)["heart_rate"]
    assert (entry["value"], entry["quality"], entry["usable"]) == (140.0, "future", False)
    assert entry["held_until"] == entry["occurred_at"] > entry["effective_at"]
    assert held.state.due_at == NOON + 8 * MINUTE
    assert not early.scores.num_rows
    assert [row["score"] for row in lives(released)] == [15.0]
    [row] = last_finals(closed)
    assert (instant(row, "window_start"), row["score"], row["backfill"]) == (8 * MINUTE, 15.0, False)
    assert (inputs(row)["heart_rate"]["age_seconds"], instant(row, "sign_of_life_at")) == (9 * 60, 0)


def test_a_set_charted_two_hours_ahead_is_stale_where_its_age_says_so_and_pages_nobody() -> None:
    charted = ahead(2 * HOUR, 0, heart_rate=140, systolic_bp=85)

    held = score(*charted, now=SECOND)
    closed = score_shard(held.state, None, None, NOON + 3 * HOUR)

    [row] = last_finals(closed)
    assert (instant(row, "window_start"), row["backfill"]) == (2 * HOUR, True)
    assert row["stale"] == ["respiratory_rate", "spo2", "pulse"]
    assert (inputs(row)["systolic_bp"]["usable"], row["score"], row["status"]) == (True, 3.0, "partial")


def test_what_is_held_makes_the_value_used_doubtful_until_then() -> None:
    held = ahead(8 * MINUTE, 30 * SECOND, heart_rate=140)

    rows = last_finals(
        first := score(*full(0), *held, *full(3 * MINUTE, heart_rate=None), now=3 * MINUTE + SECOND),
        score_shard(first.state, None, None, NOON + 2 * HOUR),
    )

    assert [instant(row, "window_start") for row in rows] == [0, 3 * MINUTE, 8 * MINUTE]
    assert rows[1]["doubtful"] == ["pulse"]
    newest = inputs(rows[1])["heart_rate"]["newest"]
    assert (newest["value"], newest["quality"], newest["held_until"]) == (140.0, "future", newest["occurred_at"])
    assert (inputs(rows[2])["heart_rate"]["value"], rows[2]["doubtful"]) == (140.0, [])


def test_a_device_always_ahead_is_silent_not_fresh() -> None:
    state = ShardState()
    rows: list[dict[str, Any]] = []
    for minute in range(200):
        scored = score(*ahead(2 * HOUR, minute * MINUTE, heart_rate=60 + minute % 7), now=minute * MINUTE, state=state)
        state, rows = scored.state, [*rows, *lives(scored)]

    assert {row["sign_of_life_at"] for row in rows[:119]} == {None}
    assert {row["status"] for row in rows[:119]} == {"insufficient-data"}
    assert all((instant(row, "sign_of_life_at") or 0) <= 80 * MINUTE for row in rows)
    assert not inputs(rows[-1])["heart_rate"]["usable"]
    assert len(state.patients["ann"].readings) < 200 * 7 + 1


def test_a_held_reading_of_a_replay_counts_at_once_where_its_time_has_passed() -> None:
    scored = score(*ahead(8 * MINUTE, 0), now=HOUR)

    assert scored.tallies == {"scored": 7}
    assert len(last_finals(score_shard(scored.state, None, None, NOON + HOUR + MINUTE))) == 1


def test_a_held_impossible_reading_is_impossible_once_its_time_comes() -> None:
    held = ahead(8 * MINUTE, MINUTE, heart_rate=0)

    scored = score(*full(0), *held, now=2 * MINUTE)
    rows = last_finals(scored, score_shard(scored.state, None, None, NOON + HOUR))

    assert (inputs(rows[-1])["heart_rate"]["value"], rows[-1]["doubtful"]) == (70.0, ["pulse"])
    assert inputs(rows[-1])["heart_rate"]["newest"]["quality"] == "impossible"


def test_held_readings_come_back_from_the_lake() -> None:
    past = patient_measurements(ahead(8 * MINUTE, -MINUTE, heart_rate=140))
    new = patient_measurements([Reading("systolic_bp", 120, 0)])

    [wanted] = score_shard(ShardState(), new, None, NOON + SECOND).wanted
    scored = score_shard(ShardState(), new, past, NOON + SECOND)

    [live] = lives(scored)
    assert wanted.end > NOON + 8 * MINUTE
    assert inputs(live)["heart_rate"]["quality"] == "future"


def test_held_readings_survive_the_form_on_disk() -> None:
    held = score(*ahead(8 * MINUTE, 0), now=SECOND)

    restored = ShardState.from_bytes(held.state.to_bytes())
    closed = score_shard(restored, None, None, NOON + HOUR)

    assert restored.to_bytes() == held.state.to_bytes()
    assert len(last_finals(closed)) == 1


def test_a_reading_held_for_years_leaves_the_state_with_its_patient() -> None:
    held = score(*ahead(30 * 365 * 24 * HOUR, 0), now=SECOND)

    assert score_shard(held.state, None, None, NOON + 25 * HOUR).state.patients == {}


def test_history_of_what_was_not_known_yet_changes_nothing() -> None:
    new = patient_measurements(full(0))
    later = patient_measurements(full(30 * MINUTE, heart_rate=150))

    scored = score_shard(ShardState(), new, later, NOON + SECOND)
    plain = score_shard(ShardState(), new, NONE_BEFORE, NOON + SECOND)

    assert scored.scores.to_pylist() == plain.scores.to_pylist()


def test_one_clock_in_another_century_does_not_disturb_five_hundred_others() -> None:
    others = [one for number in range(500) for one in full(0, f"p{number:03}", heart_rate=60 + number % 50)]
    held = [Reading("heart_rate", 190, 8 * MINUTE, f"p{number:03}", "h", received=0) for number in range(500)]
    century = Reading("heart_rate", 190, 172 * 365 * 24 * HOUR, "p000", "x", received=0)
    past = Reading("temperature", 37, -55 * 365 * 24 * HOUR, "old", received=0)

    scored = score(*others, *held, century, past, now=SECOND)
    rows = last_finals(score_shard(scored.state, None, None, NOON + HOUR))

    released = {row["patient_id"]: row for row in rows if instant(row, "window_start") == 8 * MINUTE}
    assert len(released) == 500
    assert {inputs(row)["heart_rate"]["value"] for row in released.values()} == {190.0}
    assert {row["age_years"] for row in rows} == {70}
