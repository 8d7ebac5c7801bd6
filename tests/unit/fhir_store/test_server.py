"""What the embedded FHIR server promises beyond what every R4 server does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.server import OneWriteTransport
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
JSON_HEADERS = {"content-type": "application/fhir+json"}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(maximum_body_bytes=4096, maximum_bundle_entries=3))
    yield opened
    opened.close()


@pytest.fixture
async def http(store: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as client:
        yield client


def flag(name: str = "f1", **members: Any) -> Json:
    concept = {"text": "NEWS2 high"}
    subject = {"reference": "Patient/p1"}
    flag = {"resourceType": "Flag", "id": name, "status": "active", "code": concept, "subject": subject}
    return flag | members


async def found(http: httpx.AsyncClient, query: str) -> list[str]:
    response = await http.get(query)
    assert response.status_code == 200, response.text
    entries = response.json().get("entry", [])
    return [entry["resource"]["id"] for entry in entries if entry["search"]["mode"] == "match"]


async def test_an_unchanged_update_keeps_the_version(http: httpx.AsyncClient) -> None:
    first = await http.put("Flag/f1", json=flag())
    again = await http.put("Flag/f1", json=flag(meta={"versionId": "9", "lastUpdated": "2000-01-01T00:00:00Z"}))

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["etag"] == 'W/"1"'
    assert (await http.get("Flag/f1/_history")).json()["total"] == 1


async def test_a_profile_in_meta_is_kept_and_counts_as_content(http: httpx.AsyncClient) -> None:
    await http.put("Flag/f1", json=flag())

    changed = await http.put("Flag/f1", json=flag(meta={"profile": ["http://example.org/p"]}))

    assert changed.json()["meta"]["profile"] == ["http://example.org/p"]
    assert changed.json()["meta"]["versionId"] == "2"


async def test_flags_are_found_by_status_and_category(http: httpx.AsyncClient) -> None:
    category = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "clinical"}]}]
    await http.put("Flag/f1", json=flag(category=category))
    await http.put("Flag/f2", json=flag("f2", status="inactive", category=category))

    assert await found(http, "Flag?status=active&category=clinical&patient=p1") == ["f1"]
    assert await found(http, "Flag?status:not=active") == ["f2"]
    assert await found(http, "Flag?category=http://terminology.hl7.org/CodeSystem/flag-category|") == ["f1", "f2"]
    assert await found(http, "Flag?category=|clinical") == []
    assert await found(http, "Flag?encounter:missing=true&_sort=-_id") == ["f2", "f1"]


async def test_an_updated_resource_is_found_by_its_new_values_only(http: httpx.AsyncClient) -> None:
    await http.put("Flag/f1", json=flag())
    await http.put("Flag/f1", json=flag(status="inactive", period={"start": "2024-01-01", "end": "2024-01-02"}))

    assert await found(http, "Flag?status=active") == []
    assert await found(http, "Flag?date=2024-01") == ["f1"]


async def test_names_are_found_without_case_and_accents(http: httpx.AsyncClient) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Ångström", "given": ["Ada", "Bo"]}]}
    await http.put("Patient/p1", json=patient)

    assert await found(http, "Patient?name=ANGSTR") == ["p1"]
    assert await found(http, "Patient?given=bo,zz") == ["p1"]
    assert await found(http, "Patient?family:contains=gst") == ["p1"]
    assert await found(http, "Patient?family:exact=Ångström") == ["p1"]
    assert await found(http, "Patient?family:exact=angstrom") == []


async def test_pages_stay_stable_while_resources_arrive(http: httpx.AsyncClient) -> None:
    for day in (2, 4, 6):
        await http.put(f"Flag/f{day}", json=flag(f"f{day}", period={"start": f"2024-01-0{day}"}))
    first = (await http.get("Flag?_sort=-date,_id&_count=2")).json()
    await http.put("Flag/f9", json=flag("f9", period={"start": "2024-01-09"}))

    following = next(link["url"] for link in first["link"] if link["relation"] == "next")
    second = (await http.get(following)).json()

    pages = [[entry["resource"]["id"] for entry in page["entry"]] for page in (first, second)]
    assert pages == [["f6", "f4"], ["f2"]]


@pytest.mark.parametrize("token", ["x", "W10", "WyJhIl0", "e30", "WzFd"])
async def test_a_foreign_page_token_is_refused(http: httpx.AsyncClient, token: str) -> None:
    response = await http.get(f"Flag?_sort=date&_page={token}")

    assert response.status_code == 400


@pytest.mark.parametrize("name", ["identifier", "patient", "code", "status", "date", "_id", "device", "_sort", "_page"])
async def test_sql_in_a_parameter_is_only_a_value(http: httpx.AsyncClient, name: str) -> None:
    response = await http.get("Observation", params={name: "x' OR 1=1; DROP TABLE resource; --"})

    assert response.status_code in {200, 400}
    assert not response.json().get("entry")
    assert (await http.put("Flag/f1", json=flag())).status_code == 201


async def test_a_repeated_key_is_refused(http: httpx.AsyncClient) -> None:
    body = b'{"resourceType":"Patient","id":"p1","active":true,"active":false}'

    response = await http.put("Patient/p1", content=body, headers=JSON_HEADERS)

    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == ["active"]


@pytest.mark.parametrize("text", ['a \\u0022: "', 'a \\": \\":', "\\u003a", "☃"])
async def test_quotes_and_colons_in_text_are_no_repeated_keys(http: httpx.AsyncClient, text: str) -> None:
    body = '{"resourceType":"Basic","id":"b","code":{"text":"' + text.replace('"', "") + '"}}'

    response = await http.put("Basic/b", content=body.encode(), headers=JSON_HEADERS)

    assert response.status_code in {201, 400}
    assert b"repeats" not in response.content


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "Flag", {"content": b" " * 5000, "headers": JSON_HEADERS}, 413),
        ("POST", "Flag", {"content": b"<Flag/>", "headers": {"content-type": "application/fhir+xml"}}, 415),
        ("POST", "Flag/_search", {"content": b"{}", "headers": JSON_HEADERS}, 415),
        ("GET", "Flag", {"headers": {"accept": "application/fhir+xml"}}, 406),
        ("GET", "Flag?_format=xml", {}, 406),
        ("PATCH", "Flag/f1", {"content": b"{}", "headers": JSON_HEADERS}, 415),
        ("DELETE", "Flag", {}, 412),
        ("GET", "Flag/$everything", {}, 404),
        ("GET", "Flag/a/b/c/d", {}, 404),
        ("PUT", "", {"json": {}}, 405),
        ("GET", "Flag/a_b", {}, 400),
        ("PUT", "Flag/other", {"json": flag()}, 400),
        ("PUT", "Flag/f1", {"json": flag(), "headers": {"if-match": "%"}}, 400),
        ("PUT", "Flag?patient=p1&nonsense=1", {"json": flag()}, 400),
        ("PUT", "Flag", {"json": flag()}, 412),
        ("POST", "", {"json": {"resourceType": "Patient"}}, 400),
        ("POST", "", {"json": {"resourceType": "Bundle", "type": "collection"}}, 400),
        ("POST", "", {"json": {"resourceType": "Bundle", "type": "batch", "entry": {}}}, 400),
        ("POST", "", {"json": {"resourceType": "Bundle", "type": "transaction", "entry": [{}]}}, 400),
        ("POST", "", {"json": {"resourceType": "Bundle", "type": "batch", "entry": [{}] * 4}}, 413),
        ("GET", "metadata", {"headers": {"host": 'x"y'}}, 400),
    ],
)
async def test_every_refusal_has_status_and_outcome(
    http: httpx.AsyncClient, method: str, path: str, options: Json, status: int
) -> None:
    response = await http.request(method, path, **options)

    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


async def test_a_transaction_may_touch_a_resource_once_only(http: httpx.AsyncClient) -> None:
    entry = {"request": {"method": "PUT", "url": "Flag/f1"}, "resource": flag()}

    response = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]})

    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry[1]"]


async def test_a_transaction_deletes_first_and_reads_last(http: httpx.AsyncClient) -> None:
    await http.put("Flag/f1", json=flag())
    entries = [
        {"request": {"method": "GET", "url": "Flag?patient=p1"}},
        {"request": {"method": "PUT", "url": "Flag/f2"}, "resource": flag("f2")},
        {"request": {"method": "DELETE", "url": "Flag/f1"}},
    ]

    response = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    answers = response.json()["entry"]
    assert [answer["response"]["status"] for answer in answers] == ["200", "201", "204"]
    assert [entry["resource"]["id"] for entry in answers[0]["resource"]["entry"]] == ["f2"]


async def test_a_conditional_reference_is_resolved_in_a_transaction(http: httpx.AsyncClient) -> None:
    patient = {"resourceType": "Patient", "id": "p7", "identifier": [{"system": "s", "value": "7"}]}
    await http.put("Patient/p7", json=patient)
    resource = flag(subject={"reference": "Patient?identifier=s|7"})
    entry = {"request": {"method": "PUT", "url": "Flag/f1"}, "resource": resource}

    await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})

    assert (await http.get("Flag/f1")).json()["subject"]["reference"] == "Patient/p7"


async def test_a_post_with_criteria_is_a_conditional_create(http: httpx.AsyncClient) -> None:
    body = {"resourceType": "Patient", "identifier": [{"system": "s", "value": "7"}]}

    first = await http.post("Patient?identifier=s|7", json=body)
    second = await http.post("Patient?identifier=s|7", json=body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


async def test_preferences_shape_the_answer(http: httpx.AsyncClient) -> None:
    minimal = await http.put("Flag/f1", json=flag(), headers={"prefer": "return=minimal"})
    outcome = await http.put("Flag/f1", json=flag(), headers={"prefer": "return=OperationOutcome"})
    known = await http.get("Flag/f1", headers={"if-none-match": 'W/"1"'})

    assert (minimal.content, minimal.headers["etag"]) == (b"", 'W/"1"')
    assert outcome.json()["resourceType"] == "OperationOutcome"
    assert known.status_code == 304


async def test_every_search_parameter_answers_on_every_type(http: httpx.AsyncClient) -> None:
    statement = (await http.get("metadata")).json()
    texts = {"date": "2024", "number": "1", "reference": "Patient/1", "quantity": "1", "composite": "x$2024"}

    for resource in statement["rest"][0]["resource"]:
        for parameter in resource["searchParam"]:
            query = f"{resource['type']}?{parameter['name']}={texts.get(parameter['type'], 'x')}"
            assert (await http.get(query)).status_code == 200, query


async def test_health_is_told_outside_the_fhir_base(store: FhirStore) -> None:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test") as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        store.close()

        assert (await client.get("/readyz")).status_code == 503
        assert (await client.put("/fhir/Flag/f1", json=flag())).status_code == 503


async def test_long_searches_and_mixed_codings_find_everything(http: httpx.AsyncClient, store: FhirStore) -> None:
    def fill(session: WriteSession) -> None:
        for number in range(3_000):
            codings = [{"code": "a"}, {"code": f"b{number % 3}"}]
            tree = {"status": "final", "code": {"coding": codings}, "effectiveDateTime": f"{2000 + number % 20}"}
            session.insert("Observation", f"o{number}", tree, (b"", b""))

    await store.write(fill)

    total = await http.get("Observation?code=a&status=final&date=lt2019&_summary=count")
    page = await http.get("Observation?code=a&_sort=date,-_id&_count=2")
    assert total.json()["total"] == 2850
    assert [entry["resource"]["id"] for entry in page.json()["entry"]] == ["o980", "o960"]
    assert len(await found(http, "Observation?code=b1,b2&_count=5000")) == 1000


class Wire:
    """A transport that remembers what left in which piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_head_and_body_leave_in_one_piece_and_before_the_connection_closes() -> None:
    wire = Wire()
    transport = OneWriteTransport(cast("asyncio.Transport", wire), asyncio.get_running_loop())

    transport.write(b"head")
    transport.write(b"body")
    await asyncio.sleep(0)
    transport.write(b"last")
    transport.close()
    transport.write(b"late")
    await asyncio.sleep(0)

    assert wire.pieces == [b"headbody", b"last"]
    assert wire.closed
