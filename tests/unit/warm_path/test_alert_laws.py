"""Step 18: what holds of alerts whatever comes: facts, people, time, in any order."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pulseweir.errors import AlertCommandRefused
from pulseweir.records.flag_facts import FlagFact
from pulseweir.warm_path import alert_commands
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alerts import Alert, Step, advance, delivered, moved, rewound, take_fact, unassigned

SECOND = 1_000_000
SETTINGS = AlertSettings()
CLOSED = ("resolved", "auto-cleared", "rejected")
SCORES = {"low": (0, 4), "low-medium": (3, 4), "medium": (5, 6), "high": (7, 20)}
REDS = ("spo2", "pulse", "respiratory_rate")


class Alerts(RuleBasedStateMachine):
    """One patient and rule: every alert there was, and every message that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000 * SECOND
        self.alerts: dict[str, Alert] = {}
        self.current: Alert | None = None
        self.keys: list[str] = []
        self.events: list[str] = []
        self.present = False
        self.flag, self.change = 0, 0
        self.last: FlagFact | None = None

    def apply(self, step: Step | None) -> None:
        if step is None:
            return
        if self.current is not None and self.current.is_open:
            assert step.alert.alert_id == self.current.alert_id
        self.current = step.alert
        self.alerts[step.alert.alert_id] = step.alert
        self.keys += [page.key for page in step.pages]
        self.events += [event.event_id for event in step.events]

    def fact(self, status: str, band: str, points: int, reds: list[str] | None) -> FlagFact:
        low, high = SCORES[band]
        self.change += 1
        facts: dict[str, Any] = {
            "flag_id": f"f{self.flag}",
            "patient_id": "p1",
            "rule": "news2",
            "change": self.change,
            "status": status,
            "band": band,
            "score": float(min(high, low + points)),
            "backfill": False,
            "reason": "NEWS2",
            "start_at": self.now,
            "last_window_end": self.now,
            "end_at": None if status == "active" else self.now,
            "ward": "Ward A",
            "bed": None,
            "care_team_id": None,
            "care_team": None,
            "reds": reds,
        }
        return FlagFact(**facts)

    @rule(
        seconds=st.integers(0, 3_000),
        new_episode=st.booleans(),
        band=st.sampled_from(["low-medium", "medium", "high"]),
        points=st.integers(0, 13),
        reds=st.none() | st.lists(st.sampled_from(REDS), unique=True),
    )
    def outside(self, seconds: int, new_episode: bool, band: str, points: int, reds: list[str] | None) -> None:
        self.wait(seconds)
        if new_episode and not self.present:
            self.flag += 1
        self.present = True
        self.last = self.fact("active", band, points, reds)
        self.apply(take_fact(self.last, self.current, self.now, SETTINGS))
        assert self.current is not None

    @rule(seconds=st.integers(0, 300), status=st.sampled_from(["inactive", "withdrawn"]))
    def inside(self, seconds: int, status: str) -> None:
        self.wait(seconds)
        if self.last is not None:
            self.present = False
            self.last = self.fact(status, "medium", 0, [])
            self.apply(take_fact(self.last, self.current, self.now, SETTINGS))

    @rule()
    def the_same_fact_again(self) -> None:
        if self.last is not None and self.current is not None and self.current.flag_change >= self.last.change:
            assert take_fact(self.last, self.current, self.now, SETTINGS) is None

    @rule(seconds=st.integers(1, 100_000))
    def wait(self, seconds: int) -> None:
        end = self.now + seconds * SECOND
        while self.current is not None and self.current.next_step_at is not None and self.current.next_step_at <= end:
            due = self.current.next_step_at
            self.now = max(self.now, due)
            self.apply(advance(self.current, self.now, SETTINGS))
            assert self.current.next_step_at is None or self.current.next_step_at > due
        self.now = end

    @rule(
        command=st.sampled_from(
            ["acknowledge", "claim", "assign", "escalate", "resolve", "reject", "suppress", "note"]
        ),
        reason=st.sampled_from(SETTINGS.acknowledge_reasons),
        user=st.sampled_from(["ann", "bob"]),
        seconds=st.integers(1, 130),
    )
    def act(self, command: str, reason: str, user: str, seconds: int) -> None:
        if self.current is None:
            return
        alert, now = self.current, self.now
        deeds: dict[str, Callable[[], Step | None]] = {
            "acknowledge": lambda: alert_commands.acknowledge(alert, user, reason, now, SETTINGS),
            "claim": lambda: alert_commands.claim(alert, user, now, SETTINGS),
            "assign": lambda: alert_commands.assign(alert, "cai", user, now, SETTINGS),
            "escalate": lambda: alert_commands.escalate(alert, user, now, SETTINGS),
            "resolve": lambda: alert_commands.resolve(alert, reason, user, now),
            "reject": lambda: alert_commands.resolve(alert, reason, user, now, rejected=True),
            "suppress": lambda: alert_commands.suppress(alert, seconds, reason, user, now, SETTINGS),
            "note": lambda: alert_commands.add_note(alert, reason, user, now),
        }
        self.now += 1
        with suppress(AlertCommandRefused):
            self.apply(deeds[command]())

    @rule(ward=st.sampled_from(["Ward A", "Ward B"]))
    def elsewhere(self, ward: str) -> None:
        self.now += 1
        if self.current is not None:
            self.apply(moved(self.current, self.now, ward=ward, bed=None, care_team_id=None, care_team=ward))
            self.apply(unassigned(self.current, self.now, SETTINGS))

    @rule()
    def reached(self) -> None:
        if self.current is not None:
            self.apply(delivered(self.current, self.now, "teams"))

    @invariant()
    def what_is_high_present_and_unseen_has_a_next_step(self) -> None:
        alert = self.current
        if alert is not None and alert.is_open and alert.priority == "high" and not alert.is_acknowledged:
            assert alert.ended_at is not None or alert.next_step_at is not None

    @invariant()
    def what_is_seen_and_left_alone_at_high_has_a_next_step(self) -> None:
        alert = self.current
        if alert is not None and alert.is_open and alert.priority == "high" and alert.claimed_at is None:
            assert alert.is_latched or alert.next_step_at is not None

    @invariant()
    def what_is_present_is_never_forgotten(self) -> None:
        alert = self.current
        if self.present and alert is not None and not alert.is_open:
            assert alert.state in ("resolved", "rejected")

    @invariant()
    def no_message_is_sent_twice(self) -> None:
        assert len(self.keys) == len(set(self.keys))
        assert len(self.events) == len(set(self.events))

    @invariant()
    def every_suppression_ends_and_stays_within_its_budget(self) -> None:
        for alert in self.alerts.values():
            if alert.suppressed_until is not None:
                assert alert.is_open
                assert alert.next_step_at is not None
                assert alert.suppressed_until <= self.now + 14_400 * SECOND
            assert 0 <= alert.suppressed_seconds <= SETTINGS.suppress_budget_seconds["low"]

    @invariant()
    def the_next_step_follows_from_the_state(self) -> None:
        for alert in self.alerts.values():
            assert rewound(alert, SETTINGS) is None
            assert alert.is_open == (alert.state not in CLOSED)
            assert alert.is_open or alert.next_step_at is None


Alerts.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAlerts = Alerts.TestCase
