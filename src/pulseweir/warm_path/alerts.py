"""Step 18: the alert state machine: what a Flag, a delivery, a move and a change of staff mean for an alert. Pure.

``raised → notified → acknowledged → in-progress → resolved | auto-cleared | rejected``. At most one open alert a
patient and rule family: new facts update it, its priority may rise and never falls. What is worse than people were
last told pages again, whatever was done before; a new episode does after the cooldown. A condition that is over keeps
its alert open for a while; a high one until a person has acknowledged it. Backfill raises nothing.
"""

from dataclasses import replace

from pulseweir.records.flag_facts import FlagFact
from pulseweir.records.identifiers import digest
from pulseweir.warm_path.alert_delivery import delivered
from pulseweir.warm_path.alert_settings import RANK, AlertSettings
from pulseweir.warm_path.alert_state import (
    SECOND,
    UNSEEN,
    Alert,
    Event,
    Page,
    Step,
    is_worse,
    names_json,
    told,
    unsuppressed,
    with_baseline,
)
from pulseweir.warm_path.alert_timers import advance, after_pause, clear, next_step, page_again, timed

__all__ = [
    "Alert",
    "Event",
    "Page",
    "Step",
    "advance",
    "clear",
    "delivered",
    "moved",
    "rewound",
    "still_present",
    "take_fact",
    "unassigned",
]

_ACTIVE, _WITHDRAWN = "active", "withdrawn"


def take_fact(
    fact: FlagFact, current: Alert | None, now: int, settings: AlertSettings, *, goes_on: bool = False
) -> Step | None:
    """What the newest state of a Flag means for the patient's newest alert of its rule family; None for nothing.

    Taking the same fact twice changes nothing the second time. `goes_on` says that another Flag begins where the
    alert's own ends, as with a Flag for every window: that is no new episode.
    """
    if current is None:
        return _first(fact, now, settings)
    known = current.flag_id == fact.flag_id
    if known and fact.change <= current.flag_change:
        return None
    if not current.is_open:
        return _after_close(fact, current, now, settings)
    if fact.status == _ACTIVE:
        return None if fact.backfill else _update(current, fact, now, settings, goes_on=goes_on)
    return _end(Step(current), fact, now, settings) if known else None


def moved(
    alert: Alert, now: int, *, ward: str, bed: str | None, care_team_id: str | None, care_team: str | None
) -> Step | None:
    """The patient of an open alert is elsewhere, or another team answers: the next message goes there."""
    placed = replace(alert, ward=ward, bed=bed, care_team_id=care_team_id, care_team=care_team)
    if placed == alert or not alert.is_open:
        return None
    step = Step(replace(placed, updated_at=now))
    before = {"ward": alert.ward, "bed": alert.bed, "care_team": alert.care_team}
    step.note("moved", now, ward=ward, bed=bed, care_team=care_team, before=before)
    return step


def unassigned(alert: Alert, now: int, settings: AlertSettings) -> Step | None:
    """Whoever had the alert may no longer act on it: it is nobody's again, and reminded of. None: it was nobody's."""
    if alert.owner is None or not alert.is_open:
        return None
    state = "acknowledged" if alert.is_acknowledged else alert.state
    since = now if alert.is_acknowledged else alert.ladder_since
    freed = replace(alert, owner=None, claimed_at=None, state=state, ladder_since=since, updated_at=now)
    step = Step(freed)
    step.note("unassigned", now, owner=alert.owner)
    return timed(step, settings)


def rewound(alert: Alert, settings: AlertSettings) -> Step | None:
    """An alert whose next step does not follow from its state: of an older release, or of other settings."""
    return None if next_step(alert, settings) == alert.next_step_at else timed(Step(alert), settings)


def still_present(fact: FlagFact, closed: Alert, now: int, settings: AlertSettings) -> Step | None:
    """A new alert for a condition that outlasts the quiet after a person closed its alert, though no new fact came."""
    closed_at = closed.closed_at
    if closed_at is None or fact.status != _ACTIVE or now - closed_at < settings.quiet_after_close_seconds * SECOND:
        return None
    if fact.backfill or _is_too_early(fact, settings):
        return None
    return _raise(fact, now, settings, alert_id=digest("alert", "still-present", closed.alert_id))


def _first(fact: FlagFact, now: int, settings: AlertSettings) -> Step | None:
    if fact.backfill or fact.status == _WITHDRAWN or _is_too_early(fact, settings):
        return None
    step = _raise(fact, now, settings)
    return step if fact.status == _ACTIVE else _end(step, fact, now, settings)


def _after_close(fact: FlagFact, closed: Alert, now: int, settings: AlertSettings) -> Step | None:
    """A fact about a patient whose alert is closed: silence, the same alert again, or a new one."""
    over = closed.flag_id == fact.flag_id and fact.status != _ACTIVE
    if over or fact.backfill or fact.status == _WITHDRAWN:
        return None
    before = with_baseline(closed, fact)
    worse = is_worse(before, fact, settings)
    if closed.state != "auto-cleared":
        since_close = now - (closed.closed_at or 0)
        quiet = since_close < settings.quiet_after_close_seconds * SECOND and not worse
        return None if quiet else _first(fact, now, settings)
    recent = closed.paged_at is not None and now - closed.paged_at < settings.cooldown_seconds * SECOND
    quieted = recent or _is_expected_still(closed, now, settings)
    return _reopen(before, fact, now, settings) if quieted and not worse else _first(fact, now, settings)


