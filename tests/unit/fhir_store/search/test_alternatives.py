"""Alternatives of a value: empty ones, very many of them, none at all."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

Find = Callable[..., Awaitable[list[str]]]
MANY = ",".join(map(str, range(990)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Patient?family=smith,", "p2"),
        ("Patient?family=,smith,,", "p2"),
        ("Patient?name:contains=mit,", "p2"),
        ("Patient?family:exact=,Smith", "p2"),
        ("Patient?gender=,male", "p2"),
        ("Patient?birthdate=1980,", "p2"),
        ("Observation?subject=Patient/p2,", "h3"),
        ("Observation?value-quantity=,90", "h2"),
        ("Observation?code-value-quantity=8867-4$90,", "h2"),
        ("Device?url=http://example.org/devices/a/1,", "d1"),
        ("Patient?_id=p2,", "p2"),
        ("Patient?family=", "p1 p2 p3"),
        ("Patient?_count=&_sort=&_include=&_elements=&_total=&_summary=", "p1 p2 p3"),
        ("?_type=Flag,", "f1 f2"),
    ],
)
async def test_an_empty_alternative_is_no_alternative(find: Find, query: str, expected: str) -> None:
    assert sorted(await find(query)) == expected.split()


@pytest.mark.parametrize(
    "query",
    [
        "Patient?family=,",
        "Patient?name=%20",
        "Patient?name=%CC%81",
        "Patient?name:contains=%20,smith",
        "Observation?code:text=%20",
        "Observation?code-value-string=8867-4$",
        "Patient?identifier=|",
        "Patient?identifier:not=|",
    ],
)
async def test_a_value_that_says_nothing_is_refused(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(query)

    assert (response.status_code, response.json()["issue"][0]["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"Observation?subject.name={MANY},smith", "h3"),
        (f"Observation?code:not={MANY}", "h1 h2 h3 r1 x1"),
        (f"Observation?identifier={MANY}", ""),
        (f"Observation?date={','.join(['2024-03-02'] * 990)}", "h2"),
        (f"Observation?combo-code-value-quantity={','.join(['8867-4$90'] * 500)}", "h2"),
        (f"Patient?_has:Observation:subject:code={MANY},9279-1", "p1"),
        (f"?_id={MANY},p1", "p1"),
    ],
)
async def test_very_many_alternatives_are_answered(find: Find, query: str, expected: str) -> None:
    assert sorted(await find(query)) == expected.split()


async def test_more_than_one_statement_holds_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.get(f"?_lastUpdated={','.join(['2024'] * 990)}")

    assert (response.status_code, response.json()["issue"][0]["code"]) == (400, "too-costly")
