"""The connector stage against the embedded FHIR store: every message counted once, every measurement attributed."""

import json

import httpx
import pytest

from connector_house import House, message, monitor, published
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.records.topics import MEASUREMENT_SCHEMA, MEASUREMENTS


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
