"""The one clock: exact to the microsecond, faster where a demonstration asks for it, the same in every role."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.clock import (
    CLOCK_VARIABLE,
    Clock,
    from_microseconds,
    real_microseconds,
    to_microseconds,
    to_text,
)

INSTANTS = st.integers(min_value=0, max_value=to_microseconds(datetime(2200, 1, 1, tzinfo=UTC)))


@given(INSTANTS)
def test_an_instant_survives_the_way_to_a_datetime_and_back(microseconds: int) -> None:
    assert to_microseconds(from_microseconds(microseconds)) == microseconds


@given(INSTANTS)
def test_the_text_of_an_instant_means_that_instant(microseconds: int) -> None:
    text = to_text(microseconds)

    assert text.endswith("Z")
    assert to_microseconds(datetime.fromisoformat(text)) == microseconds


def test_the_offset_of_a_datetime_does_not_change_its_instant() -> None:
    there = datetime(2026, 3, 29, 3, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=2)))

    assert to_microseconds(there) == to_microseconds(there.astimezone(UTC))


def test_a_production_clock_shows_the_real_time() -> None:
    before = real_microseconds()
    shown = Clock().now_microseconds()

    assert before <= shown <= real_microseconds()
    assert not Clock().is_simulated


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(1, 600), st.integers(0, 10**9))
def test_a_faster_clock_runs_on_a_straight_line(real: int, simulated: int, speed: int, elapsed: int) -> None:
    clock = Clock(real, simulated, float(speed))

    assert clock.is_simulated or (speed == 1 and real == simulated)
    assert clock.at(real + elapsed) == simulated + elapsed * speed


def test_a_faster_clock_begins_with_the_present() -> None:
    before = real_microseconds()
    clock = Clock.faster(10)

    assert clock.real_start_microseconds == clock.simulated_start_microseconds >= before
    assert clock.now() >= from_microseconds(before)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.floats(1, 600))
def test_every_role_is_handed_the_same_clock(real: int, simulated: int, speed: float) -> None:
    clock = Clock(real, simulated, speed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOCK_VARIABLE, clock.to_environment())
        assert Clock.from_environment() == clock


def test_a_role_that_is_handed_none_takes_the_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLOCK_VARIABLE, raising=False)

    assert Clock.from_environment() == Clock()
