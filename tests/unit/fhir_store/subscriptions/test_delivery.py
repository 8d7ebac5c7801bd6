"""Notifications reach a real endpoint on loopback: which, when, how often."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from fhir_site import observation
from subscription_site import SECOND, House, Receiver, criteria_subscription, numbers, parameters, topic_subscription


async def test_a_subscription_becomes_active_and_puts_what_matches(house: House, receiver: Receiver) -> None:
    answer = await house.put(criteria_subscription(receiver.url, header=["Authorization: Bearer secret"]))
    assert answer.json()["status"] == "requested"
    await house.settle()
    assert (await house.get("Subscription/s1"))["status"] == "active"

    await house.put(observation("o1"))
    await house.put(observation("other", code="1-1"))
    await house.settle()

    ((method, path, headers, body),) = receiver.requests
    assert (method, path, headers["authorization"]) == ("PUT", "/Observation/o1", "Bearer secret")
    assert headers["content-type"] == "application/fhir+json"
    assert msgspec.json.decode(body) == await house.get("Observation/o1")


async def test_what_was_stored_before_is_not_told(house: House, receiver: Receiver) -> None:
    await house.put(observation("before"))
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    await house.put(observation("after"))
    await house.settle()

    assert receiver.ids() == ["after"]


async def test_what_is_stored_before_the_handshake_is_answered_is_not_told(make_house: Any) -> None:
    told: list[list[str]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        bundle = msgspec.json.decode(request.content)
        if parameters(bundle)["type"] == ["handshake"]:
            await house.put(observation("during"))
        else:
            told.append([entry["fullUrl"].rsplit("/", 1)[1] for entry in bundle["entry"][1:]])
        return httpx.Response(200)

    house = await make_house(httpx.MockTransport(answer))
    # Another one follows Observations already, so that the change is noted.
    await house.put(criteria_subscription("http://127.0.0.1/", "Observation?code=1-1") | {"id": "s0"})
    await house.settle()
    await house.put(topic_subscription("http://127.0.0.1/"))
    await house.settle()
    await house.put(observation("after"))
    await house.settle()

    assert told == [["after"]]


async def test_without_a_payload_an_empty_request_tells_of_all(house: House, receiver: Receiver) -> None:
    await house.put(criteria_subscription(f"{receiver.url}/hook", payload=False))
    await house.settle()
    await house.put(observation("o1"))
    await house.put(observation("o2"))
    await house.settle()

    assert [(method, path, body) for method, path, _, body in receiver.requests] == [("POST", "/hook", b"")]


async def test_a_version_that_matched_is_told_though_the_next_does_not(house: House, receiver: Receiver) -> None:
    await house.put(criteria_subscription(receiver.url, "Observation?status=final"))
    await house.settle()
    await house.put(observation("o1"))
    await house.put(observation("o1", status="entered-in-error"))
    await house.settle()

    bodies = [msgspec.json.decode(body) for _, _, _, body in receiver.requests]
    assert [(each["meta"]["versionId"], each["status"]) for each in bodies] == [("1", "final")]


@pytest.mark.parametrize(
    ("criteria", "is_told"),
    [
        ("Observation?subject=Patient/p1", True),
        ("Observation?patient=http://fhir.test/fhir/Patient/p1", True),
        ("Observation?patient=p2", False),
        ("Observation?value-quantity=gt70||/min&category=vital-signs", True),
        ("Observation?value-quantity=gt80", False),
        ("Observation?date=lt2023", False),
        ("Observation?code:not=8867-4", False),
        ("Observation?_id=o1", True),
        ("Observation", True),
        ("Patient?", False),
    ],
)
async def test_criteria_mean_what_the_search_means(
    house: House, receiver: Receiver, criteria: str, is_told: bool
) -> None:
    await house.put(criteria_subscription(receiver.url, criteria))
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()

    assert receiver.ids() == (["o1"] if is_told else [])


async def test_nothing_is_lost_or_told_twice_when_the_store_restarts(house: House, receiver: Receiver) -> None:
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    receiver.status = 503
    await house.put(observation("tried"))
    await house.settle()
    await house.put(observation("unseen"))

    await house.stop()
    receiver.status = 200
    receiver.requests.clear()
    await house.start()
    await house.put(observation("later"))
    await house.settle()

    assert receiver.ids() == ["tried", "unseen", "later"]
    await house.settle(3600)
    assert len(receiver.requests) == 3


async def test_it_runs_by_itself_and_wakes_at_a_commit(house: House, receiver: Receiver) -> None:
    running = asyncio.create_task(house.service.run())
    await house.put(criteria_subscription(receiver.url))
    while (await house.get("Subscription/s1"))["status"] != "active":
        await asyncio.sleep(0.01)
    await house.put(observation("o1"))
    while not receiver.requests:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert receiver.ids() == ["o1"]


@pytest.mark.parametrize("steps", range(4))
async def test_it_ends_when_told_to_in_the_moment_it_is_woken(house: House, steps: int) -> None:
    running = asyncio.create_task(house.service.run())
    wake = house.service._wake
    while not wake._waiters:
        await asyncio.sleep(0.01)

    wake.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()

    done, _ = await asyncio.wait([running], timeout=20)
    assert done


async def test_a_failing_endpoint_is_tried_more_and_more_seldom_then_error_then_off(
    make_house: Any, receiver: Receiver
) -> None:
    limits = {"failures_until_error": 2, "hours_until_off": 1, "retry_seconds": 10, "retry_ceiling_seconds": 600}
    house = await make_house(subscriptions=limits)
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    receiver.status = 500
    await house.put(observation("o1"))
    await house.settle()
    assert len(receiver.requests) == 1
    assert (await house.get("Subscription/s1"))["status"] == "active"

    await house.settle(10)
    failing = await house.get("Subscription/s1")
    assert (failing["status"], failing["error"]) == ("error", "The endpoint answered with status 500.")
    await house.settle(3600)
    assert (await house.get("Subscription/s1"))["status"] == "off"
    tried = len(receiver.requests)
    await house.put(observation("nobody"))
    await house.settle(3600)
    assert len(receiver.requests) == tried

    receiver.status = 200
    receiver.requests.clear()
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    await house.put(observation("o2"))
    await house.settle()
    assert receiver.ids() == ["o1", "o2"]
    assert "error" not in await house.get("Subscription/s1")


async def test_an_endpoint_that_recovers_gets_all_and_the_error_goes(make_house: Any, receiver: Receiver) -> None:
    house = await make_house(subscriptions={"failures_until_error": 1})
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    receiver.status = 500
    await house.put(observation("o1"))
    await house.settle()
    await house.put(observation("o2"))
    receiver.status = 200
    await house.settle(60)

    assert receiver.ids() == ["o1", "o1", "o2"]
    healed = await house.get("Subscription/s1")
    assert (healed["status"], "error" in healed) == ("active", False)


async def test_a_redirect_is_not_followed(house: House, receiver: Receiver) -> None:
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    receiver.status = 307
    await house.put(observation("o1"))
    await house.settle()

    assert len(receiver.requests) == 1


async def test_a_slow_endpoint_holds_up_nobody_else(make_house: Any) -> None:
    told = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "localhost":
            await told.wait()
        else:
            told.set()
        return httpx.Response(200)

    house = await make_house(httpx.MockTransport(answer))
    await house.put(criteria_subscription("http://localhost/slow"))
    await house.put(criteria_subscription("http://127.0.0.1/fast") | {"id": "s2"})
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()

    assert told.is_set()


async def test_a_subscription_that_is_deleted_or_off_is_told_no_more(house: House, receiver: Receiver) -> None:
    await house.put(criteria_subscription(receiver.url))
    await house.put(criteria_subscription(receiver.url) | {"id": "s2"})
    await house.settle()
    async with house.http() as http:
        await http.delete("Subscription/s1")
    await house.put(criteria_subscription(receiver.url) | {"id": "s2", "status": "off"})
    await house.put(observation("o1"))
    await house.settle()

    assert receiver.requests == []


async def test_a_topic_begins_with_a_handshake(house: House, receiver: Receiver) -> None:
    receiver.status = 404
    await house.put(topic_subscription(receiver.url))
    await house.settle()
    assert (await house.get("Subscription/s1"))["status"] == "requested"

    receiver.status = 200
    await house.settle(60)

    assert (await house.get("Subscription/s1"))["status"] == "active"
    shaken = parameters(receiver.bundles()[-1])
    assert (shaken["type"], shaken["status"], shaken["events-since-subscription-start"]) == (
        ["handshake"],
        ["requested"],
        ["0"],
    )


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
async def test_a_notification_shows_as_much_as_was_asked(house: House, receiver: Receiver, content: str) -> None:
    await house.put(topic_subscription(receiver.url, content, ("Observation?code=8867-4",)))
    await house.settle()
    receiver.requests.clear()
    await house.put(observation("o1"))
    await house.put(observation("other", code="1-1"))
    await house.settle()

    (bundle,) = receiver.bundles()
    assert (bundle["type"], numbers(bundle)) == ("history", ["1"])
    assert parameters(bundle)["type"] == ["event-notification"]
    shown = [(entry["fullUrl"], "resource" in entry) for entry in bundle["entry"][1:]]
    url = "http://fhir.test/fhir/Observation/o1"
    assert shown == {"empty": [], "id-only": [(url, False)], "full-resource": [(url, True)]}[content]
    assert ("Observation/o1" in str(bundle)) == (content != "empty")


async def test_a_topic_tells_of_updates_and_deletes(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, "id-only", ("Observation?code=8867-4",)))
    await house.settle()
    receiver.requests.clear()
    await house.put(observation("o1"))
    await house.put(observation("o1", status="amended"))
    async with house.http() as http:
        await http.delete("Observation/o1")
    await house.settle()

    told = [entry["request"]["method"] for bundle in receiver.bundles() for entry in bundle["entry"][1:]]
    assert told == ["POST", "PUT", "DELETE"]


async def test_a_notification_holds_so_many_events_at_most(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, max_count=2))
    await house.settle()
    receiver.requests.clear()
    for place in range(5):
        await house.put(observation(f"o{place}"))
    await house.settle()

    assert [numbers(bundle) for bundle in receiver.bundles()] == [["1", "2"], ["3", "4"], ["5"]]


async def test_silence_is_broken_by_a_heartbeat(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, heartbeat_period=30))
    await house.settle()
    receiver.requests.clear()

    await house.settle(29)
    assert receiver.requests == []
    await house.settle(1)
    assert [parameters(bundle)["type"] for bundle in receiver.bundles()] == [["heartbeat"]]
    await house.settle(29)
    assert len(receiver.requests) == 1
    await house.put(observation("o1"))
    await house.settle()
    await house.settle(29)
    assert len(receiver.requests) == 2
    assert house.now % SECOND == 0


async def test_status_and_events_can_be_asked(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, "id-only"))
    await house.settle()
    for place in range(4):
        await house.put(observation(f"o{place}"))
    await house.settle()

    one = parameters(await house.get("Subscription/s1/$status"))
    assert (one["type"], one["status"], one["events-since-subscription-start"]) == (["query-status"], ["active"], ["4"])
    assert (await house.get("Subscription/$status?id=s1&status=active"))["total"] == 1
    assert (await house.get("Subscription/$status?status=error"))["total"] == 0
    query = "eventsSinceNumber=2&eventsUntilNumber=3&content=full-resource"
    bundle = await house.get(f"Subscription/s1/$events?{query}")
    assert numbers(bundle) == ["2", "3"]
    assert [entry["resource"]["id"] for entry in bundle["entry"][1:]] == ["o1", "o2"]
    assert parameters(bundle)["type"] == ["query-event"]


async def test_only_so_many_delivered_events_are_kept(make_house: Any, receiver: Receiver) -> None:
    house = await make_house(subscriptions={"events_kept": 2})
    await house.put(topic_subscription(receiver.url))
    await house.settle()
    for place in range(5):
        await house.put(observation(f"o{place}"))
        await house.settle()

    assert numbers(await house.get("Subscription/s1/$events")) == ["4", "5"]


async def test_nothing_is_noted_while_nobody_asks(house: House) -> None:
    await house.put(observation("o1"))

    count = house.store.read(lambda session: session.connection.execute("SELECT count(*) FROM change").get)
    assert count == 0
