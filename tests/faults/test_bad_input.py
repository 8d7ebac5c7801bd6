"""Every kind of bad input, sent to one running house: told plainly, counted, kept aside, in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import httpx
import msgspec
import pytest
import pytest_asyncio

from faults.running_house import Bedside, Json, bedside, cli, metric, until
from hub_house import Peer, accepted, connect_of, hang_up, message, token_of
from pulseweir.backends.lake import PATIENT_MEASUREMENTS
from pulseweir.backends.repository import scores
from pulseweir.clock import to_microseconds
from pulseweir.ingest.ward_setup import DeviceSetup, device_resource
from pulseweir.systems import open_lake

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bedside]:
    async with bedside(tmp_path_factory.mktemp("house")) as running:
        yield running
        await hang_up()


async def quarantined(bed: Bedside, body: bytes, reason: str) -> Json:
    """Send a body that goes to quarantine; the row that says so."""
    before = {row["id"] for row in bed.quarantine()}
    counted = await metric(bed.house, "connector", "pulseweir_quarantine_items_total", stage="connector", reason=reason)

    await bed.say(body)
    await until(lambda: {row["id"] for row in bed.quarantine()} > before)

    [row] = [row for row in bed.quarantine() if row["id"] not in before]
    assert (row["topic"], row["group"], row["reason"]) == ("device-messages", "connector", reason)
    now = await metric(bed.house, "connector", "pulseweir_quarantine_items_total", stage="connector", reason=reason)
    assert now == counted + 1
    return row


async def test_a_body_that_is_not_json_waits_in_quarantine(bed: Bedside) -> None:
    row = await quarantined(bed, b'{"heartRate": ', "not-json")

    assert "Correct the sender" in row["message"]
    await bed.proves_itself()


async def test_a_body_that_is_not_utf8_waits_in_quarantine(bed: Bedside) -> None:
    row = await quarantined(bed, b'{"heartRate": "\xff\xfe"}', "not-json")

    assert row["message"].endswith("Correct the sender.")
    await bed.proves_itself()


@pytest.mark.parametrize("body", [b'"hello"', b"42", b"null", b"true"])
async def test_json_that_is_no_object_waits_in_quarantine(bed: Bedside, body: bytes) -> None:
    row = await quarantined(bed, body, "wrong-shape")

    assert (row["place"], "Send an object" in row["message"]) == ("$.Body", True)
    await bed.proves_itself()


async def test_an_object_that_no_template_knows_is_filtered_by_name(bed: Bedside) -> None:
    before = bed.house.conserve().messages.filtered.get("unmatched", 0)

    await bed.say(b'{"colour": "red"}')
    await bed.settled()

    assert bed.house.conserve().messages.filtered["unmatched"] == before + 1
    assert await metric(bed.house, "connector", "pulseweir_connector_unmatched_total", reason="no-template") >= 1
    await bed.proves_itself()


async def test_a_vital_of_the_wrong_shape_is_kept_aside_and_named(bed: Bedside) -> None:
    before = {row["id"] for row in bed.quarantine()}

    await bed.say(bed.body(heartRate={"beats": [1, 2]}))
    await until(lambda: {row["id"] for row in bed.quarantine()} > before)

    [row] = [row for row in bed.quarantine() if row["id"] not in before]
    assert "heart_rate" in f"{row['expression']} {row['template']} {row['message']}"
    assert "beats" not in row["message"]
    await bed.proves_itself()


async def test_a_body_of_one_megabyte_is_refused_over_https_with_413(bed: Bedside) -> None:
    ended = {"protocol": "https", "reason": "oversize"}
    before = await metric(bed.house, "hub", "pulseweir_hub_connections_ended_total", **ended)
    acknowledged = bed.house.conserve().messages.total

    answer = await post(bed, bed.device_id, b'{"heartRate":"' + b"8" * 1_000_000 + b'"}')

    assert (answer.status_code, answer.json()["error"]) == (413, "oversize")
    assert "send less" in answer.json()["message"]
    assert await metric(bed.house, "hub", "pulseweir_hub_connections_ended_total", **ended) == before + 1
    assert bed.house.conserve().messages.total == acknowledged
    await bed.proves_itself()


async def test_a_body_of_one_megabyte_ends_its_mqtt_connection_and_no_other(bed: Bedside) -> None:
    bed.register("greedy-1")
    device = bed.registry.get("greedy-1")
    assert device is not None
    ended = {"protocol": "mqtt", "reason": "oversize"}
    before = await metric(bed.house, "hub", "pulseweir_hub_connections_ended_total", **ended)
    acknowledged = bed.house.conserve().messages.total
    link = bed.monitor._link
    peer = await Peer.dial(bed.address.mqtt_port)
    assert await peer.ask(connect_of(device)) == accepted(0)

    answer = await peer.ask(message("greedy-1", body=b"8" * 1_000_000))

    assert answer is None
    assert await metric(bed.house, "hub", "pulseweir_hub_connections_ended_total", **ended) == before + 1
    assert bed.house.conserve().messages.total == acknowledged
    await bed.proves_itself()
    assert bed.monitor._link is link


@pytest.mark.parametrize("unit", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
async def test_ten_thousand_levels_of_nesting_wait_in_quarantine(bed: Bedside, unit: tuple[bytes, bytes]) -> None:
    opening, closing = unit
    row = await quarantined(bed, opening * 10_000 + b"1" + closing * 10_000, "nested-too-deep")

    assert "Flatten it" in row["message"]
    await bed.proves_itself()


async def test_nan_is_no_json(bed: Bedside) -> None:
    row = await quarantined(bed, bed.body(heartRate=0).replace(b":0", b":NaN"), "not-json")

    assert "NaN" in row["message"]
    await bed.proves_itself()


async def test_nan_as_text_is_no_number_and_leaves_its_neighbours_alone(bed: Bedside) -> None:
    before = {row["id"] for row in bed.quarantine()}
    written = await bed.observations()

    await bed.say(bed.body(heartRate="NaN", spo2=97))
    await until(lambda: {row["id"] for row in bed.quarantine()} > before)
    await bed.settled()

    [row] = [row for row in bed.quarantine() if row["id"] not in before]
    assert (row["topic"], row["reason"], row["expression"]) == ("measurements", "not-a-quantity", "heart_rate")
    assert await bed.observations() == written + 1
    await bed.proves_itself()


async def test_a_device_the_hub_does_not_know_is_refused_over_https(bed: Bedside) -> None:
    stranger = await post(bed, "stranger", b"{}", key_of=bed.device_id)

    assert (stranger.status_code, stranger.json()["error"]) == (404, "unknown-device")
    assert "pulseweir device add" in stranger.json()["message"]
    refused = await metric(
        bed.house, "hub", "pulseweir_hub_messages_received_total", protocol="https", outcome="unknown-device"
    )
    assert refused >= 1
    await bed.proves_itself()


async def test_a_device_the_hub_does_not_know_is_refused_over_mqtt(bed: Bedside) -> None:
    device = bed.registry.get(bed.device_id)
    assert device is not None
    stranger = replace(device, device_id="stranger")
    peer = await Peer.dial(bed.address.mqtt_port)

    answer = await peer.ask(connect_of(stranger))

    assert answer == accepted(5)
    assert await peer.hear() is None
    assert (
        await metric(
            bed.house, "hub", "pulseweir_hub_connections_ended_total", protocol="mqtt", reason="unknown-device"
        )
        >= 1
    )
    await bed.proves_itself()


async def test_a_device_that_fhir_does_not_know_is_parked_then_quarantined_then_redriven(bed: Bedside) -> None:
    bed.register("orphan-1")
    await bed.say_from("orphan-1", bed.body("orphan-1", heartRate=81))

    await until(lambda: parked(bed, "device-unknown"))
    await bed.proves_itself()
    await until(lambda: of_reason(bed, "device-unknown"))
    await bed.proves_itself()
    [row] = of_reason(bed, "device-unknown")
    assert "Create the Device in the FHIR service, then redrive" in row["message"]

    written = bed.house.conserve().measurements.done.get("written", 0)
    await bed.fhir.update(
        device_resource(DeviceSetup("orphan-1", "bedside-monitor")) | {"patient": {"reference": "Patient/patient-1"}}
    )
    assert "1 of 1 are tried again" in redrive(bed, row["id"])
    assert "0 of 1 are tried again" in redrive(bed, row["id"])
    await until(lambda: bed.house.conserve().measurements.done.get("written", 0) == written + 1)
    await bed.settled()
    books = bed.house.conserve()

    assert of_reason(bed, "device-unknown") == []
    assert "0 of 1 are tried again" in redrive(bed, row["id"])
    await bed.settled()
    assert bed.house.conserve() == books
    await bed.proves_itself()


async def test_a_device_nobody_wears_waits_until_it_is_assigned(bed: Bedside, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.register("spare-1")
    await bed.fhir.update(device_resource(DeviceSetup("spare-1", "bedside-monitor")))
    await bed.say_from("spare-1", bed.body("spare-1", heartRate=82))
    await until(lambda: of_reason(bed, "patient-unknown"))
    [row] = of_reason(bed, "patient-unknown")
    assert "Assign it, then redrive" in row["message"]

    monkeypatch.setenv("PULSEWEIR_FHIR__PORT", str(bed.house.settings.fhir.port))
    span = ("--from", "2020-01-01T00:00:00Z")
    answer = await asyncio.to_thread(
        cli, "device", "assign", "spare-1", "--patient", "patient-1", *span, *data_dir(bed)
    )
    assert answer.exit_code == 0, answer.output
    redrive(bed, row["id"])
    await until(lambda: not of_reason(bed, "patient-unknown"))
    await bed.settled()

    assert bed.house.conserve().conservation_difference == 0
    await bed.proves_itself()


async def test_a_discarded_row_counts_as_filtered(bed: Bedside) -> None:
    row = await quarantined(bed, b"[1, 2", "not-json")
    before = bed.house.conserve().messages

    answer = cli("quarantine", "discard", row["id"], "--reason", "test device", *data_dir(bed))

    after = bed.house.conserve().messages
    assert "1 of 1 were dropped" in answer.stdout
    assert after.quarantined == before.quarantined - 1
    assert after.filtered["discarded"] == before.filtered.get("discarded", 0) + 1
    await bed.proves_itself()


async def test_a_clock_in_2199_is_kept_and_never_scored(bed: Bedside) -> None:
    instant = "2199-01-01T00:00:00Z"
    occurred_at = to_microseconds(datetime.fromisoformat(instant))

    await bed.say(msgspec.json.encode({"device": bed.device_id, "measuredAt": instant, "heartRate": 190}))
    await until(lambda: in_the_lake(bed, occurred_at))

    await until(lambda: kept(bed, instant))
    assert in_the_lake(bed, occurred_at) == ["future"]
    await bed.proves_itself()
    row = await bed.repository.read(scores.live_row, bed.patient_id)
    assert row is not None
    assert row.newest_occurred_at < bed.house.clock.now_microseconds()
    history = await bed.repository.read(scores.score_history, bed.patient_id)
    assert all(window.window_end < occurred_at for window in history)


async def test_a_message_sent_twice_counts_once(bed: Bedside) -> None:
    body = bed.body(heartRate=83)
    await bed.settled()
    before = bed.house.conserve()

    await bed.say(body, "twice")
    await bed.say(body, "twice")
    await bed.settled()

    after = bed.house.conserve()
    assert after.messages.total == before.messages.total + 2
    assert after.messages.filtered["duplicate"] == before.messages.filtered.get("duplicate", 0) + 1
    assert after.measurements.total == before.measurements.total + 1
    await bed.proves_itself()


async def test_afterwards_everything_is_settled_scored_and_accounted_for(bed: Bedside) -> None:
    assert await bed.house.settle(60)

    assert bed.house.conserve().conservation_difference == 0
    assert await bed.fhir.count("RiskAssessment", {"subject": "Patient/patient-1"}) >= 1
    assert cli("conserve", *data_dir(bed)).exit_code == 0


async def post(bed: Bedside, device_id: str, body: bytes, key_of: str | None = None) -> httpx.Response:
    device = bed.registry.get(key_of or device_id)
    assert device is not None
    headers = {"authorization": token_of(replace(device, device_id=device_id))}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bed.address.https_port}") as http:
        return await http.post(f"/devices/{device_id}/messages/events", content=body, headers=headers)


def parked(bed: Bedside, reason: str) -> bool:
    answer = cli("quarantine", "list", "--parked", "--json", *data_dir(bed))
    return any(row["reason"] == reason for row in msgspec.json.decode(answer.stdout))


def of_reason(bed: Bedside, reason: str) -> list[Json]:
    return [row for row in bed.quarantine() if row["reason"] == reason]


def redrive(bed: Bedside, record_id: str) -> str:
    return cli("quarantine", "redrive", record_id, *data_dir(bed)).stdout


def data_dir(bed: Bedside) -> tuple[str, str]:
    return "--data-dir", str(bed.house.settings.data_dir)


async def kept(bed: Bedside, instant: str) -> bool:
    return await bed.observations(date=instant) == 1


def in_the_lake(bed: Bedside, occurred_at: int) -> list[str]:
    """Quality of the patient's measurements of that instant."""
    rows = open_lake(bed.house.settings).read(PATIENT_MEASUREMENTS, [bed.patient_id], occurred_at, occurred_at + 1)
    return [] if rows is None else rows["quality"].to_pylist()
