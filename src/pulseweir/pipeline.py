"""The whole journey on one page: every worker, what it reads, what it calls, what it writes.

::

    role       step    worker              reads                 writes
    hub        1–2     hub                 devices               device-messages
    connector  3       archive             device-messages       the raw archive
               4, 5ab  connector           device-messages       measurements            (asks FHIR who wore it)
               5c      fhir-observations   measurements          Observations in FHIR
    fhir       5       the embedded store, when no other FHIR service is named
    scoring    6–8     enrichment          measurements          patient-measurements    (asks FHIR for the Patient)
               9       lake                patient-measurements  the lake
               10–11   scoring             patient-measurements  risk-scores             (reads history from the lake)
               10      device-signals      patient-measurements  alert-events            (asks FHIR who has the device)
               11a     lake-scores         risk-scores           the lake
    output     12–14   record              risk-scores           the repository, alert-events
               13      fhir-risk           risk-scores           RiskAssessments and Flags in FHIR
               16      refresh             the repository        report tables
               18      coordination        alert-events          alerts, outbox → channels, Tasks in FHIR
    web        15, 17  pages               the repository, FHIR  what people decide

Each role imports its own rooms only: a process holds in memory what it uses.
Every worker runs in the one delivery loop (`worker.py`) and is a consumer group of its own: none waits for another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pulseweir import systems
from pulseweir.clock import Clock
from pulseweir.settings import Settings
from pulseweir.site_time import SiteTime
from pulseweir.worker import Stage, Worker

if TYPE_CHECKING:
    import uvicorn

    from pulseweir.backends.bus.base import Bus
    from pulseweir.backends.fhir_client import FhirClient
    from pulseweir.backends.lake import Lake
    from pulseweir.backends.repository import Repository

GROUPS = (
    ("device-messages", "archive"),
    ("device-messages", "connector"),
    ("measurements", "fhir-observations"),
    ("measurements", "enrichment"),
    ("patient-measurements", "lake"),
    ("patient-measurements", "scoring"),
    ("patient-measurements", "device-signals"),
    ("risk-scores", "lake-scores"),
    ("risk-scores", "record"),
    ("risk-scores", "fhir-risk"),
    ("alert-events", "coordination"),
)
"""Every (topic, consumer group) of the journey, in its order."""

Facts = dict[str, Any]


class House:
    """What the roles of one process share: settings, clock, opened systems, running workers."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.tasks: list[asyncio.Task[None]] = []
        self._workers: list[tuple[Worker, asyncio.Task[None]]] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []

    @cached_property
    def bus(self) -> "Bus":
        """The event bus."""
        bus = systems.open_bus(self.settings)
        self.on_close(bus.close)
        return bus

    @cached_property
    def fhir(self) -> "FhirClient":
        """A client of the FHIR service."""
        fhir = systems.open_fhir(self.settings)
        self.on_close(fhir.close)
        return fhir

    @cached_property
    def lake(self) -> "Lake":
        """The lake."""
        return systems.open_lake(self.settings)

    @cached_property
    def repository(self) -> "Repository":
        """The SQL repository."""
        repository = systems.open_repository(self.settings, self.clock)

        async def close() -> None:
            await asyncio.to_thread(repository.close)

        self.on_close(close)
        return repository

    async def work(self, stage: Stage) -> None:
        """Run a stage as a member of its group."""
        self.run(Worker(stage, self.bus, await self.bus.subscribe(stage.topic, stage.group)))

    def run(self, worker: Worker) -> None:
        """Run a worker until the house closes."""
        task = asyncio.create_task(worker.run())
        self._workers.append((worker, task))
        self.tasks.append(task)

    def loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something without end until the house closes, before what it uses is closed."""
        task = asyncio.create_task(work)
        self.watch(task)

        async def close() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.on_close(close)

    async def serve(self, config: "uvicorn.Config") -> int:
        """Serve an application until the house closes; returns its port once it is open."""
        server = systems.EmbeddedServer(config)
        serving = server.start()
        self.watch(serving)

        async def close() -> None:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)

        self.on_close(close)
        return config.port

    def watch(self, task: asyncio.Task[None]) -> None:
        """A server's task: this process ends when it fails."""
        self.tasks.append(task)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call this when the house closes, after what was opened later."""
        self._closing.append(close)

    async def close(self) -> None:
        """Commit what is in hand, then close everything, last opened first."""
        for worker, _ in self._workers:
            worker.stop()
        await asyncio.gather(*(task for _, task in self._workers), return_exceptions=True)
        for close in reversed(self._closing):
            await close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def hub(house: House) -> Facts:
    """Steps 1–2: devices → device-messages."""
    from pulseweir.ingest.hub.hub import Hub

    registry = systems.open_registry(house.settings, house.clock)
    endpoint = Hub(house.bus, registry, house.settings.hub, house.clock)
    await endpoint.start()
    house.on_close(endpoint.stop)
    house.watch(asyncio.create_task(endpoint.wait()))
    return {name: getattr(endpoint, name) for name in ("mqtt_port", "mqtts_port", "http_port", "https_port")}


async def connector(house: House) -> Facts:
    """Steps 3–5: device-messages → the archive, measurements, Observations."""
    from pulseweir.ingest.archive import ArchiveStage
    from pulseweir.ingest.connector import ConnectorStage
    from pulseweir.ingest.identity import Identity
    from pulseweir.ingest.mapping_versions import MappingVersions
    from pulseweir.ingest.mapping_watch import MappingWatch
    from pulseweir.ingest.observation_writer import ObservationStage

    mappings = systems.load_mappings(house.settings)
    watch = MappingWatch(mappings, MappingVersions(house.settings.data_dir))
    watch.begin()
    identity = Identity(
        house.fhir,
        house.settings.identity,
        clock=house.clock.now_microseconds,
        changes=systems.association_changes(house.settings),
    )
    messages = await house.bus.subscribe(ConnectorStage.topic, ConnectorStage.group)
    normalize = ConnectorStage(
        mappings, identity, messages.seen_before, house.settings.connector, before_batch=watch.look
    )

    archive = ArchiveStage(house.settings.data_dir / "archive", house.settings.archive)

    async def close() -> None:
        await asyncio.to_thread(archive.close)

    house.on_close(close)
    await house.work(archive)
    house.run(Worker(normalize, house.bus, messages))
    write = ObservationStage(
        house.fhir, mappings, identity, house.settings.observations, house_clock=house.clock.now_microseconds
    )
    await house.work(write)
    return {}


async def fhir(house: House) -> Facts:
    """Step 5: the embedded FHIR service; nothing when another one is named."""
    from pulseweir.fhir_store.app import create_app
    from pulseweir.fhir_store.export.exports import Exports
    from pulseweir.fhir_store.security.guard import Guard, tls_files
    from pulseweir.fhir_store.server import server_config
    from pulseweir.fhir_store.subscriptions.service import SubscriptionService

    if house.settings.fhir.base_url is not None:
        await systems.check_fhir(house.settings)
        return {"base_url": house.settings.fhir.base_url}
    store = systems.open_fhir_store(house.settings, house.clock)
    exports = Exports(store)

    async def close() -> None:
        await asyncio.to_thread(store.close)
        await asyncio.to_thread(exports.close)

    house.on_close(close)
    guard = Guard.open(store)
    app = create_app(store, guard=guard, exports=exports)
    house.loop(exports.keep())
    facts = {"port": await house.serve(server_config(app, "127.0.0.1", house.settings.fhir.port))}
    security = guard.settings
    if security.address is not None:
        config = server_config(app, security.address, security.port, tls=tls_files(security))
        facts["tls_port"] = await house.serve(config)
    base_url = store.settings.public_base_url or f"http://127.0.0.1:{facts['port']}/fhir"
    house.loop(SubscriptionService(store, base_url.rstrip("/"), guard=guard).run())
    return facts


async def scoring(house: House) -> Facts:
    """Steps 6–11: measurements → patient-measurements, the lake, risk-scores, technical signals of devices."""
    from pulseweir.scoring.device_kinds import read_kinds
    from pulseweir.scoring.device_presence import DevicePresence
    from pulseweir.scoring.engines.embedded import ScoringStage
    from pulseweir.scoring.enrichment import EnrichmentStage
    from pulseweir.scoring.lake_writer import LakeWriterStage
    from pulseweir.scoring.score_writer import ScoreWriterStage
    from pulseweir.scoring.signal_stage import SignalStage

    settings = house.settings

    enrichment = EnrichmentStage(house.fhir, settings.enrichment, house.clock)
    house.on_close(enrichment.close)
    presence = DevicePresence(
        house.fhir,
        house.clock,
        device_system=settings.identity.device_identifier_system,
        keep_seconds=settings.signals.presence_keep_seconds,
        without_encounter=settings.signals.alert_without_encounter,
    )
    house.on_close(presence.close)
    folders = systems.catalog_folders(settings)
    signals = SignalStage(presence, house.clock, settings.signals, settings.windows, lambda: read_kinds(folders))

    await house.work(enrichment)
    await house.work(LakeWriterStage(house.lake, settings.lake))
    await house.work(ScoringStage(house.lake, house.clock, settings.windows, house.fhir))
    await house.work(ScoreWriterStage(house.lake, settings.lake))
    await house.work(signals)
    return {}


async def output(house: House) -> Facts:
    """Steps 12–14, 16, 18: risk-scores → the repository, FHIR, alerts, channels."""
    from pulseweir.hot_path.fhir_risk import FhirRiskStage
    from pulseweir.hot_path.risk_output import RecordStage
    from pulseweir.warm_path.coordination import CoordinationStage
    from pulseweir.warm_path.delivery import OutboxSender, open_channels
    from pulseweir.warm_path.refresh import ReportRefresh

    settings, repository, fhir = house.settings, house.repository, house.fhir
    sender = OutboxSender(repository, fhir, open_channels(settings.coordination), settings.coordination)
    house.on_close(sender.close)

    await house.work(RecordStage(repository, house.bus, settings.flags, settings.care_routing))
    await house.work(
        FhirRiskStage(repository, fhir, settings.fhir_risk, settings.risk_assessment, settings.care_routing)
    )
    await house.work(CoordinationStage(repository, house.bus, settings.alerts, settings.coordination.notices))
    house.loop(sender.run())
    house.loop(ReportRefresh(repository, settings.refresh, SiteTime(settings.site.time_zone)).run())
    return {}


async def web(house: House) -> Facts:
    """Steps 15 and 17: the repository and FHIR → screens; what people decide → the repository."""
    from pulseweir.warm_path.care_team import CareTeamDesk
    from pulseweir.warm_path.refresh import ReportRefresh
    from pulseweir.warm_path.settings import channels_set_up
    from pulseweir.web.app import Place, create_app

    settings = house.settings
    desk = CareTeamDesk(house.repository, settings.alerts, settings.coordination.notices)
    site = SiteTime(settings.site.time_zone)
    refresh = ReportRefresh(house.repository, settings.refresh, site)
    pages = create_app(
        house.repository,
        house.fhir,
        house.clock,
        settings.web,
        desk=desk,
        refresh=refresh,
        place=Place(site, channels_set_up(settings.coordination)),
    )
    return {"port": await house.serve(systems.pages_config(pages, settings.web))}


ROLES: dict[str, Callable[[House], Awaitable[Facts]]] = {
    "hub": hub,
    "connector": connector,
    "fhir": fhir,
    "scoring": scoring,
    "output": output,
    "web": web,
}
"""What each role starts, in the order of the journey; each returns what it says about itself when ready."""
