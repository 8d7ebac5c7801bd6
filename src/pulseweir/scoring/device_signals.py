"""Step 10: technical signals of devices: when they begin, change and end, by the records of the devices. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from pulseweir.records.signal_facts import (
    CLOCK_AHEAD,
    FROZEN,
    IMPOSSIBLE,
    SIGNAL_CLOSED,
    SIGNAL_OPENED,
    SIGNAL_UPDATED,
    SIGNALS,
    SILENT,
    DeviceHeard,
    SignalFact,
)
from pulseweir.scoring import device_faults
from pulseweir.scoring.device_faults import Fault, Rhythm
from pulseweir.scoring.device_intake import Key
from pulseweir.scoring.device_kinds import DeviceKind
from pulseweir.scoring.device_record import DeviceRecord, Opened
from pulseweir.scoring.signal_settings import SignalSettings

_SECOND = 1_000_000
_FORGET_SECONDS = 86_400
_RETURN_SECONDS = 7_200
_LONGEST_RECOVERY = 4
_FORM = 1


class _Snapshot(msgspec.Struct):
    form: int
    records: list[tuple[str, str, DeviceRecord]]


def to_bytes(records: Iterable[tuple[Key, DeviceRecord]]) -> bytes:
    """Records as bytes."""
    return msgspec.msgpack.encode(_Snapshot(_FORM, [(*key, record) for key, record in records]))


def from_bytes(data: bytes) -> dict[Key, DeviceRecord]:
    """Records from bytes; none where they are of another form: they come again with the readings."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
    except msgspec.DecodeError:
        return {}
    return {(one, other): record for one, other, record in snapshot.records} if snapshot.form == _FORM else {}


@dataclass(frozen=True, slots=True)
class World:
    """What judging a record needs to know besides the record.

    Attributes:
        kind: How devices of its kind are used.
        present: Whether the patient is here and has the device; None while nobody could say.
        listening_since: Since when the house hears of its readings as they come, seconds since 1970.
    """

    kind: DeviceKind
    present: bool | None
    listening_since: int


def faults(record: DeviceRecord, world: World, now: int, settings: SignalSettings) -> dict[str, Fault | None]:
    """What is wrong with a device now, by signal; a signal that is off is never wrong. `now` in seconds."""
    kept = device_faults.rhythm(record, world.kind)
    recovery = _recovery(record.signals.get(IMPOSSIBLE), settings)
    found = {
        SILENT: device_faults.silence(record, kept, world.listening_since, now, settings),
        FROZEN: device_faults.frozen(record, kept, settings),
        IMPOSSIBLE: device_faults.impossible(record, kept, recovery, now, settings),
        CLOCK_AHEAD: device_faults.clock_ahead(record, now, settings),
    }
    return {signal: fault if settings.is_on(signal) else None for signal, fault in found.items()}


def judge(
    key: Key, record: DeviceRecord, world: World, now: int, settings: SignalSettings
) -> list[tuple[str, SignalFact]]:
    """Signals that begin, change or end now, with their transitions; the record remembers them.

    Silence begins only where the patient is known to be here with the device; everything ends once either is not.

    Args:
        key: Patient and device.
        record: Changed in place.
        world: What else is known.
        now: Seconds since 1970 by the house's clock.
        settings: Delays.
    """
    changed = []
    found = faults(record, world, now, settings)
    for signal in SIGNALS:
        fault, opened = found[signal], record.signals.get(signal)
        transition = _next(signal, record, fault, opened, world, now, settings)
        if transition is not None:
            record.signals[signal] = _after(transition, fault, opened or Opened(), now)
            changed.append((transition, _fact(key, signal, record, now)))
    return changed


