import gzip
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pulseweir import clock
from pulseweir.errors import RecordingInvalid
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan

START = 1_790_000_000_000_000
MINUTE = 60_000_000
HEADER = "subject_id,icustay_id,time,stored,vital,loinc,value,unit,method,itemid,error"


def _write_recording(folder: Path, rows: list[str]) -> Path:
    with gzip.open(folder / "vitals_long.csv.gz", "wt") as file:
        file.write("\n".join([HEADER, *rows]) + "\n")
    (folder / "patients.csv").write_text(
        "row_id,subject_id,gender,dob\n1,7,F,2100-05-01T00:00:00Z\n2,8,M,1850-05-01T00:00:00Z\n"
    )
    (folder / "admissions.csv").write_text("row_id,subject_id,hadm_id,admittime\n1,7,70,2150-01-01T00:00:00Z\n")
    (folder / "icustays.csv").write_text(
        "row_id,subject_id,hadm_id,icustay_id,first_careunit,intime\n1,7,70,700,WEST,2150-01-01T01:00:00Z\n"
    )
    return folder


def _row(
    vital: str,
    value: float | str,
    *,
    subject: int = 7,
    at: str = "10:00",
    stored: str = "10:15",
    method: str = "",
    item: str = "1",
) -> str:
    day = "2150-01-02T"
    return f"{subject},700,{day}{at}:00Z,{day}{stored}:00Z,{vital},x,{value},u,{method},{item},"


def _plan(folder: Path, rows: list[str], options: RecordingOptions | None = None) -> RecordingPlan:
    return plan_recording("mimic3-demo", _write_recording(folder, rows), START, options)


def _bodies(plan: RecordingPlan) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.body) for message in plan.messages]


def test_one_message_holds_all_readings_of_a_patient_and_charted_time(tmp_path: Path) -> None:
    rows = [_row("heart_rate", 80), _row("spo2", 97), _row("heart_rate", 82, at="11:00"), _row("spo2", 95, subject=8)]

    plan = _plan(tmp_path, rows)

    assert [message.readings for message in plan.messages] == [2, 1, 1]
    assert plan.readings == 4
    assert [device.kind for device in plan.devices] == ["bedside-monitor", "bedside-monitor"]


def test_each_patient_ends_one_minute_before_the_backfill_age(tmp_path: Path) -> None:
    rows = [_row("spo2", 97), _row("spo2", 97, at="13:00"), _row("spo2", 95, subject=8)]

    plan = _plan(tmp_path, rows, RecordingOptions(backfill_after_seconds=900))

    last = clock.to_text(START - 16 * MINUTE)
    newest = {body["device"]: body["measuredAt"] for body in _bodies(plan)}
    assert newest == {"mimic3-monitor-7": last, "mimic3-monitor-8": last}


def test_a_live_plan_begins_now(tmp_path: Path) -> None:
    plan = _plan(tmp_path, [_row("spo2", 97), _row("spo2", 97, at="10:01")], RecordingOptions(live=True))

    assert [message.due_microseconds for message in plan.messages] == [START, START + MINUTE]


def test_birth_dates_move_with_the_patient_and_masked_ages_become_90(tmp_path: Path) -> None:
    plan = _plan(tmp_path, [_row("spo2", 97), _row("spo2", 97, subject=8)])

    seven, eight = plan.patients
    measured = clock.from_microseconds(START - 16 * MINUTE)
    assert (measured.date() - date.fromisoformat(seven.birth_date)).days == (date(2150, 1, 2) - date(2100, 5, 1)).days
    assert eight.birth_date == measured.date().replace(year=measured.year - 90).isoformat()
    assert (seven.gender, seven.ward, seven.bed) == ("female", "WEST", "Bed 01")


def test_items_charted_in_fahrenheit_are_sent_in_fahrenheit(tmp_path: Path) -> None:
    rows = [_row("temperature", 37.5556, item="677"), _row("temperature", 37.56, item="678")]
    rows.append(_row("temperature", 37.2, at="11:00", item="676"))

    first, second = _bodies(_plan(tmp_path, rows))

    assert first["temperatureFahrenheit"] == 99.6
    assert "temperatureCelsius" not in first
    assert second["temperatureCelsius"] == 37.2


