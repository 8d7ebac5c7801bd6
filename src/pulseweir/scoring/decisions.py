"""Step 10: the one decision on consciousness and the one on oxygen, where several inputs speak. Pure.

Scores, words, FHIR and screens follow these; nothing decides again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

AIR_PERCENT = 21.0
FULL_GLASGOW = 15.0
FULL_PARTS = (4.0, 5.0, 6.0)
"""The best eye opening, verbal answer and motor response: together 15."""

UNSAID = -(2**62)
"""The instant of what is not known."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of each window, and by which input.

    Attributes:
        value: 1 (not alert; on oxygen), 0 (alert; on air), NaN when nothing is known.
        decider: Place of the deciding input in the function's order of inputs; -1 for none.
    """

    value: Numbers
    decider: Integers


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one input says of each window.

    Attributes:
        value: 1 or 0; anything where nothing is said.
        at: Its effective instant, microseconds; `UNSAID` where it says nothing.
    """

    value: Numbers
    at: Integers


def spoken(value: Numbers, effective: Integers, fresh: Marks) -> Spoken:
    """An input that speaks where it is fresh."""
    return Spoken(value, np.where(fresh, effective, UNSAID))


def part_below_full(numbers: Numbers, effective: Integers, fresh: Marks) -> list[Spoken]:
    """What parts of the coma scale prove by themselves: one below its best makes a total below 15.

    Args:
        numbers: Shape (windows, 3): eye, verbal, motor.
        effective: Same shape.
        fresh: Same shape.
    """
    said = []
    for part, full in enumerate(FULL_PARTS):
        with np.errstate(invalid="ignore"):
            below = fresh[:, part] & (numbers[:, part] < full)
        said.append(spoken(np.ones(len(below)), effective[:, part], below))
    return said


def decide_consciousness(inputs: list[Spoken], unreadable_at: Integers) -> Decision:
    """The newest observation of consciousness counts; of one instant the worse.

    A text that is not understood and newer than every other observation leaves consciousness unknown: what was true
    before it no longer counts.

    Args:
        inputs: Letter, coma scale, and the parts that prove something by themselves.
        unreadable_at: Effective instant of the newest text not understood, `UNSAID` for none.
    """
    at = np.stack([one.at for one in inputs], axis=1)
    value = np.stack([one.value for one in inputs], axis=1)
    newest = at.max(axis=1)
    candidates = (at == newest[:, None]) & (newest[:, None] != UNSAID)
    decider = np.argmax(np.where(candidates, 1.0 + value, 0.0), axis=1)
    known = candidates.any(axis=1) & (unreadable_at <= newest)
    worst = value[np.arange(len(value)), decider]
    return Decision(np.where(known, worst, np.nan), np.where(known, decider, -1))


def decide_oxygen(inputs: list[Spoken]) -> Decision:
    """Oxygen is given where any input says so, however old the others: nobody may be scored as on air by mistake.

    The newest of those that say so decides, or the newest of all where none does; of one instant the first.

    Args:
        inputs: Flow and concentration.
    """
    at = np.stack([one.at for one in inputs], axis=1)
    value = np.stack([one.value for one in inputs], axis=1)
    said = at != UNSAID
    gives = said & (value > 0)
    speaks = np.where(gives.any(axis=1, keepdims=True), gives, said)
    decider = np.argmax(np.where(speaks, at, UNSAID), axis=1)
    known = said.any(axis=1)
    return Decision(
        np.where(known, gives.any(axis=1).astype(np.float64), np.nan), np.where(known, decider, -1).astype(np.int64)
    )