def forget(records: dict[Key, DeviceRecord], now: int) -> list[tuple[str, SignalFact]]:
    """Drop what has not been heard of for a day; signals that last end with it. `now` in seconds."""
    changed = []
    for key in [key for key, record in records.items() if now - record.received_at > _FORGET_SECONDS]:
        record = records.pop(key)
        for signal, opened in record.signals.items():
            if opened.active:
                record.signals[signal] = _after(SIGNAL_CLOSED, None, opened, now)
                changed.append((SIGNAL_CLOSED, _fact(key, signal, record, now)))
    return changed


def heard(key: Key, record: DeviceRecord, now: int) -> DeviceHeard:
    """What is known of a device's readings; `now` in seconds."""
    good = max((vital.good_at for vital in record.vitals.values()), default=0)
    return DeviceHeard(
        patient_id=key[0],
        device_id=key[1],
        type=record.type,
        received_at=record.received_at * _SECOND,
        good_at=good * _SECOND or None,
        skew_seconds=device_faults.skew_seconds(record) or 0.0,
        signals=[signal for signal in SIGNALS if signal in record.signals and record.signals[signal].active],
        at=now * _SECOND,
    )


def _next(  # noqa: PLR0913 - one decision, all it depends on
    signal: str,
    record: DeviceRecord,
    fault: Fault | None,
    opened: Opened | None,
    world: World,
    now: int,
    settings: SignalSettings,
) -> str | None:
    present = world.present
    if opened is None or not opened.active:
        may_open = present is True or (present is None and signal != SILENT)
        return SIGNAL_OPENED if fault is not None and may_open else None
    if present is False or not settings.is_on(signal):
        return SIGNAL_CLOSED
    if fault is None:
        return (
            SIGNAL_CLOSED
            if _is_well(signal, record, opened, device_faults.rhythm(record, world.kind), now, settings)
            else None
        )
    return SIGNAL_UPDATED if list(fault.vitals) != opened.vitals else None


def _is_well(
    signal: str, record: DeviceRecord, opened: Opened, kept: Rhythm, now: int, settings: SignalSettings
) -> bool:
    """Whether a device without the fault has been so for long enough; where only the fault's age says so, it has."""
    recovery = _recovery(opened, settings)
    if signal == SILENT:
        has_spoken = record.talked_at > opened.since
        return has_spoken and device_faults.spoken_seconds(record, kept, settings) >= recovery
    if signal == CLOCK_AHEAD:
        right = device_faults.clock_right_since(record, settings)
        return right is None or now - right >= recovery
    return True


def _recovery(opened: Opened | None, settings: SignalSettings) -> float:
    times = 1 if opened is None else min(2**opened.returns, _LONGEST_RECOVERY)
    return settings.recovery_seconds * times


def _after(transition: str, fault: Fault | None, opened: Opened, now: int) -> Opened:
    change = opened.change + 1
    if transition == SIGNAL_CLOSED or fault is None:
        return Opened(change, False, opened.since, opened.vitals, now, opened.returns)
    if transition == SIGNAL_UPDATED:
        return Opened(change, True, opened.since, list(fault.vitals), opened.closed_at, opened.returns)
    is_back = bool(opened.closed_at) and now - opened.closed_at < _RETURN_SECONDS
    returns = opened.returns + 1 if is_back else 0
    return Opened(change, True, fault.since, list(fault.vitals), opened.closed_at, returns)


def _fact(key: Key, signal: str, record: DeviceRecord, now: int) -> SignalFact:
    opened = record.signals[signal]
    concerned = [vital for name, vital in record.vitals.items() if not opened.vitals or name in opened.vitals]
    good = max((vital.good_at for vital in concerned), default=0)
    return SignalFact(
        patient_id=key[0],
        device_id=key[1],
        signal=signal,
        change=opened.change,
        active=opened.active,
        since=opened.since * _SECOND,
        at=now * _SECOND,
        last_good_at=good * _SECOND or None,
        vitals=opened.vitals,
        skew_seconds=device_faults.skew_seconds(record),
        ward=record.ward,
        bed=record.bed,
    )
