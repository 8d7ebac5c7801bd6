"""What a window's score says: values, ages, ties, status, context, live rows, history."""

from typing import Any

import msgspec
import pytest

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading, patient_measurements
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, RISK_SCORE_SCHEMA
from pulseweir.scoring.score_shard import ScoredShard, score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import ShardState, joined, share

NONE_BEFORE = PATIENT_MEASUREMENT_SCHEMA.empty_table()
NORMAL = {"respiratory_rate": 16, "spo2": 98, "systolic_bp": 120, "heart_rate": 70, "temperature": 37, "oxygen_flow": 0}


_PARTS = ("eye", "verbal", "motor")


def full(at: int, patient: str = "ann", **changes: float | str | None) -> list[Reading]:
    values: dict[str, float | str | None] = {**NORMAL, "consciousness": "A", **changes}
    return [Reading(vital, value, at, patient) for vital, value in values.items() if value is not None]


def score(*readings: Reading, now: int | None = None, state: ShardState | None = None) -> ScoredShard:
    newest = max(one.at for one in readings)
    return score_shard(
        state or ShardState(),
        patient_measurements(readings),
        NONE_BEFORE,
        NOON + (newest + SECOND if now is None else now),
    )


def finals(*readings: Reading) -> list[dict[str, Any]]:
    """Finals after all windows were closed by the clock, in window order."""
    scored = score(*readings)
    closed = score_shard(scored.state, None, None, NOON + max(one.at for one in readings) + 2 * HOUR)
    rows = scored.scores.to_pylist() + closed.scores.to_pylist()
    return sorted((row for row in rows if not row["live"]), key=lambda row: row["window_start"])


def inputs(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["vital"]: one for one in msgspec.json.decode(row["inputs_json"])}


def test_a_complete_window_has_score_parts_inputs_and_basis() -> None:
    [row] = finals(*full(10 * SECOND, heart_rate=95, consciousness="V"))

    assert (row["score"], row["band"], row["status"], row["single_red"]) == (4.0, "low-medium", "complete", True)
    assert (row["missing"], row["stale"], row["revision"], row["preliminary"]) == ([], [], 1, False)
    parts = {one["parameter"]: one["points"] for one in msgspec.json.decode(row["contributions_json"])}
    assert parts["pulse"] == 1
    assert parts["consciousness"] == 3
    assert len(row["basis"]) == 7
    pulse = inputs(row)["heart_rate"]
    assert (pulse["value"], pulse["unit"], pulse["age_seconds"], pulse["quality"]) == (95.0, "/min", 50, "good")
    assert pulse["occurred_at"].endswith("Z")
    assert inputs(row)["consciousness"]["text"] == "V"


@pytest.mark.parametrize(
    ("vital", "hours", "parameter"),
    [
        ("heart_rate", 1, "pulse"),
        ("spo2", 1, "spo2"),
        ("systolic_bp", 4, "systolic_bp"),
        ("temperature", 12, "temperature"),
    ],
)
def test_a_value_is_carried_to_its_maximum_age_then_stale_and_shown_as_such(
    vital: str, hours: int, parameter: str
) -> None:
    others: dict[str, Any] = {name: None for name in NORMAL if name == vital}

    carried = finals(*full(0), *full(hours * HOUR - MINUTE, **others))[-1]
    stale = finals(*full(0), *full(hours * HOUR + MINUTE, **others))[-1]

    assert parameter not in carried["missing"]
    assert parameter in stale["missing"]
    assert parameter in stale["stale"]
    assert stale["status"] == "partial"
    assert inputs(stale)[vital]["usable"] is False


def test_fewer_than_three_core_values_that_raise_nothing_are_insufficient_data_and_never_a_zero() -> None:
    [row] = finals(Reading("heart_rate", 120, 0), Reading("spo2", 93, 0), Reading("consciousness", "A", 0))

    assert (row["status"], row["score"], row["band"], row["single_red"]) == ("insufficient-data", None, None, False)


