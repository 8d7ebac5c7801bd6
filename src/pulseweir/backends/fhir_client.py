"""Steps 5, 7, 13: any FHIR R4 server over REST, the embedded one included.

The client does not repeat requests: it sorts what went wrong, and the delivery loop decides. Transport trouble,
timeouts, 429, 5xx and answers that are no answer are `RetryLater`; other 4xx are `FhirRefused`, 409 and 412
`FhirConflict`. Every write is meant to be a PUT on a deterministic id, so that repeating one changes nothing.
Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from pulseweir.clock import real_microseconds, to_microseconds
from pulseweir.errors import FhirConflict, FhirRefused, RetryLater
from pulseweir.telemetry import FHIR_REQUEST_DURATION, FHIR_REQUESTS

Json = dict[str, Any]
Parameters = Mapping[str, str] | Sequence[tuple[str, str]]

_JSON = "application/fhir+json"
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_REPRESENTATION = {"prefer": "return=representation"}


@dataclass(frozen=True, slots=True)
class BundleAnswer:
    """What became of one entry of a batch or transaction.

    Attributes:
        status: HTTP status of the entry.
        resource: The resource, where the server sent one.
        etag: Entity tag of the stored version, such as ``W/"3"``.
        outcome: OperationOutcome, where the server sent one.
        retry_after_seconds: How long the server asked to wait.
    """

    status: int
    resource: Json | None = None
    etag: str | None = None
    outcome: Json | None = None
    retry_after_seconds: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether the entry succeeded."""
        return 200 <= self.status < 300

    @property
    def is_worth_retrying(self) -> bool:
        """Whether the same entry may succeed later."""
        return self.status in {408, 429} or self.status >= 500

    @property
    def issue_text(self) -> str:
        """What the outcome says, "" when it says nothing."""
        return outcome_text(self.outcome)


class FhirClient:
    """One FHIR R4 server.

    Args:
        base_url: FHIR base URL, such as ``http://127.0.0.1:8080/fhir``.
        transport: Another httpx transport, such as ``httpx.ASGITransport`` for a server in this process.
        headers: Sent with every request, such as Authorization.
        timeout_seconds: Longest wait for connection, sending or answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            transport=transport,
            # Some servers answer a repeated search from a cache of their own for a minute, unless told not to.
            headers={"accept": _JSON, "cache-control": "no-cache", **(headers or {})},
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=16),
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def capabilities(self) -> Json:
        """The server's CapabilityStatement.

        Raises:
            RetryLater: No usable answer; try again.
            FhirRefused: The server will not tell; check the base URL and the credentials.
        """
        return await self._resource("capabilities", "CapabilityStatement", "GET", f"{self.base_url}/metadata")

    async def read(self, resource_type: str, resource_id: str) -> Json | None:
        """The current version, None when the server has none or it was deleted.

        Raises:
            RetryLater: No usable answer; try again.
            FhirRefused: The server will not tell.
        """
        url = f"{self.base_url}/{resource_type}/{resource_id}"
        response = await self._request("read", "GET", url)
        if response.status_code in {404, 410}:
            return None
        return _resource_of(_accepted(response, resource_type), resource_type)

    async def search(self, resource_type: str, params: Parameters, limit: int | None = None) -> list[Json]:
        """All matches, page after page, included resources too, in the server's order.

        Args:
            resource_type: What to search.
            params: Search parameters; a sequence of pairs where a name repeats.
            limit: Stop after so many resources.

        Raises:
            RetryLater: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        found: list[Json] = []
        query = _query(params)
        url: str | None = f"{self.base_url}/{resource_type}" + (f"?{query}" if query else "")
        seen: set[str] = set()
        while url is not None and url not in seen:
            seen.add(url)
            bundle = await self._resource("search", "Bundle", "GET", url)
            found.extend(
                entry["resource"]
                for entry in bundle.get("entry", ())
                if "resource" in entry and entry.get("search", {}).get("mode") != "outcome"
            )
            if limit is not None and len(found) >= limit:
                return found[:limit]
            url = self._next_page(bundle)
        return found

    async def count(self, resource_type: str, params: Parameters) -> int:
        """How many resources match, by the server's own total.

        Raises:
            RetryLater: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        query = _query([*(params.items() if isinstance(params, Mapping) else params), ("_summary", "count")])
        bundle = await self._resource("search", "Bundle", "GET", f"{self.base_url}/{resource_type}?{query}")
        return int(bundle["total"])

    async def create(self, resource: Json) -> Json:
        """Store a new resource under the server's own id; returns it as stored.

        Repeating it makes another one: prefer `update` on a deterministic id.

        Raises:
            RetryLater: No usable answer; it may or may not be stored.
            FhirRefused: The server does not take the resource.
        """
        resource_type = str(resource["resourceType"])
        url = f"{self.base_url}/{resource_type}"
        return await self._resource("create", resource_type, "POST", url, resource, _REPRESENTATION)

    async def update(self, resource: Json, *, if_match: str | None = None) -> Json:
        """Store a resource under its own id; returns it as stored.

        Args:
            resource: With ``resourceType`` and ``id``.
            if_match: Entity tag or bare version that must be the current one.

        Raises:
            RetryLater: No usable answer; send it again.
            FhirConflict: Another version is there.
            FhirRefused: The server does not take the resource.
        """
        resource_type = str(resource["resourceType"])
        headers = dict(_REPRESENTATION)
        if if_match is not None:
            headers["if-match"] = if_match if '"' in if_match else f'W/"{if_match}"'
        url = f"{self.base_url}/{resource_type}/{resource['id']}"
        return await self._resource("update", resource_type, "PUT", url, resource, headers)

    async def conditional_update(self, resource: Json, params: Parameters) -> Json:
        """Update the one resource that matches, or store a new one; returns it as stored.

        Raises:
            RetryLater: No usable answer; send it again.
            FhirConflict: Several resources match.
            FhirRefused: The server does not take the resource.
        """
        resource_type = str(resource["resourceType"])
        url = f"{self.base_url}/{resource_type}?{_query(params)}"
        return await self._resource("conditional-update", resource_type, "PUT", url, resource, _REPRESENTATION)

    async def send_bundle(self, entries: Sequence[Json], type: str = "batch") -> list[BundleAnswer]:  # noqa: A002
        """Send many interactions at once; one answer an entry, in order.

        A transaction that fails as a whole answers every entry with the same status and outcome.

        Args:
            entries: ``{"request": {"method", "url", …}, "resource": {…} or msgspec.Raw}``.
            type: "batch" (each entry alone) or "transaction" (all or none).

        Raises:
            RetryLater: No usable answer; nothing is known about any entry, send the bundle again.
        """
        if not entries:
            return []
        bundle = {"resourceType": "Bundle", "type": type, "entry": list(entries)}
        response = await self._request(type, "POST", self.base_url, bundle, {"prefer": "return=minimal"})
        if response.status_code >= 400:
            refused = BundleAnswer(response.status_code, outcome=_outcome_of(response))
            return [refused] * len(entries)
        answered = _resource_of(response, "Bundle").get("entry", [])
        if len(answered) != len(entries):
            raise RetryLater("The FHIR service answered another number of entries than were sent; send them again.")
        return [_bundle_answer(entry) for entry in answered]

    def _next_page(self, bundle: Json) -> str | None:
        """The next link; relative ones, which some servers send, are taken from the base URL."""
        for link in bundle.get("link", ()):
            if link.get("relation") == "next" and link.get("url"):
                return str(httpx.URL(self.base_url + "/").join(str(link["url"])))
        return None

    async def _resource(
        self,
        interaction: str,
        resource_type: str,
        method: str,
        url: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        response = await self._request(interaction, method, url, body, headers)
        return _resource_of(_accepted(response, resource_type), resource_type)

    async def _request(
        self,
        interaction: str,
        method: str,
        url: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request; RetryLater where the world may recover."""
        sent = {**(headers or {}), **({"content-type": _JSON} if body is not None else {})}
        content = None if body is None else _ENCODER.encode(body)
        started = perf_counter()
        code = "none"
        try:
            response = await self._http.request(method, url, content=content, headers=sent)
            code = str(response.status_code)
        except httpx.HTTPError as error:
            text = f"The FHIR service did not answer ({type(error).__name__}); is it running, and is its URL right?"
            raise RetryLater(text) from None
        finally:
            FHIR_REQUESTS.labels(interaction, code).inc()
            FHIR_REQUEST_DURATION.labels(interaction).observe(perf_counter() - started)
        if response.status_code in {408, 429} or response.status_code >= 500:
            text = f"The FHIR service answered {response.status_code}: {outcome_text(_outcome_of(response))}"
            raise RetryLater(text, retry_after_seconds=_retry_after(response.headers.get("retry-after")))
        return response


