"""Green, steps 10 and 11: readings stored late, up to a day, and history that only the lake still holds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest

from paths.journey import Background, Journey, open_journey, share_of
from paths.recorded_scores import inputs_of, instant, told, windows_of
from paths.recount import HOUR, HOURS, MINUTE, Charted, Patient
from paths.reference_scores import ExpectedScore, expected_scores
from pulseweir.backends.bus.embedded import ledger_path
from pulseweir.backends.lake import PATIENT_MEASUREMENTS
from pulseweir.backends.repository import scores
from pulseweir.backends.repository.rows import LiveRow
from pulseweir.clock import real_microseconds, to_text
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import PlannedMessage, RecordingOptions
from pulseweir.operations.conserve import balance
from pulseweir.systems import bus_directory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN_LATENESS = (42_066, 40_286, 44_154)
"""Patients with many readings stored behind newer ones, none of them later than four hours."""
BEYOND_LATENESS = (42_199, 10_044)
"""Patients with readings stored later than that; of the first one a whole day."""
PORTIONS = 8


@dataclass
class LateHouse:
    """A house that took in the recording in the order of its storage; what was too late came at the very end."""

    journey: Journey
    too_late: list[PlannedMessage]


@pytest.fixture(scope="module")
def late(
    background: Background, recording: Path, recount: dict[int, Patient], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LateHouse]:
    start = real_microseconds()
    chosen = (*WITHIN_LATENESS, *BEYOND_LATENESS)
    whole = plan_recording("mimic3-demo", recording, start, RecordingOptions(hours=HOURS, order="stored"))
    plan = share_of(whole, chosen)
    patients = {subject: recount[subject] for subject in chosen}
    journey = open_journey(background, tmp_path_factory.mktemp("late"), plan, patients, start)
    house = LateHouse(journey, behind_the_lateness(plan.messages))
    try:
        in_time = [message for message in plan.messages if message not in house.too_late]
        # In portions, so that windows have been scored by the time a reading for them comes late.
        portion = len(in_time) // PORTIONS + 1
        for first in range(0, len(in_time), portion):
            journey.send(in_time[first : first + portion])
            journey.settle()
        journey.send(house.too_late)
        journey.settle()
        yield house
    finally:
        house.journey.close()


def behind_the_lateness(messages: tuple[PlannedMessage, ...]) -> list[PlannedMessage]:
    """Messages whose minute ended four hours or more before the newest one their patient had sent by then."""
    newest: dict[str, int] = {}
    found = []
    for message in messages:
        at = measured_at(message)
        if (at // MINUTE + 1) * MINUTE + 4 * HOUR <= newest.get(message.device_id, 0):
            found.append(message)
        newest[message.device_id] = max(at, newest.get(message.device_id, 0))
    return found


def measured_at(message: PlannedMessage) -> int:
    return instant(json.loads(message.body)["measuredAt"])


def without(patient: Patient, too_late: list[PlannedMessage], shift: int) -> list[Charted]:
    """What of a patient arrived in time."""
    stored = {
        (measured_at(one), one.due_microseconds - shift) for one in too_late if one.device_id == patient.device_id
    }
    kept = []
    for at in patient.charted:
        moment = at.at + shift
        numbers = {key: number for key, number in at.numbers.items() if (moment, at.stored[key]) not in stored}
        coma = ("glasgow-coma-scale", "glasgow_coma_scale")
        kept.append(replace(at, numbers=numbers, letter=at.letter if coma in numbers else None))
    return [one for one in kept if one.values]


def test_stored_order_brings_readings_behind_newer_ones(late: LateHouse) -> None:
    behind = 0
    newest: dict[str, int] = {}
    for message in late.journey.plan.messages:
        behind += measured_at(message) < newest.get(message.device_id, 0)
        newest[message.device_id] = max(measured_at(message), newest.get(message.device_id, 0))

    assert behind > 100
    assert max(one.due_microseconds - measured_at(one) for one in late.too_late) > 23 * HOUR


def test_readings_stored_within_the_lateness_give_the_scores_of_charted_order(late: LateHouse) -> None:
    revised = 0
    for subject in WITHIN_LATENESS:
        patient = late.journey.patients[subject]
        rows = windows_of(late.journey, patient)

        assert [told(row) for row in rows] == expected_scores(patient.measured, patient.shift(late.journey.start))
        revised += sum(row.revision > 1 for row in rows)
    assert revised > 0


def test_readings_stored_later_than_that_change_no_score_and_are_counted(late: LateHouse) -> None:
    journey = late.journey
    for subject in BEYOND_LATENESS:
        patient = journey.patients[subject]
        shift = patient.shift(journey.start)
        in_time = without(patient, late.too_late, shift)

        assert [told(row) for row in windows_of(journey, patient)] == expected_scores(in_time, shift)
        assert sum(one.values for one in in_time) < sum(one.values for one in patient.charted)

    values = sum(one.values for subject in journey.patients for one in journey.patients[subject].charted)
    kept = sum(
        one.values
        for patient in journey.patients.values()
        for one in without(patient, late.too_late, patient.shift(journey.start))
    )
    books = balance(bus_directory(journey.house.settings), "patient-measurements", "scoring")
    assert books.filtered["too-late"] == values - kept > 0


def test_readings_stored_a_day_late_are_in_the_lake_and_in_fhir_all_the_same(late: LateHouse) -> None:
    journey = late.journey
    found = journey.lake.query(
        PATIENT_MEASUREMENTS,
        "SELECT patient_id, count(*) AS held FROM patient_measurements GROUP BY patient_id",
    )

    assert found is not None
    assert {row["patient_id"]: row["held"] for row in found.to_pylist()} == {
        patient.patient_id: sum(one.values for one in patient.charted) for patient in journey.patients.values()
    }
    for patient in journey.patients.values():
        scores_count = journey.count("Observation", patient=patient.patient_id, category="survey")
        measured = journey.count("Observation", patient=patient.patient_id) - scores_count
        assert measured == sum(len(one.types) for one in patient.charted)


def test_history_comes_back_from_the_lake_when_the_engine_has_forgotten(late: LateHouse) -> None:
    """The engine's snapshots are removed while the house is down: after that only the lake knows the patients."""
    journey = late.journey
    patient, pulse = recently_measured(journey), 104
    directory = journey.directory
    journey.close()
    forget(ledger_path(directory / "bus", "patient-measurements", "scoring"))
    late.journey = reopened = open_journey(journey.background, directory, journey.plan, journey.patients, journey.start)
    at = real_microseconds() // 1_000 * 1_000
    body = json.dumps({"device": patient.device_id, "measuredAt": to_text(at), "heartRate": pulse}).encode()

    reopened.send([PlannedMessage(patient.device_id, "after-forgetting", body, at, 1)])
    row = reopened.until(lambda: live_row_since(reopened, patient, at), "a live row of the new reading")

    shift = patient.shift(journey.start)
    expected = expected_with(patient, shift, at, pulse)
    used = {one["vital"]: one for one in inputs_of(row) if one["usable"]}
    assert used["heart_rate"]["value"] == pulse
    from_before = {name for name, one in used.items() if instant(one["occurred_at"]) < journey.start}
    assert len(from_before) >= 3
    assert (row.score, row.band, row.status) == (expected.score, expected.band, expected.status)
    assert set(json.loads(row.missing_json)) == expected.missing


