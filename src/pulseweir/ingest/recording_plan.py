"""Step 1: what a recording becomes before anything is sent: devices, patients, messages in order. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pulseweir import clock
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup
from pulseweir.records import identifiers


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """Which part of a recording is sent, in which order, and where in time it lands.

    Attributes:
        patients: Only the first so many by their number; None for all.
        hours: Only the first so many hours of each patient, from its first charted reading; None for all.
        order: ``charted`` sends by the time measured; ``stored`` by the time entered, so that some arrive late.
        live: Begin now, rather than end before the start.
        backfill_after_seconds: Age on arrival above which a measurement is backfill; the last reading of each
            patient is moved to this and 60 seconds before the start.
    """

    patients: int | None = None
    hours: float | None = None
    order: Literal["charted", "stored"] = "charted"
    live: bool = False
    backfill_after_seconds: int = 900


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """One message as its device will send it.

    Attributes:
        device_id: The device whose connection sends it.
        message_id: The sender's own id: the same message always has the same.
        body: JSON in a catalog format.
        due_microseconds: When a paced device sends it.
        readings: Recorded readings it stands for.
    """

    device_id: str
    message_id: str
    body: bytes
    due_microseconds: int
    readings: int


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """A recording ready to be sent.

    Attributes:
        devices: To register and to connect, each once.
        patients: To set up in FHIR; empty for formats that know devices only.
        messages: In the order of `due_microseconds`; of one device always in its own order.
    """

    devices: tuple[DeviceSetup, ...]
    patients: tuple[PatientSetup, ...]
    messages: tuple[PlannedMessage, ...]

    @property
    def readings(self) -> int:
        """Recorded readings in all messages."""
        return sum(message.readings for message in self.messages)

    @property
    def starts_microseconds(self) -> int:
        """When the first message is due; 0 without any."""
        return self.messages[0].due_microseconds if self.messages else 0


def monitor_body(device_id: str, measured_at_microseconds: int, members: Iterable[tuple[str, Any]]) -> bytes:
    """A message of one device and instant; a member ``group.name`` lands in an object.

    >>> monitor_body("m", 0, [("spo2", 97), ("cuffPressure.mean", 80)])
    b'{"device":"m","measuredAt":"1970-01-01T00:00:00.000Z","spo2":97,"cuffPressure":{"mean":80}}'
    """
    body: dict[str, Any] = {"device": device_id, "measuredAt": clock.to_text(measured_at_microseconds)}
    for name, member in members:
        group, _, leaf = name.partition(".")
        if leaf:
            body.setdefault(group, {})[leaf] = member
        else:
            body[group] = member
    return msgspec.json.encode(body)


def sender_message_id(device_id: str, *parts: int | str | bytes) -> str:
    """A sender's own id for what it says about these parts: 32 hex digits."""
    return identifiers.digest("recording", device_id, *parts)[:32]


def plan_in_order(
    devices: Iterable[DeviceSetup], patients: Iterable[PatientSetup], messages: Sequence[PlannedMessage]
) -> RecordingPlan:
    """The plan with its messages by due instant; equal instants keep their order."""
    ordered = sorted(messages, key=lambda message: message.due_microseconds)
    return RecordingPlan(tuple(devices), tuple(patients), tuple(ordered))
