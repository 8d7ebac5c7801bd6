"""Step 10: windows as numpy panes against the same windows as Python dictionaries, in one run."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pulseweir.scoring.windows import Panes

_PATIENTS, _VITALS, _MINUTES, _READINGS, _BATCH = 1_000, 7, 4, 400_000, 10_000
_MICROSECONDS = 1_000_000


def run() -> list[dict[str, Any]]:
    """Measurements per second into one-minute windows, state held for 1 000 patients and 7 vitals.

    Returns:
        One row a contestant: name, per_second, ratio to the contestant named in `against`.
    """
    dice = np.random.default_rng(20)
    window = np.sort(dice.integers(0, _MINUTES, _READINGS))
    patient = dice.integers(0, _PATIENTS, _READINGS)
    vital = dice.integers(0, _VITALS, _READINGS)
    number = dice.normal(90, 20, _READINGS)
    occurred = window * 60 * _MICROSECONDS + dice.integers(0, 60 * _MICROSECONDS, _READINGS)
    columns = (window * _PATIENTS + patient, vital, number, occurred)
    panes = _fastest(lambda: _panes(*columns))
    rows = [column.tolist() for column in columns]
    plain = _fastest(lambda: _dictionaries(*rows))
    return [
        {
            "name": "numpy panes",
            "per_second": _READINGS / panes,
            "ratio": plain / panes,
            "against": "python dictionaries",
        },
        {
            "name": "python dictionaries",
            "per_second": _READINGS / plain,
            "ratio": 1.0,
            "against": "python dictionaries",
        },
    ]


def _fastest(work: Callable[[], object], rounds: int = 3) -> float:
    durations = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return min(durations)


def _panes(row: Any, vital: Any, number: Any, occurred: Any) -> Panes:  # noqa: ANN401 - columns of numpy
    panes = Panes.empty(_MINUTES * _PATIENTS, _VITALS)
    for start in range(0, _READINGS, _BATCH):
        part = slice(start, start + _BATCH)
        panes.add(row[part], vital[part], number[part], occurred[part])
    return panes


def _dictionaries(
    row: list[int], vital: list[int], number: list[float], occurred: list[int]
) -> dict[tuple[int, int], list[float]]:
    state: dict[tuple[int, int], list[float]] = {}
    for place, kind, value, at in zip(row, vital, number, occurred, strict=True):
        pane = state.get((place, kind))
        if pane is None:
            state[place, kind] = [1, value, value * value, value, value, value, value, at, at]
            continue
        pane[0] += 1
        pane[1] += value
        pane[2] += value * value
        pane[3] = min(pane[3], value)
        pane[4] = max(pane[4], value)
        if at < pane[7]:
            pane[5], pane[7] = value, at
        if at >= pane[8]:
            pane[6], pane[8] = value, at
    return state
