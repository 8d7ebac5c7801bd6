"""An alert counts as seen when a browser says that it showed it to somebody who acts on patients."""

from typing import Any

import pytest

from pulseweir.backends.repository import alerts, people
from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from screen_site import Site


async def alert_of(site: Site) -> AlertRow:
    row = await site.repository.read(alerts.alert, "alert-01")
    assert row is not None
    return row


async def shown(site: Site) -> list[TransitionRow]:
    happened = await site.repository.read(alerts.transitions, ["alert-01"])
    return [event for event in happened["alert-01"] if event.transition == "shown"]


@pytest.mark.parametrize("body", [["alert-01", "no-such-alert"], {"alerts": ["alert-01"]}])
async def test_what_a_nurse_had_on_show_is_seen_once(site: Site, body: Any) -> None:
    async with await site.signed_in("nurse", ["Ward A"], name="morgan") as browser:
        answers = [await browser.post("/alerts/shown", json=body) for _ in range(3)]

    row = await alert_of(site)
    assert {answer.status_code for answer in answers} == {204}
    assert (row.delivery, row.state) == ("seen", "notified")
    assert row.delivered_at is not None
    assert [event.actor for event in await shown(site)] == ["morgan"]
    acts = await site.repository.read(people.acts, patient_id="invented-01")
    assert [(act.actor, act.action) for act in acts] == [("morgan", "read")]


async def test_each_person_is_noted(site: Site) -> None:
    for name in ("morgan", "sam"):
        async with await site.signed_in("clinician", name=name) as browser:
            await browser.post("/alerts/shown", json=["alert-01"])

    assert [event.actor for event in await shown(site)] == ["morgan", "sam"]


@pytest.mark.parametrize(("role", "wards"), [("nurse", ["Ward B"]), ("viewer-deid", None)])
async def test_another_ward_or_a_screen_that_only_looks_on_sees_nothing(
    site: Site, role: str, wards: list[str] | None
) -> None:
    async with await site.signed_in(role, wards) as browser:
        answer = await browser.post("/alerts/shown", json=["alert-01"])

    assert answer.status_code == 204
    assert (await shown(site), (await alert_of(site)).delivery) == ([], "")


async def test_who_sees_no_patients_may_not_say_so(site: Site) -> None:
    async with await site.signed_in("ops") as browser:
        assert (await browser.post("/alerts/shown", json=["alert-01"])).status_code == 403


async def test_without_its_token_or_a_session_nothing_is_taken(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        browser.headers["x-csrf-token"] = "other"
        assert (await browser.post("/alerts/shown", json=["alert-01"])).status_code == 403
    async with site.browser() as browser:
        assert (await browser.post("/alerts/shown", json=["alert-01"])).status_code == 401

    assert await shown(site) == []


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b'{"alerts": [1]}', 400), (b"[" * 40_000, 413)])
async def test_nonsense_is_refused(site: Site, body: bytes, status: int) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.post("/alerts/shown", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == status
