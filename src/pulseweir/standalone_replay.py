"""`pulseweir replay`: a recording through the hub, into a running house or into one started for it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pulseweir.clock import Clock
from pulseweir.ingest.device_client import HubAddress
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan
from pulseweir.ingest.replay_sender import Replay, ReplayResult, pacing_clock, prepare
from pulseweir.local_house import LocalHouse
from pulseweir.operations.sums import Sums, add_up
from pulseweir.settings import Settings
from pulseweir.systems import hub_mqtt_port, open_fhir, open_registry

_SETTLE_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay, how fast and in which order; see `pulseweir replay --help`."""

    format_name: str
    path: Path
    patients: int | None = None
    hours: float | None = None
    speed: float = 0.0
    order: Literal["charted", "stored"] = "charted"


async def replay_into_running(options: ReplayOptions, settings: Settings) -> Sums:
    """Send a recording to the hub of a house that runs on the settings' data directory; it goes on working after.

    Raises:
        RetryLater: The hub or the FHIR service is not there.
        RefuseToStart: The recording cannot be read.
    """
    clock = Clock.from_environment()
    plan = _plan(options, clock)
    hub = HubAddress("127.0.0.1", hub_mqtt_port(settings))
    result = await _send(options, plan, settings, clock, hub)
    return await add_up(
        settings,
        clock,
        is_settled=True,
        readings=result.readings,
        acknowledge_p99_seconds=round(result.acknowledge_p99_seconds, 4),
        seconds=round(result.seconds, 3),
    )


async def replay_standalone(options: ReplayOptions, data_directory: Path) -> Sums:
    """Start a house, send the recording, wait until all of it is settled, stop, and add up.

    Raises:
        RefuseToStart: The recording cannot be read, or a role did not start.
    """
    clock = Clock()
    plan = _plan(options, clock)
    house = await LocalHouse.start(data_directory, clock)
    try:
        hub = HubAddress("127.0.0.1", house.settings.hub.mqtt_port or 0)
        loop = asyncio.get_running_loop()
        result = await _send(options, plan, house.settings, clock, hub)
        is_settled = await house.settle(_SETTLE_SECONDS)
        seconds = loop.time() - (result.first_sent or loop.time())
        sums = await house.sums(
            readings=result.readings,
            acknowledge_p99_seconds=round(result.acknowledge_p99_seconds, 4),
            seconds=round(seconds, 3),
            is_settled=is_settled,
        )
    finally:
        await house.stop()
    return sums


def _plan(options: ReplayOptions, clock: Clock) -> RecordingPlan:
    chosen = RecordingOptions(options.patients, options.hours, options.order)
    return plan_recording(options.format_name, options.path, clock.now_microseconds(), chosen)


async def _send(
    options: ReplayOptions, plan: RecordingPlan, settings: Settings, clock: Clock, hub: HubAddress
) -> ReplayResult:
    fhir, registry = open_fhir(settings), open_registry(settings, clock)
    try:
        keys = await prepare(plan, registry, fhir)
        session = Replay(plan, keys, hub, pace=pacing_clock(plan, options.speed))
        try:
            await session.connect()
            return await session.run()
        finally:
            await session.close()
    finally:
        registry.close()
        await fhir.close()
