"""What a reference may say, who resolves one that searches, and how one without a type is found."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
Make = Callable[..., Json]
ABSOLUTE = [
    "resource:0",
    "urn:foobar:1",
    "urn:uuid:6e5f0c5e-8f3c-4a5e-9a39-1f2bb6b3f6a1",
    "did:web:example.org:patients#7",
    "did:key:z6Mk/x",
    "mailto:ward@example.org",
    "tel:+41-44-000",
    "ftp://example.org/a",
    "http://example.org/fhir/Patient/7",
    "x-own+1.0:a?b=c",
]
LOOKALIKES = [
    "Patient",
    "Patient/",
    "Nonsense/1",
    "patient/1",
    "/Patient/1",
    "1:x",
    ":x",
    "a b:c",
    "resource:",
    "did:a b",
]
SEARCHES = ["Patient?identifier=urn:mrn|p1", "Patient?_id=p1", "Patient?name=x&birthdate=1970"]


def flag(reference: str | None = None, **members: Any) -> Json:
    subject = {"reference": reference} if reference else {"display": "somebody"}
    return {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": subject} | members


def batch(*entries: tuple[str, str, Json], kind: str = "batch") -> Json:
    listed = [{"request": {"method": method, "url": url}, "resource": body} for method, url, body in entries]
    return {"resourceType": "Bundle", "type": kind, "entry": listed}


async def ids(http: httpx.AsyncClient, path: str, **query: str) -> list[str]:
    answer = await http.get(path, params=query, headers={"prefer": "handling=strict"})
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", ())]


@pytest.mark.parametrize("reference", ABSOLUTE)
async def test_any_absolute_uri_is_a_reference_and_is_found_by_its_whole_text(
    http: httpx.AsyncClient, reference: str
) -> None:
    stored = await http.put("Flag/f", json=flag(reference, id="f"))
    observed = await http.put(
        "Observation/o",
        json={"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
        | {"subject": {"reference": reference}},
    )

    assert (stored.status_code, observed.status_code) == (201, 201)
    assert stored.json()["subject"]["reference"] == reference
    text = reference.replace("|", r"\|")
    assert await ids(http, "Flag", subject=text) == ["f"]
    assert await ids(http, "Observation", subject=text) == ["o"]
    assert await ids(http, "Flag", subject=f"{text}0") == []
    if not reference.endswith("Patient/7"):
        for narrow in ("patient", "subject:Patient"):
            answer = await http.get("Flag", params={narrow: text})
            assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "not-supported")


@pytest.mark.parametrize("reference", LOOKALIKES)
async def test_what_is_neither_absolute_nor_a_type_with_an_id_is_refused(
    http: httpx.AsyncClient, reference: str
) -> None:
    answer = await http.post("Flag", json=flag(reference))

    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Flag.subject.reference"]


async def test_the_type_of_a_relative_reference_and_of_an_address_is_still_looked_at(http: httpx.AsyncClient) -> None:
    for wrong in ("Subscription/1", "https://example.org/fhir/Subscription/1"):
        assert (await http.post("Flag", json=flag(wrong))).status_code == 422


@pytest.mark.parametrize("reference", SEARCHES)
async def test_a_reference_that_searches_is_refused_where_nothing_resolves_it(
    http: httpx.AsyncClient, patient: Make, reference: str
) -> None:
    await http.put("Patient/p1", json=patient())
    await http.put("Flag/held", json=flag(id="held"))
    patch = [{"op": "add", "path": "/subject/reference", "value": reference}]
    binary = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(json.dumps(patch).encode()).decode(),
    }
    nested = flag(None, extension=[{"url": "urn:x", "valueReference": {"reference": reference}}])
    escaped = json.dumps(flag(reference)).replace("?", r"\u003f")
    as_json = {"content-type": "application/fhir+json"}
    alone = [
        (await http.post("Flag", json=flag(reference)), "Flag.subject.reference"),
        (await http.put("Flag/f", json=flag(reference, id="f")), "Flag.subject.reference"),
        (await http.put("Flag?_id=f", json=flag(reference)), "Flag.subject.reference"),
        (await http.post("Flag", content=escaped, headers=as_json), "Flag.subject.reference"),
        (await http.post("Flag", json=nested), "Flag.extension[0].value.reference"),
        (
            await http.patch("Flag/held", json=patch, headers={"content-type": "application/json-patch+json"}),
            "Flag.subject.reference",
        ),
        (
            await http.patch("Flag/held", json={"subject": {"reference": reference}}),
            "Flag.subject.reference",
        ),
    ]
    together = await http.post(
        "",
        json=batch(
            ("POST", "Flag", flag(reference)),
            ("PUT", "Flag/g", flag(reference, id="g")),
            ("PATCH", "Flag/held", binary),
            ("POST", "Flag", flag("Patient/p1")),
        ),
    )

    for answer, place in alone:
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, [place]), answer.text
    answers = [entry["response"] for entry in together.json()["entry"]]
    assert [each["status"] for each in answers] == ["422", "422", "422", "201"]
    for each in answers[:3]:
        assert each["outcome"]["issue"][0]["expression"] == ["Flag.subject.reference"]
    held = (await http.get("Flag")).json()["entry"]
    assert sorted(entry["resource"]["subject"].get("reference", "") for entry in held) == ["", "Patient/p1"]


async def test_a_provenance_in_a_header_does_not_search_either(http: httpx.AsyncClient, patient: Make) -> None:
    who = {"who": {"reference": "Practitioner?identifier=x"}}
    told = {"resourceType": "Provenance", "recorded": "2024-01-01T00:00:00Z", "agent": [who]}

    answer = await http.put("Patient/p1", json=patient(), headers={"x-provenance": json.dumps(told)})

    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["Provenance.agent[0].who.reference"]


async def test_a_transaction_resolves_it_and_stores_the_id(http: httpx.AsyncClient, patient: Make) -> None:
    await http.put("Patient/p1", json=patient())
    body = batch(("PUT", "Flag/f", flag("Patient?identifier=urn:mrn|p1", id="f")), kind="transaction")

    assert (await http.post("", json=body)).status_code == 200
    assert (await http.get("Flag/f")).json()["subject"] == {"reference": "Patient/p1"}


async def test_a_transaction_kept_as_data_keeps_its_searches(http: httpx.AsyncClient) -> None:
    inside = batch(("POST", "Flag", flag("Patient?identifier=urn:mrn|p1")), kind="transaction")

    answer = await http.post("Bundle", json=inside)

    assert answer.status_code == 201
    assert answer.json()["entry"][0]["resource"]["subject"]["reference"] == "Patient?identifier=urn:mrn|p1"


async def test_a_name_of_any_scheme_links_the_entries_of_a_transaction(http: httpx.AsyncClient, patient: Make) -> None:
    body = batch(("POST", "Patient", patient(None)), ("PUT", "Flag/f", flag("resource:0", id="f")), kind="transaction")
    body["entry"][0]["fullUrl"] = "resource:0"

    answer = await http.post("", json=body)

    made = answer.json()["entry"][0]["response"]["location"].split("/_history")[0].rpartition("/fhir/")[2]
    assert (await http.get("Flag/f")).json()["subject"] == {"reference": made}
