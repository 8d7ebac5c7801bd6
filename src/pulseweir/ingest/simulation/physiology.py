"""Step 1: invented physiology: a baseline, a course away from it or back to it, and a bounded random walk. Pure.

Courses stay below the rates of change that count as artefacts, so that what deteriorates is believed.
"""

from dataclasses import dataclass, fields

import numpy as np

STEP_SECONDS = 5
_PULL_BACK = 0.15
_WALK_STEP = np.array([0.8, 0.3, 0.25, 1.0, 0.7, 0.004])


@dataclass(frozen=True, slots=True)
class Physiology:
    """One state of a patient.

    Attributes:
        heart_rate: Per minute.
        respiratory_rate: Per minute.
        spo2: Per cent.
        systolic: mmHg.
        diastolic: mmHg.
        temperature: Degrees Celsius.
        oxygen_flow: Litres a minute; 0 is room air.
        consciousness: A, C, V, P or U.
    """

    heart_rate: float
    respiratory_rate: float
    spo2: float
    systolic: float
    diastolic: float
    temperature: float
    oxygen_flow: float = 0.0
    consciousness: str = "A"


_WALKING = tuple(field.name for field in fields(Physiology))[:6]


@dataclass(frozen=True, slots=True)
class Course:
    """A steady way from the baseline to another state, in simulated seconds since the ward began.

    Oxygen follows half-way; consciousness at the end.
    """

    begins_seconds: float
    lasts_seconds: float
    towards: Physiology

    def share(self, elapsed_seconds: float) -> float:
        """How much of the way is done, 0 to 1."""
        return min(1.0, max(0.0, (elapsed_seconds - self.begins_seconds) / self.lasts_seconds))


class SimulatedPatient:
    """A patient whose vitals can be asked for, later and later."""

    def __init__(self, baseline: Physiology, course: Course | None, rng: np.random.Generator) -> None:
        self._baseline = baseline
        self._course = course
        self._rng = rng
        self._walk = np.zeros(len(_WALKING))
        self._steps = 0

    def vitals_at(self, elapsed_seconds: float) -> Physiology:
        """The vitals at an instant not before the last one asked for; equal seeds give equal vitals."""
        while self._steps < elapsed_seconds // STEP_SECONDS:
            self._walk += self._rng.normal(0.0, _WALK_STEP) - _PULL_BACK * self._walk
            self._steps += 1
        aim = self._course.towards if self._course else self._baseline
        share = self._course.share(elapsed_seconds) if self._course else 0.0
        walking = {
            name: _between(getattr(self._baseline, name), getattr(aim, name), share) + float(self._walk[place])
            for place, name in enumerate(_WALKING)
        }
        walking["spo2"] = min(100.0, walking["spo2"])
        return Physiology(
            **walking,
            oxygen_flow=aim.oxygen_flow if share >= 0.5 else self._baseline.oxygen_flow,
            consciousness=aim.consciousness if share >= 1.0 else self._baseline.consciousness,
        )


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
