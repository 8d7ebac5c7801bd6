"""The tap: each reader gets every measurement, in the predecessor's format, from where it left off."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.operations.quarantine import listed
from pulseweir.operations.tap import tap
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA, MEASUREMENTS
from pulseweir.settings import Settings, load_settings


def pulse(text: str) -> pa.Table:
    columns = {field.name: pa.nulls(1, field.type) for field in MEASUREMENT_SCHEMA}
    instant = pa.array([1_767_225_600_000_000], pa.int64()).cast(INSTANT)
    named = {
        "message_id": f"message-{text}",
        "device_id": "oximeter-1",
        "type": "heart-rate",
        "name": "heart_rate",
        "text": text,
    }
    return pa.table(
        {**columns, **{name: [value] for name, value in named.items()}, "occurred_at": instant, "received_at": instant}
    )


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    chosen = load_settings({"data_dir": tmp_path})
    bus = EmbeddedBus.open(tmp_path / "bus")
    for text in ("70", "71"):
        await bus.publish([(MEASUREMENTS, pulse(text))])
    await bus.close()
    return chosen


async def test_a_reader_gets_each_measurement_once_and_another_reader_all_of_them(settings: Settings) -> None:
    first: list[str] = []
    again: list[str] = []
    other: list[str] = []

    await tap(settings, "a", first.append, follow=False)
    await tap(settings, "a", again.append, follow=False)
    await tap(settings, "b", other.append, follow=False)

    read = [json.loads(line) for line in first]
    assert [one["Properties"] for one in read] == [
        [{"Name": "heart_rate", "Value": "70"}],
        [{"Name": "heart_rate", "Value": "71"}],
    ]
    assert (read[0]["DeviceId"], read[0]["Type"]) == ("oximeter-1", "heart-rate")
    assert read[0]["OccurrenceTimeUtc"].startswith("2026-01-01T00:00:00")
    assert not again
    assert other == first


async def test_a_reader_that_leaves_finds_everything_again(settings: Settings) -> None:
    def gone(_line: str) -> None:
        raise BrokenPipeError

    later: list[str] = []

    await tap(settings, "a", gone, follow=True)
    await tap(settings, "a", later.append, follow=False)

    assert len(later) == 2
    assert not listed(settings.data_dir / "bus")
