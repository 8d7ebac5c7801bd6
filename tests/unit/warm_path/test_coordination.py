"""Steps 16-18: from a Flag fact to the people, and back from them to FHIR."""

from contextlib import suppress
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.channels.base import Channel, Notification
from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, alerts, outbox, people, reports
from pulseweir.backends.repository.rows import AlertRow, OutboxRow
from pulseweir.errors import AlertCommandRefused
from pulseweir.records.flag_facts import FLAG_OPENED, FLAG_UPDATED, FlagFact, flag_fact_table
from pulseweir.records.topics import ALERT_EVENTS
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_team import CareTeamDesk, Person
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.delivery import OutboxSender
from pulseweir.warm_path.refresh import ReportRefresh
from pulseweir.warm_path.settings import CoordinationSettings, NoticeSettings, RefreshSettings

NURSE = Person("nurse", frozenset({"Ward A"}))
MINUTE = 60_000_000


def fact(change: int = 1, **other: Any) -> FlagFact:
    facts: dict[str, Any] = {
        "flag_id": "f1",
        "patient_id": "p1",
        "rule": "news2",
        "change": change,
        "status": "active",
        "band": "high",
        "score": 8.0,
        "backfill": False,
        "reason": "NEWS2 8 (high). Raised by pulse 3.",
        "start_at": 0,
        "last_window_end": 60_000_000,
        "end_at": None,
        "ward": "Ward A",
        "bed": "Bed 01",
        "care_team_id": "team-a",
        "care_team": "A nurses",
    }
    return FlagFact(**(facts | other))


@pytest.fixture
def stage(repository: Repository, bus: EmbeddedBus) -> CoordinationStage:
    return CoordinationStage(repository, bus, AlertSettings(), NoticeSettings())


@pytest.fixture
def desk(repository: Repository) -> CareTeamDesk:
    return CareTeamDesk(repository, AlertSettings(), NoticeSettings())


def sender(repository: Repository, fhir: FhirClient, *channels: Channel, **options: Any) -> OutboxSender:
    by_name = {channel.name: channel for channel in (LogChannel(), *(channels or (Taking(),)))}
    return OutboxSender(repository, fhir, by_name, CoordinationSettings(**options))


async def raise_one(stage: CoordinationStage, repository: Repository, **other: Any) -> AlertRow:
    await stage.handle({0: flag_fact_table([(FLAG_OPENED, fact(**other))])})
    [row] = await repository.read(alerts.open_alerts, patient_id=str(other.get("patient_id", "p1")))
    return row


class Taking(Channel):
    """A receiver that takes everything."""

    name = "teams"

    async def send(self, notification: Notification) -> None:
        return

    async def close(self) -> None:
        return


async def entries(repository: Repository, kind: str = outbox.NOTIFICATION) -> list[OutboxRow]:
    [alert] = await repository.read(alerts.worklist)
    return await repository.read(outbox.of_alert, alert.alert_id, kind=kind)


async def test_a_fact_becomes_one_alert_one_page_and_one_task(
    stage: CoordinationStage, repository: Repository, fhir: FhirClient
) -> None:
    table = flag_fact_table([(FLAG_OPENED, fact())])
    await stage.handle({0: table})
    await stage.handle({0: table})

    out = sender(repository, fhir)
    with structlog.testing.capture_logs() as lines:
        sent = await out.send_notifications()
    while await out.write_fhir():
        pass

    [alert] = await repository.read(alerts.open_alerts)
    [task] = await fhir.search("Task", {})
    [message] = await fhir.search("Communication", {})
    assert (sent, alert.state) == (1, "notified")
    assert [line["bed"] for line in lines if line["event"] == "notification"] == ["Bed 01"]
    assert (task["status"], task["priority"], task["owner"]["reference"]) == ("requested", "stat", "CareTeam/team-a")
    assert task["businessStatus"]["text"] == "unacked"
    assert (message["status"], message["medium"][0]["text"]) == ("completed", "teams")
    assert "NEWS2" not in msgspec.json.encode(message).decode()


