"""What the lake owes: rows exactly once whatever is repeated or raced, and a patient's past when asked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from patient_measurements import HOUR, MINUTE, NOON, Reading, by_shard, patient_measurements
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, RISK_SCORES, Lake
from pulseweir.backends.settings import LakeSettings
from pulseweir.errors import LakeUnavailable
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, RISK_SCORE_SCHEMA
from pulseweir.scoring.history import read_history
from pulseweir.scoring.lake_writer import LakeWriterStage
from pulseweir.scoring.score_shard import ScoredShard, Wanted, score_shard
from pulseweir.scoring.score_writer import ScoreWriterStage
from pulseweir.scoring.shard_state import ShardState

SETTINGS = LakeSettings(commit_seconds=0.001)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def pulses(first: int, last: int, patient: str = "ann") -> pa.Table:
    return patient_measurements(
        [Reading("heart_rate", 60 + minute % 40, minute * MINUTE, patient) for minute in range(first, last)]
    )


def stored(lake: Lake) -> int:
    return {info.name: info.rows for info in lake.tables()}.get(PATIENT_MEASUREMENTS.name, 0)


def test_rows_appended_again_in_other_cuts_are_stored_once(lake: Lake) -> None:
    whole = pulses(0, 30)

    written = [
        lake.append(PATIENT_MEASUREMENTS, rows, "lake")
        for rows in (whole.slice(0, 10), whole.slice(5, 20), whole, whole)
    ]

    assert written == [10, 15, 5, 0]
    assert stored(lake) == 30


def test_rows_repeated_within_one_append_are_stored_once(lake: Lake) -> None:
    assert lake.append(PATIENT_MEASUREMENTS, pa.concat_tables([pulses(0, 10), pulses(5, 12)]), "lake") == 12


def test_two_processes_appending_the_same_rows_at_once_store_them_once(tmp_path: Path) -> None:
    lakes = [Lake(str(tmp_path / "lake")) for _ in range(4)]
    lakes[0].append(PATIENT_MEASUREMENTS, pulses(0, 1), "lake")

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(lambda one: one.append(PATIENT_MEASUREMENTS, pulses(0, 50), "lake"), lakes))

    assert sum(written) == 49
    assert stored(lakes[0]) == 50


def test_a_lake_opened_anew_knows_what_an_earlier_process_wrote(tmp_path: Path) -> None:
    Lake(str(tmp_path)).append(PATIENT_MEASUREMENTS, pulses(0, 20), "lake")

    again = Lake(str(tmp_path))

    assert again.append(PATIENT_MEASUREMENTS, pulses(10, 25), "lake") == 5
    assert stored(again) == 25


def test_small_files_are_joined_and_no_row_is_lost(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), compact_after_commits=10)

    for minute in range(20):
        lake.append(PATIENT_MEASUREMENTS, pulses(minute, minute + 1), "lake")

    [info] = lake.tables()
    assert (info.rows, info.files) == (20, 1)


def test_tables_are_cut_by_day_and_never_by_patient(lake: Lake, tmp_path: Path) -> None:
    lake.append(PATIENT_MEASUREMENTS, pa.concat_tables([pulses(0, 5), pulses(1500, 1505, "ben")]), "lake")

    folders = [path.name for path in (tmp_path / "lake" / PATIENT_MEASUREMENTS.name).iterdir() if "=" in path.name]
    assert sorted(name.partition("=")[0] for name in folders) == ["event_date", "event_date"]


def test_a_span_of_some_patients_is_read_and_nothing_else(lake: Lake) -> None:
    lake.append(
        PATIENT_MEASUREMENTS,
        pa.concat_tables([pulses(0, 120), pulses(0, 120, "ben"), pulses(0, 120, "o'hara")]),
        "lake",
    )

    found = lake.read(PATIENT_MEASUREMENTS, ["ann", "o'hara"], NOON + 10 * MINUTE, NOON + 20 * MINUTE)

    assert found is not None
    assert found.num_rows == 20
    assert set(found["patient_id"].to_pylist()) == {"ann", "o'hara"}


def test_a_lake_without_tables_has_no_history(lake: Lake) -> None:
    assert lake.read(PATIENT_MEASUREMENTS, ["ann"], NOON, NOON + HOUR) is None
    assert lake.tables() == []


async def test_history_comes_back_in_the_schema_it_was_written_in(lake: Lake) -> None:
    rows = patient_measurements([Reading("consciousness", "V", 0), Reading("heart_rate", 70, MINUTE, scale=2)])
    lake.append(PATIENT_MEASUREMENTS, rows, "lake")

    found = await read_history(lake, [Wanted("ann", NOON - HOUR, NOON + HOUR)])
    nothing = await read_history(lake, [Wanted("zoe", NOON - HOUR, NOON + HOUR)])

    assert found.schema == PATIENT_MEASUREMENT_SCHEMA
    assert found.sort_by("occurred_at").to_pylist() == rows.to_pylist()
    assert nothing.num_rows == 0


async def test_the_lake_writer_counts_every_row_once_and_a_redelivery_as_duplicate(lake: Lake) -> None:
    stage = LakeWriterStage(lake, SETTINGS)
    rows = by_shard(pa.concat_tables([pulses(0, 10), pulses(0, 10, "ben")]))

    first = await stage.handle(rows)
    second = await stage.handle(rows)

    assert first.outcome.tallies == {"written": 20}
    assert second.outcome.tallies == {"filtered:duplicate": 20}


async def test_a_lake_that_cannot_be_written_asks_to_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where a folder should be")

    with pytest.raises(LakeUnavailable):
        await LakeWriterStage(Lake(str(tmp_path / "lake")), SETTINGS).handle(by_shard(pulses(0, 3)))


async def test_the_score_writer_keeps_every_final_revision_once_and_no_live_row(lake: Lake) -> None:
    scored = _scored(pulses(0, 5))
    late = score_shard(scored.state, patient_measurements([Reading("spo2", 90, 10)]), None, NOON + HOUR)
    stage = ScoreWriterStage(lake, SETTINGS)
    rows = pa.concat_tables([scored.scores, late.scores])

    first = await stage.handle({0: rows})
    again = await stage.handle({0: rows})

    live = rows["live"].to_pylist().count(True)
    found = await asyncio.to_thread(lake.query, RISK_SCORES, "SELECT revision, live FROM risk_scores ORDER BY revision")
    assert first.outcome.tallies == {"filtered:live": live, "written": rows.num_rows - live}
    assert again.outcome.tallies == {"filtered:live": live, "filtered:duplicate": rows.num_rows - live}
    assert found is not None
    assert max(found["revision"].to_pylist()) == 2
    assert not any(found["live"].to_pylist())


def _scored(rows: pa.Table) -> ScoredShard:
    scored = score_shard(ShardState(), rows, PATIENT_MEASUREMENT_SCHEMA.empty_table(), NOON + 6 * MINUTE)
    assert scored.scores.schema == RISK_SCORE_SCHEMA
    return scored
