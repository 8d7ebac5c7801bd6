"""kill -9 of the FHIR service amid notifications: every event reaches a real endpoint, always under the same number."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_site import observation
from pulseweir.listening import listen
from pulseweir.local_house import free_ports
from pulseweir.run_files import read_ready
from subscription_site import numbers, parameters, topic_subscription

KILLS = 5
AT_LEAST = 120


class Endpoint:
    """Takes notifications, and turns some away.

    Attributes:
        url: Where it listens.
        told: Names of resources by the number of their event.
        clashes: Events whose number stood for another resource before.
        chance: Of turning one away.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: dict[int, str] = {}
        self.clashes: list[int] = []
        self.chance = random.Random(7)

    async def take(self, request: Request) -> Response:
        bundle = msgspec.json.decode(await request.body())
        is_refused = self.chance.random() < 0.3
        if parameters(bundle)["type"] == ["event-notification"]:
            # What it turns away it has read all the same.
            for number, entry in zip(numbers(bundle), bundle["entry"][1:], strict=True):
                # The port before the name is another after each start.
                name = entry["fullUrl"].rpartition("/")[2]
                if self.told.setdefault(int(number), name) != name:
                    self.clashes.append(int(number))
        return Response(status_code=503 if is_refused else 200)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    listener = listen()
    found = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
    app = Starlette(routes=[Route("/hook", found.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield found
    server.should_exit = True
    await serving


async def start(data_dir: Path) -> tuple[subprocess.Popen[bytes], str]:
    settings = {"RETRY_SECONDS": "0.05", "RETRY_CEILING_SECONDS": "0.2"}
    environment = os.environ | {
        f"PULSEWEIR_FHIR_STORE__SUBSCRIPTIONS__{name}": value for name, value in settings.items()
    }
    command = [sys.executable, "-m", "pulseweir", "run", "fhir", "--data-dir", str(data_dir)]
    command += ["--port", str(free_ports(1)[0])]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while (facts := read_ready(data_dir, "fhir")) is None or facts["process"] != process.pid:
        assert process.poll() is None
        await asyncio.sleep(0.02)
    return process, f"http://127.0.0.1:{facts['port']}/fhir/"


async def write(http: httpx.AsyncClient, names: list[str], turn: int) -> None:
    """Store one resource after another until the server is gone."""
    for place in range(10_000):
        name = f"o{turn}-{place}"
        try:
            answer = await http.put(f"Observation/{name}", json=observation(name))
        except httpx.TransportError:
            return
        assert answer.status_code == 201, answer.text
        names.append(name)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_kills_amid_notifications_lose_no_event_and_number_none_twice(tmp_path: Path, endpoint: Endpoint) -> None:
    chance, stored = random.Random(3), list[str]()
    process, base_url = await start(tmp_path)
    async with httpx.AsyncClient(base_url=base_url) as http:
        subscription = topic_subscription(endpoint.url, "id-only", max_count=4)
        assert (await http.put("Subscription/s1", json=subscription)).status_code == 201
        while (await http.get("Subscription/s1")).json()["status"] != "active":
            await asyncio.sleep(0.02)

    for kill in range(KILLS):
        async with httpx.AsyncClient(base_url=base_url) as http:
            writing = asyncio.create_task(write(http, stored, kill))
            goal = len(stored) + chance.randrange(20, 60)
            while len(stored) < goal:
                await asyncio.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            await writing
        process.wait()
        process, base_url = await start(tmp_path)

    async with httpx.AsyncClient(base_url=base_url) as http:
        held = (await http.get("Observation?_summary=count")).json()["total"]
        while len(endpoint.told) < held:
            await asyncio.sleep(0.02)
    process.terminate()
    process.wait()

    assert endpoint.clashes == []
    assert sorted(endpoint.told) == list(range(1, held + 1))
    assert set(stored) <= set(endpoint.told.values())
    assert len(set(endpoint.told.values())) == held
