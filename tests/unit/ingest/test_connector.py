"""The connector stage against the embedded FHIR store: every message counted once, every measurement attributed."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.catalog import MappingPair, Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.identity import REJECTED, REMEDIES, Association, Identity, Question
from pulseweir.ingest.settings import ConnectorSettings, IdentitySettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, MEASUREMENT_SCHEMA, MEASUREMENTS
from pulseweir.worker import Handled

NOW = parse_instant("2030-05-01T08:16:00Z")
MAPPINGS = Mappings.load(catalog_directory())
MEASURED = parse_instant("2030-05-01T08:15:00Z")
SECOND = 1_000_000


class House:
    """A FHIR store with devices and patients, and the stage in front of it."""

    def __init__(self, fhir: FhirClient, identity: Any = None) -> None:
        self.fhir = fhir
        self.seen: set[str] = set()
        self.now = 0.0
        self.identity = identity or Identity(fhir, IdentitySettings(), monotonic=lambda: self.now)
        self.stage = self.staged(MAPPINGS)

    def staged(self, mappings: Mappings, before_batch: Callable[[], Awaitable[None]] | None = None) -> ConnectorStage:
        more = {"before_batch": before_batch} if before_batch else {}
        return ConnectorStage(
            mappings,
            self.identity,
            self.seen_before,
            ConnectorSettings(identity_wait_seconds=10),
            real_clock=lambda: round(self.now * SECOND),
            **more,
        )

    async def seen_before(self, message_ids: Sequence[str]) -> set[str]:
        return self.seen & set(message_ids)

    async def add_device(self, device_id: str, patient_id: str | None, period: dict[str, str] | None = None) -> None:
        await self.fhir.update(
            {
                "resourceType": "Device",
                "id": device_id,
                "identifier": [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": device_id}],
            }
        )
        if patient_id is not None:
            await self.fhir.update(
                {
                    "resourceType": "DeviceUseStatement",
                    "id": f"use-{device_id}-{patient_id}",
                    "status": "active",
                    "subject": {"reference": f"Patient/{patient_id}"},
                    "device": {"reference": f"Device/{device_id}"},
                    "timingPeriod": period or {"start": "2030-01-01"},
                }
            )

    async def handle(self, *rows: dict[str, Any]) -> Handled:
        handled = await self.stage.handle({0: messages(*rows)})
        self.seen.update(handled.outcome.seen)
        return handled

    async def try_again(self, handled: Handled, first_parked: int = 0) -> Handled:
        rows = pa.concat_tables([item.row for item in handled.outcome.parked])
        return await self.stage.handle_parked(rows, [first_parked] * rows.num_rows)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    fhir = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    made = House(fhir)
    await made.add_device("monitor-1", "patient-1")
    yield made
    await fhir.close()
    store.close()


def message(body: Any, name: str = "m1", kind: str = "bedside-monitor") -> dict[str, Any]:
    return {
        "message_id": name,
        "device_id": "monitor-1",
        "kind": kind,
        "received_at": NOW,
        "properties_json": "{}",
        "system_properties_json": "{}",
        "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
    }


def monitor(**values: Any) -> dict[str, Any]:
    return {"device": "monitor-1", "measuredAt": "2030-05-01T08:15:00Z", **values}


def messages(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows)).cast(DEVICE_MESSAGE_SCHEMA)


def published(handled: Handled) -> list[dict[str, Any]]:
    return [row for topic, table in handled.publish for row in table.to_pylist() if topic == MEASUREMENTS]


async def test_a_message_becomes_rows_with_patient_code_unit_and_observation(house: House) -> None:
    handled = await house.handle(message(monitor(heartRate=84, cuffPressure={"systolic": 120, "diastolic": 70})))

    (topic, table), *_ = handled.publish
    assert (topic, table.schema) == (MEASUREMENTS, MEASUREMENT_SCHEMA)
    rows = table.to_pylist()
    assert [(row["name"], row["number"], row["code"], row["unit"]) for row in rows] == [
        ("heart_rate", 84.0, "8867-4", "/min"),
        ("systolic", 120.0, "8480-6", "mm[Hg]"),
        ("diastolic", 70.0, "8462-4", "mm[Hg]"),
    ]
    assert {row["patient_id"] for row in rows} == {"patient-1"}
    assert rows[1]["observation_id"] == rows[2]["observation_id"] != rows[0]["observation_id"]
    assert not any(row["implausible"] for row in rows)
    assert handled.outcome.tallies == {"normalized": 1}
    assert handled.outcome.seen == ["m1"]


async def test_a_repeated_message_is_dropped_and_counted(house: House) -> None:
    row = message(monitor(heartRate=84))

    first = await house.handle(row, row)
    second = await house.handle(row)

    assert first.outcome.tallies == {"normalized": 1, "filtered:duplicate": 1}
    assert second.outcome.tallies == {"filtered:duplicate": 1}
    assert second.publish == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not-json"),
        (b'{"device":"monitor-1","heartRate":NaN}', "not-json"),
        (b'{"device":"\xff"}', "not-json"),
        (b"[" * 10_000 + b"]" * 10_000, "nested-too-deep"),
        (b"[" * 100 + b"]" * 100, "nested-too-deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested-too-deep"),
        (b'"x' + b"x" * 1_000_000 + b'"', "body-too-large"),
        (b"42", "wrong-shape"),
        (b"", "wrong-shape"),
        (b"null", "wrong-shape"),
        (json.dumps({"measuredAt": "2030-05-01T08:15:00Z", "heartRate": 61}).encode(), "incompatible-data"),
        (json.dumps(monitor(heartRate={"a": 1})).encode(), "not-convertible"),
        (json.dumps(monitor(heartRate=61) | {"measuredAt": "soon"}).encode(), "bad-timestamp"),
        (json.dumps(monitor(heartRate=61) | {"measuredAt": 1893456000}).encode(), "bad-timestamp"),
        (json.dumps(monitor(heartRate=61) | {"measuredAt": "0001-01-01T00:00:00+05:00"}).encode(), "out-of-range"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_bad_input_is_set_aside_alone_with_a_reason(house: House, body: bytes, reason: str) -> None:
    handled = await house.handle(message(body, "bad"), message(monitor(heartRate=84), "good"))

    assert [item.reason for item in handled.outcome.quarantined] == [reason]
    assert handled.outcome.tallies == {"normalized": 1}
    assert len(published(handled)) == 1
    assert handled.outcome.quarantined[0].row.to_pylist()[0]["message_id"] == "bad"


async def test_no_value_of_a_message_reaches_the_text_of_its_refusal(house: House) -> None:
    canary = "CANARY-4711"
    bodies = [monitor(heartRate={"secret": canary}), {"device": canary, "heartRate": 61, "measuredAt": canary}]

    handled = await house.handle(
        *(message(body, f"m{index}") for index, body in enumerate(bodies)), message(f"{{{canary}".encode(), "m9")
    )

    assert len(handled.outcome.quarantined) == 3
    for item in handled.outcome.quarantined:
        assert canary not in f"{item.message}{item.expression}{item.place}{item.template}"


async def test_a_message_that_no_template_matches_is_filtered(house: House) -> None:
    handled = await house.handle(message({"device": "monitor-1", "battery": 40}))

    assert handled.outcome.tallies == {"filtered:unmatched": 1}


async def test_a_device_without_any_mapping_is_set_aside_with_the_remedy(house: House) -> None:
    handled = await house.handle(message(monitor(heartRate=84), kind="toaster"))

    assert [item.reason for item in handled.outcome.quarantined] == ["no-mapping"]
    assert "redrive" in handled.outcome.quarantined[0].message


@pytest.mark.parametrize("year", ["2199", "9999", "0001"])
async def test_a_clock_far_off_is_kept(house: House, year: str) -> None:
    await house.add_device("lost", "patient-9", period={"end": "9999-12-31"})
    body = {"device": "lost", "measuredAt": f"{year}-12-31T23:59:59.9999999Z", "heartRate": 61}

    handled = await house.handle(message(body))

    assert handled.outcome.tallies == {"normalized": 1}
    assert published(handled)[0]["occurred_at"].year == int(year)


async def test_an_impossible_value_is_kept_and_marked(house: House) -> None:
    body = monitor(arterialPressure={"systolic": 11_647, "diastolic": 60}, heartRate=0, fio2=0.3)

    rows = {row["name"]: row for row in published(await house.handle(message(body)))}

    assert {name for name, row in rows.items() if row["implausible"]} == {"systolic", "heart_rate"}
    assert rows["systolic"]["number"] == 11_647.0


async def test_a_message_waits_for_its_device_and_goes_on_when_it_appears(house: House) -> None:
    body = {"device": "monitor-2", "measuredAt": "2030-05-01T08:15:00Z", "heartRate": 61}

    first = await house.handle(message(body))
    house.now = 5
    await house.add_device("monitor-2", None)
    second = await house.try_again(first)
    house.now = 9
    await house.add_device("monitor-2", "patient-2")
    third = await house.try_again(second)

    assert [item.reason for item in first.outcome.parked] == ["device-unknown"]
    assert [item.reason for item in second.outcome.parked] == ["patient-unknown"]
    assert third.outcome.tallies == {"normalized": 1}
    assert published(third)[0]["patient_id"] == "patient-2"


async def test_a_message_whose_device_never_appears_goes_to_quarantine(house: House) -> None:
    body = {"device": "monitor-3", "measuredAt": "2030-05-01T08:15:00Z", "heartRate": 61}
    first = await house.handle(message(body))

    house.now = 11
    second = await house.try_again(first)

    assert [item.reason for item in second.outcome.quarantined] == ["device-unknown"]
    assert second.outcome.parked == []
    assert second.publish == []


async def test_siblings_of_an_unknown_device_in_one_message_do_not_wait(house: House) -> None:
    readings = [
        {"device": "monitor-1", "measuredAt": "2030-05-01T08:15:00Z", "heartRate": 61},
        {"device": "monitor-4", "measuredAt": "2030-05-01T08:15:00Z", "heartRate": 62},
    ]

    first = await house.handle(message({"gateway": "g", "readings": readings}, kind="gateway"))
    house.now = 5
    await house.add_device("monitor-4", "patient-4")
    second = await house.try_again(first)

    assert [row["patient_id"] for row in published(first)] == ["patient-1"]
    assert len(first.outcome.parked) == 1
    assert {row["patient_id"] for row in published(second)} == {"patient-1", "patient-4"}
    assert second.outcome.tallies == {"normalized": 1}


async def test_a_parked_message_sent_again_is_a_duplicate(house: House) -> None:
    row = message({"device": "monitor-5", "measuredAt": "2030-05-01T08:15:00Z", "heartRate": 61})

    first = await house.handle(row)
    again = await house.handle(row)

    assert len(first.outcome.parked) == 1
    assert again.outcome.tallies == {"filtered:duplicate": 1}


async def test_a_silent_fhir_service_loses_nothing() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down")

    house = House(FhirClient("http://store/fhir", transport=httpx.MockTransport(refuse)))

    with pytest.raises(RetryLater):
        await house.handle(message(monitor(heartRate=84)))
    await house.fhir.close()


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
    body = [reading(presence=True, patient="p-9", encounter="e-9"), reading(presence=True)]

    await house.handle(message(body, kind=""))

    assert identity.asked == [
        Question("monitor-1", MEASURED, "e-9", "p-9"),
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
