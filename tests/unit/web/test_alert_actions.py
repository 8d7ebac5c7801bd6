"""What a person can do to an alert, and the trace it leaves."""

import pytest

from pulseweir.backends.repository import alerts, people
from pulseweir.backends.repository.rows import AlertRow
from screen_site import Site


async def alert_of(site: Site, alert_id: str = "alert-01") -> AlertRow:
    row = await site.repository.read(alerts.alert, alert_id)
    assert row is not None
    return row


async def test_one_tap_acknowledges_with_its_reason(site: Site) -> None:
    async with await site.signed_in("nurse", ["Ward A"], name="morgan") as browser:
        answer = await browser.post(
            "/alerts/alert-01/acknowledge", data={"reason": "seen-going", "next": "/worklist?tab=mine"}
        )

    row = await alert_of(site)
    assert answer.headers["location"] == "/worklist?tab=mine"
    assert (row.acknowledged_by, row.acknowledge_reason) == ("morgan", "seen-going")
    acts = await site.repository.read(people.acts, patient_id="invented-01")
    assert [act.action for act in acts] == ["acknowledge"]


async def test_an_acknowledged_alert_is_steady_and_offers_no_second_acknowledgement(site: Site) -> None:
    async with await site.signed_in("nurse", name="morgan") as browser:
        await browser.post("/alerts/alert-02/acknowledge", data={"reason": "known-expected"})
        items = (await browser.get("/worklist/items")).text

    item = items[items.index('id="alert-alert-02"') :].split("</li>")[0]
    assert "data-seen" in item
    assert "data-acknowledged" in item
    assert "/acknowledge" not in item


async def test_resolving_needs_a_reason_and_moves_the_alert_to_done(site: Site) -> None:
    async with await site.signed_in("clinician") as browser:
        without = await browser.post("/alerts/alert-01/resolve", data={"reason": ""})
        await browser.post("/alerts/alert-01/resolve", data={"reason": "Treated, improving", "text": "oxygen up"})
        again = await browser.post("/alerts/alert-01/resolve", data={"reason": "Other"})
        done = (await browser.get("/worklist", params={"tab": "done"})).text

    assert without.status_code == 400
    assert (await alert_of(site)).outcome == "Treated, improving: oxygen up"
    assert again.status_code == 409
    assert "alert-alert-01" in done


@pytest.mark.parametrize(
    ("action", "form", "trace"),
    [
        ("claim", {}, "claimed"),
        ("note", {"text": "family called"}, "noted"),
        ("assign", {"owner": "dana"}, "assigned"),
        ("suppress", {"minutes": "1", "reason": "being washed"}, "suppressed"),
        ("reject", {"reason": "probe fell off"}, "rejected"),
    ],
)
async def test_every_command_is_part_of_the_story(site: Site, action: str, form: dict[str, str], trace: str) -> None:
    await site.session("nurse", name="dana")
    async with await site.signed_in("charge-nurse") as browser:
        answer = await browser.post(f"/alerts/alert-01/{action}", data=form)

    happened = await site.repository.read(alerts.transitions, ["alert-01"])
    assert answer.status_code == 303
    assert trace in [event.transition for event in happened["alert-01"]]


@pytest.mark.parametrize(("action", "status"), [("assign", 403), ("suppress", 403), ("vanish", 404), ("note", 400)])
async def test_a_nurse_cannot_do_what_the_role_or_the_form_does_not_allow(site: Site, action: str, status: int) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.post(f"/alerts/alert-01/{action}", data={})

    assert answer.status_code == status


@pytest.mark.parametrize("tab", ["unit", "unassigned", "mine", "escalated", "done", "missed"])
async def test_every_tab_opens_and_an_empty_one_tells_when_it_looked(site: Site, tab: str) -> None:
    async with await site.signed_in("nurse", ["Ward B"]) as browser:
        answer = await browser.get("/worklist", params={"tab": tab})

    assert answer.status_code == 200
    assert "Last checked" in answer.text


async def test_the_link_of_a_notification_leads_to_the_patient(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.get("/alerts/alert-01")

    assert answer.headers["location"] == "/patients/invented-01"
