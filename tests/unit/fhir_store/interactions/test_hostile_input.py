"""Input made to harm: sizes, cycles, numbers, encodings and paths. Refused with a reason, bounded, nothing stored."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.fhir_store.validation import resource_issues

Json = dict[str, Any]
Make = Callable[..., Json]
FHIR_JSON = {"content-type": "application/fhir+json"}
HEAD = b'{"resourceType":"Basic","id":"b","code":{"text":"x"}'


async def refused(http: httpx.AsyncClient, status: int, method: str, path: str, **kwargs: Any) -> Json:
    """The first issue of a refusal, once it is certain that nothing was stored."""
    response = await http.request(method, path, **kwargs)
    assert response.status_code == status, response.text
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert resource_issues(outcome) == []
    assert (await http.get("?_summary=count")).json()["total"] == 0
    return dict(outcome["issue"][0])


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_bundle_of_fifty_thousand_entries_is_refused_within_bounds(http: httpx.AsyncClient, kind: str) -> None:
    entry = {
        "request": {"method": "POST", "url": "Basic"},
        "resource": {"resourceType": "Basic", "code": {"text": "x"}},
    }
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": [entry] * 50_000}).encode()

    tracemalloc.start()
    issue = await refused(http, 413, "POST", "", content=body, headers=FHIR_JSON)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert issue["expression"] == ["Bundle.entry"]
    assert peak < 40 * len(body)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e99999", "9" * 400, "0." + "1" * 400 + "e999"])
async def test_a_number_beyond_all_measure_is_refused_or_kept_digit_by_digit(
    http: httpx.AsyncClient, number: str
) -> None:
    body = HEAD + b',"extension":[{"url":"u:x","valueDecimal":' + number.encode() + b"}]}"

    response = await http.put("Basic/b", content=body, headers=FHIR_JSON)

    if response.status_code == 201:
        assert number in (await http.get("Basic/b")).text
    else:
        assert response.status_code in {400, 422}
        assert resource_issues(response.json()) == []


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 4_000])
async def test_a_quantity_too_large_to_be_compared_is_refused(http: httpx.AsyncClient, number: str) -> None:
    quantity = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":'
    body = quantity + number.encode() + b"}}"
    entry = b'{"resource":' + body + b',"request":{"method":"POST","url":"Observation"}}'
    bundle = b'{"resourceType":"Bundle","type":"transaction","entry":[' + entry + b"]}"

    for path, sent in (("Observation", body), ("", bundle)):
        response = await http.post(path, content=sent, headers=FHIR_JSON)
        assert response.status_code == 422
        assert resource_issues(response.json()) == []


@pytest.mark.parametrize("number", ["1e400", "9" * 400, "-" + "9" * 400, "5e-400", "1e99999999999"])
@pytest.mark.parametrize("prefix", ["", "lt", "ap", "ne"])
async def test_a_search_for_a_huge_number_finds_nothing_or_is_refused(
    http: httpx.AsyncClient, number: str, prefix: str
) -> None:
    for kind, name in (("Observation", "value-quantity"), ("RiskAssessment", "probability"), ("Basic", "_lastUpdated")):
        response = await http.get(kind, params={name: prefix + number})
        assert response.status_code in {200, 400}
        assert response.status_code == 400 or response.json()["total"] == 0


@pytest.mark.parametrize(
    ("mark", "body"),
    [
        ("UTF-8 twice", b"\xef\xbb\xbf" * 2 + HEAD + b"}"),
        ("UTF-8 inside", HEAD + b"\xef\xbb\xbf}"),
        ("UTF-16 LE", ("\ufeff" + HEAD.decode() + "}").encode("utf-16-le")),
        ("UTF-16 BE", ("\ufeff" + HEAD.decode() + "}").encode("utf-16-be")),
        ("UTF-32", (HEAD.decode() + "}").encode("utf-32")),
    ],
)
async def test_a_byte_order_mark_of_another_encoding_or_place_is_refused(
    http: httpx.AsyncClient, mark: str, body: bytes
) -> None:
    await refused(http, 400, "PUT", "Basic/b", content=body, headers=FHIR_JSON)


async def test_a_byte_order_mark_before_utf_8_is_passed_over(http: httpx.AsyncClient) -> None:
    mark, patch = b"\xef\xbb\xbf", {"content-type": "application/json-patch+json"}
    form = {"content-type": "application/x-www-form-urlencoded"}
    merge = {"content-type": "application/merge-patch+json"}
    bundle = b'{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Basic/b"}}]}'
    operation = b'[{"op":"replace","path":"/code/text","value":"y"}]'

    put = await http.put("Basic/b", content=mark + HEAD + b"}", headers=FHIR_JSON)
    patched = await http.patch("Basic/b", content=mark + operation, headers=patch)
    merged = await http.patch("Basic/b", content=mark + b'{"code":{"text":"z"}}', headers=merge)
    batch = await http.post("", content=mark + bundle, headers=FHIR_JSON)
    valid = await http.post("Basic/$validate", content=mark + HEAD + b"}", headers=FHIR_JSON)
    search = await http.post("Basic/_search", content=mark + b"_id=b", headers=form)
    raw = await http.put("Binary/c", content=mark + b"x", headers={"content-type": "text/plain"})

    assert [each.status_code for each in (put, patched, merged, batch, valid, search, raw)] == [201] + [200] * 5 + [201]
    assert merged.json()["code"]["text"] == "z"
    assert search.json()["total"] == 1
    assert (await http.get("Binary/c", headers={"accept": "text/plain"})).content == mark + b"x"


@pytest.mark.parametrize(
    "text",
    [b"\\ud800", b"\\udfff\\ud800", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xff", b"\\u00zz", b"\\x41"],
)
async def test_text_that_is_no_unicode_is_refused(http: httpx.AsyncClient, text: bytes) -> None:
    body = b'{"resourceType":"Basic","id":"b","code":{"text":"a' + text + b'"}}'
    await refused(http, 400, "PUT", "Basic/b", content=body, headers=FHIR_JSON)
    bundle = b'{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"POST","url":"Basic"},"resource":'
    await refused(http, 400, "POST", "", content=bundle + body + b"}]}", headers=FHIR_JSON)


@pytest.mark.parametrize("name", ["\\u0000", "\\u0001", "a\\u001f"])
async def test_control_characters_are_refused_with_their_place(http: httpx.AsyncClient, name: str) -> None:
    body = b'{"resourceType":"Basic","id":"b","code":{"text":"' + name.encode() + b'"}}'
    issue = await refused(http, 422, "PUT", "Basic/b", content=body, headers=FHIR_JSON)
    assert issue["expression"] == ["Basic.code.text"]


@pytest.mark.parametrize(
    "path",
    [
        "Basic/..%2f..%2fetc%2fpasswd",
        "Basic/%2e%2e%2f%2e%2e",
        "Basic/%252e%252e",
        "Basic/..%5c..%5cx",
        "Basic/a%2fb",
        "Basic/a%00",
        "Basic/%C0%AE",
        "Basic/%u0061",
        "Basic/a%0d%0aSet-Cookie:x",
        "Basic/%ED%A0%80",
        "Basic/a;b=c",
        "Basic/a%3Fx",
    ],
)
async def test_no_path_leads_out_of_the_store(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        content = HEAD + b"}" if method in {"PUT", "PATCH"} else None
        kind = {"content-type": "application/merge-patch+json" if method == "PATCH" else "application/fhir+json"}
        response = await http.request(method, f"http://fhir.test/fhir/{path}", content=content, headers=kind)
        assert response.status_code in {400, 404, 405}, response.text
        assert resource_issues(response.json()) == []
        assert "set-cookie" not in response.headers


@pytest.mark.parametrize("identity", ["..", ".", "-", "..-..", "." * 64])
async def test_an_id_of_dots_is_an_id_like_any_other(store: FhirStore, identity: str) -> None:
    """R4 allows them; no file is named after one."""
    scope: Json = {"type": "http", "scheme": "http", "server": ("fhir.test", 80), "client": None, "query_string": b""}
    scope |= {"path": f"/fhir/Basic/{identity}", "raw_path": b"", "headers": [(b"host", b"fhir.test")]}
    body = json.dumps({"resourceType": "Basic", "id": identity, "code": {"text": "x"}}).encode()

    assert await asked(store, scope | {"method": "PUT"}, [body]) == 201
    assert await asked(store, scope | {"method": "GET"}, [b""]) == 200
    assert await asked(store, scope | {"method": "DELETE"}, [b""]) == 204


async def asked(store: FhirStore, scope: Json, parts: list[bytes]) -> int:
    """The status of an answer to a request whose body comes in parts."""
    left, sent = [*parts], []

    async def receive() -> Json:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(store)(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("fhir_settings", [FhirStoreSettings(maximum_body_bytes=4096)])
async def test_a_chunked_body_beyond_the_limit_is_refused_before_it_is_all_read(http: httpx.AsyncClient) -> None:
    read = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1_000):
            read += 1
            yield b" " * 1_000

    await refused(http, 413, "POST", "Basic", content=parts(), headers=FHIR_JSON)

    assert read < 10


async def test_references_in_a_circle_are_stored_and_searched(http: httpx.AsyncClient, patient: Make) -> None:
    def linked(own: str, other: str) -> Json:
        link = [{"other": {"reference": f"urn:uuid:{other}"}, "type": "seealso"}]
        resource = patient(None, link=link)
        return {
            "fullUrl": f"urn:uuid:{own}",
            "resource": resource,
            "request": {"method": "POST", "url": "Patient"},
        }

    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [linked("a", "b"), linked("b", "c"), linked("c", "a")],
    }
    answer = await http.post("", json=bundle)
    assert answer.status_code == 200, answer.text

    found = await http.get(
        "Patient", params={"_include:iterate": "Patient:link", "_revinclude:iterate": "Patient:link"}
    )
    assert sorted(each["search"]["mode"] for each in found.json()["entry"]) == ["match"] * 3
    first = found.json()["entry"][0]["resource"]["id"]
    everything = await http.get(f"Patient/{first}/$everything")
    assert everything.status_code == 200
    chained = await http.get("Patient", params={"link:Patient.link:Patient.link:Patient._id": first})
    assert [each["resource"]["id"] for each in chained.json()["entry"]] == [first]


async def test_contained_resources_in_a_circle_are_judged(http: httpx.AsyncClient) -> None:
    inner = [
        {"resourceType": "Organization", "id": "a", "name": "x", "partOf": {"reference": "#b"}},
        {"resourceType": "Organization", "id": "b", "name": "y", "partOf": {"reference": "#a"}},
    ]
    patient = {"resourceType": "Patient", "id": "p", "contained": inner, "managingOrganization": {"reference": "#a"}}

    assert (await http.put("Patient/p", json=patient)).status_code == 201
    assert (await http.get("Patient/p")).json()["contained"] == inner


@pytest.mark.parametrize("day", ["2023-02-30", "2024-13-01", "2024-00-10", "2023-02-29", "24-01-01", "2024-1-1"])
async def test_a_day_that_no_calendar_has_is_refused_wherever_it_stands(http: httpx.AsyncClient, day: str) -> None:
    body = {"resourceType": "Patient", "id": "p", "birthDate": day}
    issue = await refused(http, 422, "PUT", "Patient/p", json=body)
    assert issue["expression"] == ["Patient.birthDate"]
    await refused(http, 400, "GET", f"Patient?birthdate={day}")
    await refused(http, 400, "GET", f"Patient?_lastUpdated=ge{day}")
    await refused(http, 400, "GET", f"_history?_since={day}")
