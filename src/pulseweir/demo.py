"""`pulseweir demo` and `pulseweir up`: the whole house at once."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pulseweir.backends.repository import alerts
from pulseweir.clock import Clock
from pulseweir.ingest.device_client import HubAddress
from pulseweir.ingest.edge import Edge, ForwardStage
from pulseweir.ingest.hub.certificates import client_context
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions
from pulseweir.ingest.replay_sender import Replay, prepare
from pulseweir.ingest.settings import EdgeSettings
from pulseweir.ingest.simulator import WardSimulation
from pulseweir.local_house import LocalHouse
from pulseweir.operations.conserve import lag
from pulseweir.operations.sums import Sums
from pulseweir.pipeline import ROLES
from pulseweir.role_process import configure_logging
from pulseweir.screen_client import ScreenClient
from pulseweir.settings import Settings
from pulseweir.supervisor import Supervisor
from pulseweir.systems import bus_directory, open_bus, open_registry, open_repository
from pulseweir.web.accounts import add_user

USER = "demo"
_SEED = 20_240_117
_SETTLE_SECONDS = 60.0
_SUMMARY_SECONDS = 5.0
_LEAD_SECONDS = 8.0
_FORWARD_LOOKS, _FORWARD_LOOK_SECONDS = 300, 0.1
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `pulseweir demo --help` lists."""

    for_seconds: float | None = None
    as_json: bool = False
    data_dir: Path | None = None
    speed: float = 10.0
    recording: tuple[str, Path] | None = None
    patients: int | None = None
    hours: float | None = None


class Devices(Protocol):
    """The simulated ward, or a recording played live."""

    @property
    def acknowledged(self) -> int:
        """Messages acknowledged so far."""
        ...

    async def send(self) -> None:
        """Send until `stop`."""
        ...

    async def stop(self) -> None:
        """Send nothing more; returns when what was sent is acknowledged."""
        ...


async def run_up(settings: Settings, say: Say) -> None:
    """Run every role until SIGTERM or SIGINT; `say` is told the address once all are ready.

    Raises:
        RefuseToStart: A role did not start, or the data directory is in use.
    """
    configure_logging("supervisor")
    supervisor = Supervisor(settings.data_dir, list(ROLES), {})
    async with _until_signal() as stopping:
        facts = await supervisor.start()
        scheme = "https" if settings.web.is_secure else "http"
        say(f"pulseweir is ready: {scheme}://{settings.web.address}:{facts['web']['port']}   Ctrl-C ends it.")
        await stopping.wait()
        await supervisor.stop()


async def run_demo(options: DemoOptions, say: Say) -> Sums:
    """Run the demonstration and add it up.

    Args:
        options: How long, how fast, on what.
        say: Takes each line for the person who watches; with ``as_json`` nothing is said.

    Raises:
        RefuseToStart: A role did not start, or the recording cannot be read.
    """
    configure_logging("demo")
    tell: Say = (lambda _line: None) if options.as_json else say
    data_directory = options.data_dir or Path(tempfile.mkdtemp(prefix="pulseweir-demo-"))
    clock = Clock.faster(options.speed)
    async with _until_signal() as stopping:
        house = await LocalHouse.start(data_directory, clock)
        try:
            return await _demonstrate(house, options, stopping, tell)
        finally:
            await house.stop()
            if options.data_dir is None:
                await asyncio.to_thread(shutil.rmtree, data_directory, ignore_errors=True)