async def test_an_unanswered_alert_escalates_and_an_acknowledged_one_does_not(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk
) -> None:
    alert = await raise_one(stage, repository)
    now = alert.raised_at

    await stage.run_due(now + 61_000_000)
    await desk.acknowledge(NURSE, alert.alert_id, "seen-going")
    await stage.run_due(now + 10 * MINUTE)

    pages = [msgspec.json.decode(row.body_json, type=Notification).role for row in await entries(repository)]
    assert pages == ["nurse", "charge-nurse"]


async def test_a_person_works_an_alert_off_and_fhir_tells_it(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk, fhir: FhirClient
) -> None:
    alert = await raise_one(stage, repository)

    await desk.acknowledge(NURSE, alert.alert_id, "seen-going")
    await desk.claim(NURSE, alert.alert_id)
    await desk.add_note(NURSE, alert.alert_id, "Oxygen started")
    await desk.resolve(NURSE, alert.alert_id, "Moved to intensive care")
    out = sender(repository, fhir)
    while await out.write_fhir():
        pass

    [task] = await fhir.search("Task", {})
    acts = await fhir.search("AuditEvent", {})
    sources = await fhir.search("Provenance", {})
    assert {source["target"][0]["reference"] for source in sources} == {f"Task/{task['id']}"}
    assert {source["activity"]["coding"][0]["code"] for source in sources} == {
        "acknowledge",
        "claim",
        "note",
        "resolve",
    }
    assert {source["agent"][0]["who"]["identifier"]["value"] for source in sources} == {"nurse"}
    assert (task["status"], task["output"][0]["valueString"]) == ("completed", "Moved to intensive care")
    assert {act["subtype"][0]["code"] for act in acts} == {"acknowledge", "claim", "note", "resolve"}
    assert all(act["agent"][0]["altId"] == "nurse" for act in acts)
    assert await repository.read(people.verify_acts) is None
    row, history = await desk.alert(NURSE, alert.alert_id)
    assert row.owner == "nurse"
    assert [event.transition for event in history][-4:] == ["acknowledged", "claimed", "noted", "resolved"]


async def test_a_person_of_another_ward_finds_no_such_alert(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk
) -> None:
    alert = await raise_one(stage, repository)
    stranger = Person("visitor", frozenset({"Ward B"}))

    with pytest.raises(AlertCommandRefused, match="no such alert"):
        await desk.acknowledge(stranger, alert.alert_id, "seen-going")

    assert await desk.worklist(stranger) == []
    assert [row.alert_id for row in await desk.worklist(NURSE)] == [alert.alert_id]
    assert [row.alert_id for row in await desk.worklist(Person("chief"))] == [alert.alert_id]
    assert await repository.read(people.acts) == []


async def test_a_refused_command_leaves_no_trace(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk
) -> None:
    alert = await raise_one(stage, repository)
    before = await repository.read(outbox.count)

    with pytest.raises(AlertCommandRefused):
        await desk.resolve(NURSE, alert.alert_id, "")

    assert await repository.read(outbox.count) == before
    assert await repository.read(people.acts) == []


async def test_what_a_dead_sender_had_in_hand_comes_back_after_its_lease(
    stage: CoordinationStage, repository: Repository
) -> None:
    await raise_one(stage, repository)
    [taken] = await repository.write(outbox.claim, outbox.NOTIFICATION, 2**60, until_real=2**61)

    assert await repository.read(outbox.due, outbox.NOTIFICATION, 2**60) == []
    assert await repository.read(outbox.due, outbox.NOTIFICATION, 2**61) != []
    assert taken.state == "waiting"