def test_cuff_and_arterial_pressure_are_two_groups_and_a_blank_method_is_a_cuff(tmp_path: Path) -> None:
    rows = [
        _row("systolic_bp", 120, method="cuff"),
        _row("diastolic_bp", 70),
        _row("systolic_bp", 11647, method="arterial-line"),
        _row("mean_bp", 63.66669846, method="arterial-line"),
    ]

    (body,) = _bodies(_plan(tmp_path, rows))

    assert body["cuffPressure"] == {"systolic": 120, "diastolic": 70}
    assert body["arterialPressure"] == {"systolic": 11647, "mean": 63.6667}


@pytest.mark.parametrize("order", ["charted", "stored"])
def test_of_equal_keys_the_last_stored_wins_in_either_order(tmp_path: Path, order: Any) -> None:
    rows = [_row("heart_rate", 90, stored="10:30"), _row("heart_rate", 80, stored="10:05")]

    plan = _plan(tmp_path, rows, RecordingOptions(order=order))

    assert [body["heartRate"] for body in _bodies(plan)] == [90]
    assert plan.readings == 2


def test_a_coma_scale_of_15_is_alert_and_less_is_not(tmp_path: Path) -> None:
    rows = [_row("gcs_total", 15), _row("gcs_total", 14, at="11:00")]

    alert, not_alert = _bodies(_plan(tmp_path, rows))

    assert (alert["glasgowComaScale"], alert["consciousness"]) == (15, "A")
    assert (not_alert["glasgowComaScale"], not_alert["consciousness"]) == (14, "CVPU")


def test_parts_of_the_coma_scale_are_summed_only_when_all_three_are_there(tmp_path: Path) -> None:
    rows = [_row("gcs_eye", 4), _row("gcs_verbal", 5), _row("gcs_motor", 6)]
    rows += [_row("gcs_eye", 4, at="11:00"), _row("gcs_motor", 6, at="11:00")]

    whole, partial = _bodies(_plan(tmp_path, rows))

    assert (whole["glasgowComaScale"], whole["consciousness"]) == (15, "A")
    assert "glasgowComaScale" not in partial
    assert "consciousness" not in partial


def test_oxygen_and_zeros_are_sent_as_charted(tmp_path: Path) -> None:
    rows = [_row("fio2", 0.400000006), _row("o2_flow", 4), _row("heart_rate", 0)]

    (body,) = _bodies(_plan(tmp_path, rows))

    assert (body["fio2"], body["oxygenFlow"], body["heartRate"]) == (0.4, 4, 0)


def test_hours_count_from_the_patients_first_reading_and_exclude_their_end(tmp_path: Path) -> None:
    rows = [_row("spo2", 97), _row("spo2", 96, at="10:59"), _row("spo2", 95, at="11:00")]

    plan = _plan(tmp_path, rows, RecordingOptions(hours=1))

    assert [body["spo2"] for body in _bodies(plan)] == [97, 96]


def test_patients_are_the_first_by_number(tmp_path: Path) -> None:
    rows = [_row("spo2", 97, subject=8), _row("spo2", 96, subject=7)]

    plan = _plan(tmp_path, rows, RecordingOptions(patients=1))

    assert [patient.patient_id for patient in plan.patients] == ["mimic3-patient-7"]


def test_in_stored_order_what_was_entered_later_is_sent_later(tmp_path: Path) -> None:
    rows = [
        _row("spo2", 97, stored="12:00"),
        _row("heart_rate", 80),
        _row("heart_rate", 81, at="11:00", stored="11:05"),
    ]

    plan = _plan(tmp_path, rows, RecordingOptions(order="stored"))

    assert [sorted(body)[1:] for body in _bodies(plan)] == [
        ["heartRate", "measuredAt"],
        ["heartRate", "measuredAt"],
        ["measuredAt", "spo2"],
    ]
    assert len({message.message_id for message in plan.messages}) == 3


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("7,700,yesterday,2150-01-02T10:00:00Z,spo2,x,97,%,,1,", "not a number or an instant"),
        ("7,700,2150-01-02T10:00:00Z,2150-01-02T10:00:00Z,spo2,x,high,%,,1,", "not a number or an instant"),
        ("7,700,2150-01-02T10:00:00Z,2150-01-02T10:00:00Z,mood,x,1,%,,1,", "the vital is none of"),
        ("7,700,2150-01-02T10:00:00Z", "too few columns"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(RecordingInvalid, match=f"vitals_long.csv.gz, line 3: .*{problem}"):
        _plan(tmp_path, [_row("spo2", 97), row])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingInvalid, match="patients.csv: it cannot be opened"):
        plan_recording("mimic3-demo", tmp_path, START)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecordingInvalid, match="mimic3-demo, ndjson, csv"):
        plan_recording("excel", tmp_path, START)


