"""sekmet-fhir plays a hospital against the store from outside: its scenarios, and TestScripts in its runner.

It runs in an environment of its own, which `make conformance` builds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pulseweir.local_house import free_ports
from served_store import AskingServer, running

ENVIRONMENT = Path(f"{sys.prefix}-conformance")
TEST_SCRIPT = Path(__file__).with_name("patient_life.testscript.json")
SCENARIOS = {
    "conformance_smoke": 17,
    "adt_admit_transfer_discharge": 9,
    "adt_merge_update": 6,
    "bulk_export_group": 7,
    "subscription_roundtrip": 7,
    "subscription_backport_roundtrip": 8,
}
"""Scenarios that need no type beyond the store's, with the number of their steps that must pass."""
NOT_SERVED = {"Answers FHIR XML when asked (Accept application/fhir+xml)"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not (ENVIRONMENT / "installed").exists(), reason="sekmet-fhir is not installed. Run: make conformance"
    ),
]


@dataclass(slots=True)
class Hospital:
    """The runner's own house.

    Attributes:
        directory: Where its settings and reports are.
    """

    directory: Path

    def run(self, *arguments: str) -> dict[str, Any]:
        """Give a command that writes a report; gives the results by the names of their files."""
        reports = self.directory / "reports"
        before = set(reports.glob("*/results.json"))
        command = [str(ENVIRONMENT / "bin" / "sekmet"), *arguments, "--report-dir", str(reports)]
        # Whatever else the machine has set up for it, these settings count.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEKMET_")}
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        written = set(reports.glob("*/results.json")) - before
        assert len(written) == 1, done.stdout + done.stderr
        return {Path(each["file"]).stem: each for each in json.loads(written.pop().read_text())}


def hospital_of(directory: Path, peer: dict[str, Any]) -> Hospital:
    """A hospital whose only neighbour is the store."""
    (port,) = free_ports(1)
    settings = {
        "base_url": f"http://127.0.0.1:{port}/fhir",
        "host": "127.0.0.1",
        "port": port,
        "data_dir": str(directory),
        "peers": {"store": peer},
    }
    # JSON is YAML.
    (directory / "settings.yaml").write_text(json.dumps(settings))
    return Hospital(directory)


def steps(result: dict[str, Any], status: str) -> list[str]:
    return [step["name"] for step in result["steps"] if step["status"] == status]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital beside the store as `pulseweir run fhir` serves it."""
    with running(tmp_path_factory.mktemp("house")) as facts:
        yield hospital_of(tmp_path_factory.mktemp("hospital"), {"base_url": f"http://127.0.0.1:{facts['port']}/fhir"})


@pytest.fixture(scope="module")
def results(hospital: Hospital) -> dict[str, Any]:
    """What came of all scenarios, by name."""
    # The store's own topic of Encounters, narrowed to what the runner's topic stands for.
    topic = ["--var", "topic=https://pulseweir.org/fhir/SubscriptionTopic/Encounter"]
    topic += ["--var", "filter_param=status=finished&patient"]
    return hospital.run("scenario", "run", *SCENARIOS, "--peer", "store", "--serve", *topic)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_passes(results: dict[str, Any], name: str) -> None:
    result = results[name]
    told = {step["name"]: step["message"] for step in result["steps"] if step["status"] not in {"passed", "skipped"}}
    assert (result["status"], told) == ("passed", {})
    assert set(steps(result, "skipped")) <= NOT_SERVED
    assert len(steps(result, "passed")) == SCENARIOS[name]


def test_the_smoke_scenario_passes_with_a_token(asking: AskingServer, tmp_path: Path) -> None:
    token = asking.site.token("system/*.cruds", name="hospital")
    hospital = hospital_of(tmp_path, {"base_url": asking.base_url, "auth": {"type": "bearer", "token": token}})
    result = hospital.run("scenario", "run", "conformance_smoke", "--peer", "store", "--no-serve")["conformance_smoke"]
    assert result["status"] == "passed"
    assert set(steps(result, "skipped")) <= NOT_SERVED


def test_a_test_script_passes(hospital: Hospital) -> None:
    (result,) = hospital.run("testscript", "run", str(TEST_SCRIPT), "--peer", "store", "--fixture-base", "").values()
    told = {step["name"]: step["message"] for step in result["steps"] if step["status"] != "passed"}
    assert (result["status"], told) == ("passed", {})
