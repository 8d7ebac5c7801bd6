"""Parts of resources: ``_summary`` and ``_elements``."""

import httpx
import pytest

from pulseweir.fhir_store.summaries import Shape

MARK = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


@pytest.mark.parametrize(
    ("query", "present", "absent"),
    [
        ("Patient?_id=p1&_summary=true", {"name", "birthDate", "active"}, {"contact", "text"}),
        ("Patient?_id=p1&_summary=text", {"text"}, {"name", "birthDate"}),
        ("Patient?_id=p1&_summary=data", {"name", "contact"}, {"text"}),
        ("Patient?_id=p1&_elements=name", {"name", "active"}, {"birthDate", "text", "contact"}),
        ("Patient?_id=p1&_elements=Patient.gender,name", {"gender", "name"}, {"birthDate"}),
        ("Observation?_id=h1&_elements=subject", {"subject", "status", "code"}, {"valueQuantity", "category"}),
        ("Observation?_id=h1&_elements=value", {"valueQuantity"}, {"subject"}),
        ("Observation?_id=h1&_summary=text", {"status", "code"}, {"valueQuantity"}),
    ],
)
async def test_a_part_is_shown_and_marked(
    http: httpx.AsyncClient, query: str, present: set[str], absent: set[str]
) -> None:
    resource = (await http.get(query)).json()["entry"][0]["resource"]

    assert present | {"id", "meta", "resourceType"} <= resource.keys()
    assert not absent & resource.keys()
    assert MARK in resource["meta"]["tag"]


async def test_tags_of_the_client_stay_beside_the_mark(http: httpx.AsyncClient) -> None:
    resource = (await http.get("Patient?_id=p1&_elements=id")).json()["entry"][0]["resource"]

    assert resource["meta"]["tag"] == [{"system": "urn:t", "code": "demo"}, MARK]


async def test_all_of_it_is_not_marked(http: httpx.AsyncClient) -> None:
    resource = (await http.get("Patient?_id=p2&_summary=false")).json()["entry"][0]["resource"]

    assert "tag" not in resource["meta"]


async def test_included_resources_keep_what_only_matches_leave(http: httpx.AsyncClient) -> None:
    query = "Observation?_id=h1&_include=Observation:patient"
    plain = (await http.get(f"{query}&_elements=subject")).json()["entry"][1]["resource"]
    named = (await http.get(f"{query}&_elements=subject,Patient.gender")).json()["entry"][1]["resource"]

    assert "birthDate" in plain
    assert "birthDate" not in named
    assert "gender" in named


async def test_text_and_includes_do_not_mix(http: httpx.AsyncClient) -> None:
    assert (await http.get("Observation?_summary=text&_include=Observation:subject")).status_code == 400


def test_digits_and_parts_within_parts_stay() -> None:
    text = (
        b'{"resourceType":"Observation","id":"x","meta":{},"component":[{"code":{"text":"a"},'
        b'"valueQuantity":{"value":72.50},"referenceRange":[{"text":"no"}]}]}'
    )

    shown = Shape("true").apply(text, "Observation")

    assert b"72.50" in shown
    assert b"referenceRange" not in shown
