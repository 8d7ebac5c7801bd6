"""Step 10: silent, frozen, impossible and clock-ahead devices, in event time."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading, patient_measurements
from pulseweir.records.signal_facts import SIGNAL_CLOSED, SIGNAL_OPENED, SignalFact
from pulseweir.scoring import device_signals
from pulseweir.scoring.device_intake import Key, take
from pulseweir.scoring.device_kinds import EITHER, DeviceKind
from pulseweir.scoring.device_record import DeviceRecord
from pulseweir.scoring.device_signals import World
from pulseweir.scoring.signal_settings import SignalSettings

MONITOR = DeviceKind("continuous", 60)
CUFF = DeviceKind("spot-check")
VITALS = {"heart_rate": 78.0, "respiratory_rate": 16.0, "spo2": 96.0}
KEY = ("ann", "monitor-ann")


def monitor(minutes: Iterable[int], values: dict[str, Any] | None = None, **other: Any) -> list[Reading]:
    """A set a minute; values move a little unless given."""
    return [
        Reading(vital, value if values else value + at % 3, at * MINUTE, device="monitor-ann", **other)
        for at in minutes
        for vital, value in (values or VITALS).items()
    ]


class Watched:
    """Devices whose readings come as they are received, judged every half minute."""

    def __init__(self, kind: DeviceKind = MONITOR, present: bool | None = True, **options: Any) -> None:
        self.records: dict[Key, DeviceRecord] = {}
        self.kind, self.present = kind, present
        self.settings = SignalSettings(**options)
        self.facts: list[tuple[str, SignalFact]] = []
        self._now = 0

    def play(self, readings: Sequence[Reading], until: int) -> list[tuple[int, str, str]]:
        """Take what is received by each half minute until `until` (minutes); (minute, transition, signal) of each."""
        waiting = sorted(readings, key=self._received)
        while self._now <= until * MINUTE:
            due = [one for one in waiting if self._received(one) <= self._now]
            waiting = waiting[len(due) :]
            if due:
                take(self.records, patient_measurements(due), backfill_after_seconds=900)
            self._judge()
            self._now += 30 * SECOND
        return self.story()

    def story(self) -> list[tuple[int, str, str]]:
        return [((fact.at - NOON) // MINUTE, transition, fact.signal) for transition, fact in self.facts]

    def open(self) -> list[str]:
        return [name for record in self.records.values() for name, one in record.signals.items() if one.active]

    def _judge(self) -> None:
        now = (NOON + self._now) // SECOND
        self.facts += device_signals.forget(self.records, now)
        for key, record in self.records.items():
            world = World(self.kind, self.present, 0)
            self.facts += device_signals.judge(key, record, world, now, self.settings)

    @staticmethod
    def _received(one: Reading) -> int:
        return one.at + SECOND if one.received is None else one.received


def test_zeros_for_an_hour_are_impossible_after_five_minutes_and_over_once_it_measures_again() -> None:
    zeros = monitor(range(5, 65), dict.fromkeys(VITALS, 0.0))
    watched = Watched()

    story = watched.play([*monitor(range(5)), *zeros, *monitor(range(65, 75))], 75)

    assert story == [(10, SIGNAL_OPENED, "impossible"), (67, SIGNAL_CLOSED, "impossible")]
    [(_, opened), _] = watched.facts
    assert opened.vitals == ["heart_rate", "respiratory_rate", "spo2"]
    assert opened.since == NOON + 5 * MINUTE
    assert opened.last_good_at == NOON + 4 * MINUTE


@pytest.mark.parametrize("value", [0, -1, 999, None])
def test_one_impossible_vital_among_good_ones_is_named(value: float | None) -> None:
    readings = monitor(range(20), {"heart_rate": value}) + [
        Reading("spo2", 96.0 + at % 2, at * MINUTE, device="monitor-ann") for at in range(20)
    ]
    watched = Watched()

    watched.play(readings, 20)

    [(_, opened)] = watched.facts
    assert (opened.signal, opened.vitals) == ("impossible", ["heart_rate"])


def test_valid_and_invalid_in_turns_raise_one_alert_not_one_a_turn() -> None:
    readings = [
        Reading("heart_rate", 0.0 if at % 2 else 80.0 + at % 3, at * MINUTE, device="monitor-ann") for at in range(180)
    ]
    watched = Watched()

    story = watched.play(readings, 180)

    assert [one[1:] for one in story] == [(SIGNAL_OPENED, "impossible")]


def test_now_and_then_a_zero_is_no_fault() -> None:
    readings = monitor(range(120)) + [
        Reading("heart_rate", 0.0, at * MINUTE + 7 * SECOND, device="monitor-ann") for at in range(0, 120, 2)
    ]

    assert Watched().play(readings, 120) == []


def test_a_monitor_that_stops_is_silent_and_back_once_it_has_spoken_for_two_minutes() -> None:
    watched = Watched()

    story = watched.play([*monitor(range(10)), *monitor(range(30, 40))], 40)

    assert story == [(14, SIGNAL_OPENED, "silent"), (32, SIGNAL_CLOSED, "silent")]
    assert watched.facts[0][1].since == NOON + 9 * MINUTE


@pytest.mark.parametrize(
    ("kind", "every", "silent"),
    [
        (CUFF, 15, False),
        (CUFF, 1, False),
        (DeviceKind("continuous", 300), 5, True),
        (EITHER, 1, True),
        (EITHER, 15, False),
        (EITHER, 240, False),
    ],
)
def test_silence_counts_against_the_interval_the_kind_keeps(kind: DeviceKind, every: int, *, silent: bool) -> None:
    watched = Watched(kind)

    story = watched.play(monitor(range(0, 40 * every, every)), 40 * every + 60)

    assert [one[1:] for one in story] == ([(SIGNAL_OPENED, "silent")] if silent else [])


def test_a_monitor_charted_by_the_hour_is_not_silent_in_between() -> None:
    watched = Watched()

    story = watched.play(monitor(range(0, 24 * 60, 60)), 24 * 60)

    # Before it has shown its habit, each gap counts; never once it has.
    assert story == [(5, SIGNAL_OPENED, "silent"), (300, SIGNAL_CLOSED, "silent")]


def test_a_released_or_discharged_patients_monitor_raises_none_and_ends_what_was_open() -> None:
    absent = Watched(present=False)
    assert absent.play(monitor(range(10)), 60) == []

    watched = Watched()
    watched.play(monitor(range(10)), 20)
    watched.present = False
    assert watched.play([], 25)[-1][1:] == (SIGNAL_CLOSED, "silent")


def test_silence_waits_while_nobody_can_say_whether_the_patient_is_here() -> None:
    watched = Watched(present=None)
    assert watched.play(monitor(range(10)), 30) == []

    watched.present = True
    assert watched.play([], 31)[0][1:] == (SIGNAL_OPENED, "silent")


def test_a_backlog_neither_raises_nor_ends_anything() -> None:
    old = monitor(range(0, 60), received=120 * MINUTE)
    assert Watched().play(old, 200) == []

    watched = Watched()
    watched.play([*monitor(range(10)), *monitor(range(10, 100), received=120 * MINUTE)], 180)
    assert watched.open() == ["silent"]


def test_a_wholly_frozen_monitor_is_named_after_half_an_hour() -> None:
    watched = Watched()

    story = watched.play([*monitor(range(10)), *monitor(range(10, 90), VITALS), *monitor(range(90, 95))], 95)

    assert [one[1:] for one in story] == [(SIGNAL_OPENED, "frozen"), (SIGNAL_CLOSED, "frozen")]
    assert 40 <= story[0][0] <= 46
    assert watched.facts[0][1].vitals == ["heart_rate", "respiratory_rate", "spo2"]


@pytest.mark.parametrize(
    "values",
    [
        {"heart_rate": 78.0},  # one alone: the score marks it
        {"temperature": 37.0, "fio2": 40.0, "oxygen_flow": 2.0},  # slow or set by hand
        {"spo2": 100.0, "heart_rate": 70.0},  # a paced patient on oxygen
    ],
)
def test_values_that_stand_still_honestly_are_no_frozen_monitor(values: dict[str, float]) -> None:
    assert Watched().play(monitor(range(120), values), 120) == []


def test_one_vital_that_moves_shows_that_the_monitor_lives() -> None:
    moving = [Reading("systolic_bp", 120.0 + at % 4, at * MINUTE, device="monitor-ann") for at in range(120)]

    assert Watched().play([*monitor(range(120), VITALS), *moving], 120) == []


@pytest.mark.parametrize("ahead", [8, 120, 330])
def test_a_clock_always_ahead_is_named_once_and_is_neither_silent_nor_frozen(ahead: int) -> None:
    readings = [
        Reading(vital, value, (at + ahead) * MINUTE, device="monitor-ann", received=at * MINUTE)
        for at in range(90)
        for vital, value in VITALS.items()
    ]
    watched = Watched()

    story = watched.play(readings, 90)

    assert story == [(5, SIGNAL_OPENED, "clock-ahead")]
    assert watched.facts[0][1].skew_seconds == ahead * 60


def test_a_clock_that_was_set_right_ends_it_and_one_a_little_ahead_is_none() -> None:
    ahead = monitor(range(60, 80))
    early = [Reading(one.vital, one.value, one.at, device="monitor-ann", received=one.at - HOUR) for one in ahead]
    watched = Watched()
    story = watched.play([*early, *monitor(range(20, 60))], 60)
    assert story == [(5, SIGNAL_OPENED, "clock-ahead"), (22, SIGNAL_CLOSED, "clock-ahead")]

    near = [Reading("heart_rate", 80.0 + at % 3, at * MINUTE, received=at * MINUTE - 4 * MINUTE) for at in range(5, 60)]
    assert Watched().play(near, 55) == []


def test_one_set_charted_ahead_of_its_time_is_named_until_its_time_has_come() -> None:
    charted = [Reading("heart_rate", 120.0, 8 * MINUTE, device="clerk", received=0)]

    story = Watched(CUFF).play(charted, 30)

    assert story == [(5, SIGNAL_OPENED, "clock-ahead"), (8, SIGNAL_CLOSED, "clock-ahead")]


@pytest.mark.parametrize("signal", ["silent", "impossible", "frozen", "clock_ahead"])
def test_each_signal_has_a_switch(signal: str) -> None:
    readings = {
        "silent": monitor(range(10)),
        "impossible": monitor(range(60), dict.fromkeys(VITALS, 0.0)),
        "frozen": monitor(range(60), VITALS),
        "clock_ahead": [Reading("heart_rate", 80.0, at * MINUTE + HOUR, received=at * MINUTE) for at in range(60)],
    }[signal]
    assert Watched().play(readings, 59) != []
    off: dict[str, Any] = {signal: False}
    assert Watched(**off).play(readings, 59) == []


def test_a_patient_who_got_another_ones_device_has_a_record_of_their_own() -> None:
    watched = Watched()
    watched.play([*monitor(range(10)), *monitor(range(10, 20), patient="bob")], 20)

    assert sorted(watched.records) == [KEY, ("bob", "monitor-ann")]
    assert [(fact.patient_id, fact.signal) for _, fact in watched.facts] == [("ann", "silent")]


def test_a_device_not_heard_of_for_a_day_is_forgotten_and_what_was_open_ends() -> None:
    watched = Watched()
    watched.play(monitor(range(10)), 60)
    watched._now = 25 * HOUR  # noqa: SLF001 - a day passes
    story = watched.play([], 25 * 60)

    assert story[-1][1:] == (SIGNAL_CLOSED, "silent")
    assert watched.records == {}


def test_a_flapping_device_must_be_well_for_longer_each_time() -> None:
    readings = [one for start in range(0, 300, 10) for one in monitor(range(start, start + 4))]

    closed = [at for at, transition, _ in Watched().play(readings, 300) if transition == SIGNAL_CLOSED]

    assert len(closed) <= 3  # noqa: PLR2004 - thirty gaps, and not thirty alerts


READINGS = st.lists(
    st.builds(
        lambda vital, value, at, late: Reading(
            vital, float(value), at * 20 * SECOND, device="monitor-ann", received=at * 20 * SECOND + late * SECOND
        ),
        st.sampled_from(sorted(VITALS)),
        st.sampled_from([0, 70, 80, 999]),
        st.integers(0, 40),
        st.sampled_from([-600, 0, 1, 30, 2_000]),
    ),
    min_size=1,
    max_size=40,
)


def taken(batches: Sequence[Sequence[Reading]]) -> list[Any]:
    records: dict[Key, DeviceRecord] = {}
    for batch in batches:
        take(records, patient_measurements(batch), backfill_after_seconds=900)
        records = device_signals.from_bytes(device_signals.to_bytes(records.items()))
    now = (NOON + HOUR) // SECOND
    world = World(MONITOR, True, 0)
    return [
        (key, device_signals.faults(record, world, now, SignalSettings()), device_signals.heard(key, record, now))
        for key, record in sorted(records.items())
    ]


@given(READINGS, st.randoms(use_true_random=False), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_order_repetition_cuts_and_restarts_change_nothing(
    readings: list[Reading], shuffled: random.Random, pieces: int
) -> None:
    again = [*readings, *readings[::2]]
    shuffled.shuffle(again)
    cuts = [again[place::pieces] for place in range(pieces)]

    assert taken([cut for cut in cuts if cut]) == taken([readings])


def test_rows_that_only_renew_a_context_are_no_readings() -> None:
    table = patient_measurements([Reading("heart_rate", None, 0, type="patient-context")])
    assert take({}, table, backfill_after_seconds=900) == set()
    assert take({}, pa.concat_tables([table, table]), backfill_after_seconds=900) == set()
