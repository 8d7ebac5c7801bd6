"""Step 1: the hub: devices in, durable messages on the bus out."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from pulseweir.backends.bus.base import Bus
from pulseweir.clock import Clock
from pulseweir.errors import ListenerUnavailable, PlainListenerExposed
from pulseweir.ingest.hub.arrivals import Arrivals
from pulseweir.ingest.hub.certificates import server_context
from pulseweir.ingest.hub.gate import Gate
from pulseweir.ingest.hub.http_endpoint import HttpEndpoint
from pulseweir.ingest.hub.mqtt_endpoint import MqttEndpoint
from pulseweir.ingest.hub.registry import Registry, note_activity
from pulseweir.ingest.hub.settings import HubSettings, is_loopback

Listen = Callable[[str, int, ssl.SSLContext | None], Awaitable[int]]


class Hub:
    """Takes device messages over MQTT and HTTPS and acknowledges those that are durable on the bus.

    Attributes:
        mqtt_port: Port of MQTT without TLS, None while closed.
        mqtts_port: Port of MQTT over TLS, None while closed.
        http_port: Port of HTTP without TLS, None while closed.
        https_port: Port of HTTPS, None while closed.
    """

    def __init__(self, bus: Bus, registry: Registry, settings: HubSettings, clock: Clock) -> None:
        self._registry = registry
        self._settings = settings
        gate = Gate(registry, settings)
        self._arrivals = Arrivals(bus, settings, clock)
        self._mqtt = MqttEndpoint(gate, self._arrivals, settings)
        self._http = HttpEndpoint(gate, self._arrivals, settings)
        self._commits: asyncio.Task[None] | None = None
        self._watches: list[asyncio.Task[None]] = []
        self.mqtt_port: int | None = None
        self.mqtts_port: int | None = None
        self.http_port: int | None = None
        self.https_port: int | None = None

    async def start(self) -> None:
        """Open the listeners; TLS ones only with a certificate.

        Raises:
            PlainListenerExposed: A plain listener would be reachable from other machines.
            ListenerUnavailable: A port is taken or forbidden.
            CertificateUnusable: See `certificates.server_context`.
        """
        settings = self._settings
        if not is_loopback(settings.plain_address):
            raise PlainListenerExposed(settings.plain_address)
        tls = None
        if settings.certificate_file and settings.private_key_file:
            tls = server_context(settings.certificate_file, settings.private_key_file)
        self._commits = asyncio.create_task(self._arrivals.run())
        self._watches = [asyncio.create_task(self._mqtt.sweep()), asyncio.create_task(self._store_activity())]
        try:
            await self._open_listeners(tls)
        except ListenerUnavailable:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return when the hub was stopped; raise what made it fail."""
        tasks = [task for task in (self._commits, *self._watches) if task is not None]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Take nothing new, store what was taken, acknowledge it, close.

        Messages read but not stored are not acknowledged: their senders send them again.
        """
        self._mqtt.close_listeners()
        await self._http.close()
        self._arrivals.stop()
        ended = await asyncio.gather(*filter(None, [self._commits]), return_exceptions=True)
        self._mqtt.close_connections()
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._note_activity()
        for failure in filter(None, ended):
            raise failure

    async def _open_listeners(self, tls: ssl.SSLContext | None) -> None:
        settings = self._settings
        self.mqtt_port = await _open(self._mqtt.listen, settings.plain_address, settings.mqtt_port, None)
        self.http_port = await _open(self._http.listen, settings.plain_address, settings.http_port, None)
        if tls is not None:
            self.mqtts_port = await _open(self._mqtt.listen, settings.tls_address, settings.mqtts_port, tls)
            self.https_port = await _open(self._http.listen, settings.tls_address, settings.https_port, tls)

    async def _store_activity(self) -> None:
        while True:
            await asyncio.sleep(self._settings.activity_seconds)
            await self._note_activity()

    async def _note_activity(self) -> None:
        heard = self._arrivals.take_heard()
        if heard:
            seen: dict[str, tuple[int, int | None]] = {device_id: (at, at) for device_id, at in heard.items()}
            await asyncio.to_thread(note_activity, self._registry.path, seen)


async def _open(listen: Listen, address: str, port: int | None, tls: ssl.SSLContext | None) -> int | None:
    if port is None:
        return None
    try:
        return await listen(address, port, tls)
    except OSError as error:
        raise ListenerUnavailable(address, port, error.strerror or type(error).__name__) from error
