"""Step 10: a vital's trend in its window: a robust line through its recent readings. Pure.

Source: Sen P. K., Estimates of the regression coefficient based on Kendall's tau, JASA 63:1379, 1968.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Trends:
    """One line per row of readings; NaN where fewer than three readings, or one instant only.

    Attributes:
        slope: Change per hour: the median of the slopes between all pairs of readings.
        readings: How many readings the line rests on.
        r2: Share of the variation that the line explains, 0 to 1; low means "no steady trend".
    """

    slope: Numbers
    readings: npt.NDArray[np.int64]
    r2: Numbers


def fit_trends(hours: Numbers, numbers: Numbers) -> Trends:
    """Fit a Theil-Sen line to each row.

    Args:
        hours: Shape (rows, places): when each reading was taken, hours from an origin near by; NaN for no reading.
        numbers: Same shape: the readings.

    >>> fit_trends(np.array([[0.0, 1.0, 2.0, np.nan]]), np.array([[80.0, 82.0, 84.0, np.nan]])).slope.tolist()
    [2.0]
    """
    rows, places = hours.shape
    first, second = np.triu_indices(places, 1)
    known = ~np.isnan(hours) & ~np.isnan(numbers)
    readings = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (numbers[:, second] - numbers[:, first]) / (hours[:, second] - hours[:, first])
    slopes[~np.isfinite(slopes)] = np.nan
    pairs = (~np.isnan(slopes)).sum(axis=1)
    slope = np.where((readings >= _FEWEST) & (pairs > 0), _median_of_known(slopes, pairs), np.nan)
    return Trends(slope, readings, _explained(hours, numbers, known, slope))


def _median_of_known(values: Numbers, counts: npt.NDArray[np.int64]) -> Numbers:
    """Row medians without NaN; sorting puts NaN last, which is many times faster than `nanmedian`."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    low = np.maximum((counts - 1) // 2, 0)
    high = np.maximum(counts // 2, 0)
    middle: Numbers = (ordered[rows, low] + ordered[rows, np.minimum(high, values.shape[1] - 1)]) / 2
    return middle


def _explained(hours: Numbers, numbers: Numbers, known: npt.NDArray[np.bool_], slope: Numbers) -> Numbers:
    count = np.maximum(known.sum(axis=1), 1)
    centred_hours = np.where(known, hours, 0.0) - (np.where(known, hours, 0.0).sum(axis=1) / count)[:, None]
    centred = np.where(known, numbers, 0.0) - (np.where(known, numbers, 0.0).sum(axis=1) / count)[:, None]
    residual = np.where(known, centred - slope[:, None] * centred_hours, 0.0)
    total = (np.where(known, centred, 0.0) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = 1 - (residual**2).sum(axis=1) / total
    return np.where(np.isnan(slope), np.nan, np.where(total > 0, np.clip(r2, 0, 1), 1.0))
