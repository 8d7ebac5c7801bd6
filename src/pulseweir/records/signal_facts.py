"""What scoring tells the warm path about devices, as rows of `alert-events`: signals, and when each spoke. Pure.

A *signal* is a technical fault of one device at one patient: it is silent, its values stand still, they are impossible,
or its clock is ahead.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from pulseweir.records.identifiers import digest
from pulseweir.records.topics import ALERT_EVENT_SCHEMA

SIGNAL_OPENED, SIGNAL_UPDATED, SIGNAL_CLOSED = "signal-opened", "signal-updated", "signal-closed"
SIGNAL_TRANSITIONS = frozenset({SIGNAL_OPENED, SIGNAL_UPDATED, SIGNAL_CLOSED})
DEVICE_HEARD = "device-heard"

SILENT, FROZEN, IMPOSSIBLE, CLOCK_AHEAD = "silent", "frozen", "impossible", "clock-ahead"
SIGNALS = (SILENT, FROZEN, IMPOSSIBLE, CLOCK_AHEAD)
"""Every signal, in the order of screens."""

_MINUTE_SECONDS = 60
_HOUR_MINUTES = 60


class SignalFact(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a signal after its latest change; a newer one replaces all older ones.

    Attributes:
        signal: One of `SIGNALS`.
        change: Grows with every change of this signal of this device at this patient, from episode to episode.
        active: Whether it lasts; an episode that is over never comes back.
        since: When it began (microseconds, as are the instants below): the last thing heard of a silent device, the
            first of equal values, the first impossible value, the first message of the clock that is ahead.
        at: When it was found out.
        last_good_at: When the newest good value of the vitals concerned was true; None when there is none.
        vitals: Vitals concerned; empty where it is the whole device.
        skew_seconds: How far the device's clock is ahead of the hub's; None when unknown.
    """

    patient_id: str
    device_id: str
    signal: str
    change: int
    active: bool
    since: int
    at: int
    last_good_at: int | None
    vitals: list[str]
    skew_seconds: float | None
    ward: str | None
    bed: str | None

    @property
    def rule(self) -> str:
        """Rule family of its alert: at most one open a patient, device and signal."""
        return f"signal-{self.signal}:{self.device_id}"

    @property
    def episode(self) -> str:
        """Id of this episode of the signal."""
        return digest("signal", self.patient_id, self.device_id, self.signal, self.since)


class DeviceHeard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a device's readings at one patient; a newer one replaces all older ones.

    Attributes:
        type: Type name of its newest reading.
        received_at: First reception of its newest reading, microseconds, as are the instants below.
        good_at: When its newest good value was true; None when there is none.
        skew_seconds: Median of its clock minus the hub's, seconds; positive is ahead.
        signals: What it is at fault with now.
        at: When this was said.
    """

    patient_id: str
    device_id: str
    type: str
    received_at: int
    good_at: int | None
    skew_seconds: float
    signals: list[str]
    at: int


def signal_table(facts: Iterable[tuple[str, SignalFact]], heard: Iterable[DeviceHeard] = ()) -> pa.Table:
    """Rows of `alert-events`; the same change of a signal always has the same event id."""
    rows = [
        _row(digest("signal-fact", one.patient_id, one.rule, one.change), one.patient_id, one.rule, transition, one.at)
        | {"detail_json": msgspec.json.encode(one).decode()}
        for transition, one in facts
    ]
    rows += [
        _row(digest("device-heard", one.patient_id, one.device_id, one.at), one.patient_id, "", DEVICE_HEARD, one.at)
        | {"detail_json": msgspec.json.encode(one).decode()}
        for one in heard
    ]
    return pa.Table.from_pylist(rows, schema=ALERT_EVENT_SCHEMA)


def signal_facts(table: pa.Table) -> Sequence[SignalFact]:
    """The signals among rows of `alert-events`, in order; other rows are left out."""
    return _decoded(table, SIGNAL_TRANSITIONS, SignalFact)


def heard_devices(table: pa.Table) -> Sequence[DeviceHeard]:
    """What was heard of devices among rows of `alert-events`, in order; other rows are left out."""
    return _decoded(table, frozenset({DEVICE_HEARD}), DeviceHeard)


def skew_text(seconds: float) -> str:
    """A clock's difference from the hub's, as short as it matters.

    >>> skew_text(7_200), skew_text(-0.4), skew_text(-95), skew_text(480)
    ('+2 h 00 min', 'right', '-2 min', '+8 min')
    """
    minutes = round(abs(seconds) / _MINUTE_SECONDS)
    if not minutes:
        return "right"
    sign = "+" if seconds > 0 else "-"
    hours, rest = divmod(minutes, _HOUR_MINUTES)
    return f"{sign}{hours} h {rest:02d} min" if hours else f"{sign}{minutes} min"


_Fact = TypeVar("_Fact", SignalFact, DeviceHeard)


def _decoded(table: pa.Table, wanted: frozenset[str], kind: type[_Fact]) -> list[_Fact]:
    transitions = table.column("transition").cast(pa.utf8()).to_pylist()
    details = table.column("detail_json").to_pylist()
    return [
        msgspec.json.decode(detail, type=kind)
        for transition, detail in zip(transitions, details, strict=True)
        if transition in wanted
    ]


def _row(event_id: str, patient_id: str, rule: str, transition: str, at: int) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "alert_id": "",
        "patient_id": patient_id,
        "rule": rule,
        "transition": transition,
        "occurred_at": at,
    }
