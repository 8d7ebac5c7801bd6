"""The whole journey: a recording as fast as it is accepted, then a live ward, on this machine's cores.

The recording is found through PULSEWEIR_TEST_DATA. Figures that are not a rate carry their unit in the name.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pulseweir.errors import RefuseToStart

HOURS = 72
LIVE_SECONDS = 30
_ROOT = Path(__file__).parents[1]


def run() -> list[dict[str, Any]]:
    """Replay the recording, then run the demonstration; one row a figure."""
    return [*_replayed(), *_live()]


def main() -> None:
    """Print the figures as a small table."""
    for row in run():
        print(f"{row['name']:<42}{row['per_second']:>12}")


def _replayed() -> list[dict[str, Any]]:
    sums = _last_line("replay", "mimic3-demo", str(_recording()), "--hours", str(HOURS), "--standalone")
    return [
        _row("replay.messages", sums["messages_acknowledged"] / sums["seconds"]),
        _row("replay.measurements", sums["measurements"] / sums["seconds"]),
        _row("replay.windows", sums["risk_assessments"] / sums["seconds"]),
        _row("replay.send_to_settled_seconds", sums["seconds"]),
        _row("replay.acknowledge_p99_seconds", sums["acknowledge_p99_seconds"]),
        _row("replay.peak_rss_mb", sums["peak_rss_mb"]),
        _row("replay.conservation_difference", sums["conservation_difference"]),
    ]


def _live() -> list[dict[str, Any]]:
    sums = _last_line("demo", "--for", str(LIVE_SECONDS), "--json")
    latency = sums["latency_seconds"]
    return [
        _row("live.measured_to_recorded_p50_seconds", latency["measured_to_recorded"]["p50"]),
        _row("live.measured_to_recorded_p99_seconds", latency["measured_to_recorded"]["p99"]),
        _row("live.measured_to_screen_p50_seconds", latency["measured_to_screen"]["p50"]),
        _row("live.measured_to_screen_p99_seconds", latency["measured_to_screen"]["p99"]),
        _row("live.peak_rss_mb", sums["peak_rss_mb"]),
    ]


def _last_line(*arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pulseweir-bench-") as folder:
        command = [sys.executable, "-m", "pulseweir", *arguments, "--data-dir", f"{folder}/house"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RefuseToStart(f"pulseweir {arguments[0]} ended with {done.returncode}. Run it by hand to see why.")
    sums: dict[str, Any] = json.loads(lines[-1])
    return sums


def _recording() -> Path:
    folder = Path(os.environ.get("PULSEWEIR_TEST_DATA", _ROOT / ".." / "shared" / "data")).resolve() / "mimic3-demo"
    if not folder.is_dir():
        raise RefuseToStart("The journey is measured on a recording. Set PULSEWEIR_TEST_DATA to its folder.")
    return folder


def _row(name: str, figure: float) -> dict[str, Any]:
    return {"name": name, "per_second": round(figure, 3), "ratio": None, "against": None}


if __name__ == "__main__":
    main()
