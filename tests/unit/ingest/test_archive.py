"""The raw archive holds every message once, whatever is delivered again and wherever a crash cuts."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.errors import ArchiveDamaged, ArchiveUnavailable
from pulseweir.ingest.archive import ARCHIVED, ArchiveStage, read_archive, recover
from pulseweir.ingest.settings import ArchiveSettings
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.worker import FIRST_POSITION, LAST_POSITION, Worker

AT_ONCE = ArchiveSettings(sync_spacing_seconds=0)
START = 1_900_000_000_000_000
DAY = 86_400_000_000


def messages(numbers: range, *, received_at: int = START, device_id: str = "monitor-1") -> pa.Table:
    rows = [
        {
            "message_id": f"{number:064x}",
            "device_id": device_id,
            "kind": "bedside-monitor",
            "received_at": received_at + number,
            "properties_json": "{}",
            "system_properties_json": "{}",
            "body": b"body %d" % number,
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=DEVICE_MESSAGE_SCHEMA)


def at(table: pa.Table, first: int, last: int) -> pa.Table:
    return table.replace_schema_metadata({FIRST_POSITION: str(first), LAST_POSITION: str(last)})


Start = Callable[[Path], ArchiveStage]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts archive stages, and closes them after the test."""
    stages: list[ArchiveStage] = []

    def begin(directory: Path) -> ArchiveStage:
        stages.append(ArchiveStage(directory, AT_ONCE))
        return stages[-1]

    yield begin
    for stage in stages:
        stage.close()


def archived(directory: Path) -> list[bytes]:
    return [body for table in read_archive(directory) for body in table.column("body").to_pylist()]


def bodies(numbers: range) -> list[bytes]:
    return [b"body %d" % number for number in numbers]


async def test_every_message_is_held_as_it_was_sent(tmp_path: Path, start: Start) -> None:
    stage = start(tmp_path)
    sent = messages(range(50))

    handled = await stage.handle({3: at(sent, 0, 4)})

    assert handled.outcome.tallies == {ARCHIVED: 50}
    (held,) = read_archive(tmp_path)
    assert held.to_pylist() == sent.to_pylist()
    assert held.schema == DEVICE_MESSAGE_SCHEMA


async def test_a_batch_delivered_again_counts_once(tmp_path: Path, start: Start) -> None:
    stage = start(tmp_path)
    other = messages(range(100, 101)).set_column(6, "body", pa.array([b"of another device"]))
    await stage.handle({0: at(messages(range(10)), 0, 9), 1: at(other, 0, 9)})

    await stage.handle({0: at(messages(range(6)), 0, 5)})
    await stage.handle({0: at(messages(range(6, 20)), 6, 19)})

    assert sorted(archived(tmp_path)) == sorted([*bodies(range(20)), b"of another device"])


async def test_a_message_sent_twice_is_held_twice(tmp_path: Path, start: Start) -> None:
    stage = start(tmp_path)

    await stage.handle({0: at(messages(range(1)), 0, 0)})
    await stage.handle({0: at(messages(range(1), received_at=START + 5), 1, 1)})

    assert archived(tmp_path) == [b"body 0", b"body 0"]


async def test_positions_that_start_again_hide_nothing(tmp_path: Path, start: Start) -> None:
    stage = start(tmp_path)

    await stage.handle({0: at(messages(range(5)), 0, 4)})
    await stage.handle({0: at(messages(range(5, 10)), 0, 4)})
    await stage.handle({-1: messages(range(10, 12))})

    assert sorted(archived(tmp_path)) == sorted(bodies(range(12)))


async def test_days_have_folders_and_segments_a_size(tmp_path: Path) -> None:
    stage = ArchiveStage(tmp_path, ArchiveSettings(segment_bytes=4_096, sync_spacing_seconds=0))
    both = pa.concat_tables([messages(range(5)), messages(range(5, 10), received_at=START + DAY)])

    await stage.handle({0: at(both.unify_dictionaries(), 0, 9)})
    for number in range(10, 20):
        await stage.handle({0: at(messages(range(number * 100, number * 100 + 100)), number, number)})
    stage.close()

    days = sorted(tmp_path.iterdir())
    assert [day.name for day in days] == ["2030-03-17", "2030-03-18"]
    segments = list(days[0].iterdir())
    assert len(segments) > 2
    assert {segment.suffix for segment in segments} == {".segment"}
    assert all(segment.stat().st_mode & 0o777 == 0o400 for segment in segments)
    assert sorted(archived(tmp_path)) == sorted([*bodies(range(10)), *bodies(range(1_000, 2_000))])


