"""What a Subscription may ask: told at once by status and expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_site import Site, observation
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.subscriptions.definition import read_definition
from subscription_site import House, Receiver, criteria_subscription, topic_subscription

HOOKS = "https://hooks.example.org"


def settings(*endpoints: str, address: str | None = None) -> FhirStoreSettings:
    return FhirStoreSettings.model_validate(
        {"subscriptions": {"endpoints": endpoints}, "security": {"address": address}}
    )


def refused(tree: Any, found: FhirStoreSettings | None = None) -> str:
    """The expression at fault."""
    with pytest.raises(Refusal) as caught:
        read_definition(tree, found or settings())
    assert caught.value.status == 422
    return str(caught.value.issues[0].expression)


@pytest.mark.parametrize(
    ("endpoint", "allowed", "passes"),
    [
        (f"{HOOKS}/a/b?c=d", (HOOKS,), True),
        ("https://hooks.example.org:443/a", (HOOKS,), True),
        ("https://HOOKS.example.org/a", (HOOKS,), True),
        ("http://hooks.example.org/a", (HOOKS,), False),
        ("https://hooks.example.org:8443/a", (HOOKS,), False),
        ("https://hooks.example.org.evil.example/a", (HOOKS,), False),
        ("https://hooks.example.org@evil.example/a", (HOOKS,), False),
        ("https://user@hooks.example.org/a", (HOOKS,), False),
        ("http://127.0.0.1:8080/a", (HOOKS,), False),
        ("http://127.0.0.1:8080/a", (), True),
        ("http://localhost/a", (), True),
        ("http://[::1]:8080/a", (), True),
        ("http://169.254.169.254/latest", (), False),
        ("http://10.0.0.1/a", (), False),
        ("http://127.0.0.1.evil.example/a", (), False),
        ("http://0.0.0.0/a", (), False),
        ("http://[::ffff:127.0.0.1]/a", (), False),
        ("http://2130706433/a", (), False),
        ("file:///etc/passwd", (), False),
        ("ftp://127.0.0.1/a", (), False),
        ("http://127.0.0.1:99999/a", (), False),
        ("http://[::1/a", (), False),
        ("/relative", (), False),
        ("", (), False),
    ],
)
def test_only_allowed_endpoints_are_reached(endpoint: str, allowed: tuple[str, ...], passes: bool) -> None:
    tree = criteria_subscription(endpoint)
    if passes:
        assert read_definition(tree, settings(*allowed)).endpoint == endpoint
    else:
        assert refused(tree, settings(*allowed)) == "Subscription.channel.endpoint"


def test_a_store_that_other_machines_reach_allows_no_endpoint_by_itself() -> None:
    tree = criteria_subscription("http://127.0.0.1:8080/a")

    assert refused(tree, settings(address="0.0.0.0")) == "Subscription.channel.endpoint"
    assert read_definition(tree, settings("http://127.0.0.1:8080", address="0.0.0.0")).endpoint


@pytest.mark.parametrize(
    "header",
    [
        "no colon",
        "Host: evil",
        "content-length: 5",
        "A: b\r\nHost: evil",
        "A: \u00e9",
        ": x",
        "Transfer-Encoding: chunked",
    ],
)
def test_headers_that_would_change_the_request_are_refused(header: str) -> None:
    tree = criteria_subscription("http://127.0.0.1/a", header=[header])

    assert refused(tree) == "Subscription.channel.header"


@pytest.mark.parametrize("headers", [5, None, "A: b", {"A": "b"}, True])
def test_headers_of_another_json_type_are_refused(headers: object) -> None:
    assert refused(criteria_subscription("http://127.0.0.1/a", header=headers)) == "Subscription.channel.header"


@pytest.mark.parametrize(
    "criteria",
    [
        "Nothing?code=x",
        "http://example.org/topic",
        "Observation?nothing=x",
        "Observation?subject.name=x",
        "Observation?_has:Provenance:target:agent=x",
        "Observation?code:strange=x",
        "Observation?_include=Observation:subject",
        "Observation?_sort=date",
        "Observation?_count=5",
        "Observation?code",
        "",
    ],
)
def test_criteria_that_cannot_be_watched_are_refused(criteria: str) -> None:
    assert refused(criteria_subscription("http://127.0.0.1/a", criteria)) == "Subscription.criteria"


def test_other_channels_payloads_and_contents_are_refused() -> None:
    good = criteria_subscription("http://127.0.0.1/a")

    assert refused(good | {"channel": good["channel"] | {"type": "email"}}) == "Subscription.channel.type"
    assert refused(good | {"channel": good["channel"] | {"payload": "text/plain"}}) == "Subscription.channel.payload"
    strange = topic_subscription("http://127.0.0.1/a", "everything")
    assert refused(strange) == "Subscription.channel.payload.extension"
    assert refused(topic_subscription("http://127.0.0.1/a", heartbeat_period=0)) == "Subscription.channel.extension"
    other = topic_subscription("http://127.0.0.1/a", filters=("Patient?active=true",))
    assert refused(other) == "Subscription.criteria.extension"


def test_a_topic_is_read_with_all_it_says() -> None:
    tree = topic_subscription(
        "http://127.0.0.1/a",
        "id-only",
        ("Observation?code=a,b&status=final", "Observation?subject=Patient/p1"),
        heartbeat_period=30,
        timeout=5,
        max_count=7,
    )

    found = read_definition(tree, settings())
    assert found.filters == (("code", "a,b"), ("status", "final"), ("subject", "Patient/p1"))
    assert (found.heartbeat_seconds, found.timeout_seconds, found.most_events) == (30, 5, 7)
    assert (found.resource_type, found.content) == ("Observation", "id-only")


async def test_the_server_refuses_it_with_an_outcome_and_stores_nothing(house: House) -> None:
    tree = criteria_subscription("http://169.254.169.254/latest")
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": tree, "request": {"method": "PUT", "url": "Subscription/s1"}}],
    }
    async with house.http() as http:
        answers = [await http.put("Subscription/s1", json=tree), await http.post("", json=bundle)]
        absent = await http.get("Subscription/s1")
        off = await http.put("Subscription/s1", json=tree | {"status": "off"})

    for answer in answers:
        assert answer.status_code == 422
        assert "endpoints" in answer.json()["issue"][0]["details"]["text"]
    assert (absent.status_code, off.status_code) == (404, 201)


async def test_a_value_without_meaning_shows_as_error(make_house: Any, receiver: Receiver) -> None:
    house = await make_house(subscriptions={"failures_until_error": 1})
    await house.put(criteria_subscription(receiver.url, "Observation?date=yesterday"))
    await house.settle()

    found = await house.get("Subscription/s1")
    assert found["status"] == "error"
    assert found["error"]


async def test_an_endpoint_that_is_no_longer_allowed_is_left_alone(make_house: Any, receiver: Receiver) -> None:
    house = await make_house(subscriptions={"failures_until_error": 1})
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    await house.stop()
    house.settings = settings(HOOKS)
    await house.start()
    await house.put(observation("o1"))
    await house.settle(60)

    assert receiver.requests == []


async def test_events_show_resources_only_to_who_may_read_them(
    make_site: Callable[..., Site], receiver: Receiver
) -> None:
    site = make_site()
    house = House(site.directory, site.store.settings)
    await house.start()
    await house.put(topic_subscription(receiver.url, "id-only"))
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()
    await house.stop()
    token = site.token("system/Subscription.rs", name="watcher")
    reader = site.token("system/Subscription.rs", "system/Observation.rs", name="reader")

    async with site.http(token) as http:
        bare = (await http.get("Subscription/s1/$events?content=empty")).json()
        shown = (await http.get("Subscription/s1/$events?content=full-resource")).json()
    async with site.http(reader) as http:
        full = (await http.get("Subscription/s1/$events?content=full-resource")).json()

    assert len(bare["entry"]) == 1
    assert "Observation/o1" not in str(bare) + str(shown)
    assert full["entry"][1]["resource"]["id"] == "o1"