@pytest.mark.parametrize(
    ("values", "score", "band"),
    [
        ({"spo2": 82, "heart_rate": 138, "consciousness": "U", "oxygen_flow": 15}, 11, "high"),
        ({"spo2": 82}, 3, "low-medium"), ({"consciousness": "C"}, 3, "low-medium"),
        ({"heart_rate": 125, "spo2": 93, "oxygen_flow": 2}, 6, "medium"), ({"glasgow_coma_scale": 9}, 3, "low-medium"),
    ],
)  # fmt: skip
def test_known_parts_that_already_raise_something_count_however_few_they_are(
    values: dict[str, float | str], score: int, band: str
) -> None:
    [row] = finals(*(Reading(vital, value, 0) for vital, value in values.items()))

    assert (row["status"], row["score"], row["band"]) == ("partial", score, band)


def test_impossible_values_open_a_window_are_shown_and_never_scored() -> None:
    scored = score(*full(0, systolic_bp=11_647))
    [row] = finals(*full(0, systolic_bp=11_647))

    assert scored.tallies == {"scored": 6, "filtered:implausible": 1}
    assert (row["status"], row["missing"], row["score"]) == ("partial", ["systolic_bp"], 0.0)
    assert (inputs(row)["systolic_bp"]["value"], inputs(row)["systolic_bp"]["quality"]) == (11_647.0, "impossible")


def test_arterial_pressure_comes_before_cuff_in_one_minute_and_the_later_minute_before_both() -> None:
    arterial = Reading("systolic_bp", 85, 10 * SECOND, type="arterial-pressure")
    cuff = Reading("systolic_bp", 125, 50 * SECOND, type="cuff-pressure")
    later = Reading("systolic_bp", 105, 70 * SECOND, type="cuff-pressure")

    rows = finals(*full(0, systolic_bp=None), cuff, arterial, later)

    assert [inputs(row)["systolic_bp"]["value"] for row in rows] == [85.0, 105.0]
    assert inputs(rows[0])["systolic_bp"]["type"] == "arterial-pressure"


@pytest.mark.parametrize(
    ("readings", "points"),
    [
        ([("fio2", 21, 0)], 0), ([("fio2", 0.3, 0)], 2), ([("fio2", 40, 0)], 2), ([("oxygen_flow", 2, 0)], 2),
        ([("oxygen_flow", 2, 0), ("fio2", 21, 5)], 2), ([("fio2", 40, 0), ("oxygen_flow", 0, 5)], 2),
        ([("fio2", 21, 0), ("oxygen_flow", 2, 0)], 2), ([("fio2", 50, -600), ("oxygen_flow", 0, -300)], 2),
        ([("fio2", 50, -600), ("fio2", 21, -300)], 0), ([("oxygen_flow", 2, -4 * 3600), ("fio2", 21, 0)], 0),
    ],
)  # fmt: skip
def test_oxygen_is_given_where_concentration_or_flow_says_so(
    readings: list[tuple[str, float, int]], points: int
) -> None:
    row = finals(*full(0, oxygen_flow=None), *(Reading(vital, value, at * SECOND) for vital, value, at in readings))[-1]

    assert [inputs(row)[name].get("decides") for name in ("fio2", "oxygen_flow") if name in inputs(row)].count(
        True
    ) == 1
    parts = {one["parameter"]: one["points"] for one in msgspec.json.decode(row["contributions_json"])}
    assert parts["air_or_oxygen"] == points


def test_glasgow_coma_scale_stands_in_where_no_letter_is_known_and_of_one_instant_the_worse_counts() -> None:
    [alone] = finals(*full(0, consciousness=None, glasgow_coma_scale=14))
    [awake] = finals(*full(0, consciousness=None, glasgow_coma_scale=15))
    [both] = finals(*full(0, consciousness="A", glasgow_coma_scale=9))

    assert [row["score"] for row in (alone, awake, both)] == [3.0, 0.0, 3.0]


