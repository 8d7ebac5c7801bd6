"""Searches over the generated parameters: quantities in any unit, composites, components, unions, truths."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.schema import MIGRATIONS
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.sqlite import connect

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"


def coded(code: str) -> Json:
    return {"coding": [{"system": LOINC, "code": code}]}


def quantity(value: float, code: str, **members: Any) -> Json:
    return {"value": value, "system": UCUM, "code": code, **members}


def observation(name: str, code: str, **members: Any) -> Json:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": coded(code), **members}


OBSERVATIONS = [
    observation("w1", "29463-7", valueQuantity=quantity(80.5, "kg", unit="kilo")),
    observation("w2", "29463-7", valueQuantity=quantity(200, "[lb_av]")),
    observation("w3", "29463-7", valueQuantity=quantity(100, "kg", comparator=">")),
    observation("t1", "8310-5", valueQuantity=quantity(37.5, "Cel")),
    observation("t2", "8310-5", valueQuantity=quantity(101, "[degF]")),
    observation(
        "b1",
        "85354-9",
        component=[
            {"code": coded("8480-6"), "valueQuantity": quantity(150, "mm[Hg]")},
            {"code": coded("8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
        ],
    ),
    observation(
        "b2",
        "85354-9",
        component=[
            {"code": coded("8480-6"), "valueQuantity": quantity(110, "mm[Hg]")},
            {"code": coded("8462-4"), "valueQuantity": quantity(145, "mm[Hg]")},
        ],
    ),
    observation("c1", "67775-7", valueCodeableConcept=coded("alert")),
    observation("c2", "67775-7", valueString="Drowsy, but wakes", dataAbsentReason=None),
    observation("d1", "1-8", valueDateTime="2024-02-03"),
]


async def _client(store: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://fhir.test/fhir/") as http:
        yield http
    store.close()


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async for client in _client(FhirStore.open(tmp_path, Clock())):
        for item in OBSERVATIONS:
            body = {name: value for name, value in item.items() if value is not None}
            assert (await client.put(f"Observation/{item['id']}", json=body)).status_code == 201
        yield client


async def found(http: httpx.AsyncClient, query: str) -> list[str]:
    response = await http.get(query)
    assert response.status_code == 200, response.text
    return sorted(entry["resource"]["id"] for entry in response.json().get("entry", ()))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"value-quantity=80.5|{UCUM}|kg", ["w1"]),
        (f"value-quantity=80|{UCUM}|kg", []),
        (f"value-quantity=gt85|{UCUM}|kg", ["w2", "w3"]),
        (f"value-quantity=lt85|{UCUM}|kg", ["w1"]),
        (f"value-quantity=gt150|{UCUM}|kg", ["w3"]),
        (f"value-quantity=ge80500|{UCUM}|g&value-quantity=le80500|{UCUM}|g", ["w1"]),
        (f"value-quantity=ap80|{UCUM}|kg", ["w1"]),
        (f"value-quantity=90.7|{UCUM}|kg", ["w2"]),
        (f"value-quantity=gt38|{UCUM}|Cel", ["t2"]),
        ("value-quantity=37.5", ["t1"]),
        ("value-quantity=80.5||kilo", ["w1"]),
        ("value-quantity=80.5||kg", ["w1"]),
        ("value-quantity:missing=true&code=67775-7", ["c1", "c2"]),
        (f"code-value-quantity={LOINC}|29463-7$lt85|{UCUM}|kg", ["w1"]),
        (f"code-value-quantity=8310-5$gt10|{UCUM}|Cel,29463-7$lt85", ["t1", "t2", "w1"]),
        (f"component-code-value-quantity=8480-6$gt140|{UCUM}|mm[Hg]", ["b1"]),
        ("component-code-value-quantity=8462-4$gt140", ["b2"]),
        ("combo-code-value-quantity=8480-6$gt140", ["b1"]),
        ("combo-code-value-quantity=8310-5$gt100", ["t2"]),
        ("component-value-quantity=gt146", ["b1"]),
        ("combo-value-quantity=gt146", ["b1", "w2", "w3"]),
        ("component-code=8480-6", ["b1", "b2"]),
        ("combo-code=8480-6,29463-7", ["b1", "b2", "w1", "w2", "w3"]),
        ("combo-code:not=8480-6&code:not=29463-7", ["c1", "c2", "d1", "t1", "t2"]),
        ("combo-value-concept:missing=false", ["c1"]),
        ("component-code:missing=false", ["b1", "b2"]),
        ("value-concept=alert", ["c1"]),
        ("code-value-concept=67775-7$alert", ["c1"]),
        ("code-value-concept=8310-5$alert", []),
        ("value-string=drowsy", ["c2"]),
        ("code-value-string=67775-7$drowsy", ["c2"]),
        ("value-date=2024-02", ["d1"]),
        ("code-value-date=1-8$ge2024-02-03", ["d1"]),
        ("_sort=value-quantity&code=8310-5", ["t1", "t2"]),
    ],
)
async def test_generated_parameters_find(http: httpx.AsyncClient, query: str, expected: list[str]) -> None:
    assert await found(http, f"Observation?{query}") == expected


@pytest.mark.parametrize(
    "query", ["value-quantity=x", "value-quantity=1|2", "code-value-quantity=1", "value-quantity=1e999"]
)
async def test_values_that_make_no_sense_are_refused(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"Observation?{query}")).status_code == 400


async def test_an_update_leaves_no_index_behind(http: httpx.AsyncClient) -> None:
    changed = observation(
        "b1", "85354-9", component=[{"code": coded("8480-6"), "valueQuantity": quantity(90, "mm[Hg]")}]
    )
    await http.put("Observation/b1", json=changed)
    await http.delete("Observation/w3")

    assert await found(http, "Observation?component-code-value-quantity=8480-6$gt140") == []
    assert await found(http, "Observation?value-quantity=gt300") == []


async def test_a_comparison_of_numbers_knows_no_precision(http: httpx.AsyncClient) -> None:
    risk = {"resourceType": "RiskAssessment", "id": "r", "status": "final", "subject": {"reference": "Patient/p"}}
    await http.put("RiskAssessment/r", json=risk | {"prediction": [{"probabilityDecimal": 80.2}]})

    assert await found(http, "RiskAssessment?probability=gt80") == ["r"]
    assert await found(http, "RiskAssessment?probability=80") == ["r"]
    assert await found(http, "RiskAssessment?probability=80.0") == []


async def test_a_file_of_the_first_version_is_indexed_anew(tmp_path: Path) -> None:
    connection = connect(tmp_path / FILE_NAME)
    connection.execute(MIGRATIONS[0])
    connection.pragma("user_version", 1)
    connection.execute("INSERT INTO term (id, text) VALUES (1, 'Observation'), (2, 'Flag')")
    content = b'"status":"final","code":{"coding":[{"code":"c"}]},"valueQuantity":{"value":5}'
    flag = b'"status":"active","code":{"text":"x"},"subject":{"reference":"Patient/1"}'
    insert = (
        "INSERT INTO resource (pk, type, id, version, updated, deleted, meta, content) VALUES (?, ?, ?, 1, 0, ?, ?, ?)"
    )
    connection.execute(insert, (1, 1, "o", 0, b"", content))
    connection.execute(insert, (2, 2, "f", 0, b'"tag":[{"code":"t"}]', flag))
    connection.execute(insert, (3, 2, "gone", 1, b"", b""))
    connection.execute("INSERT INTO observation (pk, low, high) VALUES (1, 0, 0)")
    connection.close()

    async for http in _client(FhirStore.open(tmp_path, Clock())):
        assert await found(http, "Observation?code-value-quantity=c$gt4") == ["o"]
        assert await found(http, "Flag?status=active&_tag=t") == ["f"]


async def test_strict_validation_asks_whether_references_lead_somewhere(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(validation="strict"))
    flag = {
        "resourceType": "Flag",
        "id": "f",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
    }
    patient = {"resourceType": "Patient", "id": "p", "link": [{"other": {"reference": "Patient/p"}, "type": "refer"}]}
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
        for each in (flag, patient)
    ]

    async for http in _client(store):
        refused = await http.put("Flag/f", json=flag)
        half = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries[:1]})
        assert (await http.get("Flag/f")).status_code == 404
        whole = await http.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    assert refused.status_code == half.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Flag.subject.reference"]
    assert half.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject.reference"]
    assert whole.status_code == 200
