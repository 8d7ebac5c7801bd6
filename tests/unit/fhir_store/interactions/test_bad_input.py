"""Whatever is sent: the right status, an OperationOutcome, nothing stored, never a 500."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, parameters_of
from pulseweir.fhir_store.patching import JSON_PATCH, MERGE_PATCH
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
Make = Callable[..., Json]
FHIR_JSON = "application/fhir+json"
SQL = "x' OR 1=1; DROP TABLE resource; --"


async def stored(http: httpx.AsyncClient) -> int:
    return int((await http.get("?_summary=count")).json()["total"])


def nested(levels: int) -> bytes:
    head = b'{"resourceType":"Basic","code":{"text":"x"},"contained":['
    inner = b'{"resourceType":"Basic","id":"c","code":{"text":"x"},"contained":['
    return head + inner * levels + b"]}" * levels + b"]}"


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "empty": (b"", {400}),
    "blank": (b"  ", {400}),
    "cut": (b'{"resourceType":"Basic"', {400}),
    "trailing": (b'{"resourceType":"Basic","code":{"text":"x"}} x', {400}),
    "number": (b"5", {400}),
    "null": (b"null", {400}),
    "list": (b"[]", {400}),
    "repeated": (b'{"resourceType":"Basic","code":{"text":"x"},"code":{"text":"y"}}', {400}),
    "repeated deep": (b'{"resourceType":"Basic","code":{"text":"x","text":"y"}}', {400}),
    "repeated by escape": (b'{"resourceType":"Basic","code":{"text":"x","te\\u0078t":"y"}}', {400}),
    "no type": (b'{"code":{"text":"x"}}', {400}),
    "type a number": (b'{"resourceType":5,"code":{"text":"x"}}', {400}),
    "other type": (b'{"resourceType":"Flag"}', {400}),
    "unknown type": (b'{"resourceType":"Nonsense"}', {400}),
    "id a number": (b'{"resourceType":"Basic","id":5,"code":{"text":"x"}}', {400}),
    "id with space": (b'{"resourceType":"Basic","id":"a b","code":{"text":"x"}}', {400}),
    "id too long": (b'{"resourceType":"Basic","id":"' + b"a" * 65 + b'","code":{"text":"x"}}', {400}),
    "meta a list": (b'{"resourceType":"Basic","meta":[],"code":{"text":"x"}}', {400}),
    "unknown element": (b'{"resourceType":"Basic","code":{"text":"x"},"nonsense":1}', {422}),
    "no such day": (b'{"resourceType":"Basic","code":{"text":"x"},"created":"2023-02-30"}', {422}),
    "empty text": (b'{"resourceType":"Basic","code":{"text":""}}', {422}),
    "empty list": (b'{"resourceType":"Basic","code":{"coding":[]}}', {422}),
    "NUL": (b'{"resourceType":"Basic","code":{"text":"a\\u0000b"}}', {422}),
    "raw NUL": (b'{"resourceType":"Basic","code":{"text":"a\x00b"}}', {400}),
    "lone surrogate": (b'{"resourceType":"Basic","code":{"text":"\\ud800"}}', {400}),
    "no UTF-8": (b'{"resourceType":"Basic","code":{"text":"\xff"}}', {400}),
    "UTF-16": ('{"resourceType":"Basic","code":{"text":"x"}}'.encode("utf-16"), {400}),
    "huge decimal": (
        b'{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"u:x","valueDecimal":1e400}]}',
        {400, 422},
    ),
    "deep contained": (nested(200), {400}),
    "contained in contained": (nested(2), {422}),
    "deep list": (b"[" * 100_000, {400}),
    "NaN": (b'{"resourceType":"Basic","code":{"text":NaN}}', {400}),
    "xml": (b"<Basic/>", {400}),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused_and_nothing_is_stored(http: httpx.AsyncClient, name: str) -> None:
    body, statuses = BODIES[name]
    for method, path in (("POST", "Basic"), ("PUT", "Basic/b"), ("PUT", "Basic?code=x")):
        response = await http.request(method, path, content=body, headers={"content-type": FHIR_JSON})

        assert response.status_code in statuses, response.text
        assert response.json()["resourceType"] == "OperationOutcome"
        assert all(issue["expression"] for issue in response.json()["issue"])
    assert await stored(http) == 0


async def test_ten_thousand_digits_are_kept_or_refused(http: httpx.AsyncClient) -> None:
    digits = b"1." + b"7" * 10_000
    body = (
        b'{"resourceType":"Basic","id":"b","code":{"text":"x"},"extension":[{"url":"u:x","valueDecimal":%s}]}' % digits
    )

    response = await http.put("Basic/b", content=body, headers={"content-type": FHIR_JSON})

    assert response.status_code in {201, 400, 422}
    if response.status_code == 201:
        assert digits in (await http.get("Basic/b")).content


@pytest.mark.parametrize(("size", "status"), [(2_000_000, 422), (34_000_000, 413)])
async def test_a_gigantic_text_is_refused(http: httpx.AsyncClient, size: int, status: int) -> None:
    body = b'{"resourceType":"Basic","id":"b","code":{"text":"' + b"x" * size + b'"}}'

    response = await http.put("Basic/b", content=body, headers={"content-type": FHIR_JSON})

    assert response.status_code == status
    assert await stored(http) == 0


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "Basic", {"content-type": "application/fhir+xml"}, 415),
        ("POST", "Basic", {"content-type": "text/plain"}, 415),
        ("POST", "Basic", {"content-type": "application/fhir+json; charset=utf-16"}, 415),
        ("POST", "Basic", {"content-type": "application/fhir+json; fhirVersion=5.0"}, 415),
        ("POST", "Basic", {"content-type": FHIR_JSON, "accept": "application/fhir+xml"}, 406),
        ("GET", "Basic", {"accept": "text/html"}, 406),
        ("GET", "Basic", {"accept": "application/fhir+json; fhirVersion=3.0"}, 406),
        ("GET", "Basic", {"accept": "application/json;q=0"}, 406),
        ("GET", "Basic?_format=application/fhir%2Bxml", {}, 406),
        ("GET", "Basic?_count=-1", {}, 400),
        ("GET", "Basic?_count=1e9", {}, 400),
        ("GET", "Basic?code=%FF", {}, 400),
        ("GET", "Basic/%FF", {}, 400),
        ("GET", "Basic/a%00b", {}, 400),
        ("GET", "Basic/a_b", {}, 400),
        ("GET", "%0A/Basic", {}, 404),
        ("GET", "http://fhir.test/elsewhere", {}, 404),
        ("GET", "Basic/" + "a" * 65, {}, 400),
        ("GET", "Basic/a/_history/x", {}, 404),
        ("GET", "Basic?" + "&".join(["code=x"] * 2_000), {}, 400),
        ("GET", "Nonsense?x=1", {}, 404),
        ("POST", "Nonsense", {"content-type": FHIR_JSON}, 404),
        ("POST", "metadata", {"content-type": FHIR_JSON}, 405),
        ("PATCH", "", {"content-type": MERGE_PATCH}, 405),
        ("DELETE", "", {}, 405),
        ("OPTIONS", "Basic", {}, 405),
        ("TRACE", "Basic", {}, 405),
        ("PROPFIND", "Basic", {}, 405),
        ("PUT", "_history", {"content-type": FHIR_JSON}, 405),
    ],
)
async def test_a_bad_request_is_refused_with_an_outcome(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    content = b'{"resourceType":"Basic","code":{"text":"x"}}' if method in {"POST", "PUT", "PATCH"} else None

    response = await http.request(method, path, headers=headers, content=content)

    assert response.status_code == status, response.text
    assert response.json()["resourceType"] == "OperationOutcome"
    if status == 405:
        assert response.headers["allow"]
    assert await stored(http) == 0


@pytest.mark.parametrize("accept", ["application/json", "application/fhir+json", "*/*", "text/html, */*;q=0.1", ""])
async def test_json_is_answered_as_the_client_calls_it(http: httpx.AsyncClient, accept: str) -> None:
    response = await http.get("metadata", headers={"accept": accept} if accept else {})

    wanted = "application/json" if accept == "application/json" else FHIR_JSON
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{wanted};charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/xml;q=0.9, application/json;q=0.8", "application/json"),
        ("application/fhir+xml, application/json;q=0.2, application/fhir+json;q=0.9", FHIR_JSON),
        ("application/json; q=0.5, text/json;q=0.6", "text/json"),
        ("application/fhir+json;q=0.000, */*;q=0.001", FHIR_JSON),
        ("application/json;q=0.000", None),
        ("application/json;q=2", None),
        ("application/json;q=nan", None),
    ],
)
async def test_what_the_client_wants_most_is_answered(http: httpx.AsyncClient, accept: str, kind: str | None) -> None:
    response = await http.get("metadata", headers={"accept": accept})

    assert response.status_code == (406 if kind is None else 200)
    assert response.headers["content-type"] == f"{kind or FHIR_JSON};charset=utf-8"


@pytest.mark.parametrize("text", ["json", "application/json", "application/fhir+json", "application/fhir%2Bjson"])
async def test_format_overrules_accept(http: httpx.AsyncClient, text: str) -> None:
    assert (await http.get(f"metadata?_format={text}", headers={"accept": "text/html"})).status_code == 200


async def test_trailing_slashes_and_head_are_fine(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1/", json=patient())

    for path in ("Patient/p1/", "Patient/p1", "Patient/", "metadata", "_history/", "Patient/p1/_history/1"):
        full, head = await http.get(path), await http.head(path)
        assert (full.status_code, head.status_code) == (200, 200), path
        assert head.content == b""
        assert abs(int(head.headers["content-length"]) - len(full.content)) <= 1
    assert (await http.head("Patient/never")).status_code == 404
    empty = {"resourceType": "Bundle", "type": "batch"}
    assert (await http.post("http://fhir.test/fhir/", json=empty)).status_code == 200
    assert (await http.post("http://fhir.test/fhir", json=empty)).status_code == 200


async def test_sql_in_every_parameter_of_every_type_is_only_a_value(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())
    names = {
        (kind, name) for kind in RESOURCE_TYPES for name in [*parameters_of(kind), "_id", "_sort", "_page", "_type"]
    }

    for kind, name in sorted(names):
        response = await http.get(kind, params={name: SQL})
        assert response.status_code in {200, 400}, (kind, name)
        assert not [each for each in response.json().get("entry", []) if each["search"]["mode"] == "match"], (
            kind,
            name,
        )
    assert (await http.get("Patient/p1")).status_code == 200


# A generator of requests over all routes: mostly sensible, each part sometimes not.
names = st.sampled_from([*RESOURCE_TYPES[:6], "Patient", "Basic", "Observation", "Nonsense", "patient", "*", "$x"])
ids = st.sampled_from(["a", "b", "p1", "a" * 64]) | st.text(max_size=6)
words = st.sampled_from(["_history", "_search", "metadata", "$validate", "$lastn", "$everything", "1", "2", "9" * 30])
paths = st.lists(names | ids | words, max_size=5) | st.tuples(names, ids).map(list) | names.map(lambda name: [name])
keys = st.sampled_from(
    ["_count", "_sort", "_since", "_at", "_page", "_summary", "_elements", "_include", "_revinclude", "_id", "_total"]
    + [
        "_lastUpdated",
        "_format",
        "_pretty",
        "_type",
        "identifier",
        "code",
        "patient",
        "subject",
        "date",
        "name",
        "mode",
    ]
    + ["_has:Observation:patient:code", "subject:Patient.name", "value-quantity", "code-value-quantity", "_text", "max"]
)
modifiers = st.sampled_from(["", "", "", ":missing", ":not", ":exact", ":contains", ":Patient", ":text", ":x", ".name"])
values = st.sampled_from(
    ["", "1", "0", "-1", "1e9", "a", "a|b", "|", "a,b", "\\", "$", "2023-02-30", "ge2024", "true", "false", "count"]
    + ["Patient/a", "Patient:general-practitioner", "*", "-date", "1e400", "9" * 400, "lt5||mg", SQL, "\0", "WzFd"]
) | st.text(max_size=8)
queries = st.lists(st.tuples(st.tuples(keys, modifiers).map("".join), values), max_size=4)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["Patient", "Patient/a", "final", "2024-01-01", "urn:uuid:x", "Patient?identifier=x", "#c", "PUT"]
    )
)
members = st.sampled_from(
    ["resourceType", "id", "meta", "contained", "extension", "identifier", "code", "status", "subject", "name", "value"]
    + ["valueQuantity", "valueString", "url", "system", "reference", "text", "coding", "div", "component", "active"]
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner), max_leaves=12)
resources = st.fixed_dictionaries(
    {"resourceType": st.sampled_from(["Patient", "Basic", "Observation"])},
    optional={"id": ids, "meta": trees, "code": trees, "status": leaves, "extension": trees, "contained": trees},
)
requests_of_entries = st.fixed_dictionaries(
    {"method": st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "X"])},
    optional={
        "url": st.sampled_from(["Patient", "Patient/a", "Basic?code=x", "", "/", "_history", "Patient/$validate", "?"])
        | st.text(max_size=10),
        "ifMatch": values,
        "ifNoneMatch": values,
        "ifNoneExist": values,
        "ifModifiedSince": values,
    },
)
binaries = st.fixed_dictionaries(
    {"resourceType": st.just("Binary"), "contentType": st.sampled_from([JSON_PATCH, MERGE_PATCH, "x"])},
    optional={"data": st.sampled_from(["W10=", "e30=", "%", "eyJpZCI6MX0="]) | leaves},
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "request": requests_of_entries | trees,
        "resource": resources | binaries | trees,
        "fullUrl": st.sampled_from(["urn:uuid:x", "http://x.test/Patient/a"]) | leaves,
    },
)
bundles = st.fixed_dictionaries(
    {"resourceType": st.just("Bundle"), "type": st.sampled_from(["batch", "transaction", "history"])},
    optional={"entry": st.lists(entries, max_size=4) | trees},
)
bodies = (
    (resources | bundles | trees | st.lists(trees, max_size=3)).map(lambda tree: json.dumps(tree).encode())
    | st.binary(max_size=20)
    | st.sampled_from([body for body, _ in BODIES.values() if len(body) < 5_000])
)
header_values = st.sampled_from(
    ["*", 'W/"1"', "1", "%", "", "return=minimal", "handling=strict", "handling=x", "identifier=a|b", "x?y", "code=x"]
    + [FHIR_JSON, JSON_PATCH, MERGE_PATCH, "application/json", "text/xml", "Sat, 01 Jan 2000 00:00:00 GMT"]
    + ["Sat, 99 Jan 2000 00:00:00 GMT", "application/x-www-form-urlencoded", "9" * 30, "respond-async"]
)
header_names = st.sampled_from(
    ["if-match", "if-none-match", "if-none-exist", "if-modified-since", "prefer", "accept", "content-type", "host"]
    + ["x-forwarded-host", "x-forwarded-proto", "x-request-id"]
)
headers_sent = st.dictionaries(header_names, header_values, max_size=3)
kinds = st.sampled_from([FHIR_JSON, FHIR_JSON, JSON_PATCH, MERGE_PATCH, "application/json"])
calls = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
    paths,
    queries,
    bodies,
    kinds,
    headers_sent,
)
Sent = tuple[str, list[str], list[tuple[str, str]], bytes, str, dict[str, str]]


async def send(store: FhirStore, calls_made: list[Sent]) -> None:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        await http.put("Patient/a", json={"resourceType": "Patient", "id": "a"})
        for method, path, query, body, kind, headers in calls_made:
            url = "/".join(quote(part.encode("utf-8", "replace"), safe="$*") for part in path)
            asked = urlencode(query, errors="replace")
            response = await http.request(
                method,
                f"{url}?{asked}" if asked else url,
                content=body if method in {"POST", "PUT", "PATCH"} else None,
                headers={"content-type": kind} | headers,
            )
            assert response.status_code < 500, response.text
            if response.status_code >= 400 and method != "HEAD":
                assert response.json()["resourceType"] == "OperationOutcome"
                assert response.json()["issue"][0]["details"]["text"]
            elif response.content:
                json.loads(response.content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(calls, min_size=1, max_size=5))
def test_no_request_makes_the_server_fail(calls_made: list[Sent]) -> None:
    with tempfile.TemporaryDirectory(dir=_memory()) as directory:
        store = FhirStore.open(Path(directory), Clock(), FhirStoreSettings(maximum_bundle_entries=3))
        try:
            asyncio.run(send(store, calls_made))
        finally:
            store.close()


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a hundred stores, none worth a disk
