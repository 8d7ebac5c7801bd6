"""Blue, steps 1 to 5: what the devices sent is archived, normalized and in FHIR, each value once."""

import json
from collections import Counter

import pytest

from paths.journey import Journey, Json
from paths.recount import MINUTE, Charted, Patient
from pulseweir.clock import to_text
from pulseweir.ingest.archive import read_archive
from pulseweir.ingest.recording_plan import PlannedMessage
from pulseweir.ingest.replay_sender import register_devices
from pulseweir.ingest.ward_setup import DeviceSetup
from pulseweir.operations.assign import assign
from pulseweir.records.identifiers import message_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
SHAPES = {
    "heart-rate": ({"8867-4"}, "/min", "vital-signs"),
    "respiratory-rate": ({"9279-1"}, "/min", "vital-signs"),
    "spo2": ({"2708-6", "59408-5"}, "%", "vital-signs"),
    "temperature": ({"8310-5"}, "Cel", "vital-signs"),
    "cuff-pressure": ({"85354-9"}, "mm[Hg]", "vital-signs"),
    "arterial-pressure": ({"85354-9"}, "mm[Hg]", "vital-signs"),
    "inhaled-oxygen": ({"3150-0"}, "%", "vital-signs"),
    "oxygen-flow": ({"3151-8"}, "L/min", "vital-signs"),
    "glasgow-coma-scale": ({"9269-2"}, "{score}", "exam"),
    "glasgow-coma-eye": ({"9267-6"}, "{score}", "exam"),
    "glasgow-coma-verbal": ({"9270-0"}, "{score}", "exam"),
    "glasgow-coma-motor": ({"9268-4"}, "{score}", "exam"),
    "consciousness-alert": ({"67775-7"}, None, "exam"),
    "consciousness-not-alert": ({"67775-7"}, None, "exam"),
}
COMPONENTS = {"8480-6": "systolic", "8462-4": "diastolic", "8478-0": "mean"}


def measured_observations(journey: Journey, patient: Patient) -> list[Json]:
    """A patient's Observations from the replay, those of scores left out."""
    found = journey.search("Observation", patient=patient.patient_id, date=f"lt{to_text(journey.start - 10 * MINUTE)}")
    return [one for one in found if one["category"][0]["coding"][0]["code"] != "survey"]


def kind_of(observation: Json) -> str:
    """The measurement type, which the identifier names."""
    return str(observation["identifier"][0]["value"]).split(".")[2]


