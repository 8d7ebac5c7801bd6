"""What devices do, in event time: readings → signals of silent, frozen, impossible and clock-ahead devices.

Releases that know no such signals make none.
"""

import asyncio
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from benchmarks.burden_counts import MINUTE
from pulseweir.ingest.catalog import catalog_directory

_STAGE = "pulseweir.scoring.signal_stage"


class SetClock:
    """A clock that stands where it is put."""

    speed = 1.0
    is_simulated = False

    def __init__(self) -> None:
        self.instant = 0

    def now_microseconds(self) -> int:
        """Where it was put."""
        return self.instant


class _Stays:
    """A patient is here, with every device, from the first reading to the last."""

    def __init__(self, clock: SetClock, leaves: Mapping[str, int]) -> None:
        self._clock, self._leaves = clock, leaves

    def present(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Whether each patient is still here."""
        return {key: self._clock.instant <= self._leaves[key[0]] for key in keys}


def signals(rows: pa.Table, leaves: Mapping[str, int]) -> list[tuple[int, pa.Table]]:
    """Facts about devices with the instant at which they were told; looked at once a minute.

    Args:
        rows: Of `patient-measurements`, in the order in which they arrive.
        leaves: When each patient's last reading arrived: nobody is called for the device of a patient who has left.
    """
    if importlib.util.find_spec(_STAGE) is None:
        return []
    return asyncio.run(_watched(rows, leaves))


async def _watched(rows: pa.Table, leaves: Mapping[str, int]) -> list[tuple[int, pa.Table]]:
    kinds = importlib.import_module("pulseweir.scoring.device_kinds").read_kinds([catalog_directory()])
    clock = SetClock()
    stage: Any = importlib.import_module(_STAGE).SignalStage(_Stays(clock, leaves), clock, read_kinds=lambda: kinds)
    received = rows["received_at"].cast(pa.int64()).to_numpy()
    told: list[tuple[int, pa.Table]] = []
    place = 0
    for minute in range(int(received[0]) // MINUTE, int(received[-1]) // MINUTE + 10):
        upto = int(received.searchsorted((minute + 1) * MINUTE, side="left"))
        if upto > place:
            clock.instant = int(received[upto - 1])
            await stage.handle({0: rows.slice(place, upto - place)})
            place = upto
        clock.instant = (minute + 1) * MINUTE
        made = await stage.tick()
        told += [(clock.instant, table) for _, table in made.publish] if made is not None else []
    return told
