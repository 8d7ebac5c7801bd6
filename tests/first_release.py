"""What the first public release (0.3.x before the honest states) left on disk, written down as it was.

Nothing here is read from the code under test: schemas, snapshot forms, columns and ids are literal, so that a change of
the code cannot change what the old data looked like.
"""

import hashlib
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOON = 1_800_014_400 * SECOND
"""A whole hour; when the old release was killed."""

INSTANT = pa.timestamp("us", tz="UTC")
WORD = pa.dictionary(pa.int32(), pa.utf8())
REPOSITORY_REVISION = "0002"

_MEASUREMENT = [
    ("message_id", pa.utf8()),
    ("device_id", WORD),
    ("type", WORD),
    ("name", WORD),
    ("text", pa.utf8()),
    ("number", pa.float64()),
    ("occurred_at", INSTANT),
    ("received_at", INSTANT),
    ("patient_id", WORD),
    ("encounter_id", WORD),
    ("correlation_id", WORD),
    ("code", WORD),
    ("unit", WORD),
    ("observation_id", pa.utf8()),
    ("implausible", pa.bool_()),
    ("mapping_version", WORD),
]
SCHEMAS = {
    "device-messages": pa.schema(
        [
            ("message_id", pa.utf8()),
            ("device_id", WORD),
            ("kind", WORD),
            ("received_at", INSTANT),
            ("properties_json", pa.utf8()),
            ("system_properties_json", pa.utf8()),
            ("body", pa.binary()),
        ]
    ),
    "measurements": pa.schema(_MEASUREMENT),
    "patient-measurements": pa.schema(
        [
            *_MEASUREMENT,
            ("age_years", pa.int16()),
            ("sex", WORD),
            ("ward", WORD),
            ("bed", WORD),
            ("spo2_scale", pa.int8()),
            ("conditions", pa.list_(pa.utf8())),
            ("context_version", pa.int64()),
            ("quality", WORD),
        ]
    ),
    "risk-scores": pa.schema(
        [
            ("patient_id", WORD),
            ("model", WORD),
            ("model_version", WORD),
            ("window_start", INSTANT),
            ("window_end", INSTANT),
            ("revision", pa.int32()),
            ("preliminary", pa.bool_()),
            ("live", pa.bool_()),
            ("backfill", pa.bool_()),
            ("status", WORD),
            ("score", pa.float64()),
            ("probability", pa.float64()),
            ("band", WORD),
            ("single_red", pa.bool_()),
            ("contributions_json", pa.utf8()),
            ("inputs_json", pa.utf8()),
            ("missing", pa.list_(pa.utf8())),
            ("stale", pa.list_(pa.utf8())),
            ("basis", pa.list_(pa.utf8())),
            ("newest_occurred_at", INSTANT),
            ("newest_received_at", INSTANT),
            ("ward", WORD),
            ("bed", WORD),
            ("age_years", pa.int16()),
            ("sex", WORD),
            ("spo2_scale", pa.int8()),
            ("scored_at", INSTANT),
        ]
    ),
    "alert-events": pa.schema(
        [
            ("event_id", pa.utf8()),
            ("alert_id", pa.utf8()),
            ("patient_id", WORD),
            ("rule", WORD),
            ("transition", WORD),
            ("occurred_at", INSTANT),
            ("detail_json", pa.utf8()),
        ]
    ),
}
"""Every topic as the old release wrote it."""

SHARD_COLUMN = {
    "device-messages": "device_id",
    "measurements": "device_id",
    "patient-measurements": "patient_id",
    "risk-scores": "patient_id",
    "alert-events": "patient_id",
}


def sample(topic: str, number: int) -> dict[str, Any]:
    """One row of a topic, each number another one; every column is filled."""
    row: dict[str, Any] = {}
    for column in SCHEMAS[topic]:
        kind = column.type
        if pa.types.is_timestamp(kind):
            row[column.name] = NOON + number * MINUTE
        elif pa.types.is_list(kind):
            row[column.name] = [f"{column.name}-{number}"]
        elif pa.types.is_boolean(kind):
            row[column.name] = False
        elif pa.types.is_integer(kind):
            row[column.name] = 1
        elif pa.types.is_floating(kind):
            row[column.name] = float(number)
        elif pa.types.is_binary(kind):
            row[column.name] = b'{"n":%d}' % number
        else:
            row[column.name] = f"{column.name}-{number}"
    return row | {name: "[]" for name in ("contributions_json", "inputs_json") if name in row}


def table(topic: str, *rows: dict[str, Any]) -> pa.Table:
    """Rows of a topic in the old schema."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[topic])


def record_id(topic: str, row: pa.Table) -> str:
    """The id under which the old release parked or quarantined a row."""
    parts = [topic, *(f"{name}={row.column(name)[0].as_py()!r}" for name in row.column_names)]
    encoded = [part.encode() for part in parts]
    return hashlib.sha256(b"\x1f".join(b"%d:" % len(part) + part for part in encoded)).hexdigest()


def payload(rows: pa.Table) -> bytes:
    """A record of the old bus."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


READING = np.dtype(
    [
        ("occurred", "<i8"),
        ("received", "<i8"),
        ("arrived", "<i8"),
        ("number", "<f8"),
        ("source", "<i4"),
        ("context", "<i4"),
        ("vital", "i1"),
        ("quality", "i1"),
        ("seen", "?"),
        ("observation", "S64"),
    ]
)
WINDOW = np.dtype([("number", "<i8"), ("revision", "<i4"), ("digest", "<u8")])
NEVER = 2**62

_VITALS = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp", "temperature")
_LATER_VITALS = ("consciousness", "fio2", "oxygen_flow", "glasgow_coma_scale")
VITALS = {name: number for number, name in enumerate(_VITALS + _LATER_VITALS)}
"""Numbers of vitals in snapshots."""


def snapshot(patient_id: str, readings: list[tuple[str, str, float, int]], *, closed: int = 0) -> bytes:
    """A scoring snapshot of one patient, form 1.

    Args:
        patient_id: Whose.
        readings: Vital, type, number (of consciousness the place of its letter in ACVPU) and minutes after `NOON`.
        closed: So many of the first windows are closed; the others are open.
    """
    sources = sorted({(f"monitor-{patient_id}", kind, vital) for vital, kind, _, _ in readings})
    rows = np.zeros(len(readings), READING)
    for place, (vital, kind, number, minutes) in enumerate(readings):
        at = NOON + minutes * MINUTE
        source = sources.index((f"monitor-{patient_id}", kind, vital))
        seen_at = at + SECOND
        observation = hashlib.sha256(f"{vital}{minutes}".encode()).hexdigest().encode()
        rows[place] = (at, seen_at, seen_at, number, source, 0, VITALS[vital], 0, True, observation)
    numbers = sorted({int(row["occurred"]) // MINUTE for row in rows})
    windows = np.zeros(len(numbers), WINDOW)
    windows["number"] = numbers
    windows["revision"][:closed] = 1
    last = int(rows["occurred"].max())
    due_at = (numbers[closed] + 1) * MINUTE + 10 * SECOND if closed < len(numbers) else last + 86_400 * SECOND
    patient = [rows.tobytes(), windows.tobytes(), last, last + SECOND, last + SECOND, False, due_at]
    context = [1, 70, "female", "Ward A", "Bed 01", 1]
    return msgspec.msgpack.encode([1, [list(one) for one in sources], [context], {patient_id: patient}])
