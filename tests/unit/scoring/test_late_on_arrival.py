"""What was old on arrival pages nobody: fifteen minutes for monitors, an hour for what people chart by hand."""

from dataclasses import replace

import pytest

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading
from pulseweir.scoring.score_shard import score_shard
from pulseweir.scoring.settings import WindowSettings
from scored_windows import finals, full, lives, score


def late(by: int, prefix: str = "", device: str = "") -> list[Reading]:
    return [replace(one, type=f"{prefix}{one.vital}", device=device, received=by) for one in full(0, heart_rate=140)]


def monitors(by: int) -> list[Reading]:
    """A monitor's minute, which charts nothing by hand."""
    return [one for one in late(by) if one.vital not in ("consciousness", "oxygen_flow")]


@pytest.mark.parametrize(
    ("prefix", "by", "backfill"),
    [
        ("", 15 * MINUTE, False), ("", 20 * MINUTE, True), ("nurse-", 20 * MINUTE, False),
        ("nurse-", HOUR, False), ("nurse-", HOUR + SECOND, True),
    ],
)  # fmt: skip
def test_each_source_has_its_own_limit(prefix: str, by: int, backfill: bool) -> None:
    assert [row["backfill"] for row in finals(*late(by, prefix))] == [backfill]


def test_the_nurse_entry_kind_is_charted_by_hand() -> None:
    [row] = finals(
        Reading("consciousness", "U", 0, type="consciousness-unresponsive", received=20 * MINUTE),
        Reading("oxygen_flow", 15, 0, type="oxygen-flow", received=20 * MINUTE),
    )

    assert (row["backfill"], row["score"]) == (False, 5.0)


def test_what_a_monitor_sends_of_that_kind_goes_by_the_monitors_limit() -> None:
    buffered = [
        *monitors(20 * MINUTE),
        Reading("consciousness", "A", 0, type="consciousness-alert", received=20 * MINUTE),
    ]
    by_nurse = replace(buffered[-1], device="nurse-tablet", value="U")

    assert [row["backfill"] for row in finals(*buffered)] == [True]
    assert [row["backfill"] for row in finals(*buffered[:-1], by_nurse)] == [False]


def test_one_late_value_does_not_hide_a_window_in_which_somebody_was_heard_on_time() -> None:
    on_time = full(0, heart_rate=None)
    old = Reading("heart_rate", 140, 0, device="second", received=HOUR)

    assert [row["backfill"] for row in finals(*on_time, old)] == [False]


def test_the_limit_and_the_types_can_be_set() -> None:
    settings = WindowSettings(hand_charted_backfill_after_seconds=600, hand_charted_types=("ward-",))

    assert [row["backfill"] for row in finals(*late(11 * MINUTE, "ward-"), settings=settings)] == [True]
    assert [row["backfill"] for row in finals(*late(11 * MINUTE, "nurse-"), settings=settings)] == [False]


def test_a_nurses_late_set_has_its_live_row_at_once() -> None:
    scored = score(*late(20 * MINUTE, "nurse-"), now=20 * MINUTE + SECOND)

    assert [row["backfill"] for row in lives(scored)] == [False]
    assert score_shard(scored.state, None, None, NOON + HOUR).state.patients
