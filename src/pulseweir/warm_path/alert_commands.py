"""Step 18: what people do to an alert. Pure."""

from dataclasses import replace

from pulseweir.errors import AlertCommandRefused
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alert_state import SECOND, UNSEEN, Alert, Step, told, unsuppressed
from pulseweir.warm_path.alert_timers import advance, climb, remind, rest_of_ladder_from, timed

_SEEN_GOING = "seen-going"
_SENT_AGAIN_AFTER_SECONDS = 60
_ROUNDING_SECONDS = 0.001
_AS_INSTALLED = AlertSettings()


def acknowledge(alert: Alert, user: str, reason: str, now: int, settings: AlertSettings) -> Step | None:
    """A person has seen it as it is: no more rungs. None when somebody already had.

    Its owner's acknowledgement also takes it over, as a claim does.

    Raises:
        AlertCommandRefused: It is closed, or the reason is none of those offered.
    """
    _require_open(alert, "acknowledge")
    if reason not in settings.acknowledge_reasons:
        offered = ", ".join(settings.acknowledge_reasons)
        raise AlertCommandRefused(alert.alert_id, "acknowledge", f"choose one of the reasons {offered}.")
    is_given = alert.owner == user and alert.claimed_at is None
    if alert.is_acknowledged:
        return claim(alert, user, now, settings) if is_given else None
    step = Step(_acknowledged(alert, user, reason, now))
    step.note("acknowledged", now, user, reason=reason)
    if is_given:
        step.alert = replace(step.alert, claimed_at=now, state="in-progress")
    return timed(step, settings).then(advance(step.alert, now, settings))


def claim(alert: Alert, user: str, now: int, settings: AlertSettings = _AS_INSTALLED) -> Step:
    """A person takes it over, which also acknowledges it.

    Raises:
        AlertCommandRefused: It is closed.
    """
    _require_open(alert, "claim")
    step = Step(told(alert) if alert.is_acknowledged else _acknowledged(alert, user, _SEEN_GOING, now))
    if not alert.is_acknowledged:
        step.note("acknowledged", now, user, reason=_SEEN_GOING)
    step.alert = replace(step.alert, owner=user, claimed_at=now, state="in-progress", updated_at=now)
    step.note("claimed", now, user, owner=user)
    return timed(step, settings).then(advance(step.alert, now, settings))


def assign(alert: Alert, owner: str, user: str, now: int, settings: AlertSettings = _AS_INSTALLED) -> Step:
    """A person gives it to somebody (or takes it).

    Giving it away is no acknowledgement: it climbs on until the owner, or anybody, has acknowledged it. One that was
    acknowledged stays so, and its new owner is reminded until it is taken.

    Raises:
        AlertCommandRefused: It is closed.
    """
    _require_open(alert, "assign")
    if owner == user:
        return claim(alert, user, now, settings)
    given = replace(alert, updated_at=now)
    if owner != alert.owner:
        given = replace(given, owner=owner, claimed_at=None)
        if alert.is_acknowledged:
            given = replace(given, state="acknowledged", ladder_since=now, reminders=0)
    step = Step(given)
    step.note("assigned", now, user, owner=owner)
    return timed(step, settings)


def escalate(alert: Alert, user: str, now: int, settings: AlertSettings) -> Step:
    """A person asks for the next rung of the ladder now, whether or not somebody has seen it.

    From there it climbs its ladder until somebody acknowledges it anew. Once every rung was told, the widest circle
    is told again.

    Raises:
        AlertCommandRefused: It is closed, its priority pages nobody, or everybody was told just now.
    """
    _require_open(alert, "escalate")
    rungs = settings.ladders.get(alert.priority, ())
    if not rungs:
        message = f"alerts of {alert.priority} priority page nobody; call them."
        raise AlertCommandRefused(alert.alert_id, "escalate", message)
    step = Step(replace(unsuppressed(alert, now), **UNSEEN))
    if alert.level < len(rungs):
        climb(step, now, settings, user)
    elif alert.paged_at is not None and now - alert.paged_at < _SENT_AGAIN_AFTER_SECONDS * SECOND:
        message = "everybody on its ladder has been told within the last minute; call them."
        raise AlertCommandRefused(alert.alert_id, "escalate", message)
    else:
        remind(step, settings.reminder_circle.get(alert.priority, rungs[-1].role), now, user)
    step.alert = rest_of_ladder_from(step.alert, now, settings)
    return timed(step, settings)


def add_note(alert: Alert, text: str, user: str, now: int) -> Step:
    """A person writes something down; also after it is closed."""
    step = Step(replace(alert, updated_at=now))
    step.note("noted", now, user, text=_required(alert, "note on", text))
    return step


def resolve(alert: Alert, reason: str, user: str, now: int, *, rejected: bool = False) -> Step:
    """A person closes it, with what came of it; `rejected` when it should not have been raised.

    Raises:
        AlertCommandRefused: It is closed, or no reason is given.
    """
    command = "reject" if rejected else "resolve"
    _require_open(alert, command)
    outcome = _required(alert, command, reason)
    seen = told(alert) if alert.is_acknowledged else _acknowledged(alert, user, _SEEN_GOING, now)
    state = "rejected" if rejected else "resolved"
    closed = replace(unsuppressed(seen, now), state=state, outcome=outcome, closed_at=now, updated_at=now)
    step = Step(replace(closed, next_step_at=None))
    step.note(state, now, user, reason=outcome)
    return step


def suppress(alert: Alert, seconds: float, reason: str, user: str, now: int, settings: AlertSettings) -> Step:
    """A person holds its messages back for a while; it stays visible, with the reason and the end.

    Raises:
        AlertCommandRefused: It is closed, no reason is given, it is for longer than allowed, or its budget is used up.
    """
    _require_open(alert, "suppress")
    longest = settings.suppress_at_most_seconds.get(alert.priority, 0)
    if not 0 < seconds <= longest:
        message = f"at most {longest:g} seconds at priority {alert.priority}."
        raise AlertCommandRefused(alert.alert_id, "suppress", message)
    why = _required(alert, "suppress", reason)
    before = unsuppressed(alert, now)
    budget = settings.suppress_budget_seconds.get(alert.priority, 0)
    left = max(0.0, budget - before.suppressed_seconds)
    if seconds > left + _ROUNDING_SECONDS:
        message = (
            f"{left:.0f} of the {budget:g} seconds of one alert are left. See to the patient, then acknowledge or "
            "close it."
        )
        raise AlertCommandRefused(alert.alert_id, "suppress", message)
    until = now + int(seconds * SECOND)
    step = Step(
        replace(
            before,
            suppressed_until=until,
            suppressed_reason=why,
            suppressed_by=user,
            suppressed_seconds=before.suppressed_seconds + seconds,
            updated_at=now,
        )
    )
    step.note("suppressed", now, user, reason=why, until=until)
    return timed(step, settings)


def _acknowledged(alert: Alert, user: str, reason: str, now: int) -> Alert:
    """The alert seen by a person as it is; from here on it counts how long nobody takes it over."""
    return replace(
        told(alert),
        state="acknowledged",
        acknowledged_at=now,
        acknowledged_by=user,
        acknowledge_reason=reason,
        ladder_since=now,
        reminders=0,
        updated_at=now,
    )


def _require_open(alert: Alert, command: str) -> None:
    if not alert.is_open:
        raise AlertCommandRefused(alert.alert_id, command, f"it is already {alert.state}.")


def _required(alert: Alert, command: str, text: str) -> str:
    if not text.strip():
        raise AlertCommandRefused(alert.alert_id, command, "say why.")
    return text.strip()
