"""One patient of the recording who gets worse now: live readings, and the alert that follows."""

import json
from dataclasses import dataclass

from paths.journey import Journey
from paths.recount import SECOND, Patient
from pulseweir.backends.repository import alerts, flags, outbox
from pulseweir.backends.repository.rows import AlertRow, OutboxRow
from pulseweir.clock import real_microseconds, to_text
from pulseweir.ingest.recording_plan import PlannedMessage

WORSE = {
    "heartRate": 134,
    "respiratoryRate": 28,
    "spo2": 90,
    "cuffPressure": {"systolic": 86, "diastolic": 50, "mean": 62},
    "temperatureCelsius": 38.6,
}
"""Pulse 3, respiration 3, saturation 3, pressure 3, temperature 1: 13 without oxygen and consciousness."""


@dataclass
class Alarm:
    """The alert of one patient, and what was sent because of it."""

    patient: Patient
    alert_id: str
    sent_at: int

    def row(self, journey: Journey) -> AlertRow:
        """The alert as it is now."""
        with journey.repository.reading() as transaction:
            found = alerts.alert(transaction, self.alert_id)
        assert found is not None
        return found

    def notices(self, journey: Journey) -> list[OutboxRow]:
        """The notifications, in order, whether or not they have left."""
        with journey.repository.reading() as transaction:
            return outbox.of_alert(transaction, self.alert_id)

    def taken(self, journey: Journey) -> list[OutboxRow]:
        """The notifications that the webhook has taken, in order."""
        return [row for row in self.notices(journey) if row.state == outbox.SENT]

    def transitions(self, journey: Journey) -> list[str]:
        """What happened to it, oldest first."""
        with journey.repository.reading() as transaction:
            return [row.transition for row in alerts.transitions(transaction, [self.alert_id])[self.alert_id]]


def raise_alarm(journey: Journey) -> Alarm:
    """Send what a patient without an open Flag measures now, until an alert is raised."""
    patient = calm_patient(journey)
    sent_at = real_microseconds() // 1_000 * 1_000
    send_now(journey, patient, sent_at)

    def raised() -> AlertRow | None:
        with journey.repository.reading() as transaction:
            return alerts.newest_alert(transaction, patient.patient_id, "news2")

    alert = journey.until(raised, "an alert of the patient who got worse")
    return Alarm(patient, alert.alert_id, sent_at)


def send_now(journey: Journey, patient: Patient, at: int) -> None:
    """One message of a patient's monitor, measured at this moment."""
    body = json.dumps({"device": patient.device_id, "measuredAt": to_text(at), **WORSE}).encode()
    journey.send([PlannedMessage(patient.device_id, f"live-{at // SECOND}", body, at, len(WORSE))])


def calm_patient(journey: Journey) -> Patient:
    """A patient whom nothing is flagged about and whose monitor speaks to the hub itself."""
    edged = journey.edge.patient_id if journey.edge is not None else ""
    with journey.repository.reading() as transaction:
        flagged = {row.patient_id for row in flags.open_flags(transaction)}
    calm = [one for one in journey.patients.values() if one.patient_id not in flagged | {edged}]
    return calm[-1]
