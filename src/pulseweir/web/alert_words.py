"""Step 17: what became of an alert, in words: told or not, given or taken, quiet until when, over since when. Pure."""

from collections.abc import Sequence

from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from pulseweir.site_time import SiteTime, span
from pulseweir.warm_path.alert_settings import AlertSettings

_SECOND = 1_000_000
_DELIVERY = {"waiting": "not delivered yet", "not-delivered": "not delivered"}


def status_words(
    alert: AlertRow, happened: Sequence[TransitionRow], now: int, settings: AlertSettings, site: SiteTime
) -> list[str]:
    """Each thing a person must know of an open alert beside its priority; of a closed one nothing.

    Args:
        alert: The alert.
        happened: Its transitions, in any order.
        now: Present instant, microseconds.
        settings: For how long things last.
        site: What time people read.
    """
    if alert.closed_at is not None:
        return []
    found = [
        _delivery(alert, happened, now, site),
        _ending(alert, now, settings, site),
        _ownership(alert),
        _expectation(alert, now, settings, site),
        _suppression(alert, now, settings, site),
    ]
    return [words for words in found if words]


def _delivery(alert: AlertRow, happened: Sequence[TransitionRow], now: int, site: SiteTime) -> str:
    if alert.delivery == "seen":
        seen = [one for one in happened if one.transition == "shown"]
        by = max(seen, key=lambda one: one.occurred_at).actor if seen else ""
        return f"seen on a screen by {by}" if by else "seen on a screen"
    if alert.delivery == "delivered" and alert.delivered_at is not None:
        return f"delivered {_time(alert.delivered_at, now, site)}"
    return _DELIVERY.get(alert.delivery, alert.delivery.replace("-", " "))


def _ending(alert: AlertRow, now: int, settings: AlertSettings, site: SiteTime) -> str:
    if alert.ended_at is None:
        return ""
    words = f"condition over since {_time(alert.ended_at, now, site)}"
    if alert.priority == "high" and alert.acknowledged_at is None:
        return f"{words}, closes once it is acknowledged"
    closes = alert.ended_at + int(settings.clear_after_seconds * _SECOND)
    return f"{words}, closes {_time(closes, now, site)}" if closes > now else words


def _ownership(alert: AlertRow) -> str:
    is_given = alert.owner is not None and alert.claimed_at is None
    return f"given to {alert.owner}, not acknowledged" if is_given and alert.acknowledged_at is None else ""


def _expectation(alert: AlertRow, now: int, settings: AlertSettings, site: SiteTime) -> str:
    if alert.acknowledge_reason != "known-expected" or alert.acknowledged_at is None:
        return ""
    until = alert.acknowledged_at + int(settings.expected_for_seconds * _SECOND)
    return f"known / expected until {_time(until, now, site)}, unless it gets worse" if until > now else ""


def _suppression(alert: AlertRow, now: int, settings: AlertSettings, site: SiteTime) -> str:
    left = max(0.0, settings.suppress_budget_seconds.get(alert.priority, 0.0) - alert.suppressed_seconds)
    budget = f"{span(left)} of suppression left" if left else "no suppression left"
    if alert.suppressed_until is not None and alert.suppressed_until > now:
        return f"suppressed until {_time(alert.suppressed_until, now, site)} ({alert.suppressed_reason}); {budget}"
    return budget if alert.suppressed_seconds else ""


def _time(instant: int, now: int, site: SiteTime) -> str:
    return site.with_zone(site.minute(instant), instant, now)
