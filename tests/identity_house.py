"""Identity resolution in front of an embedded FHIR store in this process, with clocks that stand still."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock, to_text
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.change_count import FILE_NAME, read_change_count
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.identity import Identity
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM

Json = dict[str, Any]
SECOND = 1_000_000


def at(text: str) -> int:
    """An instant of the day all these tests play on."""
    return parse_instant(f"2030-05-01T{text}:00Z")


class IdentityHouse:
    """A FHIR store, the requests it was sent, and clocks to set.

    Attributes:
        fhir: Client of the store.
        requests: ``GET Device?identifier=…`` and so on, in order, query values decoded.
        seconds: Monotonic seconds of every `identity`.
        now: Their clock, microseconds.
    """

    def __init__(self, directory: Path) -> None:
        self.store = FhirStore.open(directory, Clock())
        self.requests: list[str] = []
        self.seconds = 0.0
        self.now = at("12:00")
        self._application = httpx.ASGITransport(create_app(self.store))
        self._count = directory / FILE_NAME
        self._recorder = _Recorder(self._application, self.requests)
        self.fhir = FhirClient("http://store/fhir", transport=self._recorder)

    def identity(self, *, told: bool = True, **settings: Any) -> Identity:
        """A new memory; `told` of changes as beside the embedded store, or not, as with another server."""
        return Identity(
            self.fhir,
            IdentitySettings(**settings),
            monotonic=lambda: self.seconds,
            clock=lambda: self.now,
            changes=(lambda: read_change_count(self._count)) if told else None,
        )

    async def put(self, resource_type: str, resource_id: str, **members: Any) -> Json:
        """Store a resource."""
        return await self.fhir.update({"resourceType": resource_type, "id": resource_id, **members})

    async def add_device(self, device_id: str, resource_id: str | None = None, patient: str | None = None) -> None:
        """Store a Device of the usual system; its FHIR id is ``fhir-`` and its device id."""
        own = {"patient": {"reference": f"Patient/{patient}"}} if patient else {}
        identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device_id}]
        await self.put("Device", resource_id or f"fhir-{device_id}", identifier=identifier, **own)

    async def add_use(
        self, use_id: str, device_id: str, patient: str, start: str | None = None, end: str | None = None
    ) -> None:
        """Store a DeviceUseStatement; times of day, None for an open end."""
        ends = {"start": start, "end": end}
        await self.put(
            "DeviceUseStatement",
            use_id,
            status="active",
            subject={"reference": f"Patient/{patient}"},
            device={"reference": f"Device/fhir-{device_id}"},
            timingPeriod={name: to_text(at(text)) for name, text in ends.items() if text},
        )

    async def add_encounter(self, encounter_id: str, identifier: str, patient: str) -> None:
        """Store an Encounter of a patient."""
        await self.put(
            "Encounter",
            encounter_id,
            identifier=[{"value": identifier}],
            status="in-progress",
            subject={"reference": f"Patient/{patient}"},
            **{"class": {"code": "IMP"}},
        )

    def before_next(self, method: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do something once, when the next request of this method has been sent and has not yet arrived."""
        self._recorder.waiting.append((method, work))

    async def close(self) -> None:
        """Let go of client and store."""
        await self.fhir.close()
        self.store.close()


class _Recorder(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, requests: list[str]) -> None:
        self._inner = inner
        self._requests = requests
        self.waiting: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/fhir/")
        pairs = "&".join(f"{name}={value}" for name, value in request.url.params.items() if name != "_count")
        self._requests.append(f"{request.method} {path}" + (f"?{pairs}" if pairs else ""))
        if self.waiting and self.waiting[0][0] == request.method:
            await self.waiting.pop(0)[1]()
        return await self._inner.handle_async_request(request)
