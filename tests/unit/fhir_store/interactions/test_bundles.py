"""Batches and transactions: order, links between entries, conditions, refusals that leave nothing."""

import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pulseweir.fhir_store.settings import FhirStoreSettings

Json = dict[str, Any]
Make = Callable[..., Json]
URN = "urn:uuid:8f2f1d2e-0000-4000-8000-00000000000"
CODE = {"text": "x"}


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **request: str) -> Json:
    made: Json = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    return made | ({"fullUrl": full_url} if full_url else {})


async def send(http: httpx.AsyncClient, *entries: Json, kind: str = "transaction", **headers: str) -> httpx.Response:
    return await http.post("", json={"resourceType": "Bundle", "type": kind, "entry": list(entries)}, headers=headers)


async def total(http: httpx.AsyncClient, query: str) -> int:
    return int((await http.get(f"{query}{'&' if '?' in query else '?'}_summary=count")).json()["total"])


def statuses(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["response"]["status"] for each in response.json()["entry"]]


def ident(value: str) -> list[Json]:
    return [{"system": "urn:mrn", "value": value}]


def basic(name: str, **members: Any) -> Json:
    return {"resourceType": "Basic", "id": name, "code": CODE} | members


async def test_links_are_replaced_wherever_they_stand(http: httpx.AsyncClient) -> None:
    link = {"reference": f"{URN}1"}
    narrative = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{URN}1">{URN}1</a></div>'
    resource = basic(
        "b",
        text={"status": "generated", "div": narrative},
        contained=[{"resourceType": "Basic", "id": "c", "code": CODE, "subject": link}],
        extension=[
            {"url": "http://example.org/e", "valueReference": link},
            {"url": "http://example.org/c", "valueReference": {"reference": "#c"}},
        ],
        identifier=[{"system": "urn:s", "value": f"{URN}1", "assigner": {"reference": f"{URN}2"}}],
        subject=link | {"display": f'say "reference":"{URN}1"'},
    )
    response = await send(
        http,
        entry("PUT", "Basic/b", resource),
        entry("POST", "Patient", {"resourceType": "Patient"}, f"{URN}1"),
        entry("POST", "Organization", {"resourceType": "Organization", "name": "x"}, f"{URN}2"),
    )

    assert statuses(response) == ["201", "201", "201"]
    stored = (await http.get("Basic/b")).json()
    patient = stored["subject"]["reference"]
    assert patient.startswith("Patient/")
    assert (await http.get(patient)).status_code == 200
    assert stored["contained"][0]["subject"]["reference"] == patient
    assert stored["extension"][0]["valueReference"]["reference"] == patient
    assert stored["identifier"][0]["assigner"]["reference"].startswith("Organization/")
    assert stored["identifier"][0]["value"] == f"{URN}1"
    assert stored["subject"]["display"] == f'say "reference":"{URN}1"'
    assert stored["text"]["div"] == narrative.replace(f'href="{URN}1"', f'href="{patient}"')


async def test_entries_may_refer_to_each_other_in_circles(http: httpx.AsyncClient) -> None:
    first = basic("", subject={"reference": f"{URN}2"})
    second = basic("", subject={"reference": f"{URN}1"})
    for each in (first, second):
        del each["id"]

    response = await send(http, entry("POST", "Basic", first, f"{URN}1"), entry("POST", "Basic", second, f"{URN}2"))

    names = [each["response"]["location"].split("/fhir/")[1].split("/_history")[0] for each in response.json()["entry"]]
    found = [(await http.get(name)).json()["subject"]["reference"] for name in names]
    assert found == names[::-1]


async def test_names_on_another_server_are_replaced_too(http: httpx.AsyncClient) -> None:
    base = "https://elsewhere.test/r4"
    flag = basic("x", subject={"reference": "Patient/17"}, author={"reference": f"{base}/Practitioner/3"})
    response = await send(
        http,
        entry("POST", "Patient", {"resourceType": "Patient", "id": "17"}, f"{base}/Patient/17"),
        entry("POST", "Basic", flag, f"{base}/Basic/x"),
    )

    name = response.json()["entry"][1]["response"]["location"].split("/fhir/")[1]
    stored = (await http.get(name)).json()
    assert stored["subject"]["reference"] not in {"Patient/17", f"{base}/Patient/17"}
    assert (await http.get(stored["subject"]["reference"])).status_code == 200
    assert stored["author"]["reference"] == f"{base}/Practitioner/3"


