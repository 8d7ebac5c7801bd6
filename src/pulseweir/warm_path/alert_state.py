"""Step 18: an alert, what happens to it, and what people were last told of it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pulseweir.records.flag_facts import FlagFact
from pulseweir.records.identifiers import digest
from pulseweir.warm_path.alert_settings import RANK, AlertSettings

SECOND = 1_000_000
KNOWN_EXPECTED = "known-expected"

UNSEEN: Mapping[str, Any] = {
    "state": "raised",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "acknowledge_reason": None,
    "claimed_at": None,
}
"""What an alert loses when it asks for fresh eyes; an owner stays named, but has it to take again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; the columns of the repository's `alert` table describe each field. Instants in microseconds.

    Attributes:
        owner: Whose it is; theirs in earnest only once `claimed_at` is set: until then it was given, not taken.
        baseline_score: Score when people were last told or last acknowledged, with `baseline_reds_json`.
        paged_at: When people were last told; grows with every message, so that no two have the same.
        ladder_since: Where the present run of the ladder counts from; None in the first run of a priority, which
            counts from `priority_since`. While acknowledged: where the wait for somebody to claim it counts from.
    """

    alert_id: str
    patient_id: str
    rule: str
    flag_id: str
    flag_change: int
    state: str
    priority: str
    band: str
    score: float | None
    reason: str
    action: str
    ward: str | None
    bed: str | None
    care_team_id: str | None
    care_team: str | None
    raised_at: int
    priority_since: int
    level: int = 0
    reminders: int = 0
    next_step_at: int | None = None
    updates: int = 0
    updated_at: int
    ended_at: int | None = None
    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    acknowledge_reason: str | None = None
    owner: str | None = None
    claimed_at: int | None = None
    closed_at: int | None = None
    outcome: str | None = None
    missed: bool = False
    suppressed_until: int | None = None
    suppressed_reason: str | None = None
    suppressed_by: str | None = None
    kind: str = "clinical"
    device_id: str | None = None
    reds_json: str = "[]"
    baseline_score: float | None = None
    baseline_reds_json: str = "[]"
    paged_at: int | None = None
    ladder_since: int | None = None
    suppressed_seconds: float = 0.0
    delivery: str = ""
    delivered_at: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything can still be done to it."""
        return self.closed_at is None

    @property
    def is_acknowledged(self) -> bool:
        """Whether a person has seen it as it is."""
        return self.acknowledged_at is not None

    @property
    def is_expected(self) -> bool:
        """Whether a person said that the condition is known and expected."""
        return self.is_acknowledged and self.acknowledge_reason == KNOWN_EXPECTED

    @property
    def is_latched(self) -> bool:
        """Whether the condition of a high alert is over and nobody has seen it."""
        return self.is_open and self.ended_at is not None and self.priority == "high" and not self.is_acknowledged


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `event_id` is the same when it is worked out again."""

    event_id: str
    transition: str
    occurred_at: int
    actor: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Page:
    """One message that must go out. Its key is the same when it is worked out again, and no other message's."""

    key: str
    kind: str
    role: str
    level: int


@dataclass(slots=True)
class Step:
    """An alert after something happened, what happened, and the messages that follow."""

    alert: Alert
    events: list[Event] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def note(self, transition: str, now: int, actor: str = "", **detail: object) -> None:
        """Add an event about the alert as it is now."""
        alert = self.alert
        told_of = msgspec.json.encode(detail).decode()
        parts = (alert.alert_id, transition, now, actor, alert.level, alert.reminders, alert.updates, told_of)
        event_id = digest("alert-transition", *parts)
        self.events.append(Event(event_id, transition, now, actor, {"state": alert.state, **detail}))

    def page(self, kind: str, role: str, now: int) -> None:
        """Send a message to a role; what it says is from now on what people were last told.

        While a ladder is climbed the rungs are told of one thing: a score that swings must not begin it anew.
        """
        before = self.alert
        alert = replace(before, paged_at=max(now, (before.paged_at or 0) + 1), updated_at=now)
        alert = told(alert) if kind == "reminder" else _told_the_worst(alert)
        number = alert.reminders if kind == "reminder" else alert.level
        run = "" if alert.ladder_since is None else f":{alert.paged_at}"
        self.alert = alert
        key = f"{alert.alert_id}:{alert.priority}:{kind}:{number}{run}"
        self.pages.append(Page(key, kind, role, alert.level))

    def then(self, further: "Step | None") -> "Step":
        """This step followed by one that began where it ends."""
        if further is None:
            return self
        return Step(further.alert, self.events + further.events, self.pages + further.pages)


UNKNOWN_NAMES = "null"
"""What stands for names that an older release did not keep."""


def names_in(text: str) -> frozenset[str] | None:
    """The names in a JSON list; None where they are not known."""
    names = msgspec.json.decode(text, type=list[str] | None)
    return None if names is None else frozenset(names)


def names_json(names: Iterable[str] | None) -> str:
    """Names as a JSON list, in order.

    >>> names_json({"spo2", "pulse"}), names_json(None)
    ('["pulse","spo2"]', 'null')
    """
    return UNKNOWN_NAMES if names is None else msgspec.json.encode(sorted(names)).decode()


def told(alert: Alert) -> Alert:
    """The alert after somebody was told of it, or saw it, as it is now."""
    return replace(alert, baseline_score=alert.score, baseline_reds_json=alert.reds_json)


def _told_the_worst(alert: Alert) -> Alert:
    scores = [score for score in (alert.baseline_score, alert.score) if score is not None]
    before, reds = names_in(alert.baseline_reds_json), names_in(alert.reds_json)
    both = None if before is None or reds is None else before | reds
    return replace(alert, baseline_score=max(scores, default=None), baseline_reds_json=names_json(both))


def with_baseline(alert: Alert, fact: FlagFact) -> Alert:
    """The alert with what people were told, where an older release did not keep it: its score, and the reds of now.

    Reds that were not known are no news when they become known: nobody is paged for an upgrade.
    """
    if alert.baseline_reds_json != UNKNOWN_NAMES:
        return alert
    score = alert.score if alert.baseline_score is None else alert.baseline_score
    return replace(alert, baseline_score=score, baseline_reds_json=names_json(fact.reds))


def is_worse(alert: Alert, fact: FlagFact, settings: AlertSettings) -> bool:
    """Whether a fact says more than people were last told: more points, a new single 3, or a higher priority."""
    if RANK[settings.priority_of(fact.band)] > RANK[alert.priority]:
        return True
    before = names_in(alert.baseline_reds_json)
    if before is not None and frozenset(fact.reds or ()) - before:
        return True
    if fact.score is None or alert.baseline_score is None:
        return False
    return fact.score >= alert.baseline_score + settings.worse_by_points


def unsuppressed(alert: Alert, now: int) -> Alert:
    """The alert with its messages held back no longer; time that was not used goes back to the budget."""
    if alert.suppressed_until is None:
        return alert
    unused = max(0, alert.suppressed_until - now) / SECOND
    return replace(
        alert,
        suppressed_until=None,
        suppressed_reason=None,
        suppressed_by=None,
        suppressed_seconds=max(0.0, alert.suppressed_seconds - unused),
    )