def forget(ledger: Path) -> None:
    """Remove what scoring stored of its state; positions stay, so nothing is read from the bus again."""
    assert ledger.exists()
    connection = apsw.Connection(str(ledger))
    held = list(connection.execute("SELECT count(*) FROM progress WHERE snapshot IS NOT NULL"))[0][0]
    assert held > 0
    connection.execute("UPDATE progress SET snapshot = NULL")
    connection.close()


def recently_measured(journey: Journey) -> Patient:
    """A patient whose last readings are enough for a score, and still will be in half an hour."""
    for patient in journey.patients.values():
        shift = patient.shift(journey.start)
        if (
            patient.subject in WITHIN_LATENESS
            and len(
                {"respiratory-rate", "spo2", "cuff-pressure", "arterial-pressure"}
                & {
                    kind
                    for one in patient.charted
                    if one.at + shift > journey.start - 30 * MINUTE
                    for kind in one.types
                }
            )
            >= 3
        ):
            return patient
    pytest.fail("no patient of this test has enough recent readings: choose others")


def expected_with(patient: Patient, shift: int, at: int, pulse: float) -> ExpectedScore:
    """The score of the minute of one more pulse."""
    more = Charted(at - shift, {("heart-rate", "heart_rate"): pulse})
    return expected_scores([*patient.measured, more], shift)[-1]


def live_row_since(journey: Journey, patient: Patient, at: int) -> LiveRow | None:
    with journey.repository.reading() as transaction:
        row = scores.live_row(transaction, patient.patient_id)
    return row if row is not None and row.newest_occurred_at >= at else None
