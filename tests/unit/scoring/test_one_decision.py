"""Consciousness and oxygen: several inputs speak, one decision is made, and the input that decided is marked."""

import pytest

from patient_measurements import HOUR, MINUTE, SECOND, Reading
from scored_windows import finals, full, inputs, parts

COMA = {"eye": "glasgow_coma_eye", "verbal": "glasgow_coma_verbal", "motor": "glasgow_coma_motor"}


def coma(at: int, **said: float) -> list[Reading]:
    return [Reading(COMA[part], number, at) for part, number in said.items()]


def without(at: int) -> list[Reading]:
    return full(at, consciousness=None)


def test_the_newer_of_letter_and_coma_scale_counts() -> None:
    letter, scale = Reading("consciousness", "A", -2 * HOUR), Reading("glasgow_coma_scale", 3, 0)

    worse = finals(*without(0), letter, scale)[-1]
    better = finals(*without(0), Reading("glasgow_coma_scale", 3, -2 * HOUR), Reading("consciousness", "A", 0))[-1]

    assert (worse["score"], worse["doubtful"], worse["status"]) == (3.0, [], "complete")
    assert better["score"] == 0.0
    assert (inputs(worse)["glasgow_coma_scale"].get("decides"), inputs(worse)["consciousness"].get("decides")) == (
        True,
        None,
    )
    assert inputs(worse)["consciousness"]["text"] == "A"
    assert inputs(better)["consciousness"]["decides"] is True


def test_parts_of_one_minute_are_summed_whatever_device_sent_them() -> None:
    own = [*coma(0, eye=1, verbal=1), Reading("glasgow_coma_motor", 4, 20 * SECOND, device="tablet")]

    [row] = finals(*without(0), *own)

    entry = inputs(row)["glasgow_coma_scale"]
    assert (entry["value"], entry["summed_from_parts"], entry["decides"]) == (6.0, True, True)
    assert (row["score"], row["status"]) == (3.0, "complete")
    assert len(row["basis"]) == 6 + 3
    assert [inputs(row)[name]["value"] for name in COMA.values()] == [1.0, 1.0, 4.0]


def test_a_full_sum_is_alert_and_counts_for_the_maximum_age() -> None:
    row = finals(*coma(0, eye=4, verbal=5, motor=6), *without(3 * HOUR))[-1]
    stale = finals(*coma(0, eye=4, verbal=5, motor=6), *without(5 * HOUR))[-1]

    assert (row["score"], row["missing"], inputs(row)["glasgow_coma_scale"]["value"]) == (0.0, [], 15.0)
    assert (stale["missing"], stale["stale"]) == (["consciousness"], ["consciousness"])


def test_a_charted_total_is_not_summed_again() -> None:
    [row] = finals(*without(0), *coma(0, eye=4, verbal=5, motor=5), Reading("glasgow_coma_scale", 14, 0))

    assert "summed_from_parts" not in inputs(row)["glasgow_coma_scale"]
    assert "count" not in inputs(row)["glasgow_coma_scale"]


def test_of_a_part_charted_twice_in_a_minute_the_later_counts() -> None:
    later = Reading("glasgow_coma_eye", 4, 30 * SECOND)

    [row] = finals(*without(0), *coma(0, eye=1, verbal=5, motor=6), later)

    assert (inputs(row)["glasgow_coma_scale"]["value"], row["score"]) == (15.0, 0.0)


def test_parts_of_different_minutes_make_no_sum_but_one_below_its_best_proves_not_alert() -> None:
    apart = finals(*without(2 * MINUTE), *coma(0, eye=4), *coma(MINUTE, verbal=4), *coma(2 * MINUTE, motor=6))[-1]
    best = finals(*without(MINUTE), *coma(0, eye=4), *coma(MINUTE, verbal=5))[-1]

    assert "glasgow_coma_scale" not in inputs(apart)
    assert (parts(apart)["consciousness"]["points"], inputs(apart)["glasgow_coma_verbal"]["decides"]) == (3, True)
    assert best["missing"] == ["consciousness"]


def test_a_part_below_its_best_that_is_newer_than_the_letter_counts() -> None:
    worse = finals(*full(0), *coma(MINUTE, eye=3))[-1]
    recovered = finals(*full(0), *coma(MINUTE, eye=3), Reading("consciousness", "A", 2 * MINUTE))[-1]

    assert (worse["score"], recovered["score"]) == (3.0, 0.0)


@pytest.mark.parametrize("text", ["c", " C", "Confused", "New confusion", "130987000", "responds to voice", "U"])
def test_consciousness_in_words_and_codes_scores_like_its_letter(text: str) -> None:
    row = finals(*full(0), Reading("consciousness", text, MINUTE))[-1]

    assert (row["score"], row["status"]) == (3.0, "complete")


def test_a_text_not_understood_ends_what_was_true_before_it() -> None:
    row = finals(*full(0), Reading("consciousness", "knoddelig", MINUTE))[-1]
    after = finals(*full(0), Reading("consciousness", "?", MINUTE), Reading("consciousness", "A", 2 * MINUTE))[-1]
    scale = finals(*full(0), Reading("consciousness", "?", MINUTE), Reading("glasgow_coma_scale", 15, 2 * MINUTE))[-1]
    old_scale = finals(*full(0), Reading("glasgow_coma_scale", 15, 0), Reading("consciousness", "?", MINUTE))[-1]

    assert (row["status"], row["missing"], row["doubtful"]) == ("partial", ["consciousness"], ["consciousness"])
    entry = inputs(row)["consciousness"]
    assert (entry["text"], entry["usable"], entry["newest"]["quality"]) == ("A", False, "not-understood")
    assert (after["status"], after["missing"]) == ("complete", [])
    assert (scale["missing"], scale["score"]) == ([], 0.0)
    assert old_scale["missing"] == ["consciousness"]


def test_an_impossible_coma_scale_leaves_the_letter_and_makes_it_doubtful() -> None:
    row = finals(*full(0), Reading("glasgow_coma_scale", 20, MINUTE))[-1]

    assert (row["score"], row["missing"], row["doubtful"]) == (0.0, [], ["consciousness"])


def test_the_input_that_says_oxygen_decides_whichever_is_newer() -> None:
    row = finals(*full(0, oxygen_flow=None), Reading("fio2", 50, -10 * MINUTE), Reading("oxygen_flow", 0, 0))[-1]
    [both] = finals(*full(0, oxygen_flow=2), Reading("fio2", 21, 0))
    air = finals(*full(0, oxygen_flow=0), Reading("fio2", 21, 30 * SECOND))[-1]

    assert (row["score"], inputs(row)["fio2"].get("decides"), inputs(row)["oxygen_flow"].get("decides")) == (
        2.0,
        True,
        None,
    )
    assert (both["score"], inputs(both)["oxygen_flow"]["decides"]) == (2.0, True)
    assert (air["score"], inputs(air)["fio2"]["decides"]) == (0.0, True)
