"""Steps 5, 7, 13: any FHIR R4 server over REST, the embedded one included.

The client does not repeat requests: it sorts what went wrong, and the delivery loop decides. Transport trouble,
timeouts, 429, 5xx and answers that are no answer are `FhirUnavailable`; 501 and other 4xx are `FhirRefused`, 409
and 412 `FhirConflict`. Every write is meant to be a PUT on a deterministic id, so that repeating one changes nothing.
What a server says in free text may quote a patient's data: it is never in an error that a log may show.
Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from time import perf_counter
from urllib.parse import urlencode

import httpx
import msgspec

from pulseweir.backends.fhir_answers import (
    BundleAnswer,
    Json,
    bundle_answer,
    bundle_of,
    check_accepted,
    decoded,
    issue_codes,
    may_pass,
    outcome_of,
    resource_of,
    retry_after,
)
from pulseweir.clock import real_microseconds
from pulseweir.errors import FhirUnavailable
from pulseweir.telemetry import FHIR_REQUEST_DURATION, FHIR_REQUESTS

Parameters = Mapping[str, str] | Sequence[tuple[str, str]]

_JSON = "application/fhir+json"
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_REPRESENTATION = {"prefer": "return=representation"}


class FhirClient:
    """One FHIR R4 server.

    Args:
        base_url: FHIR base URL, such as ``http://127.0.0.1:8080/fhir``.
        transport: Another httpx transport, such as ``httpx.ASGITransport`` for a server in this process.
        headers: Sent with every request, such as Authorization.
        timeout_seconds: Longest time of one request, from connecting to the last byte of the answer.
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
        self._timeout_seconds = timeout_seconds
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
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server will not tell; check the base URL and the credentials.
        """
        return await self._resource("capabilities", "CapabilityStatement", "GET", f"{self.base_url}/metadata")

    async def read(self, resource_type: str, resource_id: str) -> Json | None:
        """The current version, None when the server has none or it was deleted.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server will not tell.
        """
        url = f"{self.base_url}/{resource_type}/{resource_id}"
        response = await self._request("read", "GET", url)
        if response.status_code in {404, 410}:
            return None
        check_accepted(response.status_code, response.content, resource_type)
        return resource_of(response.content, resource_type)

    async def search(self, resource_type: str, params: Parameters, limit: int | None = None) -> list[Json]:
        """All matches, page after page, included resources too, in the server's order.

        Args:
            resource_type: What to search.
            params: Search parameters; a sequence of pairs where a name repeats.
            limit: Stop after so many resources.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        found: list[Json] = []
        async for page in self.pages(resource_type, params):
            found.extend(page)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def pages(self, resource_type: str, params: Parameters) -> AsyncIterator[list[Json]]:
        """The matches of a search page by page, for results too many to hold at once.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        query = _query(params)
        url: str | None = f"{self.base_url}/{resource_type}" + (f"?{query}" if query else "")
        seen: set[str] = set()
        while url is not None and url not in seen:
            seen.add(url)
            bundle = await self._resource("search", "Bundle", "GET", url)
            yield [
                entry["resource"]
                for entry in bundle.get("entry", ())
                if "resource" in entry and entry.get("search", {}).get("mode") != "outcome"
            ]
            url = self._next_page(bundle)

    async def count(self, resource_type: str, params: Parameters) -> int:
        """How many resources match, by the server's own total.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        query = _query([*(params.items() if isinstance(params, Mapping) else params), ("_summary", "count")])
        bundle = await self._resource("search", "Bundle", "GET", f"{self.base_url}/{resource_type}?{query}")
        return int(bundle["total"])

    async def create(self, resource: Json) -> Json:
        """Store a new resource under the server's own id; returns it as stored.

        Repeating it makes another one: prefer `update` on a deterministic id.

        Raises:
            FhirUnavailable: No usable answer; it may or may not be stored.
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
            FhirUnavailable: No usable answer; send it again.
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
            FhirUnavailable: No usable answer; send it again.
            FhirConflict: Several resources match.
            FhirRefused: The server does not take the resource.
        """
        resource_type = str(resource["resourceType"])
        url = f"{self.base_url}/{resource_type}?{_query(params)}"
        return await self._resource("conditional-update", resource_type, "PUT", url, resource, _REPRESENTATION)

    async def send_bundle(self, entries: Sequence[Json], type: str = "batch") -> list[BundleAnswer]:  # noqa: A002
        """Send many interactions at once; one answer an entry, in order.

        A bundle that is refused as a whole answers every entry with the same status and outcome.

        Args:
            entries: ``{"request": {"method", "url", …}, "resource": {…} or msgspec.Raw}``.
            type: "batch" (each entry alone) or "transaction" (all or none).

        Raises:
            FhirUnavailable: No usable answer; nothing is known about any entry, send the bundle again.
        """
        if not entries:
            return []
        bundle = {"resourceType": "Bundle", "type": type, "entry": list(entries)}
        response = await self._request(type, "POST", self.base_url, bundle, {"prefer": "return=minimal"})
        if response.status_code >= 400:
            refused = BundleAnswer(response.status_code, outcome=outcome_of(response.content), is_whole=True)
            return [refused] * len(entries)
        answered = bundle_of(response.content)
        if len(answered) != len(entries):
            raise FhirUnavailable("answered another number of entries than were sent")
        now = real_microseconds()
        return [bundle_answer(entry, now) for entry in answered]

    async def send_entry(self, entry: Json) -> BundleAnswer:
        """Do one bundle entry as a request of its own, for servers that take no bundles.

        Raises:
            FhirUnavailable: No usable answer; nothing is known about the entry, send it again.
        """
        request = entry["request"]
        conditions = {"if-match": request.get("ifMatch"), "if-none-match": request.get("ifNoneMatch")}
        headers = {"prefer": "return=minimal"} | {name: text for name, text in conditions.items() if text}
        method = str(request["method"])
        interaction = {"GET": "read", "PUT": "update"}.get(method, method.lower())
        url = f"{self.base_url}/{request['url']}"
        response = await self._request(interaction, method, url, entry.get("resource"), headers)
        body = decoded(response.content)
        is_outcome = body is not None and body.get("resourceType") == "OperationOutcome"
        if body is None and response.status_code < 300 and (response.content or method == "GET"):
            raise FhirUnavailable("sent an answer that is no JSON object or is cut off")
        return BundleAnswer(
            response.status_code,
            resource=None if is_outcome else body,
            etag=response.headers.get("etag"),
            outcome=body if is_outcome else None,
        )

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
        check_accepted(response.status_code, response.content, resource_type)
        return resource_of(response.content, resource_type)

    async def _request(
        self,
        interaction: str,
        method: str,
        url: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request: FhirUnavailable where the world may recover."""
        sent = {**(headers or {}), **({"content-type": _JSON} if body is not None else {})}
        content = None if body is None else _ENCODER.encode(body)
        started = perf_counter()
        code = "none"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._http.request(method, url, content=content, headers=sent)
            code = str(response.status_code)
        except (httpx.HTTPError, TimeoutError) as error:
            raise FhirUnavailable(f"did not answer ({type(error).__name__})") from None
        finally:
            FHIR_REQUESTS.labels(interaction, code).inc()
            FHIR_REQUEST_DURATION.labels(interaction).observe(perf_counter() - started)
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


def _query(params: Parameters) -> str:
    pairs = params.items() if isinstance(params, Mapping) else params
    return urlencode(list(pairs))