async def test_an_audit_event_that_was_written_before_a_crash_is_not_refused_after_it(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk, fhir: FhirClient
) -> None:
    """The FHIR store keeps AuditEvents as they were written: a second PUT of one is refused with 405."""
    alert = await raise_one(stage, repository)
    await desk.acknowledge(NURSE, alert.alert_id, "seen-going")
    out = sender(repository, fhir)
    waiting = await repository.write(outbox.claim, outbox.FHIR, 2**60, until_real=0)
    await out.write_fhir()

    await repository.write(outbox.save, waiting)
    with structlog.testing.capture_logs() as lines:
        written = await out.write_fhir()

    assert written == len(waiting)
    assert await repository.read(outbox.due, outbox.FHIR, 2**60) == []
    assert await fhir.count("AuditEvent", {}) == 1
    assert lines == []


async def test_a_task_whose_flag_is_not_there_yet_waits_however_the_server_says_so(
    stage: CoordinationStage, repository: Repository
) -> None:
    """HAPI answers 400 where a reference leads nowhere."""
    issue = {"severity": "error", "code": "processing", "diagnostics": "Resource Flag/f not found"}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    entry = {"response": {"status": "400 Bad Request", "outcome": outcome}}
    body = {"resourceType": "Bundle", "type": "batch-response", "entry": [entry]}
    client = FhirClient("http://strict/fhir", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body)))
    await raise_one(stage, repository)

    await sender(repository, client).write_fhir()

    await client.close()
    [task] = await entries(repository, outbox.FHIR)
    assert (task.state, task.attempts) == ("waiting", 1)


async def test_a_dead_fhir_service_holds_no_notification_back(stage: CoordinationStage, repository: Repository) -> None:
    def dead(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone", request=request)

    client = FhirClient("http://dead/fhir", transport=httpx.MockTransport(dead))
    await raise_one(stage, repository)
    out = sender(repository, client)

    with structlog.testing.capture_logs():
        assert await out.write_fhir() == 1
        assert await out.send_notifications() == 1

    await client.close()
    [entry] = await entries(repository)
    [task] = [row for row in await entries(repository, outbox.FHIR) if row.entry_key.startswith("Task")][:1]
    assert entry.state == "sent"
    assert (task.state, task.attempts) == ("waiting", 1)


async def test_what_happened_is_published_once_for_others(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus
) -> None:
    await raise_one(stage, repository)
    await stage.tick()
    await stage.tick()
    subscription = await bus.subscribe(ALERT_EVENTS, "others")
    deliveries = await subscription.read(wait_seconds=1, row_limit=100)
    await subscription.close()

    told = [name for delivery in deliveries for name in delivery.table["transition"].cast("string").to_pylist()]
    handled = await stage.handle({delivery.shard: delivery.table for delivery in deliveries})

    assert told == ["raised", "paged"]
    assert handled.outcome.tallies == {"own": 2}


async def test_facts_of_many_patients_are_taken_in_one_call(stage: CoordinationStage, repository: Repository) -> None:
    opened = [(FLAG_OPENED, fact(patient_id=f"p{number}", flag_id=f"f{number}")) for number in range(5)]
    updated = [(FLAG_UPDATED, fact(2, patient_id="p1", score=9.0))]

    handled = await stage.handle({0: flag_fact_table(opened), 1: flag_fact_table(updated)})

    assert handled.outcome.tallies == {"taken": 6}
    assert len(await repository.read(alerts.open_alerts)) == 5


async def test_a_running_sender_ends_when_cancelled(repository: Repository, fhir: FhirClient) -> None:
    import asyncio

    running = asyncio.create_task(sender(repository, fhir).run())
    await asyncio.sleep(0)
    running.cancel()

    with suppress(asyncio.CancelledError):
        await running
    assert running.done()


async def test_reports_refresh_by_schedule_and_by_hand(stage: CoordinationStage, repository: Repository) -> None:
    await raise_one(stage, repository)
    refresh = ReportRefresh(repository, RefreshSettings(every_seconds=3_600))

    first = await refresh.refresh_if_due()
    second = await refresh.refresh_if_due()
    by_hand = await refresh.refresh(requested_by="nurse")

    assert first is not None
    assert (first.cause, second, by_hand.cause, by_hand.requested_by) == ("schedule", None, "manual", "nurse")
    assert [row.alerts for row in await repository.read(reports.alert_burden)] == [1]
