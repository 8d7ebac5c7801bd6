"""What notifications show of patients to a client's endpoint is written down, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_site import Json, flag, observation, patient
from pulseweir.fhir_store.security.audit_chain import verify_directory
from pulseweir.fhir_store.validation import check_resource
from subscription_site import House, Receiver, criteria_subscription, topic_subscription

SCOPES = ("system/Subscription.cruds", "system/*.rs")


@pytest.fixture
async def house(make_house: Callable[..., Any]) -> House:
    made: House = await make_house(is_guarded=True)
    return made


async def disclosures(house: House) -> list[Json]:
    await house.site.settle()
    found = await house.get("AuditEvent?type=110106&_count=1000")
    return sorted((entry["resource"] for entry in found.get("entry", [])), key=lambda each: int(each["id"][6:]))


def entities(event: Json, role: str) -> list[str]:
    return [each["what"]["reference"] for each in event["entity"] if each["role"]["code"] == role]


async def told(house: House, receiver: Receiver, subscription: Json) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    subscription["channel"]["endpoint"] = f"{receiver.url}/canary?token=canary"
    subscription["channel"]["header"] = ["Authorization: canary"]
    await house.put(subscription, token)
    await house.settle()
    await house.put(observation("o1"))
    await house.put(observation("o2", "p2"))
    await house.settle()


@pytest.mark.parametrize("content", ["id-only", "full-resource"])
async def test_a_notification_is_one_event_with_all_it_showed(house: House, receiver: Receiver, content: str) -> None:
    await told(house, receiver, topic_subscription("", content))

    [event] = await disclosures(house)
    check_resource(event, wanted_type="AuditEvent", level="strict")
    assert (event["subtype"][0]["code"], event["action"], event["outcome"]) == ("disclose", "R", "0")
    assert entities(event, "1") == ["Patient/p1", "Patient/p2"]
    assert entities(event, "4") == ["Observation/o1/_history/1", "Observation/o2/_history/1"]
    assert entities(event, "9")[0].startswith("Subscription/s1/_history/")
    assert [each["who"]["identifier"]["value"] for each in event["agent"]] == [
        "pulseweir-fhir-store",
        receiver.url,
        "watcher",
    ]
    assert "canary" not in str(event)
    assert verify_directory(house.directory).broken is None


async def test_a_resource_a_request_is_told_together(house: House, receiver: Receiver) -> None:
    await told(house, receiver, criteria_subscription(""))

    [event] = await disclosures(house)
    assert entities(event, "4") == ["Observation/o1/_history/1", "Observation/o2/_history/1"]
    assert "profile" not in event.get("meta", {})


async def test_one_patient_keeps_the_profile(house: House, receiver: Receiver) -> None:
    await house.put(topic_subscription(receiver.url), house.site.token(*SCOPES, name="watcher"))
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()
    async with house.http() as http:
        await http.delete("Observation/o1")
    await house.settle()

    events = await disclosures(house)
    assert [each["meta"]["profile"][0].rpartition(".BasicAudit.")[2] for each in events] == [
        "PrivacyDisclosure.Source"
    ] * 2
    # Of what was deleted, the patient whose it was.
    assert [entities(each, "1") for each in events] == [["Patient/p1"]] * 2


@pytest.mark.parametrize("kind", [topic_subscription, criteria_subscription])
async def test_an_endpoint_that_answers_badly_may_have_read_it(house: House, receiver: Receiver, kind: Any) -> None:
    receiver.status = 200
    await house.put(kind(receiver.url), house.site.token(*SCOPES, name="watcher"))
    await house.settle()
    receiver.status = 500
    await house.put(observation("o1"))
    await house.settle()

    assert [each["outcome"] for each in await disclosures(house)] == ["4"]


async def test_what_shows_nothing_leaves_no_event(house: House, receiver: Receiver) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    await house.put(topic_subscription(receiver.url, "empty", heartbeat_period=5), token)
    await house.put(criteria_subscription(receiver.url, payload=False) | {"id": "s2"}, token)
    # The house's own are not audited.
    await house.put(topic_subscription(receiver.url) | {"id": "s3"})
    # Nothing listens there: nobody read it.
    await house.put(criteria_subscription("http://127.0.0.1:1/a") | {"id": "s4"}, token)
    await house.settle()
    await house.put(observation("o1"))
    await house.settle(10)

    assert len(receiver.requests) > 4
    assert await disclosures(house) == []


async def test_subscriptions_of_other_types_tell_of_their_patients(house: House, receiver: Receiver) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    await house.put(criteria_subscription(receiver.url, "Flag?status=active"), token)
    await house.put(criteria_subscription(receiver.url, "Patient?") | {"id": "s2"}, token)
    await house.settle()
    await house.put(flag("f1", "p7"))
    await house.put(patient("p8"))
    await house.settle()

    assert sorted(entities(each, "1")[0] for each in await disclosures(house)) == ["Patient/p7", "Patient/p8"]


async def test_telling_of_the_audit_is_not_audited_for_ever(house: House, receiver: Receiver) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    await house.put(criteria_subscription(receiver.url, "AuditEvent?"), token)
    await house.settle()
    async with house.http(token) as http:
        await http.get("Patient")
    await house.site.settle()
    await house.settle()

    assert len(receiver.requests) == 1
    assert await disclosures(house) == []
