"""The order of matches, their number, and pages that hold while others write."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.paging import decode_page, join_sent, split_sent

Json = dict[str, Any]
HEAD = {"resourceType": "Observation", "status": "final"}
VALUES = [72.5, None, 80, 72.5, None, 60, 90.25]


def _chart() -> list[Json]:
    found = []
    for place, value in enumerate(VALUES):
        item: Json = HEAD | {"id": f"o{place}", "code": {"coding": [{"code": "bc"[place % 2]}]}}
        item["subject"] = {"reference": f"Patient/p{place % 3}"}
        if place != 3:
            item["effectiveDateTime"] = f"2024-01-0{1 + place * 3 % 7}"
        if value is not None:
            item["valueQuantity"] = {"value": value}
        if place % 2:
            item["identifier"] = [{"value": f"i{9 - place}"}]
            item["issued"] = "2024-01-01T00:00:00Z"
        found.append(item)
    return found


@pytest.fixture
async def chart(empty: httpx.AsyncClient) -> httpx.AsyncClient:
    for item in _chart():
        assert (await empty.put(f"Observation/{item['id']}", json=item)).status_code == 201
    return empty


async def _all_pages(http: httpx.AsyncClient, query: str) -> list[list[str]]:
    pages, url = [], query
    while url:
        bundle = (await http.get(url)).json()
        assert bundle["resourceType"] == "Bundle", bundle
        pages.append([entry["resource"]["id"] for entry in bundle.get("entry", ())])
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    return pages


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("date", "o0 o5 o1 o6 o4 o2 o3"),
        ("-date", "o2 o4 o6 o1 o5 o0 o3"),
        ("value-quantity", "o5 o0 o3 o2 o6 o1 o4"),
        ("-value-quantity", "o6 o2 o3 o0 o5 o4 o1"),
        ("value-quantity,-date", "o5 o0 o3 o2 o6 o4 o1"),
        ("-code,date", "o5 o1 o3 o0 o6 o4 o2"),
        ("subject,-_id", "o6 o3 o0 o4 o1 o5 o2"),
        ("identifier", "o5 o3 o1 o0 o2 o4 o6"),
        ("-identifier,_id", "o1 o3 o5 o0 o2 o4 o6"),
        ("-_lastUpdated", "o6 o5 o4 o3 o2 o1 o0"),
        ("status", "o0 o1 o2 o3 o4 o5 o6"),
        ("combo-code,_id", "o0 o2 o4 o6 o1 o3 o5"),
        ("component-value-quantity,value-quantity", "o5 o0 o3 o2 o6 o1 o4"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 100])
async def test_the_order_is_kept_over_pages(chart: httpx.AsyncClient, sort: str, expected: str, count: int) -> None:
    pages = await _all_pages(chart, f"Observation?_sort={sort}&_count={count}")

    assert [name for page in pages for name in page] == expected.split()
    assert max(map(len, pages)) <= count


@pytest.mark.parametrize(
    "sort",
    [
        *("date", "-date", "value-quantity", "_id", "-code,date", "", "-_lastUpdated", "-identifier,_id"),
        *("value-quantity,-date", "identifier,-value-quantity,_id", "-subject,_id", "component-value-quantity"),
    ],
)
async def test_pages_hold_while_others_write(chart: httpx.AsyncClient, sort: str) -> None:
    query = f"Observation?_count=2&_sort={sort}" if sort else "Observation?_count=2"
    seen, url, round_number = [], query, 0
    while url:
        bundle = (await chart.get(url)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        round_number += 1
        added = HEAD | {"id": f"new{round_number}", "code": {"text": "x"}, "effectiveDateTime": "2023-01-01"}
        await chart.put(f"Observation/{added['id']}", json=added)
        await chart.delete("Observation/o0")

    stayed = [name for name in seen if name.startswith("o") and name != "o0"]
    assert sorted(stayed) == ["o1", "o2", "o3", "o4", "o5", "o6"]
    assert len(seen) == len(set(seen))


async def test_a_page_token_is_checked(chart: httpx.AsyncClient) -> None:
    bundle = (await chart.get("Observation?_count=2&_sort=date")).json()
    url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    (token,) = parse_qs(urlsplit(url).query)["_page"]

    for query in (
        f"_sort=date&_page={token[:-2]}AA",
        f"_sort=-date&_page={token}",
        f"_sort=date&code=b&_page={token}",
        "_sort=date&_page=W10",
        "_sort=date&_page=%F0%9F%98%80",
    ):
        response = await chart.get(f"Observation?{query}")
        assert (response.status_code, response.json()["issue"][0]["code"]) == (400, "invalid")
    assert (await chart.get(f"Observation?_count=5&_sort=date&_page={token}")).status_code == 200


async def test_a_page_token_is_of_one_order_of_keys(chart: httpx.AsyncClient) -> None:
    first = (await chart.get("Observation?_count=3&_sort=code&_sort=date")).json()
    (token,) = parse_qs(urlsplit(first["link"][1]["url"]).query)["_page"]

    assert (await chart.get(f"Observation?_sort=code&_sort=date&_page={token}")).status_code == 200
    assert (await chart.get(f"Observation?_sort=date&_sort=code&_page={token}")).status_code == 400


@pytest.mark.parametrize(
    ("query", "total", "shown"),
    [
        ("_count=2", None, 2),
        ("_count=2&_total=accurate", 7, 2),
        ("_count=2&_total=estimate", 7, 2),
        ("_count=50&_total=none", None, 7),
        ("_count=50", 7, 7),
        ("_count=0", 7, 0),
        ("_summary=count", 7, 0),
        ("_summary=count&_total=none", 7, 0),
        ("_total=none&_summary=count", 7, 0),
        ("_summary=count&_count=3&code=b", 4, 0),
    ],
)
async def test_the_total(chart: httpx.AsyncClient, query: str, total: int | None, shown: int) -> None:
    bundle = (await chart.get(f"Observation?{query}")).json()

    assert (bundle.get("total"), len(bundle.get("entry", ()))) == (total, shown)


async def test_a_count_beyond_the_cap_is_capped(chart: httpx.AsyncClient) -> None:
    assert (await chart.get("Observation?_count=1000000000")).status_code == 200


async def test_links_do_not_follow_what_anybody_says_a_proxy_said(chart: httpx.AsyncClient) -> None:
    headers = {"x-forwarded-proto": "https", "x-forwarded-host": "evil.test", "forwarded": "host=evil.test"}

    links = (await chart.get("Observation?_count=1&code=b", headers=headers)).json()["link"]

    assert [link["url"].startswith("http://fhir.test/fhir/Observation?") for link in links] == [True, True]


async def test_a_search_by_post_is_the_same(chart: httpx.AsyncClient) -> None:
    form = {"code": "b", "_sort": "-date"}
    posted = (await chart.post("Observation/_search?_count=2", data=form)).json()
    asked = (await chart.get("Observation?_count=2&code=b&_sort=-date")).json()

    assert posted["entry"] == asked["entry"]
    following = next(link["url"] for link in posted["link"] if link["relation"] == "next")
    assert (await chart.get(following)).json()["entry"]


@pytest.mark.parametrize(
    "held",
    [
        b"[9223372036854775808]",
        b"[-9223372036854775809]",
        b"[1e999]",
        b"[null]",
        b"[[1]]",
        b"{}",
        b"[true]",
        b"[",
        b"\xff",
    ],
)
def test_what_no_token_holds_is_refused_even_with_a_right_check(held: bytes) -> None:
    check = hashlib.blake2b(held, key=b"digest", digest_size=6).digest()
    token = base64.urlsafe_b64encode(check + held).decode().rstrip("=")

    with pytest.raises(Refusal) as refused:
        decode_page(token, "digest")

    assert refused.value.status == 400


@pytest.mark.parametrize("sent", ["", "x", "1,", ",1", "1,2,3"])
def test_what_was_sent_is_read_back_or_refused(sent: str) -> None:
    keys: list[Any] = [7, sent]

    if sent in {"x", "1,", ",1"}:
        with pytest.raises(Refusal):
            split_sent(keys)
    else:
        assert split_sent(keys) == [int(row) for row in sent.split(",") if row]
        assert keys == [7]


def test_no_more_is_remembered_than_a_url_holds() -> None:
    assert split_sent([join_sent(range(1000))]) == [*range(700, 1000)]


@pytest.mark.parametrize("sort", ["value-quantity,-date", "-identifier,code", "date,_id"])
async def test_includes_belong_to_the_matches_of_their_page(chart: httpx.AsyncClient, sort: str) -> None:
    for place in range(3):
        await chart.put(f"Patient/p{place}", json={"resourceType": "Patient", "id": f"p{place}"})
    url, matched = f"Observation?_sort={sort}&_count=2&_include=Observation:subject", []
    while url:
        bundle = (await chart.get(url)).json()
        entries = [(entry["search"]["mode"], entry["resource"]) for entry in bundle["entry"]]
        matches = [resource for mode, resource in entries if mode == "match"]
        included = [f"Patient/{resource['id']}" for mode, resource in entries if mode == "include"]
        assert sorted(included) == sorted({each["subject"]["reference"] for each in matches})
        matched += [each["id"] for each in matches]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        await chart.put(f"Patient/q{len(matched)}", json={"resourceType": "Patient", "id": f"q{len(matched)}"})

    assert sorted(matched) == [f"o{place}" for place in range(7)]
