"""Step 1: a simulated ward whose devices speak MQTT and HTTPS to the hub, some through an edge, for demonstrations.

The people in it are invented. What they do is settled by a seed; when they do it, by the clock that every role shares.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from pulseweir.clock import Clock
from pulseweir.errors import HubRefusedDevice, RejectRecord
from pulseweir.ingest.device_client import DeviceOptions, HubAddress, MqttDevice
from pulseweir.ingest.device_https import HttpsDevice
from pulseweir.ingest.hub.registry import Registry
from pulseweir.ingest.replay_sender import register_devices, wait_until
from pulseweir.ingest.simulation.ward import SimulatedConnection, SimulatedHospital, SimulatedMessage
from pulseweir.ingest.ward_setup import DeviceSetup, ward_resources, write_resources

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

_OPTIONS = DeviceOptions(in_flight_limit=16)
_MEMORY = 10_000
_Queue = asyncio.Queue[SimulatedMessage | None]


class WardSimulation:
    """Twelve invented patients and their devices, from `run` until `stop`."""

    def __init__(
        self,
        seed: int,
        clock: Clock,
        hub: HubAddress,
        *,
        edge: HubAddress | None = None,
        patience_seconds: float = 30.0,
    ) -> None:
        """Make ready; nothing connects yet.

        Args:
            seed: Equal seeds give equal vitals.
            clock: The house's; its speed is the simulation's.
            hub: Where devices connect.
            edge: Where the devices behind an edge connect; without it they connect to the hub.
            patience_seconds: How long `stop` waits for acknowledgements.
        """
        self._hospital = SimulatedHospital(seed)
        self._clock = clock
        self._hub = hub
        self._edge = edge
        self._patience_seconds = patience_seconds
        self._devices: dict[str, MqttDevice | HttpsDevice] = {}
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def sent(self) -> int:
        """Messages sent so far, repeated ones included."""
        return sum(device.counts.sent for device in self._devices.values())

    @property
    def acknowledged(self) -> int:
        """Messages the hub, or the edge for the devices behind it, has acknowledged so far."""
        return sum(device.counts.acknowledged for device in self._devices.values())

    async def prepare(
        self, registry: Registry, fhir: "FhirClient", edge_registry: Registry | None = None
    ) -> dict[str, str]:
        """Register all devices and PUT wards, patients and devices; keys by device id.

        Args:
            registry: The hub's.
            fhir: The FHIR service.
            edge_registry: The edge's: the devices behind it are registered there with the keys they have at the hub.
        """
        connections = self._hospital.connections()
        keys = register_devices(
            registry,
            [DeviceSetup(connection.device_id, connection.kind) for connection in connections],
            children={one.device_id: one.children for one in connections if one.children},
        )
        behind = [one for one in connections if one.route == "edge"]
        if edge_registry is not None:
            setups = [DeviceSetup(one.device_id, one.kind) for one in behind]
            register_devices(edge_registry, setups, keys=keys)
        gateways = [DeviceSetup(one.device_id, one.kind) for one in connections if one.children]
        patients = self._hospital.patients(self._clock.now_microseconds())
        await write_resources(fhir, ward_resources(patients, gateways))
        return keys

    async def run(self, keys: Mapping[str, str]) -> None:
        """Connect, send until `stop`, wait for the last acknowledgements, disconnect.

        A device the hub refuses is logged and falls silent; the others go on.
        """
        self._stopping.clear()
        self._stopped.clear()
        connections = self._hospital.connections()
        self._devices = {one.device_id: self._device(one, keys[one.device_id]) for one in connections}
        queues: dict[str, _Queue] = {device_id: asyncio.Queue(_MEMORY) for device_id in self._devices}
        senders = [asyncio.create_task(_send_all(self._devices[one], queue)) for one, queue in queues.items()]
        try:
            await self._feed(queues)
            for queue in queues.values():
                queue.put_nowait(None)
            await asyncio.wait(senders, timeout=self._patience_seconds)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            await asyncio.gather(*(device.close() for device in self._devices.values()))
            self._stopped.set()

    async def stop(self) -> None:
        """Send nothing more; returns when what was sent is acknowledged, or patience ends."""
        self._stopping.set()
        await self._stopped.wait()

    async def _feed(self, queues: Mapping[str, _Queue]) -> None:
        for message in self._hospital.messages(self._clock.now_microseconds()):
            await wait_until(self._clock, message.measured_at_microseconds, self._stopping)
            if self._stopping.is_set():
                return
            queue = queues[message.connection]
            if queue.qsize() < _MEMORY - 1:  # a device's memory is finite: what does not fit was never sent
                queue.put_nowait(message)

    def _device(self, connection: SimulatedConnection, key: str) -> MqttDevice | HttpsDevice:
        if connection.route == "https" and self._hub.https_port is not None:
            return HttpsDevice(self._hub, connection.device_id, key, _OPTIONS)
        address = self._edge if connection.route == "edge" and self._edge is not None else self._hub
        return MqttDevice(address, connection.device_id, key, _OPTIONS)


async def _send_all(device: MqttDevice | HttpsDevice, queue: _Queue) -> None:
    try:
        await device.connect()
        while (message := await queue.get()) is not None:
            await device.send(message.body, message.message_id)
        await device.drain()
    except (HubRefusedDevice, RejectRecord) as refused:
        structlog.get_logger().error("simulated-device-refused", device_id=device.device_id, reason=str(refused))
