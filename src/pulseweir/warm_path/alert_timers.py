"""Step 18: what falls due by itself: rungs, reminders, the ends of suppressions and of acknowledgements, closing. Pure.

`next_step` says when something falls due, `advance` does what is due. An alert whose condition is present and which
nobody has acknowledged always has a next step, as long as its priority has a ladder.
"""

from dataclasses import replace

from pulseweir.warm_path.alert_settings import AlertSettings, Rung
from pulseweir.warm_path.alert_state import SECOND, UNSEEN, Alert, Step, told, unsuppressed

_MOST_DOUBLINGS = 30


def next_step(alert: Alert, settings: AlertSettings) -> int | None:
    """When something falls due; None when nothing will.

    While messages are held back nothing but the closing falls due before the suppression ends.
    """
    if not alert.is_open:
        return None
    held = alert.suppressed_until
    if alert.ended_at is not None:
        closing = None if alert.is_latched else alert.ended_at + _microseconds(settings.clear_after_seconds)
        return min((at for at in (closing, held) if at is not None), default=None)
    due = _seen_due(alert, settings) if alert.is_acknowledged else _ladder_due(alert, settings)
    if held is None:
        return due
    return held if due is None else max(held, due)


def timed(step: Step, settings: AlertSettings) -> Step:
    """The step with the instant at which its alert must be looked at next."""
    step.alert = replace(step.alert, next_step_at=next_step(step.alert, settings))
    return step


def advance(alert: Alert, now: int, settings: AlertSettings) -> Step | None:
    """Do what is due; None when nothing is."""
    if not alert.is_open or alert.next_step_at is None or now < alert.next_step_at:
        return None
    step = Step(alert)
    if alert.suppressed_until is not None and alert.suppressed_until <= now:
        step.alert = unsuppressed(alert, now)
        step.note("suppression-ended", now)
    if step.alert.ended_at is not None:
        _clear_when_over(step, now, settings)
    elif step.alert.suppressed_until is not None:
        pass
    elif step.alert.is_acknowledged:
        _follow_up(step, now, settings)
    else:
        _climb_what_is_due(step, now, settings)
    step.alert = replace(step.alert, updated_at=now)
    return timed(step, settings)


def page_again(step: Step, now: int, settings: AlertSettings) -> Step:
    """Ask for fresh eyes: whatever was done before, the ladder begins anew, at once unless messages are held back.

    A ladder that is being climbed is not set back: its first rung is told again, the others come when they were due.
    """
    alert = told(step.alert)
    rungs = _rungs(alert, settings)
    climbing = not alert.is_acknowledged and 0 < alert.level < len(rungs) and alert.suppressed_until is None
    since = max(now, _ladder_since(alert) + 1)
    step.alert = replace(alert, **UNSEEN, updated_at=now)
    if climbing:
        step.alert = replace(step.alert, ladder_since=_ladder_since(alert))
        step.page("page", rungs[0].role, now)
        step.note("paged", now, level=alert.level, role=rungs[0].role)
        return timed(step, settings)
    step.alert = replace(step.alert, level=0, reminders=0, ladder_since=since)
    return timed(step, settings).then(advance(step.alert, since, settings))


def climb(step: Step, now: int, settings: AlertSettings, actor: str = "") -> None:
    """Tell the next rung of the ladder; `actor` is who asked for it, "" for the timer."""
    rung = _rungs(step.alert, settings)[step.alert.level]
    step.alert = replace(step.alert, level=step.alert.level + 1, reminders=0)
    level = step.alert.level
    step.page("page" if level == 1 else "escalation", rung.role, now)
    step.note("paged" if level == 1 else "escalated", now, actor, level=level, role=rung.role)


def rest_of_ladder_from(alert: Alert, now: int, settings: AlertSettings) -> Alert:
    """The alert with its ladder counted anew from the rung that was told last, at `now`."""
    rungs = _rungs(alert, settings)
    told_after = rungs[alert.level - 1].after_seconds if 0 < alert.level <= len(rungs) else 0
    return replace(alert, ladder_since=now - _microseconds(told_after))


def after_pause(alert: Alert, paused: int, settings: AlertSettings) -> Alert:
    """The alert with what is due moved by the microseconds during which its condition was over."""
    if alert.is_acknowledged:
        return replace(alert, ladder_since=_unattended_since(alert) + paused)
    rungs = _rungs(alert, settings)
    if alert.level < len(rungs) or not rungs:
        return replace(alert, ladder_since=_ladder_since(alert) + paused)
    return rest_of_ladder_from(alert, _reminded_since(alert, rungs, settings) + paused, settings)


def remind(step: Step, role: str, now: int, actor: str = "") -> None:
    """Send one more reminder."""
    step.alert = replace(step.alert, reminders=step.alert.reminders + 1)
    step.page("reminder", role, now)
    step.note("reminded", now, actor, number=step.alert.reminders, role=role)


