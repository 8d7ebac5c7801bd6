"""Mappings and settings that cannot work: told where and what to do, before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from faults.running_house import Json, cli
from pulseweir.ingest.catalog import catalog_directory

THERMOMETER = catalog_directory() / "thermometer"


def files(folder: Path, device: tuple[str, str] = ("", ""), fhir: tuple[str, str] = ("", "")) -> list[str]:
    """Copies of a good pair, each with one text replaced, as arguments."""
    arguments = []
    for option, name, (old, new) in (("device", "device_mapping", device), ("fhir", "fhir_mapping", fhir)):
        text = (THERMOMETER / f"{name}.json").read_text()
        assert old in text
        path = folder / f"{name}.json"
        path.write_text(text.replace(old, new, 1) if old else text)
        arguments += [f"--{option}-mapping", str(path)]
    return arguments


def findings(command: str, arguments: list[str]) -> list[Json]:
    answer = cli("mapping", command, *arguments, "--json")
    assert answer.exit_code == 1, answer.output
    return msgspec.json.decode(answer.stdout)  # type: ignore[no-any-return]


def test_a_good_pair_has_no_findings(tmp_path: Path) -> None:
    answer = cli("mapping", "check", *files(tmp_path), "--json")

    assert (answer.exit_code, msgspec.json.decode(answer.stdout)) == (0, [])


def test_an_unknown_loinc_is_found_with_its_place_and_remedy(tmp_path: Path) -> None:
    [finding] = findings("lint", files(tmp_path, fhir=('"8310-5"', '"8310-6"')))

    assert (finding["severity"], finding["rule"]) == ("error", "unknown-loinc")
    assert (finding["place"], finding["file"], finding["line"]) == ("temperature.temperature", "fhir_mapping.json", 23)
    assert "8310-6" in finding["message"]
    assert finding["remedy"] == "Look the code up."


def test_an_unknown_member_of_a_device_mapping_is_found_with_its_line(tmp_path: Path) -> None:
    [_, finding] = findings("check", files(tmp_path, device=('"valueName"', '"valueNmae"')))

    assert finding["severity"] == "error"
    assert (finding["file"], finding["line"]) == ("device_mapping.json", 14)
    assert "valueNmae" in finding["member"]


def test_an_unknown_member_of_a_fhir_mapping_is_found_with_its_line(tmp_path: Path) -> None:
    [finding, *_] = findings("check", files(tmp_path, fhir=('"periodInterval"', '"periodIntervall"')))

    assert (finding["file"], finding["line"]) == ("fhir_mapping.json", 8)
    assert "periodIntervall" in finding["member"]


def test_the_list_of_findings_names_place_and_remedy_too(tmp_path: Path) -> None:
    answer = cli("mapping", "lint", *files(tmp_path, fhir=('"8310-5"', '"8310-6"')))

    assert answer.exit_code == 1
    assert "temperature" in answer.stdout
    assert "Look the code up" in " ".join(answer.stdout.replace("│", " ").split())


def run_connector(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "pulseweir", "run", "connector", "--data-dir", str(folder / "data")]
    return subprocess.run(
        arguments, env={**os.environ, **environment}, text=True, capture_output=True, timeout=50, check=False
    )


@pytest.mark.slow
def test_a_role_does_not_start_with_an_unknown_member_in_a_mapping(tmp_path: Path) -> None:
    kind = tmp_path / "catalog" / "my-thermometer"
    kind.mkdir(parents=True)
    files(kind, device=('"valueName"', '"valueNmae"'))

    answer = run_connector(tmp_path, PULSEWEIR_MAPPINGS__CATALOG_DIR=str(kind.parent))

    assert answer.returncode == 2
    assert "my-thermometer/device_mapping.json" in answer.stderr
    assert "line 14" in answer.stderr
    assert "valueNmae" in answer.stderr
    assert "pulseweir mapping check" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_a_role_does_not_start_with_an_unknown_key_in_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "pulseweir.toml"
    file.write_text("[hub]\nmqtt_prot = 1883\n")

    answer = run_connector(tmp_path, PULSEWEIR_SETTINGS_FILE=str(file))

    assert answer.returncode == 2
    assert str(file) in answer.stderr
    assert "hub.mqtt_prot: unknown key" in answer.stderr
    assert "docs/operating.md" in answer.stderr
    assert "Traceback" not in answer.stderr
