"""FHIR servers that can do less than the embedded one and say so, as transports in front of it."""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
Forward = Callable[[httpx.Request], Awaitable[httpx.Response]]
BASE = "http://limited.test/fhir"
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-supported"}]}


class Limited(httpx.AsyncBaseTransport):
    """The embedded store without some of what it can do.

    Args:
        store: What answers in the end.
        lacking: Of ``client-ids``, ``if-none-exist``, ``transaction``, ``batch``, ``versions``, ``total``.
        says: Whether its CapabilityStatement admits to lacking transactions and batches.
        most: Entries of a Bundle at most.
        too_many: Status for a Bundle with more.
    """

    def __init__(
        self, store: FhirStore, *lacking: str, says: bool = True, most: int | None = None, too_many: int = 413
    ) -> None:
        self._store = httpx.ASGITransport(create_app(store))
        self._lacking = lacking
        self._says = says
        self._most = most
        self._too_many = too_many
        self._numbers = itertools.count(1)
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        bundle = _bundle_in(request)
        if request.url.path.endswith("/metadata"):
            return await self._statement(request)
        if bundle is not None:
            return await self._answer_bundle(bundle)
        refused = await self._refusal(request.method, request.url.path.removeprefix("/fhir/"))
        return refused or await self._passed_on(request)

    async def _passed_on(self, request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        if "if-none-exist" in self._lacking:
            headers.pop("if-none-exist", None)
        if "versions" in self._lacking:
            assert "if-match" not in headers
        headers.pop("content-length", None)
        method, url, content = request.method, str(request.url), request.content
        if method == "POST" and "_search" not in url and "client-ids" in self._lacking:
            return await self._create(url, headers, msgspec.json.decode(content))
        return self._dimmed(await self._ask(httpx.Request(method, url, headers=headers, content=content)))

    async def _create(self, url: str, headers: dict[str, str], resource: Json) -> httpx.Response:
        """Stored under an id that nobody could have guessed, as such servers do."""
        criteria = headers.pop("if-none-exist", None)
        assert "id" not in resource
        if criteria is not None:
            found = (await self._ask(httpx.Request("GET", f"{url}?{criteria}"))).json().get("entry", [])
            if found:
                there = found[0]["resource"]
                where = {"location": f"{url}/{there['id']}/_history/1"}
                return httpx.Response(200, json=there, headers=where)
        name = f"s{next(self._numbers)}"
        content = msgspec.json.encode(resource | {"id": name})
        return self._dimmed(await self._ask(httpx.Request("PUT", f"{url}/{name}", headers=headers, content=content)))

    async def _refusal(self, method: str, path: str) -> httpx.Response | None:
        if method != "PUT" or "client-ids" not in self._lacking:
            return None
        there = await self._ask(httpx.Request("GET", f"{BASE}/{path}"))
        return None if there.status_code == 200 else httpx.Response(405, json=OUTCOME)

    async def _answer_bundle(self, bundle: Json) -> httpx.Response:
        entries = bundle["entry"]
        if bundle["type"] in self._lacking:
            return httpx.Response(400, json=OUTCOME)
        if self._most is not None and len(entries) > self._most:
            return httpx.Response(self._too_many)
        if bundle["type"] == "transaction" and "client-ids" not in self._lacking:
            return self._dimmed(await self._ask(_posted(bundle)))
        names: dict[str, str] = {}
        in_order = sorted(entries, key=lambda each: each["request"]["method"] != "POST")
        inner = {id(entry): await self._answer_entry(entry, names) for entry in in_order}
        body = {
            "resourceType": "Bundle",
            "type": f"{bundle['type']}-response",
            "entry": [inner[id(e)] for e in entries],
        }
        return httpx.Response(200, json=body)

    async def _answer_entry(self, entry: Json, names: dict[str, str]) -> Json:
        request = entry["request"]
        text = msgspec.json.encode(entry.get("resource")).decode()
        for temporary, name in names.items():
            text = text.replace(f'"{temporary}"', f'"{name}"')
        conditions = {"if-match": "ifMatch", "if-none-match": "ifNoneMatch", "if-none-exist": "ifNoneExist"}
        headers = {header: request[name] for header, name in conditions.items() if request.get(name)}
        headers["content-type"] = "application/fhir+json"
        content = None if request["method"] == "GET" else text.encode()
        alone = httpx.Request(request["method"], f"{BASE}/{request['url']}", headers=headers, content=content)
        answer = await self._refusal(request["method"], request["url"]) or await self._passed_on(alone)
        location = answer.headers.get("location")
        if location and entry.get("fullUrl"):
            names[entry["fullUrl"]] = "/".join(location.split("/_history")[0].split("/")[-2:])
        response = {"status": str(answer.status_code), "location": location, "etag": answer.headers.get("etag")}
        made: Json = {"response": {name: value for name, value in response.items() if value}}
        if answer.status_code >= 400:
            made["response"]["outcome"] = answer.json()
        elif request["method"] == "GET":
            made["resource"] = msgspec.Raw(answer.content)
        return msgspec.json.decode(msgspec.json.encode(made))  # type: ignore[no-any-return]

    async def _statement(self, request: httpx.Request) -> httpx.Response:
        statement = (await self._ask(httpx.Request("GET", str(request.url)))).json()
        rest = statement["rest"][0]
        if self._says:
            rest["interaction"] = [one for one in rest["interaction"] if one["code"] not in self._lacking]
        else:
            del rest["interaction"]
        for described in rest["resource"]:
            described["updateCreate"] = described["updateCreate"] and "client-ids" not in self._lacking
            described["conditionalCreate"] = "if-none-exist" not in self._lacking
            described["versioning"] = "no-version" if "versions" in self._lacking else "versioned-update"
        return httpx.Response(200, json=statement)

    def _dimmed(self, answer: httpx.Response) -> httpx.Response:
        """The answer without what such a server does not keep or count."""
        content, headers = answer.content, dict(answer.headers)
        headers.pop("content-length", None)
        if "versions" in self._lacking:
            headers.pop("etag", None)
            content = re.sub(rb'"versionId":\s*"[^"]*",?\s*', b"", content)
            content = re.sub(rb'"etag":\s*"W/\\"\d+\\"",?\s*', b"", content)
        if "total" in self._lacking:
            content = re.sub(rb'"total":\s*\d+,?\s*', b"", content)
        return httpx.Response(answer.status_code, content=content, headers=headers)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._store.handle_async_request(request)
        await answer.aread()
        return answer


@contextmanager
def limited_server(folder: Path, *lacking: str, **limits: Any) -> Iterator[tuple[FhirClient, FhirClient, Limited]]:
    """The house's client of such a server, one of the whole store behind it, and the transport between."""
    store = FhirStore.open(folder, Clock())
    transport = Limited(store, *lacking, **limits)
    try:
        yield (
            FhirClient(BASE, transport=transport, discovers=True),
            FhirClient(BASE, transport=httpx.ASGITransport(create_app(store))),
            transport,
        )
    finally:
        store.close()


def _bundle_in(request: httpx.Request) -> Json | None:
    if request.method != "POST" or request.url.path != "/fhir":
        return None
    bundle: Json = msgspec.json.decode(request.content)
    return bundle


def _posted(bundle: Json) -> httpx.Request:
    headers = {"content-type": "application/fhir+json", "prefer": "return=minimal"}
    return httpx.Request("POST", BASE, headers=headers, content=msgspec.json.encode(bundle))
