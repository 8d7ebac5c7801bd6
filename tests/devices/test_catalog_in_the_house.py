"""Every kind of the catalog through connector and Observation writer on one bus: nothing lost, nothing altered."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa

from devices.catalog_files import KINDS, envelope, read
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.observation_writer import ObservationStage
from pulseweir.operations.conserve import conserve
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.worker import Worker

PATIENT = "patient-1"
RECEIVED_AT = parse_instant("2030-05-01T13:00:00Z")
STORED = ("meta", "issued", "status")
"""What the store and the writer add, and the one member that depends on when it is written."""


def messages() -> pa.Table:
    rows = []
    for folder in KINDS:
        whole = envelope(folder)
        rows.append(
            {
                "message_id": folder.name,
                "device_id": read(folder, "measurements")[0]["device_id"],
                "kind": folder.name,
                "received_at": RECEIVED_AT,
                "properties_json": msgspec.json.encode(whole["Properties"]).decode(),
                "system_properties_json": msgspec.json.encode(whole["SystemProperties"]).decode(),
                "body": msgspec.json.encode(whole["Body"]),
            }
        )
    return pa.Table.from_pylist(rows).cast(DEVICE_MESSAGE_SCHEMA)


async def set_up(fhir: FhirClient) -> None:
    """The patient, every device of the catalog, who had it, and every visit the messages name."""
    measured = [one for folder in KINDS for one in read(folder, "measurements")]
    names = sorted({one["patient_id"] for one in measured if "patient_id" in one})
    await fhir.update({"resourceType": "Patient", "id": PATIENT, "identifier": [{"value": name} for name in names]})
    for visit in sorted({one["encounter_id"] for one in measured if "encounter_id" in one}):
        await fhir.update(
            {
                "resourceType": "Encounter",
                "id": visit,
                "identifier": [{"value": visit}],
                "status": "in-progress",
                "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/{PATIENT}"},
            }
        )
    for device in sorted({one["device_id"] for one in measured}):
        identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device}]
        await fhir.update({"resourceType": "Device", "id": device, "identifier": identifier})
        await fhir.update(
            {
                "resourceType": "DeviceUseStatement",
                "id": f"use-{device}",
                "status": "active",
                "subject": {"reference": f"Patient/{PATIENT}"},
                "device": {"reference": f"Device/{device}"},
                "timingPeriod": {"start": "2030-04-01"},
            }
        )


def without(observation: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in observation.items() if name not in STORED}


async def test_every_kind_reaches_the_fhir_store_as_its_folder_says(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    fhir = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    bus = EmbeddedBus.open(tmp_path / "bus")
    wanted = {one["id"]: one for folder in KINDS for one in read(folder, "observation")}
    await set_up(fhir)
    await bus.publish([(DEVICE_MESSAGES, messages())])
    mappings, identity = Mappings.load(catalog_directory()), Identity(fhir)
    incoming = await bus.subscribe(DEVICE_MESSAGES, ConnectorStage.group)
    measured = await bus.subscribe(ObservationStage.topic, ObservationStage.group)
    workers = [
        Worker(ConnectorStage(mappings, identity, incoming.seen_before), bus, incoming),
        Worker(ObservationStage(fhir, mappings, identity), bus, measured),
    ]

    running = [asyncio.create_task(worker.run()) for worker in workers]
    async with asyncio.timeout(40):
        while len(await fhir.search("Observation", [("_count", "1000")])) < len(wanted):
            await asyncio.sleep(0.05)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    stored = {one["id"]: one for one in await fhir.search("Observation", [("_count", "1000")])}
    await bus.close()
    await fhir.close()
    store.close()
    books = conserve(tmp_path / "bus")

    assert {name: without(one) for name, one in stored.items()} == {name: without(one) for name, one in wanted.items()}
    assert {one["status"] for one in stored.values()} <= {"final", "preliminary"}
    assert books.conservation_difference == 0
    assert (books.messages.done, books.messages.filtered, books.messages.quarantined, books.messages.in_flight) == (
        {"normalized": len(KINDS)},
        {},
        0,
        0,
    )
    assert (books.measurements.filtered, books.measurements.quarantined, books.measurements.in_flight) == ({}, 0, 0)
