"""Endpoints as the world has them: down, slow, dripping, wrong, gone, behind TLS; and faults of the store's own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from certificates import Authority
from fhir_site import flag, observation, patient
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.searching import run_search
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.subscriptions import matching
from pulseweir.fhir_store.subscriptions.definition import Definition
from pulseweir.fhir_store.subscriptions.delivery import AuthorityUnusable, Sender
from pulseweir.fhir_store.subscriptions.matching import Matcher
from subscription_site import BASE, SECOND, House, Receiver, criteria_subscription, numbers, topic_subscription

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback that talks as it likes."""
    opened: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in opened:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await writer.drain()


async def standing(house: House, name: str = "s1") -> tuple[str, str]:
    found = await house.get(f"Subscription/{name}")
    return found["status"], found.get("error", "")


async def active(house: House, receiver: Receiver, **members: Any) -> None:
    await house.put(criteria_subscription(receiver.url, **members))
    await house.settle()
    assert await standing(house) == ("active", "")


async def test_an_endpoint_that_is_not_there_gets_all_once_it_is(make_house: Any, receiver: Receiver) -> None:
    down = {"is": True}

    class Line(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if down["is"]:
                raise httpx.ConnectError("no route to Canary")
            return await super().handle_async_request(request)

    house: House = await make_house(Line(), subscriptions={"failures_until_error": 1})
    down["is"] = False
    await active(house, receiver)
    down["is"] = True
    await house.put(observation("o1"))
    await house.settle()
    assert await standing(house) == ("error", "The endpoint did not answer (ConnectError).")
    down["is"] = False
    await house.settle(600)

    assert receiver.ids() == ["o1"]
    assert (await standing(house))[0] == "active"


@pytest.mark.parametrize("drips", [False, True])
async def test_an_endpoint_that_never_ends_its_answer_is_given_up(make_house: Any, drips: bool) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: " if drips else b"")
        while drips:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.02)
        await reader.read()

    house: House = await make_house(subscriptions={"timeout_seconds": 0.2, "failures_until_error": 1})
    async with listening(hold) as port:
        await house.put(topic_subscription(f"http://127.0.0.1:{port}/a"))
        await house.settle()

        status, error = await standing(house)
    assert status == "error"
    assert "did not answer" in error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 502, 503, 301, 204])
async def test_a_status_other_than_success_is_a_failure(make_house: Any, receiver: Receiver, status: int) -> None:
    house: House = await make_house(subscriptions={"failures_until_error": 2})
    await active(house, receiver)
    receiver.status = status
    await house.put(observation("o1"))
    await house.settle()

    if status == 204:
        assert await standing(house) == ("active", "")
        return
    assert (await standing(house))[0] == "active"
    await house.settle(600)
    assert await standing(house) == ("error", f"The endpoint answered with status {status}.")


async def test_an_endpoint_that_says_it_is_gone_is_an_error_at_once(house: House, receiver: Receiver) -> None:
    await active(house, receiver)
    receiver.status = 410
    await house.put(observation("o1"))
    await house.settle()

    assert await standing(house) == ("error", "The endpoint answered with status 410.")
    receiver.status = 200
    await house.settle(600)
    assert receiver.ids() == ["o1", "o1"]


async def test_an_endpoint_is_left_alone_as_long_as_it_asks_within_reason(make_house: Any, receiver: Receiver) -> None:
    house: House = await make_house(subscriptions={"retry_seconds": 1, "retry_ceiling_seconds": 100})
    await active(house, receiver)
    receiver.status, receiver.headers = 503, {"retry-after": "60"}
    await house.put(observation("o1"))
    await house.settle()
    await house.settle(59)
    assert len(receiver.requests) == 1
    receiver.headers = {"retry-after": "999999"}
    await house.settle(1)
    assert len(receiver.requests) == 2
    await house.settle(99)
    assert len(receiver.requests) == 2
    receiver.status = 200
    await house.settle(1)
    assert receiver.ids() == ["o1"] * 3


def tls_of(authority: Authority, name: str) -> ssl.SSLContext:
    pair = authority.pair(name)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.private_key)
    return context


