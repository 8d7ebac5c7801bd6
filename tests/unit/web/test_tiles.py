"""What a tile says: state, score, reason, change, sparkline."""

from dataclasses import replace
from typing import Any

import pytest

import invented_ward
from invented_ward import BEDS, HOUR, MINUTE, SECOND, Bed
from pulseweir.backends.repository.rows import LiveRow, ScorePoint
from pulseweir.web.readings import is_on_oxygen, oxygen_words, readings_of, show
from pulseweir.web.rights import Viewer
from pulseweir.web.settings import WebSettings
from pulseweir.web.sparkline import change_of, draw
from pulseweir.web.tiles import age_sex, alert_word, pill_of, state_of, tile_of

NOW = 1_700_000_000 * SECOND
SETTINGS = WebSettings()


def row_of(bed: Bed, **other: Any) -> LiveRow:
    return replace(invented_ward.live_row_of(bed, NOW), **other)


def point(minutes_ago: int, score: float | None) -> ScorePoint:
    return ScorePoint(patient_id="p", window_end=NOW - minutes_ago * MINUTE, score=score, band="low", status="complete")


@pytest.mark.parametrize(
    ("bed", "alert", "state"),
    [
        (BEDS[2], None, "normal"),
        (BEDS[1], None, "medium"),
        (BEDS[0], {}, "high-unacknowledged"),
        (BEDS[0], {"acknowledged_at": NOW}, "high-acknowledged"),
        (BEDS[7], None, "insufficient-data"),
    ],
)
def test_every_state_has_its_tile(bed: Bed, alert: dict[str, Any] | None, state: str) -> None:
    row = None if alert is None else invented_ward.alert_row_of(bed, NOW, "high", **alert)

    assert state_of(row_of(bed), row, NOW, SETTINGS) == state


def test_silence_outranks_a_score_but_never_an_open_high_alert() -> None:
    row, later = row_of(BEDS[2]), NOW + HOUR
    alert = invented_ward.alert_row_of(BEDS[0], NOW, "high")

    assert state_of(row, None, later, SETTINGS) == "stale"
    assert state_of(row, None, NOW + 13 * HOUR, SETTINGS) == "no-data"
    assert state_of(row, alert, later, SETTINGS) == "high-unacknowledged"


def test_old_values_are_told_as_old_and_very_old_ones_give_no_score() -> None:
    stale = tile_of(row_of(BEDS[2]), None, [], NOW + HOUR, SETTINGS)
    gone = tile_of(row_of(BEDS[2]), None, [], NOW + 13 * HOUR, SETTINGS)

    assert stale.reason == "Last known values within range"
    assert (gone.score, gone.band, gone.band_word) == ("–", None, "No data")


def test_a_partial_score_is_shown_as_a_lower_bound_with_what_is_missing() -> None:
    tile = tile_of(row_of(BEDS[8]), None, [], NOW, SETTINGS)

    assert tile.is_lower_bound
    assert tile.missing == "Temperature"


def test_high_beds_come_first_then_alerts_then_beds_in_order() -> None:
    alert = invented_ward.alert_row_of(BEDS[1], NOW, "medium")
    tiles = [
        tile_of(row_of(BEDS[4]), None, [], NOW, SETTINGS),
        tile_of(row_of(BEDS[2]), None, [], NOW, SETTINGS),
        tile_of(row_of(BEDS[1]), alert, [], NOW, SETTINGS),
        tile_of(row_of(BEDS[0]), None, [], NOW, SETTINGS),
    ]

    assert [tile.bed for tile in sorted(tiles, key=lambda tile: tile.order)] == ["Bed 01", "Bed 02", "Bed 03", "Bed 05"]


def test_a_pill_always_has_stars_and_a_word() -> None:
    for priority, stars in (("high", "★★★"), ("medium", "★★"), ("low", "★")):
        pill = pill_of(invented_ward.alert_row_of(BEDS[0], NOW, priority))

        assert pill.stars == stars
        assert priority in pill.word.lower()


def test_an_acknowledged_pill_counts_down_to_nothing() -> None:
    alert = invented_ward.alert_row_of(
        BEDS[0], NOW, "high", acknowledged_at=NOW, acknowledged_by="m", state="acknowledged"
    )

    assert pill_of(alert).next_step_at is None
    assert alert_word(alert) == "High · acknowledged"


def test_the_change_says_over_how_long_it_is() -> None:
    whole = change_of([point(245, 2), point(60, 9)], 7, NOW)
    short = change_of([point(40, 6)], 7, NOW)

    assert whole is not None
    assert (whole.points, whole.span, whole.direction) == (5, "4 h", "rising")
    assert short is not None
    assert (short.points, short.span) == (1, "40 min")
    assert change_of([], 7, NOW) is None
    assert change_of([point(240, None)], 7, NOW) is None


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    points = [point(minutes, 3) for minutes in (300, 295, 290, 100, 95, 90, 5)]

    drawn = draw(points, NOW, 6)

    assert len(drawn.lines) == 2
    assert len(drawn.dots) == 1
    assert draw([], NOW, 6).words.endswith("no data")


def test_readings_carry_their_unit_age_trend_and_source() -> None:
    readings = readings_of(row_of(BEDS[0]).inputs_json)

    rate = readings["respiratory_rate"]
    assert (rate.shown, rate.unit, rate.trend, rate.source) == ("26", "/min", "rising", "monitor")
    assert rate.age_seconds(NOW) == 40
    assert not rate.is_stale(NOW)
    assert rate.is_stale(NOW + HOUR)
    assert readings["consciousness"].source == "manual"


def test_numbers_are_rounded_as_their_chart_has_them() -> None:
    assert [show("temperature", 37.0), show("oxygen_flow", 2.5), show("heart_rate", 88.4)] == ["37.0", "2.5", "88"]


def test_oxygen_is_told_in_words_and_silence_is_not_air() -> None:
    on_oxygen = readings_of(row_of(BEDS[0]).inputs_json)
    on_air = readings_of(row_of(BEDS[2]).inputs_json)

    assert oxygen_words(on_oxygen) == "on 2 L/min"
    assert oxygen_words(on_air) == "on air"
    assert is_on_oxygen({}) is None


def test_exact_ages_over_89_are_not_for_everyone() -> None:
    assert age_sex(91, "male") == "91 M"
    assert age_sex(91, "male", deidentified=True) == "90+ M"
    assert age_sex(None, None) == ""


def test_a_patient_without_a_ward_is_only_for_those_who_see_all_wards() -> None:
    everywhere = Viewer("a", "nurse", None, "", "")
    somewhere = Viewer("b", "nurse", frozenset({"Ward A"}), "", "")

    assert everywhere.sees(None)
    assert not somewhere.sees(None)
    assert not Viewer("c", "ops", None, "", "").sees("Ward A")
    assert somewhere.scope("Ward B") == frozenset()
