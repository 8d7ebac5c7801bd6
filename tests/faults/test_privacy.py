"""Canaries through every path, errors included: none may come out in logs, metrics, access lines or notifications."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from faults.running_house import KIND, cli, patient_setup, until
from hub_house import token_of
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, alerts
from pulseweir.clock import Clock, to_text
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.ingest.ward_setup import ward_resources, write_resources
from pulseweir.local_house import free_ports
from pulseweir.pipeline import ROLES
from pulseweir.run_files import read_ready
from pulseweir.screen_client import ScreenClient
from pulseweir.web.accounts import add_user

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

NAME, RECORD_NUMBER, PHONE, MAIL = "Zz-Canary", "MRN-77440099", "+15550177440", "zz.canary@example.org"
NUMBERS = ("31.4159265", "187.31415", "77.271828")
"""What no house says by itself: a respiratory rate, a pulse and a saturation with too many digits."""
CANARIES = ("canary", "77440099", "5550177440", "example.org", "31.4159", "187.314", "77.2718")


@dataclass
class Teams:
    """A receiver of Adaptive Cards."""

    cards: list[str] = field(default_factory=list)
    port: int = 0


@dataclass
class Watched:
    """A house run by `pulseweir up`, with everything it says."""

    directory: Path
    errors: Path
    environment: dict[str, str]
    web_port: int
    hub_port: int
    fhir: FhirClient
    repository: Repository
    teams: Teams

    async def post(self, device_id: str, body: bytes, message_id: str = "") -> int:
        registry = Registry.open(self.directory, Clock())
        device = registry.get(device_id)
        registry.close()
        assert device is not None
        headers = {"authorization": token_of(device)} | ({"iothub-messageid": message_id} if message_id else {})
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.hub_port}") as http:
            answer = await http.post(f"/devices/{device_id}/messages/events", content=body, headers=headers)
        return answer.status_code

    def ask(self, *arguments: str) -> str:
        return cli(*arguments, "--data-dir", str(self.directory)).stdout


@contextmanager
def receiving() -> Iterator[Teams]:
    """Listen for cards on loopback."""
    teams = Teams()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            teams.cards.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    teams.port = server.server_port
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield teams
    server.shutdown()
    thread.join()
    server.server_close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    mqtt, http, fhir_port, web = free_ports(4)
    with receiving() as teams:
        secret = folder / "webhook"
        secret.write_text(f"http://127.0.0.1:{teams.port}/hook")
        environment = {
            "PULSEWEIR_HUB__MQTT_PORT": str(mqtt),
            "PULSEWEIR_HUB__HTTP_PORT": str(http),
            "PULSEWEIR_FHIR__PORT": str(fhir_port),
            "PULSEWEIR_WEB__PORT": str(web),
            "PULSEWEIR_COORDINATION__TEAMS_WEBHOOK_URL_FILE": str(secret),
            "PULSEWEIR_CONNECTOR__IDENTITY_WAIT_SECONDS": "1",
            "PULSEWEIR_WINDOWS__WINDOW_SECONDS": "10",
            "PULSEWEIR_WINDOWS__GRACE_SECONDS": "1",
            "PULSEWEIR_WINDOWS__QUIET_SECONDS": "1",
        }
        arguments = [sys.executable, "-m", "pulseweir", "up", "--data-dir", str(folder / "data")]
        errors = folder / "errors.log"
        with errors.open("wb") as said:
            process = subprocess.Popen(arguments, env={**os.environ, **environment}, stdout=said, stderr=said)
        try:
            await until(lambda: all(read_ready(folder / "data", role) for role in ROLES), 60)
            fhir = FhirClient(f"http://127.0.0.1:{fhir_port}/fhir")
            repository = Repository.open(f"sqlite:///{folder / 'data' / 'repository.sqlite'}", Clock())
            yield Watched(folder / "data", errors, environment, web, http, fhir, repository, teams)
            repository.close()
            await fhir.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


async def test_no_canary_comes_out_anywhere(house: Watched) -> None:
    await admit(house)
    await go_wrong(house)
    await deteriorate(house)
    await look_at_the_screens(house)
    metrics = [await metrics_of(house, role) for role in ROLES]
    listed = house.ask("quarantine", "list", "--json")
    asked = [house.ask("status", "--json"), house.ask("conserve", "--json"), house.ask("device", "list", "--json")]

    logged = house.errors.read_text()
    waiting = outbox(house)

    assert "sender-refused" in logged
    assert house.teams.cards
    assert waiting
    assert [found_in(text) for text in waiting] == [[]] * len(waiting)
    assert found_in(logged) == []
    assert [found_in(text) for text in metrics] == [[]] * len(ROLES)
    assert [found_in(card) for card in house.teams.cards] == [[]] * len(house.teams.cards)
    assert found_in(listed) == []
    assert [found_in(text) for text in asked] == [[], [], []]


async def test_the_canaries_did_go_through(house: Watched) -> None:
    patient = await house.fhir.read("Patient", "patient-1")
    observations = await house.fhir.search("Observation", {"subject": "Patient/patient-1"})
    shown = [house.ask("quarantine", "show", row["id"], "--json") for row in quarantine(house)]

    assert patient is not None
    assert patient["name"] == [{"text": NAME}]
    assert NUMBERS[0] in msgspec.json.encode(observations).decode()
    # Only the one command that says so shows a row's own data.
    assert any(NAME in text for text in shown)


def found_in(text: str) -> list[str]:
    return [
        f"{canary}: {text[max(0, text.lower().index(canary) - 80) :][:200]}"
        for canary in CANARIES
        if canary in text.lower()
    ]


def outbox(house: Watched) -> list[str]:
    """Every entry that leaves, or left, for a channel or for FHIR."""
    with house.repository.reading() as transaction:
        return [str(tuple(row)) for row in transaction.exec_driver_sql("SELECT * FROM outbox")]


def quarantine(house: Watched) -> list[dict[str, Any]]:
    return msgspec.json.decode(house.ask("quarantine", "list", "--json"))  # type: ignore[no-any-return]


async def admit(house: Watched) -> None:
    """A patient with every kind of personal data, and devices."""
    resources = ward_resources([patient_setup("patient-1", "monitor-1", Clock(), NAME)])
    for resource in resources:
        if resource["resourceType"] == "Patient":
            resource["identifier"] = [{"system": "https://hospital.example/mrn", "value": RECORD_NUMBER}]
            resource["telecom"] = [{"system": "phone", "value": PHONE}, {"system": "email", "value": MAIL}]
    await write_resources(house.fhir, resources)
    registry = Registry.open(house.directory, Clock())
    registry.import_entries(
        DeviceEntry(name, kind) for name, kind in (("monitor-1", KIND), ("orphan-1", KIND), ("odd-1", "no-such-kind"))
    )
    registry.close()


async def go_wrong(house: Watched) -> None:
    """Every error a message can meet, each with canaries in it."""
    person = f'"name":"{NAME}","mrn":"{RECORD_NUMBER}","mail":"{MAIL}","phone":"{PHONE}"'
    text = ",".join([person, f'"heartRate":{NUMBERS[1]}'])
    now = to_text(Clock().now_microseconds())
    bodies = [
        f"{{{text}",  # no JSON
        f'"{NAME} {PHONE}"',  # no object
        "[" * 10_000 + f'"{NAME}"' + "]" * 10_000,
        f"{{{text.replace(NUMBERS[1], 'NaN')}}}",
        f'{{"device":"monitor-1","measuredAt":"{NAME}",{text}}}',
        f'{{"device":"monitor-1","measuredAt":"{now}","heartRate":"{NAME}"}}',
        f'{{"device":"monitor-1","measuredAt":"{now}","heartRate":{{"{NAME}":{NUMBERS[1]}}}}}',
        f'{{"device":"monitor-1","measuredAt":"{now}","consciousness":"{NAME}"}}',
        f'{{"device":"{NAME}-monitor","measuredAt":"{now}","heartRate":{NUMBERS[1]}}}',
        f'{{"{NAME}":"{MAIL}"}}',  # unmatched
    ]
    for body in bodies:
        assert await house.post("monitor-1", body.encode(), MAIL) in (204, 400)
        assert await house.post("monitor-1", body.encode()) in (204, 400)
    assert await house.post("monitor-1", NAME.encode() * 200_000) == 413
    for device_id in ("orphan-1", "odd-1"):
        body = f'{{"device":"{device_id}","measuredAt":"{now}",{text}}}'
        assert await house.post(device_id, body.encode()) == 204
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.hub_port}") as http:
        await http.post(f"/devices/{NAME}/messages/events", content=text, headers={"authorization": MAIL})
    for path in (f"Patient?name={NAME}&phone={PHONE}", f"Nothing/{NAME}", f"Observation?{NAME}={MAIL}"):
        async with httpx.AsyncClient() as http:
            await http.get(f"{house.fhir.base_url}/{path}")
            await http.put(f"{house.fhir.base_url}/{path}", content=f"{{{text}")
    await until(
        lambda: (
            {"not-json", "wrong-shape", "nested-too-deep", "device-unknown"}
            <= {row["reason"] for row in quarantine(house)}
        )
    )


async def deteriorate(house: Watched) -> None:
    """Canary numbers that call for help: a Flag, an alert, notifications on every channel."""

    async def is_raised() -> bool:
        vitals = dict(zip(("respiratoryRate", "heartRate", "spo2"), map(float, NUMBERS), strict=True))
        body = {"device": "monitor-1", "measuredAt": to_text(Clock().now_microseconds()), **vitals}
        await house.post("monitor-1", msgspec.json.encode(body))
        await asyncio.sleep(0.5)
        return await house.repository.read(alerts.count) > 0 and bool(house.teams.cards)

    await until(is_raised, 60)


async def look_at_the_screens(house: Watched) -> None:
    """Pages that show the patient to who may see her, wrong sign-ins, and addresses with canaries."""
    await asyncio.to_thread(add_user, house.repository, "watcher", "a long enough password", "charge-nurse")
    base = f"http://127.0.0.1:{house.web_port}"
    screen = ScreenClient(base, "watcher", "a long enough password", Clock())
    await screen._sign_in()
    page = await screen._http.get("/patients/patient-1")
    assert NAME in page.text
    for path in ("/", "/worklist", f"/patients/{NAME}", f"/?q={MAIL}", f"/alerts/{RECORD_NUMBER}"):
        await screen._http.get(path)
    form = await screen._http.get("/sign-in")
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form.text)
    fields = {"name": NAME, "password": PHONE, "csrf_token": token[1] if token else ""}
    await screen._http.post("/sign-in", data=fields, headers={"origin": base})
    await screen.close()


async def metrics_of(house: Watched, role: str) -> str:
    facts = read_ready(house.directory, role)
    assert facts is not None
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{facts['metrics_port']}/metrics")).text
