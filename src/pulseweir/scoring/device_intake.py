"""Step 10: patient measurements, many at once, into the records of their devices. Pure.

Only what was live on arrival counts: a backlog neither raises nor ends anything. A value whose clock is ahead says
something about the clock only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import PATIENT_CONTEXT_TYPE
from pulseweir.scoring.device_record import (
    MINUTE,
    SLOT,
    SPAN,
    ClockMinute,
    DeviceRecord,
    Minute,
    Span,
    VitalRecord,
    note_clock,
    note_minute,
    note_received,
    note_slots,
    note_span,
)
from pulseweir.scoring.judgement import coded

Key = tuple[str, str]
"""Patient and device."""
Integers = npt.NDArray[np.int64]
_SECOND = 1_000_000


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
    groups = _Groups.of(batch.who, minutes)
    ahead = (batch.occurred - batch.received)[groups.order]
    received, occurred = batch.received[groups.order], batch.occurred[groups.order]
    newest = groups.highest(received)
    columns = (groups.lowest(ahead), groups.highest(ahead), groups.lowest(received), groups.highest(occurred))
    who, number = batch.who[groups.firsts], minutes[groups.firsts]
    for record, minute, *seen in zip(who.tolist(), number.tolist(), *(one.tolist() for one in columns), strict=True):
        note_clock(own[record], minute, ClockMinute(float(seen[0]), float(seen[1]), seen[2], seen[3]))
    is_newest = received == np.repeat(newest, groups.lengths)
    for place in groups.order[is_newest].tolist():
        record = own[int(batch.who[place])]
        if int(batch.received[place]) >= record.received_at:
            note_received(record, int(batch.received[place]), batch.words[place])


def _take_slots(own: list[DeviceRecord], batch: _Batch, live: Integers) -> None:
    slots: dict[int, set[int]] = {}
    for record, slot in np.unique(np.stack([batch.who[live], batch.true_at[live] // SLOT]), axis=1).T.tolist():
        slots.setdefault(record, set()).add(slot)
    talked = np.zeros(len(own), np.int64)
    np.maximum.at(talked, batch.who[live], batch.true_at[live])
    for record, spoken in slots.items():
        note_slots(own[record], spoken, int(talked[record]))


def _take_values(own: list[DeviceRecord], batch: _Batch, live: Integers) -> None:
    spoken = np.array([name == "consciousness" for name in batch.names] or [False])
    live = live[~spoken[batch.vital[live]]]
    bad = batch.bad[live].astype(np.int64)
    minutes = batch.true_at[live] // MINUTE
    groups = _Groups.of(batch.who[live], batch.vital[live], minutes, bad)
    times = batch.true_at[live][groups.order]
    marks = zip(
        live[groups.firsts].tolist(), minutes[groups.firsts].tolist(), bad[groups.firsts].tolist(),
        groups.lowest(times).tolist(), groups.highest(times).tolist(), strict=True,
    )  # fmt: skip
    for row, minute, is_bad, first, last in marks:
        seen = Minute(0, 0, first, last) if is_bad else Minute(first, last)
        note_minute(_vital(own, batch, row), minute, seen)
    valued = live[~batch.bad[live] & ~np.isnan(batch.number[live])]
    spans = batch.true_at[valued] // SPAN
    groups = _Groups.of(batch.who[valued], batch.vital[valued], spans)
    numbers, times = batch.number[valued][groups.order], batch.true_at[valued][groups.order]
    columns = (groups.lowest(numbers), groups.highest(numbers), groups.lowest(times), groups.highest(times))
    rows = zip(
        valued[groups.firsts].tolist(), spans[groups.firsts].tolist(), *map(np.ndarray.tolist, columns), strict=True
    )
    for row, span, *extremes in rows:
        note_span(_vital(own, batch, row), span, Span(*extremes))


def _vital(own: Sequence[DeviceRecord], batch: _Batch, row: int) -> VitalRecord:
    record, name = own[int(batch.who[row])], batch.names[int(batch.vital[row])]
    if name not in record.vitals:
        record.vitals[name] = VitalRecord()
    return record.vitals[name]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows that are equal in some columns.

    Attributes:
        order: Places of the rows, a group after the other.
        starts: Where in `order` each group begins.
        firsts: Place of one row of each group.
        lengths: Rows of each group.
    """

    order: Integers
    starts: Integers
    firsts: Integers
    lengths: Integers

    @classmethod
    def of(cls, *columns: Integers) -> "_Groups":
        order = np.lexsort(columns)
        begins = np.ones(len(order), np.bool_)
        if len(order):
            begins[1:] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in columns])
        starts = np.flatnonzero(begins)
        return cls(order, starts, order[starts], np.diff(starts, append=len(order)))

    def lowest(self, ordered: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The lowest of each group; the values in `order`."""
        return np.minimum.reduceat(ordered, self.starts) if len(ordered) else ordered

    def highest(self, ordered: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The highest of each group; the values in `order`."""
        return np.maximum.reduceat(ordered, self.starts) if len(ordered) else ordered


def _seconds(column: pa.ChunkedArray) -> Integers:
    return np.array(column.cast(pa.int64()), np.int64) // _SECOND
