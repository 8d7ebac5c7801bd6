"""A tile says the worst of what is known: value, age, quality; silence and nonsense are states."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import invented_ward
from invented_ward import BEDS, HOUR, MINUTE, SECOND
from pulseweir.backends.repository.rows import LiveRow
from pulseweir.clock import to_text
from pulseweir.site_time import SiteTime
from pulseweir.web.patient_page import others_of, parts_of
from pulseweir.web.readings import consciousness_words, deciding, oxygen_words, readings_of
from pulseweir.web.settings import WebSettings
from pulseweir.web.tiles import Tile, tile_of

NOW = 1_700_000_000 * SECOND
SETTINGS = WebSettings()
SITE = SiteTime("Europe/Berlin")
WELL = BEDS[2]


def entries_of(row: LiveRow) -> list[dict[str, Any]]:
    found = msgspec.json.decode(row.inputs_json, type=list[dict[str, Any]])
    for entry in found:
        entry["effective_at"] = entry["occurred_at"]
    return found


def row_with(changed: dict[str, dict[str, Any] | None] | None = None, **other: Any) -> LiveRow:
    """A well patient's row as the engine writes it now, with entries changed by vital; None leaves one out."""
    row = invented_ward.live_row_of(WELL, NOW)
    changes = changed or {}
    entries = [entry | (changes.get(entry["vital"]) or {}) for entry in entries_of(row)]
    kept = [entry for entry in entries if changes.get(entry["vital"], {}) is not None]
    new = [change for vital, change in changes.items() if change and "vital" in change]
    facts: dict[str, Any] = {"sign_of_life_at": NOW - 2 * SECOND, "inputs_json": text(kept + new)} | other
    return replace(row, **facts)


def tile(row: LiveRow, now: int = NOW) -> Tile:
    return tile_of(row, None, [], now, SETTINGS, site=SITE)


def text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def newest(quality: str, seconds_ago: int = 5, **other: Any) -> dict[str, Any]:
    at = to_text(NOW - seconds_ago * SECOND)
    return {
        "occurred_at": at,
        "effective_at": at,
        "age_seconds": seconds_ago,
        "quality": quality,
        "device_id": "m",
    } | other


ZERO = {"effective_at": to_text(NOW - 12 * MINUTE), "occurred_at": to_text(NOW - 12 * MINUTE)}


def test_a_well_and_whole_score_is_normal() -> None:
    shown = tile(row_with())

    assert (shown.state, shown.reason) == ("normal", "All within range")


def test_zeros_after_good_values_are_doubt_and_never_a_reassurance() -> None:
    row = row_with(
        {"heart_rate": ZERO | {"newest": newest("impossible", value=0.0)}},
        doubtful_json='["pulse"]',
        status="partial",
    )

    shown = tile(row)
    cell = shown.vitals[3]

    assert shown.state == "doubtful"
    assert shown.reason == "Known values within range; newest HR reading impossible (0), last good 12 min ago"
    assert (cell.value, cell.reading and cell.reading.age_seconds(NOW)) == ("72", 720)
    assert cell.newest is not None
    assert (cell.newest.shown, cell.newest_words, cell.newest.at) == ("0", "impossible", NOW - 5 * SECOND)


@pytest.mark.parametrize(
    ("quality", "words"),
    [("impossible", "impossible (0)"), ("suspect", "suspect (0)"), ("not-understood", "not understood (0)")],
)
@pytest.mark.parametrize("vital", ["heart_rate", "respiratory_rate", "spo2", "systolic_bp", "temperature"])
def test_every_doubt_of_every_vital_is_told(quality: str, words: str, vital: str) -> None:
    row = row_with({vital: {"newest": newest(quality, text="0")}}, doubtful_json=f'["{vital}"]', status="partial")

    shown = tile(row)

    assert shown.state == "doubtful"
    assert words in shown.reason
    assert "All within range" not in shown.reason