async def test_a_conditional_reference_finds_what_the_same_transaction_stores(http: httpx.AsyncClient) -> None:
    search = {"reference": "Patient?identifier=urn:mrn|7"}
    resource = basic("b", extension=[{"url": "http://example.org/e", "valueReference": search}], subject=search)
    patient = {"resourceType": "Patient", "id": "p7", "identifier": ident("7")}

    response = await send(http, entry("PUT", "Basic/b", resource), entry("PUT", "Patient/p7", patient))

    assert statuses(response) == ["201", "201"]
    stored = (await http.get("Basic/b")).json()
    assert stored["subject"]["reference"] == stored["extension"][0]["valueReference"]["reference"] == "Patient/p7"


@pytest.mark.parametrize(("value", "code"), [("none", "not-found"), ("two", "multiple-matches")])
async def test_a_reference_that_finds_none_or_several_fails_the_transaction(
    http: httpx.AsyncClient, value: str, code: str
) -> None:
    for name in ("a", "b"):
        await http.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name, "identifier": ident("two")})

    response = await send(
        http,
        entry("PUT", "Basic/first", basic("first")),
        entry("PUT", "Basic/b", basic("b", subject={"reference": f"Patient?identifier=urn:mrn|{value}"})),
    )

    assert response.status_code == 412
    issue = response.json()["issue"][0]
    assert (issue["code"], issue["expression"]) == (code, ["Bundle.entry[1]"])
    assert await total(http, "Basic") == 0


async def test_equal_conditional_creates_make_one_resource(http: httpx.AsyncClient) -> None:
    patient = {"resourceType": "Patient", "identifier": ident("7")}
    creates = [
        entry("POST", "Patient", patient, f"{URN}{number}", ifNoneExist="identifier=urn:mrn|7") for number in (1, 2)
    ]
    uses = [entry("PUT", f"Basic/b{n}", basic(f"b{n}", subject={"reference": f"{URN}{n}"})) for n in (1, 2)]

    first = await send(http, *creates, *uses)
    second = await send(http, *creates)

    assert statuses(first) == ["201", "200", "201", "201"]
    assert statuses(second) == ["200", "200"]
    assert await total(http, "Patient?identifier=urn:mrn|7") == 1
    subjects = {(await http.get(f"Basic/b{n}")).json()["subject"]["reference"] for n in (1, 2)}
    assert len(subjects) == 1
    assert (await http.get(subjects.pop())).status_code == 200


async def test_conditional_changes_run_in_a_transaction(http: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await http.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name, "identifier": ident(name)})

    response = await send(
        http,
        entry("PUT", "Patient?identifier=urn:mrn|a", {"resourceType": "Patient", "identifier": ident("a")}),
        entry("PUT", "Patient?identifier=urn:mrn|c", {"resourceType": "Patient", "identifier": ident("c")}, f"{URN}1"),
        entry("DELETE", "Patient?identifier=urn:mrn|b"),
        entry("DELETE", "Patient?identifier=urn:mrn|nobody"),
        entry("PUT", "Basic/b", basic("b", subject={"reference": f"{URN}1"})),
    )

    assert statuses(response) == ["200", "201", "204", "204", "201"]
    subject = (await http.get("Basic/b")).json()["subject"]["reference"]
    assert (await http.get(subject)).json()["identifier"] == ident("c")
    assert (await http.get("Patient/b")).status_code == 410


