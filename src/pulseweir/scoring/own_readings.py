"""Step 10: what arrived in each window itself, and whether that was already old when it arrived. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pulseweir.records.codes import VITALS
from pulseweir.scoring.bench import Bench
from pulseweir.scoring.quality import IMPOSSIBLE
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.windows import Panes

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

NO_OWN = 0
"""Instants of a window without readings of its own."""
_VITALS = len(VITALS)


@dataclass(frozen=True, slots=True)
class OwnReadings:
    """One a window.

    Attributes:
        panes: Count, mean, extremes of each vital.
        newest_at: Newest effective instant, whatever the reading's quality; `NO_OWN` without any.
        newest_arrived: Newest reception; likewise.
        backfill: Whether nothing usable in it was news when it arrived.
    """

    panes: Panes
    newest_at: Integers
    newest_arrived: Integers
    backfill: Marks


def own_readings(
    bench: Bench, who: Integers, numbers: Integers, known_at: Integers, late_signs: Marks, settings: WindowSettings
) -> OwnReadings:
    """Gather the seen readings of each window.

    A window is backfill when none of its own usable readings was on time. So what a nurse charts within her limit
    is heard although the monitor's buffer of that minute comes late; and an impossible reading that is on time makes
    no buffer look fresh. A window without usable readings of its own is as late as the newest sign of life.

    Args:
        bench: From `lay_out`.
        who: Patient number of each window, ascending, with `numbers`.
        numbers: Window numbers.
        known_at: Held readings are let in up to this instant.
        late_signs: Whether each window's newest usable reading, its own or an older one, was old on arrival.
        settings: Of the windows.
    """
    count = len(who)
    taken = np.where(bench.ahead, bench.readings["occurred"], bench.effective)
    row = _window_of(bench.who, taken // settings.window, who, numbers)
    inside = np.flatnonzero((row >= 0) & bench.readings["seen"])
    inside = inside[~bench.ahead[inside] | (taken[inside] < known_at[row[inside]])]
    row, own = row[inside], bench.readings[inside]
    newest, arrived = np.full(count, NO_OWN, np.int64), np.full(count, NO_OWN, np.int64)
    np.maximum.at(newest, row, bench.effective[inside])
    np.maximum.at(arrived, row, own["arrived"])
    on_time, useful = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    counts = bench.usable[inside]
    late = _is_late(bench, inside, row, settings)
    np.logical_or.at(useful, row, counts)
    np.logical_or.at(on_time, row, counts & ~late)
    panes = Panes.empty(count, _VITALS)
    possible = own["quality"] != IMPOSSIBLE
    own, row = own[possible], row[possible]
    panes.add(row, own["vital"].astype(np.int64), own["number"], bench.effective[inside][possible])
    return OwnReadings(panes, newest, arrived, np.where(useful, ~on_time, late_signs))


def is_old(bench: Bench, settings: WindowSettings) -> Marks:
    """Which readings were old on arrival, by the limit of their source; a clock far ahead is as wrong as a late one."""
    delay = bench.readings["arrived"] - bench.readings["occurred"]
    old: Marks = np.abs(delay) > late_after(bench.sources.by_hand[bench.readings["source"]], settings)
    return old


def late_after(by_hand: Marks, settings: WindowSettings) -> Integers:
    """How old each reading may be on arrival, microseconds."""
    limit = np.where(by_hand, settings.hand_charted_backfill_after_seconds, settings.backfill_after_seconds)
    return limit * MICROSECONDS


def _window_of(who: Integers, number: Integers, subjects: Integers, numbers: Integers) -> Integers:
    """Row of the window that each reading belongs to; -1 for none."""
    if not len(subjects) or not len(who):
        return np.full(len(who), -1, np.int64)
    origin = int(min(number.min(), numbers.min()))
    span = int(max(number.max(), numbers.max())) - origin + 1
    keys = subjects * span + (numbers - origin)
    wanted = who * span + (number - origin)
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[row] == wanted, row, -1)


def _is_late(bench: Bench, inside: Integers, row: Integers, settings: WindowSettings) -> Marks:
    """Which own readings were old on arrival.

    What a device sends together with readings that nobody charts by hand comes from a monitor, whatever its type, and
    goes by the monitors' limit.
    """
    own = bench.readings[inside]
    late: Marks = is_old(bench, settings)[inside]
    by_hand = bench.sources.by_hand[own["source"]]
    delay = np.abs(own["arrived"] - own["occurred"])
    unsure = np.flatnonzero(by_hand & ~late & (delay > settings.backfill_after_seconds * MICROSECONDS))
    if len(unsure):
        keys = row * (int(bench.sources.device.max(initial=0)) + 2) + bench.sources.device[own["source"]]
        late[unsure] = np.isin(keys[unsure], keys[~by_hand])
    return late
