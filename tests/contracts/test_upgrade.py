"""A data directory of the first release opens: bus, parked rows, snapshots, lake. Nothing is lost or doubled."""

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

import first_release as old
from first_release import MINUTE, NOON, SECOND
from pulseweir.backends.bus.base import Delivery, Outcome, SetAside
from pulseweir.backends.bus.embedded import EmbeddedBus, EmbeddedSubscription, ledger_path
from pulseweir.backends.bus.ledger import Ledger
from pulseweir.backends.bus.log import TopicLog
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, RISK_SCORES, Lake, Table
from pulseweir.backends.settings import BusSettings
from pulseweir.clock import real_microseconds
from pulseweir.hot_path.scored_window import scored_windows
from pulseweir.records.identifiers import shard_of
from pulseweir.records.topics import SCHEMAS, with_later_columns
from pulseweir.scoring.history import read_history
from pulseweir.scoring.score_shard import ScoredShard, Wanted, score_shard
from pulseweir.scoring.shard_state import ShardState
from pulseweir.worker import joined, record_id

SHARDS = 4
GROUP = "readers"
LAKE_TOPICS = {"patient-measurements": PATIENT_MEASUREMENTS, "risk-scores": RISK_SCORES}
LATER = {
    topic: [name for name in SCHEMAS[topic].names if name not in old.SCHEMAS[topic].names] for topic in old.SCHEMAS
}
"""Columns that each topic has got since."""