@pytest.mark.parametrize(
    "entries",
    [
        [entry("PUT", "Patient/a", {"resourceType": "Patient", "id": "a"}), entry("DELETE", "Patient/a")],
        [entry("DELETE", "Patient/a"), entry("DELETE", "Patient?identifier=urn:mrn|a")],
        [
            entry("PUT", "Patient/a", {"resourceType": "Patient", "id": "a"}),
            entry("PUT", "Patient?identifier=urn:mrn|a", {"resourceType": "Patient", "identifier": ident("a")}),
        ],
        [
            entry("POST", "Patient", {"resourceType": "Patient"}, ifNoneExist="identifier=urn:mrn|a"),
            entry("DELETE", "Patient/a"),
        ],
        [
            entry("POST", "Patient", {"resourceType": "Patient"}, f"{URN}1"),
            entry("POST", "Patient", {"resourceType": "Patient"}, f"{URN}1"),
        ],
    ],
)
async def test_a_transaction_changes_a_resource_once_only(http: httpx.AsyncClient, entries: list[Json]) -> None:
    await http.put("Patient/a", json={"resourceType": "Patient", "id": "a", "identifier": ident("a")})

    response = await send(http, *entries)

    assert response.status_code == 400
    assert response.json()["issue"][0]["code"] == "duplicate"
    assert response.json()["issue"][0]["expression"][0].startswith("Bundle.entry[1]")
    assert (await http.get("Patient/a")).headers["etag"] == 'W/"1"'


async def test_entries_run_in_the_order_of_the_standard(http: httpx.AsyncClient) -> None:
    await http.put("Patient/old", json={"resourceType": "Patient", "id": "old", "identifier": ident("1")})
    entries = [
        entry("GET", "Patient?identifier=urn:mrn|1"),
        entry("HEAD", "Patient/new"),
        entry("GET", "Patient/new"),
        entry("GET", "Patient/new/_history"),
        entry("GET", "Patient/new/_history/1"),
        entry("PUT", "Patient/new", {"resourceType": "Patient", "id": "new", "identifier": ident("1")}),
        entry("DELETE", "Patient/old"),
    ]
    shuffled = random.Random(3).sample(range(len(entries)), len(entries))

    response = await send(http, *(entries[place] for place in shuffled))

    answers = {place: answer for place, answer in zip(shuffled, response.json()["entry"], strict=True)}
    assert [answers[place]["response"]["status"] for place in range(7)] == ["200"] * 5 + ["201", "204"]
    assert [each["resource"]["id"] for each in answers[0]["resource"]["entry"]] == ["new"]
    assert "resource" not in answers[1]
    assert answers[2]["response"]["etag"] == 'W/"1"'
    assert answers[2]["fullUrl"] == "http://fhir.test/fhir/Patient/new"
    assert answers[3]["resource"]["type"] == "history"
    assert answers[5]["response"]["location"] == "http://fhir.test/fhir/Patient/new/_history/1"
    assert answers[5]["response"]["lastModified"].endswith("Z")
    assert answers[6]["response"]["etag"] == 'W/"2"'


async def test_a_failing_read_fails_the_transaction(http: httpx.AsyncClient) -> None:
    response = await send(http, entry("PUT", "Basic/b", basic("b")), entry("GET", "Patient/never"))

    assert response.status_code == 404
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry[1]"]
    assert await total(http, "Basic") == 0


async def test_an_invalid_entry_names_its_element(http: httpx.AsyncClient) -> None:
    wrong = {"resourceType": "Patient", "id": "p", "name": [{"family": 5}]}

    response = await send(http, entry("PUT", "Basic/b", basic("b")), entry("PUT", "Patient/p", wrong))

    assert response.status_code == 422
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.name[0].family"]
    assert await total(http, "Basic") == 0


async def test_a_create_without_url_goes_to_the_type_of_its_resource(http: httpx.AsyncClient) -> None:
    unplaced = {"resource": {"resourceType": "Basic", "code": CODE}, "request": {"method": "POST"}}

    assert statuses(await send(http, unplaced)) == ["201"]
    assert statuses(await send(http, unplaced, kind="batch")) == ["201"]
    assert await total(http, "Basic") == 2


