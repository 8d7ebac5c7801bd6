"""What the recording should become, worked out anew from its CSV: plain Python, none of the product's reading code."""

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
HOURS = 72
"""Hours of each patient that are replayed: every kind of messiness lies in them; all take three times as long."""
FAHRENHEIT_ITEMS = ("678", "679", "223761")

Key = tuple[str, str]
"""Measurement type and value name."""

SIMPLE: dict[str, Key] = {
    "heart_rate": ("heart-rate", "heart_rate"),
    "respiratory_rate": ("respiratory-rate", "respiratory_rate"),
    "spo2": ("spo2", "spo2"),
    "temperature": ("temperature", "temperature"),
    "gcs_total": ("glasgow-coma-scale", "glasgow_coma_scale"),
    "fio2": ("inhaled-oxygen", "fio2"),
    "o2_flow": ("oxygen-flow", "oxygen_flow"),
    "gcs_eye": ("glasgow-coma-eye", "glasgow_coma_eye"),
    "gcs_verbal": ("glasgow-coma-verbal", "glasgow_coma_verbal"),
    "gcs_motor": ("glasgow-coma-motor", "glasgow_coma_motor"),
}
PRESSURES = {"systolic_bp": "systolic", "diastolic_bp": "diastolic", "mean_bp": "mean"}
PARTS = tuple(SIMPLE[part] for part in ("gcs_eye", "gcs_verbal", "gcs_motor"))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the recording; instants in its own shifted years, microseconds."""

    charted: int
    stored: int
    vital: str
    number: float
    method: str
    item: str


@dataclass(slots=True)
class Charted:
    """What one patient has at one charted instant: one value a key, the one stored last."""

    at: int
    numbers: dict[Key, float] = field(default_factory=dict)
    letter: str | None = None
    stored: dict[Key, int] = field(default_factory=dict)
    rows: int = 0

    @property
    def types(self) -> set[str]:
        """Measurement types: each becomes one Observation."""
        found = {key[0] for key in self.numbers}
        if self.letter is not None:
            found.add("consciousness-alert" if self.letter == "A" else "consciousness-not-alert")
        return found

    @property
    def values(self) -> int:
        """Values, each one measurement."""
        return len(self.numbers) + (self.letter is not None)


@dataclass(slots=True)
class Patient:
    """One patient of the recording, in charted order."""

    subject: int
    charted: list[Charted]

    @property
    def patient_id(self) -> str:
        return f"mimic3-patient-{self.subject}"

    @property
    def device_id(self) -> str:
        return f"mimic3-monitor-{self.subject}"

    @property
    def measured(self) -> list[Charted]:
        """Instants that any mapping reads: each is a window that had data."""
        return [one for one in self.charted if one.values]

    def shift(self, start: int) -> int:
        """What a replay that began at `start` added to every instant: the last reading lay 16 minutes before it."""
        return start - 16 * MINUTE - self.charted[-1].at


def read_recording(folder: Path, hours: float | None = None) -> dict[int, Patient]:
    """Every patient by number; only the first hours of each where asked."""
    rows: dict[int, list[Row]] = {}
    with gzip.open(folder / "vitals_long.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            charted = _instant(line["time"])
            stored = _instant(line["stored"]) if line["stored"] else charted
            number = float(f"{float(line['value']):.7g}")
            row = Row(charted, stored, line["vital"], number, line["method"], line["itemid"])
            rows.setdefault(int(line["subject_id"]), []).append(row)
    return {subject: Patient(subject, list(_charted(_first(found, hours)))) for subject, found in sorted(rows.items())}


def lines(folder: Path) -> Iterator[tuple[int, Row]]:
    """Every single line, for tests about one kind of messiness."""
    with gzip.open(folder / "vitals_long.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            charted = _instant(line["time"])
            stored = _instant(line["stored"]) if line["stored"] else charted
            row = Row(charted, stored, line["vital"], float(line["value"]), line["method"], line["itemid"])
            yield int(line["subject_id"]), row


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * SECOND


def _first(rows: list[Row], hours: float | None) -> list[Row]:
    begin = min(row.charted for row in rows)
    return [row for row in rows if hours is None or row.charted < begin + hours * HOUR]


def _charted(rows: list[Row]) -> Iterator[Charted]:
    instants: dict[int, list[Row]] = {}
    for row in rows:
        instants.setdefault(row.charted, []).append(row)
    for at in sorted(instants):
        yield _settled(at, instants[at])


def _settled(at: int, rows: list[Row]) -> Charted:
    newest: dict[str | Key, Row] = {}
    for row in rows:
        key = _key(row)
        if key not in newest or row.stored >= newest[key].stored:
            newest[key] = row
    if all(part in newest for part in PARTS) and SIMPLE["gcs_total"] not in newest:
        parts = [newest.pop(part) for part in PARTS]
        total = sum(part.number for part in parts)
        newest[SIMPLE["gcs_total"]] = Row(at, max(part.stored for part in parts), "gcs_total", total, "", "")
    found = Charted(at, rows=len(rows))
    for key, row in newest.items():
        if isinstance(key, tuple):
            found.numbers[key] = _in_house_units(row)
            found.stored[key] = row.stored
    scale = found.numbers.get(SIMPLE["gcs_total"])
    if scale is not None and scale.is_integer() and 3 <= scale <= 15:
        found.letter = "A" if scale == 15 else "CVPU"
    return found


def _key(row: Row) -> str | Key:
    if row.vital in PRESSURES:
        kind = "arterial-pressure" if row.method == "arterial-line" else "cuff-pressure"
        return kind, PRESSURES[row.vital]
    return SIMPLE.get(row.vital, row.vital)


def _in_house_units(row: Row) -> float:
    """Percent, and Celsius to a hundredth where the device spoke Fahrenheit to a tenth."""
    if row.vital == "fio2" and row.number <= 1:
        return math.floor(row.number * 1_000 + 0.5) / 10
    if row.vital == "temperature" and row.item in FAHRENHEIT_ITEMS:
        fahrenheit = round(row.number * 1.8 + 32, 1)
        return math.floor((fahrenheit - 32) * 500 / 9 + 0.5) / 100
    return row.number
