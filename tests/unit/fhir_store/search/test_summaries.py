"""Parts of resources: ``_summary`` and ``_elements``."""

import httpx
import msgspec
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


@pytest.mark.parametrize("path", ["Patient/p1", "Patient/p1/_history/1"])
@pytest.mark.parametrize(
    ("query", "present", "absent"),
    [
        ("_summary=true", {"name", "birthDate"}, {"contact", "text"}),
        ("_summary=text", {"text"}, {"name"}),
        ("_summary=data", {"name", "contact"}, {"text"}),
        ("_elements=name", {"name", "active"}, {"birthDate", "text"}),
        ("_elements=Patient.gender", {"gender"}, {"birthDate"}),
    ],
)
async def test_one_resource_is_shown_in_part_too(
    http: httpx.AsyncClient, path: str, query: str, present: set[str], absent: set[str]
) -> None:
    response = await http.get(f"{path}?{query}")

    assert present | {"id", "meta", "resourceType"} <= response.json().keys()
    assert not absent & response.json().keys()
    assert MARK in response.json()["meta"]["tag"]
    assert response.headers["etag"] == 'W/"1"'


async def test_one_resource_without_a_part_asked_for_is_shown_whole(http: httpx.AsyncClient) -> None:
    plain = (await http.get("Patient/p1")).json()

    for query in ("_summary=false", "_summary=", "_elements=", "_elements=Observation.code"):
        assert (await http.get(f"Patient/p1?{query}")).json() == plain


@pytest.mark.parametrize("path", ["Patient/p1", "Patient/p1/_history/1", "Patient/p1/_history"])
@pytest.mark.parametrize("summary", ["count", "short"])
async def test_a_summary_that_no_resource_has_is_refused(http: httpx.AsyncClient, path: str, summary: str) -> None:
    response = await http.get(f"{path}?_summary={summary}")

    assert (response.status_code, response.json()["issue"][0]["code"]) == (400, "invalid")


async def test_a_history_shows_parts_on_each_of_its_pages(empty: httpx.AsyncClient) -> None:
    for family in ("Ash", "Beech", "Cedar"):
        body = {"resourceType": "Patient", "id": "p", "name": [{"family": family}], "gender": "other"}
        await empty.put("Patient/p", json=body)
    await empty.delete("Patient/p")

    shown, url = [], "Patient/p/_history?_elements=name&_count=2"
    while url:
        bundle = (await empty.get(url, headers={"prefer": "handling=strict"})).json()
        shown += [entry["resource"] for entry in bundle["entry"] if "resource" in entry]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")

    assert [each["name"][0]["family"] for each in shown] == ["Cedar", "Beech", "Ash"]
    assert all("gender" not in each and MARK in each["meta"]["tag"] for each in shown)


async def test_every_mandatory_element_stays_in_every_part(http: httpx.AsyncClient) -> None:
    for query in ("_summary=true", "_summary=text", "_elements=id"):
        encounter = (await http.get(f"Encounter/e1?{query}")).json()
        assert encounter["status"] == "in-progress"
        assert "class" in encounter


@pytest.mark.parametrize("tag", [b"5", b"{}", b"null", b'"SUBSETTED"'])
def test_tags_that_nobody_validated_do_not_hinder_the_mark(tag: bytes) -> None:
    text = b'{"resourceType":"Patient","id":"p","meta":{"tag":' + tag + b"}}"

    shown = msgspec.json.decode(Shape("data").apply(text, "Patient"))

    assert shown["meta"]["tag"] == [MARK]