def test_ndjson_lines_are_sent_without_their_envelope(tmp_path: Path) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_text(
        '{"device":"a","measuredAt":"2026-01-01T00:01:00Z","spo2":97,"_kind":"pulse-oximeter","_messageId":"m1"}\n\n'
        '{"gateway":"g","readings":[]}\n{"device":"b","spo2":1,"_device":"g2","measuredAt":"2026-01-01T00:00:00Z"}\n'
    )

    plan = plan_recording("ndjson", file, START)

    assert {(device.device_id, device.kind) for device in plan.devices} == {
        ("a", "pulse-oximeter"),
        ("g", ""),
        ("g2", ""),
    }
    assert plan.messages[0].device_id == "g2"
    assert plan.messages[1].message_id == "m1"
    assert b"_kind" not in plan.messages[1].body


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 5000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"spo2":1}', "names the sending device"),
        ('{"device":1}', "device is not text"),
        ('{"device":"a","measuredAt":"noon"}', "not an ISO 8601 instant"),
    ],
)
def test_a_bad_ndjson_line_is_named_by_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_text(f'{{"device":"a"}}\n{line}\n')

    with pytest.raises(RecordingInvalid, match=f"messages.ndjson, line 2: .*{problem}"):
        plan_recording("ndjson", file, START)


def test_csv_rows_of_one_device_and_time_become_one_message(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "device,kind,time,field,value\n"
        "m,bedside-monitor,2026-01-01T00:00:00Z,heartRate,71\n"
        "m,bedside-monitor,2026-01-01T00:00:00Z,cuffPressure.mean,80.5\n"
        "m,bedside-monitor,2026-01-01T00:00:00Z,consciousness,A\n"
    )

    plan = plan_recording("csv", file, START)

    assert _bodies(plan) == [
        {
            "device": "m",
            "measuredAt": "2026-01-01T00:00:00.000Z",
            "heartRate": 71,
            "cuffPressure": {"mean": 80.5},
            "consciousness": "A",
        }
    ]
    assert plan.readings == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("device,kind,time,value\n", "line 1: column field is missing"),
        ("device,kind,time,field,value\nm,,2026-01-01T00:00:00Z,,1\n", "line 2: device, field or value is empty"),
        ("device,kind,time,field,value\nm,,noon,spo2,1\n", "line 2: the time is not"),
    ],
)
def test_a_bad_csv_row_is_named_by_file_and_line(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)

    with pytest.raises(RecordingInvalid, match=f"rows.csv, {place}"):
        plan_recording("csv", file, START)


def test_the_real_recording_gives_one_message_a_patient_and_charted_time(test_data: Path) -> None:
    plan = plan_recording("mimic3-demo", test_data / "mimic3-demo", START, RecordingOptions(hours=72))

    assert (len(plan.patients), len(plan.messages), plan.readings) == (98, 6_701, 39_774)
    assert len({message.message_id for message in plan.messages}) == 6_701
    newest = Counter({message.device_id: message.due_microseconds for message in plan.messages})
    assert set(newest.values()) == {START - 16 * MINUTE}


def test_the_real_recording_in_stored_order_carries_every_reading_and_some_late(test_data: Path) -> None:
    plan = plan_recording("mimic3-demo", test_data / "mimic3-demo", START, RecordingOptions(order="stored"))

    newest: dict[str, str] = {}
    late = 0
    for message in plan.messages:
        measured_at = msgspec.json.decode(message.body)["measuredAt"]
        late += measured_at < newest.get(message.device_id, "")
        newest[message.device_id] = max(measured_at, newest.get(message.device_id, ""))
    assert plan.readings == 113_533
    assert 0.05 < late / len(plan.messages) < 0.15
