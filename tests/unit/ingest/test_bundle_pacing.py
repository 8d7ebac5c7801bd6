"""The pace of bundles: its bounds, that it gives way, and that it settles at what a server bears."""

from hypothesis import given
from hypothesis import strategies as st

from pulseweir.ingest.bundle_pacing import Pace, back_off_seconds

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["full", "half", "throttled", "strained", "stale", "too large"]),
        st.integers(1, 1_000),
    ),
    max_size=200,
)


def after(pace: Pace, event: str, entries: int) -> Pace:
    match event:
        case "full":
            return pace.succeeded(pace.entries)
        case "half":
            return pace.succeeded(max(1, pace.entries // 2))
        case "throttled":
            return pace.throttled(pace.turn)
        case "strained":
            return pace.strained(pace.turn)
        case "stale":
            return pace.throttled(pace.turn - 1).strained(pace.turn - 1)
    return pace.too_large(min(entries, pace.entries))


@given(st.integers(1, 1_000), st.integers(1, 16), EVENTS)
def test_a_pace_never_leaves_its_bounds(most: int, lanes: int, events: list[tuple[str, int]]) -> None:
    pace = Pace.at_most(most, lanes)

    for event, entries in events:
        pace = after(pace, event, entries)

        assert 1 <= pace.entries <= pace.size <= most
        assert 1 <= pace.lanes <= pace.width <= lanes
        assert pace.held <= pace.ceiling <= most
        assert pace.size <= pace.ceiling


@given(st.integers(1, 1_000), st.integers(1, 16), EVENTS)
def test_whatever_happened_a_well_server_gets_the_full_pace_again(
    most: int, lanes: int, events: list[tuple[str, int]]
) -> None:
    pace = Pace.at_most(most, lanes)
    for event, entries in events:
        pace = after(pace, event, entries)

    for _ in range(64 * 40 + lanes * lanes):
        pace = pace.succeeded(pace.entries)
        if (pace.entries, pace.lanes) == (most, lanes):
            break

    assert (pace.entries, pace.lanes) == (most, lanes)


@given(st.integers(2, 1_000), st.integers(1, 16), EVENTS)
def test_one_cause_reduces_once_and_by_half(most: int, lanes: int, events: list[tuple[str, int]]) -> None:
    pace = Pace.at_most(most, lanes)
    for event, entries in events:
        pace = after(pace, event, entries)

    once = pace.throttled(pace.turn)
    again = once.throttled(pace.turn)

    assert again == once
    assert (once.size, once.width) in {
        (pace.size, max(1.0, pace.width / 2)),
        (max(1.0, pace.size / 2), pace.width),
    }


@given(st.integers(1, 400))
def test_the_size_settles_just_below_what_a_server_takes(limit: int) -> None:
    pace = Pace.at_most(400, 2)
    refused = 0
    sizes = []

    for _ in range(600):
        if pace.entries > limit:
            refused += 1
            pace = pace.too_large(pace.entries)
        else:
            sizes.append(pace.entries)
            pace = pace.succeeded(pace.entries)

    assert refused <= 30
    assert sum(sizes[-200:]) / 200 >= limit * 0.7


def test_a_throttling_server_gets_fewer_bundles_before_smaller_ones() -> None:
    pace = Pace.at_most(100, 4)

    seen = []
    for _ in range(4):
        pace = pace.throttled(pace.turn)
        seen.append((pace.entries, pace.lanes))

    assert seen == [(100, 2), (100, 1), (50, 1), (25, 1)]


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1_000), st.floats(0, 1))
def test_a_pause_is_never_shorter_than_asked_nor_much_longer(failures: int, asked: float | None, draw: float) -> None:
    pause = back_off_seconds(failures, asked, draw)

    assert (asked or 0) <= pause <= (asked or 0) + 10


def test_pauses_are_spread_from_nothing_to_a_ceiling_that_doubles() -> None:
    assert [back_off_seconds(failures, None, 0.0) for failures in (1, 2, 3)] == [0, 0, 0]
    assert [back_off_seconds(failures, None, 1.0) for failures in (1, 2, 3)] == [0.2, 0.4, 0.8]
