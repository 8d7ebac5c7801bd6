"""What the harness of the alert burden counts, on cases small enough to count by hand."""

import pytest
from benchmarks.burden_counts import (
    MINUTE,
    SECOND,
    Acknowledged,
    Happened,
    Opened,
    Page,
    Window,
    count,
    duplicates,
    high_runs,
)

DAY = 24 * 60 * MINUTE
SPAN = {"p": (0, DAY)}
RED = frozenset({"spo2"})


def window(minute: int, score: float | None, *reds: str, backfill: bool = False, known: int | None = None) -> Window:
    """One minute, known ten seconds after its end."""
    end = (minute + 1) * MINUTE
    known_at = end + 10 * SECOND if known is None else known
    band = (
        None if score is None else "high" if score >= 7 else "medium" if score >= 5 else "low-medium" if reds else "low"
    )
    return Window("p", end - MINUTE, end, known_at, score, band, frozenset(reds), backfill)


def page(at: int, kind: str = "page", key: str = "", content: str = "") -> Page:
    return Page("p", "a", at, key or f"{kind}:{at}", kind, content or f"{kind} {at}")


def numbers(happened: Happened) -> dict[str, int]:
    found: dict[str, int] = count(happened, SPAN)["numbers"]
    return found


def test_alerts_and_messages_by_kind_per_100_bed_days() -> None:
    happened = Happened(
        pages=[
            Page("p", "c", 3, "k", "page", "technical"),
            page(1),
            page(2 * MINUTE, "escalation"),
            page(4 * MINUTE, "reminder"),
            page(6 * MINUTE, "worse"),
        ],
        opened=[
            Opened("p", "a", 1, "high"),
            Opened("p", "b", 2, "low"),
            Opened("p", "c", 3, "low", kind="technical"),
        ],
        acknowledged=[Acknowledged("p", MINUTE)],
    )

    found = count(happened, {"p": (0, DAY), "q": (0, DAY)})

    assert found["bed_days"] == 2
    assert (
        found["numbers"]
        | {
            "alerts_opened": 2,
            "alerts_opened_high": 1,
            "alerts_opened_low": 1,
            "technical_alerts": 1,
            "technical_messages": 1,
            "messages": 4,
            "pages": 1,
            "escalations": 1,
            "reminders": 1,
            "other_messages": 1,
            "acknowledgements": 1,
        }
        == found["numbers"]
    )
    assert found["per_100_bed_days"]["alerts_opened"] == 100


def test_what_lies_outside_a_patients_span_is_left_out() -> None:
    late = DAY + 1
    happened = Happened([window(2_000, 9)], [page(late)], [Opened("p", "a", late, "high")], [Acknowledged("p", late)])

    found = count(happened, SPAN)

    assert not any(found["numbers"].values())
    assert found["windows"] == found["high"]["first_of_run"]["all"] == 0


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (page(61 * SECOND, key="first", content="other"), 1),
        (page(60 * SECOND, content="same"), 1),
        (page(61 * SECOND, content="same"), 0),
        (Page("p", "b", 1, "k", "page", "same"), 0),
    ],
    ids=["key", "content", "content-later", "other-alert"],
)
def test_duplicates_are_equal_keys_ever_or_equal_contents_within_a_minute(second: Page, expected: int) -> None:
    assert duplicates([second, page(0, key="first", content="same")]) == expected


def test_a_run_of_high_windows_is_one_and_ends_with_a_scored_one_below() -> None:
    scores = [4, 7, 9, None, 8, 6, 7]
    happened = Happened([window(minute, score) for minute, score in enumerate(scores)])

    assert [run.start for run in high_runs(happened)] == [MINUTE, 6 * MINUTE]


