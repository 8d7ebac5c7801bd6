"""The public face of the scores: plain functions over plain values, for notebooks and other programs."""

from typing import SupportsFloat

from pulseweir.scoring.models.news2 import News2Score, score_one

__all__ = ["News2Score", "news2"]


def news2(  # noqa: PLR0913 - the chart has eight inputs
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
    """The National Early Warning Score 2 of one set of observations.

    An input of None is missing: the total is then the sum of the known parts, a lower bound. On SpO2 scale 2 a
    saturation above 92 % scores differently on air and on oxygen: without the oxygen status it counts as missing too.

    Args:
        respiratory_rate: Breaths per minute, above 0 and below 70; rounded to whole numbers, halves upwards.
        spo2: Oxygen saturation in per cent, above 0 and up to 100; rounded likewise.
        on_oxygen: Whether the patient breathes supplemental oxygen.
        spo2_scale: 1, or 2 where a clinician has recorded that decision; None means 1.
        systolic_bp: Systolic pressure in mmHg, above 0 and below 400; rounded likewise.
        pulse: Beats per minute, above 0 and below 300; rounded likewise.
        consciousness: A, C (new confusion), V, P, U, or CVPU for "not alert, level unknown".
        temperature: Degrees Celsius, above 10 and below 50; rounded to one decimal, halves upwards (36.05 is 36.1).

    Returns:
        Total, parts by parameter (`air_or_oxygen` holds the points of `on_oxygen`), band and what is missing.

    Raises:
        ImplausibleValue: A value outside its range, NaN, a bool for a number, an unknown letter or scale. It is a
            ValueError too; most often the unit is wrong.

    >>> score = news2(respiratory_rate=22, spo2=89, on_oxygen=True, spo2_scale=2, systolic_bp=130, pulse=95,
    ...               consciousness="A", temperature=37.0)
    >>> score.total, score.band, score.missing
    (5, 'medium', [])
    """
    return score_one(
        respiratory_rate=respiratory_rate,
        spo2=spo2,
        on_oxygen=on_oxygen,
        spo2_scale=spo2_scale,
        systolic_bp=systolic_bp,
        pulse=pulse,
        consciousness=consciousness,
        temperature=temperature,
    )