def some(journey: Journey) -> list[Patient]:
    """Patients of all sizes, one of every type that was measured, and the one with 11 647 mmHg."""
    by_size = sorted(journey.patients.values(), key=lambda patient: len(patient.charted))
    chosen = {one.subject: one for one in by_size[:: max(len(by_size) // 8, 1)]}
    for kind in SHAPES:
        has_it = (one for one in by_size if any(kind in at.types for at in one.charted))
        chosen |= {one.subject: one for one in [next(has_it, None)] if one is not None}
    if 42_075 in journey.patients:
        chosen[42_075] = journey.patients[42_075]
    return list(chosen.values())


def test_an_edge_keeps_what_it_is_given_without_a_line_and_forwards_all_of_it_once(journey: Journey) -> None:
    edge = journey.edge
    assert edge is not None
    patient = journey.by_id(edge.patient_id)

    assert edge.sent == len(patient.charted)
    assert edge.held_without_line == edge.sent
    assert edge.at_hub_without_line == 0
    assert edge.forwarded == edge.sent
    bodies = [row["body"] for row in archived(journey).values() if row["device_id"] == patient.device_id]
    assert len(bodies) == edge.sent


def archived(journey: Journey) -> dict[str, Json]:
    """The raw archive, by message id."""
    return {
        row["message_id"]: row for table in read_archive(journey.directory / "archive") for row in table.to_pylist()
    }


def test_the_raw_archive_holds_every_message_as_it_was_sent(journey: Journey) -> None:
    expected = {
        message_id(message.device_id, message.message_id, message.body, 0): (message.device_id, message.body)
        for message in journey.plan.messages
    }

    found = archived(journey)

    assert len(expected) == len(journey.plan.messages) == sum(len(one.charted) for one in journey.patients.values())
    assert {key: (found[key]["device_id"], found[key]["body"]) for key in expected} == expected
    assert {found[key]["kind"] for key in expected} == {"bedside-monitor"}
    assert sum(table.num_rows for table in read_archive(journey.directory / "archive")) == (
        journey.house.conserve().messages.total
    )


def test_every_message_is_normalized_or_filtered_because_no_template_reads_it(journey: Journey) -> None:
    readable = sum(len(patient.measured) for patient in journey.patients.values())
    unreadable = len(journey.plan.messages) - readable

    messages = journey.house.conserve().messages

    assert messages.quarantined == messages.in_flight == messages.difference == 0
    assert messages.filtered.get("unmatched", 0) == unreadable
    assert messages.done["normalized"] >= readable


def test_fhir_holds_exactly_the_observations_of_an_independent_recount(journey: Journey) -> None:
    before = f"lt{to_text(journey.start - 10 * MINUTE)}"
    expected = {one.patient_id: sum(len(at.types) for at in one.charted) for one in journey.patients.values()}

    found = {
        patient: journey.count("Observation", patient=patient, date=before)
        - journey.count("Observation", patient=patient, date=before, category="survey")
        for patient in expected
    }

    assert found == expected


def test_observations_carry_loinc_ucum_and_their_category(journey: Journey) -> None:
    seen: set[str] = set()
    for patient in some(journey):
        for observation in measured_observations(journey, patient):
            kind = kind_of(observation)
            codes, unit, category = SHAPES[kind]
            assert {one["code"] for one in observation["code"]["coding"] if one["system"] == LOINC} == codes
            assert [one["coding"][0] for one in observation["category"]][0]["system"] == CATEGORY
            assert observation["category"][0]["coding"][0]["code"] == category
            assert observation["status"] == "final"
            for holder in observation.get("component", [observation]):
                if unit is not None:
                    quantity = holder["valueQuantity"]
                    assert (quantity["system"], quantity["code"]) == (UCUM, unit)
            seen.add(kind)
    assert seen == set(SHAPES)


def test_observations_say_what_was_charted_of_whom_when(journey: Journey) -> None:
    for patient in some(journey):
        shift = patient.shift(journey.start)
        expected = {
            (kind, to_text((at.at + shift) // 1_000 * 1_000)): said_of(at, kind)
            for at in patient.charted
            for kind in at.types
        }

        found = {(kind_of(one), instant(one)): said_by(one) for one in measured_observations(journey, patient)}

        assert found.keys() == expected.keys()
        different = {key: (found[key], expected[key]) for key in expected if found[key] != pytest.approx(expected[key])}
        assert different == {}


def instant(observation: Json) -> str:
    """When it was measured, to the millisecond that the message carried."""
    text = str(observation["effectiveDateTime"]).removesuffix("Z")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(3, '0')[:3]}Z"


def said_of(at: Charted, kind: str) -> dict[str, float]:
    if kind.startswith("consciousness"):
        return {kind: 1}
    return {name: number for (of, name), number in at.numbers.items() if of == kind}


def said_by(observation: Json) -> dict[str, float]:
    kind = kind_of(observation)
    if kind.startswith("consciousness"):
        coding = observation["valueCodeableConcept"]["coding"][0]
        return {kind: 1} if (coding["code"] == "248234008") is (kind == "consciousness-alert") else {}
    if "component" in observation:
        return {
            COMPONENTS[one["code"]["coding"][0]["code"]]: one["valueQuantity"]["value"]
            for one in observation["component"]
        }
    name = kind.replace("-", "_") if kind not in ("inhaled-oxygen",) else "fio2"
    return {name: observation["valueQuantity"]["value"]}


def test_ids_are_made_from_what_the_observation_is_about_and_never_repeat(journey: Journey) -> None:
    ids: Counter[str] = Counter()
    for patient in some(journey):
        for observation in measured_observations(journey, patient):
            ids[observation["id"]] += 1
            (identifier,) = observation["identifier"]
            assert identifier["value"].startswith(f"{patient.patient_id}.{patient.device_id}.{kind_of(observation)}.")
            assert len(observation["id"]) == 64
    assert set(ids.values()) == {1}


def test_a_device_that_spoke_fahrenheit_is_recorded_in_celsius(journey: Journey) -> None:
    spoken = [
        (message, json.loads(message.body))
        for message in journey.plan.messages
        if b"temperatureFahrenheit" in message.body
    ]
    assert spoken
    for message, body in spoken[:: max(len(spoken) // 20, 1)]:
        patient = message.device_id.replace("monitor", "patient")

        found = journey.search("Observation", patient=patient, code="8310-5", date=body["measuredAt"])

        (quantity,) = [one["valueQuantity"] for one in found]
        assert quantity["code"] == "Cel"
        assert quantity["value"] == pytest.approx((body["temperatureFahrenheit"] - 32) / 1.8, abs=0.005_1)


def test_identity_is_settled_by_the_time_of_measurement(journey: Journey) -> None:
    handover = journey.start - 8 * 60 * MINUTE
    device = DeviceSetup("path-wandering-oximeter", "pulse-oximeter")
    wearers = ("path-wearer-1", "path-wearer-2")
    for wearer in wearers:
        journey.background.run(journey.fhir.update({"resourceType": "Patient", "id": wearer, "active": True}))
    spans = ((handover - 60 * MINUTE, handover), (handover, None))
    for wearer, (since, until) in zip(wearers, spans, strict=True):
        end = None if until is None else to_text(until)
        journey.background.run(assign(journey.house.settings, device.device_id, wearer, to_text(since), end))
    registry = journey.house.registry()
    journey.keys |= register_devices(registry, [device])
    registry.close()
    messages = [
        PlannedMessage(
            device.device_id,
            f"wandering-{minutes}",
            json.dumps(
                {
                    "device": device.device_id,
                    "measuredAt": to_text(handover + minutes * MINUTE),
                    "spo2": 97,
                    "pulse": 70,
                }
            ).encode(),
            0,
            2,
        )
        for minutes in (-30, -1, 1, 30)
    ]

    assert journey.send(messages, [device]) == len(messages)
    journey.settle()

    for wearer, minutes in zip(wearers, ((-30, -1), (1, 30)), strict=True):
        found = journey.search("Observation", patient=wearer, code="59408-5")
        assert sorted(instant(one) for one in found) == [
            to_text((handover + one * MINUTE) // 1_000 * 1_000) for one in minutes
        ]
        assert {one["subject"]["reference"] for one in found} == {f"Patient/{wearer}"}


def test_sending_the_same_messages_again_changes_nothing_and_is_counted_as_duplicate(journey: Journey) -> None:
    again = [one for one in journey.patients.values()][2:4]
    devices = {patient.device_id for patient in again}
    messages = [message for message in journey.plan.messages if message.device_id in devices]
    before = [measured_observations(journey, patient) for patient in again]
    books, risks = journey.house.conserve(), journey.count("RiskAssessment")
    lake = {table.name: table.rows for table in journey.lake.tables()}

    assert journey.send(messages) == len(messages)
    journey.settle()

    after = journey.house.conserve()
    assert after.messages.total == books.messages.total + len(messages)
    assert after.messages.filtered["duplicate"] == books.messages.filtered.get("duplicate", 0) + len(messages)
    assert after.messages.done == books.messages.done
    assert after.measurements == books.measurements
    assert [measured_observations(journey, patient) for patient in again] == before
    assert {one["meta"]["versionId"] for found in before for one in found} == {"1"}
    assert journey.count("RiskAssessment") == risks
    assert {table.name: table.rows for table in journey.lake.tables()} == lake


def test_every_message_and_measurement_is_accounted_for(journey: Journey) -> None:
    books = journey.house.conserve()

    assert books.conservation_difference == books.messages.difference == books.measurements.difference == 0
    assert books.measurements.quarantined == books.measurements.in_flight == 0
    assert books.measurements.total >= sum(at.values for patient in journey.patients.values() for at in patient.charted)
