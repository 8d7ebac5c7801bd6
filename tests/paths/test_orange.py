"""Orange, steps 16 to 18, and the screens of step 15: an alert from its cause to the person who answers it."""

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paths.alarm import Alarm, raise_alarm
from paths.journey import REFUSED_ROLE, Journey, Json, Webhook
from paths.recorded_scores import instant
from pulseweir.backends.repository import reports, scores
from pulseweir.backends.repository.rows import RefreshRow
from pulseweir.clock import real_microseconds
from pulseweir.web.accounts import add_user

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHROMIUM = Path("/usr/bin/chromium")
USER = "avery"


@pytest.fixture(scope="module")
def alarm(journey: Journey) -> Alarm:
    """An alert that nobody answers until it has climbed the whole ladder."""
    raised = raise_alarm(journey)
    journey.until(
        lambda: (len(raised.notices(journey)) >= 3 and len(raised.taken(journey)) >= 2) or None, "messages have left"
    )
    return raised


@pytest.fixture(scope="module")
def page(journey: Journey) -> Iterator["Page"]:
    """A browser in which a charge nurse has signed in."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: make components")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    password = secrets.token_urlsafe(16)
    add_user(journey.repository, USER, password, "charge-nurse")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--headless=new", "--disable-gpu"]
        )
        opened: Page = chromium.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(60_000)
        opened.goto(f"{journey.pages}/sign-in")
        opened.fill("input[name=name]", USER)
        opened.fill("input[name=password]", password)
        opened.click("button.primary")
        opened.wait_for_selector(".tile")
        yield opened
        chromium.close()


@pytest.fixture(scope="module")
def acknowledged(journey: Journey, alarm: Alarm, page: "Page") -> Alarm:
    """The same alert once the charge nurse has acknowledged it on the worklist."""
    page.goto(f"{journey.pages}/worklist")
    item = page.locator(f"#alert-{alarm.alert_id}")
    item.get_by_role("button", name="Seen, going").click()
    page.locator(f"#alert-{alarm.alert_id}[data-seen]").wait_for()
    return alarm


def test_live_readings_reach_the_board_with_their_score(journey: Journey, alarm: Alarm) -> None:
    with journey.repository.reading() as transaction:
        row = scores.live_row(transaction, alarm.patient.patient_id)

    assert row is not None
    assert row.newest_occurred_at == alarm.sent_at
    assert row.score is not None
    assert row.score >= 13
    assert (row.band, row.backfill) == ("high", False)


def test_the_alert_is_high_and_belongs_to_an_open_flag(journey: Journey, alarm: Alarm) -> None:
    alert = alarm.row(journey)

    flag = journey.until(lambda: journey.read("Flag", alert.flag_id), "the Flag in FHIR")

    assert (alert.priority, alert.band, alert.rule) == ("high", "high", "news2")
    assert alert.action
    assert flag["status"] == "active"
    assert instant(flag["period"]["start"]) <= alarm.sent_at
    assert flag["subject"]["reference"] == f"Patient/{alarm.patient.patient_id}"


def test_an_unanswered_alert_climbs_the_ladder(journey: Journey, alarm: Alarm) -> None:
    roles = [json.loads(row.body_json)["role"] for row in alarm.notices(journey)]
    kinds = [json.loads(row.body_json)["kind"] for row in alarm.notices(journey)]

    assert roles[:3] == ["nurse", REFUSED_ROLE, "rapid-response"]
    assert kinds[:3] == ["page", "escalation", "escalation"]
    assert alarm.row(journey).level >= 3
    happened = alarm.transitions(journey)
    assert happened[0] == "raised"
    assert "notified" in happened
    assert happened.count("escalated") >= 2, happened


def test_a_message_the_webhook_refuses_waits_and_counts_for_nobody(journey: Journey, alarm: Alarm) -> None:
    rows = {json.loads(row.body_json)["role"]: row for row in alarm.notices(journey)[:3]}

    assert rows["nurse"].channel == rows["rapid-response"].channel == "teams"
    assert (rows[REFUSED_ROLE].state, rows[REFUSED_ROLE].channel) == ("waiting", "")
    assert rows[REFUSED_ROLE].last_error == "ChannelRefused"


def test_the_webhook_received_an_adaptive_card_without_patient_data(
    journey: Journey, alarm: Alarm, webhook: Webhook
) -> None:
    alert = alarm.row(journey)
    mine = [card for card in webhook.cards if alarm.alert_id in json.dumps(card)]

    (attachment,) = mine[0]["attachments"]
    card = attachment["content"]
    assert mine[0]["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["actions"][0]["url"] == f"{journey.pages}/alerts/{alarm.alert_id}"
    text = json.dumps(card)
    assert str(alert.bed) in text
    for secret in (str(alarm.patient.subject), "Recorded patient", "134", "respir", "systolic", "pressure 86", "NEWS2"):
        assert secret not in text.replace(alarm.alert_id, "")


def test_messages_are_communications_in_fhir(journey: Journey, alarm: Alarm) -> None:
    patient = alarm.patient.patient_id

    def written() -> list[Json] | None:
        held = journey.search("Communication", patient=patient)
        return held if len(held) >= 2 else None

    found = journey.until(written, "a Communication a message that was taken")

    assert {one["medium"][0]["text"] for one in found} == {"teams"}
    assert {one["status"] for one in found} == {"completed"}


def test_the_dashboard_shows_the_patient_with_score_and_alert(journey: Journey, alarm: Alarm, page: "Page") -> None:
    page.goto(f"{journey.pages}/")

    tile = page.locator(f"#tile-{alarm.patient.patient_id}")

    tile.wait_for()
    text = tile.inner_text()
    assert str(alarm.row(journey).bed) in text
    assert re.search(r"\b1[3-9]\b", text)
    assert "High" in text
    assert page.locator("[id^=tile-mimic3-patient-]").count() == len(journey.patients)


def test_the_patient_page_shows_score_vitals_flag_and_alert(journey: Journey, alarm: Alarm, page: "Page") -> None:
    alert = alarm.row(journey)

    page.goto(f"{journey.pages}/alerts/{alarm.alert_id}")

    assert page.url == f"{journey.pages}/patients/{alarm.patient.patient_id}"
    text = page.locator("#present").inner_text()
    assert "28" in text
    assert alert.action in text
    assert f"Flag/{alert.flag_id}" in text
    page.locator("#charts canvas").first.wait_for()


def test_the_care_team_page_lists_the_alert_until_somebody_has_seen_it(
    journey: Journey, acknowledged: Alarm, page: "Page"
) -> None:
    alert = acknowledged.row(journey)

    assert (alert.state, alert.acknowledged_by, alert.acknowledge_reason) == ("acknowledged", USER, "seen-going")
    # Seen and claimed by nobody, it is told again a quarter of an hour later (decision 0053).
    assert alert.acknowledged_at is not None
    assert alert.next_step_at == alert.acknowledged_at + 900_000_000
    page.goto(f"{journey.pages}/worklist")
    item = page.locator(f"#alert-{acknowledged.alert_id}[data-seen]")
    item.wait_for()
    assert f"seen by {USER}" in item.inner_text()


def test_an_acknowledged_alert_is_an_accepted_task(journey: Journey, acknowledged: Alarm) -> None:
    alert = acknowledged.row(journey)

    def accepted() -> list[Json]:
        held = journey.search("Task", patient=acknowledged.patient.patient_id)
        return [one for one in held if one["status"] == "accepted"]

    (task,) = journey.until(accepted, "an accepted Task")

    assert (task["intent"], task["priority"]) == ("order", "stat")
    assert task["focus"] == {"reference": f"Flag/{alert.flag_id}"}
    assert task["for"] == {"reference": f"Patient/{acknowledged.patient.patient_id}"}
    assert task["businessStatus"] == {"text": "acked"}
    assert str(task["authoredOn"]) <= str(task["lastModified"])


def test_what_the_person_did_is_an_audit_event(journey: Journey, acknowledged: Alarm) -> None:
    def acts() -> list[Json]:
        held = journey.search("AuditEvent", patient=acknowledged.patient.patient_id)
        return [one for one in held if one["subtype"][0]["code"] == "acknowledge"]

    (event,) = journey.until(acts, "the AuditEvent of the acknowledgement")

    assert event["agent"] == [
        {
            "who": {"identifier": {"system": "https://pulseweir.org/fhir/NamingSystem/user", "value": USER}},
            "altId": USER,
            "requestor": True,
        }
    ]
    assert event["outcome"] == "0"


def test_reports_are_refreshed_by_schedule(journey: Journey, alarm: Alarm) -> None:
    asked = real_microseconds()

    def refreshed() -> RefreshRow | None:
        with journey.repository.reading() as transaction:
            last = reports.last_refresh(transaction, cause="schedule")
        return last if last is not None and last.started_at > asked else None

    journey.until(refreshed, "a scheduled refresh", 90)

    with journey.repository.reading() as transaction:
        summary = {row.ward: row for row in reports.ward_summary(transaction)}
    assert summary[str(alarm.row(journey).ward)].alerts_open >= 1
    assert sum(row.patients for row in summary.values()) >= len(journey.patients)


def test_reports_are_refreshed_by_hand(journey: Journey, page: "Page") -> None:
    page.goto(f"{journey.pages}/reports")
    with page.expect_navigation():
        page.click("#refresh")

    with journey.repository.reading() as transaction:
        last = reports.last_refresh(transaction, cause="manual")

    assert last is not None
    assert last.requested_by == USER
    assert f"manual by {USER}" in page.inner_text(".ward-bar")


def test_conserve_finds_no_difference(journey: Journey, alarm: Alarm) -> None:
    assert alarm.alert_id
    journey.settle()

    answer = journey.command("conserve", "--json")

    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["conservation_difference"] == 0