def clear(step: Step, now: int) -> Step:
    """The condition is over and was seen, or asks for nobody: the alert closes by itself."""
    alert = unsuppressed(step.alert, now)
    step.alert = replace(alert, state="auto-cleared", closed_at=now, next_step_at=None, updated_at=now)
    step.note("auto-cleared", now)
    return step


def _clear_when_over(step: Step, now: int, settings: AlertSettings) -> None:
    alert = step.alert
    if alert.ended_at is None or alert.is_latched or now < alert.ended_at + _microseconds(settings.clear_after_seconds):
        return
    step.alert = replace(alert, missed=alert.missed or not alert.is_acknowledged)
    clear(step, now)


def _climb_what_is_due(step: Step, now: int, settings: AlertSettings) -> None:
    rungs = _rungs(step.alert, settings)
    while step.alert.level < len(rungs) and now >= _rung_at(step.alert, rungs):
        climb(step, now, settings)
    due = _ladder_due(step.alert, settings)
    if due is not None and step.alert.level >= len(rungs) and now >= due:
        remind(step, _reminded_role(step.alert, rungs[-1].role, settings), now)


def _follow_up(step: Step, now: int, settings: AlertSettings) -> None:
    """Look after an acknowledged alert whose condition lasts."""
    alert = step.alert
    ends = _expected_until(alert, settings)
    if ends is not None and now >= ends:
        step.note("acknowledgement-expired", now, reason=alert.acknowledge_reason or "")
        further = page_again(Step(alert), now, settings)
        step.alert, step.events, step.pages = further.alert, step.events + further.events, step.pages + further.pages
        return
    due = _unattended_due(alert, settings)
    if due is not None and now >= due:
        rungs = _rungs(alert, settings)
        rung = rungs[min(alert.reminders, len(rungs) - 1)]
        remind(step, _reminded_role(alert, rung.role, settings), now)


def _seen_due(alert: Alert, settings: AlertSettings) -> int | None:
    due = (_expected_until(alert, settings), _unattended_due(alert, settings))
    return min((at for at in due if at is not None), default=None)


def _expected_until(alert: Alert, settings: AlertSettings) -> int | None:
    if not alert.is_expected or alert.acknowledged_at is None:
        return None
    return alert.acknowledged_at + _microseconds(settings.expected_for_seconds)


def _unattended_due(alert: Alert, settings: AlertSettings) -> int | None:
    """When an acknowledged alert is reminded of: nobody has claimed it, and nobody said it was expected."""
    first = settings.unattended_reminder_seconds.get(alert.priority, 0)
    if alert.claimed_at is not None or alert.is_expected or first <= 0 or not _rungs(alert, settings):
        return None
    if not _may_remind(alert, settings):
        return None
    return _unattended_since(alert) + _pause(first, alert.reminders, settings)


def _unattended_since(alert: Alert) -> int:
    """When an acknowledged alert was seen, given away, or reminded of last."""
    since = alert.acknowledged_at or 0 if alert.ladder_since is None else alert.ladder_since
    return max(since, alert.paged_at or 0) if alert.reminders else since


def _ladder_due(alert: Alert, settings: AlertSettings) -> int | None:
    rungs = _rungs(alert, settings)
    if alert.level < len(rungs):
        return _rung_at(alert, rungs)
    if not rungs or not _may_remind(alert, settings):
        return None
    every = settings.reminder_seconds.get(alert.priority, 0)
    if every <= 0 and alert.priority != "high":
        return None
    pause = _pause(every or settings.longest_reminder_seconds, alert.reminders, settings)
    return _reminded_since(alert, rungs, settings) + pause


def _reminded_since(alert: Alert, rungs: tuple[Rung, ...], settings: AlertSettings) -> int:
    """When the last rung was told or the last reminder sent; an older release did not note it, and kept one pace."""
    top = _ladder_since(alert) + _microseconds(rungs[-1].after_seconds)
    if alert.paged_at is None:
        return top + _microseconds(settings.reminder_seconds.get(alert.priority, 0) * alert.reminders)
    return max(top, alert.paged_at)


def _may_remind(alert: Alert, settings: AlertSettings) -> bool:
    return alert.priority == "high" or alert.reminders < settings.reminders_at_most


def _reminded_role(alert: Alert, role: str, settings: AlertSettings) -> str:
    wide = alert.reminders >= settings.reminders_at_most
    return settings.reminder_circle.get(alert.priority, role) if wide else role


def _pause(first: float, reminders: int, settings: AlertSettings) -> int:
    doubled = first * 2 ** min(reminders, _MOST_DOUBLINGS)
    return _microseconds(max(first, min(doubled, settings.longest_reminder_seconds)))


def _rungs(alert: Alert, settings: AlertSettings) -> tuple[Rung, ...]:
    return settings.ladders.get(alert.priority, ())


def _rung_at(alert: Alert, rungs: tuple[Rung, ...]) -> int:
    return _ladder_since(alert) + _microseconds(rungs[alert.level].after_seconds)


def _ladder_since(alert: Alert) -> int:
    return alert.priority_since if alert.ladder_since is None else alert.ladder_since


def _microseconds(seconds: float) -> int:
    return int(seconds * SECOND)
