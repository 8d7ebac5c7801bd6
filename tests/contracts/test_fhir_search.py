"""What the house needs of a FHIR R4 server's search, asked of every server it may run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contracts.conftest import Server

Json = dict[str, Any]
LOINC = "http://loinc.org"
SYSTEM = "https://example.org/ids"


@pytest.fixture
async def chart(server: Server) -> Server:
    """Six heart rates a day apart, one other code, one other patient."""
    entries = [server.observation(f"h{day}", when=f"2024-03-0{day}T10:00:00Z") for day in range(1, 7)]
    entries.append(server.observation("r1", code="9279-1", when="2024-03-02T10:00:00Z"))
    entries.append(server.observation("o1", subject={"reference": f"Patient/{server.word}-other"}))
    await server.client.update(server.patient("other"))
    answers = await server.client.send_bundle([server.put(item) for item in entries])
    assert [answer.status for answer in answers] == [201] * 8
    return server


def _names(found: list[Json], server: Server) -> list[str]:
    return [item["id"].removeprefix(f"{server.word}-") for item in found]


async def test_search_by_patient_code_newest_first(chart: Server) -> None:
    criteria = {"patient": f"{chart.word}-p", "code": f"{LOINC}|8867-4", "_sort": "-date", "_count": "2"}

    newest = await chart.client.search("Observation", criteria, limit=2)

    assert _names(newest, chart) == ["h6", "h5"]


async def test_search_follows_every_page_once_and_in_order(chart: Server) -> None:
    criteria = {"subject": f"Patient/{chart.word}-p", "code": "8867-4", "_sort": "date", "_count": "2"}

    found = await chart.client.search("Observation", criteria)

    assert _names(found, chart) == ["h1", "h2", "h3", "h4", "h5", "h6"]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2024-03-02"], ["h2", "r1"]),
        (["ge2024-03-05"], ["h5", "h6"]),
        (["gt2024-03-05"], ["h6"]),
        (["lt2024-03-02"], ["h1"]),
        (["le2024-03-01T10:00:00Z"], ["h1"]),
        (["ge2024-03-03", "lt2024-03-05"], ["h3", "h4"]),
        (["2024-03-01,2024-03-06"], ["h1", "h6"]),
        (["sa2024-03-05"], ["h6"]),
        (["eb2024-03-02"], ["h1"]),
    ],
    ids=["day", "ge", "gt", "lt", "le-instant", "between", "either", "sa", "eb"],
)
async def test_dates_compare_as_ranges(chart: Server, dates: list[str], expected: list[str]) -> None:
    pairs = [("patient", f"{chart.word}-p"), *(("date", date) for date in dates)]

    assert sorted(_names(await chart.client.search("Observation", pairs), chart)) == expected


async def test_links_are_absolute(chart: Server) -> None:
    response = await chart.ask("GET", f"Observation?patient={chart.word}-p&_count=1")

    links = {link["relation"]: link["url"] for link in response.json()["link"]}
    assert links["self"].startswith("http")
    assert links["next"].startswith("http")


async def test_search_by_post_finds_the_same(chart: Server) -> None:
    response = await chart.ask("POST", "Observation/_search", data={"patient": f"{chart.word}-p", "code": "9279-1"})

    found = [entry["resource"] for entry in response.json()["entry"]]
    assert _names(found, chart) == ["r1"]


async def test_the_total_counts_without_resources(chart: Server) -> None:
    response = await chart.ask("GET", f"Observation?patient={chart.word}-p&_summary=count")

    assert response.json()["total"] == 7
    assert "entry" not in response.json()


async def test_include_brings_the_patient(chart: Server) -> None:
    criteria = {"_id": f"{chart.word}-h1", "_include": "Observation:subject"}

    found = await chart.client.search("Observation", criteria)

    assert [item["resourceType"] for item in found] == ["Observation", "Patient"]


async def test_revinclude_brings_the_observations(chart: Server) -> None:
    criteria = {"_id": f"{chart.word}-other", "_revinclude": "Observation:subject"}

    found = await chart.client.search("Patient", criteria)

    assert [item["resourceType"] for item in found] == ["Patient", "Observation"]
