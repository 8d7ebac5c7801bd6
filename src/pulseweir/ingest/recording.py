"""Step 1: reads recordings and plans how devices would have sent them.

Formats: ``mimic3-demo`` (a folder with vitals_long.csv.gz, patients.csv, icustays.csv, admissions.csv), ``ndjson``
(one catalog message a line, with optional ``_device``, ``_kind`` and ``_messageId``) and ``csv`` (columns device,
kind, time, field, value). The first is moved in time; the others are sent as they are. Nothing is sent unless the
whole recording could be read.
"""

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO, TypeVar

from pulseweir import clock
from pulseweir.errors import RecordingInvalid
from pulseweir.ingest.recorded_messages import plan_csv, plan_ndjson
from pulseweir.ingest.recorded_monitors import VITALS, Reading, RecordedPatient, RecordedStay, plan_monitors
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan

VITALS_FILE = "vitals_long.csv.gz"
Row = TypeVar("Row")
FORMATS = ("mimic3-demo", "ndjson", "csv")


def plan_recording(
    format_name: str, path: Path, start_microseconds: int, options: RecordingOptions | None = None
) -> RecordingPlan:
    """Read a recording and plan its messages.

    Args:
        format_name: One of `FORMATS`.
        path: The recording's folder or file.
        start_microseconds: The instant the replay counts as beginning.
        options: Which part, in which order.

    Raises:
        RecordingInvalid: Names the file, the line and what is wrong there.
    """
    wanted = options or RecordingOptions()
    if format_name == "mimic3-demo":
        return _plan_mimic3_demo(path, start_microseconds, wanted)
    if format_name not in FORMATS:
        raise RecordingInvalid(str(path), None, f"format {format_name} is not known; one of {', '.join(FORMATS)} is")
    plan = plan_ndjson if format_name == "ndjson" else plan_csv
    with _opened(path) as file:
        return plan(file, str(path))


def _plan_mimic3_demo(folder: Path, start_microseconds: int, options: RecordingOptions) -> RecordingPlan:
    patients = dict(_rows(folder / "patients.csv", ("subject_id", "gender", "dob"), _patient))
    admissions = dict(_rows(folder / "admissions.csv", ("hadm_id", "admittime"), _admission))
    stays = {
        stay: RecordedStay(ward, admissions.get(admission, entered))
        for stay, ward, admission, entered in _rows(
            folder / "icustays.csv", ("icustay_id", "first_careunit", "hadm_id", "intime"), _stay
        )
    }
    columns = ("subject_id", "icustay_id", "time", "stored", "vital", "value", "method", "itemid")
    readings = _rows(folder / VITALS_FILE, columns, _reading)
    return plan_monitors(readings, patients, stays, start_microseconds, options)


def _patient(cells: Sequence[str]) -> tuple[int, RecordedPatient]:
    return int(cells[0]), RecordedPatient(cells[1], date.fromisoformat(cells[2][:10]))


def _admission(cells: Sequence[str]) -> tuple[str, int]:
    return cells[0], _microseconds(cells[1])


def _stay(cells: Sequence[str]) -> tuple[str, str, str, int]:
    return cells[0], cells[1] or "ICU", cells[2], _microseconds(cells[3])


def _reading(cells: Sequence[str]) -> Reading:
    subject, stay, charted, stored, vital, number, method, item = cells
    if vital not in VITALS:
        raise ValueError(f"the vital is none of {', '.join(sorted(VITALS))}")
    measured = _microseconds(charted)
    entered = _microseconds(stored) if stored else measured
    return Reading(int(subject), stay, measured, entered, vital, float(number), method, item)


def _microseconds(text: str) -> int:
    instant = datetime.fromisoformat(text)
    return clock.to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


def _rows(path: Path, columns: Sequence[str], parse: Callable[[Sequence[str]], Row]) -> Iterator[Row]:
    """The file's rows, parsed from the named columns.

    Raises:
        RecordingInvalid: A column is missing or a row cannot be parsed.
    """
    with _opened(path) as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise RecordingInvalid(str(path), 1, f"column {missing[0]} is missing")
        places = [header.index(column) for column in columns]
        for cells in lines:
            try:
                yield parse([cells[place] for place in places])
            except (ValueError, IndexError) as error:
                raise RecordingInvalid(str(path), lines.line_num, _problem(error, columns)) from None


def _problem(error: ValueError | IndexError, columns: Sequence[str]) -> str:
    """What is wrong with a row, without repeating what stands in it."""
    if isinstance(error, IndexError):
        return "the row has too few columns"
    told = str(error)
    return told if told.startswith("the vital") else f"one of {', '.join(columns)} is not a number or an instant"


def _opened(path: Path) -> TextIO:
    """The file as text.

    Raises:
        RecordingInvalid: It cannot be opened.
    """
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise RecordingInvalid(str(path), None, f"it cannot be opened ({error.strerror})") from None