def test_only_nonsense_ever_is_no_sign_of_life() -> None:
    zero = {"value": 0.0, "quality": "impossible", "usable": False}
    row = row_with(
        dict.fromkeys(("respiratory_rate", "spo2", "heart_rate"), zero),
        sign_of_life_at=None,
        score=None,
        band=None,
        status="insufficient-data",
        doubtful_json='["pulse","spo2","respiratory_rate"]',
    )

    shown = tile(row)

    assert shown.state == "no-data"
    assert shown.sign_of_life_at is None
    assert shown.vitals[3].is_struck


def test_silence_is_judged_by_usable_readings() -> None:
    row = row_with(newest_occurred_at=NOW, sign_of_life_at=NOW - HOUR)

    assert tile(row).state == "stale"
    assert tile(replace(row, sign_of_life_at=NOW - 13 * HOUR)).state == "no-data"


def test_a_row_of_an_older_release_is_judged_by_its_newest_measurement() -> None:
    row = invented_ward.live_row_of(WELL, NOW)

    assert tile(row).state == "normal"
    assert tile(row, NOW + HOUR).state == "stale"


def test_a_held_reading_says_by_how_much_its_clock_is_ahead_and_when_it_counts() -> None:
    until = NOW + 8 * MINUTE
    held = newest("future", 0, value=150.0, occurred_at=to_text(until), held_until=to_text(until))
    row = row_with({"heart_rate": {"newest": held}}, doubtful_json='["pulse"]', status="partial")

    cell = tile(row).vitals[3]

    assert cell.newest_words == f"clock 8 min ahead, counts from {SITE.minute(until)}"
    assert cell.value == "72"


def test_a_patient_of_whom_only_held_readings_are_known_is_shown_with_them() -> None:
    until = NOW + 120 * MINUTE
    held = {"value": 150.0, "quality": "future", "usable": False, "occurred_at": to_text(until)}
    held |= {"effective_at": to_text(NOW), "held_until": to_text(until)}
    row = row_with({"heart_rate": held}, sign_of_life_at=None, score=None, band=None, status="insufficient-data")

    shown = tile(row)
    part = next(part for part in parts_of(row, readings_of(row.inputs_json), NOW, SITE) if part.title == "Pulse")

    assert shown.state == "no-data"
    assert shown.vitals[3].is_struck
    assert "clock 2 h ahead" in part.newest_words
    assert part.reading is not None
    assert part.reading.device_id == "monitor-03"


@pytest.mark.parametrize(
    ("abstained", "words"),
    [
        ("age-under-16", "Not scored: under 16 years"),
        ("pregnancy", "Not scored: pregnancy"),
        ("unknown-age", "Not scored: age not known"),
    ],
)
def test_an_abstention_has_its_own_state_and_keeps_the_vitals(abstained: str, words: str) -> None:
    row = row_with(abstained=abstained, score=None, band=None, status="abstained", contributions_json="[]")

    shown = tile(row)

    assert (shown.state, shown.score, shown.reason, shown.band_word) == ("not-scored", "–", words, "Not scored")
    assert shown.vitals[3].value == "72"
    assert tile(row, NOW + HOUR).state == "stale"


def test_an_unknown_scale_shows_both_totals() -> None:
    contributions = [
        {"parameter": "pulse", "points": 2},
        {"parameter": "spo2", "points": 3, "on_scale_1": 0, "on_scale_2": 3},
    ]
    row = row_with(
        contributions_json=text(contributions),
        score=5.0,
        band="medium",
        unknown_json='["spo2_scale"]',
        status="partial",
    )

    assert "SpO₂ scale not known: 2 on scale 1 · 5 on scale 2" in tile(row).reason
    assert not tile(row).is_lower_bound


@pytest.mark.parametrize("unknown", ["age", "pregnancy", "spo2_scale"])
def test_what_is_not_known_of_a_patient_is_never_normal(unknown: str) -> None:
    shown = tile(row_with(unknown_json=text([unknown]), status="partial"))

    assert shown.state == "incomplete"
    assert "not known" in shown.reason
    assert "All within range" not in shown.reason