@pytest.fixture(params=list(old.SCHEMAS))
def topic(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    opened = EmbeddedBus.open(tmp_path / "bus", BusSettings(shard_count=SHARDS))
    yield opened
    await opened.close()


def leave_unread(bus: EmbeddedBus, topic: str, numbers: range) -> None:
    """Append records as the old release did, one a row."""
    log = TopicLog(bus.directory / "topics" / topic, SHARDS)
    for number in numbers:
        row = old.sample(topic, number)
        shard = shard_of(row[old.SHARD_COLUMN[topic]], SHARDS)
        log.append([(shard, 1, old.payload(old.table(topic, row)))])
    log.close()


async def read_all(subscription: EmbeddedSubscription) -> list[Delivery]:
    await subscription.assigned()
    found: list[Delivery] = []
    while batch := await subscription.read(wait_seconds=0, row_limit=3):
        found += batch
    return found


def rows_of(table: pa.Table) -> list[dict[str, object]]:
    return [{name: str(value) for name, value in row.items()} for row in table.to_pylist()]


async def test_unread_records_of_every_topic_come_once_with_the_later_columns_null(
    bus: EmbeddedBus, topic: str
) -> None:
    leave_unread(bus, topic, range(8))
    await bus.publish([(topic, with_later_columns(old.table(topic, old.sample(topic, 8)), topic))])

    reader = await bus.subscribe(topic, GROUP)
    found = await read_all(reader)
    await reader.commit({one.shard: one.position for one in found}, Outcome())
    await reader.close()
    again = await read_all(await bus.subscribe(topic, GROUP))

    assert again == []
    whole = pa.concat_tables([one.replace_schema_metadata(None) for one in joined(found).values()])
    assert whole.schema.names == SCHEMAS[topic].names
    assert all(whole[name].null_count == 9 for name in LATER[topic])
    expected = old.table(topic, *(old.sample(topic, number) for number in range(9)))
    kept = whole.select(old.SCHEMAS[topic].names)
    assert sorted(rows_of(kept), key=str) == sorted(rows_of(expected), key=str)


@pytest.mark.parametrize("state", ["parked", "quarantined"])
async def test_a_row_set_aside_keeps_its_id_and_is_not_set_aside_beside_itself(
    bus: EmbeddedBus, topic: str, state: str
) -> None:
    row = old.table(topic, old.sample(topic, 1))
    name = old.record_id(topic, row)
    ledger = Ledger(ledger_path(bus.directory, topic, GROUP), topic)
    ledger.connection.execute(
        "INSERT INTO aside VALUES (?, ?, ?, ?, 'connector', 'unknown', 'Register it.', NULL, NULL, NULL, 1, ?, 0)",
        (name, state, 0, old.payload(row), real_microseconds()),
    )

    reader = await bus.subscribe(topic, GROUP)
    await reader.assigned()
    (item,) = await reader.due(row_limit=9) if state == "parked" else ledger.entries(state)

    assert (item.record_id, item.row.schema.names) == (name, SCHEMAS[topic].names)
    assert record_id(topic, item.row) == name
    again = SetAside(record_id(topic, item.row), item.row, "connector", "unknown", "Register it.")
    outcome = Outcome(parked=[again]) if state == "parked" else Outcome(quarantined=[again])
    await reader.commit({0: 1}, outcome)
    assert ledger.balance()[2] == {state: 1}
    if state == "parked":
        await reader.settle([name], Outcome({"normalized": 1}))
        assert ledger.balance()[1:] == ({"filtered:duplicate": 1, "normalized": 1}, {})
    ledger.close()


def test_a_later_value_is_part_of_the_id_of_a_later_row() -> None:
    null = with_later_columns(
        old.table("patient-measurements", old.sample("patient-measurements", 1)), "patient-measurements"
    )
    place = null.schema.get_field_index("pregnant")
    filled = null.set_column(place, null.schema.field(place), pa.array([True]))

    assert record_id("patient-measurements", filled) != record_id("patient-measurements", null)


# Snapshots

WELL = [
    ("respiratory_rate", "respiratory-rate", 16.0),
    ("spo2", "spo2", 97.0),
    ("systolic_bp", "cuff-pressure", 120.0),
    ("heart_rate", "heart-rate", 72.0),
    ("temperature", "temperature", 37.0),
    ("consciousness", "consciousness", 0.0),
]
ILL = [
    ("respiratory_rate", "respiratory-rate", 27.0),
    ("spo2", "spo2", 90.0),
    ("heart_rate", "heart-rate", 125.0),
]


def killed() -> ShardState:
    """What the old release remembered: a closed window of a well patient, and an open one in which she fell ill."""
    readings = [(*one, 0) for one in WELL] + [(*one, 5) for one in ILL]
    return ShardState.from_bytes(old.snapshot("ann", readings, closed=1))


def close_windows(state: ShardState) -> ScoredShard:
    return score_shard(state, None, None, NOON + 6 * MINUTE + 15 * SECOND)


def finals(scored: ScoredShard) -> list[tuple[int, int, float | None]]:
    return [
        ((one.window_start - NOON) // MINUTE, one.revision, one.score)
        for one in scored_windows(scored.scores)
        if one.is_final
    ]


def test_an_open_window_of_a_snapshot_closes_with_what_the_old_release_had_read() -> None:
    scored = close_windows(killed())

    # 3 + 3 + 2, and what was measured five minutes before still counts.
    assert finals(scored) == [(5, 1, 8.0)]
    (window,) = [one for one in scored_windows(scored.scores) if one.is_final]
    assert (window.band, window.spo2_scale, window.age_years, window.ward) == ("high", 1, 70, "Ward A")
    assert len(window.basis) == len(WELL)


def test_what_a_snapshot_has_scored_is_not_scored_again() -> None:
    scored = close_windows(killed())

    assert finals(score_shard(scored.state, None, None, NOON + 60 * MINUTE)) == []
    assert finals(close_windows(ShardState.from_bytes(scored.state.to_bytes()))) == []


def test_a_snapshot_opened_by_this_release_is_written_and_read_again() -> None:
    state = ShardState.from_bytes(killed().to_bytes())

    assert finals(close_windows(state)) == finals(close_windows(killed()))


def test_readings_that_come_again_after_the_upgrade_change_nothing() -> None:
    rows = [
        old.sample("patient-measurements", 0)
        | {
            "device_id": "monitor-ann",
            "type": kind,
            "name": vital,
            "text": str(number),
            "number": number,
            "occurred_at": NOON,
            "received_at": NOON + SECOND,
            "patient_id": "ann",
            "code": {"heart_rate": "8867-4", "spo2": "59408-5", "respiratory_rate": "9279-1"}[vital],
            "quality": "good",
            "age_years": 70,
            "sex": "female",
            "ward": "Ward A",
            "bed": "Bed 01",
        }
        for vital, kind, number in WELL
        if vital in {"heart_rate", "spo2", "respiratory_rate"}
    ]
    repeated = with_later_columns(old.table("patient-measurements", *rows), "patient-measurements")

    scored = score_shard(killed(), repeated, None, NOON + 6 * MINUTE)

    assert scored.tallies == {"filtered:duplicate": 3}
    assert [one for one in finals(scored) if one[0] == 0] == []


# The lake


def write_old_lake(root: Path, topic: str, numbers: range) -> None:
    """A table as the old release made it: no dictionaries, the day of the event as partition."""
    table = LAKE_TOPICS[topic]
    rows = old.table(topic, *(old.sample(topic, number) for number in numbers))
    plain = rows.cast(
        pa.schema(
            [(one.name, one.type.value_type if pa.types.is_dictionary(one.type) else one.type) for one in rows.schema]
        )
    )
    plain = plain.append_column("event_date", plain[table.event].cast(pa.date32()))
    location = root / table.name
    location.mkdir(parents=True)
    delta = DeltaTable.create(str(location), schema=plain.schema, partition_by=["event_date"])
    properties = CommitProperties(app_transactions=[Transaction("lake", 1)])
    write_deltalake(delta, plain, mode="append", commit_properties=properties)


def later_rows(topic: str, *numbers: int) -> pa.Table:
    """Rows of this release: the later columns filled."""
    table = with_later_columns(old.table(topic, *(old.sample(topic, number) for number in numbers)), topic)
    for name in LATER[topic]:
        field = table.schema.field(name)
        if pa.types.is_boolean(field.type):
            values = pa.array([True] * len(numbers))
        elif pa.types.is_list(field.type):
            values = pa.array([["later"]] * len(numbers), field.type)
        elif pa.types.is_timestamp(field.type):
            values = pa.array([NOON] * len(numbers), pa.int64()).cast(field.type)
        else:
            values = pa.array(["later"] * len(numbers)).dictionary_encode().cast(field.type)
        table = table.set_column(table.schema.get_field_index(name), field, values)
    return table


def count(lake: Lake, table: Table, condition: str = "true") -> int:
    found = lake.query(table, f"SELECT count(*) AS rows FROM {table.name} WHERE {condition}")
    return 0 if found is None else int(found["rows"][0].as_py())


@pytest.mark.parametrize("topic", list(LAKE_TOPICS))
def test_the_lake_takes_later_columns_beside_rows_without_them(tmp_path: Path, topic: str) -> None:
    table = LAKE_TOPICS[topic]
    write_old_lake(tmp_path, topic, range(6))
    lake = Lake(str(tmp_path), compact_after_commits=2)

    again = lake.append(table, later_rows(topic, *range(6)), "lake")
    fresh = lake.append(table, later_rows(topic, 6, 7), "lake"), lake.append(table, later_rows(topic, 8), "lake")

    assert (again, fresh) == (0, (2, 1))
    for opened in (lake, Lake(str(tmp_path))):
        assert count(opened, table) == 9
        for name in LATER[topic]:
            assert count(opened, table, f"{name} IS NULL") == 6
            assert count(opened, table, f"{name} IS NOT NULL") == 3


@pytest.mark.parametrize("with_later", [False, True], ids=["only-old", "old-and-later"])
async def test_history_of_an_old_lake_has_every_column(tmp_path: Path, with_later: bool) -> None:
    topic = "patient-measurements"
    write_old_lake(tmp_path, topic, range(6))
    lake = Lake(str(tmp_path))
    if with_later:
        lake.append(PATIENT_MEASUREMENTS, later_rows(topic, 6), "lake")

    wanted = [Wanted(f"patient_id-{number}", NOON, NOON + 60 * MINUTE) for number in range(7)]
    found = await read_history(lake, wanted)

    assert found.schema == SCHEMAS[topic]
    assert found.num_rows == 6 + with_later
    assert found["pregnant"].null_count == 6
    assert pc.sum(found["number"]).as_py() == sum(range(6 + with_later))
