"""Step 18: alerts follow their patients and the people who work, and nothing present is forgotten."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from alert_steps import fact
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.channels.base import Notification
from pulseweir.backends.repository import Repository, alerts, flags, outbox, people
from pulseweir.backends.repository.rows import AlertRow, UserRow
from pulseweir.errors import AlertCommandRefused
from pulseweir.records.flag_facts import FLAG_OPENED, FlagFact, flag_fact_table, flag_facts
from pulseweir.records.topics import ALERT_EVENTS
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_team import CareTeamDesk, Person
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.settings import NoticeSettings
from risk_rows import live, record_stage, row, table

CHIEF = Person("chief")
MINUTE = 60_000_000


@pytest.fixture
def stage(repository: Repository, bus: EmbeddedBus) -> CoordinationStage:
    return CoordinationStage(repository, bus, AlertSettings(), NoticeSettings())


@pytest.fixture
def desk(repository: Repository) -> CareTeamDesk:
    return CareTeamDesk(repository, AlertSettings(), NoticeSettings())


async def account(
    repository: Repository, name: str, role: str = "nurse", wards: str = '["Ward A"]', **other: Any
) -> None:
    row = UserRow(user_name=name, password_hash="", role=role, wards_json=wards, created_at=0, **other)
    await repository.write(people.save_user, row)


async def take(stage: CoordinationStage, *facts: FlagFact) -> None:
    await stage.handle({0: flag_fact_table([(FLAG_OPENED, one) for one in facts])})


async def the_alert(repository: Repository) -> AlertRow:
    [found] = await repository.read(alerts.open_alerts)
    return found


async def happened(repository: Repository, alert_id: str) -> list[str]:
    events = await repository.read(alerts.transitions, [alert_id])
    return [event.transition for event in events[alert_id]]


@pytest.mark.parametrize("wards", [None, '["Ward B"]', "[]"])
async def test_an_alert_is_given_to_nobody_but_a_person_who_may_act_there(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk, wards: str | None
) -> None:
    await take(stage, fact())
    alert = await the_alert(repository)
    if wards is not None:
        await account(repository, "ghost", wards=wards)

    with pytest.raises(AlertCommandRefused, match="give it to an account that is enabled"):
        await desk.assign(CHIEF, alert.alert_id, "ghost")

    after = await the_alert(repository)
    assert (after.owner, after.acknowledged_at, after.next_step_at) == (None, None, alert.next_step_at)


@pytest.mark.parametrize(("role", "disabled"), [("ops", False), ("viewer-deid", False), ("nurse", True)])
async def test_who_does_not_act_on_patients_is_given_none(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk, role: str, disabled: bool
) -> None:
    await take(stage, fact())
    await account(repository, "ghost", role, "null", disabled=disabled)

    with pytest.raises(AlertCommandRefused):
        await desk.assign(CHIEF, (await the_alert(repository)).alert_id, "ghost")


@pytest.mark.parametrize("loss", [{"disabled": True}, {"wards_json": '["Ward B"]'}, {"role": "ops"}])
async def test_an_owner_who_may_no_longer_act_loses_the_alert_at_the_next_look(
    stage: CoordinationStage, repository: Repository, desk: CareTeamDesk, loss: dict[str, Any]
) -> None:
    await account(repository, "dana")
    await take(stage, fact())
    alert_id = (await the_alert(repository)).alert_id
    given = await desk.assign(CHIEF, alert_id, "dana")
    await stage.tick()
    assert (await the_alert(repository)).owner == given.owner == "dana"

    user = await repository.read(people.user, "dana")
    assert user is not None
    await repository.write(people.save_user, replace(user, **loss))
    await stage.tick()

    assert (await the_alert(repository)).owner is None
    assert (await happened(repository, alert_id))[-1] == "unassigned"


async def test_an_open_alert_follows_its_patient_and_the_next_message_goes_there(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus
) -> None:
    await take(stage, fact(), fact(2, status="inactive", end_at=1))
    await record_stage(repository, bus).handle(table(live("p1", 9, 2, ward="Ward B", bed="Bed 09")))

    await stage.tick()
    await stage.tick()
    alert = await the_alert(repository)
    await take(stage, fact(1, flag_id="f2", score=12.0, ward="Ward A"))

    assert (alert.ward, alert.bed, alert.state) == ("Ward B", "Bed 09", "raised")
    assert (await happened(repository, alert.alert_id)).count("moved") == 1
    sent = await repository.read(outbox.of_alert, alert.alert_id, kind=outbox.NOTIFICATION)
    notes = [msgspec.json.decode(entry.body_json, type=Notification) for entry in sent]
    assert [note.ward for note in notes] == ["Ward A", "Ward B"]


async def test_a_patient_nobody_can_place_keeps_the_alert_in_its_ward(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus
) -> None:
    await take(stage, fact())
    await record_stage(repository, bus).handle(table(live("p1", 9, 2, ward=None, bed=None)))

    await stage.tick()

    assert (await the_alert(repository)).ward == "Ward A"


async def flag_of(repository: Repository, bus: EmbeddedBus, *rows: dict[str, Any]) -> list[FlagFact]:
    await record_stage(repository, bus).handle(table(*rows))
    subscription = await bus.subscribe(ALERT_EVENTS, "test")
    deliveries = await subscription.read(wait_seconds=1, row_limit=100)
    await subscription.close()
    return [one for delivery in deliveries for one in flag_facts(delivery.table)]


async def test_what_a_person_closed_and_what_still_stands_is_raised_again_when_no_fact_comes(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus, desk: CareTeamDesk
) -> None:
    [told] = await flag_of(repository, bus, row("p1", 1, 8))
    await take(stage, told)
    closed = await desk.resolve(CHIEF, (await the_alert(repository)).alert_id, "Treated")
    assert closed.closed_at is not None

    await stage.go_round(closed.closed_at + 1_799 * 1_000_000)
    assert await repository.read(alerts.open_alerts) == []
    await stage.go_round(closed.closed_at + 1_800 * 1_000_000)
    await stage.go_round(closed.closed_at + 1_801 * 1_000_000)

    again = await the_alert(repository)
    assert (again.alert_id != closed.alert_id, again.score, again.level) == (True, 8, 1)


async def test_facts_of_an_episode_that_a_later_one_overtook_change_nothing(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus
) -> None:
    first = await flag_of(repository, bus, row("p1", 1, 8), row("p1", 2, 1), row("p1", 3, 1), row("p1", 4, 9))
    stored = {one.flag_id: one for one in first}
    assert len(stored) == 2
    await take(stage, *first)
    before = await the_alert(repository)

    early = min(first, key=lambda one: one.start_at)
    await take(stage, msgspec.structs.replace(early, status="active", change=99, score=20.0))

    assert await the_alert(repository) == before
    assert len(await repository.read(flags.open_flags)) == 1


async def test_a_set_charted_late_by_hand_alerts_unless_it_is_backfill(
    stage: CoordinationStage, repository: Repository, bus: EmbeddedBus
) -> None:
    late = {"newest_received_at": 30 * MINUTE, "scored_at": 30 * MINUTE}
    await take(
        stage, *await flag_of(repository, bus, row("p1", 1, 17, **late), row("p2", 1, 17, backfill=True, **late))
    )

    assert (await the_alert(repository)).patient_id == "p1"


async def test_alerts_of_an_older_release_are_wound_up_once(stage: CoordinationStage, repository: Repository) -> None:
    await take(stage, fact())
    alert = await the_alert(repository)
    old = replace(alert, baseline_reds_json="null", baseline_score=None, paged_at=None, level=4, next_step_at=None)
    await repository.write(alerts.save, old, [])

    await stage.go_round(alert.raised_at)

    assert (await the_alert(repository)).next_step_at is not None
