"""A whole house that runs, one bedside in it, and what fault tests ask of them."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, scores
from pulseweir.cli import app
from pulseweir.clock import Clock, to_microseconds, to_text
from pulseweir.ingest.device_client import HubAddress, MqttDevice
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup, ward_resources, write_resources
from pulseweir.local_house import LocalHouse
from pulseweir.run_files import read_ready
from pulseweir.systems import open_repository

Json = dict[str, Any]
KIND = "bedside-monitor"
WARD, BED = "Ward F", "Bed 01"
_LOOK_SECONDS = 0.05
_DAY = 86_400_000_000
QUICK: dict[str, Json] = {
    "connector": {"identity_wait_seconds": 1.5},
    "identity": {"unknown_cache_seconds": 0.2, "cache_seconds": 0.5},
    "windows": {"window_seconds": 10, "grace_seconds": 1, "quiet_seconds": 1},
}
"""Waits short enough to watch."""


@dataclass
class Bedside:
    """A running house, one patient in a bed, and the monitor beside it."""

    house: LocalHouse
    fhir: FhirClient
    registry: Registry
    repository: Repository
    monitor: MqttDevice
    patient_id: str
    names: Iterator[int] = field(default_factory=count)

    @property
    def device_id(self) -> str:
        return self.monitor.device_id

    @property
    def address(self) -> HubAddress:
        return plain_address(self.house)

    def body(self, device_id: str | None = None, **members: Any) -> bytes:
        """A message of the catalog, measured now."""
        measured_at = to_text(self.house.clock.now_microseconds())
        return msgspec.json.encode({"device": device_id or self.device_id, "measuredAt": measured_at} | members)

    async def say(self, body: bytes, message_id: str = "") -> str:
        """Send one message from the monitor; returns its id once the hub has acknowledged it."""
        name = message_id or f"m{next(self.names)}"
        await self.monitor.send(body, name)
        await self.monitor.drain()
        return name

    async def say_from(self, device_id: str, body: bytes, message_id: str = "only") -> None:
        """Send one message from another registered device."""
        device = self.registry.get(device_id)
        assert device is not None
        other = MqttDevice(self.address, device_id, device.primary_key)
        await other.connect()
        await other.send(body, message_id)
        await other.drain()
        await other.close()

    async def observations(self, **also: str) -> int:
        """Observations of the patient that devices made."""
        about = {"subject": f"Patient/{self.patient_id}", **also}
        return await self.fhir.count("Observation", about) - await self.fhir.count(
            "Observation", about | {"category": "survey"}
        )

    async def proves_itself(self) -> None:
        """A good message goes all the way, whatever came before it: to FHIR, and as a score to the repository."""
        now = self.house.clock.now_microseconds()
        # No zero at the end: an Observation's instant may be written shorter, and would then cover more than asked for.
        # Not after now: what is received earlier than it was measured counts as measured when it was received.
        instant = to_text(now - now % 10_000 - 3_000)
        body = {"device": self.device_id, "measuredAt": instant, "heartRate": 80, "respiratoryRate": 16, "spo2": 97}
        await self.say(msgspec.json.encode(body))
        occurred_at = to_microseconds(datetime.fromisoformat(instant))

        async def is_there() -> bool:
            row = await self.repository.read(scores.live_row, self.patient_id)
            is_scored = row is not None and row.newest_occurred_at >= occurred_at
            return is_scored and await self.observations(date=instant) == 3

        await until(is_there)
        assert self.house.conserve().conservation_difference == 0

    async def settled(self) -> None:
        """Everything sent has reached its end in both balances."""

        def is_done() -> bool:
            books = self.house.conserve()
            return books.messages.in_flight == 0 and books.measurements.in_flight == 0

        await until(is_done)

    def quarantine(self) -> list[Json]:
        return cli_json(self.house, "quarantine", "list")  # type: ignore[no-any-return]

    def register(self, device_id: str) -> None:
        self.registry.import_entries([DeviceEntry(device_id, KIND)])


@asynccontextmanager
async def bedside(
    directory: Path, overrides: dict[str, Any] | None = None, name: str = "Fault Test"
) -> AsyncIterator[Bedside]:
    """Start a house with one patient and a connected monitor; stop it at the end."""
    house = await LocalHouse.start(directory, Clock(), overrides or QUICK)
    try:
        fhir, registry = house.fhir(), house.registry()
        repository = open_repository(house.settings, house.clock)
        patient = patient_setup("patient-1", "monitor-1", house.clock, name)
        await write_resources(fhir, ward_resources([patient]))
        registry.import_entries([DeviceEntry("monitor-1", KIND)])
        device = registry.get("monitor-1")
        assert device is not None
        monitor = MqttDevice(plain_address(house), "monitor-1", device.primary_key)
        await monitor.connect()
        yield Bedside(house, fhir, registry, repository, monitor, "patient-1")
        await monitor.close()
        repository.close()
        registry.close()
        await fhir.close()
    finally:
        await house.stop()


def plain_address(house: LocalHouse) -> HubAddress:
    hub = house.settings.hub
    return HubAddress("127.0.0.1", hub.mqtt_port or 0, hub.http_port)


def patient_setup(patient_id: str, device_id: str, clock: Clock, name: str = "Fault Test") -> PatientSetup:
    since = clock.now_microseconds() - _DAY
    return PatientSetup(patient_id, name, "1950-01-01", "female", WARD, BED, since, (DeviceSetup(device_id, KIND),))


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: It did not within so many seconds: the house is at fault, or stuck.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(_LOOK_SECONDS)


def cli(*arguments: str) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(app, list(arguments))


def cli_json(house: LocalHouse, *arguments: str) -> Any:
    """What a command prints with --json."""
    answer = cli(*arguments, "--data-dir", str(house.settings.data_dir), "--json")
    assert answer.exit_code == 0, answer.output
    return msgspec.json.decode(answer.stdout)


async def metrics_text(house: LocalHouse, role: str) -> str:
    facts = read_ready(house.settings.data_dir, role)
    assert facts is not None
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{facts['metrics_port']}/metrics")).text


async def metric(house: LocalHouse, role: str, name: str, **labels: str) -> float:
    """One sample of a role's metrics; 0 where it has none yet."""
    for family in text_string_to_metric_families(await metrics_text(house, role)):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0
