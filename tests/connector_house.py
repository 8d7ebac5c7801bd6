"""A connector stage in front of an embedded FHIR store, with devices, patients and messages."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pyarrow as pa

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.settings import ConnectorSettings, IdentitySettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, MEASUREMENTS
from pulseweir.worker import Handled

NOW = parse_instant("2030-05-01T08:16:00Z")
MAPPINGS = Mappings.load(catalog_directory())
MEASURED = parse_instant("2030-05-01T08:15:00Z")
SECOND = 1_000_000


class House:
    """A FHIR store with devices and patients, and the stage in front of it."""

    def __init__(self, fhir: FhirClient, identity: Any = None) -> None:
        self.fhir = fhir
        self.seen: set[str] = set()
        self.now = 0.0
        self.identity = identity or Identity(fhir, IdentitySettings(), monotonic=lambda: self.now)
        self.stage = self.staged(MAPPINGS)

    def staged(self, mappings: Mappings, before_batch: Callable[[], Awaitable[None]] | None = None) -> ConnectorStage:
        more = {"before_batch": before_batch} if before_batch else {}
        return ConnectorStage(
            mappings,
            self.identity,
            self.seen_before,
            ConnectorSettings(identity_wait_seconds=10),
            real_clock=lambda: round(self.now * SECOND),
            **more,
        )

    async def seen_before(self, message_ids: Sequence[str]) -> set[str]:
        return self.seen & set(message_ids)

    async def add_device(self, device_id: str, patient_id: str | None, period: dict[str, str] | None = None) -> None:
        await self.fhir.update(
            {
                "resourceType": "Device",
                "id": device_id,
                "identifier": [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device_id}],
            }
        )
        if patient_id is not None:
            await self.fhir.update(
                {
                    "resourceType": "DeviceUseStatement",
                    "id": f"use-{device_id}-{patient_id}",
                    "status": "active",
                    "subject": {"reference": f"Patient/{patient_id}"},
                    "device": {"reference": f"Device/{device_id}"},
                    "timingPeriod": period or {"start": "2030-01-01"},
                }
            )

    async def handle(self, *rows: dict[str, Any]) -> Handled:
        handled = await self.stage.handle({0: messages(*rows)})
        self.seen.update(handled.outcome.seen)
        return handled

    async def try_again(self, handled: Handled, first_parked: int = 0) -> Handled:
        rows = pa.concat_tables([item.row for item in handled.outcome.parked])
        return await self.stage.handle_parked(rows, [first_parked] * rows.num_rows)


def message(body: Any, name: str = "m1", kind: str = "bedside-monitor") -> dict[str, Any]:
    return {
        "message_id": name,
        "device_id": "monitor-1",
        "kind": kind,
        "received_at": NOW,
        "properties_json": "{}",
        "system_properties_json": "{}",
        "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
    }


def monitor(**values: Any) -> dict[str, Any]:
    return {"device": "monitor-1", "measuredAt": "2030-05-01T08:15:00Z", **values}


def messages(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows)).cast(DEVICE_MESSAGE_SCHEMA)


def published(handled: Handled) -> list[dict[str, Any]]:
    return [row for topic, table in handled.publish for row in table.to_pylist() if topic == MEASUREMENTS]
