"""Step 10: whether a device is silent, frozen, impossible or ahead of its time, by what is remembered of it. Pure.

Delays: decision record 0061. Expected intervals: decision record 0062.
"""

from dataclasses import dataclass
from statistics import median

from pulseweir.scoring.device_kinds import EITHER, DeviceKind
from pulseweir.scoring.device_record import SLOT, SPAN, DeviceRecord, Minute, Span, VitalRecord
from pulseweir.scoring.signal_settings import SignalSettings

_READINGS_TO_KNOW = 30
_REGULAR_SECONDS = 120
_GAPS_TO_LEARN = 5
_SLOW_VITALS = frozenset({"temperature", "fio2", "oxygen_flow"})
_CONSTANT_SATURATION = ("spo2", 100.0)
_FROZEN_VITALS = 2
_FROZEN_SPANS = 6
_SPOT_CHECK_SECONDS = 4 * 3_600


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a device is expected to speak: seconds between two messages; None where it owes none."""

    interval_seconds: float | None

    def silent_after(self, settings: SignalSettings) -> float | None:
        """Seconds of silence that are a fault; None where none is."""
        if self.interval_seconds is None:
            return None
        return max(settings.silent_after_seconds, settings.silent_after_intervals * self.interval_seconds)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as it is now: since when (seconds), and the vitals concerned."""

    since: int
    vitals: tuple[str, ...] = ()


