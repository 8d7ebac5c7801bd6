"""Step 18: what is known of an alert's messages: taken, still waiting, not delivered, or seen on a screen. Pure.

An alert in state ``raised`` is one that nobody has been told of yet; ``notified`` says that a channel people look at
took its message, or that a browser showed it to somebody who acts on patients. A log line tells nobody.
"""

from dataclasses import replace
from typing import Literal

from pulseweir.warm_path.alert_state import Alert, Step

WAITING, DELIVERED, SEEN, NOT_DELIVERED = "waiting", "delivered", "seen", "not-delivered"
"""What `Alert.delivery` may say of the newest message; "" while it is on its way and has not waited long."""

Cause = Literal["no-channel", "gave-up"]
"""Why a message reached nobody: no channel that people look at is set up, or none took it in the time it had."""


def on_its_way(alert: Alert) -> Alert:
    """The alert as a new message leaves: what was known of earlier ones says nothing about this one."""
    return replace(alert, delivery="", delivered_at=None)


def delivered(alert: Alert, now: int, channel: str) -> Step | None:
    """A channel that people look at has taken a message; None when that is no news.

    An alert that a person has seen on a screen stays seen: that is more than taken.
    """
    if not alert.is_open:
        return None
    known = alert.delivery in (DELIVERED, SEEN)
    if known and alert.state != "raised":
        return None
    step = Step(_told(alert, now, SEEN if alert.delivery == SEEN else DELIVERED))
    if alert.state == "raised":
        step.note("notified", now, channel=channel)
    return step


def waits(alert: Alert, now: int) -> Step | None:
    """No channel has taken the newest message yet, for longer than it should take; None when that is no news."""
    if not alert.is_open or alert.delivery:
        return None
    step = Step(replace(alert, delivery=WAITING, updated_at=now))
    step.note("delivery-waits", now)
    return step


def not_delivered(alert: Alert, now: int, *, kind: str, role: str, cause: Cause) -> Step | None:
    """A message reached nobody and is not tried any more; None when that is no news.

    What no channel could ever have taken is told once, with the first message: not again with each reminder.
    """
    is_quiet = cause == "no-channel" and kind != "page"
    if not alert.is_open and is_quiet:
        return None
    state = alert.delivery if alert.delivery == SEEN or not alert.is_open else NOT_DELIVERED
    step = Step(replace(alert, delivery=state, updated_at=now))
    if not is_quiet:
        step.note("not-delivered", now, kind=kind, role=role, cause=cause)
    return step


def shown(alert: Alert, user_name: str, now: int, *, last_shown_at: int | None = None) -> Step | None:
    """A browser showed the alert to a person who acts on patients; None when that is no news.

    Args:
        alert: The alert as it is.
        user_name: To whom.
        now: Instant, microseconds.
        last_shown_at: When this person's browser last said so; None for never. Once a run of the alert is enough: a
            run begins when it is raised, rises, or pages again.
    """
    if not alert.is_open or (last_shown_at is not None and last_shown_at >= _run_start(alert)):
        return None
    step = Step(_told(alert, now, SEEN))
    step.note("shown", now, user_name)
    return step


def _told(alert: Alert, now: int, delivery: str) -> Alert:
    state = "notified" if alert.state == "raised" else alert.state
    return replace(alert, state=state, delivery=delivery, delivered_at=alert.delivered_at or now, updated_at=now)


def _run_start(alert: Alert) -> int:
    return max(alert.raised_at, alert.priority_since, alert.paged_at or 0, alert.ladder_since or 0)
