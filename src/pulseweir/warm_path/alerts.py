"""Step 18: the alert state machine: what happens to an alert, and when whom to tell. Pure.

``raised → notified → acknowledged → in-progress → resolved | auto-cleared | rejected``. At most one open alert a
patient and rule family: new facts update it, its priority may rise and never falls. A high one latches: it clears
only once its condition has ended and a person has acknowledged it. Backfill raises nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pulseweir.records.flag_facts import FlagFact
from pulseweir.records.identifiers import digest
from pulseweir.warm_path.alert_settings import RANK, AlertSettings

_SECOND = 1_000_000
_ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; the columns of the repository's `alert` table describe each field. Instants in microseconds."""

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
    """One message that must go out. Its key is the same when it is worked out again."""

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
        event_id = digest("alert-transition", alert.alert_id, transition, now, actor, alert.level, alert.reminders)
        self.events.append(Event(event_id, transition, now, actor, {"state": alert.state, **detail}))


def take_fact(fact: FlagFact, current: Alert | None, now: int, settings: AlertSettings) -> Step | None:
    """What the newest state of a Flag means for the patient's newest alert of its rule family; None for nothing.

    Taking the same fact twice changes nothing the second time.
    """
    known = current is not None and current.flag_id == fact.flag_id
    if current is not None and known and fact.change <= current.flag_change:
        return None
    if current is not None and current.is_open:
        if fact.status == _ACTIVE:
            return None if fact.backfill else _update(current, fact, now, settings)
        return _end(replace(current, flag_change=fact.change), now) if known else None
    if fact.backfill or fact.status == "withdrawn" or (known and fact.status != _ACTIVE):
        return None
    if _is_too_early(fact, settings) or (current is not None and known and _is_quiet(fact, current, now, settings)):
        return None
    step = _raise(fact, now, settings)
    return step if fact.status == _ACTIVE else _end(step.alert, now, step)


def advance(alert: Alert, now: int, settings: AlertSettings) -> Step | None:
    """Climb the rungs and send the reminders that are due; None when nothing is."""
    if alert.next_step_at is None or now < alert.next_step_at:
        return None
    step = Step(alert)
    if alert.suppressed_until is not None and alert.suppressed_until <= now:
        step.alert = replace(alert, suppressed_until=None, suppressed_reason=None, suppressed_by=None)
        step.note("suppression-ended", now)
    ladder = settings.ladders.get(alert.priority, ())
    while step.alert.level < len(ladder) and now >= _at(step.alert, ladder[step.alert.level].after_seconds):
        climb(step, "", now, settings)
    _remind(step, now, settings)
    step.alert = replace(step.alert, updated_at=now, next_step_at=_next_step(step.alert, now, settings))
    return step


def climb(step: Step, actor: str, now: int, settings: AlertSettings) -> Step:
    """Tell the next rung of the ladder; `actor` is who asked for it, "" for the timer."""
    alert = step.alert
    rung = settings.ladders[alert.priority][alert.level]
    level = alert.level + 1
    step.alert = replace(alert, level=level, reminders=0, updated_at=now)
    step.alert = replace(step.alert, next_step_at=_next_step(step.alert, now, settings))
    kind = "page" if level == 1 else "escalation"
    step.pages.append(Page(f"{alert.alert_id}:{alert.priority}:{kind}:{level}", kind, rung.role, level))
    step.note("paged" if level == 1 else "escalated", now, actor, level=level, role=rung.role)
    return step


def delivered(alert: Alert, now: int, channel: str) -> Step | None:
    """A channel has taken the first message; None when that is no news."""
    if alert.state != "raised":
        return None
    step = Step(replace(alert, state="notified", updated_at=now))
    step.note("notified", now, channel=channel)
    return step


def _raise(fact: FlagFact, now: int, settings: AlertSettings) -> Step:
    priority = settings.priority_of(fact.band)
    alert = Alert(
        alert_id=digest("alert", fact.patient_id, fact.rule, fact.flag_id, fact.change),
        patient_id=fact.patient_id,
        rule=fact.rule,
        flag_id=fact.flag_id,
        flag_change=fact.change,
        state="raised",
        priority=priority,
        band=fact.band,
        score=fact.score,
        reason=fact.reason,
        action=settings.actions[priority],
        ward=fact.ward,
        bed=fact.bed,
        care_team_id=fact.care_team_id,
        care_team=fact.care_team,
        raised_at=now,
        priority_since=now,
        updated_at=now,
    )
    step = Step(replace(alert, next_step_at=_next_step(alert, now, settings)))
    step.note("raised", now, priority=priority)
    return _and_advance(step, now, settings)


