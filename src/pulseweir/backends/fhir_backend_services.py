"""Steps 5, 7, 13: access tokens by SMART Backend Services: a signed assertion for a token that lives for minutes.

Source: HL7 SMART App Launch 2.2, backend services,
https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html; RFC 6749, 4.4 and 5.2.
"""

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from time import monotonic, perf_counter
from typing import Any

import httpx

from pulseweir.backends.fhir_answers import Json, decoded, may_pass, retry_after
from pulseweir.backends.fhir_capabilities import token_url_of
from pulseweir.backends.fhir_credentials import FhirAccessRefused, is_safe
from pulseweir.backends.fhir_key import SigningKey
from pulseweir.clock import real_microseconds
from pulseweir.errors import FhirUnavailable
from pulseweir.telemetry import FHIR_REQUEST_DURATION, FHIR_REQUESTS

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EARLY_SECONDS = 30.0
_EARLY_SHARE = 0.2
_SILENT_SECONDS = 60.0
"""How long a token is kept whose end the server did not tell."""
_YOUNG_SECONDS = 5.0
"""A token that is refused sooner is no worse than the next one would be: asking for more helps nobody."""
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class BackendClient:
    """This house as the authorization server knows it.

    Attributes:
        client_id: As registered.
        key: Signs for it.
        scopes: What is asked for.
        token_url: The token endpoint; None takes what the FHIR service says of itself.
    """

    client_id: str
    key: SigningKey
    scopes: tuple[str, ...]
    token_url: str | None = None


@dataclass(slots=True)
class _Token:
    value: str
    since: float
    until: float


class BackendServices:
    """Tokens for one FHIR service, one at a time: whoever needs one while it is fetched waits for the same.

    Args:
        base_url: The FHIR service, asked for its token endpoint where `client` names none.
        client: Who this house is.
        transport: Another httpx transport.
        verify: Who is trusted to say who the server is.
        timeout_seconds: Longest time of one request.
        now: Seconds that only grow.
    """

    def __init__(
        self,
        base_url: str,
        client: BackendClient,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout_seconds: float = 30,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._http = httpx.AsyncClient(
            transport=transport, verify=verify, timeout=timeout_seconds, headers={"accept": "application/json"}
        )
        self._token: _Token | None = None
        self._found_url: str | None = None
        self._fetching: asyncio.Task[_Token] | None = None

    async def authorization(self) -> str:
        """The header's value with a token that still lives.

        Raises:
            FhirUnavailable: The authorization server gives no usable answer.
            FhirAccessRefused: It knows this house and gives it no token.
        """
        token = self._token
        if token is None or self._now() >= token.until:
            token = await self._fresh()
        return token.value

    async def renew(self, refused: str) -> bool:
        """Fetch another token for a refused one, unless somebody did already or it was new.

        Raises:
            FhirUnavailable: The authorization server gives no usable answer.
            FhirAccessRefused: It knows this house and gives it no token.
        """
        token = self._token
        if token is not None and token.value == refused:
            if self._now() - token.since < _YOUNG_SECONDS:
                return False
            self._token = None
        return await self.authorization() != refused

    async def close(self) -> None:
        """Let go of the connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.aclose()

    async def _fresh(self) -> _Token:
        """The token that is being fetched; shielded, because others wait for it too."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def _fetched(self, task: "asyncio.Task[_Token]") -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            self._token = task.result()

    async def _fetch(self) -> _Token:
        url = self._client.token_url or self._found_url or await self._find_url()
        asked_at = self._now()
        assertion = self._client.key.assertion(
            self._client.client_id, url, real_microseconds() // 1_000_000, secrets.token_urlsafe(24)
        )
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(self._client.scopes),
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        try:
            response = await self._ask("token", "POST", url, form)
        except FhirUnavailable:
            self._found_url = None
            raise
        return _token_in(response, asked_at)

    async def _find_url(self) -> str:
        """The token endpoint as the FHIR service names it: SMART's own document first, then the older extension."""
        for path, word in ((".well-known/smart-configuration", "discovery"), ("metadata", "capabilities")):
            response = await self._ask(word, "GET", f"{self._base_url}/{path}")
            found = token_url_of(decoded(response.content) or {}) if response.is_success else None
            if found is None:
                continue
            if not is_safe(found):
                raise FhirAccessRefused(
                    "its token endpoint is not https", "Have that corrected, or set fhir.credentials.token_url."
                )
            self._found_url = found
            return found
        raise FhirAccessRefused("it names no token endpoint", "Set fhir.credentials.token_url.")

    async def _ask(self, word: str, method: str, url: str, form: Mapping[str, Any] | None = None) -> httpx.Response:
        started, code = perf_counter(), "none"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._http.request(method, url, data=form)
            code = str(response.status_code)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise FhirUnavailable(f"({word}) did not answer ({type(error).__name__})") from None
        finally:
            FHIR_REQUESTS.labels(word, code).inc()
            FHIR_REQUEST_DURATION.labels(word).observe(perf_counter() - started)
        if may_pass(response.status_code):
            asked, date = response.headers.get("retry-after"), response.headers.get("date")
            raise FhirUnavailable(
                f"({word}) answered {response.status_code}",
                status=response.status_code,
                retry_after_seconds=retry_after(asked, date, real_microseconds()),
            )
        return response


def _token_in(response: httpx.Response, asked_at: float) -> _Token:
    """The token of an answer.

    Raises:
        FhirUnavailable: It is no such answer.
        FhirAccessRefused: It is a refusal.
    """
    body = decoded(response.content) or {}
    if not response.is_success:
        raise FhirAccessRefused(
            f"the token endpoint answered {response.status_code}{_error_code(body)}",
            "Check fhir.credentials: client_id, key_id, scopes, and that the public key is registered.",
        )
    value = body.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise FhirUnavailable("(token) sent an answer without a token")
    if str(body.get("token_type", "bearer")).lower() != "bearer":
        raise FhirAccessRefused("its tokens are no bearer tokens", "Ask for another kind of access.")
    return _Token(f"Bearer {value}", asked_at, asked_at + _lifetime(body.get("expires_in")))


def _lifetime(expires_in: object) -> float:
    """Seconds a token is used for: until a little before its end."""
    try:
        seconds = float(str(expires_in))
    except ValueError:
        return _SILENT_SECONDS
    if not isfinite(seconds):
        return _SILENT_SECONDS
    return max(0.0, seconds - min(_EARLY_SECONDS, seconds * _EARLY_SHARE))


def _error_code(body: Json) -> str:
    """OAuth's word for what is wrong; never its free text."""
    code = str(body.get("error", ""))
    return f" ({code})" if _ERROR_CODE.fullmatch(code) else ""
