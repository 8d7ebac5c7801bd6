"""Every modifier of R4 on every type of parameter: what it finds, or that it is refused by name."""

from typing import Any

import httpx
import pytest

Json = dict[str, Any]
KINDS = "http://terminology.hl7.org/CodeSystem/v2-0203"
SETS = "http://hl7.org/fhir/ValueSet"
MODIFIERS = (
    *("missing", "exact", "contains", "text", "not", "above", "below", "in", "not-in", "of-type"),
    *("identifier", "Patient", "iterate"),
)
"""Those of R4's table, and one that belongs to includes alone."""


def to(name: str) -> Json:
    return {"reference": name}


def coded(code: str, **members: str) -> Json:
    return {"coding": [{"system": "http://loinc.org", "code": code, **members}]}


def observation(name: str, /, **members: Any) -> Json:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": coded("8867-4")} | members


def identifier(value: str, *kinds: str) -> Json:
    return {"value": value} | (
        {"type": {"coding": [{"system": KINDS, "code": each} for each in kinds]}} if kinds else {}
    )


HELD: list[Json] = [
    {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [identifier("7", "MR", "PI"), identifier("8", "SS")],
        "gender": "female",
        "name": [{"family": "Van Dyke"}],
        "birthDate": "1970-01-01",
    },
    {"resourceType": "Patient", "id": "p2", "identifier": [identifier("8", "MR"), identifier("9")], "gender": "other"},
    {"resourceType": "Patient", "id": "p3", "name": [{"family": "Dyke"}]},
    observation(
        "o1",
        subject=to("Patient/p1"),
        code=coded("8867-4", display="Heart rate"),
        effectiveDateTime="2024",
        valueQuantity={"value": 1},
    ),
    observation("o2", subject={"display": "somebody"}, code={"text": "Heart sounds"}),
    observation("o3", subject=to("#inside"), contained=[{"resourceType": "Patient", "id": "inside"}], status="amended"),
    observation(
        "o4", subject={"identifier": {"value": "7"}}, device={"extension": [{"url": "urn:x", "valueCode": "y"}]}
    ),
    {
        "resourceType": "Condition",
        "id": "c1",
        "subject": to("Patient/p1"),
        "code": {"text": "Fever"},
        "asserter": {"display": "a nurse"},
    },
    {"resourceType": "Condition", "id": "c2", "subject": to("Patient/p1"), "code": coded("1")},
    {"resourceType": "Condition", "id": "c3", "subject": to("Patient/p1")},
    {"resourceType": "Device", "id": "d1", "url": "http://example.org/a/b", "patient": to("Patient/p1")},
    {"resourceType": "Device", "id": "d2", "url": "http://example.org/a"},
    {
        "resourceType": "RiskAssessment",
        "id": "k1",
        "status": "final",
        "subject": to("Patient/p1"),
        "prediction": [{"probabilityDecimal": 0.5}],
    },
    {"resourceType": "RiskAssessment", "id": "k2", "status": "final", "subject": to("Patient/p1")},
]
TYPES = {
    "token": ("Patient", "identifier", "8"),
    "code": ("Observation", "status", "final"),
    "concept": ("Observation", "code", "8867-4"),
    "string": ("Patient", "family", "Dyke"),
    "reference": ("Observation", "subject", "Patient/p1"),
    "uri": ("Device", "url", "http://example.org/a"),
    "date": ("Patient", "birthdate", "1970"),
    "number": ("RiskAssessment", "probability", "0.5"),
    "quantity": ("Observation", "value-quantity", "1"),
    "composite": ("Observation", "code-value-quantity", "8867-4$1"),
    "id": ("Patient", "_id", "p1"),
    "instant": ("Patient", "_lastUpdated", "2000"),
}
"""A parameter of each type with a value; a token of each data type whose modifiers differ."""

FOUND = {
    # (type, modifier): what the value finds; for `missing` true is the value.
    ("token", "missing"): "p3",
    ("token", "not"): "p3",
    ("token", "text"): "",
    ("code", "missing"): "",
    ("code", "not"): "o3",
    ("code", "text"): "",
    ("concept", "missing"): "",
    ("concept", "not"): "o2",
    ("concept", "text"): "",
    ("string", "missing"): "p2",
    ("string", "exact"): "p3",
    ("string", "contains"): "p1 p3",
    ("reference", "missing"): "",
    ("reference", "identifier"): "",
    ("reference", "Patient"): "o1",
    ("uri", "missing"): "",
    ("uri", "above"): "d2",
    ("uri", "below"): "d1 d2",
    ("date", "missing"): "p2 p3",
    ("number", "missing"): "k2",
    ("quantity", "missing"): "o2 o3 o4",
    ("id", "missing"): "",
    ("id", "not"): "p2 p3",
    ("instant", "missing"): "",
}
"""What is not here is refused: `in`, `not-in` and `of-type` take other values and have a test of their own."""