def test_a_flat_line_is_marked_by_a_word() -> None:
    shown = tile(row_with({"systolic_bp": {"flat_line": True}}))

    assert shown.state == "doubtful"
    assert shown.flat == ("Systolic",)
    assert shown.reason == "Known values within range; flat line: Systolic"


def test_a_text_that_is_not_understood_leaves_no_current_consciousness() -> None:
    row = row_with(
        {"consciousness": {"newest": newest("not-understood", text=None)}},
        doubtful_json='["consciousness"]',
        missing_json='["consciousness"]',
        status="partial",
    )

    shown = tile(row)

    assert shown.state == "doubtful"
    assert "newest ACVPU reading not understood" in shown.reason
    assert deciding("consciousness", readings_of(row.inputs_json)) is None


def test_what_decided_consciousness_is_shown_and_the_rest_beside_it() -> None:
    coma = {"vital": "glasgow_coma_scale", "value": 3.0, "unit": "{score}", "decides": True, "summed_from_parts": True}
    eye = {"vital": "glasgow_coma_eye", "value": 1.0, "unit": "{score}"}
    at = {"occurred_at": to_text(NOW), "effective_at": to_text(NOW)}
    row = row_with({"glasgow_coma_scale": coma | at, "glasgow_coma_eye": eye | at})
    readings = readings_of(row.inputs_json)

    parts = {part.title: part.value for part in parts_of(row, readings, NOW, SITE)}
    others = {part.title for part in others_of(readings, NOW, SITE)}

    assert parts["Consciousness"] == "GCS 3 (sum of its parts)"
    assert {"Consciousness", "Eye opening"} <= others
    assert "Alert" in {part.value for part in others_of(readings, NOW, SITE)}
    assert consciousness_words(deciding("consciousness", readings)) == "GCS 3 (sum of its parts)"


def test_the_coma_scale_is_on_the_page_when_the_letter_decides() -> None:
    at = {"occurred_at": to_text(NOW), "effective_at": to_text(NOW)}
    coma = {"vital": "glasgow_coma_scale", "value": 15.0, "unit": "{score}"} | at
    row = row_with({"consciousness": {"decides": True}, "glasgow_coma_scale": coma})

    assert "Glasgow coma scale" in {part.title for part in others_of(readings_of(row.inputs_json), NOW, SITE)}


def test_oxygen_is_told_by_what_decided_it_not_by_what_is_newer() -> None:
    at = {"occurred_at": to_text(NOW - 10 * MINUTE), "effective_at": to_text(NOW - 10 * MINUTE)}
    fraction = {"vital": "fio2", "value": 50.0, "unit": "%", "decides": True} | at
    row = row_with({"oxygen_flow": {"value": 0.0}, "fio2": fraction})

    assert oxygen_words(readings_of(row.inputs_json)) == "on 50 %"


@given(
    doubtful=st.sets(st.sampled_from(["pulse", "spo2", "temperature"])),
    unknown=st.sets(st.sampled_from(["age", "pregnancy", "spo2_scale"])),
    missing=st.sets(st.sampled_from(["pulse", "consciousness"])),
    stale=st.sets(st.sampled_from(["temperature"])),
    silent=st.integers(0, 100_000),
)
def test_all_within_range_is_said_of_whole_scores_only(
    doubtful: set[str], unknown: set[str], missing: set[str], stale: set[str], silent: int
) -> None:
    row = row_with(
        doubtful_json=text(sorted(doubtful)),
        unknown_json=text(sorted(unknown)),
        missing_json=text(sorted(missing)),
        stale_json=text(sorted(stale)),
        status="partial" if doubtful or unknown or missing or stale else "complete",
    )

    shown = tile(row, NOW + silent * SECOND)

    if doubtful or unknown or missing or stale or silent > SETTINGS.silent_after_seconds:
        assert shown.state != "normal"
        assert "All within range" not in shown.reason
