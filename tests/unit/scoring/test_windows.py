"""Panes, lateness, closing; trends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulseweir.scoring.fitting import fit_trends
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.windows import Panes, closes_at, is_behind_watermark, is_too_late

READINGS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-50, 250), st.integers(0, 10_000)),
    min_size=1,
    max_size=60,
    unique_by=lambda one: (one[0], one[1], one[3]),
)


@given(READINGS, st.integers(1, 7))
def test_panes_agree_with_plain_arithmetic_however_the_readings_are_cut(
    readings: list[tuple[int, int, int, int]], size: int
) -> None:
    panes = Panes.empty(4, 3)

    for start in range(0, len(readings), size):
        columns = np.array(readings[start : start + size], np.int64).T
        panes.add(columns[0], columns[1], columns[2].astype(float), columns[3])

    for window in range(4):
        for vital in range(3):
            own = sorted((at, number) for w, v, number, at in readings if (w, v) == (window, vital))
            assert panes.count[window, vital] == len(own)
            if own:
                numbers = [number for _, number in own]
                assert panes.total[window, vital] == sum(numbers)
                assert panes.squares[window, vital] == sum(number * number for number in numbers)
                assert (panes.lowest[window, vital], panes.highest[window, vital]) == (min(numbers), max(numbers))
                assert (panes.first[window, vital], panes.last[window, vital]) == (numbers[0], numbers[-1])
            else:
                assert np.isnan(panes.last[window, vital])


def test_a_measurement_is_too_late_when_its_whole_window_is_beyond_the_lateness() -> None:
    settings = WindowSettings(lateness_seconds=3600)
    minute = 60 * MICROSECONDS
    occurred = np.array([0, minute - 1, minute])

    assert is_too_late(occurred, np.full(3, 61 * minute - 1), settings).tolist() == [False, False, False]
    assert is_too_late(occurred, np.full(3, 61 * minute), settings).tolist() == [True, True, False]


def test_a_window_closes_by_its_patients_watermark_or_by_the_clock_once_they_are_quiet() -> None:
    settings = WindowSettings(disorder_seconds=5, grace_seconds=10, quiet_seconds=2)

    assert is_behind_watermark(np.array([60, 61]) * MICROSECONDS, 65 * MICROSECONDS, settings).tolist() == [True, False]
    assert closes_at(60 * MICROSECONDS, 0, settings) == 70 * MICROSECONDS
    assert closes_at(60 * MICROSECONDS, 100 * MICROSECONDS, settings) == 102 * MICROSECONDS


@pytest.mark.parametrize("seconds", [7, 90, 0, -60])
def test_windows_that_do_not_fit_minutes_are_refused(seconds: int) -> None:
    with pytest.raises(ValidationError):
        WindowSettings(window_seconds=seconds)


def test_a_trend_is_robust_against_one_outlier_and_says_how_well_it_fits() -> None:
    hours = np.array([[0, 1, 2, 3, 4, np.nan]])
    steady = fit_trends(hours, np.array([[80, 82, 84, 86, 88, np.nan]]))
    outlier = fit_trends(hours, np.array([[80, 82, 184, 86, 88, np.nan]]))

    assert (steady.slope[0], steady.readings[0], steady.r2[0]) == (2.0, 5, 1.0)
    assert abs(outlier.slope[0] - 2.0) < 0.5
    assert outlier.r2[0] < 0.1


def test_a_trend_needs_three_readings_at_different_instants() -> None:
    hours = np.array([[0, 1, np.nan], [1, 1, 1], [0, 1, 2]])
    trends = fit_trends(hours, np.array([[1, 2, np.nan], [1, 2, 3], [5, 5, 5.0]]))

    assert np.isnan(trends.slope[:2]).all()
    assert (trends.slope[2], trends.r2[2]) == (0.0, 1.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 14_400).map(lambda second: second / 3_600), st.floats(30, 200)), min_size=3, max_size=8
    )
)
def test_a_trend_is_the_median_of_all_pairwise_slopes(points: list[tuple[float, float]]) -> None:
    hours, numbers = (np.array([column], float) for column in zip(*points, strict=True))
    with np.errstate(all="ignore"):
        slopes = [
            (numbers[0, j] - numbers[0, i]) / (hours[0, j] - hours[0, i])
            for i in range(len(points))
            for j in range(i + 1, len(points))
        ]
    known = [one for one in slopes if np.isfinite(one)]

    slope = fit_trends(hours, numbers).slope[0]

    assert np.isnan(slope) if not known else np.isclose(slope, np.median(known))
