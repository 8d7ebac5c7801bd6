"""The commands: what they print as JSON, how they end, and that errors are one line with a remedy."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from pulseweir import __version__
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.repository import device_signals
from pulseweir.backends.repository.rows import DeviceSignalRow
from pulseweir.cli import app
from pulseweir.cli_output import settings_for
from pulseweir.clock import Clock, real_microseconds, to_text
from pulseweir.ingest.catalog import catalog_directory
from pulseweir.operations.conserve import balance
from pulseweir.systems import open_repository

OXIMETER = catalog_directory() / "pulse-oximeter"
MAPPINGS = (
    "--device-mapping",
    str(OXIMETER / "device_mapping.json"),
    "--fhir-mapping",
    str(OXIMETER / "fhir_mapping.json"),
)


def call(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


def decoded(answer: Result) -> Any:
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return msgspec.json.decode(answer.stdout)


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    """A data directory with an empty bus."""
    bus = EmbeddedBus.open(tmp_path / "data" / "bus")
    balance(bus.directory, "device-messages", "connector")
    return "--data-dir", str(tmp_path / "data")


def test_version_is_the_release() -> None:
    assert call("version").stdout.strip() == __version__


def test_logs_of_a_command_never_mix_with_what_it_prints() -> None:
    program = (
        "import structlog, pulseweir.cli as cli;"
        "cli.app = lambda: structlog.get_logger().warning('told', rows=1); cli.main()"
    )

    answer = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)

    assert answer.stdout == ""
    assert msgspec.json.decode(answer.stderr)["event"] == "told"


def test_every_command_explains_itself() -> None:
    silent = []
    waiting: list[tuple[str, Any]] = [("", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        if not command.help:
            silent.append(name)
        waiting += [(f"{name} {child}".strip(), found) for child, found in getattr(command, "commands", {}).items()]

    assert silent == []


def test_steps_are_a_list_of_eighteen() -> None:
    rows = decoded(call("steps", "--json"))

    assert [row["step"] for row in rows] == list(range(1, 19))
    assert all(set(row) == {"step", "title", "path", "module", "rooms"} for row in rows)
    assert "ingest" in call("steps").stdout


def test_conserve_prints_both_balances(data: tuple[str, str]) -> None:
    answer = call("conserve", *data, "--json")

    found = decoded(answer)
    assert answer.exit_code == 0
    assert set(found) == {"messages", "measurements", "conservation_difference"}
    assert set(found["messages"]) == {"total", "done", "filtered", "quarantined", "in_flight", "difference"}
    assert call("conserve", *data).exit_code == 0


def test_conserve_never_says_all_is_well_of_a_place_where_nothing_ever_ran(tmp_path: Path) -> None:
    answer = call("conserve", "--data-dir", str(tmp_path / "typo"), "--json")

    assert answer.exit_code == 2
    assert "typo" in answer.stderr
    assert "--data-dir" in answer.stderr
    assert not (tmp_path / "typo").exists()


def test_status_names_every_role_and_group_and_ends_with_3_when_they_are_down(data: tuple[str, str]) -> None:
    answer = call("status", *data, "--json")

    found = decoded(answer)
    assert answer.exit_code == 3
    assert {role["role"] for role in found["roles"]} == {"hub", "connector", "fhir", "scoring", "output", "web"}
    assert not any(role["running"] for role in found["roles"])
    assert len(found["groups"]) == 11
    assert call("status", *data).exit_code == 3


def test_doctor_lists_what_it_looked_at(data: tuple[str, str]) -> None:
    answer = call("doctor", *data, "--json")

    findings = decoded(answer)
    assert answer.exit_code in (0, 1)
    assert {"python", "sqlite", "data directory", "disk space", "device catalog"} <= {one["check"] for one in findings}
    assert all(one["healthy"] or one["remedy"] for one in findings)
    assert answer.exit_code == (0 if all(one["healthy"] for one in findings) else 1)


def test_an_empty_quarantine_is_an_empty_list(data: tuple[str, str]) -> None:
    assert decoded(call("quarantine", "list", *data, "--json")) == []
    assert call("quarantine", "list", *data).stdout.strip() == "None."


def test_a_row_that_is_not_there_is_a_finding(data: tuple[str, str]) -> None:
    answer = call("quarantine", "show", "nothing", *data)

    assert answer.exit_code == 1
    assert "pulseweir quarantine list" in answer.stderr
    assert "0 of 1" in call("quarantine", "redrive", "nothing", *data).stdout
    assert "0 of 1" in call("quarantine", "discard", "nothing", "--reason", "x", *data).stdout


def test_a_device_is_added_listed_shown_and_never_shows_its_keys(data: tuple[str, str]) -> None:
    added = decoded(call("device", "add", "m-1", "--kind", "bedside-monitor", *data, "--json"))
    key = added["connection_string"].partition("SharedAccessKey=")[2]

    listed, shown = call("device", "list", *data, "--json"), call("device", "show", "m-1", *data, "--json")

    assert (added["device_id"], added["kind"]) == ("m-1", "bedside-monitor")
    assert [row["device_id"] for row in decoded(listed)] == ["m-1"]
    assert decoded(shown)["enabled"] is True
    assert key
    assert key not in listed.stdout + shown.stdout


def test_a_device_shows_when_it_measured_and_how_far_its_clock_is_off(data: tuple[str, str]) -> None:
    now = real_microseconds()
    call("device", "add", "m-1", "--kind", "bedside-monitor", *data)
    call("device", "add", "m-2", *data)
    directory = Path(data[1])
    repository = open_repository(settings_for(directory), Clock())
    heard = [
        DeviceSignalRow(device_id=name, patient_id=f"patient-of-{name}", type="heart-rate", received_at=now,
                        good_at=now - 60_000_000, skew_seconds=skew, signals_json=signals, updated_at=now)
        for name, skew, signals in (("m-1", 7_200.0, '["clock-ahead"]'), ("child-3", -0.2, "[]"))
    ]  # fmt: skip
    with repository.writing() as transaction:
        device_signals.save(transaction, heard)
    repository.close()

    rows = {row["device_id"]: row for row in decoded(call("device", "list", *data, "--json"))}
    shown = decoded(call("device", "show", "m-1", *data, "--json"))
    text = call("device", "list", *data).stdout
    doctor = call("doctor", *data, "--json")

    assert [(rows[name]["clock"], rows[name]["signals"]) for name in ("m-1", "m-2", "child-3")] == [
        ("+2 h 00 min", ["clock-ahead"]),
        ("", []),
        ("right", []),
    ]
    assert rows["m-1"]["last_measured_at"] == to_text(now - 60_000_000)
    assert (shown["skew_seconds"], shown["clock"]) == (7_200.0, "+2 h 00 min")
    assert "+2 h" in text
    assert "patient-of" not in text + doctor.stdout
    assert doctor.exit_code == 1
    [clocks] = [one for one in decoded(doctor) if one["check"] == "device clocks"]
    assert "m-1 +2 h 00 min" in clocks["found"]
    assert "child-3" not in clocks["found"]
    assert "zone" in clocks["remedy"]


def test_a_device_that_exists_is_not_added_again(data: tuple[str, str]) -> None:
    call("device", "add", "m-1", *data)

    answer = call("device", "add", "m-1", *data)

    assert answer.exit_code == 2
    assert "pulseweir device show m-1" in answer.stderr


def test_an_unknown_device_is_a_finding(data: tuple[str, str]) -> None:
    assert call("device", "show", "nobody", *data).exit_code == 1
    assert call("device", "sas", "nobody", *data).exit_code == 1
    assert call("device", "disable", "nobody", *data).exit_code == 2


def test_a_disabled_device_is_listed_as_such_and_can_come_back(data: tuple[str, str]) -> None:
    call("device", "add", "m-1", *data)

    assert call("device", "disable", "m-1", *data).exit_code == 0
    assert decoded(call("device", "list", *data, "--json"))[0]["enabled"] is False
    assert call("device", "enable", "m-1", *data).exit_code == 0
    assert decoded(call("device", "list", *data, "--json"))[0]["enabled"] is True


def test_a_rotated_key_is_another_one(data: tuple[str, str]) -> None:
    first = call("device", "add", "m-1", *data).stdout
    second = call("device", "rotate-key", "m-1", *data).stdout

    assert second.startswith("HostName=")
    assert first != second


def test_devices_are_imported_from_a_table(data: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text("device_id,kind\na,thermometer\nb,\n")

    answer = call("device", "import", str(tmp_path / "devices.csv"), *data)

    assert answer.stdout.strip() == "2 devices registered."
    assert {row["device_id"]: row["kind"] for row in decoded(call("device", "list", *data, "--json"))} == {
        "a": "thermometer",
        "b": "",
    }


def test_an_import_without_its_columns_is_refused_in_one_line(data: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text("name,kind\na,thermometer\n")

    answer = call("device", "import", str(tmp_path / "devices.csv"), *data)

    assert answer.exit_code == 2
    assert "device_id" in answer.stderr


def test_a_catalog_message_is_tried_and_accepted() -> None:
    answer = call("mapping", "test", *MAPPINGS, "--message", str(OXIMETER / "message.json"), "--json")

    [tried] = decoded(answer)
    assert answer.exit_code == 0
    assert {one["type"] for one in tried["measurements"]} >= {"spo2"}
    assert tried["observations"]
    assert tried["rejects"] == []


def test_a_message_that_cannot_be_read_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "message.json").write_text('{"device": 1, "secret"')

    answer = call("mapping", "test", *MAPPINGS, "--message", str(tmp_path / "message.json"), "--json")

    assert answer.exit_code == 2
    assert "message.json" in answer.stderr
    assert "secret" not in answer.stderr


def test_several_messages_are_given_by_one_option_and_by_more_paths() -> None:
    message = str(OXIMETER / "message.json")

    answer = call("mapping", "test", *MAPPINGS, "--message", message, message, "--message", message, "--json")

    assert answer.exit_code == 0
    assert [one["message"] for one in decoded(answer)] == [message] * 3


def test_what_is_rejected_ends_with_findings(tmp_path: Path) -> None:
    (tmp_path / "message.json").write_text('{"spo2": 93}')

    for command in ("test", "explain", "lint"):
        assert call("mapping", command, *MAPPINGS, "--message", str(tmp_path / "message.json")).exit_code == 1


def test_an_explanation_needs_no_fhir_mapping_and_shows_no_value(tmp_path: Path) -> None:
    (tmp_path / "message.json").write_text('{"Device": "secret-1", "SpO2": 93}')

    answer = call("mapping", "explain", *MAPPINGS[:2], "--message", str(tmp_path / "message.json"))
    told = call("mapping", "explain", *MAPPINGS[:2], str(tmp_path / "message.json"), "--json")

    assert answer.exit_code == told.exit_code == 1
    assert "Body.SpO2 exists" in answer.stdout
    assert "secret-1" not in answer.stdout + told.stdout
    assert decoded(told)[0]["outcome"] == "unmatched"


def test_valid_mappings_are_valid_alone_and_together() -> None:
    assert call("mapping", "check", *MAPPINGS).stdout == "Valid.\n"
    assert decoded(call("mapping", "check", *MAPPINGS[2:], "--json")) == []
    assert call("mapping", "lint", *MAPPINGS, "--message", str(OXIMETER / "message.json")).exit_code == 0
    assert call("mapping", "check").exit_code == 2


def test_a_faulty_mapping_is_told_with_its_places(tmp_path: Path) -> None:
    (tmp_path / "device.json").write_text('{"templateType": "CollectionContent",\n "template": 1}')
    (tmp_path / "fhir.json").write_bytes(b"\xff")

    answer = call(
        "mapping",
        "check",
        "--device-mapping",
        str(tmp_path / "device.json"),
        "--fhir-mapping",
        str(tmp_path / "fhir.json"),
    )

    assert answer.exit_code == 1
    assert answer.stdout.startswith("device.json:2:14: error [not-loadable] template: is not an array.")
    assert "fhir.json: error [not-loadable] document: The file is not UTF-8" in answer.stdout


def test_a_difference_between_two_versions_ends_with_findings() -> None:
    other = str(catalog_directory() / "thermometer" / "device_mapping.json")
    message = ("--message", str(OXIMETER / "message.json"))

    same = call("mapping", "diff", *MAPPINGS, *MAPPINGS[:2], *message)
    different = call("mapping", "diff", *MAPPINGS, "--device-mapping", other, *message, "--json")

    assert (same.exit_code, same.stdout) == (0, "No difference.\n")
    assert different.exit_code == 1
    assert {one["kind"] for one in decoded(different)} == {"removed", "added"}
    assert call("mapping", "diff", *MAPPINGS, *message).exit_code == 2
    assert call("mapping", "diff", *MAPPINGS, *MAPPINGS[:2]).exit_code == 2


def test_a_mapping_file_that_is_absent_is_told_in_one_line() -> None:
    answer = call("mapping", "check", "--device-mapping", "absent.json", *MAPPINGS[2:], "--json")

    assert isinstance(answer.exception, SystemExit)
    assert answer.exit_code in (1, 2)
    assert "absent.json" in answer.output


def test_an_unknown_role_is_a_usage_error() -> None:
    answer = call("run", "kitchen")

    assert answer.exit_code == 2
    assert "kitchen" in answer.output


def test_an_unknown_benchmark_is_refused_with_the_names_there_are() -> None:
    answer = call("bench", "coffee", "--json")

    assert answer.exit_code == 2
    assert "connector" in answer.stderr


def test_a_recording_of_an_unknown_format_is_refused(tmp_path: Path, data: tuple[str, str]) -> None:
    answer = call("replay", "tape", str(tmp_path), *data)

    assert answer.exit_code == 2
    assert "mimic3-demo" in answer.stderr


def test_a_person_is_added_with_a_password_that_is_no_argument(data: tuple[str, str]) -> None:
    answer = call("user", "add", "anna", "--role", "nurse", "--ward", "Ward A", *data, text="a long enough password\n")

    assert answer.exit_code == 0
    assert "password" not in answer.stdout.lower() or "a long enough" not in answer.stdout


def test_a_changed_record_of_the_audit_log_is_found(data: tuple[str, str]) -> None:
    call("user", "add", "anna", "--role", "nurse", *data, text="a long enough password\n")
    before = call("audit", "verify", "--json", *data)
    with sqlite3.connect(Path(data[1]) / "repository.sqlite") as log:
        log.execute("UPDATE audit_log SET actor = 'somebody else'")
    log.close()

    after = call("audit", "verify", "--json", *data)

    assert (before.exit_code, decoded(before)["whole"]) == (0, True)
    assert (after.exit_code, decoded(after)) == (1, {"whole": False, "first_broken_record": 1})


def test_a_bad_role_of_a_person_is_refused(data: tuple[str, str]) -> None:
    answer = call("user", "add", "anna", "--role", "king", *data, text="a long enough password\n")

    assert answer.exit_code == 2
    assert "king" in answer.stderr


def test_backup_and_restore_go_there_and_back(data: tuple[str, str], tmp_path: Path) -> None:
    call("device", "add", "m-1", *data)

    there = call("backup", str(tmp_path / "copy"), *data)
    back = call("restore", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "new"))

    assert (there.exit_code, back.exit_code) == (0, 0)
    listed = decoded(call("device", "list", "--data-dir", str(tmp_path / "new"), "--json"))
    assert [row["device_id"] for row in listed] == ["m-1"]
    assert call("backup", str(tmp_path / "copy"), *data).exit_code == 2
