"""Step 13b: Flag episodes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulseweir.hot_path.flag import (
    AcceptableRange,
    Episode,
    FlagSettings,
    JudgedWindow,
    Judgement,
    is_outside,
    judge,
    where_to_begin,
)
from pulseweir.hot_path.vital_limits import VitalLimit, breaches

MINUTE = 60_000_000
LETTERS = {"o": True, "i": False, "?": None}


def windows(text: str) -> list[JudgedWindow]:
    """One window a letter: o outside, i inside, ? insufficient data, . no data."""
    return [
        JudgedWindow(start=place * MINUTE, end=(place + 1) * MINUTE, outside=LETTERS[letter], score=5.0, band="medium")
        for place, letter in enumerate(text)
        if letter in LETTERS
    ]


def follow(text: str, **settings: Any) -> Judgement:
    return judge(windows(text), patient_id="p1", rule="news2", settings=FlagSettings(**settings))


def spans(text: str, **settings: Any) -> list[tuple[int, int | None]]:
    return [
        (episode.start_at // MINUTE, None if episode.end_at is None else episode.end_at // MINUTE)
        for episode in follow(text, **settings).episodes
    ]


def test_the_first_window_outside_opens_a_flag_without_delay() -> None:
    assert spans("iio") == [(2, None)]


def test_two_windows_inside_close_it_at_the_end_of_the_second() -> None:
    assert spans("oii") == [(0, 3)]


def test_one_window_inside_keeps_it_open() -> None:
    assert spans("oioi") == [(0, None)]


def test_the_number_of_windows_that_close_it_can_be_set() -> None:
    assert spans("oi", close_after_windows=1) == [(0, 2)]


def test_after_closing_the_next_window_outside_is_a_new_flag() -> None:
    assert spans("oiio") == [(0, 3), (3, None)]


def test_insufficient_data_opens_nothing_and_closes_nothing() -> None:
    assert spans("?o????i?i") == [(1, 9)]
    assert spans("????") == []


def test_every_window_outside_is_linked_to_its_episode() -> None:
    judgement = follow("ioio?iio")
    first, second = judgement.episodes

    assert list(judgement.links.values()) == [
        None,
        first.flag_id,
        None,
        first.flag_id,
        None,
        None,
        None,
        second.flag_id,
    ]
    assert first.windows == 2


def test_flag_per_window_gives_every_window_outside_its_own_which_stands_until_the_next() -> None:
    assert spans("oioo", flag_per="window") == [(0, 1), (2, 3), (3, None)]
    assert spans("oo??", flag_per="window") == [(0, 1), (1, None)]
    assert spans("o?i", flag_per="window") == [(0, 1)]


def test_the_worst_band_and_the_newest_are_both_kept() -> None:
    bands = ["high", "medium", "low-medium"]
    given_windows = [
        replace(window, band=band, score=9.0 - place)
        for place, (window, band) in enumerate(zip(windows("ooo"), bands, strict=True))
    ]

    [episode] = judge(given_windows, patient_id="p1", rule="news2", settings=FlagSettings()).episodes

    assert (episode.peak_band, episode.peak_score) == ("high", 9.0)
    assert (episode.last_band, episode.last_score) == ("low-medium", 7.0)


def outside(acceptable: AcceptableRange, **facts: Any) -> bool | None:
    defaults: dict[str, Any] = {
        "status": "complete",
        "score": 2.0,
        "probability": None,
        "band": "low",
        "single_red": False,
    }
    return is_outside(acceptable, **(defaults | facts))


def test_the_default_range_is_left_by_medium_high_or_a_single_red() -> None:
    default = AcceptableRange()

    assert [outside(default, band=band) for band in ("low", "medium", "high")] == [False, True, True]
    assert outside(default, band="low-medium", single_red=True) is True
    assert outside(default, status="insufficient-data", band=None, score=None) is None
    assert outside(default, status="partial") is False


def test_a_range_can_be_a_score_or_a_probability() -> None:
    assert outside(AcceptableRange(outside_from_score=2)) is True
    assert outside(AcceptableRange(outside_from_probability=0.3), probability=0.4) is True
    assert outside(AcceptableRange(outside_from_probability=0.3), probability=0.2) is False


def test_a_patients_own_range_comes_before_the_wards_and_the_models() -> None:
    patient, ward, model = (AcceptableRange(outside_from_score=limit) for limit in (1, 2, 3))
    settings = FlagSettings(patient_ranges={"p1": patient}, ward_ranges={"A": ward}, model_ranges={"news2": model})

    assert settings.range_for("p1", "A", "news2") is patient
    assert settings.range_for("p2", "A", "news2") is ward
    assert settings.range_for("p2", None, "news2") is model
    assert settings.range_for("p2", None, "other") is settings.acceptable_range


class Stored:
    """Windows and episodes as a repository would keep them."""

    def __init__(self, settings: FlagSettings) -> None:
        self.settings = settings
        self.windows: dict[int, tuple[int, JudgedWindow]] = {}
        self.episodes: list[Episode] = []
        self.links: dict[tuple[int, int], str | None] = {}

    def take(self, batch: list[tuple[int, JudgedWindow]]) -> None:
        changed = []
        for revision, window in batch:
            known = self.windows.get(window.start)
            if known is None or known[0] < revision:
                self.windows[window.start] = (revision, window)
                changed.append(window)
        if not changed:
            return
        begin, resume = where_to_begin(changed, self.episodes)
        again = [window for _, window in self.windows.values() if window.end >= begin]
        judgement = judge(again, patient_id="p1", rule="news2", settings=self.settings, resume=resume)
        kept = [episode for episode in self.episodes if episode.first_window_end < begin and episode != resume]
        self.episodes = sorted(kept + judgement.episodes, key=lambda episode: episode.start_at)
        self.links |= judgement.links


REVISIONS = st.lists(
    st.tuples(st.integers(0, 14), st.integers(1, 3), st.sampled_from([True, True, False, False, None])), max_size=40
)


@given(
    deliveries=REVISIONS,
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=40),
    close_after=st.integers(1, 3),
    length=st.integers(1, 3),
    flag_per=st.sampled_from(["episode", "window"]),
)
def test_order_repetition_and_batches_never_change_the_final_episodes(
    deliveries: list[tuple[int, int, bool | None]], cuts: list[int], close_after: int, length: int, flag_per: Any
) -> None:
    settings = FlagSettings(close_after_windows=close_after, flag_per=flag_per)
    unique = {(place, revision): state for place, revision, state in deliveries}
    rows = [
        (
            revision,
            JudgedWindow(
                start=place * MINUTE,
                end=(place + length) * MINUTE,
                outside=unique[place, revision],
                score=float(revision),
                band="high" if revision == 2 else "medium",
            ),
        )
        for place, revision, _ in deliveries
    ]
    stored = Stored(settings)
    position = 0
    for size in cuts * len(rows):
        stored.take(rows[position : position + size])
        position += size

    last = [window for _, window in stored.windows.values()]
    straightforward = judge(last, patient_id="p1", rule="news2", settings=settings)

    assert stored.episodes == straightforward.episodes
    assert stored.links == straightforward.links


@pytest.mark.parametrize(
    ("points", "limit", "outside"),
    [([2, 2, 2], 6, True), ([2, 2, 1], 6, None), ([3], None, True), ([], None, None), ([], 0, None), ([1, 1], 2, True)],
)
def test_what_is_known_of_a_window_without_enough_data_may_be_outside_already(
    points: list[float], limit: float | None, outside: bool | None
) -> None:
    acceptable = AcceptableRange(outside_from_score=limit)
    none: dict[str, Any] = {"score": None, "probability": None, "band": None, "single_red": False}

    assert is_outside(acceptable, status="insufficient-data", known_points=points, **none) is outside


def test_a_patient_whom_the_model_may_not_score_has_no_flag_that_stands() -> None:
    none: dict[str, Any] = {"score": None, "probability": None, "band": None, "single_red": False}

    assert is_outside(AcceptableRange(), status="abstained", known_points=[3], **none) is False
    assert spans("oii") == [(0, 3)]


def entries(**values: float) -> str:
    return json.dumps(
        [{"vital": name, "value": value, "usable": True, "age_seconds": 10} for name, value in values.items()]
    )


@pytest.mark.parametrize(
    ("limit", "values", "age", "words"),
    [
        ({"vital": "spo2", "below": 90}, {"spo2": 84}, None, ["SpO2 84 below 90"]),
        ({"vital": "spo2", "below": 90}, {"spo2": 90}, None, []),
        ({"vital": "heart_rate", "above": 180}, {"heart_rate": 190.5}, 0, ["Heart rate 190.5 above 180"]),
        ({"vital": "heart_rate", "below": 40, "above": 180}, {"spo2": 80}, 0, []),
        (
            {"vital": "respiratory_rate", "above": 60, "age_under": 1},
            {"respiratory_rate": 65},
            0,
            ["Respiratory rate 65 above 60"],
        ),
        ({"vital": "respiratory_rate", "above": 60, "age_under": 1}, {"respiratory_rate": 65}, 1, []),
        ({"vital": "respiratory_rate", "above": 60, "age_under": 1}, {"respiratory_rate": 65}, None, []),
        (
            {"vital": "temperature", "above": 38, "age_from": 1, "age_under": 5},
            {"temperature": 39},
            4,
            ["Temperature 39 above 38"],
        ),
    ],
)
def test_a_vital_beyond_its_limit_is_named_with_value_and_limit(
    limit: dict[str, Any], values: dict[str, float], age: float | None, words: list[str]
) -> None:
    found = breaches([VitalLimit(**limit)], entries(**values), age)

    assert [breach.words for breach in found] == words


@pytest.mark.parametrize("spoilt", [{"usable": False}, {"age_seconds": 3_601}, {"value": None}, {"value": "A"}])
def test_only_fresh_and_usable_numbers_are_beyond_a_limit(spoilt: dict[str, Any]) -> None:
    entry = {"vital": "spo2", "value": 84, "usable": True, "age_seconds": 3_600}
    limit = VitalLimit(vital="spo2", below=90)

    assert breaches([limit], json.dumps([entry]), 70)
    assert breaches([limit], json.dumps([entry | spoilt]), 70) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"vital": "spo2"}, "needs below or above"), ({"vital": "sats", "below": 1}, "no vital with numbers")],
)
def test_a_limit_of_nothing_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        VitalLimit(**wrong)
