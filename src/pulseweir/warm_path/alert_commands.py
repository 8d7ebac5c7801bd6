"""Step 18: what people do to an alert. Pure."""

from dataclasses import replace

from pulseweir.errors import AlertCommandRefused
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alerts import Alert, Step, clear, climb

_SECOND = 1_000_000


def acknowledge(alert: Alert, user: str, reason: str, now: int, settings: AlertSettings) -> Step | None:
    """A person has seen it: no more messages. None when somebody already had.

    Raises:
        AlertCommandRefused: It is closed, or the reason is none of those offered.
    """
    _require_open(alert, "acknowledge")
    if reason not in settings.acknowledge_reasons:
        offered = ", ".join(settings.acknowledge_reasons)
        raise AlertCommandRefused(alert.alert_id, "acknowledge", f"choose one of the reasons {offered}.")
    if alert.acknowledged_at is not None:
        return None
    step = Step(_acknowledged(alert, user, reason, now))
    step.note("acknowledged", now, user, reason=reason)
    return step if alert.ended_at is None else clear(step, now)


def claim(alert: Alert, user: str, now: int) -> Step:
    """A person takes it over, which also acknowledges it.

    Raises:
        AlertCommandRefused: It is closed.
    """
    return assign(alert, user, user, now)


def assign(alert: Alert, owner: str, user: str, now: int) -> Step:
    """A person gives it to somebody (or takes it); being worked on, it escalates no further.

    Raises:
        AlertCommandRefused: It is closed.
    """
    _require_open(alert, "assign")
    seen = alert if alert.acknowledged_at is not None else _acknowledged(alert, user, "seen-going", now)
    step = Step(replace(seen, owner=owner, claimed_at=now, state="in-progress", updated_at=now))
    if alert.acknowledged_at is None:
        step.note("acknowledged", now, user, reason="seen-going")
    step.note("claimed" if owner == user else "assigned", now, user, owner=owner)
    return step


def escalate(alert: Alert, user: str, now: int, settings: AlertSettings) -> Step:
    """A person asks for the next rung of the ladder now, whether or not somebody has seen it.

    Raises:
        AlertCommandRefused: It is closed, or every rung has been told.
    """
    _require_open(alert, "escalate")
    ladder = settings.ladders.get(alert.priority, ())
    if alert.level >= len(ladder):
        raise AlertCommandRefused(alert.alert_id, "escalate", "everybody on its ladder has been told; call them.")
    return climb(Step(alert), user, now, settings)


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
    seen = alert if alert.acknowledged_at is not None else _acknowledged(alert, user, "seen-going", now)
    state = "rejected" if rejected else "resolved"
    step = Step(replace(seen, state=state, outcome=outcome, closed_at=now, updated_at=now, next_step_at=None))
    step.note(state, now, user, reason=outcome)
    return step


def suppress(alert: Alert, seconds: float, reason: str, user: str, now: int, settings: AlertSettings) -> Step:
    """A person holds its messages back for a while; it stays visible, with the reason and the end.

    Raises:
        AlertCommandRefused: It is closed, no reason is given, or it is for longer than allowed.
    """
    _require_open(alert, "suppress")
    longest = settings.suppress_at_most_seconds.get(alert.priority, 0)
    if not 0 < seconds <= longest:
        raise AlertCommandRefused(
            alert.alert_id, "suppress", f"at most {longest:g} seconds at priority {alert.priority}."
        )
    until = now + int(seconds * _SECOND)
    why = _required(alert, "suppress", reason)
    next_step = None if alert.next_step_at is None else max(until, alert.next_step_at)
    step = Step(
        replace(
            alert,
            suppressed_until=until,
            suppressed_reason=why,
            suppressed_by=user,
            next_step_at=next_step,
            updated_at=now,
        )
    )
    step.note("suppressed", now, user, reason=why, until=until)
    return step


def _acknowledged(alert: Alert, user: str, reason: str, now: int) -> Alert:
    return replace(
        alert,
        state="acknowledged",
        acknowledged_at=now,
        acknowledged_by=user,
        acknowledge_reason=reason,
        next_step_at=None,
        updated_at=now,
    )


def _require_open(alert: Alert, command: str) -> None:
    if not alert.is_open:
        raise AlertCommandRefused(alert.alert_id, command, f"it is already {alert.state}.")


def _required(alert: Alert, command: str, text: str) -> str:
    if not text.strip():
        raise AlertCommandRefused(alert.alert_id, command, "say why.")
    return text.strip()
