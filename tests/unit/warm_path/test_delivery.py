"""Step 18: a message counts as delivered when a channel that people look at took it, or a browser showed it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.channels.base import Channel, Notification
from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.channels.teams import TeamsChannel
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, alerts, outbox
from pulseweir.backends.repository.rows import AlertRow, OutboxRow
from pulseweir.errors import ChannelRefused, ChannelUnavailable
from pulseweir.records.flag_facts import FLAG_OPENED, FlagFact, flag_fact_table
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_team import CareTeamDesk, Person
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.delivery import OutboxSender
from pulseweir.warm_path.settings import CoordinationSettings, NoticeSettings

AT_ONCE = 0.000001
FACT = FlagFact(
    flag_id="f1",
    patient_id="p1",
    rule="news2",
    change=1,
    status="active",
    band="high",
    score=8.0,
    backfill=False,
    reason="NEWS2 8 (high). Raised by pulse 3.",
    start_at=0,
    last_window_end=60_000_000,
    end_at=None,
    ward="Ward A",
    bed="Bed 01",
    care_team_id="team-a",
    care_team="A nurses",
)


class Receiver(Channel):
    """A channel that answers as it is told to: errors in turn, then it takes."""

    def __init__(
        self, name: str, *errors: Callable[[], Exception], always: Callable[[], Exception] | None = None
    ) -> None:
        self.name = name
        self.errors = list(errors)
        self.always = always
        self.tries = 0
        self.taken: list[Notification] = []

    async def send(self, notification: Notification) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)()
        if self.always is not None:
            raise self.always()
        self.taken.append(notification)

    async def close(self) -> None:
        return


def away(name: str = "teams", seconds: float | None = None) -> Callable[[], Exception]:
    return lambda: ChannelUnavailable(name, "status 503", retry_after_seconds=seconds)


def refusing(name: str = "teams") -> Callable[[], Exception]:
    return lambda: ChannelRefused(name, "status 410")


class House:
    """Everything between a Flag fact and the channels."""

    def __init__(self, repository: Repository, bus: EmbeddedBus, fhir: FhirClient) -> None:
        self.repository = repository
        self.fhir = fhir
        self.stage = CoordinationStage(repository, bus, AlertSettings(), NoticeSettings())
        self.desk = CareTeamDesk(repository, AlertSettings(), NoticeSettings())

    def sender(self, *channels: Channel, **options: Any) -> OutboxSender:
        by_name = {channel.name: channel for channel in (LogChannel(), *channels)}
        settings = CoordinationSettings(**({"first_retry_seconds": AT_ONCE} | options))
        return OutboxSender(self.repository, self.fhir, by_name, settings)

    async def raise_one(self) -> AlertRow:
        await self.stage.handle({0: flag_fact_table([(FLAG_OPENED, FACT)])})
        return await self.alert()

    async def alert(self) -> AlertRow:
        [row] = await self.repository.read(alerts.alerts_of, "p1")
        return row

    async def entry(self) -> OutboxRow:
        row = await self.alert()
        return (await self.repository.read(outbox.of_alert, row.alert_id))[0]

    async def happened(self) -> list[str]:
        row = await self.alert()
        return [
            one.transition for one in (await self.repository.read(alerts.transitions, [row.alert_id]))[row.alert_id]
        ]

    async def message(self, sender: OutboxSender) -> dict[str, Any]:
        while await sender.write_fhir():
            pass
        [found] = await self.fhir.search("Communication", {})
        return found


@pytest.fixture
def house(repository: Repository, bus: EmbeddedBus, fhir: FhirClient) -> House:
    return House(repository, bus, fhir)


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def test_a_message_a_channel_took_is_delivered(house: House) -> None:
    await house.raise_one()
    teams = Receiver("teams")
    out = house.sender(teams)

    await out.send_notifications()

    alert, message = await house.alert(), await house.message(out)
    assert (alert.state, alert.delivery) == ("notified", "delivered")
    assert alert.delivered_at is not None
    assert (message["status"], message["medium"][0]["text"]) == ("completed", "teams")
    assert "sent" in message
    assert teams.taken[0].raised_at == alert.raised_at


async def test_a_channel_away_for_seconds_gets_the_message_in_the_end_and_the_log_counts_for_nothing(
    house: House, lines: list[Any]
) -> None:
    await house.raise_one()
    teams = Receiver("teams", *[away()] * 8)
    out = house.sender(teams)

    for _ in range(8):
        await out.send_notifications()
        assert (await house.alert()).state == "raised"
        assert (await house.entry()).state == "waiting"
    await out.send_notifications()

    entry = await house.entry()
    assert (entry.state, entry.channel, len(teams.taken)) == ("sent", "teams", 1)
    assert [line["event"] for line in lines].count("notification") == 1


async def test_a_channel_that_refuses_hands_over_at_once(house: House) -> None:
    await house.raise_one()
    teams, email = Receiver("teams", always=refusing()), Receiver("email")
    out = house.sender(teams, email)

    await out.send_notifications()
    await out.send_notifications()

    assert ((await house.entry()).channel, teams.tries) == ("email", 1)


async def test_a_channel_that_is_away_is_tried_again_before_the_next(house: House) -> None:
    await house.raise_one()
    teams, email = Receiver("teams", always=away()), Receiver("email")
    out = house.sender(teams, email, attempts_per_channel=2)

    for _ in range(3):
        await out.send_notifications()

    assert ((await house.entry()).channel, teams.tries) == ("email", 2)


async def test_a_channel_that_asks_for_patience_is_left_alone_while_the_next_has_its_turn(house: House) -> None:
    await house.raise_one()
    teams, email = Receiver("teams", always=away(seconds=100)), Receiver("email", refusing("email"))
    out = house.sender(teams, email)

    for _ in range(4):
        await out.send_notifications()

    assert ((await house.entry()).channel, teams.tries, email.tries) == ("email", 1, 2)


async def test_all_channels_that_failed_are_gone_round_again(house: House) -> None:
    await house.raise_one()
    teams, webhook = Receiver("teams", refusing(), refusing()), Receiver("webhook", *[refusing("webhook")] * 2)
    out = house.sender(teams, webhook)

    for _ in range(5):
        await out.send_notifications()

    assert ((await house.entry()).channel, teams.tries, webhook.tries) == ("teams", 3, 2)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e12])
async def test_an_absurd_wait_is_bounded(house: House, seconds: float) -> None:
    await house.raise_one()
    out = house.sender(Receiver("teams", away(seconds=seconds)), longest_retry_seconds=AT_ONCE)

    await out.send_notifications()
    await out.send_notifications()

    assert (await house.entry()).state == "sent"


async def test_a_channel_that_breaks_keeps_no_other_from_being_tried(house: House, lines: list[Any]) -> None:
    await house.raise_one()
    out = house.sender(Receiver("teams", always=lambda: KeyError("p1")), Receiver("email"), attempts_per_channel=1)

    await out.send_notifications()
    await out.send_notifications()

    assert (await house.entry()).channel == "email"
    assert "p1" not in str(lines)


async def test_a_message_that_waits_says_so_and_then_that_it_was_delivered(house: House) -> None:
    await house.raise_one()
    out = house.sender(Receiver("teams", *[away()] * 2), undelivered_after_seconds=AT_ONCE)

    await out.send_notifications()
    waiting = await house.alert()
    for _ in range(2):
        await out.send_notifications()

    assert (waiting.state, waiting.delivery) == ("raised", "waiting")
    assert ((await house.alert()).state, (await house.alert()).delivery) == ("notified", "delivered")
    assert (await house.happened()).count("delivery-waits") == 1


async def test_a_message_no_channel_takes_fails_in_the_end_and_says_so(house: House, lines: list[Any]) -> None:
    await house.raise_one()
    out = house.sender(Receiver("teams", always=away()), give_up_after_seconds=AT_ONCE)

    await out.send_notifications()

    entry, alert, message = await house.entry(), await house.alert(), await house.message(out)
    assert (entry.state, entry.last_error) == ("failed", "ChannelUnavailable")
    assert (alert.state, alert.delivery) == ("raised", "not-delivered")
    assert (await house.happened())[-1] == "not-delivered"
    assert "notification_failed" in [line["event"] for line in lines]
    assert message["status"] == "not-done"
    assert message["statusReason"]["text"]
    assert not {"sent", "medium"} & set(message)


async def test_without_a_channel_that_people_look_at_the_log_has_it_once_and_nobody_was_told(
    house: House, lines: list[Any]
) -> None:
    await house.raise_one()
    out = house.sender()

    for _ in range(3):
        await out.send_notifications()

    alert, message = await house.alert(), await house.message(out)
    assert (await house.entry()).state == "logged"
    assert (alert.state, alert.delivery) == ("raised", "not-delivered")
    assert [line["event"] for line in lines] == ["notification"]
    assert message["status"] == "not-done"


async def test_reminders_nobody_can_get_are_not_told_of_again_each(house: House) -> None:
    alert = await house.raise_one()
    out = house.sender()

    for minute in range(1, 6):
        await out.send_notifications()
        await house.stage.run_due(alert.raised_at + minute * 60_000_000)
    await out.send_notifications()

    assert (await house.happened()).count("not-delivered") == 1
    assert (await house.alert()).delivery == "not-delivered"


async def test_what_waited_calls_nobody_for_an_alert_that_was_answered(house: House) -> None:
    alert = await house.raise_one()
    teams = Receiver("teams", away())
    out = house.sender(teams)
    await out.send_notifications()

    await house.desk.acknowledge(Person("nurse"), alert.alert_id, "seen-going")
    await out.send_notifications()

    assert ((await house.entry()).state, teams.taken) == ("overtaken", [])
    assert (await house.message(out))["status"] == "not-done"


async def test_an_entry_of_an_older_release_is_sent_by_the_channels_there_are(house: House) -> None:
    await house.raise_one()
    old = await house.entry()
    body = msgspec.json.decode(old.body_json)
    del body["raised_at"]
    kept = replace(old, channels_json='["teams","log"]', body_json=msgspec.json.encode(body).decode())
    await house.repository.write(outbox.save, [kept])
    email = Receiver("email")

    await house.sender(email).send_notifications()

    assert (await house.entry()).channel == "email"
    assert email.taken[0].raised_at == 0


async def test_a_card_reaches_the_webhook_without_patient_data(house: House) -> None:
    received: list[bytes] = []

    def take(request: httpx.Request) -> httpx.Response:
        received.append(request.content)
        return httpx.Response(202)

    alert = await house.raise_one()
    out = house.sender(TeamsChannel("https://hook.example/x", transport=httpx.MockTransport(take)))
    await out.send_notifications()
    await out.close()

    [body] = received
    assert b"Bed 01" in body
    assert f"/alerts/{alert.alert_id}".encode() in body
    assert b"p1" not in body
    assert b"pulse 3" not in body


async def test_a_webhook_that_answers_200_with_an_error_has_not_taken_it(house: House) -> None:
    told = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429"
    answers = [httpx.Response(200, text=told), httpx.Response(202)]
    await house.raise_one()
    out = house.sender(TeamsChannel("https://hook.example/x", transport=httpx.MockTransport(lambda _: answers.pop(0))))

    await out.send_notifications()
    before = await house.alert()
    await out.send_notifications()
    await out.close()

    assert before.state == "raised"
    assert (await house.alert()).state == "notified"