def _raise(fact: FlagFact, now: int, settings: AlertSettings, *, alert_id: str = "") -> Step:
    priority = settings.priority_of(fact.band)
    alert = Alert(
        alert_id=alert_id or digest("alert", fact.patient_id, fact.rule, fact.flag_id, fact.change),
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
        reds_json=names_json(fact.reds),
    )
    step = timed(Step(told(alert)), settings)
    step.note("raised", now, priority=priority)
    return step.then(advance(step.alert, now, settings))


def _update(current: Alert, fact: FlagFact, now: int, settings: AlertSettings, *, goes_on: bool = False) -> Step:
    before = with_baseline(current, fact)
    worse = is_worse(before, fact, settings)
    another = before.ended_at is not None or (before.flag_id != fact.flag_id and not goes_on)
    step = Step(_with_fact(before, fact, now))
    if before.ended_at is not None:
        step.note("condition-returned", now)
        step.alert = after_pause(step.alert, now - before.ended_at, settings)
    if RANK[settings.priority_of(fact.band)] > RANK[before.priority]:
        return _raise_priority(step, before, settings.priority_of(fact.band), now, settings)
    if worse:
        step.alert = unsuppressed(step.alert, now)
        step.note("worsened", now, before=before.baseline_score, score=fact.score, reds=sorted(fact.reds or ()))
        return page_again(step, now, settings)
    if another and not before.is_expected and _is_cool(before, now, settings):
        step.note("new-episode", now)
        return page_again(step, now, settings)
    return timed(step, settings)


def _with_fact(alert: Alert, fact: FlagFact, now: int) -> Alert:
    """The alert as a fact tells it; a patient nobody can place stays where the alert was."""
    told_place = fact.ward is not None
    return replace(
        alert,
        flag_id=fact.flag_id,
        flag_change=fact.change,
        band=fact.band,
        score=fact.score,
        reason=fact.reason,
        reds_json=names_json(fact.reds),
        ward=fact.ward if told_place else alert.ward,
        bed=fact.bed if told_place else alert.bed,
        care_team_id=fact.care_team_id if told_place else alert.care_team_id,
        care_team=fact.care_team if told_place else alert.care_team,
        updates=alert.updates + 1,
        updated_at=now,
        ended_at=None,
        missed=alert.missed and alert.ended_at is None,
    )


def _raise_priority(step: Step, before: Alert, priority: str, now: int, settings: AlertSettings) -> Step:
    """Ask for fresh eyes: whoever acknowledged the lower priority has not seen this."""
    step.alert = replace(
        unsuppressed(step.alert, now),
        **UNSEEN,
        priority=priority,
        priority_since=now,
        action=settings.actions[priority],
        level=0,
        reminders=0,
        ladder_since=None,
    )
    step.note("priority-raised", now, priority=priority, before=before.priority)
    return timed(step, settings).then(advance(step.alert, now, settings))


def _end(step: Step, fact: FlagFact, now: int, settings: AlertSettings) -> Step:
    """The condition is over, or was never there by what is known now: the alert waits whether it stays so."""
    alert = step.alert
    if alert.ended_at is not None:
        step.alert = replace(alert, flag_change=fact.change)
        return timed(step, settings)
    missed = alert.missed or (alert.priority == "high" and not alert.is_acknowledged)
    step.alert = replace(alert, flag_change=fact.change, ended_at=now, updated_at=now, missed=missed)
    step.note("flag-withdrawn" if fact.status == _WITHDRAWN else "condition-ended", now)
    return timed(step, settings).then(advance(step.alert, now, settings))


def _reopen(closed: Alert, fact: FlagFact, now: int, settings: AlertSettings) -> Step:
    """What closed by itself a short while ago goes on: too soon to page again, too present to be forgotten."""
    state = "raised"
    if closed.is_acknowledged:
        state = "acknowledged" if closed.claimed_at is None else "in-progress"
    step = Step(replace(closed, state=state, closed_at=None))
    step.note("reopened", now)
    step = step.then(_update(step.alert, fact, now, settings))
    return step if fact.status == _ACTIVE else _end(step, fact, now, settings)


def _is_expected_still(alert: Alert, now: int, settings: AlertSettings) -> bool:
    """Whether what a person called known and expected is so yet, though the alert has closed by itself meanwhile."""
    since = alert.acknowledged_at
    return alert.is_expected and since is not None and now - since < settings.expected_for_seconds * SECOND


def _is_cool(alert: Alert, now: int, settings: AlertSettings) -> bool:
    """Whether the last message, or the last look, is long enough ago for the next."""
    last = alert.paged_at or alert.acknowledged_at or alert.priority_since
    return now - last >= settings.cooldown_seconds * SECOND


def _is_too_early(fact: FlagFact, settings: AlertSettings) -> bool:
    wanted = settings.on_delay_seconds.get(settings.priority_of(fact.band), 0)
    return fact.last_window_end - fact.start_at < wanted * SECOND