@pytest.mark.parametrize(("after", "is_paged"), [(0, True), (10 * MINUTE, True), (10 * MINUTE + 1, False)])
def test_a_first_high_window_is_paged_until_ten_minutes_after_it_became_known(after: int, is_paged: bool) -> None:
    high = window(5, 7)

    found = count(Happened([high], [page(high.known_at + after)]), SPAN)["high"]

    assert found["first_of_patient"]["paged"] == found["first_of_run"]["paged"] == is_paged
    assert found["first_of_run"]["share_paged"] == is_paged


def test_a_window_revised_to_high_is_known_from_its_revision() -> None:
    revised = window(5, 8, known=40 * MINUTE)

    (run,) = high_runs(Happened([window(5, 3), revised]))

    assert (run.start, run.known_at) == (5 * MINUTE, 40 * MINUTE)


def test_backfill_asks_for_no_page() -> None:
    found = count(Happened([window(5, 9, backfill=True)]), SPAN)

    assert found["high"]["first_of_run"] == {
        "all": 1,
        "backfill": 1,
        "paged": 0,
        "covered_by_what_was_told": 0,
        "share_paged": None,
        "share_paged_or_covered": None,
    }
    assert found["numbers"]["rises"] == found["numbers"]["unpaged_episodes"] == 0


def test_a_second_run_no_worse_than_what_people_were_told_is_covered() -> None:
    first, between, again = window(5, 8), window(20, 5), window(30, 9)

    found = count(Happened([first, between, again], [page(first.known_at)]), SPAN)["high"]["first_of_run"]

    assert (found["all"], found["paged"], found["covered_by_what_was_told"]) == (2, 1, 1)
    assert found["share_paged_or_covered"] == 1


@pytest.mark.parametrize(
    ("later", "is_rise"),
    [
        (window(15, 8), False),
        (window(15, 9), True),
        (window(15, 7, "spo2"), True),
        (window(15, 6, "pulse"), False),
        (window(15, 9, backfill=True), False),
    ],
    ids=["one-point", "two-points", "new-single-3", "same-single-3", "backfill"],
)
def test_a_rise_is_two_points_or_a_new_single_3_above_what_was_told(later: Window, is_rise: bool) -> None:
    told = window(5, 7, "pulse")
    happened = Happened([told, later], [page(told.known_at)])

    assert numbers(happened)["rises"] == numbers(happened)["missed_rises"] == is_rise


def test_a_rise_with_a_page_within_five_minutes_is_not_missed() -> None:
    told, later = window(5, 7), window(15, 9)

    found = numbers(Happened([told, later], [page(told.known_at), page(later.known_at + 5 * MINUTE)]))

    assert (found["rises"], found["missed_rises"]) == (1, 0)


def test_each_rise_counts_once_and_the_next_from_there() -> None:
    told = window(5, 7)
    risen = [window(minute, score) for minute, score in ((15, 9), (16, 9), (17, 10), (18, 11))]

    assert numbers(Happened([told, *risen], [page(told.known_at)]))["missed_rises"] == 2


def test_an_acknowledgement_covers_what_was_known_then() -> None:
    told, risen, after = window(5, 7), window(15, 8), window(25, 9)
    happened = Happened([told, risen, after], [page(told.known_at)], [], [Acknowledged("p", 20 * MINUTE)])

    assert numbers(happened)["rises"] == 0


@pytest.mark.parametrize(
    ("well", "minute", "unpaged"),
    [((6, 7), 36, 0), ((6, 7), 37, 1), ((6,), 50, 0)],
    ids=["soon", "later", "same-episode"],
)
def test_half_an_hour_after_an_episode_nothing_covers_the_next(
    well: tuple[int, ...], minute: int, unpaged: int
) -> None:
    told, ill = window(5, 7), window(minute, 7)

    found = numbers(Happened([told, *(window(one, 1) for one in well), ill], [page(told.known_at)]))

    assert (found["unpaged_episodes"], found["rises"]) == (unpaged, 0)


def test_a_single_3_below_medium_alone_asks_for_no_page_by_default() -> None:
    assert numbers(Happened([window(5, 3, "pulse")]))["unpaged_episodes"] == 0
