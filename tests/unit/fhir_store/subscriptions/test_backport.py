"""Topic-based Subscriptions look as the R5 backport describes them for R4."""

from __future__ import annotations

from fhir_site import observation
from subscription_site import House, Receiver, topic_subscription


async def test_a_client_finds_the_topics_and_what_is_kept_to(house: House) -> None:
    statement = await house.get("metadata")

    found = next(each for each in statement["rest"][0]["resource"] if each["type"] == "Subscription")
    topics = [
        each["valueCanonical"] for each in found["extension"] if each["url"].endswith("subscriptiontopic-canonical")
    ]
    assert "https://pulseweir.org/fhir/SubscriptionTopic/Observation" in topics
    assert found["supportedProfile"] == [
        "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription"
    ]
    assert any(each.endswith("/backport-subscription-server-r4") for each in statement["instantiates"])
    assert {"status", "events"} <= {each["name"] for each in found["operation"]}


async def test_a_notification_has_the_form_of_the_backport(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url, "id-only"))
    await house.settle()
    receiver.requests.clear()
    await house.put(observation("o1"))
    await house.settle()

    (bundle,) = receiver.bundles()
    status, *rest = bundle["entry"]
    place = "http://fhir.test/fhir/Subscription/s1"
    assert status["request"] == {"method": "GET", "url": f"{place}/$status"}
    assert status["response"] == {"status": "200"}
    assert status["fullUrl"] == f"urn:uuid:{status['resource']['id']}"
    members = [(each["name"], *(set(each) - {"name"})) for each in status["resource"]["parameter"]]
    assert members == [
        ("subscription", "valueReference"),
        ("topic", "valueCanonical"),
        ("status", "valueCode"),
        ("type", "valueCode"),
        ("events-since-subscription-start", "valueString"),
        ("notification-event", "part"),
    ]
    event = [(each["name"], *(set(each) - {"name"})) for each in status["resource"]["parameter"][5]["part"]]
    assert event == [("event-number", "valueString"), ("timestamp", "valueInstant"), ("focus", "valueReference")]
    assert [each["meta"]["profile"][0].rpartition("/")[2] for each in (bundle, status["resource"])] == [
        "backport-subscription-notification-r4",
        "backport-subscription-status-r4",
    ]
    assert [each["request"] for each in rest] == [{"method": "POST", "url": "Observation"}]
