"""Every refusal of a body, a parameter or a header names the place at fault."""

import httpx
import pytest

LATER = {"prefer": "respond-async"}
STRICT = {"prefer": "handling=strict"}
PATIENT = {"resourceType": "Patient", "id": "p1"}


@pytest.mark.parametrize(
    ("path", "headers", "place"),
    [
        ("Patient/p_1", {}, "Resource.id"),
        ("Patient/_history?_summary=count", {}, "http._summary"),
        ("?_type=Foo", {}, "http._type"),
        ("?_type=Patient&_type=Group", {}, "http._type"),
        ("Patient/_history?_since=soon", {}, "http._since"),
        ("Patient/_history?_at=2023-02-30", {}, "http._at"),
        ("Patient/_history?_count=1e9", {}, "http._count"),
        ("Patient/_history?f/oo=1", STRICT, "http.f?oo"),
        ("Patient/$everything?start=2023-02-30", {}, "http.start"),
        ("Patient/$everything?_since=ge2024", {}, "http._since"),
        ("Patient/$everything?foo=1", STRICT, "http.foo"),
        ("Observation/$lastn", {}, "http.patient"),
        ("Observation/$lastn?patient:missing=false", {}, "http.patient"),
        ("Observation/$lastn?patient=p1&max=0", {}, "http.max"),
        ("Subscription/$status?foo=1", {}, "http.foo"),
        ("$export", {}, "http.Prefer"),
        ("$export?_type=Foo", LATER, "http._type"),
        ("$export?_since=soon", LATER, "http._since"),
        ("$export?_outputFormat=csv", LATER, "http._outputFormat"),
        ("$export?_typeFilter=Foo?x=1", LATER, "http._typeFilter"),
        ("$export?_elements=1", LATER, "http._elements"),
        ("$export?foo=1", LATER, "http.foo"),
    ],
)
async def test_a_refused_question_names_its_place(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], place: str
) -> None:
    response = await http.get(path, headers=headers)

    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == [place]


@pytest.mark.parametrize("body", ["", "null", "[]", "{", '{"a": 01}', "[" * 5000, '{"": 1, "": 2}'])
async def test_a_body_that_is_no_resource_is_at_fault_as_a_whole(http: httpx.AsyncClient, body: str) -> None:
    response = await http.post("Patient", content=body, headers={"content-type": "application/fhir+json"})

    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == ["Resource"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "place"),
    [
        ("application/xml", "<x/>", 415, "http.Content-Type"),
        ("application/json-patch+json", "{}", 400, "Resource"),
        ("application/json-patch+json", "[1]", 400, "Patient"),
        ("application/json-patch+json", '[{"op": "brew", "path": "/name/0"}]', 400, "Patient.name[0]"),
    ],
)
async def test_a_refused_patch_names_its_place(
    http: httpx.AsyncClient, kind: str, body: str, status: int, place: str
) -> None:
    await http.put("Patient/p1", json=PATIENT)

    response = await http.patch("Patient/p1", content=body, headers={"content-type": kind})

    assert response.status_code == status
    assert response.json()["issue"][0]["expression"] == [place]


@pytest.mark.parametrize("path", ["_search", "Patient/_search"])
async def test_a_search_takes_no_other_method(http: httpx.AsyncClient, path: str) -> None:
    response = await http.put(path, json={})

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "GET", "url": "Patient?birthdate=2023-02-30"},
        {"method": "PUT", "url": "Patient/p1", "ifMatch": 'W/"7"'},
        {"method": "POST", "url": "Patient", "ifNoneExist": "Group?_id=1"},
    ],
)
async def test_what_an_entry_asks_is_at_fault_in_its_request(http: httpx.AsyncClient, asked: dict[str, str]) -> None:
    entry = {"request": asked} if asked["method"] == "GET" else {"request": asked, "resource": PATIENT}

    response = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})

    assert response.status_code in {400, 412}
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry[0].request"]


@pytest.mark.parametrize(("header", "tag"), [("If-Match", 'W/"7"'), ("If-None-Match", "*"), ("If-None-Match", 'W/"1"')])
async def test_a_precondition_that_does_not_hold_is_named(http: httpx.AsyncClient, header: str, tag: str) -> None:
    await http.put("Patient/p1", json=PATIENT)

    response = await http.put("Patient/p1", json=PATIENT, headers={header: tag})

    assert response.status_code == 412
    assert response.json()["issue"][0]["expression"] == [f"http.{header}"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "place"),
    [
        ("GET", "Patient/none", {}, 404, "http.url"),
        ("GET", "Patient/gone", {}, 410, "http.url"),
        ("GET", "Spaceship", {}, 404, "http.url"),
        ("GET", "Patient/p1/$brew", {}, 404, "http.url"),
        ("PATCH", "Patient", {"content-type": "application/merge-patch+json"}, 412, "http.url"),
        ("DELETE", "metadata", {}, 405, "http.method"),
        ("GET", "Patient/p1", {"accept": "image/png"}, 406, "http.Accept"),
        ("POST", "Patient", {"if-none-exist": "active=true"}, 412, "http.If-None-Exist"),
        ("PUT", "Patient?active=true", {}, 412, "http.url"),
        ("DELETE", "Patient?active=true&_id:missing=false", {}, 412, "http.url"),
    ],
)
async def test_what_is_wrong_with_a_request_as_a_whole_lies_in_its_url_method_or_header(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], status: int, place: str
) -> None:
    for name in ("p1", "p2", "gone"):
        await http.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name, "active": True})
    await http.delete("Patient/gone")
    body = {"resourceType": "Patient"} if method in {"POST", "PUT", "PATCH"} else None

    response = await http.request(method, path, headers=headers, json=body)

    assert response.status_code == status, response.text
    assert response.json()["issue"][0]["expression"] == [place]


async def test_an_entry_of_a_batch_that_names_no_place_is_at_fault_itself(http: httpx.AsyncClient) -> None:
    entries = [{"request": {"method": "GET", "url": "metadata"}}, {"request": {"method": "GET", "url": "Patient/none"}}]

    response = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})

    outcome = response.json()["entry"][1]["response"]["outcome"]
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[1]"]
