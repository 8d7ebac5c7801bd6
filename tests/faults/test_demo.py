"""`pulseweir demo` as a person runs it: bounded, with its sums; and ended by Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults.running_house import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

KEYS = {
    "messages_acknowledged",
    "measurements",
    "observations",
    "risk_assessments",
    "flags",
    "alerts",
    "notifications",
    "notifications_untaken",
    "quarantined",
    "filtered",
    "in_flight",
    "conservation_difference",
    "latency_seconds",
    "peak_rss_mb",
}


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pulseweir", "demo", "--data-dir", str(directory), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def books(directory: Path) -> dict[str, Any]:
    answer = cli("conserve", "--data-dir", str(directory), "--json")
    assert answer.exit_code == 0, answer.output
    return msgspec.json.decode(answer.stdout)  # type: ignore[no-any-return]


def test_a_bounded_demo_ends_with_its_sums_on_one_line(tmp_path: Path) -> None:
    with start(tmp_path, "--for", "20", "--json") as demo:
        told, logged = demo.communicate(timeout=180)

    assert demo.returncode == 0, logged[-2_000:]
    sums = msgspec.json.decode(told.splitlines()[-1])
    assert set(sums) >= KEYS
    assert set(sums["latency_seconds"]) == {"measured_to_recorded", "measured_to_screen"}
    assert all(set(found) == {"p50", "p95", "p99"} for found in sums["latency_seconds"].values())
    assert all(found["p50"] is not None for found in sums["latency_seconds"].values())
    assert (sums["conservation_difference"], sums["in_flight"]) == (0, 0)
    assert min(sums["quarantined"], sums["filtered"]) >= 0
    made = ("messages_acknowledged", "measurements", "observations", "risk_assessments", "flags", "alerts")
    assert all(sums[name] > 0 for name in made), sums
    # No channel is set up: the log is none that people look at.
    assert sums["notifications"] == 0
    assert sums["notifications_untaken"] > 0
    assert sums["peak_rss_mb"] > 0
    assert "Traceback" not in logged


def test_ctrl_c_during_a_demo_loses_nothing(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        told = demo.stdout.readline()
        for line in demo.stdout:
            acknowledged = re.search(r"(\d+) acknowledged", line)
            if acknowledged and int(acknowledged[1]) > 50:
                break
        demo.send_signal(signal.SIGINT)
        rest, logged = demo.communicate(timeout=120)

    assert re.search(r"http://127\.0\.0\.1:\d+ .*sign in as \w+ with \S+", told)
    assert demo.returncode == 0, logged[-2_000:]
    assert "unaccounted for: 0" in rest
    found = books(tmp_path)
    assert found["conservation_difference"] == 0
    assert found["messages"]["total"] > 50
    assert found["messages"]["in_flight"] == found["measurements"]["in_flight"] == 0
    assert "Traceback" not in logged
