"""What every engine owes: equal scores from late, shuffled, repeated, differently cut and interrupted input."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patient_measurements import HOUR, MINUTE, SECOND, Reading, StillClock, by_shard, patient_measurements
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, Lake
from pulseweir.records.topics import RISK_SCORES, SCHEMAS
from pulseweir.scoring.engines.embedded import ScoringStage
from pulseweir.scoring.settings import WindowSettings

Scores = list[dict[str, Any]]
Engine = Callable[
    [Path, Sequence[Sequence[Reading]], frozenset[int]], Coroutine[Any, Any, tuple[Scores, dict[str, int]]]
]
NOW = 2 * HOUR
"""In the middle of what is drawn, so that some of what is ahead of its time waits."""
AT_ONCE = WindowSettings(batch_seconds=0)


async def embedded(
    root: Path, batches: Sequence[Sequence[Reading]], restarts: frozenset[int]
) -> tuple[Scores, dict[str, int]]:
    """Run the embedded engine over batches, restarted from its snapshots after some, then let time pass."""
    lake = Lake(str(root))
    stage = ScoringStage(lake, StillClock(instant=NOW), AT_ONCE)
    rows: Scores = []
    tallies: dict[str, int] = {}
    for number, batch in enumerate(batches):
        handled = await stage.handle(by_shard(patient_measurements(batch)))
        rows += _rows(handled.publish)
        for name, count in handled.outcome.tallies.items():
            tallies[name] = tallies.get(name, 0) + count
        if number in restarts:
            stage = _restarted(stage, lake, NOW)
    stage = _restarted(stage, lake, NOW + 13 * HOUR)
    ticked = await stage.tick()
    return rows + _rows(ticked.publish if ticked else []), tallies


def _restarted(stage: ScoringStage, lake: Lake, now: int) -> ScoringStage:
    fresh = ScoringStage(lake, StillClock(instant=now), AT_ONCE)
    for shard, snapshot in stage.snapshots().items():
        fresh.assigned(shard, snapshot)
    return fresh


def _rows(published: Sequence[tuple[str, pa.Table]]) -> Scores:
    for topic, table in published:
        assert topic == RISK_SCORES
        assert table.schema == SCHEMAS[RISK_SCORES]
    return [row for _, table in published for row in table.to_pylist()]


@pytest.fixture(params=[embedded])
def engine(request: pytest.FixtureRequest) -> Engine:
    one: Engine = request.param
    return one


def last_revisions(scores: Scores) -> dict[tuple[str, Any], dict[str, Any]]:
    """The last word on every window, without what legitimately differs between runs."""
    last: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in sorted((one for one in scores if not one["live"]), key=lambda one: int(one["revision"])):
        last[row["patient_id"], row["window_start"]] = row
    return {
        key: {name: row[name] for name in row if name not in ("revision", "scored_at")} for key, row in last.items()
    }


NUMERIC = st.sampled_from(
    [("heart_rate", 40, 180), ("respiratory_rate", 5, 40), ("spo2", 60, 100), ("systolic_bp", 30, 240),
     ("temperature", 34, 41), ("fio2", 21, 60), ("oxygen_flow", 0, 8), ("glasgow_coma_scale", 3, 15),
     ("glasgow_coma_eye", 1, 4), ("glasgow_coma_verbal", 1, 5), ("glasgow_coma_motor", 1, 6), ("heart_rate", -1, 1)]
)  # fmt: skip


@st.composite
def _reading(draw: st.DrawFn) -> Reading:
    at = draw(st.integers(0, 200)) * MINUTE + draw(st.integers(0, 3)) * 15 * SECOND
    patient = draw(st.sampled_from(["ann", "ben"]))
    if draw(st.integers(0, 9)) == 0:
        return Reading("consciousness", draw(st.sampled_from(["A", "Confused", "illegible"])), at, patient)
    vital, low, high = draw(NUMERIC)
    kind = draw(st.sampled_from(["cuff-pressure", "arterial-pressure"])) if vital == "systolic_bp" else ""
    # A clock that is ahead is so whatever the value: by a little, by more than is believed, by longer than it counts.
    wrong = {0: -3 * MINUTE, 1: -8 * MINUTE, 2: -2 * HOUR}.get(at // MINUTE % 9)
    late = draw(st.sampled_from([SECOND, HOUR])) if wrong is None else wrong
    return Reading(vital, draw(st.integers(low, high)), at, patient, kind, received=at + late)


def _cut(readings: Sequence[Reading], dice: random.Random) -> list[list[Reading]]:
    batches, start = [], 0
    while start < len(readings):
        size = dice.randint(1, 6)
        batches.append(list(readings[start : start + size]))
        start += size
    return batches


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=st.lists(_reading(), min_size=1, max_size=25), seed=st.integers(0, 2**16))
def test_order_repetition_cuts_and_restarts_do_not_change_the_last_revisions(
    engine: Engine, tmp_path: Path, readings: list[Reading], seed: int
) -> None:
    dice = random.Random(seed)
    shuffled = readings + dice.sample(readings, dice.randint(0, len(readings)))
    dice.shuffle(shuffled)
    batches = _cut(shuffled, dice)
    restarts = frozenset(number for number in range(len(batches)) if dice.random() < 0.3)

    straight, _ = asyncio.run(engine(tmp_path / "none", [sorted(readings, key=lambda one: one.at)], frozenset()))
    crooked, tallies = asyncio.run(engine(tmp_path / "none", batches, restarts))

    assert last_revisions(crooked) == last_revisions(straight)
    assert sum(tallies.values()) == len(shuffled)


NORMAL = {"respiratory_rate": 16, "spo2": 98, "systolic_bp": 120, "heart_rate": 70, "temperature": 37, "oxygen_flow": 0}


def normal_at(at: int, **changes: float) -> list[Reading]:
    values = NORMAL | changes
    return [*(Reading(vital, value, at) for vital, value in values.items()), Reading("consciousness", "A", at)]


async def test_every_window_with_data_gets_one_final_and_no_revision_twice(engine: Engine, tmp_path: Path) -> None:
    readings = [normal_at(minute * MINUTE) for minute in (0, 1, 5, 60)]

    scores, _ = await engine(tmp_path, [*readings, *readings], frozenset({1, 5}))

    finals = [row for row in scores if not row["live"]]
    assert len(finals) == 4
    assert {row["revision"] for row in finals} == {1}
    assert {row["status"] for row in finals} == {"complete"}


async def test_a_late_measurement_revises_its_window_and_the_windows_that_carry_it_on(
    engine: Engine, tmp_path: Path
) -> None:
    hourly = [normal_at(hour * HOUR) for hour in (0, 1, 2)]
    hourly = [[one for one in batch if one.vital != "temperature"] for batch in hourly]
    late = [Reading("temperature", 39.5, MINUTE, received=2 * HOUR)]

    scores, _ = await engine(tmp_path, [*hourly, normal_at(3 * HOUR), late], frozenset())

    last = last_revisions(scores)
    revised = [row for row in scores if not row["live"] and row["revision"] == 2]
    assert len(last) == 5
    assert [row["score"] for row in revised] == [2.0, 2.0]
    assert all("temperature" not in row["missing"] for row in revised)
    assert sum(row["backfill"] for row in last.values()) == 1


async def test_a_correction_received_later_replaces_the_value_and_an_older_copy_does_not(
    engine: Engine, tmp_path: Path
) -> None:
    first = normal_at(0)
    correction = Reading("heart_rate", 135, 0, received=MINUTE)

    scores, tallies = await engine(tmp_path, [first, normal_at(10 * MINUTE), [correction], first], frozenset({2}))

    early = min(last_revisions(scores).items())[1]
    assert early["score"] == 3.0
    assert tallies["filtered:duplicate"] == len(first)


async def test_measurements_beyond_the_lateness_are_counted_and_change_nothing(engine: Engine, tmp_path: Path) -> None:
    scores, tallies = await engine(
        tmp_path, [normal_at(0), [Reading("heart_rate", 150, -5 * HOUR)], normal_at(MINUTE)], frozenset()
    )

    assert tallies["filtered:too-late"] == 1
    assert len(last_revisions(scores)) == 2


async def test_history_the_state_does_not_hold_is_read_back_from_the_lake(engine: Engine, tmp_path: Path) -> None:
    await asyncio.to_thread(
        Lake(str(tmp_path)).append,
        PATIENT_MEASUREMENTS,
        patient_measurements(normal_at(-HOUR, temperature=39.5)),
        "lake",
    )
    without_temperature = [one for one in normal_at(0) if one.vital != "temperature"]

    scores, _ = await engine(tmp_path, [without_temperature], frozenset())

    [row] = last_revisions(scores).values()
    assert (row["status"], row["score"]) == ("complete", 2.0)


async def test_a_device_clock_in_the_future_is_held_until_its_time_and_is_then_as_old_as_its_reception(
    engine: Engine, tmp_path: Path
) -> None:
    ahead = [Reading("heart_rate", 150, 10 * HOUR, received=5 * SECOND)]

    scores, tallies = await engine(tmp_path, [normal_at(0), ahead], frozenset())

    assert tallies["held"] == 1
    first, released = last_revisions(scores).values()
    assert first["score"] == 0.0
    assert (first["doubtful"], first["status"]) == (["pulse"], "partial")
    assert (released["status"], released["sign_of_life_at"]) == ("insufficient-data", first["sign_of_life_at"])
