"""When a nurse is called, called again, and left in peace: from the reading to the message."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bedside import ADULT, Bedside, MovingClock, observed
from patient_measurements import HOUR, MINUTE, SECOND
from pulseweir.backends.repository import Repository, people
from pulseweir.backends.repository.rows import UserRow
from pulseweir.errors import AlertCommandRefused
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.warm_path.care_team import Person

NURSE = Person("nurse", frozenset({"Ward A"}))
SEVEN: dict[str, Any] = {"respiratory_rate": 22, "heart_rate": 115, "oxygen_flow": 2, "temperature": 38.5}
NINETEEN: dict[str, Any] = {
    "respiratory_rate": 30, "spo2": 88, "oxygen_flow": 10, "systolic_bp": 80, "heart_rate": 140,
    "consciousness": "U", "temperature": 39.5,
}  # fmt: skip


def account(name: str, role: str = "nurse", wards: list[str] | None = None, *, disabled: bool = False) -> UserRow:
    wards_json = msgspec.json.encode(wards).decode()
    return UserRow(
        user_name=name, password_hash="none", role=role, wards_json=wards_json, created_at=0, disabled=disabled
    )


async def at_seven(ward: Bedside) -> str:
    await ward.measure(*observed(0, **SEVEN))
    await ward.settle()
    [alert] = await ward.alerts()
    assert (alert.priority, alert.score) == ("high", 7.0)
    return alert.alert_id


# Worse after somebody acted


@pytest.mark.parametrize("deed", ["seen-going", "known-expected", "claim", "escalate", "resolve", "reject", "suppress"])
async def test_a_rise_after_any_deed_pages_again(ward: Bedside, deed: str) -> None:
    alert_id = await at_seven(ward)
    await ward.minutes(2, **SEVEN)
    if deed == "claim":
        await ward.desk.claim(NURSE, alert_id)
    elif deed == "escalate":
        await ward.desk.acknowledge(NURSE, alert_id, "seen-going")
        await ward.desk.escalate(NURSE, alert_id)
    elif deed in ("resolve", "reject"):
        await getattr(ward.desk, deed)(NURSE, alert_id, "treated")
    elif deed == "suppress":
        await ward.desk.suppress(NURSE, alert_id, 120, "procedure")
    else:
        await ward.desk.acknowledge(NURSE, alert_id, deed)
    before = len(await ward.pages())

    await ward.measure(*observed(ward.now + 10 * SECOND, **NINETEEN))
    await ward.settle()

    assert len(await ward.pages()) > before
    [alert] = await ward.alerts()
    assert (alert.score, alert.acknowledged_at) == (19.0, None)
    assert alert.next_step_at is not None


async def test_one_point_more_after_an_acknowledgement_pages_nobody(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "known-expected")
    before = len(await ward.pages())

    await ward.minutes(30, **SEVEN, systolic_bp=105)

    assert len(await ward.pages()) == before


async def test_a_new_single_three_pages_even_when_the_total_rises_little(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "seen-going")
    before = len(await ward.pages())

    # Respiration from 2 to 3 points: the total rises by one.
    await ward.minutes(2, **{**SEVEN, "respiratory_rate": 26})
    await ward.settle()

    assert len(await ward.pages()) > before


async def test_acknowledged_and_unattended_is_reminded(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "seen-going")
    before = len(await ward.pages())

    await ward.minutes(60, **SEVEN)

    assert len(await ward.pages()) > before


async def test_escalated_by_hand_climbs_on(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "seen-going")
    await ward.desk.escalate(NURSE, alert_id)
    levels = [page.level for page in await ward.pages()]

    await ward.minutes(10, **SEVEN)

    assert max(page.level for page in await ward.pages()) > max(levels)


@pytest.fixture
def ward_of_window_flags(ward_repository: Repository, clock: MovingClock) -> Bedside:
    return Bedside(ward_repository, clock, flags=FlagSettings(flag_per="window"))


async def test_with_a_flag_for_every_window_the_ladder_is_climbed_and_a_rise_pages(
    ward_of_window_flags: Bedside,
) -> None:
    ward = ward_of_window_flags
    await ward.minutes(12, **SEVEN)
    before = await ward.pages()
    assert max(page.level for page in before) == 4

    await ward.minutes(2, **NINETEEN)
    await ward.settle()

    assert len(await ward.pages()) > len(before)


async def test_with_a_flag_for_every_window_the_next_window_is_no_new_episode(ward_of_window_flags: Bedside) -> None:
    ward = ward_of_window_flags
    await ward.minutes(4, **SEVEN)
    [alert] = await ward.alerts()
    await ward.desk.claim(NURSE, alert.alert_id)
    before = len(await ward.pages())

    await ward.minutes(40, **SEVEN)
    [alert] = await ward.alerts()
    assert (len(await ward.pages()), alert.ended_at) == (before, None)

    await ward.minutes(3)
    [alert] = await ward.alerts()
    assert alert.ended_at is not None


# Wavering round the threshold


async def test_a_score_that_wavers_gives_one_alert(ward: Bedside) -> None:
    base: dict[str, Any] = {"respiratory_rate": 22, "temperature": 38.5, "systolic_bp": 108}
    for minute in range(120):
        await ward.measure(*observed(minute * MINUTE, **base, heart_rate=(111, 109, 109)[minute % 3]))

    assert len(await ward.ever()) == 1


async def test_known_expected_quiets_until_it_gets_worse(ward: Bedside) -> None:
    base: dict[str, Any] = {"respiratory_rate": 22, "temperature": 38.5, "systolic_bp": 108}
    await ward.measure(*observed(0, **base, heart_rate=111))
    await ward.settle()
    [alert] = await ward.alerts()
    await ward.desk.acknowledge(NURSE, alert.alert_id, "known-expected")
    before = len(await ward.pages())

    for minute in range(2, 180):
        await ward.measure(*observed(minute * MINUTE, **base, heart_rate=(111, 109, 109, 109)[minute % 4]))
    assert len(await ward.pages()) == before

    await ward.measure(*observed(180 * MINUTE, **base, heart_rate=135))
    await ward.settle()
    assert len(await ward.pages()) > before


async def test_known_expected_outlasts_hours_in_between_and_ends_with_the_shift(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "known-expected")
    await ward.minutes(3)
    await ward.until(5 * HOUR)
    assert [alert.state for alert in await ward.ever()] == ["auto-cleared"]
    before = len(await ward.pages())

    await ward.minutes(3, **SEVEN)
    await ward.settle()
    assert len(await ward.pages()) == before
    assert [alert.state for alert in await ward.ever()] == ["acknowledged"]

    await ward.minutes(3)
    await ward.until(14 * HOUR)
    await ward.minutes(3, **SEVEN)
    await ward.settle()
    assert len(await ward.pages()) > before


# Charted by hand


@pytest.mark.parametrize(("late_minutes", "pages"), [(20, True), (50, True), (150, False)])
async def test_a_nurses_set_alerts_within_its_own_limit(ward: Bedside, late_minutes: int, pages: bool) -> None:
    received = 3 * HOUR
    sets = [
        replace(one, type=f"nurse-{one.vital}", received=received)
        for one in observed(received - late_minutes * MINUTE, **NINETEEN)
    ]
    await ward.measure(*sets)
    await ward.until(received + 2 * MINUTE)

    assert bool(await ward.pages()) is pages
    assert (await ward.row()).score == 19.0


@pytest.mark.parametrize("late_minutes", [20, 50])
async def test_a_monitors_late_set_pages_nobody(ward: Bedside, late_minutes: int) -> None:
    received = 3 * HOUR
    sets = [
        replace(one, type=f"monitor-{one.vital}", received=received)
        for one in observed(received - late_minutes * MINUTE, **NINETEEN)
    ]
    await ward.measure(*sets)
    await ward.until(received + 2 * MINUTE)

    assert await ward.pages() == []


# Left alone


async def test_an_alert_left_alone_never_falls_silent(ward: Bedside) -> None:
    await at_seven(ward)
    for hour in range(1, 7):
        before = len(await ward.pages())
        for _ in range(6):
            await ward.measure(*observed(ward.now + 10 * MINUTE, **SEVEN))
        assert len(await ward.pages()) > before, f"nothing in hour {hour}"

    [alert] = await ward.alerts()
    assert alert.next_step_at is not None


async def test_a_new_episode_after_the_cooldown_pages_again(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    await ward.desk.acknowledge(NURSE, alert_id, "seen-going")
    await ward.minutes(10)
    await ward.until(ward.now + 35 * MINUTE)
    before = len(await ward.pages())

    await ward.minutes(3, **SEVEN)

    assert len(await ward.pages()) > before


# To whom, and for how long


@pytest.mark.parametrize("owner", ["ghost-user", "other-ward", "disabled", "admin"])
async def test_an_alert_goes_only_to_a_real_person_in_scope(ward: Bedside, owner: str) -> None:
    with ward.repository.writing() as transaction:
        people.save_user(transaction, account("nurse", wards=["Ward A"]))
        people.save_user(transaction, account("other-ward", wards=["Ward B"]))
        people.save_user(transaction, account("disabled", wards=["Ward A"], disabled=True))
        people.save_user(transaction, account("admin", "admin"))
    alert_id = await at_seven(ward)

    with pytest.raises(AlertCommandRefused):
        await ward.desk.assign(NURSE, alert_id, owner)

    [alert] = await ward.alerts()
    assert (alert.owner, alert.acknowledged_at) == (None, None)


async def test_an_assigned_alert_nobody_acknowledges_climbs_on(ward: Bedside) -> None:
    with ward.repository.writing() as transaction:
        people.save_user(transaction, account("colleague", wards=["Ward A"]))
    alert_id = await at_seven(ward)
    await ward.desk.assign(NURSE, alert_id, "colleague")

    await ward.minutes(10, **SEVEN)

    [alert] = await ward.alerts()
    assert (alert.owner, alert.acknowledged_at) == ("colleague", None)
    assert alert.level == 4


async def test_suppression_has_a_budget_and_an_end(ward: Bedside) -> None:
    alert_id = await at_seven(ward)
    with pytest.raises(AlertCommandRefused):  # noqa: PT012 - which renewal is refused is a setting
        for _ in range(10):
            await ward.desk.suppress(NURSE, alert_id, 120, "procedure")
            await ward.minutes(2, **SEVEN)

    before = len(await ward.pages())
    await ward.minutes(10, **SEVEN)
    assert len(await ward.pages()) > before


# The alert follows the patient


async def test_an_open_alert_follows_the_patient_to_another_ward(ward: Bedside) -> None:
    await at_seven(ward)
    await ward.minutes(3)

    await ward.learn("ann", replace(ADULT, version=2, ward="Ward B", bed="Bed 9"))
    await ward.measure(*observed(ward.now + MINUTE))
    await ward._coordination.tick()

    [alert] = await ward.alerts()
    assert (alert.ward, alert.bed) == ("Ward B", "Bed 9")
