from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.listening import listen
from subscription_site import House, Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    listener = listen()
    found = Receiver(f"http://127.0.0.1:{listener.getsockname()[1]}")
    app = Starlette(routes=[Route("/{path:path}", found.take, methods=["POST", "PUT", "GET"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield found
    server.should_exit = True
    await serving


@pytest.fixture
async def make_house(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[House] = []

    async def make(
        transport: httpx.AsyncBaseTransport | None = None, *, is_guarded: bool = False, **settings: Any
    ) -> House:
        house = House(tmp_path / "fhir", FhirStoreSettings(**settings), is_guarded=is_guarded)
        await house.start(transport)
        made.append(house)
        return house

    yield make
    for house in made:
        await house.stop()


@pytest.fixture
async def house(make_house: Callable[..., Any]) -> House:
    made: House = await make_house()
    return made


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    opened: list[FhirStore] = []

    def make(**settings: Any) -> Site:
        store = FhirStore.open(tmp_path / "site", Clock(), FhirStoreSettings(**settings))
        opened.append(store)
        return Site(store, tmp_path / "site")

    yield make
    for store in opened:
        store.close()
