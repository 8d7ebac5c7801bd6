"""Ranges, guessed units, cross-checks, spikes and flat lines."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from pulseweir.records.codes import VITALS
from pulseweir.scoring.quality import (
    GOOD,
    IMPOSSIBLE,
    QUALITIES,
    SUSPECT,
    VITAL_INDEX,
    contradicting_pressures,
    flat_lines,
    normalise,
    range_quality,
    spikes,
    usable,
)

MINUTE = 60_000_000


def quality_of(vital: str, *numbers: float) -> list[str]:
    return [
        QUALITIES[one] for one in range_quality(np.full(len(numbers), VITAL_INDEX[vital]), np.array(numbers, float))
    ]


@pytest.mark.parametrize(
    ("vital", "number", "expected"),
    [
        ("systolic_bp", 11_647, "impossible"), ("systolic_bp", 0, "impossible"), ("systolic_bp", 120, "good"),
        ("systolic_bp", 35, "suspect"), ("heart_rate", 0, "impossible"), ("heart_rate", 300, "impossible"),
        ("heart_rate", 15, "suspect"), ("spo2", 100, "good"), ("spo2", 100.5, "impossible"), ("spo2", 0, "impossible"),
        ("spo2", 69, "suspect"), ("spo2", 0.97, "suspect"), ("respiratory_rate", 118, "impossible"),
        ("respiratory_rate", 2, "suspect"), ("temperature", 98.6, "suspect"), ("temperature", -17.8, "impossible"),
        ("temperature", 36.6, "good"), ("temperature", 55, "impossible"), ("fio2", 0.3, "good"), ("fio2", 40, "good"),
        ("fio2", 1, "good"), ("fio2", 100, "good"), ("fio2", 5, "impossible"), ("fio2", 101, "impossible"),
        ("oxygen_flow", 0, "good"), ("heart_rate", float("nan"), "impossible"), ("mean_bp", -8, "impossible"),
    ],
)  # fmt: skip
def test_each_kind_of_value_is_judged_by_its_range(vital: str, number: float, expected: str) -> None:
    assert quality_of(vital, number) == [expected]


def test_units_are_guessed_where_the_size_gives_them_away() -> None:
    vital = np.array(
        [VITAL_INDEX[name] for name in ("fio2", "fio2", "spo2", "temperature", "temperature", "heart_rate")]
    )

    normal = normalise(vital, np.array([0.3, 100.0, 0.97, 98.6, 37.0, 0.5]))

    assert normal.number.tolist() == [30.0, 100.0, 97.0, 37.0, 37.0, 0.5]
    assert normal.guessed.tolist() == [False, False, True, True, False, False]


def test_pressures_that_contradict_each_other_are_found() -> None:
    names = ["systolic_bp", "diastolic_bp", "mean_bp"] * 3 + ["heart_rate"]
    vital = np.array([VITAL_INDEX[name] for name in names])
    group = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0])

    found = contradicting_pressures(group, vital, np.array([120, 80, 93, 70, 90, 80, 120, 80, 150, 60.0]))

    assert found.tolist() == [False, False, False, True, True, True, False, False, True, False]


def _series(vital: str, *numbers: float, minutes: float = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count = len(numbers)
    occurred = (np.arange(count) * minutes * MINUTE).astype(np.int64)
    return np.zeros(count, np.int64), np.full(count, VITAL_INDEX[vital]), occurred, np.array(numbers, float)


def test_a_single_leap_is_a_spike_and_a_lasting_one_is_believed_at_its_second_reading() -> None:
    series, vital, occurred, number = _series("heart_rate", 70, 71, 70, 72, 180, 71, 70)
    assert spikes(series, vital, occurred, number).tolist() == [False] * 4 + [True, False, False]

    series, vital, occurred, number = _series("heart_rate", 70, 71, 70, 72, 180, 182, 181)
    quality = range_quality(vital, number)
    assert usable(series, vital, occurred, quality, number).tolist() == [True] * 4 + [False, True, True]


def test_sparse_readings_and_slow_changes_are_never_spikes() -> None:
    assert not spikes(*_series("heart_rate", 70, 71, 70, 72, 180, minutes=60)).any()
    assert not spikes(*_series("heart_rate", 70, 75, 80, 85, 95)).any()
    assert not spikes(*_series("heart_rate", 70, 71)).any()


def test_a_suspect_value_counts_once_a_second_reading_confirms_it() -> None:
    series, vital, occurred, number = _series("spo2", 96, 60, 61, 97, 62, minutes=10)
    quality = range_quality(vital, number)

    assert quality.tolist() == [GOOD, SUSPECT, SUSPECT, GOOD, SUSPECT]
    assert usable(series, vital, occurred, quality, number).tolist() == [True, False, True, True, False]


def test_a_confirmation_must_come_within_the_maximum_age() -> None:
    series, vital, occurred, number = _series("spo2", 60, 61, minutes=90)

    assert not usable(series, vital, occurred, range_quality(vital, number), number).any()


def test_a_flat_line_is_long_identical_and_not_of_an_exempt_kind() -> None:
    assert flat_lines(*_series("heart_rate", *[72] * 16)).tolist() == [False] * 15 + [True]
    assert not flat_lines(*_series("heart_rate", *[72] * 9, 73, *[72] * 9)).any()
    assert not flat_lines(*_series("spo2", *[100] * 30)).any()
    assert flat_lines(*_series("spo2", *[97] * 30)).any()
    assert not flat_lines(*_series("temperature", *[37] * 30)).any()
    assert flat_lines(*_series("systolic_bp", *[120] * 11, minutes=30)).tolist() == [False] * 9 + [True] * 2
    assert not flat_lines(*_series("systolic_bp", *[120] * 11, minutes=60)).any()


def test_the_recordings_hold_every_kind_of_artefact_and_none_passes_as_good(test_data: Path) -> None:
    names = {"o2_flow": "oxygen_flow", "gcs_total": "glasgow_coma_scale"} | {vital.name: vital.name for vital in VITALS}
    with gzip.open(test_data / "mimic3-demo" / "vitals_long.csv.gz", "rt") as file:
        rows = [(names[row["vital"]], float(row["value"])) for row in csv.DictReader(file) if row["vital"] in names]
    vital = np.array([VITAL_INDEX[name] for name, _ in rows])
    number = np.array([value for _, value in rows])

    quality = range_quality(vital, number)

    assert number.max() == 11_647
    assert quality[number == 11_647].tolist() == [IMPOSSIBLE]
    for name, zeros in (("respiratory_rate", 87), ("systolic_bp", 33), ("heart_rate", 14), ("spo2", 10)):
        chosen = quality[(vital == VITAL_INDEX[name]) & (number == 0)]
        assert len(chosen) == zeros
        assert (chosen == IMPOSSIBLE).all()
    oxygen = vital == VITAL_INDEX["fio2"]
    fractions = oxygen & (number >= 0.2) & (number <= 1)
    assert fractions.sum() > 1_000
    assert (quality[fractions] == GOOD).all()
    assert normalise(vital[oxygen], number[oxygen]).number[quality[oxygen] == GOOD].min() >= 20