def _update(alert: Alert, fact: FlagFact, now: int, settings: AlertSettings) -> Step:
    priority = settings.priority_of(fact.band)
    step = Step(
        replace(
            alert,
            flag_id=fact.flag_id,
            flag_change=fact.change,
            band=fact.band,
            score=fact.score,
            reason=fact.reason,
            ward=fact.ward,
            bed=fact.bed,
            updates=alert.updates + 1,
            updated_at=now,
            ended_at=None,
        )
    )
    if alert.ended_at is not None and alert.acknowledged_at is None:
        step.alert = replace(step.alert, next_step_at=_next_step(step.alert, now, settings))
    if RANK[priority] <= RANK[alert.priority]:
        return step
    # A rise asks for fresh eyes: whoever acknowledged the lower priority has not seen this.
    risen = replace(
        step.alert,
        priority=priority,
        priority_since=now,
        action=settings.actions[priority],
        level=0,
        reminders=0,
        state="raised",
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledge_reason=None,
        suppressed_until=None,
        suppressed_reason=None,
        suppressed_by=None,
    )
    step.alert = replace(risen, next_step_at=_next_step(risen, now, settings))
    step.note("priority-raised", now, priority=priority, before=alert.priority)
    return _and_advance(step, now, settings)


def _end(alert: Alert, now: int, so_far: Step | None = None) -> Step:
    step = so_far or Step(alert)
    acknowledged = alert.acknowledged_at is not None
    step.alert = replace(
        alert, ended_at=now, updated_at=now, next_step_at=None, missed=alert.missed or not acknowledged
    )
    step.note("condition-ended", now)
    return clear(step, now) if acknowledged or alert.priority != "high" else step


def clear(step: Step, now: int) -> Step:
    """The condition is over and was seen, or asks for nobody: the alert closes by itself."""
    step.alert = replace(step.alert, state="auto-cleared", closed_at=now, next_step_at=None, updated_at=now)
    step.note("auto-cleared", now)
    return step


def _and_advance(step: Step, now: int, settings: AlertSettings) -> Step:
    further = advance(step.alert, now, settings)
    if further is None:
        return step
    return Step(further.alert, step.events + further.events, step.pages + further.pages)


def _remind(step: Step, now: int, settings: AlertSettings) -> None:
    due = _reminder_at(step.alert, settings)
    if due is None or now < due:
        return
    number = step.alert.reminders + 1
    step.alert = replace(step.alert, reminders=number)
    role = settings.ladders[step.alert.priority][-1].role
    key = f"{step.alert.alert_id}:{step.alert.priority}:reminder:{number}"
    step.pages.append(Page(key, "reminder", role, step.alert.level))
    step.note("reminded", now, number=number)


def _reminder_at(alert: Alert, settings: AlertSettings) -> int | None:
    ladder = settings.ladders.get(alert.priority, ())
    every = settings.reminder_seconds.get(alert.priority, 0)
    if not ladder or alert.level < len(ladder) or every <= 0 or alert.reminders >= settings.reminders_at_most:
        return None
    return _at(alert, ladder[-1].after_seconds + every * (alert.reminders + 1))


def _next_step(alert: Alert, now: int, settings: AlertSettings) -> int | None:
    if not alert.is_open or alert.acknowledged_at is not None:
        return None
    ladder = settings.ladders.get(alert.priority, ())
    due = _at(alert, ladder[alert.level].after_seconds) if alert.level < len(ladder) else _reminder_at(alert, settings)
    if due is not None and alert.suppressed_until is not None and alert.suppressed_until > now:
        return max(due, alert.suppressed_until)
    return due


def _at(alert: Alert, seconds: float) -> int:
    return alert.priority_since + int(seconds * _SECOND)


def _is_too_early(fact: FlagFact, settings: AlertSettings) -> bool:
    wanted = settings.on_delay_seconds.get(settings.priority_of(fact.band), 0)
    return fact.last_window_end - fact.start_at < wanted * _SECOND


def _is_quiet(fact: FlagFact, closed: Alert, now: int, settings: AlertSettings) -> bool:
    """Whether a person closed the alert of this very Flag a short while ago, and nothing is worse since."""
    recent = now - (closed.closed_at or 0) < settings.quiet_after_close_seconds * _SECOND
    return recent and RANK[settings.priority_of(fact.band)] <= RANK[closed.priority]
