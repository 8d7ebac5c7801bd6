"""Readings that are newer than the value used and not usable: no sign of life, and no score is complete with them."""

import pytest

from patient_measurements import HOUR, MINUTE, SECOND, Reading
from scored_windows import finals, full, inputs, instant, score


def zeros(at: int, **vitals: float | str | None) -> list[Reading]:
    return [Reading(vital, value, at) for vital, value in vitals.items()]


def test_a_sensor_that_sends_zeros_for_an_hour_is_no_sign_of_life() -> None:
    dead = [one for minute in range(1, 61) for one in zeros(minute * MINUTE, heart_rate=0, respiratory_rate=0, spo2=0)]

    rows = finals(*full(0), *dead)

    for row in rows[1:59]:
        assert row["status"] == "partial"
        assert row["doubtful"] == ["respiratory_rate", "spo2", "pulse"]
        assert instant(row, "sign_of_life_at") == 0
        assert inputs(row)["heart_rate"]["value"] == 70.0
        assert (inputs(row)["heart_rate"]["newest"]["value"], inputs(row)["heart_rate"]["newest"]["quality"]) == (
            0.0,
            "impossible",
        )
    assert rows[-1]["missing"] == ["respiratory_rate", "spo2", "pulse"] == rows[-1]["stale"]
    assert rows[-1]["status"] == "insufficient-data"
    assert instant(rows[-1], "sign_of_life_at") == 0
    assert (rows[0]["status"], rows[0]["doubtful"]) == ("complete", [])


@pytest.mark.parametrize(
    ("vital", "value", "parameter"),
    [
        ("heart_rate", -1, "pulse"), ("heart_rate", 300, "pulse"), ("heart_rate", "--", "pulse"),
        ("spo2", -1, "spo2"), ("spo2", 127, "spo2"), ("respiratory_rate", 0, "respiratory_rate"),
        ("systolic_bp", 0, "systolic_bp"), ("temperature", 0, "temperature"), ("oxygen_flow", -5, "air_or_oxygen"),
    ],
)  # fmt: skip
def test_any_impossible_newest_reading_makes_its_parameter_doubtful(
    vital: str, value: float | str, parameter: str
) -> None:
    row = finals(*full(0), Reading(vital, value, 2 * MINUTE))[-1]

    assert (row["status"], row["score"], row["doubtful"]) == ("partial", 0.0, [parameter])
    entry = inputs(row)[vital]
    assert (entry["usable"], entry["age_seconds"], entry["newest"]["age_seconds"]) == (True, 180, 60)


def test_a_good_reading_after_impossible_ones_ends_the_doubt() -> None:
    alternating = [Reading("heart_rate", 72 if minute % 2 else 0, minute * MINUTE) for minute in range(1, 6)]

    rows = finals(*full(0), *alternating)

    assert [row["doubtful"] for row in rows] == [[], [], ["pulse"], [], ["pulse"], []]
    assert [instant(row, "sign_of_life_at") for row in rows] == [0, MINUTE, MINUTE, 3 * MINUTE, 3 * MINUTE, 5 * MINUTE]


def test_an_honest_device_counts_beside_one_that_sends_zeros() -> None:
    readings = [
        one
        for minute in range(1, 5)
        for one in (
            Reading("heart_rate", 0, minute * MINUTE, device="broken"),
            Reading("heart_rate", 75, minute * MINUTE + 10 * SECOND, device="honest"),
        )
    ]

    row = finals(*full(0), *readings)[-1]

    assert (row["status"], row["doubtful"], inputs(row)["heart_rate"]["value"]) == ("complete", [], 75.0)
    assert "newest" not in inputs(row)["heart_rate"]


def test_a_suspect_newest_reading_is_doubtful_until_a_second_one_confirms_it() -> None:
    once, twice = (
        finals(*full(0), *(Reading("spo2", 60, minute * MINUTE) for minute in range(1, readings + 1)))[-1]
        for readings in (1, 2)
    )

    assert (once["doubtful"], once["score"], inputs(once)["spo2"]["newest"]["quality"]) == (["spo2"], 0.0, "suspect")
    assert (twice["doubtful"], twice["score"], twice["status"]) == ([], 3.0, "complete")


def test_a_leap_is_as_doubtful_as_an_unusual_value() -> None:
    steady = [Reading("heart_rate", 70 + minute % 2, minute * MINUTE) for minute in range(1, 6)]

    row = finals(*full(0), *steady, Reading("heart_rate", 180, 6 * MINUTE))[-1]

    assert (row["doubtful"], inputs(row)["heart_rate"]["newest"]["quality"]) == (["pulse"], "suspect")


def test_impossible_readings_alone_are_shown_and_no_sign_of_life() -> None:
    [row] = finals(Reading("heart_rate", 0, 0), Reading("spo2", 0, 0))

    assert (row["status"], row["sign_of_life_at"], row["doubtful"]) == ("insufficient-data", None, [])
    assert (inputs(row)["heart_rate"]["usable"], inputs(row)["heart_rate"]["quality"]) == (False, "impossible")


def test_an_impossible_reading_that_is_on_time_makes_no_buffered_set_look_fresh() -> None:
    buffered = [Reading(one.vital, one.value, 0, received=20 * MINUTE) for one in full(0, consciousness=None)]
    beside = Reading("heart_rate", 0, 10 * SECOND, device="broken")
    after = Reading("heart_rate", 0, 5 * MINUTE, device="broken")

    rows = finals(*buffered, beside, after)

    assert [row["backfill"] for row in rows] == [True, True]


def test_a_frozen_cuff_is_found_though_it_measures_every_twenty_minutes() -> None:
    readings = [one for turn in range(16) for one in full(turn * 20 * MINUTE, systolic_bp=118, heart_rate=70 + turn)]

    rows = finals(*readings)

    assert [inputs(row)["systolic_bp"].get("flat_line") for row in rows] == [None] * 9 + [True] * 7
    assert not any(inputs(row)["heart_rate"].get("flat_line") for row in rows)


def test_a_flat_line_is_not_marked_on_a_stale_value() -> None:
    readings = [one for minute in range(20) for one in full(minute * MINUTE)]

    row = finals(*readings, *full(2 * HOUR, heart_rate=None))[-1]

    assert "flat_line" not in inputs(row)["heart_rate"]


def test_the_live_row_is_doubtful_too() -> None:
    first = score(*full(0), now=SECOND)
    second = score(Reading("heart_rate", 0, 3 * SECOND), now=5 * SECOND, state=first.state)

    [live] = [row for row in second.scores.to_pylist() if row["live"]]

    assert (live["doubtful"], live["status"]) == (["pulse"], "partial")
