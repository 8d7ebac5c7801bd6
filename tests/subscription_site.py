"""A FHIR store whose Subscriptions work when told to, an endpoint on loopback, and small Subscriptions."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.security.clients import house_token
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.subscriptions.definition import BACKPORT
from pulseweir.fhir_store.subscriptions.service import SubscriptionService

Json = dict[str, Any]
SECOND = 1_000_000
BASE = "http://fhir.test/fhir"


@dataclass
class Receiver:
    """A rest-hook endpoint on loopback.

    Attributes:
        url: Where it listens.
        requests: (method, path, headers, body) of every request it took or turned away, in order.
        status: What it answers with.
        headers: What it answers along with that.
    """

    url: str
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path, dict(request.headers), await request.body()))
        return Response(status_code=self.status, headers={"location": "http://127.0.0.1:1/elsewhere"} | self.headers)

    def bundles(self) -> list[Json]:
        return [msgspec.json.decode(body) for _, _, _, body in self.requests]

    def ids(self) -> list[str]:
        """Resource ids of what was put, in order."""
        return [path.rsplit("/", 1)[1] for method, path, _, _ in self.requests if method == "PUT"]


@dataclass
class House:
    """A store with its Subscriptions, which work when they are told to; its time stands still until moved.

    Attributes:
        directory: Where the store lies.
        settings: Of the store.
        now: Real instant, microseconds.
        is_guarded: Whether it asks who comes.
    """

    directory: Path
    settings: FhirStoreSettings
    now: int = 1_700_000_000 * SECOND
    is_guarded: bool = False
    store: FhirStore = field(init=False)
    service: SubscriptionService = field(init=False)

    async def start(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.store = FhirStore.open(self.directory, Clock(), self.settings)
        guard = Guard.open(self.store) if self.is_guarded else None
        self.service = SubscriptionService(
            self.store, BASE, guard=guard, now=lambda: self.now, transport=transport, chance=random.Random(1)
        )
        await self.service.begin()

    async def stop(self) -> None:
        await self.service.close()
        self.store.close()

    @property
    def site(self) -> Site:
        """Its clients."""
        return Site(self.store, self.directory)

    def http(self, token: str = "") -> httpx.AsyncClient:
        guard = Guard.open(self.store) if self.is_guarded else None
        headers = {"authorization": f"Bearer {token or house_token(self.directory)}"} if self.is_guarded else {}
        transport = httpx.ASGITransport(create_app(self.store, guard=guard))
        return httpx.AsyncClient(transport=transport, base_url=f"{BASE}/", headers=headers)

    async def put(self, resource: Json, token: str = "") -> httpx.Response:
        async with self.http(token) as http:
            answer = await http.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code in {200, 201}, answer.text
        return answer

    async def get(self, path: str) -> Json:
        async with self.http() as http:
            answer = await http.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def settle(self, seconds: float = 0) -> None:
        """Let time pass, then do all that is due."""
        self.now += round(seconds * SECOND)
        await self.service.settle()


def criteria_subscription(
    endpoint: str, criteria: str = "Observation?code=8867-4", *, payload: bool = True, **channel: Any
) -> Json:
    channel = {"type": "rest-hook", "endpoint": endpoint} | channel
    channel |= {"payload": "application/fhir+json"} if payload else {}
    return {
        "resourceType": "Subscription",
        "id": "s1",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": channel,
    }


def topic_subscription(
    endpoint: str, content: str = "full-resource", filters: tuple[str, ...] = (), **numbers: int
) -> Json:
    topic = "https://pulseweir.org/fhir/SubscriptionTopic/Observation"
    extensions = [
        {"url": f"{BACKPORT}/backport-{name.replace('_', '-')}", _kind(name): number}
        for name, number in numbers.items()
    ]
    found = criteria_subscription(endpoint, topic)
    found["channel"]["_payload"] = {
        "extension": [{"url": f"{BACKPORT}/backport-payload-content", "valueCode": content}]
    }
    if extensions:
        found["channel"]["extension"] = extensions
    if filters:
        url = f"{BACKPORT}/backport-filter-criteria"
        found["_criteria"] = {"extension": [{"url": url, "valueString": text} for text in filters]}
    return found


def _kind(name: str) -> str:
    return "valuePositiveInt" if name == "max_count" else "valueUnsignedInt"


def parameters(bundle: Json) -> dict[str, list[Any]]:
    """The values of a notification's status by name."""
    found: dict[str, list[Any]] = {}
    for part in bundle["entry"][0]["resource"]["parameter"]:
        value = next((value for name, value in part.items() if name.startswith("value")), part.get("part"))
        found.setdefault(part["name"], []).append(value)
    return found


def numbers(bundle: Json) -> list[str]:
    """Numbers of the events that a notification tells of."""
    return [part[0]["valueString"] for part in parameters(bundle).get("notification-event", [])]
