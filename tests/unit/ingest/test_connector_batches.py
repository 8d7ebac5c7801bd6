"""What a batch of messages becomes as a whole: order, counts, questions, and the mapping that made each row."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from connector_house import MAPPINGS, MEASURED, House, message, monitor, published
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.catalog import MappingPair, Mappings
from pulseweir.ingest.identity import REJECTED, REMEDIES, Association, Question

FHIR_OF_SESSIONS = {
    "templateType": "CollectionFhir",
    "template": [
        {
            "templateType": "CodeValueFhir",
            "template": {
                "typeName": name,
                "periodInterval": interval,
                "codes": [{"code": "8867-4", "system": "http://loinc.org"}],
                "value": {"valueType": "String", "valueName": "beat"},
            },
        }
        for name, interval in (("beat", -1), ("presence", 0))
    ],
}


def site(house: House) -> None:
    """Gives the house a site mapping: beats of a session that no message names, and presences without value."""
    templates = [
        {
            "templateType": "CalculatedContent",
            "template": {
                "typeName": name,
                "typeMatchExpression": f"$.Body[?(@{name})]",
                "deviceIdExpression": "$.matchedToken.device",
                "timestampExpression": "$.matchedToken.at",
                "patientIdExpression": "$.matchedToken.patient",
                "encounterIdExpression": "$.matchedToken.encounter",
                "values": [{"valueName": "beat", "valueExpression": "$.matchedToken.beat", "required": False}],
            },
        }
        for name in ("beat", "presence")
    ]
    device = json.dumps({"templateType": "CollectionContent", "template": templates})
    pair = MappingPair.loads("site", device, json.dumps(FHIR_OF_SESSIONS))
    house.stage = house.staged(Mappings(MAPPINGS.by_kind, pair, {pair.version: pair}))


def reading(**members: Any) -> dict[str, Any]:
    return {"device": "monitor-1", "at": "2030-05-01T08:15:00Z", **members}


class Answering:
    """Stands where who wore what is asked, answers with one word, and remembers the questions."""

    def __init__(self, words: dict[str, str | None]) -> None:
        self.words = words
        self.asked: list[Question] = []

    async def resolve_many(self, questions: Sequence[Question]) -> dict[Question, Association]:
        self.asked += questions
        return {
            one: Association("d", None if self.words.get(one.device_id) else "p", None, self.words.get(one.device_id))
            for one in questions
        }


async def test_a_measurement_without_values_becomes_one_row_of_its_observation(house: House) -> None:
    site(house)

    handled = await house.handle(message([reading(presence=True)], kind=""))

    [row] = published(handled)
    assert (row["type"], row["name"], row["text"], row["number"]) == ("presence", None, None, None)
    assert row["observation_id"] is not None
    assert handled.outcome.tallies == {"normalized": 1}


async def test_a_message_without_the_session_its_group_needs_is_set_aside_alone(house: House) -> None:
    site(house)

    handled = await house.handle(
        message([reading(beat="1"), reading(presence=True)], "bad", kind=""),
        message([reading(presence=True)], "good", kind=""),
    )

    assert [(item.reason, item.row["message_id"][0].as_py()) for item in handled.outcome.quarantined] == [
        ("correlation-id-missing", "bad")
    ]
    assert [row["message_id"] for row in published(handled)] == ["good"]
    assert handled.outcome.tallies == {"normalized": 1}


async def test_identity_is_asked_with_the_patient_and_encounter_of_the_message_once_for_each_question() -> None:
    identity = Answering({})
    house = House(FhirClient("http://store/fhir"), identity)
    site(house)
    named = [{"patient": "p-9", "encounter": "e-9"}, {"patient": "p-8", "encounter": "e-9"}, {}, {}]
    body = [reading(presence=True, **names) for names in named]

    await house.handle(message(body, kind=""))

    assert identity.asked == [
        Question("monitor-1", MEASURED, "e-9", "p-9"),
        Question("monitor-1", MEASURED, "e-9", "p-8"),
        Question("monitor-1", MEASURED, None, None),
    ]
    await house.fhir.close()


@pytest.mark.parametrize("word", sorted(REJECTED))
async def test_what_waiting_does_not_heal_goes_to_quarantine_at_once(word: str) -> None:
    house = House(FhirClient("http://store/fhir"), Answering({"monitor-7": word, "monitor-8": "patient-unknown"}))
    site(house)
    hopeless = reading(presence=True) | {"device": "monitor-7"}
    waiting = reading(presence=True) | {"device": "monitor-8"}

    handled = await house.handle(
        message([waiting, hopeless, reading(presence=True)], "m1", kind=""), message([waiting], "m2", kind="")
    )

    assert [(item.reason, item.message) for item in handled.outcome.quarantined] == [(word, REMEDIES[word])]
    assert [item.reason for item in handled.outcome.parked] == ["patient-unknown"]
    assert [row["device_id"] for row in published(handled)] == ["monitor-1"]
    assert handled.outcome.tallies == {}
    await house.fhir.close()


async def test_siblings_go_on_once_while_their_message_waits() -> None:
    house = House(FhirClient("http://store/fhir"), Answering({"monitor-8": "patient-unknown"}))
    site(house)
    body = [reading(presence=True), reading(presence=True) | {"device": "monitor-8"}]

    first = await house.handle(message(body, kind=""))
    second = await house.try_again(first)

    assert len(published(first)) == 1
    assert published(second) == []
    assert len(second.outcome.parked) == 1
    await house.fhir.close()


async def test_rows_keep_the_order_of_their_messages_whatever_their_mapping(house: House) -> None:
    site(house)
    kinds = ["", "bedside-monitor", "", "bedside-monitor"]
    bodies = {"": [reading(presence=True)], "bedside-monitor": monitor(heartRate=84)}

    handled = await house.handle(*(message(bodies[kind], f"m{place}", kind) for place, kind in enumerate(kinds)))

    rows = published(handled)
    assert [row["message_id"] for row in rows] == ["m0", "m1", "m2", "m3"]
    assert len({row["mapping_version"] for row in rows}) == 2


async def test_every_message_of_a_mixed_batch_is_counted_exactly_once(house: House) -> None:
    batch = [
        message(monitor(heartRate=84), "m1"),
        message(monitor(heartRate=84), "m1"),
        message(b"{", "m2"),
        message({"battery": 1}, "m3"),
        message(monitor(heartRate=84), "m4", kind="toaster"),
        message(monitor(heartRate=84) | {"device": "nobody"}, "m5"),
        message(b"7", "m6"),
        message(monitor(heartRate=84, spo2=99), "m7"),
    ]

    outcome = (await house.handle(*batch)).outcome

    assert outcome.tallies == {"normalized": 2, "filtered:duplicate": 1, "filtered:unmatched": 1}
    assert sorted(item.reason for item in outcome.quarantined) == ["no-mapping", "not-json", "wrong-shape"]
    assert [item.reason for item in outcome.parked] == ["device-unknown"]
    assert sum(outcome.tallies.values()) + len(outcome.quarantined) + len(outcome.parked) == len(batch)
    assert sorted(outcome.seen) == [f"m{number}" for number in range(1, 8)]


async def test_mappings_change_before_a_batch_and_each_row_names_the_one_that_made_it(house: House) -> None:
    mappings = Mappings(dict(MAPPINGS.by_kind), None, {})
    other = MappingPair.loads("bedside-monitor", *(text + " " for text in MAPPINGS.by_kind["bedside-monitor"].texts))
    moments: list[str] = []

    async def change() -> None:
        moments.append("looked")
        if len(moments) == 2:
            mappings.put_in_force("bedside-monitor", other)

    house.stage = house.staged(mappings, change)
    first = await house.handle(message(monitor(heartRate=84), "m1"))
    second = await house.handle(message(monitor(heartRate=84), "m2"))

    assert [row["mapping_version"] for row in published(first)] == [MAPPINGS.by_kind["bedside-monitor"].version]
    assert [row["mapping_version"] for row in published(second)] == [other.version]
