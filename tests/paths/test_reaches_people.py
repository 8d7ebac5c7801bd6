"""A running installation as a ward uses it: what reaches the screens, the chat and FHIR, one run for each group.

Silence and nonsense, who may be scored, consciousness and oxygen, alerts and their delivery, ward-local time.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from paths.journey import Background, Journey, Json, Webhook, open_journey
from pulseweir.backends.repository import alerts, people, scores
from pulseweir.backends.repository.rows import AlertRow, LiveRow, UserRow
from pulseweir.clock import real_microseconds, to_text
from pulseweir.ingest.recording_plan import PlannedMessage, RecordingPlan
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup
from pulseweir.web import sessions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECOND = 1_000_000
MINUTE = 60 * SECOND
WARD = "Ward A"
WELL: Json = {
    "heartRate": 78,
    "respiratoryRate": 16,
    "spo2": 98,
    "cuffPressure": {"systolic": 120, "diastolic": 75, "mean": 90},
    "temperatureCelsius": 37.0,
    "consciousness": "A",
    "oxygenFlow": 0,
}
FAILING: Json = {"heartRate": 136, "respiratoryRate": 28, "spo2": 90}
WORST: Json = {**FAILING, "spo2": 84, "oxygenFlow": 10, "consciousness": "U"}
PATIENTS = ("zeros", "confused", "infant", "ahead", "oxygen", "worse")


@dataclass
class Ward:
    """The installation, and a browser in which a charge nurse is signed in."""

    journey: Journey
    browser: httpx.Client

    def send(self, name: str, *, device: str = "monitor", at: int | None = None, **changes: object) -> None:
        """One message of a patient's device, measured now or at another instant; None leaves a vital out."""
        measured_at = (real_microseconds() if at is None else at) // 1_000 * 1_000
        start: Json = dict(WELL) if device == "monitor" else {}
        values = {key: value for key, value in {**start, **changes}.items() if value is not None}
        body = {"device": f"{device}-{name}", "measuredAt": to_text(measured_at), **values}
        planned = PlannedMessage(
            f"{device}-{name}", f"{name}-{real_microseconds()}", json.dumps(body).encode(), measured_at, len(values)
        )
        assert self.journey.send([planned]) == 1

    def row(self, name: str) -> LiveRow | None:
        with self.journey.repository.reading() as transaction:
            return scores.live_row(transaction, name)

    def until(self, name: str, what: str, **wanted: object) -> LiveRow:
        """The patient's live row once it has these values."""

        def look() -> LiveRow | None:
            row = self.row(name)
            return row if row and all(getattr(row, key) == value for key, value in wanted.items()) else None

        return self.journey.until(look, what, 60)

    def alert(self, name: str) -> AlertRow | None:
        with self.journey.repository.reading() as transaction:
            found = alerts.open_alerts(transaction, patient_id=name)
        return found[0] if found else None

    def page(self, path: str) -> str:
        answer = self.browser.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        return answer.text


def _patient(name: str, start: int) -> PatientSetup:
    born = datetime.fromtimestamp(start / SECOND, UTC).date() - timedelta(days=240 if name == "infant" else 70 * 365)
    kinds = {"monitor": "bedside-monitor", "nurse": "nurse-entry"}
    return PatientSetup(
        patient_id=name,
        name=f"Invented {name.capitalize()}",
        birth_date=born.isoformat(),
        gender="male",
        ward=WARD,
        bed=f"Bed {PATIENTS.index(name) + 1}",
        since_microseconds=start - 60 * MINUTE,
        devices=tuple(DeviceSetup(f"{prefix}-{name}", kind) for prefix, kind in kinds.items()),
    )


