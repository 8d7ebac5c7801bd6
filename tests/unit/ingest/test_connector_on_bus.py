"""Connector and Observation writer on the embedded bus: counts add up, and a repeated start changes nothing."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.observation_writer import ObservationStage
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.worker import Worker

PATIENTS = 5
MESSAGES = 40


def messages() -> pa.Table:
    rows = [
        {
            "message_id": f"m{number}",
            "device_id": f"monitor-{number % PATIENTS}",
            "kind": "bedside-monitor",
            "received_at": 1_893_456_000_000_000,
            "properties_json": "{}",
            "system_properties_json": "{}",
            "body": json.dumps(
                {
                    "device": f"monitor-{number % PATIENTS}",
                    "measuredAt": f"2030-01-01T00:{number:02d}:00Z",
                    "heartRate": 60 + number,
                    "arterialPressure": {"systolic": 120, "diastolic": 70},
                }
            ).encode(),
        }
        for number in range(MESSAGES)
    ]
    broken = [rows[0] | {"message_id": "broken", "body": b"{"}]
    return pa.Table.from_pylist(rows + broken + rows[:3]).cast(DEVICE_MESSAGE_SCHEMA)


async def set_up(fhir: FhirClient) -> None:
    for number in range(PATIENTS):
        device = f"monitor-{number}"
        identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device}]
        await fhir.update({"resourceType": "Device", "id": device, "identifier": identifier})
        await fhir.update(
            {
                "resourceType": "DeviceUseStatement",
                "id": f"use-{number}",
                "status": "active",
                "subject": {"reference": f"Patient/p-{number}"},
                "device": {"reference": f"Device/{device}"},
                "timingPeriod": {"start": "2029-12-31"},
            }
        )


async def run_both(bus: EmbeddedBus, fhir: FhirClient, is_done: Callable[[int], bool]) -> int:
    """Both workers until the store holds what `is_done` wants; returns how many Observations it holds."""
    mappings, identity = Mappings.load(catalog_directory()), Identity(fhir)
    incoming = await bus.subscribe(DEVICE_MESSAGES, ConnectorStage.group)
    measured = await bus.subscribe(ObservationStage.topic, ObservationStage.group)
    workers = [
        Worker(ConnectorStage(mappings, identity, incoming.seen_before), bus, incoming),
        Worker(ObservationStage(fhir, mappings, identity), bus, measured),
    ]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    async with asyncio.timeout(30):
        while not is_done(found := len(await fhir.search("Observation", [("_count", "1000")]))):
            await asyncio.sleep(0.02)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    return found


async def test_every_message_reaches_the_fhir_store_once_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    fhir = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    bus = EmbeddedBus.open(tmp_path / "bus")
    await set_up(fhir)

    await bus.publish([(DEVICE_MESSAGES, messages())])
    first = await run_both(bus, fhir, lambda found: found >= 2 * MESSAGES)
    await bus.publish([(DEVICE_MESSAGES, messages())])
    again = await run_both(bus, fhir, lambda found: found >= 2 * MESSAGES)

    assert first == again == 2 * MESSAGES
    await bus.close()
    await fhir.close()
    store.close()
