"""Patients whom NEWS2 may not score, what is not known of them, and contexts that come later."""

from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading, patient_measurements
from pulseweir.records.topics import PATIENT_CONTEXT_TYPE, PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.score_shard import score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import ShardState
from scored_windows import finals, full, last_finals, lives, parts, score

DAY = 24 * HOUR


def of(readings: list[Reading], **context: Any) -> list[Reading]:
    return [replace(one, **context) for one in readings]


def unread(at: int, **changes: Any) -> list[Reading]:
    """A set whose patient could not be looked up."""
    return of(full(at, **changes), version=0, age=None, sex=None, scale=None, pregnant=None)


def context_row(at: int, patient: str = "ann", **context: Any) -> pa.Table:
    """A row that says nothing but what is known of the patient."""
    [row] = patient_measurements([replace(Reading("heart_rate", None, at, patient), **context)]).to_pylist()
    instant = row["occurred_at"]
    row |= {"type": PATIENT_CONTEXT_TYPE, "code": None, "name": None, "text": None, "number": None, "quality": "good"}
    return pa.Table.from_pylist([row | {"received_at": instant}], schema=PATIENT_MEASUREMENT_SCHEMA)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({"age": 0}, "age-under-16"), ({"age": 15}, "age-under-16"), ({"age": 16}, None),
        ({"age": 30, "pregnant": True}, "pregnancy"), ({"age": 14, "pregnant": True}, "age-under-16"),
        ({"age": None, "pregnant": True}, "pregnancy"),
    ],
)  # fmt: skip
def test_children_and_the_pregnant_are_not_scored(context: dict[str, Any], reason: str | None) -> None:
    [row] = finals(*of(full(0, heart_rate=150, respiratory_rate=40, spo2=85), **context))

    assert row["abstained"] == reason
    if reason:
        assert (row["status"], row["score"], row["band"], row["single_red"]) == ("abstained", None, None, False)
        assert (row["contributions_json"], row["basis"]) == ("[]", [])
        assert len(msgspec.json.decode(row["inputs_json"])) == 7
    else:
        assert (row["status"], row["score"]) == ("complete", 9.0)


@pytest.mark.parametrize(
    ("context", "unknown"),
    [
        ({"age": None, "sex": "male"}, ["age"]), ({"age": None, "pregnant": None}, ["age", "pregnancy"]),
        ({"age": 30, "pregnant": None}, ["pregnancy"]), ({"age": 30, "sex": "male", "pregnant": None}, []),
        ({"age": 30, "sex": None, "pregnant": None}, ["pregnancy"]), ({"age": 61, "pregnant": None}, []),
        ({"scale": None}, ["spo2_scale"]),
    ],
)  # fmt: skip
def test_what_is_not_known_is_named_and_makes_the_score_partial(context: dict[str, Any], unknown: list[str]) -> None:
    [row] = finals(*of(full(0), **context))

    assert (row["unknown"], row["status"]) == (unknown, "partial" if unknown else "complete")


def test_an_unknown_age_is_a_reason_to_abstain_where_the_site_says_so() -> None:
    settings = WindowSettings(unknown_age="abstain")

    [row] = finals(*of(full(0), age=None), settings=settings)
    [adult] = finals(*full(0), settings=settings)

    assert (row["abstained"], row["status"], adult["status"]) == ("unknown-age", "abstained", "complete")


@pytest.mark.parametrize(
    ("saturation", "oxygen", "on_scales", "points"), [(89, 0, (3, 0), 3), (97, 2, (0, 3), 3), (98, 0, (0, 0), 0)]
)
def test_an_unknown_scale_scores_the_higher_of_both_and_shows_both(
    saturation: float, oxygen: float, on_scales: tuple[int, int], points: int
) -> None:
    [row] = finals(*of(full(0, spo2=saturation, oxygen_flow=oxygen), scale=None))

    spo2 = parts(row)["spo2"]
    assert (spo2["on_scale_1"], spo2["on_scale_2"], spo2["points"]) == (*on_scales, points)
    assert (row["spo2_scale"], row["unknown"]) == (None, ["spo2_scale"])


def test_without_a_saturation_the_scale_does_not_matter() -> None:
    [row] = finals(*of(full(0, spo2=None), scale=None))

    assert row["unknown"] == []


def test_a_context_that_is_read_later_revises_what_was_scored_without_it() -> None:
    first = score(*unread(0, spo2=89), *unread(MINUTE, spo2=89), now=2 * MINUTE)
    closed = score_shard(first.state, None, None, NOON + 4 * MINUTE)
    told = score_shard(closed.state, context_row(5 * MINUTE, scale=2), None, NOON + 5 * MINUTE)

    assert [(row["status"], row["score"]) for row in last_finals(first, closed)] == [("partial", 3.0)] * 2
    assert [(row["status"], row["score"], row["revision"]) for row in last_finals(told)] == [("complete", 0.0, 2)] * 2
    assert [row["spo2_scale"] for row in lives(told)] == [2]
    assert told.tallies == {"context": 1}


def test_a_context_that_comes_with_a_reading_revises_likewise() -> None:
    first = score(*unread(0), now=MINUTE)
    closed = score_shard(first.state, None, None, NOON + 4 * MINUTE)
    second = score(*of(full(5 * MINUTE), age=12), now=6 * MINUTE, state=closed.state)

    [row] = last_finals(second)
    assert (row["revision"], row["abstained"]) == (2, "age-under-16")


def test_a_later_unknown_un_knows_nothing_field_by_field() -> None:
    known = of(full(0, spo2=89), scale=2, version=1)
    half_read = of(full(MINUTE, spo2=89), scale=None, age=None, pregnant=None, sex=None, version=2)
    lost = unread(2 * MINUTE, spo2=89)

    rows = finals(*known, *half_read, *lost)

    assert [(row["status"], row["spo2_scale"], row["age_years"], row["unknown"]) for row in rows] == [
        ("complete", 2, 70, [])
    ] * 3


def test_contexts_of_strangers_and_of_the_forgotten_do_nothing() -> None:
    stranger = score_shard(ShardState(), context_row(0), None, NOON)
    closed = score_shard(score(*unread(0), now=0).state, None, None, NOON + HOUR)
    late = score_shard(closed.state, context_row(7 * DAY), None, NOON + 7 * DAY)

    assert (stranger.state.patients, stranger.scores.num_rows, stranger.tallies) == ({}, 0, {"context": 1})
    assert (stranger.wanted, late.tallies) == ([], {"context": 1})


def test_contexts_survive_the_form_on_disk() -> None:
    first = score(*unread(0), now=MINUTE)
    told = score_shard(first.state, context_row(MINUTE, scale=2), None, NOON + MINUTE)

    restored = ShardState.from_bytes(told.state.to_bytes())
    closed = score_shard(restored, None, None, NOON + HOUR)

    assert restored.to_bytes() == told.state.to_bytes()
    assert [(row["status"], row["spo2_scale"]) for row in last_finals(closed)] == [("complete", 2)]


def test_a_snapshot_of_the_first_form_is_read_and_goes_on() -> None:
    state = score(*full(0), now=SECOND).state
    form, sources, contexts, patients = msgspec.msgpack.decode(state.to_bytes())
    old = [1, sources, [one[:6] for one in contexts], {name: one[:7] for name, one in patients.items()}]

    restored = ShardState.from_bytes(msgspec.msgpack.encode(old))
    closed = score_shard(restored, None, None, NOON + HOUR)

    assert form == 2
    assert [(row["score"], row["spo2_scale"], row["unknown"]) for row in last_finals(closed)] == [(0.0, 1, [])]