@pytest.fixture(scope="module")
def chat() -> Iterator[Webhook]:
    """Where this ward's cards arrive."""
    receiver = Webhook()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def ward(background: Background, chat: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """The installation with six patients; nothing is measured yet."""
    start = real_microseconds()
    patients = tuple(_patient(name, start) for name in PATIENTS)
    plan = RecordingPlan(tuple(device for one in patients for device in one.devices), patients, ())
    overrides: Json = {
        "coordination": {"teams_webhook_url": chat.url},
        "site": {"time_zone": "Asia/Kolkata"},
        "windows": {"grace_seconds": 1},
    }
    opened = open_journey(background, tmp_path_factory.mktemp("ward"), plan, {}, start, overrides)
    try:
        row = UserRow(user_name="charge-1", password_hash="none", role="charge-nurse", wards_json="null", created_at=0)
        with opened.repository.writing() as transaction:
            people.save_user(transaction, row)
        session = asyncio.run(sessions.begin(opened.repository, "charge-1", opened.house.settings.web))
        with httpx.Client(base_url=opened.pages, headers={"accept": "text/html"}, timeout=20) as browser:
            browser.cookies.set(sessions.COOKIE, session.token)
            browser.headers["x-csrf-token"] = session.csrf_token
            yield Ward(opened, browser)
    finally:
        opened.close()


def test_a_sensor_that_sends_zeros_is_never_shown_as_well(ward: Ward) -> None:
    ward.send("zeros")
    ward.until("zeros", "a whole set is scored", status="complete")

    for _ in range(3):
        ward.send("zeros", heartRate=0, respiratoryRate=0, spo2=0)

    row = ward.until("zeros", "the score is partial", status="partial")
    assert {"pulse", "respiratory_rate", "spo2"} <= set(msgspec.json.decode(row.doubtful_json))

    def shown() -> str | None:
        tile = next(part for part in ward.page("/").split("<article") if 'data-patient="zeros"' in part)
        return None if 'data-state="normal"' in tile else tile

    tile = ward.journey.until(shown, "the board follows", 60)
    assert "ll within range" not in tile
    assert "78" in tile


def test_a_set_charted_ahead_of_its_time_is_held_and_findable(ward: Ward) -> None:
    ward.send("ahead", at=real_microseconds() + 8 * MINUTE, **FAILING)

    row = ward.journey.until(lambda: ward.row("ahead"), "the patient is findable", 60)
    assert row.score is None
    assert "ahead" in ward.page("/patients/ahead").lower()
    assert ward.alert("ahead") is None


def test_an_infant_is_not_scored_and_pages_nobody(ward: Ward) -> None:
    ward.send("infant", **FAILING)

    ward.until("infant", "the model abstains", status="abstained", abstained="age-under-16")
    assert "16" in ward.page("/patients/infant")

    def written() -> Json | None:
        found = ward.journey.search("RiskAssessment", patient="infant")
        return found[0] if found else None

    assessment = ward.journey.until(written, "the window's RiskAssessment", 120)
    assert "prediction" not in assessment
    assert "16" in json.dumps(assessment["note"])
    assert ward.alert("infant") is None


def test_new_confusion_in_a_word_counts_on_score_page_and_worklist(ward: Ward) -> None:
    ward.send("confused")
    ward.until("confused", "a whole set is scored", status="complete", score=0.0)

    ward.send("confused", device="nurse", consciousness="Confused")

    ward.until("confused", "new confusion is scored", score=3.0, band="low-medium")
    assert "confusion" in ward.page("/patients/confused").lower()
    ward.journey.until(lambda: ward.alert("confused"), "it stands on the worklist", 120)


def test_oxygen_by_fraction_is_oxygen_on_score_and_page(ward: Ward) -> None:
    ward.send("oxygen", fio2=0.5, oxygenFlow=0)

    row = ward.until("oxygen", "oxygen is scored", score=2.0)
    assert {"parameter": "air_or_oxygen", "points": 2} in msgspec.json.decode(row.contributions_json)
    page = ward.page("/patients/oxygen")
    assert "50 %" in page


def test_a_worsening_after_an_acknowledgement_reaches_the_chat_again(ward: Ward, chat: Webhook) -> None:
    bed = f"Bed {PATIENTS.index('worse') + 1}"
    ward.send("worse", **FAILING)
    alert = ward.journey.until(lambda: ward.alert("worse"), "an alert", 120)
    ward.journey.until(lambda: [card for card in chat.cards if bed in json.dumps(card)], "a card in the chat", 60)
    answer = ward.browser.post(f"/alerts/{alert.alert_id}/acknowledge", data={"reason": "seen-going"})
    assert answer.status_code == 303
    before = len([card for card in chat.cards if bed in json.dumps(card)])

    ward.send("worse", **WORST)

    ward.journey.until(
        lambda: len([card for card in chat.cards if bed in json.dumps(card)]) > before, "a second card", 120
    )
    again = ward.alert("worse")
    assert again is not None
    assert again.acknowledged_at is None


def test_screens_show_the_wards_own_time_and_fhir_utc(ward: Ward) -> None:
    ward.until("zeros", "a patient is there")

    page = ward.page("/patients/zeros")
    row = ward.row("zeros")
    assert row is not None
    local = datetime.fromtimestamp(row.recorded_at / SECOND, UTC) + timedelta(hours=5, minutes=30)
    assert local.strftime("%H:%M") in page
    assert "IST" in page
    [observation, *_] = ward.journey.search("Observation", patient="zeros")
    assert observation["effectiveDateTime"].endswith(("Z", "+00:00"))


def test_nothing_is_unaccounted_for(ward: Ward) -> None:
    ward.journey.settle()

    found = ward.journey.house.conserve()
    assert found.conservation_difference == 0
