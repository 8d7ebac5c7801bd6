"""One house that has taken in the whole recording, for the tests of all four paths."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from paths.recount import Patient
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.lake import Lake
from pulseweir.backends.repository import Repository, alerts, outbox
from pulseweir.clock import Clock
from pulseweir.ingest.device_client import HubAddress
from pulseweir.ingest.edge import Edge, ForwardStage
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.ingest.recording_plan import PlannedMessage, RecordingPlan
from pulseweir.ingest.replay_sender import Replay, prepare, register_devices
from pulseweir.ingest.settings import EdgeSettings
from pulseweir.ingest.ward_setup import DeviceSetup
from pulseweir.local_house import LocalHouse
from pulseweir.operations.conserve import lag
from pulseweir.settings import to_environment
from pulseweir.systems import bus_directory, open_bus, open_lake, open_registry, open_repository

Json = dict[str, Any]
Answer = TypeVar("Answer")
SETTLE_SECONDS = 400.0
REFUSED_ROLE = "charge-nurse"
"""Cards for this role are refused by the webhook, so that its messages take the next channel."""

OVERRIDES: dict[str, Any] = {
    "alerts": {
        "ladders": {
            "high": [
                {"after_seconds": 0, "role": "nurse"},
                {"after_seconds": 2, "role": REFUSED_ROLE},
                {"after_seconds": 4, "role": "rapid-response"},
            ],
        }
    },
    "refresh": {"every_seconds": 20},
    "care_routing": {"refresh_seconds": 2},
}


class Background:
    """An event loop in a thread of its own, so that tests stay plain functions."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="journey", daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Answer]) -> "Future[Answer]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Answer], wait_seconds: float = 500) -> Answer:
        return self.begin(work).result(wait_seconds)

    def close(self) -> None:
        self.run(_let_connections_close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Webhook:
    """A local receiver that stands in for a Workflows webhook; it refuses cards for `REFUSED_ROLE`."""

    def __init__(self) -> None:
        self.cards: list[Json] = []
        webhook = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - the library's name
                card = json.loads(self.rfile.read(int(self.headers["content-length"])))
                refused = f'"value": "{REFUSED_ROLE}"' in json.dumps(card)
                if not refused:
                    webhook.cards.append(card)
                self.send_response(410 if refused else 202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/workflows/secret"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@dataclass
class EdgeFacts:
    """What the edge did: what it held before it had a line, and what it sent on."""

    patient_id: str
    sent: int = 0
    held_without_line: int = 0
    at_hub_without_line: int = 0
    forwarded: int = 0


@dataclass
class Journey:
    """A running house and everything a test may ask of it."""

    background: Background
    house: LocalHouse
    start: int
    plan: RecordingPlan
    keys: dict[str, str]
    patients: dict[int, Patient]
    fhir: FhirClient
    repository: Repository
    lake: Lake
    edge: EdgeFacts | None = None
    seconds: float = 0.0
    alerts_after_replay: int = -1
    notices_after_replay: dict[tuple[str, str], int] | None = None

    @property
    def directory(self) -> Path:
        return self.house.settings.data_dir

    @property
    def hub(self) -> HubAddress:
        return HubAddress("127.0.0.1", self.house.settings.hub.mqtt_port or 0)

    @property
    def pages(self) -> str:
        return f"http://127.0.0.1:{self.house.settings.web.port}"

    def by_id(self, patient_id: str) -> Patient:
        return self.patients[int(patient_id.rpartition("-")[2])]

    def read(self, resource_type: str, resource_id: str) -> Json | None:
        return self.background.run(self.fhir.read(resource_type, resource_id))

    def search(self, resource_type: str, **params: str) -> list[Json]:
        return self.background.run(self.fhir.search(resource_type, [*params.items(), ("_count", "1000")]))

    def count(self, resource_type: str, **params: str) -> int:
        return self.background.run(self.fhir.count(resource_type, params))

    def send(self, messages: Sequence[PlannedMessage], others: Sequence[DeviceSetup] = ()) -> int:
        """Send messages as their registered devices would; how many the hub acknowledged."""
        names = {message.device_id for message in messages}
        devices = tuple(one for one in (*self.plan.devices, *others) if one.device_id in names)
        plan = RecordingPlan(devices, (), tuple(messages))
        return self.background.run(_sent(Replay(plan, self.keys, self.hub)))

    def settle(self) -> None:
        assert self.background.run(self.house.settle(SETTLE_SECONDS)), "the house did not settle"

    def command(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run `pulseweir WORDS --data-dir …` as an operator would."""
        program = Path(sys.executable).with_name("pulseweir")
        ports = {"fhir": {"port": self.house.settings.fhir.port}}
        return subprocess.run(
            [str(program), *words, "--data-dir", str(self.directory)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **to_environment(ports)},
        )

    def until(self, look: Callable[[], Answer | None], what: str, wait_seconds: float = 120) -> Answer:
        """What `look` gives once it gives something."""
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited {wait_seconds:g} s in vain: {what}")

    def close(self) -> None:
        self.background.run(self.fhir.close())
        self.repository.close()
        self.background.run(self.house.stop())


def open_journey(
    background: Background,
    directory: Path,
    plan: RecordingPlan,
    patients: dict[int, Patient],
    start: int,
    overrides: Json | None = None,
) -> Journey:
    """Start a house with everything the plan needs in place; nothing is sent yet. May be opened again after `close`."""
    house = background.run(LocalHouse.start(directory, Clock(), overrides))
    try:
        fhir = background.run(_fhir(house))
        registry = house.registry()
        keys = background.run(prepare(plan, registry, fhir))
        registry.close()
        repository = open_repository(house.settings, house.clock)
        return Journey(background, house, start, plan, keys, patients, fhir, repository, open_lake(house.settings))
    except BaseException:
        background.run(house.stop())
        raise


def replay_all(journey: Journey) -> None:
    """Send the recording, one monitor of it through an edge; wait until all is settled and every window recorded."""
    began = time.monotonic()
    journey.edge = EdgeFacts(journey.plan.patients[1].patient_id)
    journey.background.run(_send_all(journey, journey.edge))
    journey.settle()
    windows = sum(len(patient.measured) for patient in journey.patients.values())
    journey.until(lambda: recorded_windows(journey) >= windows, "every window is recorded", 60)
    journey.settle()
    with journey.repository.reading() as transaction:
        journey.alerts_after_replay = alerts.count(transaction)
        journey.notices_after_replay = outbox.count(transaction)
    journey.seconds = time.monotonic() - began


def share_of(plan: RecordingPlan, subjects: Collection[int]) -> RecordingPlan:
    """What a plan says of some patients."""
    patients = tuple(one for one in plan.patients if int(one.patient_id.rpartition("-")[2]) in subjects)
    devices = tuple(device for patient in patients for device in patient.devices)
    names = {device.device_id for device in devices}
    return RecordingPlan(devices, patients, tuple(one for one in plan.messages if one.device_id in names))


def recorded_windows(journey: Journey) -> int:
    """Windows of the recording that the repository holds."""
    with journey.repository.reading() as transaction:
        return int(
            transaction.exec_driver_sql(
                "SELECT count(*) FROM score WHERE window_start < ?", (journey.start,)
            ).scalar_one()
        )


async def _let_connections_close() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    # A closed transport lets go of its socket in the loop's next rounds.
    for _ in range(10):
        await asyncio.sleep(0)


async def _fhir(house: LocalHouse) -> FhirClient:
    return house.fhir()


async def _sent(session: Replay) -> int:
    try:
        await session.connect()
        return (await session.run()).messages_acknowledged
    finally:
        await session.close()


async def _send_all(journey: Journey, facts: EdgeFacts) -> None:
    """All monitors at once; one is behind an edge that has no line until the others are done."""
    behind = facts.patient_id.replace("patient", "monitor")
    direct, edged = (
        replace(
            journey.plan,
            devices=tuple(one for one in journey.plan.devices if (one.device_id == behind) is at_edge),
            messages=tuple(one for one in journey.plan.messages if (one.device_id == behind) is at_edge),
        )
        for at_edge in (False, True)
    )
    house = journey.house
    settings = house.settings.model_copy(update={"data_dir": house.settings.data_dir / "edge"})
    bus, registry = open_bus(settings), open_registry(settings, house.clock)
    register_devices(registry, edged.devices, keys=journey.keys)
    local = HubSettings(mqtt_port=0, mqtts_port=None, http_port=None, https_port=None)
    upstream = EdgeSettings(
        local=local,
        upstream_port=house.settings.hub.mqtts_port or 0,
        upstream_certificate_file=house.settings.hub.certificate_file,
    )
    edge = Edge(bus, registry, upstream, house.clock)
    await edge.start()
    address = HubAddress("127.0.0.1", edge.hub.mqtt_port or 0)
    _, facts.sent = await asyncio.gather(
        _sent(Replay(direct, journey.keys, journey.hub)), _sent(Replay(edged, journey.keys, address))
    )
    facts.held_without_line = lag(bus_directory(settings), ForwardStage.topic, ForwardStage.group)
    facts.at_hub_without_line = house.conserve().messages.total - len(direct.messages)
    forwarding = asyncio.create_task(edge.run())
    while lag(bus_directory(settings), ForwardStage.topic, ForwardStage.group):
        await asyncio.sleep(0.1)
    facts.forwarded = edge.forwarded
    await edge.stop()
    await asyncio.gather(forwarding, return_exceptions=True)
    await bus.close()
    registry.close()