async def _demonstrate(house: LocalHouse, options: DemoOptions, stopping: asyncio.Event, tell: Say) -> Sums:
    password = secrets.token_urlsafe(12)
    await asyncio.to_thread(_add_viewer, house, password)
    address = f"http://127.0.0.1:{house.settings.web.port}"
    async with _devices(house, options) as devices:
        screen = ScreenClient(address, USER, password, house.clock)
        tasks = [asyncio.create_task(devices.send()), asyncio.create_task(screen.follow())]
        tell(f"pulseweir is ready: {address}   sign in as {USER} with {password}")
        tell(f"Simulated clock, {options.speed:g} times as fast. Not a medical device. Ctrl-C ends it.")
        await _watch(house, devices, stopping, options.for_seconds, tell)
        tell("Stopping: nothing more is sent, what was sent is dealt with.")
        await devices.stop()
        is_settled = await house.settle(_SETTLE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await screen.close()
    sums = await house.sums(is_settled=is_settled, screen_seconds=screen.seconds)
    tell(
        f"{sums.messages_acknowledged} messages, {sums.measurements} measurements, {sums.observations} Observations, "
        f"{sums.risk_assessments} RiskAssessments, {sums.flags} Flags, {sums.alerts} alerts, "
        f"{sums.notifications} notifications taken by a channel, {sums.notifications_untaken} by none; "
        f"unaccounted for: {sums.conservation_difference}"
    )
    return sums


async def _watch(
    house: LocalHouse, devices: Devices, stopping: asyncio.Event, for_seconds: float | None, tell: Say
) -> None:
    """Say how things are every few seconds until it is time to stop."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + for_seconds if for_seconds is not None else float("inf")
    repository = await asyncio.to_thread(open_repository, house.settings, house.clock)
    while not stopping.is_set() and loop.time() < deadline:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_SUMMARY_SECONDS, deadline - loop.time())):
                await stopping.wait()
        books = await asyncio.to_thread(house.conserve)
        waiting = sum((await repository.read(alerts.count_unacknowledged)).values())
        tell(
            f"{house.clock.now():%H:%M:%S}  {devices.acknowledged} acknowledged, {books.messages.in_flight} in flight, "
            f"{books.messages.quarantined} quarantined, {waiting} alerts unacknowledged, "
            f"unaccounted for {books.conservation_difference}"
        )
    await asyncio.to_thread(repository.close)


def _add_viewer(house: LocalHouse, password: str) -> None:
    repository = open_repository(house.settings, house.clock)
    add_user(repository, USER, password, "charge-nurse")
    repository.close()


@contextlib.asynccontextmanager
async def _devices(house: LocalHouse, options: DemoOptions) -> AsyncIterator[Devices]:
    if options.recording is None:
        async with _simulated_ward(house) as ward:
            yield ward
    else:
        async with _live_recording(house, options, *options.recording) as recording:
            yield recording


class _Ward:
    def __init__(self, simulation: WardSimulation, keys: dict[str, str], edge_settings: Settings) -> None:
        self._simulation = simulation
        self._keys = keys
        self._edge_settings = edge_settings

    @property
    def acknowledged(self) -> int:
        return self._simulation.acknowledged

    async def send(self) -> None:
        await self._simulation.run(self._keys)

    async def stop(self) -> None:
        """Stop sending, then wait until the edge has forwarded what it stored."""
        await self._simulation.stop()
        for _ in range(_FORWARD_LOOKS):
            if not await asyncio.to_thread(self._waiting_at_the_edge):
                return
            await asyncio.sleep(_FORWARD_LOOK_SECONDS)

    def _waiting_at_the_edge(self) -> int:
        settings = self._edge_settings
        return lag(bus_directory(settings), ForwardStage.topic, ForwardStage.group, settings.bus)


class _Recording:
    def __init__(self, session: Replay) -> None:
        self._session = session
        self._is_done = asyncio.Event()

    @property
    def acknowledged(self) -> int:
        return self._session.acknowledged

    async def send(self) -> None:
        try:
            await self._session.run()
        finally:
            self._is_done.set()

    async def stop(self) -> None:
        await self._session.stop()
        await self._is_done.wait()


@contextlib.asynccontextmanager
async def _simulated_ward(house: LocalHouse) -> AsyncIterator[Devices]:
    """Twelve patients; two of their devices behind an edge that runs here, as it would at the bedside."""
    settings = house.settings.model_copy(update={"data_dir": house.settings.data_dir / "edge"})
    edge_bus, edge_registry = open_bus(settings), open_registry(settings, house.clock)
    local = HubSettings(mqtt_port=0, mqtts_port=None, http_port=None, https_port=None)
    upstream = EdgeSettings(
        local=local,
        upstream_host="localhost",
        upstream_port=house.settings.hub.mqtts_port or 0,
        upstream_certificate_file=house.settings.hub.certificate_file,
    )
    edge = Edge(edge_bus, edge_registry, upstream, house.clock)
    await edge.start()
    forwarding = asyncio.create_task(edge.run())
    simulation = WardSimulation(
        _SEED, house.clock, hub_address(house), edge=HubAddress("127.0.0.1", edge.hub.mqtt_port or 0)
    )
    fhir, registry = house.fhir(), house.registry()
    try:
        keys = await simulation.prepare(registry, fhir, edge_registry)
        yield _Ward(simulation, keys, settings)
    finally:
        await edge.stop()
        await asyncio.gather(forwarding, return_exceptions=True)
        await edge_bus.close()
        await fhir.close()


@contextlib.asynccontextmanager
async def _live_recording(
    house: LocalHouse, options: DemoOptions, format_name: str, path: Path
) -> AsyncIterator[Devices]:
    """A recording moved so that it begins now, paced by the house's own clock."""
    chosen = RecordingOptions(options.patients, options.hours, live=True)
    # Reading it and setting its patients up takes seconds: what is due before that would look measured long ago.
    starts = house.clock.now_microseconds() + round(_LEAD_SECONDS * house.clock.speed * 1_000_000)
    plan = await asyncio.to_thread(plan_recording, format_name, path, starts, chosen)
    fhir, registry = house.fhir(), house.registry()
    session = Replay(plan, await prepare(plan, registry, fhir), hub_address(house), pace=house.clock)
    await session.connect()
    try:
        yield _Recording(session)
    finally:
        await session.close()
        await fhir.close()


def hub_address(house: LocalHouse) -> HubAddress:
    """The house's hub, over TLS with its throw-away certificate."""
    hub = house.settings.hub
    tls = client_context(hub.certificate_file)
    return HubAddress("localhost", hub.mqtts_port or 0, hub.https_port, tls=tls)


@contextlib.asynccontextmanager
async def _until_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
