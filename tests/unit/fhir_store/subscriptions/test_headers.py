"""The headers of a Subscription may be secrets: shown to who made it and to the house, and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from fhir_site import Json, Site
from pulseweir.fhir_store.security.clients import house_token
from pulseweir.fhir_store.subscriptions.headers import has_headers, masked
from subscription_site import criteria_subscription

SECRET = "canary-secret"
SCOPES = ("system/Subscription.cruds", "system/Observation.rs")


def secret_subscription(**members: Any) -> Json:
    return criteria_subscription("http://127.0.0.1:9/a", header=[f"Authorization: Bearer {SECRET}"]) | members


def bundle(kind: str, *requests: tuple[str, str], resource: Json | None = None, **request: str) -> Json:
    entries = [{"request": {"method": method, "url": url} | request} for method, url in requests]
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [each | ({"resource": resource} if resource else {}) for each in entries],
    }


@pytest.fixture
async def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture
async def maker(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.http(site.token(*SCOPES, name="maker")) as http:
        assert (await http.put("Subscription/s1", json=secret_subscription())).status_code == 201
        yield http


@pytest.fixture
async def other(site: Site, maker: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with site.http(site.token(*SCOPES, name="other")) as http:
        yield http


READS = [
    "Subscription/s1",
    "Subscription/s1/_history/1",
    "Subscription/s1/_history",
    "Subscription/_history",
    "Subscription?status=requested",
    "Subscription?_elements=channel",
    "Subscription?_summary=data",
    "?_type=Subscription",
    "_history?_type=Subscription",
]


@pytest.mark.parametrize("path", READS)
async def test_every_read_shows_them_to_the_maker_and_the_house_only(
    site: Site, maker: httpx.AsyncClient, other: httpx.AsyncClient, path: str
) -> None:
    async with site.http(house_token(site.directory)) as house:
        shown = {name: await http.get(path) for name, http in (("maker", maker), ("other", other), ("house", house))}
        inside = (await other.post("", json=bundle("batch", ("GET", path)))).text

    whole = site.token("system/*.rs", name="whole")
    async with site.http(whole) as http:
        shown["whole"] = await http.get(path)
    if path.startswith("_history"):
        # It needs every type.
        assert [shown[each].status_code for each in ("maker", "other")] == [200, 200]
    assert SECRET in shown["maker"].text
    assert SECRET in shown["house"].text
    assert SECRET not in shown["other"].text + shown["whole"].text + inside
    assert "Authorization: ***" in shown["other"].text


async def test_writes_show_them_to_nobody_else(maker: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    found = {"if-none-exist": "status=requested"}
    new = {key: value for key, value in criteria_subscription("http://127.0.0.1:9/a").items() if key != "id"}
    answers = [
        await other.post("Subscription", json=new, headers=found),
        await other.post("Subscription?status=requested", json=new),
        await other.post("", json=bundle("batch", ("POST", "Subscription"), resource=new, ifNoneExist="_id=s1")),
    ]
    same = await maker.put("Subscription/s1", json=secret_subscription())

    assert SECRET not in "".join(answer.text for answer in answers)
    assert answers[0].json()["id"] == "s1"
    assert SECRET in same.text
    assert same.json()["meta"]["versionId"] == "1"


async def test_nobody_else_turns_them_to_an_endpoint_of_their_own(
    maker: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    stolen = {"channel": {"endpoint": "http://127.0.0.1:9/mine"}}
    operations = [{"op": "copy", "from": "/channel/header/0", "path": "/reason"}]
    patched = [
        await other.patch("Subscription/s1", json=stolen),
        await other.patch("Subscription?status=requested", json=stolen),
        await other.patch("Subscription/s1", json=operations, headers={"content-type": "application/json-patch+json"}),
        await other.put("Subscription/s1", json=secret_subscription()),
        await other.put("Subscription?status=requested", json=secret_subscription()),
    ]
    binary = {
        "resourceType": "Binary",
        "contentType": "application/merge-patch+json",
        "data": base64.b64encode(b'{"reason":"x"}').decode(),
    }
    inside = await other.post("", json=bundle("transaction", ("PATCH", "Subscription/s1"), resource=binary))

    assert [answer.status_code for answer in [*patched, inside]] == [403] * 6
    assert (await maker.get("Subscription/s1")).json()["meta"]["versionId"] == "1"
    assert (await other.delete("Subscription/s1")).status_code == 204


async def test_a_version_belongs_to_who_made_it_whoever_made_the_next(
    maker: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    plain = criteria_subscription("http://127.0.0.1:9/a")
    assert (await maker.put("Subscription/s1", json=plain)).status_code == 200
    taken = secret_subscription(reason="taken")
    assert (await other.put("Subscription/s1", json=taken)).status_code == 200

    assert SECRET not in (await other.get("Subscription/s1/_history/1")).text
    assert SECRET in (await other.get("Subscription/s1")).text
    assert SECRET not in (await maker.get("Subscription/s1")).text
    assert SECRET in (await maker.get("Subscription/s1/_history/1")).text


def test_what_is_masked() -> None:
    content = b'"channel":{"type":"rest-hook","header":["A: b","no colon"],"_header":[null]},"status":"off"'

    assert masked(content) == b'"channel":{"type":"rest-hook","header":["A: ***","***"]},"status":"off"'
    assert has_headers(content)
    for plain in (b"", b'"status":"off"', b'"channel":{"type":"rest-hook"}', b'"channel":5'):
        assert masked(plain) == plain
        assert not has_headers(plain)
    assert SECRET.encode() not in masked(b'"ch\\u0061nnel":{"h\\u0065ader":["A: canary-secret"]}')


async def test_they_are_in_no_file_of_an_export(site: Site, maker: httpx.AsyncClient) -> None:
    answer = await maker.get("$export?_type=Subscription", headers={"prefer": "respond-async"})
    place = answer.headers["content-location"]
    while (answer := await maker.get(place)).status_code == 202:
        pass
    text = (await maker.get(answer.json()["output"][0]["url"])).text

    assert "Authorization: ***" in text
    assert SECRET not in text


async def test_they_are_in_no_log_and_no_audit_event(
    site: Site, maker: httpx.AsyncClient, other: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = secret_subscription(id="s2")
    bad["channel"]["header"] = [f"Bearer {SECRET}\r\nHost: x"]
    refused = await maker.put("Subscription/s2", json=bad)
    await other.get("Subscription/s1")
    await site.settle()
    async with site.http(house_token(site.directory)) as house:
        events = (await house.get("AuditEvent?_count=100")).text

    assert refused.status_code == 422
    printed = capsys.readouterr()
    assert SECRET not in refused.text + events + printed.out + printed.err
