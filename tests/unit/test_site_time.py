"""The time of day at a site: zones, the hours that clocks change, days of 23 and 25 hours."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulseweir.clock import from_microseconds, to_microseconds
from pulseweir.site_time import SiteSettings, SiteTime

BERLIN = SiteTime("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo")
_YEARS = st.integers(
    to_microseconds(datetime(2020, 1, 1, tzinfo=UTC)), to_microseconds(datetime(2030, 1, 1, tzinfo=UTC))
)


def at(*parts: int) -> int:
    return to_microseconds(datetime(*parts, tzinfo=UTC))  # type: ignore[misc,arg-type]


def test_a_time_is_shown_in_the_zone_of_the_site() -> None:
    assert BERLIN.clock(at(2026, 12, 1, 2, 0, 5)) == "03:00:05"
    assert BERLIN.zone_name(at(2026, 12, 1)) == "CET"
    assert SiteTime().clock(at(2026, 12, 1, 2, 0, 5)) == "02:00:05"
    assert SiteTime("America/Sao_Paulo").zone_name(at(2026, 12, 1)) == "UTC-03"


def test_the_doubled_hour_says_which_of_the_two_it_is() -> None:
    first, second = at(2026, 10, 25, 0, 30), at(2026, 10, 25, 1, 30)

    assert BERLIN.with_zone(BERLIN.minute(first), first, second) == "02:30 CEST"
    assert BERLIN.with_zone(BERLIN.minute(second), second, second) == "02:30 CET"
    assert not BERLIN.needs_zone(at(2026, 10, 25, 3, 30), second)


def test_a_time_before_the_change_is_shown_with_its_zone_after_it() -> None:
    now = at(2026, 10, 26, 12)

    assert BERLIN.needs_zone(at(2026, 10, 24, 12), now)
    assert not BERLIN.needs_zone(at(2026, 10, 26, 11), now)


def test_the_hour_that_spring_leaves_out_is_no_doubled_one() -> None:
    before, after = at(2026, 3, 29, 0, 59), at(2026, 3, 29, 1, 1)

    assert BERLIN.minute(before) == "01:59"
    assert BERLIN.minute(after) == "03:01"
    assert not BERLIN.needs_zone(after, after)


def test_a_day_of_a_change_has_23_or_25_hours() -> None:
    hours = [
        (BERLIN.day_start(later) - BERLIN.day_start(earlier)) // 3_600_000_000
        for earlier, later in [(at(2026, 3, 29, 12), at(2026, 3, 30, 12)), (at(2026, 10, 25, 12), at(2026, 10, 26, 12))]
    ]

    assert hours == [23, 25]
    assert BERLIN.days_back(at(2026, 10, 26, 12), 1) == BERLIN.day_start(at(2026, 10, 25, 12))


@pytest.mark.parametrize(
    ("name", "near"),
    [("Europe/Berlni", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("CEST", ""), ("America/New York", "New_York")],
)
def test_a_misspelt_zone_is_refused_by_name(name: str, near: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SiteSettings(time_zone=name)

    assert name in str(refused.value)
    assert near in str(refused.value)


@given(instant=_YEARS, zone=st.sampled_from(ZONES))
def test_the_offsets_of_a_page_say_what_the_zone_says(instant: int, zone: str) -> None:
    place = SiteTime(zone)
    offsets = place.offsets(instant)
    current = [one for one in offsets if one.since <= instant][-1]

    assert from_microseconds(instant + current.seconds * 1_000_000).strftime("%H:%M:%S") == place.clock(instant)
    assert current.name == place.zone_name(instant)
    for one, other in pairwise(offsets):
        assert place.local(other.since - 1).utcoffset() != place.local(other.since).utcoffset()
        assert one.seconds != other.seconds
