"""Metrics about the whole house say what its books say."""

from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.errors import RefuseToStart
from pulseweir.operations.status import take_stock
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.settings import Settings


def _messages(count: int) -> pa.Table:
    rows = [
        {
            "message_id": str(number),
            "device_id": "monitor-1",
            "kind": "",
            "received_at": 0,
            "properties_json": "{}",
            "system_properties_json": "{}",
            "body": b"{}",
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=DEVICE_MESSAGE_SCHEMA)


async def test_backlog_of_each_group_is_a_metric(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    bus = EmbeddedBus.open(tmp_path / "bus", settings.bus)
    await bus.publish([(DEVICE_MESSAGES, _messages(7))])

    take_stock(settings)

    await bus.close()
    labels = {"topic": DEVICE_MESSAGES, "group": "connector"}
    assert REGISTRY.get_sample_value("pulseweir_bus_consumer_lag_messages", labels) == 7
    assert REGISTRY.get_sample_value("pulseweir_conservation_difference") == 0


def test_a_folder_where_nothing_ran_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefuseToStart, match="nothing ran there"):
        take_stock(Settings(data_dir=tmp_path / "absent"))
