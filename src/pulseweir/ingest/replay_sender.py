"""Step 1: sends a planned recording through the hub, one connection a device, and measures it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pulseweir.clock import Clock, real_microseconds
from pulseweir.ingest.device_client import DeviceOptions, HubAddress, MqttDevice
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.ingest.recording_plan import PlannedMessage, RecordingPlan
from pulseweir.ingest.ward_setup import DeviceSetup, ward_resources, write_resources

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

REPLAY_OPTIONS = DeviceOptions(in_flight_limit=64, give_up_seconds=60)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did; seconds are real ones.

    Attributes:
        messages_acknowledged: Messages the hub holds durably.
        readings: Recorded readings in all planned messages.
        seconds: First send to last acknowledgement.
        acknowledge_p50_seconds: Median from send to acknowledgement.
        acknowledge_p95_seconds: 95 of 100 are quicker.
        acknowledge_p99_seconds: 99 of 100 are quicker.
        first_sent: Monotonic instant of the first send, None when nothing was sent.
        last_acknowledged: Monotonic instant of the last acknowledgement, None when there was none.
    """

    messages_acknowledged: int
    readings: int
    seconds: float
    acknowledge_p50_seconds: float
    acknowledge_p95_seconds: float
    acknowledge_p99_seconds: float
    first_sent: float | None
    last_acknowledged: float | None


def register_devices(
    registry: Registry,
    devices: Sequence[DeviceSetup],
    *,
    keys: Mapping[str, str] | None = None,
    children: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Register devices; their primary keys by device id.

    Args:
        registry: The hub's, or an edge's.
        devices: With their catalog kinds.
        keys: Keys they must have; without one a device keeps its own, or gets a new one.
        children: Devices that a gateway among them may carry.
    """
    given, carried = keys or {}, children or {}
    registry.import_entries(
        DeviceEntry(one.device_id, one.kind, given.get(one.device_id), children=carried.get(one.device_id))
        for one in devices
    )
    found = (registry.get(one.device_id) for one in devices)
    return {device.device_id: device.primary_key for device in found if device is not None}


def pacing_clock(plan: RecordingPlan, speed: float) -> Clock | None:
    """A clock on which the plan's first message is due now and time runs `speed` times; None for 0: no pacing."""
    return Clock(real_microseconds(), plan.starts_microseconds, speed) if speed else None


class Replay:
    """One replay: a connection a device, each sending its own messages in order."""

    def __init__(
        self,
        plan: RecordingPlan,
        keys: Mapping[str, str],
        hub: HubAddress,
        *,
        pace: Clock | None = None,
        options: DeviceOptions = REPLAY_OPTIONS,
    ) -> None:
        """Make ready to send.

        Args:
            plan: What to send.
            keys: Key of every device, as `register_devices` gives them.
            hub: Where to.
            pace: Messages wait until this clock shows the instant they are due; None sends as fast as accepted.
            options: How each device sends.
        """
        self._plan = plan
        self._pace = pace
        self._devices = {
            device.device_id: MqttDevice(hub, device.device_id, keys[device.device_id], options)
            for device in plan.devices
        }
        self._stopping = asyncio.Event()

    @property
    def sent(self) -> int:
        """Messages sent so far."""
        return sum(device.counts.sent for device in self._devices.values())

    @property
    def acknowledged(self) -> int:
        """Messages acknowledged so far."""
        return sum(device.counts.acknowledged for device in self._devices.values())

    async def connect(self) -> None:
        """Open every connection.

        Raises:
            HubRefusedDevice: A device is not registered at this hub.
            HubUnreachable: The hub is not there.
        """
        await asyncio.gather(*(device.connect() for device in self._devices.values()))

    async def run(self) -> ReplayResult:
        """Send everything, or what is due until `stop`, and wait for the last acknowledgement.

        Raises:
            HubRefusedDevice: The hub shut a device out.
            HubUnreachable: No acknowledgement for as long as the options allow.
        """
        by_device: dict[str, list[PlannedMessage]] = {}
        for message in self._plan.messages:
            by_device.setdefault(message.device_id, []).append(message)
        sending = [
            asyncio.create_task(self._send_all(self._devices[device_id], messages))
            for device_id, messages in by_device.items()
        ]
        try:
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        return self._result()

    async def stop(self) -> None:
        """Send nothing more; `run` returns once what was sent is acknowledged."""
        self._stopping.set()

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(device.close() for device in self._devices.values()))

    async def _send_all(self, device: MqttDevice, messages: Sequence[PlannedMessage]) -> None:
        for message in messages:
            if self._pace is not None:
                await wait_until(self._pace, message.due_microseconds, self._stopping)
            if self._stopping.is_set():
                break
            await device.send(message.body, message.message_id)
        await device.drain()

    def _result(self) -> ReplayResult:
        counts = [device.counts for device in self._devices.values()]
        latencies = np.fromiter((second for count in counts for second in count.latencies_seconds), float)
        p50, p95, p99 = np.percentile(latencies, (50, 95, 99)) if latencies.size else (0.0, 0.0, 0.0)
        first = min((count.first_sent for count in counts if count.first_sent is not None), default=None)
        last = max((count.last_acknowledged for count in counts if count.last_acknowledged is not None), default=None)
        return ReplayResult(
            messages_acknowledged=self.acknowledged,
            readings=self._plan.readings,
            seconds=last - first if first is not None and last is not None else 0.0,
            acknowledge_p50_seconds=float(p50),
            acknowledge_p95_seconds=float(p95),
            acknowledge_p99_seconds=float(p99),
            first_sent=first,
            last_acknowledged=last,
        )


async def prepare(plan: RecordingPlan, registry: Registry, fhir: "FhirClient") -> dict[str, str]:
    """Register the plan's devices and PUT its patients' resources; keys by device id. Repeating changes nothing.

    Raises:
        RetryLater: The FHIR service is not there; call again.
        RefuseToStart: The FHIR service refuses a resource.
    """
    keys = register_devices(registry, plan.devices)
    await write_resources(fhir, ward_resources(plan.patients))
    return keys


async def replay(
    plan: RecordingPlan,
    registry: Registry,
    fhir: "FhirClient",
    hub: HubAddress,
    *,
    speed: float = 0.0,
) -> ReplayResult:
    """Prepare, connect, send, wait for the last acknowledgement, disconnect.

    Args:
        plan: What to send.
        registry: Where the devices and their keys are made.
        fhir: Where patients, devices and wards are put.
        hub: Where messages go.
        speed: Recorded seconds a real second; 0 for as fast as accepted.
    """
    session = Replay(plan, await prepare(plan, registry, fhir), hub, pace=pacing_clock(plan, speed))
    try:
        await session.connect()
        return await session.run()
    finally:
        await session.close()


async def wait_until(clock: Clock, instant_microseconds: int, stopping: asyncio.Event) -> None:
    """Return when the clock shows the instant, or at once when stopping."""
    remaining = (instant_microseconds - clock.now_microseconds()) / clock.speed / 1_000_000
    if remaining <= 0 or stopping.is_set():
        return
    try:
        await asyncio.wait_for(stopping.wait(), remaining)
    except TimeoutError:
        return
