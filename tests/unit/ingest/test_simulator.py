import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.ingest.device_client import HubAddress
from pulseweir.ingest.hub.hub import Hub
from pulseweir.ingest.hub.registry import Registry
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.ingest.simulation.ward import BEDS, SimulatedHospital, SimulatedMessage
from pulseweir.ingest.simulator import WardSimulation
from pulseweir.mapping import DeviceMapping
from pulseweir.records.topics import DEVICE_MESSAGES
from pulseweir.scores import news2

START = 1_790_000_000_000_000


def _said(seed: int, seconds: int) -> list[SimulatedMessage]:
    end = START + seconds * 1_000_000
    return list(
        takewhile(lambda message: message.measured_at_microseconds <= end, SimulatedHospital(seed).messages(START))
    )


def _bodies(bed: int, seconds: int) -> Iterator[dict[str, Any]]:
    for message in _said(3, seconds):
        if message.connection.endswith(f"-{bed:02}"):
            yield msgspec.json.decode(message.body)


def _total(bed: int, seconds: int) -> int:
    known: dict[str, Any] = {}
    for body in _bodies(bed, seconds):
        known |= body.pop("cuffPressure", {}) | body.pop("arterialPressure", {}) | body
    return news2(
        respiratory_rate=known["respiratoryRate"],
        spo2=known["spo2"],
        on_oxygen=known["oxygenFlow"] > 0,
        spo2_scale=BEDS[bed - 1].spo2_scale or 1,
        systolic_bp=known["systolic"],
        pulse=known["heartRate"],
        consciousness=known["consciousness"],
        temperature=known["temperatureCelsius"],
    ).total


def test_equal_seeds_say_equal_things() -> None:
    assert _said(5, 300) == _said(5, 300)
    assert _said(5, 300) != _said(6, 300)


def test_messages_come_in_the_order_measured() -> None:
    instants = [message.measured_at_microseconds for message in _said(5, 300)]

    assert instants == sorted(instants)


@pytest.mark.parametrize("bed", [1, 2])
def test_a_deteriorating_patient_begins_below_five_and_is_high_within_five_minutes(bed: int) -> None:
    assert _total(bed, 20) < 5
    assert _total(bed, 300) >= 7


def test_the_recovering_patient_begins_high_and_ends_low() -> None:
    assert _total(4, 20) >= 7
    assert _total(4, 420) <= 2


@pytest.mark.parametrize("bed", [5])
def test_a_stable_patient_on_the_second_scale_stays_low(bed: int) -> None:
    assert all(_total(bed, seconds) < 5 for seconds in (20, 300, 600))


def test_the_ward_is_twelve_patients_two_wards_a_gateway_an_edge_and_https() -> None:
    hospital = SimulatedHospital(1)

    patients, connections = hospital.patients(START), hospital.connections()

    assert len(patients) == 12
    assert {patient.ward for patient in patients} == {"Ward A", "Ward B"}
    assert Counter(connection.route for connection in connections)["edge"] == 2
    assert Counter(connection.route for connection in connections)["https"] >= 2
    (gateway,) = (connection for connection in connections if connection.children)
    assert len(gateway.children or ()) == 3
    assert [patient.spo2_scale for patient in patients].count(2) == 1


def test_devices_now_and_then_show_artefacts_and_repeat_a_message() -> None:
    said = _said(1, 600)

    rates = {msgspec.json.decode(message.body).get("heartRate") for message in said}
    repeated = Counter(message.message_id for message in said)
    assert {0, 350} <= rates
    assert 2 in repeated.values()


async def test_the_hub_acknowledges_every_simulated_message(tmp_path: Path) -> None:
    clock = Clock.faster(60)
    bus = EmbeddedBus.open(tmp_path / "bus")
    registry = Registry.open(tmp_path / "hub", clock)
    hub = Hub(bus, registry, HubSettings(mqtt_port=0, http_port=0, mqtts_port=None, https_port=None), clock)
    await hub.start()
    fhir = FhirClient("http://fhir.test", transport=httpx.MockTransport(_accept_bundle))
    simulation = WardSimulation(1, clock, HubAddress("127.0.0.1", hub.mqtt_port or 0, hub.http_port))

    keys = await simulation.prepare(registry, fhir)
    running = asyncio.create_task(simulation.run(keys))
    while simulation.acknowledged < 60:
        await asyncio.sleep(0.01)
    await simulation.stop()
    await running

    subscription = await bus.subscribe(DEVICE_MESSAGES, "test")
    rows = 0
    while deliveries := await subscription.read(wait_seconds=0.2, row_limit=1_000):
        rows += sum(delivery.table.num_rows for delivery in deliveries)
    assert simulation.sent == simulation.acknowledged == rows
    await subscription.close()
    await fhir.close()
    await hub.stop()
    registry.close()
    await bus.close()


def _accept_bundle(request: httpx.Request) -> httpx.Response:
    bundle = msgspec.json.decode(request.content)
    entries = [{"response": {"status": "201 Created", "etag": 'W/"1"'}} for _ in bundle["entry"]]
    return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": entries})


def test_the_catalog_mapping_of_its_kind_reads_every_simulated_message() -> None:
    catalog = Path(__file__).parents[3] / "devices"
    kinds = {one.device_id: one.kind for one in SimulatedHospital(3).connections()}
    mappings = {
        kind: DeviceMapping.load(msgspec.json.decode((catalog / kind / "device_mapping.json").read_bytes()))
        for kind in set(kinds.values())
    }

    unread = [
        message.connection
        for message in _said(3, 120)
        if not mappings[kinds[message.connection]].normalize({"Body": msgspec.json.decode(message.body)})
    ]

    assert unread == []
