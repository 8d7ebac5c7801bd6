"""Step 10: what is remembered of one device at one patient, to tell whether it can be relied on. Pure.

Everything is kept in buckets of time, by lowest and highest, first and last: in whatever order and however often
readings come, the record is the same. Instants are whole seconds since 1970 UTC.
"""

from typing import Any

import msgspec

MINUTE = 60
SPAN = 300
_MINUTES_KEPT = 16
_SPANS_KEPT = 14
_SLOTS_KEPT = 31
_CLOCK_MINUTES_KEPT = 16
SLOT = 10
"""Readings within so many seconds are one turn of the device."""


class Minute(msgspec.Struct, array_like=True):
    """Good and impossible readings of one vital within a minute: the first and last of each, 0 for none."""

    good_first: int = 0
    good_last: int = 0
    bad_first: int = 0
    bad_last: int = 0


class Span(msgspec.Struct, array_like=True):
    """Possible values of one vital within five minutes."""

    low: float
    high: float
    first: int
    last: int


class VitalRecord(msgspec.Struct, array_like=True):
    """One vital of a device: minutes and spans by their number since 1970, and the newest good reading (0 for none)."""

    minutes: dict[int, Minute] = {}
    spans: dict[int, Span] = {}
    good_at: int = 0


class ClockMinute(msgspec.Struct, array_like=True):
    """Messages received within a minute: how far ahead, seconds, at least and at most, and what they say it is."""

    least: float
    most: float
    received_first: int
    occurred_last: int


class Opened(msgspec.Struct, array_like=True):
    """A signal: its number of changes, whether it lasts, since when, what was last said of it.

    Attributes:
        closed_at: When it was last over; 0 for never.
        returns: How often it came back within two hours of being over.
    """

    change: int = 0
    active: bool = False
    since: int = 0
    vitals: list[str] = []
    closed_at: int = 0
    returns: int = 0


class DeviceRecord(msgspec.Struct, array_like=True):
    """One device at one patient.

    Attributes:
        received_at: Newest reception; what follows up to `bed` is of that row.
        mapping: Version of the mappings that made it.
        vitals: By name.
        slots: Newest turns in which it spoke (live readings, of whatever quality), in tens of seconds since 1970.
        talked_at: The newest of its live readings, as they were true; 0 for none.
        clock: By the minute of reception.
        signals: By name.
    """

    received_at: int = 0
    type: str = ""
    mapping: str = ""
    ward: str | None = None
    bed: str | None = None
    vitals: dict[str, VitalRecord] = {}
    slots: list[int] = []
    talked_at: int = 0
    clock: dict[int, ClockMinute] = {}
    signals: dict[str, Opened] = {}


def note_received(record: DeviceRecord, at: int, words: tuple[str, str, str | None, str | None]) -> None:
    """A row was first received at this instant; (type, mapping, ward, bed) count from the newest one."""
    if (at, *map(str, words)) >= (record.received_at, record.type, record.mapping, str(record.ward), str(record.bed)):
        record.received_at = at
        record.type, record.mapping, record.ward, record.bed = words


def note_clock(record: DeviceRecord, minute: int, seen: ClockMinute) -> None:
    """Messages received in a minute, with how far their clock was ahead."""
    known = record.clock.get(minute)
    if known is not None:
        seen = ClockMinute(
            min(known.least, seen.least),
            max(known.most, seen.most),
            min(known.received_first, seen.received_first),
            max(known.occurred_last, seen.occurred_last),
        )
    record.clock[minute] = seen
    _keep_newest(record.clock, _CLOCK_MINUTES_KEPT)


def note_slots(record: DeviceRecord, slots: set[int], talked_at: int) -> None:
    """Turns in which the device spoke."""
    if not slots <= set(record.slots):
        record.slots = sorted(slots | set(record.slots))[-_SLOTS_KEPT:]
    record.talked_at = max(record.talked_at, talked_at)


def note_minute(vital: VitalRecord, minute: int, seen: Minute) -> None:
    """Good and impossible readings of a minute."""
    known = vital.minutes.get(minute)
    if known is not None:
        seen = Minute(
            _first(known.good_first, seen.good_first),
            max(known.good_last, seen.good_last),
            _first(known.bad_first, seen.bad_first),
            max(known.bad_last, seen.bad_last),
        )
    vital.minutes[minute] = seen
    vital.good_at = max(vital.good_at, seen.good_last)
    _keep_newest(vital.minutes, _MINUTES_KEPT)


def note_span(vital: VitalRecord, span: int, seen: Span) -> None:
    """Possible values of five minutes."""
    known = vital.spans.get(span)
    if known is not None:
        seen = Span(
            min(known.low, seen.low),
            max(known.high, seen.high),
            min(known.first, seen.first),
            max(known.last, seen.last),
        )
    vital.spans[span] = seen
    _keep_newest(vital.spans, _SPANS_KEPT)


def _first(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def _keep_newest(buckets: dict[int, Any], kept: int) -> None:
    if len(buckets) > kept:
        del buckets[min(buckets)]