async def test_an_https_endpoint_is_believed_by_its_authority_only(make_house: Any, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    house: House = await make_house(subscriptions={"authority_file": ours.certificate, "failures_until_error": 1})
    async with listening(answering, tls_of(ours, "a")) as good, listening(answering, tls_of(theirs, "b")) as bad:
        await house.put(topic_subscription(f"https://127.0.0.1:{good}/a"))
        await house.put(topic_subscription(f"https://127.0.0.1:{bad}/a") | {"id": "s2"})
        # The name in the certificate is the address alone.
        await house.put(topic_subscription(f"https://localhost:{good}/a") | {"id": "s3"})
        await house.settle()

        assert (await standing(house))[0] == "active"
        for name in ("s2", "s3"):
            assert await standing(house, name) == ("error", "The endpoint did not answer (ConnectError).")


async def test_an_endpoint_that_speaks_no_tls_is_a_failure(make_house: Any) -> None:
    house: House = await make_house(subscriptions={"failures_until_error": 1, "timeout_seconds": 5})
    async with listening(answering) as port:
        await house.put(topic_subscription(f"https://127.0.0.1:{port}/a"))
        await house.settle()
        assert (await standing(house))[0] == "error"


def test_authorities_that_cannot_be_read_stop_the_store(tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    for _ in range(2):
        settings = FhirStoreSettings.model_validate({"subscriptions": {"authority_file": path}})
        with pytest.raises(AuthorityUnusable, match="PEM"):
            Sender.open(BASE, settings.subscriptions)
        path.write_text("nonsense")


async def test_a_fault_in_one_subscription_holds_up_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.put(criteria_subscription(f"{receiver.url}/bad", "Observation?code=8867-4") | {"id": "bad"})
    await house.put(criteria_subscription(receiver.url, "Observation?status=final"))
    await house.settle()

    def fail(session: Any, request: Any) -> Any:
        if request.criteria[0].parameter.name == "code" and request.count > 1:
            raise KeyError("Canary")
        return run_search(session, request)

    monkeypatch.setattr(matching, "run_search", fail)
    await house.put(observation("o1"))
    await house.settle()
    await house.put(observation("o2"))
    await house.settle()
    assert receiver.ids() == ["o1", "o2"]
    status, error = await standing(house, "bad")
    assert status == "error"
    assert "KeyError" in error
    assert "Canary" not in error

    monkeypatch.undo()
    await house.put(observation("o3"))
    await house.settle(600)
    assert [path for _, path, _, _ in receiver.requests if path.startswith("/bad")] == ["/bad/Observation/o3"]
    assert await standing(house, "bad") == ("active", "")


async def test_a_resource_that_cannot_be_looked_at_holds_up_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await active(house, receiver)
    await house.put(topic_subscription(receiver.url) | {"id": "flags", "criteria": _topic("Flag")})
    await house.settle()
    receiver.requests.clear()
    insert = WriteSession.insert

    def fail(self: Any, resource_type: str, resource_id: str, *rest: Any) -> Any:
        if resource_id == "poison":
            raise RecursionError
        return insert(self, resource_type, resource_id, *rest)

    for resource in (observation("o1"), observation("poison"), flag("f1"), observation("o2")):
        await house.put(resource)
    monkeypatch.setattr(WriteSession, "insert", fail)
    await house.service._follow()
    monkeypatch.undo()
    assert (await standing(house))[0] == "error"
    await house.settle(600)

    assert receiver.ids() == ["o1", "o2"]
    assert [numbers(msgspec.json.decode(body)) for method, _, _, body in receiver.requests if method == "POST"] == [
        ["1"]
    ]


def _topic(resource_type: str) -> str:
    return f"https://pulseweir.org/fhir/SubscriptionTopic/{resource_type}"


async def test_a_fault_while_a_notification_is_made_is_tried_again_and_more_seldom(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await active(house, receiver)
    tried: list[int] = []

    async def fail(*_: Any) -> None:
        tried.append(1)
        raise KeyError("Canary")

    with monkeypatch.context() as patch:
        patch.setattr(Sender, "send", fail)
        await house.put(observation("o1"))
        for _ in range(20):
            await house.settle(1)
    status, error = await standing(house)
    assert (status, "KeyError" in error, "Canary" in error) == ("error", True, False)
    assert 1 < len(tried) < 12
    await house.settle(600)

    assert receiver.ids() == ["o1"]


async def test_a_subscription_that_cannot_be_read_holds_up_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Matcher.check

    def fail(self: Matcher, definition: Definition) -> None:
        if definition.endpoint.endswith("/bad"):
            raise RecursionError
        check(self, definition)

    monkeypatch.setattr(Matcher, "check", fail)
    await house.put(criteria_subscription(f"{receiver.url}/bad") | {"id": "bad"})
    await active(house, receiver)
    await house.put(observation("o1"))
    await house.settle()

    assert receiver.ids() == ["o1"]
    assert (await standing(house, "bad"))[0] == "error"


async def test_a_subscription_ends_when_it_says(house: House, receiver: Receiver) -> None:
    await active(house, receiver)
    past: Json = criteria_subscription(receiver.url) | {"end": "2024-01-01T00:00:00Z"}
    await house.put(observation("before"))
    await house.settle()
    await house.put(past)
    await house.put(observation("after"))
    await house.put(topic_subscription(f"{receiver.url}/new") | {"id": "new", "end": "2024-01-01T00:00:00Z"})
    await house.put(topic_subscription(f"{receiver.url}/later") | {"id": "later", "end": "2999-01-01T00:00:00Z"})
    await house.settle()
    await house.settle(600)

    assert receiver.ids() == ["before"]
    assert [path for _, path, _, _ in receiver.requests] == ["/Observation/before", "/later"]
    assert [(await standing(house, name))[0] for name in ("s1", "new", "later")] == ["off", "off", "active"]


async def test_a_restart_amid_a_failing_delivery_loses_nothing_and_keeps_the_numbers(
    house: House, receiver: Receiver
) -> None:
    await house.put(topic_subscription(receiver.url, "id-only", max_count=3))
    await house.settle()
    receiver.requests.clear()
    for turn in range(4):
        receiver.status = 200 if turn % 2 else 500
        for place in range(5):
            await house.put(observation(f"o{turn}-{place}"))
        await house.settle()
        await house.stop()
        await house.start()
    receiver.status = 200
    await house.settle(3600)

    told: dict[str, str] = {}
    for bundle in receiver.bundles():
        for number, entry in zip(numbers(bundle), bundle["entry"][1:], strict=True):
            assert told.setdefault(number, entry["fullUrl"]) == entry["fullUrl"]
    assert sorted(told, key=int) == [str(number) for number in range(1, 21)]
    assert len(set(told.values())) == 20
    assert house.now % SECOND == 0


async def test_what_this_server_does_not_do_is_refused(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url))
    async with house.http() as http:
        for path in ("Subscription/s1/$get-ws-binding-token", "Subscription/$get-ws-binding-token"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["issue"][0]["code"]) == (404, "not-supported")
        for kind in ("websocket", "email", "sms", "message"):
            tree = topic_subscription(receiver.url)
            tree["channel"]["type"] = kind
            assert (await http.put("Subscription/s1", json=tree)).status_code == 422
        endless = topic_subscription(receiver.url) | {"end": "2024-13-01"}
        assert (await http.put("Subscription/s1", json=endless)).status_code in {400, 422}


async def test_events_come_oldest_first_and_as_the_subscription_shows_them(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, "id-only"))
    await house.settle()
    for place in range(4):
        await house.put(observation(f"o{place}"))
    await house.put(patient("p1"))
    await house.settle()

    own = await house.get("Subscription/s1/$events")
    assert numbers(own) == ["1", "2", "3", "4"]
    assert [("fullUrl" in entry, "resource" in entry) for entry in own["entry"][1:]] == [(True, False)] * 4
    assert numbers(await house.get("Subscription/s1/$events?eventsSinceNumber=3")) == ["3", "4"]
    assert numbers(await house.get("Subscription/s1/$events?eventsSinceNumber=5")) == []
    assert numbers(await house.get("Subscription/s1/$events?eventsUntilNumber=0")) == []
    async with house.http() as http:
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": "eventsSinceNumber", "valueString": "4"}, {"name": "content", "valueCode": "empty"}],
        }
        posted = (await http.post("Subscription/s1/$events", json=body)).json()
        assert (numbers(posted), len(posted["entry"])) == (["4"], 1)
        for bad in ("eventsSinceNumber=x", "eventsUntilNumber=-1", "content=all", "eventsSinceNumber=1.5"):
            assert (await http.get(f"Subscription/s1/$events?{bad}")).status_code == 400
        assert (await http.get("Subscription/none/$events")).status_code == 404
        assert (await http.get("Subscription/none/$status")).status_code == 404
