"""Step 18: alerts about devices: raised by a signal, ended by its end, for the device team before the nurse. Pure.

At most one open alert a patient, device and signal. It goes to a list of its own and pages nobody, until the monitoring
of a patient at risk is lost: then it becomes medium and is paged as such.
Source: decision record 0061.
"""

from dataclasses import dataclass, replace

from pulseweir.records.identifiers import digest
from pulseweir.records.signal_facts import CLOCK_AHEAD, FROZEN, IMPOSSIBLE, SILENT, SignalFact
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alerts import Alert, Step, advance, clear

TECHNICAL = "technical"
LOST_PRIORITY = "medium"
OWN_LIST = "low"
"""Priority of an alert that pages nobody."""
_SECOND = 1_000_000

ACTIONS = {
    SILENT: "Check that the device is on, connected and at the patient. Until it measures again, measure by hand.",
    FROZEN: "Check sensor and cables: none of its values changes. Measure by hand before you rely on them.",
    IMPOSSIBLE: "Check sensor and cables: nobody alive can have these values. Measure by hand meanwhile.",
    CLOCK_AHEAD: "Set the device's clock, or send times with their zone. Its readings wait until their time has come; "
    "measure by hand meanwhile.",
}
"""What to do about each signal."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the patient of a technical alert.

    Attributes:
        at_risk: Whether the newest clinical state is high or medium.
        sign_of_life_at: When the newest usable reading of any device was true; None when there is none.
    """

    at_risk: bool
    sign_of_life_at: int | None


def take_signal(fact: SignalFact, current: Alert | None, now: int) -> Step | None:
    """What the newest state of a signal means for the newest alert of its rule; None for nothing.

    Taking the same fact twice changes nothing the second time. What a person closed stays closed until the next
    episode.
    """
    known = current is not None and current.flag_id == fact.episode
    if current is not None and known and fact.change <= current.flag_change:
        return None
    if current is not None and current.is_open:
        return _update(current, fact, now) if fact.active else _end(current, fact, now)
    if not fact.active or (current is not None and known and current.state != "auto-cleared"):
        return None
    return _raise(fact, now)


def monitoring_lost(alert: Alert, watch: Watch, now: int, settings: AlertSettings) -> Step | None:
    """Page the nurse, where nothing usable has been heard of a patient at risk for so long; None for nothing."""
    if not alert.is_open or alert.ended_at is not None or alert.priority != OWN_LIST or not watch.at_risk:
        return None
    last = watch.sign_of_life_at if watch.sign_of_life_at is not None else alert.raised_at
    if now - last < settings.monitoring_lost_after_seconds * _SECOND:
        return None
    minutes = int((now - last) // (60 * _SECOND))
    risen = replace(
        alert,
        priority=LOST_PRIORITY,
        priority_since=now,
        state="raised",
        reason=f"Monitoring of a patient at risk is lost: no usable reading for {minutes} min. {alert.reason}",
        action=f"Go to the patient and measure by hand. {alert.action}",
        level=0,
        reminders=0,
        ladder_since=None,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledge_reason=None,
        suppressed_until=None,
        suppressed_reason=None,
        suppressed_by=None,
        next_step_at=now,
        updated_at=now,
    )
    step = Step(risen)
    step.note("priority-raised", now, priority=LOST_PRIORITY, before=alert.priority)
    further = advance(risen, now, settings)
    return step if further is None else Step(further.alert, step.events + further.events, step.pages + further.pages)


def describe(fact: SignalFact) -> str:
    """What is wrong, in words.

    >>> fact = SignalFact(patient_id="p", device_id="monitor-1", signal="silent", change=1, active=True, since=0,
    ...     at=420_000_000, last_good_at=None, vitals=[], skew_seconds=None, ward=None, bed=None)
    >>> describe(fact)
    'Device monitor-1 has sent nothing for 7 min.'
    """
    device = f"Device {fact.device_id}"
    minutes = max(1, (fact.at - fact.since) // (60 * _SECOND))
    vitals = ", ".join(vital.replace("_", " ") for vital in fact.vitals)
    if fact.signal == SILENT:
        return f"{device} has sent nothing for {minutes} min."
    if fact.signal == FROZEN:
        return f"{device} is frozen: {vitals} unchanged for {minutes} min."
    if fact.signal == IMPOSSIBLE:
        return f"{device} sends impossible values of {vitals}, for {minutes} min."
    return f"{device}: clock {ahead_text(fact.skew_seconds or 0)}."


def ahead_text(skew_seconds: float) -> str:
    """How far a clock is off; whole hours give away a local time without its zone.

    >>> ahead_text(7_200), ahead_text(480)
    ('2 h 00 min ahead: local time sent without its zone?', '8 min ahead')
    """
    minutes = round(abs(skew_seconds) / 60)
    side = "ahead" if skew_seconds >= 0 else "behind"
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{minutes} min {side}"
    whole = round(minutes / 30) * 30
    is_zone = abs(abs(skew_seconds) - whole * 60) <= 120  # noqa: PLR2004 - two minutes beside a zone's offset
    shown = whole if is_zone else minutes
    question = ": local time sent without its zone?" if is_zone else ""
    return f"{shown // 60} h {shown % 60:02d} min {side}{question}"


def _raise(fact: SignalFact, now: int) -> Step:
    alert = Alert(
        alert_id=digest("technical-alert", fact.patient_id, fact.rule, fact.change),
        patient_id=fact.patient_id,
        rule=fact.rule,
        flag_id=fact.episode,
        flag_change=fact.change,
        state="raised",
        priority=OWN_LIST,
        band="",
        score=None,
        reason=describe(fact),
        action=ACTIONS[fact.signal],
        ward=fact.ward,
        bed=fact.bed,
        care_team_id=None,
        care_team=None,
        raised_at=now,
        priority_since=now,
        updated_at=now,
        kind=TECHNICAL,
        device_id=fact.device_id,
    )
    step = Step(alert)
    step.note("raised", now, priority=alert.priority, signal=fact.signal, device=fact.device_id)
    return step


def _update(alert: Alert, fact: SignalFact, now: int) -> Step:
    reason = describe(fact) if alert.priority == OWN_LIST else alert.reason
    return Step(
        replace(
            alert,
            flag_id=fact.episode,
            flag_change=fact.change,
            reason=reason,
            ward=fact.ward,
            bed=fact.bed,
            updates=alert.updates + 1,
            updated_at=now,
        )
    )


def _end(alert: Alert, fact: SignalFact, now: int) -> Step:
    missed = alert.priority != OWN_LIST and alert.acknowledged_at is None
    step = Step(
        replace(
            alert,
            flag_change=fact.change,
            ended_at=now,
            updated_at=now,
            next_step_at=None,
            missed=alert.missed or missed,
        )
    )
    step.note("condition-ended", now)
    return clear(step, now)
