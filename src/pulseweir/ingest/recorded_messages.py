"""Step 1: recordings that already name devices: ``ndjson`` and ``csv``, planned as they stand. Pure.

Their times are not moved: what is old on arrival is backfill.
"""

import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pulseweir import clock
from pulseweir.errors import RecordingInvalid
from pulseweir.ingest.recording_plan import (
    PlannedMessage,
    RecordingPlan,
    monitor_body,
    plan_in_order,
    sender_message_id,
)
from pulseweir.ingest.ward_setup import DeviceSetup

CSV_COLUMNS = ("device", "kind", "time", "field", "value")
_ENVELOPE = ("_device", "_kind", "_messageId")


def plan_ndjson(lines: Iterable[str], file: str) -> RecordingPlan:
    """One catalog message a line.

    ``_device`` (else the message's ``device`` or ``gateway``) names the connection, ``_kind`` the catalog kind,
    ``_messageId`` the sender's own id; none of them is sent. Lines without ``measuredAt`` keep their neighbours' time.

    Raises:
        RecordingInvalid: A line is not such a message.
    """
    kinds: dict[str, str] = {}
    messages: list[PlannedMessage] = []
    due = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        message = _decoded(line, file, number)
        device, kind, own_id = (_text(message.get(name), name, file, number) for name in _ENVELOPE)
        device = device or _text(message.get("device") or message.get("gateway"), "device", file, number)
        if not device:
            raise RecordingInvalid(file, number, "neither _device nor device nor gateway names the sending device")
        kinds[device] = kind or kinds.get(device, "")
        due = _instant(message.get("measuredAt"), file, number, due)
        body = msgspec.json.encode({name: member for name, member in message.items() if name not in _ENVELOPE})
        messages.append(PlannedMessage(device, own_id or sender_message_id(device, number, body), body, due, 1))
    return plan_in_order([DeviceSetup(device, kind) for device, kind in kinds.items()], (), messages)


def plan_csv(lines: Iterable[str], file: str) -> RecordingPlan:
    """One value a row; rows of one device and time become one message. A field ``group.name`` lands in an object.

    Raises:
        RecordingInvalid: The header or a row is not as `CSV_COLUMNS`.
    """
    rows = csv.DictReader(lines)
    missing = [column for column in CSV_COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise RecordingInvalid(file, 1, f"column {missing[0]} is missing; the columns are {', '.join(CSV_COLUMNS)}")
    kinds: dict[str, str] = {}
    members: dict[tuple[str, int], list[tuple[str, Any]]] = {}
    for row in rows:
        if not row["device"] or not row["field"] or not row["value"]:
            raise RecordingInvalid(file, rows.line_num, "device, field or value is empty")
        measured_at = _instant(row["time"] or "", file, rows.line_num, 0)
        kinds[row["device"]] = row["kind"] or kinds.get(row["device"], "")
        members.setdefault((row["device"], measured_at), []).append((row["field"], _number_or_text(row["value"])))
    messages = [_csv_message(device, measured_at, found) for (device, measured_at), found in members.items()]
    return plan_in_order([DeviceSetup(device, kind) for device, kind in kinds.items()], (), messages)


def _csv_message(device: str, measured_at: int, members: list[tuple[str, Any]]) -> PlannedMessage:
    body = monitor_body(device, measured_at, members)
    return PlannedMessage(device, sender_message_id(device, measured_at, body), body, measured_at, len(members))


def _decoded(line: str, file: str, number: int) -> Mapping[str, Any]:
    try:
        message = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        raise RecordingInvalid(file, number, "the line is not JSON") from None
    if not isinstance(message, dict):
        raise RecordingInvalid(file, number, "the line is not a JSON object")
    return message


def _text(member: object, name: str, file: str, number: int) -> str:
    if member is None:
        return ""
    if not isinstance(member, str):
        raise RecordingInvalid(file, number, f"{name} is not text")
    return member


def _instant(text: object, file: str, number: int, fallback: int) -> int:
    if text is None:
        return fallback
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError:
        raise RecordingInvalid(file, number, "the time is not an ISO 8601 instant") from None
    return clock.to_microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