def rhythm(record: DeviceRecord, kind: DeviceKind) -> Rhythm:
    """The interval its kind keeps, lengthened by what the device itself does; for either use, what it has shown.

    A device of unknown use is continuous once nine of ten of its last thirty intervals were two minutes or shorter.
    """
    gaps = sorted((later - earlier) * SLOT for earlier, later in zip(record.slots, record.slots[1:], strict=False))
    if kind.use == "spot-check":
        return Rhythm(None)
    if kind.use == EITHER.use:
        if len(gaps) < _READINGS_TO_KNOW or gaps[len(gaps) * 9 // 10] > _REGULAR_SECONDS:
            return Rhythm(None)
        return Rhythm(float(max(gaps[len(gaps) * 3 // 4], SLOT)))
    learned = gaps[len(gaps) // 2] if len(gaps) >= _GAPS_TO_LEARN else 0
    return Rhythm(max(kind.interval_seconds, float(learned)))


def skew_seconds(record: DeviceRecord) -> float | None:
    """How far the device's clock is ahead of the hub's: the median of its last minutes; None without any.

    The least delayed message of a minute counts: delay only makes a clock look slow.
    """
    return float(median(minute.most for minute in record.clock.values())) if record.clock else None


def silence(
    record: DeviceRecord, kept: Rhythm, listening_since: int, now: int, settings: SignalSettings
) -> Fault | None:
    """Silent: nothing live was heard for longer than its kind may keep quiet, while the house was listening."""
    after = kept.silent_after(settings)
    if after is None or not record.talked_at or now - max(record.talked_at, listening_since) < after:
        return None
    return Fault(record.talked_at)


def spoken_seconds(record: DeviceRecord, kept: Rhythm, settings: SignalSettings) -> float:
    """For how long a device has spoken without a silence that is a fault; without end where none is."""
    after = kept.silent_after(settings)
    if after is None:
        return float("inf")
    turns = [slot * SLOT for slot in record.slots]
    starts = [later for earlier, later in zip(turns, turns[1:], strict=False) if later - earlier >= after]
    return float(record.talked_at - max(starts, default=min(turns, default=record.talked_at)))


def clock_ahead(record: DeviceRecord, now: int, settings: SignalSettings) -> Fault | None:
    """Ahead: every message of the last minutes, and what the newest says has not come yet."""
    tolerance = settings.clock_ahead_tolerance_seconds
    run = []
    for number in sorted(record.clock, reverse=True):
        if record.clock[number].least <= tolerance:
            break
        run.append(record.clock[number])
    if not run or max(minute.occurred_last for minute in run) <= now:
        return None
    since = min(minute.received_first for minute in run)
    return Fault(since) if now - since >= settings.clock_ahead_after_seconds else None


def clock_right_since(record: DeviceRecord, settings: SignalSettings) -> int | None:
    """When the newest messages that are not ahead began to come; None where the newest are ahead."""
    right = None
    for number in sorted(record.clock, reverse=True):
        if record.clock[number].least > settings.clock_ahead_tolerance_seconds:
            break
        right = record.clock[number].received_first
    return right


def impossible(record: DeviceRecord, kept: Rhythm, recovery: float, now: int, settings: SignalSettings) -> Fault | None:
    """Impossible: a vital that was never well for long enough, and at least half of its minutes were not at all."""
    quiet = kept.silent_after(settings) or _SPOT_CHECK_SECONDS
    recovery = recovery if kept.interval_seconds is not None else 0
    found = {}
    for name, vital in record.vitals.items():
        since = _impossible_since(vital, recovery, settings.impossible_after_seconds, now - quiet)
        if since is not None:
            found[name] = since
    return Fault(min(found.values()), tuple(sorted(found))) if found else None


def _impossible_since(vital: VitalRecord, recovery: float, after: float, not_before: float) -> int | None:
    run: list[Minute] = []
    well: list[Minute] = []
    for number in sorted(vital.minutes, reverse=True):
        minute = vital.minutes[number]
        if minute.bad_first:
            run += [*well, minute]
            well = []
            continue
        well.append(minute)
        if well[0].good_last - minute.good_first >= recovery:
            break
    bad = [minute for minute in run if minute.bad_first]
    if not bad:
        return None
    first, last = min(minute.bad_first for minute in bad), max(minute.bad_last for minute in bad)
    wholly = sum(not minute.good_first for minute in bad)
    since_first = [minute for minute in run if max(minute.good_last, minute.bad_last) >= first]
    lasts = last - first >= after and last >= not_before
    return first if lasts and 2 * wholly >= len(since_first) else None


def frozen(record: DeviceRecord, kept: Rhythm, settings: SignalSettings) -> Fault | None:
    """Frozen: two vitals or more stand still, and nothing else of the device moves meanwhile.

    What is charted by the hour repeats honestly: only devices that speak every five minutes or oftener can be frozen.
    Temperature, inhaled oxygen and a saturation of 100 % stand still honestly: they prove nothing, unless they move.
    """
    if kept.interval_seconds is None or kept.interval_seconds > SPAN:
        return None
    after = max(settings.frozen_after_seconds, 10 * kept.interval_seconds)
    still = {}
    for name, vital in record.vitals.items():
        run, spans = _standing(vital)
        if run is None or spans < _FROZEN_SPANS or record.talked_at - run.last > SPAN + 2 * kept.interval_seconds:
            continue
        is_proof = name not in _SLOW_VITALS and (name, run.low) != _CONSTANT_SATURATION
        if is_proof and run.last - run.first >= after:
            still[name] = run.first
    if len(still) < _FROZEN_VITALS:
        return None
    since = max(still.values())
    if any(_moves(vital, since) for vital in record.vitals.values()):
        return None
    return Fault(since, tuple(sorted(still)))


def _standing(vital: VitalRecord) -> tuple[Span | None, int]:
    """The newest run of one value, and in how many spans it was heard; None without values."""
    run: Span | None = None
    spans = 0
    for number in sorted(vital.spans, reverse=True):
        span = vital.spans[number]
        if span.low != span.high or (run is not None and span.low != run.low):
            break
        run = Span(span.low, span.high, span.first, run.last if run else span.last)
        spans += 1
    return run, spans


def _moves(vital: VitalRecord, since: int) -> bool:
    spans = [span for span in vital.spans.values() if span.last > since]
    return bool(spans) and min(span.low for span in spans) != max(span.high for span in spans)