def outcome_text(outcome: Json | None) -> str:
    """The sentences of an OperationOutcome, "" when there is none."""
    issues = (outcome or {}).get("issue", [])
    texts = [issue.get("details", {}).get("text") or issue.get("diagnostics") or issue.get("code") for issue in issues]
    return " ".join(str(text) for text in texts if text)[:500]


def _query(params: Parameters) -> str:
    pairs = params.items() if isinstance(params, Mapping) else params
    return urlencode(list(pairs))


def _accepted(response: httpx.Response, resource_type: str) -> httpx.Response:
    """The response when it is a success.

    Raises:
        FhirConflict: 409 or 412.
        FhirRefused: Any other refusal.
    """
    if response.status_code < 300:
        return response
    outcome = _outcome_of(response)
    kind = FhirConflict if response.status_code in {409, 412} else FhirRefused
    expressions = [path for issue in (outcome or {}).get("issue", []) for path in issue.get("expression", [])]
    text = outcome_text(outcome) or "no reason given."
    raise kind(response.status_code, resource_type, text, expression=expressions[0] if expressions else None)


def _resource_of(response: httpx.Response, resource_type: str) -> Json:
    """The resource in a success.

    Raises:
        RetryLater: The body is cut off, is no JSON, or reports an error instead of being the resource.
    """
    resource = _decoded(response)
    if resource is None:
        raise RetryLater("The FHIR service sent an answer that is no JSON object or is cut off; send it again.")
    if resource.get("resourceType") != resource_type:
        said = outcome_text(resource) if resource.get("resourceType") == "OperationOutcome" else ""
        raise RetryLater(f"The FHIR service sent something else than the {resource_type} asked for. {said}".rstrip())
    return resource


def _decoded(response: httpx.Response) -> Json | None:
    try:
        body = _DECODER.decode(response.content)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _outcome_of(response: httpx.Response) -> Json | None:
    body = _decoded(response)
    return body if body is not None and body.get("resourceType") == "OperationOutcome" else None


def _bundle_answer(entry: Json) -> BundleAnswer:
    response = entry.get("response", {})
    status = str(response.get("status", ""))[:3]
    return BundleAnswer(
        status=int(status) if status.isdigit() else 500,
        resource=entry.get("resource"),
        etag=response.get("etag"),
        outcome=response.get("outcome"),
        retry_after_seconds=_retry_after(response.get("retryAfter")),
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header in either form, None when it is neither."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        until = to_microseconds(parsedate_to_datetime(text))
    except (ValueError, TypeError):
        return None
    return max(0.0, (until - real_microseconds()) / 1_000_000)
