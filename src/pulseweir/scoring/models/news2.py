"""Step 10: National Early Warning Score 2, one set of observations or many windows at once. Pure.

Both paths read the same tables. Values are rounded before they are banded, halves upwards: respiration rate,
saturation, systolic pressure and pulse to whole numbers, temperature to one decimal (36.05 becomes 36.1). Numbers
are read to nine decimals, so that 36.05, which has no exact binary form, counts as the decimal it was written as.

Meant for adults of 16 years and more, not pregnant, without spinal cord injury. It informs; it does not diagnose.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, charts 1 and 2.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import numpy.typing as npt

from pulseweir.errors import ImplausibleValue
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.records.consciousness import LETTERS

MODEL = "news2"
MODEL_VERSION = "1"
PARAMETERS = ("respiratory_rate", "spo2", "air_or_oxygen", "systolic_bp", "pulse", "consciousness", "temperature")
BANDS = ("low", "low-medium", "medium", "high")
CONSCIOUSNESS = LETTERS

MISSING = -1
NO_SCALE = 0
"""The SpO2 scale of a patient of whom nobody could read it."""
_NANO = 1_000_000_000

Points = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """Bands of one parameter: ``points[i]`` up to and including ``uppers[i]``, the last one above all.

    Attributes:
        uppers: Highest rounded value of each band but the last, ascending, in steps of ``1 / per_unit``.
        points: 0 (expected) to 3 (most deranged), one more than `uppers`.
        per_unit: 1 for whole numbers, 10 for one decimal.
    """

    uppers: tuple[int, ...]
    points: tuple[int, ...]
    per_unit: int = 1

    def look_up(self, number: float) -> int:
        """Points of one value."""
        return self.points[bisect_left(self.uppers, int(_rounded(np.float64(number), self.per_unit)))]

    def look_up_many(self, numbers: Numbers) -> Points:
        """Points of many values; `MISSING` where a number is NaN."""
        known = ~np.isnan(numbers)
        rounded = _rounded(np.where(known, numbers, 0.0), self.per_unit)
        points = np.asarray(self.points, np.int8)[np.searchsorted(self.uppers, rounded, side="left")]
        return np.where(known, points, np.int8(MISSING))


RESPIRATORY_RATE = Table((8, 11, 20, 24), (3, 1, 0, 2, 3))
SPO2_SCALE_1 = Table((91, 93, 95), (3, 2, 1, 0))
SPO2_SCALE_2_AIR = Table((83, 85, 87), (3, 2, 1, 0))
SPO2_SCALE_2_OXYGEN = Table((83, 85, 87, 92, 94, 96), (3, 2, 1, 0, 1, 2, 3))
SYSTOLIC_BP = Table((90, 100, 110, 219), (3, 2, 1, 0, 3))
PULSE = Table((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3))
TEMPERATURE = Table((350, 360, 380, 390), (3, 1, 0, 1, 2), per_unit=10)
OXYGEN_POINTS = 2
NOT_ALERT_POINTS = 3
_MEDIUM_FROM = 5
_HIGH_FROM = 7
_RED = 3


@dataclass(frozen=True, slots=True)
class News2Score:
    """The score of one set of observations.

    Attributes:
        total: Sum of the known parts, 0 to 20; a lower bound when something is missing.
        parts: Points by parameter, known ones only, in the chart's order.
        band: low, low-medium (a single 3), medium (5 or 6) or high (7 and more).
        missing: Parameters without points, in the chart's order.
    """

    total: int
    parts: dict[str, int]
    band: str
    missing: list[str]


@dataclass(frozen=True, slots=True)
class News2Inputs:
    """Many sets of observations: equally long columns, NaN where unknown.

    Attributes:
        respiratory_rate: Breaths per minute.
        spo2: Per cent.
        on_oxygen: 1 with supplemental oxygen, 0 on air.
        spo2_scale: 1, or 2 on a clinician's recorded decision; `NO_SCALE` while it is not known.
        systolic_bp: mm[Hg].
        pulse: Beats per minute.
        not_alert: 0 when alert, 1 otherwise.
        temperature: Degrees Celsius.
    """

    respiratory_rate: Numbers
    spo2: Numbers
    on_oxygen: Numbers
    spo2_scale: npt.NDArray[np.int64]
    systolic_bp: Numbers
    pulse: Numbers
    not_alert: Numbers
    temperature: Numbers


@dataclass(frozen=True, slots=True)
class News2Scores:
    """The scores of many sets of observations.

    Attributes:
        points: Shape (sets, parameters), in the order of `PARAMETERS`; `MISSING` where unknown.
        total: Sum of the known points.
        band: Index into `BANDS`.
        single_red: Whether any single parameter scored 3.
        spo2_on_scales: Shape (sets, 2): points of the saturation on scale 1 and on scale 2.
    """

    points: Points
    total: npt.NDArray[np.int64]
    band: npt.NDArray[np.int64]
    single_red: npt.NDArray[np.bool_]
    spo2_on_scales: Points


def score_many(inputs: News2Inputs) -> News2Scores:
    """Score many sets of observations in one pass; values must be possible ones (`quality` sees to it)."""
    on_scales = _spo2_on_scales(inputs)
    points = np.stack(
        [
            RESPIRATORY_RATE.look_up_many(inputs.respiratory_rate),
            _spo2_points(on_scales, inputs.spo2_scale),
            _scaled_flag(inputs.on_oxygen, OXYGEN_POINTS),
            SYSTOLIC_BP.look_up_many(inputs.systolic_bp),
            PULSE.look_up_many(inputs.pulse),
            _scaled_flag(inputs.not_alert, NOT_ALERT_POINTS),
            TEMPERATURE.look_up_many(inputs.temperature),
        ],
        axis=1,
    )
    total = np.where(points == MISSING, 0, points).sum(axis=1, dtype=np.int64)
    single_red = (points == _RED).any(axis=1)
    band = np.where(total >= _HIGH_FROM, 3, np.where(total >= _MEDIUM_FROM, 2, np.where(single_red, 1, 0)))
    return News2Scores(points, total, band.astype(np.int64), single_red, on_scales)


def score_one(  # noqa: PLR0913 - the chart has eight inputs
    *,
    respiratory_rate: SupportsFloat | None = None,
    spo2: SupportsFloat | None = None,
    on_oxygen: bool | None = None,
    spo2_scale: int | None = 1,
    systolic_bp: SupportsFloat | None = None,
    pulse: SupportsFloat | None = None,
    consciousness: str | None = None,
    temperature: SupportsFloat | None = None,
) -> News2Score:
    """Score one set of observations; see `pulseweir.scores.news2`.

    Raises:
        ImplausibleValue: A value no living patient can have, or not one of the known words.
    """
    oxygen = _checked_oxygen(on_oxygen)
    saturation = _checked("spo2", spo2)
    points = {
        "respiratory_rate": _points(RESPIRATORY_RATE, _checked("respiratory_rate", respiratory_rate)),
        "spo2": _one_spo2(saturation, oxygen, _checked_scale(spo2_scale)),
        "air_or_oxygen": None if oxygen is None else OXYGEN_POINTS * oxygen,
        "systolic_bp": _points(SYSTOLIC_BP, _checked("systolic_bp", systolic_bp)),
        "pulse": _points(PULSE, _checked("pulse", pulse)),
        "consciousness": _one_consciousness(consciousness),
        "temperature": _points(TEMPERATURE, _checked("temperature", temperature)),
    }
    parts = {name: known for name, known in points.items() if known is not None}
    total = sum(parts.values())
    return News2Score(
        total, parts, band_of(total, _RED in parts.values()), [name for name in points if points[name] is None]
    )


def band_of(total: int, single_red: bool) -> str:
    """The clinical risk band of a total.

    >>> band_of(3, True), band_of(3, False), band_of(6, True), band_of(7, False)
    ('low-medium', 'low', 'medium', 'high')
    """
    if total >= _HIGH_FROM:
        return "high"
    if total >= _MEDIUM_FROM:
        return "medium"
    return "low-medium" if single_red else "low"


def _rounded(numbers: npt.NDArray[np.float64] | np.float64, per_unit: int) -> npt.NDArray[np.int64]:
    nano = np.rint(np.asarray(numbers) * _NANO).astype(np.int64)
    rounded: npt.NDArray[np.int64] = (nano * per_unit + _NANO // 2) // _NANO
    return rounded


def _scaled_flag(flags: Numbers, points: int) -> Points:
    known = ~np.isnan(flags)
    return np.where(known, np.where(flags > 0, points, 0), MISSING).astype(np.int8)


def _spo2_on_scales(inputs: News2Inputs) -> Points:
    """SpO2 by scale 1 and by scale 2; on scale 2 above 92 % it is unknown while the oxygen status is."""
    on_air = SPO2_SCALE_2_AIR.look_up_many(inputs.spo2)
    on_oxygen = SPO2_SCALE_2_OXYGEN.look_up_many(inputs.spo2)
    undecided = np.where(on_air == on_oxygen, on_air, np.int8(MISSING))
    scale_2 = np.where(np.isnan(inputs.on_oxygen), undecided, np.where(inputs.on_oxygen > 0, on_oxygen, on_air))
    return np.stack([SPO2_SCALE_1.look_up_many(inputs.spo2), scale_2], axis=1).astype(np.int8)


def _spo2_points(on_scales: Points, scale: npt.NDArray[np.int64]) -> Points:
    """SpO2 by each patient's scale; the higher of both while the scale is not known: nobody may be missed."""
    return np.select([scale == 1, scale == 2], [on_scales[:, 0], on_scales[:, 1]], on_scales.max(axis=1))