@pytest.mark.parametrize(
    "unplaced",
    [
        {"resource": {"code": CODE}, "request": {"method": "POST"}},
        {"resource": {"resourceType": 1}, "request": {"method": "POST"}},
        {"resource": basic("b"), "request": {"method": "PUT"}},
        {"request": {"method": "POST"}},
        {"request": {"method": "GET"}},
    ],
)
async def test_whatever_else_has_no_url_is_refused(http: httpx.AsyncClient, unplaced: Json) -> None:
    together = await send(http, unplaced)
    alone = (await send(http, unplaced, kind="batch")).json()["entry"][0]["response"]

    place = ["Bundle.entry[0].request.url"]
    assert (together.status_code, together.json()["issue"][0]["expression"]) == (400, place)
    assert (alone["status"], alone["outcome"]["issue"][0]["expression"]) == ("400", place)


async def test_a_batch_answers_each_entry_alone(http: httpx.AsyncClient) -> None:
    response = await send(
        http,
        entry("PUT", "Basic/b", basic("b")),
        entry("PUT", "Nonsense/b", {"resourceType": "Nonsense"}),
        entry("POST", "Patient/p1", {"resourceType": "Patient"}),
        entry("DELETE", "Patient"),
        entry("GET", "Patient/never"),
        entry("GET", "Patient?birthdate=2023-02-30"),
        entry("PUT", "Basic/b", basic("b"), ifMatch='W/"9"'),
        entry("PUT", "Patient/p"),
        entry("PUT", "Patient/a_b", {"resourceType": "Patient", "id": "a_b"}),
        entry("POST", "Patient/$validate", {"resourceType": "Patient", "active": "x"}),
        entry("GET", "Patient/$nonsense"),
        kind="batch",
    )

    assert statuses(response) == ["201", "404", "400", "412", "404", "400", "412", "400", "400", "200", "404"]
    for answer in response.json()["entry"][1:9]:
        assert answer["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert await total(http, "Basic") == 1


@pytest.mark.parametrize(("prefer", "member"), [("return=representation", "resource"), ("return=OperationOutcome", "")])
async def test_prefer_holds_for_the_entries(http: httpx.AsyncClient, prefer: str, member: str) -> None:
    response = await send(http, entry("PUT", "Basic/b", basic("b")), prefer=prefer)

    answer = response.json()["entry"][0]
    found = answer[member] if member else answer["response"]["outcome"]
    assert found["resourceType"] == ("Basic" if member else "OperationOutcome")


class TestStrict:
    @pytest.fixture
    def fhir_settings(self) -> FhirStoreSettings:
        return FhirStoreSettings(validation="strict")

    async def test_a_refused_entry_of_a_batch_leaves_nothing_behind(self, http: httpx.AsyncClient) -> None:
        dangling = basic("a", subject={"reference": "Patient/never"})

        response = await send(
            http,
            entry("PUT", "Basic/a", dangling),
            entry("PUT", "Basic/b", basic("b")),
            entry("POST", "Basic", dangling),
            kind="batch",
        )

        assert statuses(response) == ["422", "201", "422"]
        assert await total(http, "Basic") == 1
        assert (await http.get("Basic/a")).status_code == 404

    async def test_a_transaction_may_refer_to_what_it_stores_later(self, http: httpx.AsyncClient) -> None:
        response = await send(
            http,
            entry("PUT", "Basic/a", basic("a", subject={"reference": "Patient/p"})),
            entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}),
        )

        assert statuses(response) == ["201", "201"]


async def test_a_huge_bundle_is_refused_before_its_entries_are_looked_at(http: httpx.AsyncClient) -> None:
    entries = [{"request": {"method": "PUT", "url": "Nonsense/x"}, "resource": {"resourceType": "Nonsense"}}] * 50_000

    response = await send(http, *entries)

    assert response.status_code == 413
    assert response.json()["issue"][0]["expression"] == ["Bundle.entry"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_an_operation_is_asked_by_its_own_methods_only(http: httpx.AsyncClient, method: str) -> None:
    asked = entry(method, "Observation/$lastn?patient=Patient/p", {"resourceType": "Parameters"})

    batch = await send(http, asked, kind="batch")
    transaction = await send(http, asked)

    assert statuses(batch) == ["405"]
    assert transaction.status_code == 405
