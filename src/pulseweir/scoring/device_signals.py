"""Step 10: technical signals of devices: readings in, signals that begin, change and end out. Pure.

Only what was live on arrival counts: a backlog neither raises nor ends anything. A value whose clock is ahead says
something about the clock only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.records.codes import VITAL_BY_LOINC
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
from pulseweir.records.topics import PATIENT_CONTEXT_TYPE
from pulseweir.scoring import device_faults
from pulseweir.scoring.device_faults import Fault, Rhythm
from pulseweir.scoring.device_kinds import DeviceKind
from pulseweir.scoring.device_record import (
    MINUTE,
    SLOT,
    SPAN,
    ClockMinute,
    DeviceRecord,
    Minute,
    Opened,
    Span,
    VitalRecord,
    note_clock,
    note_minute,
    note_received,
    note_slots,
    note_span,
)
from pulseweir.scoring.judgement import coded
from pulseweir.scoring.signal_settings import SignalSettings

Key = tuple[str, str]
"""Patient and device."""
Integers = npt.NDArray[np.int64]

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


def take(records: dict[Key, DeviceRecord], rows: pa.Table, *, backfill_after_seconds: float) -> set[Key]:
    """Note patient measurements in the records of their devices; returns whose records changed.

    Args:
        records: By patient and device; changed in place.
        rows: Columns of ``PATIENT_MEASUREMENT_SCHEMA``; rows that only renew a patient's context are passed over.
        backfill_after_seconds: What was older on arrival says when the device was heard, and nothing of its present.
    """
    rows = rows.filter(pc.not_equal(rows["type"].cast(pa.utf8()), PATIENT_CONTEXT_TYPE))
    if not rows.num_rows:
        return set()
    batch = _Batch.of(rows.unify_dictionaries().combine_chunks(), backfill_after_seconds)
    for key in batch.keys:
        if key not in records:
            records[key] = DeviceRecord()
    own = [records[key] for key in batch.keys]
    _take_clocks(own, batch)
    _take_slots(own, batch, np.flatnonzero(batch.live))
    _take_values(own, batch, np.flatnonzero(batch.live & ~batch.future))
    return set(batch.keys)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows as numbers; one place a row unless said otherwise.

    Attributes:
        keys: Patient and device, each pair once.
        who: Index into `keys`.
        received: Seconds, as are the two below.
        occurred: By the device's clock.
        true_at: The earlier of both.
        live: Whether it was not old on arrival.
        future: Whether its device's clock was ahead.
        bad: Whether nobody alive can have the value.
        vital: Index into `names`.
        words: (type, mapping version, ward, bed).
    """

    keys: list[Key]
    who: Integers
    received: Integers
    occurred: Integers
    true_at: Integers
    live: npt.NDArray[np.bool_]
    future: npt.NDArray[np.bool_]
    bad: npt.NDArray[np.bool_]
    number: npt.NDArray[np.float64]
    vital: Integers
    names: list[str]
    words: list[tuple[str, str, str | None, str | None]]

    @classmethod
    def of(cls, rows: pa.Table, backfill_after_seconds: float) -> "_Batch":
        patient, patients = coded(rows["patient_id"])
        device, devices = coded(rows["device_id"])
        pairs, who = np.unique(patient * (len(devices) + 1) + device, return_inverse=True)
        keys = [
            (str(patients[pair // (len(devices) + 1)]), str(devices[pair % (len(devices) + 1)]))
            for pair in pairs.tolist()
        ]
        received, occurred = (_seconds(rows[name]) for name in ("received_at", "occurred_at"))
        quality = rows["quality"].cast(pa.utf8())
        codes, words = coded(rows["code"])
        return cls(
            keys=keys,
            who=who.astype(np.int64),
            received=received,
            occurred=occurred,
            true_at=np.minimum(received, occurred),
            live=received - occurred <= backfill_after_seconds,
            future=np.array(pc.equal(quality, "future").fill_null(False), np.bool_),
            bad=np.array(pc.equal(quality, "impossible").fill_null(False), np.bool_),
            number=np.array(pc.fill_null(rows["number"], np.nan).to_numpy(), np.float64),
            vital=codes,
            names=[VITAL_BY_LOINC[word].name if word in VITAL_BY_LOINC else str(word) for word in words],
            words=list(
                zip(
                    *(rows[name].cast(pa.utf8()).to_pylist() for name in ("type", "mapping_version", "ward", "bed")),
                    strict=True,
                )
            ),
        )


def _take_clocks(own: list[DeviceRecord], batch: _Batch) -> None:
    minutes = batch.received // MINUTE
    ahead = batch.occurred - batch.received
    for rows in _groups(batch.who, minutes):
        newest = rows[np.argmax(batch.received[rows])]
        record = own[batch.who[newest]]
        last = int(batch.received[newest])
        for place in rows[batch.received[rows] == last].tolist():
            note_received(record, last, batch.words[place])
        seen = ClockMinute(
            float(ahead[rows].min()),
            float(ahead[rows].max()),
            int(batch.received[rows].min()),
            int(batch.occurred[rows].max()),
        )
        note_clock(record, int(minutes[newest]), seen)


def _take_slots(own: list[DeviceRecord], batch: _Batch, live: Integers) -> None:
    for places in _groups(batch.who[live]):
        rows = live[places]
        slots = set(np.unique(batch.true_at[rows] // SLOT).tolist())
        note_slots(own[batch.who[rows[0]]], slots, int(batch.true_at[rows].max()))


def _take_values(own: list[DeviceRecord], batch: _Batch, live: Integers) -> None:
    spoken = np.array([name == "consciousness" for name in batch.names] or [False])
    live = live[~spoken[batch.vital[live]]]
    minutes = batch.true_at // MINUTE
    for places in _groups(batch.who[live], batch.vital[live], minutes[live], batch.bad[live].astype(np.int64)):
        rows = live[places]
        vital = _vital(own, batch, int(rows[0]))
        first, last = int(batch.true_at[rows].min()), int(batch.true_at[rows].max())
        seen = Minute(0, 0, first, last) if batch.bad[rows[0]] else Minute(first, last)
        note_minute(vital, int(minutes[rows[0]]), seen)
    valued = live[~batch.bad[live] & ~np.isnan(batch.number[live])]
    spans = batch.true_at // SPAN
    for places in _groups(batch.who[valued], batch.vital[valued], spans[valued]):
        rows = valued[places]
        numbers, times = batch.number[rows], batch.true_at[rows]
        seen_span = Span(float(numbers.min()), float(numbers.max()), int(times.min()), int(times.max()))
        note_span(_vital(own, batch, int(rows[0])), int(spans[rows[0]]), seen_span)


def _vital(own: Sequence[DeviceRecord], batch: _Batch, row: int) -> VitalRecord:
    record, name = own[int(batch.who[row])], batch.names[int(batch.vital[row])]
    if name not in record.vitals:
        record.vitals[name] = VitalRecord()
    return record.vitals[name]


def _groups(*columns: Integers) -> Iterator[Integers]:
    """Places of equal rows, a group at a time."""
    if not len(columns[0]):
        return
    order = np.lexsort(columns)
    changes = np.zeros(len(order) - 1, np.bool_)
    for column in columns:
        changes |= np.diff(column[order]) != 0
    yield from np.split(order, np.flatnonzero(changes) + 1)


def _seconds(column: pa.ChunkedArray) -> Integers:
    return np.array(column.cast(pa.int64()), np.int64) // _SECOND


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