def _one_spo2(saturation: float | None, on_oxygen: bool | None, scale: int) -> int | None:
    if saturation is None:
        return None
    if scale == 1:
        return SPO2_SCALE_1.look_up(saturation)
    on_air = SPO2_SCALE_2_AIR.look_up(saturation)
    with_oxygen = SPO2_SCALE_2_OXYGEN.look_up(saturation)
    if on_oxygen is None:
        return on_air if on_air == with_oxygen else None
    return with_oxygen if on_oxygen else on_air


def _points(table: Table, number: float | None) -> int | None:
    return None if number is None else table.look_up(number)


def _one_consciousness(letter: str | None) -> int | None:
    if letter is None:
        return None
    if not isinstance(letter, str) or letter not in CONSCIOUSNESS:
        raise ImplausibleValue("consciousness", letter, "one of A, C, V, P, U, CVPU")
    return 0 if letter == "A" else NOT_ALERT_POINTS


def _checked(quantity: str, value: SupportsFloat | None) -> float | None:
    if value is None:
        return None
    vital = VITAL_BY_NAME["heart_rate" if quantity == "pulse" else quantity]
    bounds = (
        f"above {vital.lowest:g} and {'up to' if vital.highest_is_possible else 'below'} {vital.highest:g} {vital.unit}"
    )
    if isinstance(value, bool | np.bool_ | str):
        raise ImplausibleValue(quantity, value, bounds)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ImplausibleValue(quantity, value, bounds) from error
    if not vital.is_possible(number):
        raise ImplausibleValue(quantity, value, bounds)
    return number


def _checked_oxygen(on_oxygen: object) -> bool | None:
    if on_oxygen is None or isinstance(on_oxygen, bool):
        return on_oxygen
    if isinstance(on_oxygen, np.bool_):
        return bool(on_oxygen)
    raise ImplausibleValue("on_oxygen", on_oxygen, "True, False or None")


def _checked_scale(scale: object) -> int:
    if scale is None:
        return 1
    if isinstance(scale, bool) or not isinstance(scale, int | np.integer) or scale not in (1, 2):
        raise ImplausibleValue("spo2_scale", scale, "1 or 2")
    return int(scale)
