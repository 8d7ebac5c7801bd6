"""The public NEWS2 against published vectors, examples and known mistakes of others."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.errors import ImplausibleValue, RejectRecord
from pulseweir.scores import news2
from pulseweir.scoring.models.news2 import BANDS, MISSING, PARAMETERS, News2Inputs, score_many

NORMAL: dict[str, Any] = {
    "respiratory_rate": 16,
    "spo2": 98,
    "on_oxygen": False,
    "spo2_scale": 1,
    "systolic_bp": 120,
    "pulse": 70,
    "consciousness": "A",
    "temperature": 37.0,
}


def parts_of(name: str, value: float) -> dict[str, int]:
    only: dict[str, Any] = {name: value}
    return news2(**only).parts


def test_every_cross_check_vector_agrees_in_total_parts_and_band(reference: Path) -> None:
    document = json.loads((reference / "news2_vectors.json").read_text())
    vectors = document["vectors"] + document["boundary_vectors"]

    scored = [news2(**vector["input"]) for vector in vectors]

    assert len(vectors) == 124
    for vector, score in zip(vectors, scored, strict=True):
        assert score.total == vector["total"], vector
        if "parts" in vector:
            assert score.parts == vector["parts"], vector
        if "band" in vector:
            assert score.band == vector["band"], vector
        assert score.missing == []


def test_every_published_example_has_the_chart_total(reference: Path) -> None:
    examples = [
        one for one in json.loads((reference / "scores.json").read_text())["worked_examples"] if one["score"] == "news2"
    ]

    assert examples
    assert [news2(**one["input"]).total for one in examples] == [one["expected"] for one in examples]


def test_the_published_table_agrees_with_ours_at_every_step(reference: Path) -> None:
    tables = json.loads((reference / "scores.json").read_text())["news2"]["parameters"]
    steps = {"respiratory_rate": 1.0, "systolic_bp": 1.0, "pulse": 1.0, "temperature": 0.1}
    ranges = {"respiratory_rate": (1, 69), "systolic_bp": (1, 399), "pulse": (1, 299), "temperature": (101, 499)}

    for name, step in steps.items():
        low, high = ranges[name]
        for count in range(low, high + 1):
            value = round(count * step, 1)
            expected = next(
                points
                for lower, upper, points in tables[name]["bands"]
                if (lower is None or value >= lower) and (upper is None or value <= upper)
            )
            assert parts_of(name, value) == {name: expected}, (name, value)


@pytest.mark.parametrize(
    ("saturation", "points"), [(93, 0), (95, 0), (97, 0), (100, 0), (92, 0), (88, 0), (87, 1), (83, 3)]
)
def test_scale_2_on_room_air_never_punishes_a_high_saturation(saturation: int, points: int) -> None:
    assert news2(**NORMAL | {"spo2": saturation, "spo2_scale": 2}).parts["spo2"] == points


@pytest.mark.parametrize(
    ("saturation", "points"), [(93, 1), (94, 1), (95, 2), (96, 2), (97, 3), (100, 3), (92, 0), (87, 1), (85, 2)]
)
def test_scale_2_on_oxygen_punishes_too_much_of_it(saturation: int, points: int) -> None:
    score = news2(**NORMAL | {"spo2": saturation, "spo2_scale": 2, "on_oxygen": True})

    assert score.parts["spo2"] == points
    assert score.parts["air_or_oxygen"] == 2


def test_scale_2_without_the_oxygen_status_is_missing_only_where_it_matters() -> None:
    unknown = NORMAL | {"spo2_scale": 2, "on_oxygen": None}

    assert news2(**unknown | {"spo2": 95}).missing == ["spo2", "air_or_oxygen"]
    assert news2(**unknown | {"spo2": 90}).parts["spo2"] == 0
    assert news2(**unknown | {"spo2": 84}).parts["spo2"] == 2


def test_a_single_red_score_is_low_medium_neither_medium_nor_high() -> None:
    for change in ({"respiratory_rate": 25}, {"consciousness": "C"}, {"systolic_bp": 220}, {"pulse": 131}):
        score = news2(**NORMAL | change)

        assert (score.total, score.band) == (3, "low-medium")


def test_a_low_and_a_high_respiration_rate_are_both_red() -> None:
    assert [news2(respiratory_rate=rate).total for rate in (4, 8, 9, 24, 25, 40)] == [3, 3, 1, 2, 3, 3]


def test_a_temperature_of_37_5_scores_nothing_as_the_chart_says() -> None:
    score = news2(**NORMAL | {"respiratory_rate": 21, "spo2": 93, "pulse": 95, "temperature": 37.5})

    assert (score.total, score.parts["temperature"]) == (5, 0)


@pytest.mark.parametrize(
    ("temperature", "points"),
    [
        (35.0, 3),
        (35.04, 3),
        (35.05, 1),
        (36.04, 1),
        (36.05, 0),
        (36.049999, 1),
        (38.04, 0),
        (38.05, 1),
        (39.05, 2),
        (39.0499, 1),
    ],
)
def test_temperature_is_rounded_half_up_to_one_decimal_before_banding(temperature: float, points: int) -> None:
    assert news2(temperature=temperature).parts == {"temperature": points}
    assert news2(temperature=Decimal(str(temperature))).parts == {"temperature": points}


@pytest.mark.parametrize(
    ("name", "value", "points"),
    [
        ("spo2", 91.5, 2), ("spo2", 91.49, 3), ("spo2", 95.5, 0), ("respiratory_rate", 8.5, 1),
        ("respiratory_rate", 20.5, 2), ("respiratory_rate", 24.5, 3), ("systolic_bp", 90.5, 2),
        ("systolic_bp", 219.5, 3), ("pulse", 130.5, 3), ("pulse", 40.49, 3),
    ],
)  # fmt: skip
def test_whole_numbers_are_rounded_half_up_before_banding(name: str, value: float, points: int) -> None:
    assert parts_of(name, value) == {name: points}


def test_missing_inputs_are_named_and_the_total_is_the_sum_of_the_known_parts() -> None:
    score = news2(respiratory_rate=25, spo2=93, on_oxygen=None, temperature=None)

    assert (score.total, score.parts) == (5, {"respiratory_rate": 3, "spo2": 2})
    assert score.missing == ["air_or_oxygen", "systolic_bp", "pulse", "consciousness", "temperature"]
    assert (news2().total, news2().band, news2().missing) == (0, "low", list(PARAMETERS))


@pytest.mark.parametrize("letter", ["C", "V", "P", "U", "CVPU"])
def test_every_level_below_alert_scores_three(letter: str) -> None:
    assert news2(consciousness=letter).parts == {"consciousness": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"respiratory_rate": -1}, {"respiratory_rate": 0}, {"respiratory_rate": 70}, {"spo2": 100.1},
        {"spo2": math.nan}, {"spo2": math.inf}, {"systolic_bp": 11_647}, {"pulse": True}, {"pulse": "72"},
        {"pulse": [1]},
        {"temperature": 98.6}, {"temperature": -17.8}, {"consciousness": "X"}, {"consciousness": "a"},
        {"consciousness": 15}, {"spo2_scale": 3}, {"spo2_scale": True}, {"spo2_scale": "2"},
        {"on_oxygen": 1}, {"on_oxygen": "yes"},
    ],
)  # fmt: skip
def test_an_impossible_argument_is_refused_by_name_without_repeating_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ImplausibleValue) as caught:
        news2(**wrong)

    assert next(iter(wrong)) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RejectRecord)
    assert "11647" not in str(caught.value)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        news2(16)  # type: ignore[call-arg]


NUMBERS = {
    "respiratory_rate": (0.1, 69.9),
    "spo2": (1, 100),
    "systolic_bp": (1, 399),
    "pulse": (1, 299),
    "temperature": (10.1, 49.9),
}
OBSERVATIONS = st.fixed_dictionaries(
    {
        **{
            name: st.none() | st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))
            for name, (low, high) in NUMBERS.items()
        },
        "on_oxygen": st.none() | st.booleans(),
        "spo2_scale": st.sampled_from([1, 2]),
        "consciousness": st.none() | st.sampled_from(["A", "C", "V", "P", "U", "CVPU"]),
    }
)  # fmt: skip


@given(st.lists(OBSERVATIONS, min_size=1, max_size=20))
def test_many_windows_at_once_score_like_one_at_a_time(sets: list[dict[str, Any]]) -> None:
    many = score_many(_columns(sets))

    for row, one in enumerate(sets):
        score = news2(**one)
        points = many.points[row]
        assert {
            name: int(value) for name, value in zip(PARAMETERS, points, strict=True) if value != MISSING
        } == score.parts
        assert (int(many.total[row]), BANDS[many.band[row]]) == (score.total, score.band)
        assert bool(many.single_red[row]) == (3 in score.parts.values())


def _columns(sets: list[dict[str, Any]]) -> News2Inputs:
    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([math.nan if one[name] is None else float(one[name]) for one in sets])

    awake = [math.nan if one["consciousness"] is None else float(one["consciousness"] != "A") for one in sets]
    return News2Inputs(
        respiratory_rate=column("respiratory_rate"),
        spo2=column("spo2"),
        on_oxygen=column("on_oxygen"),
        spo2_scale=np.array([one["spo2_scale"] for one in sets]),
        systolic_bp=column("systolic_bp"),
        pulse=column("pulse"),
        not_alert=np.array(awake),
        temperature=column("temperature"),
    )


@given(OBSERVATIONS, st.floats(0, 100))
def test_a_faster_breath_above_normal_never_lowers_the_score(one: dict[str, Any], more: float) -> None:
    rate = 16.0
    faster = min(rate + more, 69.9)

    assert news2(**one | {"respiratory_rate": faster}).total >= news2(**one | {"respiratory_rate": rate}).total


@given(OBSERVATIONS, st.floats(1, 100), st.floats(0, 99))
def test_a_lower_saturation_on_scale_1_never_lowers_the_score(one: dict[str, Any], high: float, less: float) -> None:
    low = max(high - less, 0.5)

    assert news2(**one | {"spo2": low, "spo2_scale": 1}).total >= news2(**one | {"spo2": high, "spo2_scale": 1}).total


@given(OBSERVATIONS, st.floats(1, 219), st.floats(0, 218))
def test_a_lower_pressure_below_the_upper_limit_never_lowers_the_score(
    one: dict[str, Any], high: float, less: float
) -> None:
    low = max(high - less, 0.5)

    assert news2(**one | {"systolic_bp": low}).total >= news2(**one | {"systolic_bp": high}).total


@given(OBSERVATIONS)
def test_knowing_less_never_raises_the_score_and_needing_oxygen_never_lowers_it(one: dict[str, Any]) -> None:
    total = news2(**one).total

    for name in ("respiratory_rate", "spo2", "systolic_bp", "pulse", "consciousness", "temperature", "on_oxygen"):
        assert news2(**one | {name: None}).total <= total
    assert news2(**one | {"on_oxygen": True}).total >= news2(**one | {"on_oxygen": False}).total
