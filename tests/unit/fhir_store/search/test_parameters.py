"""What one parameter finds: modifiers, prefixes, forms of references, escapes."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from pulseweir.fhir_store.search_amounts import read_number

Find = Callable[..., Awaitable[list[str]]]

LENIENT = {"prefer": "handling=lenient"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # tokens
        ("Observation?code=http://loinc.org|8867-4", "h1 h2 h3"),
        ("Observation?code=|8867-4", ""),
        ("Observation?code=http://loinc.org|", "h1 h2 h3 r1 x1"),
        ("Observation?code=urn:nowhere|8867-4", ""),
        ("Observation?code:not=8867-4", "r1 x1"),
        ("Observation?code:not=8867-4,9279-1", ""),
        ("Observation?code:text=heart", "h1"),
        ("Observation?category:text=VITAL", "h1"),
        ("Observation?status=final", "h1 h2 h3 r1"),
        ("Observation?status=http://hl7.org/fhir/observation-status|amended", "x1"),
        ("Observation?status=urn:nowhere|amended", ""),
        ("Patient?gender=http://hl7.org/fhir/administrative-gender|female", "p1"),
        ("Patient?active=true", "p1"),
        ("Patient?active:missing=true", "p2"),
        ("Patient?identifier=urn:mrn|1", "p1"),
        ("Patient?_id=p1,p3", "p1 p3"),
        ("Patient?_id:not=p1", "p2 p3"),
        ("Patient?_tag=urn:t|demo", "p1"),
        ("Patient?_tag:not=demo", "p2 p3"),
        ("Patient?_profile=http://example.org/P", "p1"),
        ("Patient?_profile=http://example.org/P|2.0", "p1"),
        ("Patient?_profile=http://example.org/P|3.0", ""),
        ("Patient?_profile:missing=false", "p1"),
        ("Flag?status=active&category=clinical", "f1"),
        # strings
        ("Patient?family=muller", "p1"),
        ("Patient?family=mül", "p1"),
        ("Patient?family:exact=Müller", "p1"),
        ("Patient?family:exact=muller", ""),
        ("Patient?name:contains=ari", "p1"),
        ("Patient?name=eva&name=marie", "p1"),
        ("Patient?name=eva,smith", "p1 p2"),
        (r"Patient?family=o'neil\, jr", "p3"),
        ("Patient?family:missing=false", "p1 p2 p3"),
        # references
        ("Observation?subject=Patient/p1", "h1 h2 r1"),
        ("Observation?subject=p1", "h1 h2 r1"),
        ("Observation?subject:Patient=p1", "h1 h2 r1"),
        ("Observation?subject:Device=p1", ""),
        ("Observation?subject:Patient=Device/p1", ""),
        ("Observation?subject=http://fhir.test/fhir/Patient/p1", "h1 h2 r1"),
        ("Observation?subject=http://elsewhere.test/fhir/Patient/p1", ""),
        ("Observation?subject=Patient/p1/_history/1", "h1 h2 r1"),
        ("Observation?subject:identifier=urn:mrn|1", "x1"),
        ("Observation?patient:missing=true", "x1"),
        ("Observation?performer=doc", "r1"),
        ("Observation?performer:missing=true", "h1 h2 h3 x1"),
        ("Flag?author=Device/d1", "f1"),
        # references to types that only other servers hold
        ("Observation?specimen=s1", "h3"),
        ("Observation?specimen:Specimen=s1", "h3"),
        ("Observation?specimen:Device=s1", ""),
        # dates
        ("Patient?birthdate=1970", "p1"),
        ("Patient?birthdate=1970-05-20", "p1"),
        ("Patient?birthdate=1980-01", ""),
        ("Patient?birthdate=ne1970", "p2"),
        ("Patient?birthdate=ap1977", "p2"),
        ("Patient?birthdate=sa1970-05", "p2"),
        ("Observation?date=ge2024-03-02&date=lt2024-03-03", "h2 h3"),
        ("Observation?date=2024-03-02", "h2"),
        ("Observation?date=ge2024-03-03", "h3"),
        ("Observation?date=le2024-03-01", "h1 h3"),
        ("Encounter?date=le2024-03-01", "e1"),
        ("Observation?date=ap2024-03-02T00:00:00Z&date=eb2024-03-02T12:00:00Z", "h1 h2"),
        ("Observation?date:missing=true", "r1 x1"),
        ("Encounter?date=gt2030", "e1"),
        # numbers and quantities
        ("RiskAssessment?probability=0.25", "k1"),
        ("RiskAssessment?probability=gt0.2&probability=le0.25", "k1"),
        ("RiskAssessment?probability=ap0.27", "k1"),
        ("RiskAssessment?probability=2.5e-1", "k1"),
        ("RiskAssessment?probability=ne0.25", ""),
        ("Observation?value-quantity=72.5", "h1"),
        ("Observation?value-quantity=lt80||/min", "h1"),
        ("Observation?value-quantity:missing=false", "h1 h2"),
        # URIs
        ("Device?url=http://example.org/devices/a/1", "d1"),
        ("Device?url:below=http://example.org/devices", "d1"),
        ("Device?url:below=http://example.org/dev", ""),
        ("Device?url:above=http://example.org/devices/a/1/x", "d1"),
        ("Device?url:above=http://example.org/devices", ""),
    ],
)
async def test_a_parameter_finds(find: Find, query: str, expected: str) -> None:
    assert sorted(await find(query)) == expected.split()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Observation?code:below=1", ["below", "code"]),
        ("Observation?code:above=1", ["above", "code"]),
        ("Observation?code:of-type=a|b|c", ["of-type", "code"]),
        ("Patient?family:=x", ["family"]),
        ("Patient?birthdate:exact=1970", ["exact", "birthdate"]),
        ("Observation?subject:Ship=1", ["Ship", "subject"]),
        ("Observation?subject:Encounter.status=planned", ["Encounter", "subject"]),
        ("Observation?_include:maybe=Observation:subject", ["maybe", "_include"]),
    ],
)
async def test_an_unsupported_modifier_is_named(http: httpx.AsyncClient, query: str, words: list[str]) -> None:
    response = await http.get(query, headers=LENIENT)

    (issue,) = response.json()["issue"]
    assert (response.status_code, issue["code"]) == (400, "not-supported")
    assert all(word in issue["details"]["text"] for word in words)


@pytest.mark.parametrize("name", ["_list", "_filter", "_query", "_text", "_content", "_containedType"])
async def test_searches_of_other_kinds_are_refused(http: httpx.AsyncClient, name: str) -> None:
    response = await http.get(f"Patient?{name}=x", headers=LENIENT)

    assert response.status_code == 400
    assert name in response.json()["issue"][0]["details"]["text"]


async def test_an_unknown_parameter_is_refused_or_left_out(http: httpx.AsyncClient) -> None:
    strict = await http.get("Patient?colour=red", headers={"prefer": "handling=strict"})
    lenient = await http.get("Patient?colour=red&gender=male", headers=LENIENT)

    assert strict.status_code == 400
    assert lenient.json()["total"] == 1
    assert lenient.json()["link"][0]["url"].endswith("/Patient?gender=male")
    outcome = lenient.json()["entry"][-1]
    assert outcome["search"]["mode"] == "outcome"
    assert "colour" in outcome["resource"]["issue"][0]["details"]["text"]


@pytest.mark.parametrize(
    "query",
    [
        "Observation?date=2023-02-30",
        "Observation?date=yesterday",
        "Observation?code:missing=perhaps",
        "Observation?code=a|b|c",
        "RiskAssessment?probability=much",
        "Observation?_count=-1",
        "Observation?_count=1e9",
        "Observation?_total=some",
        "Observation?_summary=short",
        "Observation?_sort=-colour",
        "Observation?_page=AAAA",
        "Observation?_contained=true",
        "Patient?_type=Observation",
    ],
)
async def test_values_that_make_no_sense_are_refused(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(query)

    assert response.status_code == 400
    (issue,) = response.json()["issue"]
    assert issue["expression"] == ["http." + query.partition("?")[2].partition("=")[0]]


async def test_a_header_at_fault_is_named(http: httpx.AsyncClient) -> None:
    for name, value in (("Accept", "text/turtle"), ("Prefer", "handling=perhaps"), ("If-None-Match", '"a" b')):
        response = await http.get("Patient/p1", headers={name: value})

        assert response.json()["issue"][0]["expression"] == [f"http.{name}"], name


def test_a_number_too_large_for_its_half_equals_itself() -> None:
    _, (low, beyond) = read_number("1000000000000000000").condition("low", "high")

    assert low <= 1e18 < beyond
