"""A small recording through the stages in event time: what happens, when, and to whom."""

from benchmarks.alert_burden import START, table
from benchmarks.burden_counts import MINUTE, SECOND, count
from benchmarks.event_time import ARRIVES_AFTER, SETTLED_AFTER, Nurse, alerted, measurements, scored

from pulseweir.ingest.recording_plan import PlannedMessage, RecordingPlan, monitor_body, plan_in_order
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup

WELL = {"respiratoryRate": 16, "spo2": 98, "heartRate": 72, "temperatureCelsius": 36.9, "consciousness": "A"}
ILL = WELL | {"respiratoryRate": 28, "spo2": 90, "heartRate": 125}
ILL_FROM, LAST = 10, 45


def recording() -> RecordingPlan:
    """One patient who is well throughout, one who turns ill after ten minutes; a reading a minute, 45 minutes."""
    people = [
        PatientSetup(
            patient_id=f"patient-{name}",
            name=name,
            birth_date="1960-05-01",
            gender="female",
            ward="Ward A",
            bed=f"Bed {name}",
            since_microseconds=START,
            devices=(DeviceSetup(f"monitor-{name}", "bedside-monitor"),),
        )
        for name in ("well", "ill")
    ]
    messages = [
        _message(f"monitor-{name}", minute, ILL if name == "ill" and minute >= ILL_FROM else WELL)
        for minute in range(LAST + 1)
        for name in ("well", "ill")
    ]
    return plan_in_order([one.devices[0] for one in people], people, messages)


def _message(device_id: str, minute: int, values: dict[str, object]) -> PlannedMessage:
    measured = START + minute * MINUTE
    members = [*values.items(), ("cuffPressure.systolic", 124), ("cuffPressure.diastolic", 78), ("fio2", 21)]
    body = monitor_body(device_id, measured, members)
    return PlannedMessage(device_id, f"{device_id}-{minute}", body, measured, len(members))


def test_a_patient_who_turns_ill_is_paged_once_the_first_window_closes() -> None:
    told = scored(measurements(recording(), "charted"))
    happened = alerted(told, None)

    closes = START + (ILL_FROM + 1) * MINUTE
    first = min(happened.pages, key=lambda one: one.at)
    assert (first.patient, first.kind) == ("patient-ill", "page")
    assert closes < first.at <= closes + 10 * SECOND
    assert [one.at for one in happened.opened] == [first.at]
    assert {one.patient for one in happened.pages} == {"patient-ill"}
    assert {one.patient for one in happened.windows} == {"patient-well", "patient-ill"}
    scores = {one.start: one.score for one in happened.windows if one.patient == "patient-ill"}
    assert scores[START + (ILL_FROM - 1) * MINUTE] == 0
    assert (scores[START + ILL_FROM * MINUTE] or 0) >= 7


def test_time_passes_between_scores_and_acknowledgements_stop_the_ladder() -> None:
    told = scored(measurements(recording(), "charted"))
    waited, seen = alerted(told, None), alerted(told, Nurse(2 * MINUTE))

    first = waited.pages[0].at
    steps = [round((one.at - first) / SECOND) for one in waited.pages if one.kind == "escalation"]
    assert steps == [60, 180, 300]
    assert [one.at - first for one in seen.acknowledged][0] == 2 * MINUTE
    assert [round((one.at - first) / SECOND) for one in seen.pages if one.kind == "escalation"] == [60]


def test_the_figures_of_both_patients_come_as_one_column() -> None:
    spans = {
        f"patient-{name}": (START, START + LAST * MINUTE + ARRIVES_AFTER + SETTLED_AFTER) for name in ("well", "ill")
    }
    counted = count(alerted(scored(measurements(recording(), "charted")), None), spans)

    assert counted["patients"] == 2
    assert counted["windows"] == 2 * (LAST + 1)
    assert counted["high"]["first_of_patient"]["share_paged"] == 1
    numbers = counted["numbers"]
    assert (numbers["alerts_opened"], numbers["missed_rises"], numbers["duplicates"]) == (1, 0, 0)
    shown = table([{"arrival": "charted", "ward": "nobody", **counted}])
    assert "| a patient's first window with NEWS2 ≥ 7: paged | 100.0% (1 of 1; 0 no worse than told) |" in shown


def test_what_was_entered_long_after_it_was_measured_alerts_nobody() -> None:
    plan = recording()
    late = [
        PlannedMessage(one.device_id, one.message_id, one.body, one.due_microseconds + 40 * MINUTE, one.readings)
        for one in plan.messages
    ]
    happened = alerted(scored(measurements(plan_in_order(plan.devices, plan.patients, late), "stored")), None)

    assert happened.windows
    assert all(one.backfill for one in happened.windows)
    assert not happened.pages
