"""Steps 5, 7, 13: requests to one FHIR server: with the credentials, to its own origin only, counted and timed.

Transport trouble, timeouts, redirects, 429, 5xx are `FhirUnavailable`; every other answer is the caller's to read. A
request that was answered 401 was not carried out: it is sent once more when there are other credentials by then.
"""

import asyncio
import ssl
from collections.abc import Mapping
from time import perf_counter

import httpx
import msgspec

from pulseweir.backends.fhir_answers import Json, issue_codes, may_pass, outcome_of, retry_after
from pulseweir.backends.fhir_credentials import Credentials
from pulseweir.clock import real_microseconds
from pulseweir.errors import FhirUnavailable
from pulseweir.telemetry import FHIR_REQUEST_DURATION, FHIR_REQUESTS

FHIR_JSON = "application/fhir+json"
_UNAUTHORIZED = 401
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})
"""Redirects, which say nothing about what was sent: a page of maintenance, a portal, a server that has moved."""
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class FhirLinkElsewhere(FhirUnavailable):
    """The FHIR service's links lead to another host, so that only first pages can be read.

    Attributes:
        host: Where the link leads.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(f"gave a link to another host, {host}, which is not followed")


class FhirConnection:
    """One FHIR server as HTTP.

    Args:
        base_url: FHIR base URL.
        transport: Another httpx transport.
        headers: Sent with every request.
        credentials: Say who this house is.
        verify: Who is trusted to say who the server is.
        timeout_seconds: Longest time of one request, from connecting to the last byte of the answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout_seconds: float = 30,
    ) -> None:
        self._base = httpx.URL(base_url.rstrip("/") + "/")
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=verify,
            # Some servers answer a repeated search from a cache of their own for a minute, unless told not to.
            headers={"accept": FHIR_JSON, "cache-control": "no-cache", **(headers or {})},
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=16),
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()
        if self._credentials is not None:
            await self._credentials.close()

    def here(self, link: str) -> str:
        """A link that the server gave, as an address at the configured origin.

        Relative ones are taken from the base URL. A server behind a proxy may not know under which scheme and port it
        is reached: of its own host only path and query count.

        Raises:
            FhirLinkElsewhere: The link leads to another host, which gets neither the request nor the credentials.
        """
        try:
            found = self._base.join(link)
        except httpx.InvalidURL:
            raise FhirUnavailable("gave a link that is none") from None
        if found.host != self._base.host:
            raise FhirLinkElsewhere(found.host)
        # Path and query only: a name and a password in a link would go out in place of the credentials.
        return str(self._base.copy_with(raw_path=found.raw_path))

    async def request(
        self,
        interaction: str,
        method: str,
        url: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request.

        Args:
            interaction: Under which it is counted.
            method: HTTP method.
            url: Absolute.
            body: FHIR resource.
            headers: Besides the common ones.

        Raises:
            FhirUnavailable: No answer, or one that says to come again.
            RetryLater: The credentials cannot be had now.
        """
        sent = {**(headers or {}), **({"content-type": FHIR_JSON} if body is not None else {})}
        content = None if body is None else _ENCODER.encode(body)
        if self._credentials is None:
            return await self._send(interaction, method, url, content, sent)
        value = await self._credentials.authorization()
        answer = await self._send(interaction, method, url, content, sent | {"authorization": value})
        if answer.status_code != _UNAUTHORIZED or not await self._credentials.renew(value):
            return answer
        value = await self._credentials.authorization()
        return await self._send(interaction, method, url, content, sent | {"authorization": value})

    async def _send(
        self, interaction: str, method: str, url: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        started = perf_counter()
        code = "none"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._http.request(method, url, content=content, headers=headers)
            code = str(response.status_code)
        except (httpx.HTTPError, TimeoutError) as error:
            raise FhirUnavailable(f"did not answer ({type(error).__name__})") from None
        finally:
            FHIR_REQUESTS.labels(interaction, code).inc()
            FHIR_REQUEST_DURATION.labels(interaction).observe(perf_counter() - started)
        if response.status_code in _ELSEWHERE:
            cause = f"answered {response.status_code}, and redirects are not followed"
            raise FhirUnavailable(cause, status=response.status_code)
        if may_pass(response.status_code):
            codes = issue_codes(outcome_of(response.content))
            raise FhirUnavailable(
                f"answered {response.status_code}{codes}",
                status=response.status_code,
                retry_after_seconds=retry_after(
                    response.headers.get("retry-after"), response.headers.get("date"), real_microseconds()
                ),
            )
        return response
