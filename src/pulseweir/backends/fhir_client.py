"""Steps 5, 7, 13: any FHIR R4 server over REST, the embedded one included.

The client does not repeat requests: it sorts what went wrong, and the delivery loop decides. Transport trouble,
timeouts, 429, 5xx and answers that are no answer are `FhirUnavailable`; 501 and other 4xx are `FhirRefused`, 409
and 412 `FhirConflict`. Every write is meant to be a PUT on a deterministic id, so that repeating one changes nothing.
What a server says in free text may quote a patient's data: it is never in an error that a log may show.
What another server than the embedded one cannot do is found in its CapabilityStatement and done in another way.
Source: HL7 FHIR R4, RESTful API, http://hl7.org/fhir/R4/http.html.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from urllib.parse import urlencode

import httpx

from pulseweir.backends.fhir_answers import (
    BundleAnswer,
    Json,
    bundle_answer,
    bundle_of,
    check_accepted,
    decoded,
    entity_tag,
    outcome_of,
    resource_of,
)
from pulseweir.backends.fhir_capabilities import Capabilities, capabilities_of
from pulseweir.backends.fhir_connection import FhirConnection
from pulseweir.backends.fhir_credentials import Credentials
from pulseweir.backends.fhir_house_ids import HouseIds
from pulseweir.backends.fhir_writing import EntryWriter
from pulseweir.clock import real_microseconds
from pulseweir.errors import FhirUnavailable

Parameters = Mapping[str, str] | Sequence[tuple[str, str]]

_REPRESENTATION = {"prefer": "return=representation"}
_MINIMAL = {"prefer": "return=minimal"}


class FhirVersionUnsupported(FhirUnavailable):
    """The FHIR service speaks another version than R4."""

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(f"speaks FHIR {version[:20] or 'of no version it tells'}, and this house R4 (4.0.1) only")


class FhirClient:
    """One FHIR R4 server.

    Args:
        base_url: FHIR base URL, such as ``http://127.0.0.1:8080/fhir``.
        transport: Another httpx transport, such as ``httpx.ASGITransport`` for a server in this process.
        headers: Sent with every request.
        credentials: Say who this house is.
        verify: Who is trusted to say who the server is.
        timeout_seconds: Longest time of one request, from connecting to the last byte of the answer.
        discovers: Whether the server is asked what it is before anything else is asked of it.
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
        discovers: bool = False,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._connection = FhirConnection(
            base_url,
            transport=transport,
            headers=headers,
            credentials=credentials,
            verify=verify,
            timeout_seconds=timeout_seconds,
        )
        self._is_known = not discovers
        self._knowing = asyncio.Lock()
        self._ids: HouseIds | None = None
        self._writer = EntryWriter(self, transactions=None if discovers else True)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._connection.close()

    async def discover(self) -> Capabilities:
        """What the server says it can do; from now on heeded.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirVersionUnsupported: It does not speak R4.
        """
        response = await self._connection.request("capabilities", "GET", f"{self.base_url}/metadata")
        if response.status_code >= 300:
            raise FhirUnavailable(f"answered {response.status_code} to /metadata", status=response.status_code)
        found = capabilities_of(resource_of(response.content, "CapabilityStatement"))
        if not found.is_r4:
            raise FhirVersionUnsupported(found.fhir_version)
        self._writer = EntryWriter(self, transactions=found.transaction)
        if not all(found.takes_client_ids(name) for name in found.types):
            self._ids = HouseIds(self._search_anywhere, found)
        self._is_known = True
        return found

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
        await self._know()
        if self._ids is not None:
            resource_id = await self._ids.server_id(resource_type, resource_id)
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
        """How many resources match, by the server's own total; counted page by page where it gives none.

        Raises:
            FhirUnavailable: No usable answer; try again.
            FhirRefused: The server does not take the search.
        """
        query = _query([*(params.items() if isinstance(params, Mapping) else params), ("_summary", "count")])
        bundle = await self._resource("search", "Bundle", "GET", f"{self.base_url}/{resource_type}?{query}")
        if "total" in bundle:
            return int(bundle["total"])
        pairs = [*(params.items() if isinstance(params, Mapping) else params), ("_elements", "id")]
        return sum([len(page) async for page in self.pages(resource_type, pairs)])

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
        address = f"{resource_type}/{resource['id']}"
        request = {"method": "PUT", "url": address}
        if if_match is not None:
            request["ifMatch"] = entity_tag(if_match)
        await self._know()
        entry: Json = {"request": request, "resource": resource}
        if self._ids is None:
            return (await self._stored(entry))[1]
        stored: list[Json] = []
        await self._ids.send([entry], partial(self._store_each, stored))
        return stored[-1]

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
        await self._know()
        if self._ids is None:
            return await self._post(type, entries)
        return await self._ids.send(entries, partial(self._post, type), together=type == "transaction")

    async def send_entry(self, entry: Json) -> BundleAnswer:
        """Do one bundle entry as a request of its own, for servers that take no bundles.

        Raises:
            FhirUnavailable: No usable answer; nothing is known about the entry, send it again.
        """
        await self._know()
        if self._ids is None:
            return await self._alone(entry)
        return (await self._ids.send([entry], self._each_alone))[0]

    async def write_together(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        """Write entries as one, what is referred to first: a transaction, or the nearest that the server can.

        Raises:
            FhirUnavailable: No usable answer; an unknown part is done, write all of it again.
        """
        await self._know()
        return await self._writer.together(entries)

    async def write_each(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        """Write entries that do not depend on each other: batches, or the nearest that the server can.

        Raises:
            FhirUnavailable: No usable answer; an unknown part is done, write all of it again.
        """
        await self._know()
        return await self._writer.each(entries)

    async def _know(self) -> None:
        """Ask a server that was never asked what it is; whoever comes meanwhile waits for the answer."""
        if self._is_known:
            return
        async with self._knowing:
            if not self._is_known:
                await self.discover()

    async def _search_anywhere(self, resource_type: str, params: Sequence[tuple[str, str]]) -> list[Json]:
        return await self.search(resource_type, params)

    async def _post(self, type: str, entries: Sequence[Json]) -> list[BundleAnswer]:  # noqa: A002
        bundle = {"resourceType": "Bundle", "type": type, "entry": list(entries)}
        response = await self._request(type, "POST", self.base_url, bundle, _MINIMAL)
        if response.status_code >= 300:
            refused = BundleAnswer(response.status_code, outcome=outcome_of(response.content), is_whole=True)
            return [refused] * len(entries)
        answered = bundle_of(response.content)
        if len(answered) != len(entries):
            raise FhirUnavailable("answered another number of entries than were sent")
        now = real_microseconds()
        return [bundle_answer(entry, now) for entry in answered]

    async def _each_alone(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        return [await self._alone(entry) for entry in entries]

    async def _alone(self, entry: Json) -> BundleAnswer:
        request = entry["request"]
        method = str(request["method"])
        interaction = {"GET": "read", "PUT": "update", "POST": "create"}.get(method, method.lower())
        url = f"{self.base_url}/{request['url']}"
        response = await self._request(interaction, method, url, entry.get("resource"), _MINIMAL | _conditions(request))
        body = decoded(response.content)
        is_outcome = body is not None and body.get("resourceType") == "OperationOutcome"
        if body is None and response.status_code < 300 and (response.content or method == "GET"):
            raise FhirUnavailable("sent an answer that is no JSON object or is cut off")
        return BundleAnswer(
            response.status_code,
            resource=None if is_outcome else body,
            etag=response.headers.get("etag"),
            outcome=body if is_outcome else None,
            location=response.headers.get("location"),
        )

    async def _store_each(self, stored: list[Json], entries: Sequence[Json]) -> list[BundleAnswer]:
        """Store entries of which the caller wants to see what became of them."""
        answers = []
        for entry in entries:
            status, made = await self._stored(entry)
            stored.append(made)
            answers.append(BundleAnswer(status, made))
        return answers

    async def _stored(self, entry: Json) -> tuple[int, Json]:
        """Status, and the resource of an entry as the server stored it."""
        request, kind = entry["request"], str(entry["resource"]["resourceType"])
        interaction = "create" if request["method"] == "POST" else "update"
        url, headers = f"{self.base_url}/{request['url']}", _REPRESENTATION | _conditions(request)
        response = await self._request(interaction, str(request["method"]), url, entry["resource"], headers)
        check_accepted(response.status_code, response.content, kind)
        return response.status_code, resource_of(response.content, kind)

    def _next_page(self, bundle: Json) -> str | None:
        """The next link; relative ones, which some servers send, are taken from the base URL."""
        for link in bundle.get("link", ()):
            if link.get("relation") == "next" and link.get("url"):
                return self._connection.here(str(link["url"]))
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
        await self._know()
        return await self._connection.request(interaction, method, url, body, headers)


def _conditions(request: Mapping[str, str]) -> dict[str, str]:
    """The headers that stand for the conditions of a bundle entry."""
    names = {"if-match": "ifMatch", "if-none-match": "ifNoneMatch", "if-none-exist": "ifNoneExist"}
    return {header: request[name] for header, name in names.items() if request.get(name)}


def _query(params: Parameters) -> str:
    pairs = params.items() if isinstance(params, Mapping) else params
    return urlencode(list(pairs))