def crashed(directory: Path) -> tuple[Path, list[int]]:
    """An archive of three frames, copied as a crash of its writer would leave it, and where each frame ends."""
    ends = []

    async def write() -> None:
        stage = ArchiveStage(directory / "running", AT_ONCE)
        for number in range(3):
            await stage.handle({0: at(messages(range(number * 10, number * 10 + 10)), number, number)})
            ends.append(next((directory / "running").glob("*/*.open")).stat().st_size)
        shutil.copytree(directory / "running", directory / "crashed")
        stage.close()

    asyncio.run(write())
    return directory / "crashed", ends


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.binary(max_size=60))
def test_a_torn_tail_is_cut_back_to_the_last_whole_frame(
    tmp_path_factory: pytest.TempPathFactory, share: float, garbage: bytes
) -> None:
    directory, ends = crashed(tmp_path_factory.mktemp("archive"))
    (segment,) = directory.glob("*/*.open")
    size_bytes = segment.stat().st_size
    content = segment.read_bytes()[: int(size_bytes * share)]
    segment.write_bytes(content + garbage)
    before = archived(directory)

    cut_bytes = recover(directory)

    assert archived(directory) == before
    assert before == bodies(range(len(before)))
    assert len(before) == 10 * sum(int(size_bytes * share) >= end for end in ends)
    assert cut_bytes == sum(kept.stat().st_size for kept in directory.glob("*/*.torn"))
    assert recover(directory) == 0


async def test_a_start_after_a_crash_goes_on_in_a_new_segment(tmp_path: Path, start: Start) -> None:
    directory, _ = await asyncio.to_thread(crashed, tmp_path)

    await start(directory).handle({0: at(messages(range(20, 40)), 2, 3)})

    assert archived(directory) == bodies(range(40))


async def test_a_segment_another_process_writes_is_left_alone(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path)
    await first.handle({0: at(messages(range(5)), 0, 0)})

    second = start(tmp_path)
    await second.handle({1: at(messages(range(5, 10)), 0, 0)})
    await first.handle({0: at(messages(range(10, 15)), 1, 1)})

    assert len(list(tmp_path.glob("*/*.open"))) == 2
    assert sorted(archived(tmp_path)) == sorted(bodies(range(15)))


async def test_damage_in_a_closed_segment_is_named(tmp_path: Path, start: Start) -> None:
    stage = start(tmp_path)
    await stage.handle({0: at(messages(range(5)), 0, 0)})
    stage.close()
    (segment,) = tmp_path.glob("*/*.segment")
    segment.chmod(0o600)
    content = bytearray(segment.read_bytes())
    content[-20] ^= 1
    segment.write_bytes(content)

    with pytest.raises(ArchiveDamaged, match=r"damaged at byte 0\. Restore"):
        archived(tmp_path)


async def test_a_failed_sync_is_never_hoped_over(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = start(tmp_path)
    await stage.handle({0: at(messages(range(5)), 0, 0)})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(ArchiveUnavailable, match="No space left"):
            await stage.handle({0: at(messages(range(5, 10)), 1, 1)})
    await stage.handle({0: at(messages(range(5, 10)), 1, 1)})

    assert len(list(tmp_path.glob("*/*.open"))) == 2
    assert archived(tmp_path) == bodies(range(10))


async def test_the_delivery_loop_archives_all_that_is_on_the_bus(tmp_path: Path) -> None:
    bus = EmbeddedBus.open(tmp_path / "bus")
    for number in range(20):
        await bus.publish([(DEVICE_MESSAGES, messages(range(number * 50, number * 50 + 50), device_id=f"m-{number}"))])
    for _ in range(2):
        stage = ArchiveStage(tmp_path / "archive", AT_ONCE)
        worker = Worker(stage, bus, await bus.subscribe(stage.topic, stage.group))
        running = asyncio.create_task(worker.run())
        while len(archived(tmp_path / "archive")) < 1_000:
            await asyncio.sleep(0.01)
        worker.stop()
        await running
        stage.close()
    await bus.close()

    assert sorted(archived(tmp_path / "archive")) == sorted(bodies(range(1_000)))