@pytest.fixture
async def held(empty: httpx.AsyncClient) -> httpx.AsyncClient:
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}} for each in HELD
    ]
    response = await empty.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert response.status_code == 200, response.text
    return empty


def ids(response: httpx.Response) -> list[str]:
    return sorted(entry["resource"]["id"] for entry in response.json().get("entry", ()))


async def test_each_modifier_on_each_type_finds_what_it_says_or_is_refused(held: httpx.AsyncClient) -> None:
    for kind, (resource_type, name, value) in TYPES.items():
        for modifier in MODIFIERS:
            asked = f"{name}:{modifier}"
            response = await held.get(resource_type, params={asked: "true" if modifier == "missing" else value})

            if (kind, modifier) in FOUND:
                assert (asked, ids(response)) == (asked, FOUND[kind, modifier].split())
            elif kind in {"token", "code", "concept"} and modifier in {"in", "not-in", "of-type"}:
                assert response.status_code == 400
            else:
                (issue,) = response.json()["issue"]
                assert (asked, response.status_code, issue["code"]) == (asked, 400, "not-supported")
                assert f"Unsupported modifier `{modifier}` on search parameter {name}" in issue["details"]["text"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"Patient?identifier:of-type={KINDS}|MR|8", "p2"),
        (f"Patient?identifier:of-type={KINDS}|PI|7", "p1"),
        (f"Patient?identifier:of-type={KINDS}|SS|8,{KINDS}|MR|7", "p1"),
        ("Patient?identifier:of-type=urn:other|MR|8", ""),
        (f"Patient?identifier:of-type={KINDS}|MR|9", ""),
        (f"Observation?subject:Patient.identifier:of-type={KINDS}|MR|7", "o1"),
        (f"Patient?gender:in={SETS}/administrative-gender", "p1 p2"),
        (f"Patient?gender:in={SETS}/administrative-gender|4.0.1", "p1 p2"),
        (f"Patient?gender:not-in={SETS}/administrative-gender", "p3"),
        (f"Observation?status:in={SETS}/observation-status", "o1 o2 o3 o4"),
        (f"Observation?status:in={SETS}/administrative-gender", ""),
        (f"Observation?status:not-in={SETS}/administrative-gender", "o1 o2 o3 o4"),
        ("Condition?code:missing=true", "c3"),
        ("Condition?code:missing=false", "c1 c2"),
        ("Condition?asserter:missing=false", "c1"),
        ("Observation?subject:missing=false", "o1 o2 o3 o4"),
        ("Observation?device:missing=true", "o1 o2 o3 o4"),
        ("Observation?patient:missing=false", "o1"),
        ("Observation?subject:identifier=7", "o4"),
        ("Observation?subject:Patient=p1", "o1"),
        ("Observation?code:text=heart", "o1 o2"),
        ("Patient?_id:missing=false", "p1 p2 p3"),
        ("Patient?_lastUpdated:missing=false", "p1 p2 p3"),
        ("Observation?patient._id:missing=false", "o1"),
    ],
)
async def test_what_a_modifier_finds(held: httpx.AsyncClient, query: str, expected: str) -> None:
    response = await held.get(query, headers={"prefer": "handling=strict"})

    assert response.status_code == 200, response.text
    assert ids(response) == expected.split()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("Patient?identifier:of-type=MR|8", "invalid"),
        (f"Patient?identifier:of-type={KINDS}||8", "invalid"),
        (f"Patient?identifier:of-type={KINDS}|MR|", "invalid"),
        (f"Observation?code:of-type={KINDS}|MR|8", "not-supported"),
        ("Observation?code:in=http://example.org/ValueSet/ours", "not-supported"),
        (f"Patient?gender:in={SETS}/administrative-gender|5.0.0", "not-supported"),
        (f"Patient?language:in={SETS}/all-languages", "not-supported"),
        ("Observation?code:in=8867-4", "not-supported"),
    ],
)
async def test_what_a_modifier_cannot_find_is_refused(held: httpx.AsyncClient, query: str, code: str) -> None:
    response = await held.get(query, headers={"prefer": "handling=lenient"})

    assert (response.status_code, response.json()["issue"][0]["code"]) == (400, code)
