"""Notifications leave the house here: one HTTP request, answered in time or failed.

An R4 Subscription with a payload makes its endpoint the base of a FHIR server and puts each resource there; without
one it is an empty POST. Source: http://hl7.org/fhir/R4/valueset-subscription-channel-type.html, rest-hook.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from pulseweir.errors import RetryLater
from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.ledger import Event, State
from pulseweir.fhir_store.subscriptions.notification import notification, status_parameters

_CONTENT_TYPE = "application/fhir+json"


class NotificationFailed(RetryLater):
    """An endpoint did not take a notification; the Subscription's error tells why, and it is tried again."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends notifications.

    Attributes:
        http: The client.
        base_url: FHIR base URL of this server.
        timeout_seconds: Longest wait for an answer, when the Subscription says nothing shorter.
    """

    http: httpx.AsyncClient
    base_url: str
    timeout_seconds: float

    @classmethod
    def open(cls, base_url: str, timeout_seconds: float, transport: httpx.AsyncBaseTransport | None = None) -> "Sender":
        """A sender that follows no redirects and no proxy: it reaches what the operator allows, nothing else."""
        http = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
        return cls(http, base_url, timeout_seconds)

    async def send(self, definition: Definition, state: State, now: int, kind: str, events: Sequence[Event]) -> None:
        """Tell an endpoint of events, or of none by a handshake or a heartbeat.

        Raises:
            NotificationFailed: It did not take them.
        """
        if definition.topic:
            content = definition.content
            status = status_parameters(state, self.base_url, definition.topic, kind, events, content)
            body = notification(status, state, self.base_url, now, events, content)
            await self._request(definition, "POST", definition.endpoint, body)
        elif definition.content == "empty":
            await self._request(definition, "POST", definition.endpoint, b"")
        else:
            for event in events:
                stored = event.stored
                url = f"{definition.endpoint.rstrip('/')}/{stored.resource_type}/{stored.resource_id}"
                await self._request(definition, "PUT", url, stored.text())

    async def _request(self, definition: Definition, method: str, url: str, body: bytes) -> None:
        headers = [*definition.headers, *([("content-type", _CONTENT_TYPE)] if body else [])]
        timeout = min(self.timeout_seconds, definition.timeout_seconds or self.timeout_seconds)
        try:
            # The body of an answer is nobody's business here, however long it may be.
            async with self.http.stream(method, url, content=body, headers=headers, timeout=timeout) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's own text may name the address, which may hold a secret.
            raise NotificationFailed(f"The endpoint did not answer ({type(error).__name__}).") from None
        if not 200 <= status < 300:
            raise NotificationFailed(f"The endpoint answered with status {status}.")
