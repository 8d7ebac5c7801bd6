"""What one request may cost: each limit is met, and one less passes."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_site import Json, Site, flag, found, observation, patient
from pulseweir.fhir_store import session, storage
from pulseweir.fhir_store.security.clients import house_token
from pulseweir.fhir_store.security.settings import LimitSettings

LIMITS = LimitSettings(
    url_bytes=400, search_parameters=5, search_values=10, search_includes=2, chain_links=2, concurrent_requests=2
)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["resourceType"] == "OperationOutcome"
    return answer.status_code, answer.json()["issue"][0]["code"]


@pytest.fixture
async def http(make_site: Callable[..., Site]) -> Any:
    site = make_site(limits=LIMITS, maximum_bundle_entries=3, maximum_body_bytes=4096, maximum_page_resources=2)
    await site.fill(patient("p1"), *(flag(f"f{number}") for number in range(4)))
    async with site.http() as client:
        yield client


@pytest.mark.parametrize(
    ("passes", "refused"),
    [
        ("&".join(["status=active"] * 5), "&".join(["status=active"] * 6)),
        ("_id=" + ",".join("abcdefghij"), "_id=" + ",".join("abcdefghijk")),
        ("&".join(["_include=Flag:subject"] * 2), "&".join(["_include=Flag:subject"] * 3)),
    ],
)
async def test_a_search_that_asks_too_much_is_refused(http: httpx.AsyncClient, passes: str, refused: str) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": f"Flag?{query}"}} for query in (passes, refused)],
    }
    assert (await http.get(f"Flag?{passes}")).status_code == 200
    assert code_of(await http.get(f"Flag?{refused}")) == (400, "too-costly")
    assert code_of(await http.post("Flag/_search", content=refused, headers=FORM)) == (400, "too-costly")
    entries = (await http.post("", json=bundle)).json()["entry"]
    assert [entry["response"]["status"][:3] for entry in entries] == ["200", "400"]
    condition = {"if-none-exist": refused}
    assert code_of(await http.post("Flag", json=flag("x"), headers=condition)) == (400, "too-costly")


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("name", ["a.b.c.d", "_has:Flag:subject:a.b.c", "_has:Flag:subject:_has:Flag:subject:a.b"])
async def test_a_long_chain_is_refused(http: httpx.AsyncClient, name: str) -> None:
    assert code_of(await http.get(f"Flag?{name}=x")) == (400, "too-costly")


async def test_a_long_url_is_refused(http: httpx.AsyncClient) -> None:
    assert code_of(await http.get("Flag?_id=" + "x" * 400)) == (414, "too-long")
    assert (await http.get("Flag?_id=" + "x" * 300)).status_code == 200


async def test_a_page_is_capped_rather_than_refused(http: httpx.AsyncClient) -> None:
    assert len(found(await http.get("Flag?_count=1000000000"))) == 2


async def test_bodies_and_bundles_have_an_end(http: httpx.AsyncClient) -> None:
    entry: Json = {"request": {"method": "GET", "url": "Flag/f1"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * 4}
    assert code_of(await http.post("", json=bundle)) == (413, "too-long")
    assert (await http.post("", json=bundle | {"entry": [entry] * 3})).status_code == 200
    assert code_of(await http.post("Flag", json=flag("x") | {"language": "x" * 5000})) == (413, "too-long")
    deep: Any = {"url": "u", "valueString": "x"}
    for _ in range(120):
        deep = {"url": "u", "extension": [deep]}
    answer = await http.post("Flag", content=str(flag("x") | {"extension": [deep]}).replace("'", '"'))
    assert code_of(answer) == (400, "too-costly")


async def test_too_many_requests_at_once_are_sent_away_but_the_house_is_not(make_site: Callable[..., Site]) -> None:
    site = make_site(limits=LIMITS)
    await site.fill(patient("p1"))
    waiting = threading.Event()
    held = site.store.post(lambda _: waiting.wait())
    async with site.http() as http:
        slow = [asyncio.create_task(http.post("Patient", json=patient("x"))) for _ in range(2)]
        while True:
            answer = await http.get("Patient/p1")
            if answer.status_code != 200:
                break
            await asyncio.sleep(0)
        assert code_of(answer) == (503, "throttled")
        assert answer.headers["retry-after"] == "1"
        house = {"authorization": f"Bearer {house_token(site.directory)}"}
        assert (await http.get("Patient/p1", headers=house)).status_code == 200
        waiting.set()
        assert held.result()
        assert {created.status_code for created in await asyncio.gather(*slow)} == {201}
        assert (await http.get("Patient/p1")).status_code == 200


async def test_a_search_that_takes_too_long_is_given_up(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SHORT_READ_STEPS", 100)
    monkeypatch.setattr(session, "SHORT_READ_STEPS", 100)
    site = make_site(limits=LimitSettings(search_seconds=1e-9), validation="off")
    entries = [
        {"request": {"method": "PUT", "url": f"Observation/o{n}"}, "resource": observation(f"o{n}", f"p{n % 7}")}
        for n in range(200)
    ]
    slow = "Observation?category:not=x&code:not=y&subject:missing=false&_sort=status,-category&_summary=count"
    async with site.http(house_token(site.directory)) as http:
        assert (await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})).is_success
        assert code_of(await http.get(slow)) == (400, "too-costly")
        get = {"request": {"method": "GET", "url": slow}}
        put = {"request": {"method": "PUT", "url": "Flag/f"}, "resource": flag("f")}
        batch = await http.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [get, put]})
        assert [entry["response"]["status"][:3] for entry in batch.json()["entry"]] == ["400", "201"]
        assert (await http.get("Flag/f")).status_code == 200
