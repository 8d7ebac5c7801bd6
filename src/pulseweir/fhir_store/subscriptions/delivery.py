"""Notifications leave the house here: one HTTP request, answered in time or failed.

An R4 Subscription with a payload makes its endpoint the base of a FHIR server and puts each resource there; without
one it is an empty POST. Source: http://hl7.org/fhir/R4/valueset-subscription-channel-type.html, rest-hook.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from pulseweir.errors import RefuseToStart, RetryLater
from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.ledger import Event, State
from pulseweir.fhir_store.subscriptions.notification import notification, status_parameters
from pulseweir.fhir_store.subscriptions.settings import SubscriptionSettings

_CONTENT_TYPE = "application/fhir+json"
_GONE = 410
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


class AuthorityUnusable(RefuseToStart):
    """The file with the authorities of endpoints cannot be read, or holds none."""


class NotificationFailed(RetryLater):
    """An endpoint did not take a notification; the Subscription's error tells why, and it is tried again.

    Attributes:
        is_lasting: Whether somebody has to do something before an attempt can go better.
        may_have_arrived: Whether the endpoint may have read it all the same.
    """

    def __init__(
        self,
        text: str,
        *,
        is_lasting: bool = False,
        may_have_arrived: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(text, retry_after_seconds=retry_after_seconds)
        self.is_lasting = is_lasting
        self.may_have_arrived = may_have_arrived


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
    def open(
        cls, base_url: str, settings: SubscriptionSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> "Sender":
        """A sender that follows no redirects and no proxy: it reaches what the operator allows, nothing else.

        Raises:
            AuthorityUnusable: The operator's authorities cannot be read.
        """
        path = settings.authority_file
        try:
            verify = ssl.create_default_context(cafile=path) if path is not None else True
        except OSError as error:
            text = f"{path} holds no authorities that can be used ({type(error).__name__}). Write it anew, as PEM."
            raise AuthorityUnusable(text) from error
        http = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False, verify=verify)
        return cls(http, base_url, settings.timeout_seconds)

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
            # The client's own time-outs are for each piece, and tidier: this one is for endpoints that drip.
            async with asyncio.timeout(2 * timeout):
                # The body of an answer is nobody's business here, however long it may be.
                async with self.http.stream(method, url, content=body, headers=headers, timeout=timeout) as answer:
                    status, wished = answer.status_code, answer.headers.get("retry-after", "")
        except TimeoutError:
            raise NotificationFailed("The endpoint did not answer in time.", may_have_arrived=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's own text may name the address, which may hold a secret.
            text = f"The endpoint did not answer ({type(error).__name__})."
            raise NotificationFailed(text, may_have_arrived=not isinstance(error, _UNSENT)) from None
        if not 200 <= status < 300:
            seconds = float(wished) if wished.isascii() and wished.isdigit() and len(wished) < 9 else None
            text = f"The endpoint answered with status {status}."
            is_gone = status == _GONE
            raise NotificationFailed(text, is_lasting=is_gone, may_have_arrived=True, retry_after_seconds=seconds)
