"""How often people are called: a recording in event time through windows, Flags and alerts, per 100 bed-days.

Run it with the release to be measured first on the path, from the checkout that holds this file::

    PYTHONPATH=/path/to/release/src python -m benchmarks.alert_burden --json burden.json

The recording is found through PULSEWEIR_TEST_DATA. Default rules, the first 72 hours of every patient.

Two arrivals: ``charted``, where every reading is with the hub a second after it was measured, as from a connected
monitor; and ``stored``, as the recording says it was entered, a median of 15 minutes late, so that most of it is
backfill. Three wards: in ``nobody`` no alert is ever acknowledged; in ``seen`` every message is, five minutes later,
and nobody takes the alert over; in ``taken`` a nurse claims it then.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.burden_counts import MINUTE, count
from benchmarks.event_signals import signals
from benchmarks.event_time import SETTLED_AFTER, Arrival, Nurse, alerted, measurements, scored
from pulseweir.errors import RefuseToStart
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan

HOURS = 72.0
START = 1_893_484_800_000_000
"""2030-01-01T08:00Z: every patient's first reading is moved here."""
ARRIVALS: tuple[Arrival, ...] = ("charted", "stored")
WARDS = {"nobody": None, "seen": Nurse(5 * MINUTE), "taken": Nurse(5 * MINUTE, takes_over=True)}
_ROOT = Path(__file__).parents[1]
_ROWS = {
    "alerts_opened": "clinical alerts opened (interruptive)",
    "alerts_opened_high": "… of them high",
    "alerts_opened_medium": "… medium",
    "alerts_opened_low": "… low (worklist only)",
    "pages": "pages",
    "reminders": "reminders",
    "escalations": "escalations",
    "other_messages": "other messages",
    "technical_alerts": "technical alerts (own list, nobody is paged)",
    "technical_messages": "… messages because of them",
    "acknowledgements": "acknowledgements",
}
_COUNTS = {
    "rises": "rises above what was told",
    "missed_rises": "… of them missed: no page within 5 min",
    "unpaged_episodes": "medium or high, nothing told before, no page within 5 min",
    "duplicates": "duplicate messages",
}


def run(
    patients: int | None = None, hours: float = HOURS, arrivals: Sequence[Arrival] = ARRIVALS
) -> list[dict[str, Any]]:
    """One entry for every arrival and ward."""
    entries = []
    for arrival in arrivals:
        options = RecordingOptions(patients=patients, hours=hours, order=arrival, live=True)
        plan = plan_recording("mimic3-demo", _recording(), START, options)
        rows = measurements(plan, arrival)
        told = scored(rows)
        spans = _spans(plan, rows.to_pydict())
        devices = signals(rows, {name: end - SETTLED_AFTER for name, (_, end) in spans.items()})
        for ward, nurse in WARDS.items():
            counted = count(alerted(told, nurse, devices), spans)
            entries.append({"arrival": arrival, "ward": ward, "rows": told.tallies, **counted})
    return entries


def main() -> None:
    """Measure, print a table in Markdown, and write the figures to a file where one is named."""
    parser = argparse.ArgumentParser(description="Alerts, pages and what was missed, per 100 bed-days.")
    parser.add_argument("--patients", type=int, default=None, help="Only the first so many.")
    parser.add_argument("--hours", type=float, default=HOURS, help="Only the first so many of each.")
    parser.add_argument("--arrival", choices=ARRIVALS, action="append", help="Only this one.")
    parser.add_argument("--json", type=Path, default=None, help="File for the figures.")
    wanted = parser.parse_args()
    entries = run(wanted.patients, wanted.hours, wanted.arrival or ARRIVALS)
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(table(entries))


def table(entries: list[dict[str, Any]]) -> str:
    """The figures in Markdown, one column an entry."""
    lines = [
        ["", *(f"{one['arrival']}, {one['ward']}" for one in entries)],
        ["---", *("---:" for _ in entries)],
        ["bed-days", *(f"{one['bed_days']:g}" for one in entries)],
        ["windows", *(str(one["windows"]) for one in entries)],
    ]
    for name, title in _ROWS.items():
        lines.append([f"{title}, per 100 bed-days", *(f"{one['per_100_bed_days'][name]:g}" for one in entries)])
    for which, title in (("first_of_patient", "a patient's first window"), ("first_of_run", "first window of a run")):
        shares = [one["high"][which] for one in entries]
        lines.append([f"{title} with NEWS2 ≥ 7: paged", *map(_share, shares)])
    for name, title in _COUNTS.items():
        lines.append([title, *(str(one["numbers"][name]) for one in entries)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _share(found: Mapping[str, Any]) -> str:
    live = found["all"] - found["backfill"]
    share = "n/a" if found["share_paged"] is None else f"{found['share_paged']:.1%}"
    return f"{share} ({found['paged']} of {live}; {found['covered_by_what_was_told']} no worse than told)"


def _spans(plan: RecordingPlan, rows: Mapping[str, list[Any]]) -> dict[str, tuple[int, int]]:
    """From each patient's first reading to ten minutes after the last one arrived."""
    spans: dict[str, tuple[int, int]] = {}
    for patient, measured, received in zip(rows["patient_id"], rows["occurred_at"], rows["received_at"], strict=True):
        first, last = spans.get(patient, (2**62, 0))
        instants = [round(one.timestamp()) * 1_000_000 for one in (measured, received)]
        spans[patient] = (min(first, instants[0]), max(last, instants[1] + SETTLED_AFTER))
    missing = [one.patient_id for one in plan.patients if one.patient_id not in spans]
    if missing:
        raise RefuseToStart(f"{len(missing)} patients of the recording have no reading that any mapping reads.")
    return spans


def _recording() -> Path:
    folder = Path(os.environ.get("PULSEWEIR_TEST_DATA", _ROOT / ".." / "shared" / "data")).resolve() / "mimic3-demo"
    if not folder.is_dir():
        raise RefuseToStart("The burden is measured on a recording. Set PULSEWEIR_TEST_DATA to its folder.")
    return folder


if __name__ == "__main__":
    main()