def test_the_patients_scale_rules_the_saturation() -> None:
    on_scale_2 = [Reading(one.vital, 89 if one.vital == "spo2" else one.value, 0, scale=2) for one in full(0)]

    [row] = finals(*on_scale_2)

    assert (row["score"], row["spo2_scale"], row["ward"], row["bed"], row["age_years"]) == (
        0.0,
        2,
        "Ward A",
        "Bed 1",
        70,
    )


def test_old_measurements_on_arrival_make_a_backfill_row() -> None:
    late = [Reading(one.vital, one.value, 0, received=901 * SECOND) for one in full(0)]
    on_time = [Reading(one.vital, one.value, 0, received=900 * SECOND) for one in full(0)]

    assert [finals(*one)[0]["backfill"] for one in (late, on_time)] == [True, False]


def test_a_trend_of_the_recent_series_goes_with_each_vital() -> None:
    readings = [reading for hour in range(4) for reading in full(hour * HOUR, heart_rate=70 + 5 * hour)]

    assert inputs(finals(*readings)[-1])["heart_rate"]["slope_per_hour"] == 5.0


def test_several_readings_in_a_window_are_summed_up_in_its_pane() -> None:
    entry = inputs(finals(*full(0), Reading("heart_rate", 80, 20 * SECOND), Reading("heart_rate", 90, 40 * SECOND))[0])[
        "heart_rate"
    ]

    assert (entry["value"], entry["count"], entry["mean"], entry["minimum"], entry["maximum"]) == (
        90.0,
        3,
        80.0,
        70.0,
        90.0,
    )


def test_live_rows_come_at_most_once_a_second_and_carry_the_newest_values() -> None:
    first = score(*full(0), now=SECOND)
    again = score(Reading("heart_rate", 140, SECOND), now=SECOND + 100_000, state=first.state)
    later = score_shard(again.state, None, None, NOON + 2 * SECOND + 1)

    [live] = later.scores.to_pylist()
    assert first.scores["live"].to_pylist() == [True]
    assert again.scores.num_rows == 0
    assert (live["live"], live["preliminary"], live["revision"], live["score"]) == (True, True, 0, 3.0)
    assert inputs(live)["heart_rate"]["value"] == 140.0


def test_backfill_has_no_live_row_until_its_patient_is_quiet() -> None:
    late = [Reading(one.vital, one.value, 0, received=HOUR) for one in full(0)]

    first = score(*late, now=HOUR)
    quiet = score_shard(first.state, None, None, NOON + HOUR + 3 * SECOND)

    assert first.scores.num_rows == 0
    assert sorted(quiet.scores["live"].to_pylist()) == [False, True]


def test_a_window_closes_by_the_clock_when_its_patient_goes_quiet() -> None:
    scored = score(*full(0))

    early = score_shard(scored.state, None, None, NOON + 69 * SECOND)
    due = score_shard(scored.state, None, None, NOON + 70 * SECOND)

    assert not [row for row in early.scores.to_pylist() if not row["live"]]
    assert [row["revision"] for row in due.scores.to_pylist() if not row["live"]] == [1]
    assert due.state.due_at > NOON + HOUR


def test_an_unknown_patients_past_is_wanted_and_nothing_else_happens_until_it_comes() -> None:
    rows = patient_measurements(full(0))

    asked = score_shard(ShardState(), rows, None, NOON)
    answered = score_shard(asked.state, rows, NONE_BEFORE, NOON)

    [wanted] = asked.wanted
    assert wanted.patient_id == "ann"
    assert wanted.start <= NOON - 16 * HOUR
    assert (asked.state.patients, asked.tallies, asked.scores.num_rows) == ({}, {}, 0)
    assert (answered.wanted, answered.tallies) == ([], {"scored": 7})


