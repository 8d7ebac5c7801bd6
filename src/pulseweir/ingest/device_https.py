"""Step 1: the sending side of a device over HTTPS, with the face of `device_client.MqttDevice`."""

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import quote

import httpx

from pulseweir.errors import HubRefusedDevice, HubUnreachable, RejectRecord
from pulseweir.ingest.device_client import (
    API_VERSION,
    DEFAULT_OPTIONS,
    DeviceOptions,
    HubAddress,
    SendingCounts,
    check_size,
    pause_seconds,
    sas_token,
)


class HttpsDevice:
    """One device over HTTPS POST: each `send` returns with the message acknowledged."""

    def __init__(
        self,
        hub: HubAddress,
        device_id: str,
        key: str,
        options: DeviceOptions = DEFAULT_OPTIONS,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.device_id = device_id
        self.counts = SendingCounts()
        self._hub = hub
        self._key = key
        self._options = options
        scheme = "http" if hub.tls is None else "https"
        self._url = f"{scheme}://{hub.host}:{hub.https_port}/devices/{quote(device_id, safe='')}/messages/events"
        self._http = httpx.AsyncClient(
            verify=hub.tls if hub.tls is not None else True, transport=transport, trust_env=False, timeout=30
        )
        self._token = ""
        self._token_ends = 0.0

    async def connect(self) -> None:
        """Nothing to do: every message stands alone."""

    async def send(self, body: bytes, message_id: str, properties: Mapping[str, str] | None = None) -> None:
        """Send one message and wait for its acknowledgement, trying again while the hub may recover.

        Raises:
            RejectRecord: The hub will never take this message.
            HubRefusedDevice: The hub knows no such device or key.
            HubUnreachable: Only with `give_up_seconds`.
        """
        check_size(self.device_id, body)
        sent_at = self.counts.count_sent()
        failures = 0
        while not await self._delivered(body, message_id, properties or {}):
            failures += 1
            limit = self._options.give_up_seconds
            if limit is not None and time.monotonic() - sent_at >= limit:
                raise HubUnreachable(self.device_id, self._hub.host, self._hub.https_port or 0, limit)
            await asyncio.sleep(pause_seconds(failures))
        self.counts.count_acknowledged(sent_at)

    async def drain(self) -> None:
        """Nothing is ever in flight after `send`."""

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _delivered(self, body: bytes, message_id: str, properties: Mapping[str, str]) -> bool:
        headers = {
            "Authorization": self._authorization(),
            "Content-Type": "application/json; charset=utf-8",
            "iothub-messageid": message_id,
        } | {f"iothub-app-{name}": text for name, text in properties.items()}
        try:
            answer = await self._http.post(
                self._url, params={"api-version": API_VERSION}, content=body, headers=headers
            )
        except httpx.TransportError:
            return False
        if answer.status_code in (401, 403, 404):
            raise HubRefusedDevice(self.device_id, answer.status_code)
        if answer.status_code == 429 or answer.status_code >= 500:
            return False
        if not answer.is_success:
            raise RejectRecord(
                f"The hub refused a message of device {self.device_id} with status {answer.status_code}.",
                reason="refused-by-hub",
            )
        return True

    def _authorization(self) -> str:
        if time.monotonic() >= self._token_ends:
            life = self._options.token_seconds
            self._token = sas_token(self._hub.host_name, self.device_id, self._key, life)
            self._token_ends = time.monotonic() + life / 2
        return self._token
