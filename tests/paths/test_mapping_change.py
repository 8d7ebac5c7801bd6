"""Blue, step 4: a mapping is replaced and rolled back while messages flow, through the real bus, stages and store."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.catalog import MappingPair, Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.mapping_versions import MappingVersions
from pulseweir.ingest.mapping_watch import MappingWatch
from pulseweir.ingest.observation_writer import ObservationStage
from pulseweir.operations.conserve import conserve
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES, MEASUREMENTS
from pulseweir.worker import Worker

KIND = "bedside-monitor"
DEVICES = 3
BATCH = 7
ENOUGH = 40


def message(number: int) -> dict[str, object]:
    device = f"monitor-{number % DEVICES}"
    instant = f"2030-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
    return {
        "message_id": f"m{number}",
        "device_id": device,
        "kind": KIND,
        "received_at": 1_893_456_000_000_000,
        "properties_json": "{}",
        "system_properties_json": "{}",
        "body": json.dumps({"device": device, "measuredAt": instant, "heartRate": 60}).encode(),
    }


class Flow:
    """Messages that keep coming, the connector that reads them, and the measurements it publishes, in order."""

    def __init__(self, directory: Path, fhir: FhirClient) -> None:
        self.directory = directory
        self.fhir = fhir
        self.bus = EmbeddedBus.open(directory / "bus")
        self.versions = MappingVersions(directory)
        self.sent = 0
        self.is_sending = True
        self.made: dict[int, list[tuple[str, str, str]]] = {}

    def mappings(self) -> tuple[Mappings, MappingWatch]:
        """As a process that starts now would load them; it looks before every batch, not once a second."""
        mappings = Mappings.load(catalog_directory())
        seconds = itertools.count()
        watch = MappingWatch(mappings, self.versions, monotonic=lambda: float(next(seconds)))
        watch.begin()
        return mappings, watch

    async def send(self) -> None:
        while self.is_sending:
            rows = [message(number) for number in range(self.sent, self.sent + BATCH)]
            await self.bus.publish([(DEVICE_MESSAGES, pa.Table.from_pylist(rows).cast(DEVICE_MESSAGE_SCHEMA))])
            self.sent += BATCH

    async def collect(self) -> None:
        reader = await self.bus.subscribe(MEASUREMENTS, "test")
        while True:
            await reader.assigned()
            for one in await reader.read(wait_seconds=0.2, row_limit=1_000):
                rows = one.table.select(["message_id", "type", "mapping_version"]).to_pylist()
                self.made.setdefault(one.shard, []).extend((*row.values(),) for row in rows)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        return [row for shard in self.made.values() for row in shard]

    def count(self, version: str) -> int:
        return sum(row[2] == version for row in self.rows)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not is_so():
                await asyncio.sleep(0.01)

    async def more(self, version: str) -> None:
        """Wait until so many more rows are made by a version."""
        before = self.count(version)
        await self.until(lambda: self.count(version) >= before + ENOUGH)


@pytest.fixture
async def flow(tmp_path: Path) -> AsyncIterator[Flow]:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    fhir = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    for number in range(DEVICES):
        device = f"monitor-{number}"
        identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device}]
        await fhir.update({"resourceType": "Device", "id": device, "identifier": identifier})
        use = {
            "resourceType": "DeviceUseStatement",
            "id": f"use-{number}",
            "status": "active",
            "subject": {"reference": f"Patient/p-{number}"},
            "device": {"reference": f"Device/{device}"},
            "timingPeriod": {"start": "2029-12-31"},
        }
        await fhir.update(use)
    made = Flow(tmp_path, fhir)
    yield made
    await made.bus.close()
    await fhir.close()
    store.close()


def replacement(own: MappingPair) -> MappingPair:
    """The same mapping with another name for the heart rate."""
    return MappingPair.loads(KIND, *(text.replace('"heart-rate"', '"pulse-rate"') for text in own.texts))


async def test_a_mapping_changes_and_changes_back_and_no_measurement_is_lost_or_doubled(flow: Flow) -> None:
    mappings, watch = flow.mappings()
    own = mappings.by_kind[KIND]
    new = replacement(own)
    identity = Identity(flow.fhir)
    incoming = await flow.bus.subscribe(DEVICE_MESSAGES, ConnectorStage.group)
    connector = Worker(
        ConnectorStage(mappings, identity, incoming.seen_before, before_batch=watch.look), flow.bus, incoming
    )
    collecting = asyncio.create_task(flow.collect())
    working = asyncio.create_task(connector.run())
    sending = asyncio.create_task(flow.send())

    await flow.more(own.version)
    await asyncio.to_thread(flow.versions.use, KIND, new, 1, own=own.version)
    await flow.more(new.version)
    await asyncio.to_thread(flow.versions.roll_back, KIND, 2, own=own.version)
    await flow.more(own.version)
    flow.is_sending = False
    await sending
    await flow.until(lambda: len(flow.rows) >= flow.sent)
    connector.stop()
    await working
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)

    assert Counter(row[0] for row in flow.rows) == dict.fromkeys((f"m{number}" for number in range(flow.sent)), 1)
    assert {row[1:] for row in flow.rows} == {("heart-rate", own.version), ("pulse-rate", new.version)}
    for shard in flow.made.values():
        assert [version for version, _ in itertools.groupby(row[2] for row in shard)] == [
            own.version,
            new.version,
            own.version,
        ]
    await written_by_a_process_that_starts_later(flow, new)


async def written_by_a_process_that_starts_later(flow: Flow, rolled_back: MappingPair) -> None:
    """What the version that is no longer in force made becomes Observations of that version all the same."""
    mappings, _ = flow.mappings()
    assert rolled_back.version != mappings.by_kind[KIND].version
    measured = await flow.bus.subscribe(MEASUREMENTS, ObservationStage.group)
    writer = Worker(ObservationStage(flow.fhir, mappings, Identity(flow.fhir)), flow.bus, measured)
    working = asyncio.create_task(writer.run())

    sums = conserve(flow.directory / "bus")
    async with asyncio.timeout(40):
        while sums.measurements.in_flight:
            await asyncio.sleep(0.05)
            sums = conserve(flow.directory / "bus")
    writer.stop()
    await working

    assert sums.conservation_difference == 0
    assert sums.messages.done == {"normalized": flow.sent}
    assert sums.measurements.done == {"written": flow.sent}
    assert await flow.fhir.count("Observation", {}) == flow.sent
    types = Counter(row[1] for row in flow.rows)
    for word, number in types.items():
        assert await kinds(flow.fhir, word) == number


async def kinds(fhir: FhirClient, word: str) -> int:
    """Observations whose identifier names a measurement type."""
    found = await fhir.search("Observation", [("_count", "1000")])
    return sum(f".{word}." in one["identifier"][0]["value"] for one in found)