def test_history_informs_the_score_but_opens_no_window_until_it_arrives_itself() -> None:
    past = full(-30 * MINUTE)
    scored = score_shard(
        ShardState(), patient_measurements([Reading("heart_rate", 70, 0)]), patient_measurements(past), NOON
    )
    closed = score_shard(scored.state, None, None, NOON + HOUR)
    arrived = score_shard(closed.state, patient_measurements(past), None, NOON + HOUR)

    assert [(row["status"], row["live"]) for row in closed.scores.to_pylist()] == [("complete", False)]
    assert arrived.tallies == {"scored": 7}
    assert [row["revision"] for row in arrived.scores.to_pylist() if not row["live"]] == [1]


def test_unscored_codes_are_counted_and_open_nothing() -> None:
    scored = score_shard(ShardState(), patient_measurements([Reading("height", 180, 0, code="8302-2")]), None, NOON)

    assert scored.tallies == {"filtered:unscored-vital": 1}
    assert scored.state.patients == {}


def test_a_state_is_left_untouched_and_survives_its_form_on_disk() -> None:
    first = score(*full(0), *full(0, "ben"))
    before = first.state.to_bytes()

    score(*full(MINUTE), state=first.state)

    assert first.state.to_bytes() == before
    assert ShardState.from_bytes(before).to_bytes() == before


def test_states_of_shards_join_and_part_again_without_loss() -> None:
    ann, ben = score(*full(0)).state, score(*full(0, "ben")).state

    both = joined(ann, ben)

    assert share(both, ["ann"]).to_bytes() == ann.to_bytes()
    assert share(both, ["ben"]).to_bytes() == ben.to_bytes()


def test_a_patient_long_silent_is_forgotten() -> None:
    scored = score(*full(0))
    closed = score_shard(scored.state, None, None, NOON + HOUR)

    assert score_shard(closed.state, None, None, NOON + 25 * HOUR).state.patients == {}


def test_old_readings_leave_the_state() -> None:
    state = ShardState()
    for hour in range(0, 96, 2):
        state = score(*full(hour * HOUR), state=state).state

    assert len(state.patients["ann"].readings) < 80
    assert len(state.patients["ann"].windows) < 5


def test_longer_windows_take_the_values_of_all_their_minutes() -> None:
    settings = WindowSettings(window_seconds=300)
    scored = score_shard(ShardState(), patient_measurements([*full(0), *full(4 * MINUTE)]), NONE_BEFORE, NOON, settings)
    closed = score_shard(scored.state, None, None, NOON + HOUR, settings)

    assert [row["window_end"] - row["window_start"] for row in closed.scores.to_pylist()][0].total_seconds() == 300
    assert closed.scores.schema == RISK_SCORE_SCHEMA


def test_who_came_first_decides_nothing_between_equal_readings_of_two_devices() -> None:
    twins = [Reading("heart_rate", 140, 0, device=device) for device in ("left", "right")]
    parts = [Reading(f"glasgow_coma_{part}", 1, 0, device=device) for part in _PARTS for device in ("left", "right")]

    [one] = finals(*twins, *parts)
    [other] = finals(*reversed(parts), *reversed(twins))

    assert (one["inputs_json"], one["basis"]) == (other["inputs_json"], other["basis"])


def test_a_part_charted_again_with_the_same_value_is_what_the_score_rests_on_then() -> None:
    def part(name: str, at: int, device: str) -> Reading:
        return Reading(f"glasgow_coma_{name}", 1, at, device=device)

    # Its own newer eye opening hides in the second window's inputs which one the sum was made of.
    parts = [part("eye", 0, "left"), part("verbal", 40 * SECOND, "left"), part("motor", 40 * SECOND, "left")]
    first = [*parts, Reading("glasgow_coma_eye", 4, MINUTE, device="left")]
    again = [part("eye", 20 * SECOND, "right")]
    [_, together] = finals(*first, *again)

    closed = score_shard(score(*first).state, None, None, NOON + HOUR)
    later = score_shard(closed.state, patient_measurements(again), NONE_BEFORE, NOON + HOUR)
    rows = [row for row in later.scores.to_pylist() if not row["live"]]

    assert rows[-1]["window_start"] == together["window_start"]
    assert rows[-1]["basis"] == together["basis"]
