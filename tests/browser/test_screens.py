"""The screens in a real browser, under the content security policy they are served with."""

from dataclasses import replace

import pytest

import invented_ward
from pulseweir.backends.repository import alerts, scores
from screen_visit import House, Visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_a_person_signs_in_and_sees_the_beds_of_the_ward(visit: Visit) -> None:
    visit.sign_in()

    assert visit.page.locator(".tile").count() == sum(bed.ward == "Ward A" for bed in invented_ward.BEDS)
    assert visit.page.locator(".tile").first.get_attribute("data-state") == "high-unacknowledged"
    visit.page.wait_for_selector("#connection[data-state=live]")
    assert visit.page.evaluate("localStorage.length") == 0
    assert visit.complaints == []


def test_the_board_changes_by_itself_when_a_patient_does(visit: Visit, house: House) -> None:
    visit.sign_in()
    visit.page.wait_for_selector("#connection[data-state=live]")
    tile = visit.page.locator("#tile-invented-11")
    assert tile.locator(".chip").inner_text() == "0"

    worse = invented_ward.Bed(11, age=39, now=(28, 88, 88, 135, 39.4))
    row = invented_ward.live_row_of(worse, house.repository.clock.now_microseconds())
    with house.repository.writing() as transaction:
        scores.save_live(transaction, [row])

    visit.page.wait_for_selector("#tile-invented-11 .chip[data-band=high]")
    assert visit.page.locator(".tile").nth(2).get_attribute("id") == "tile-invented-11"
    assert visit.complaints == []


def test_ages_tick_without_the_server(visit: Visit) -> None:
    visit.sign_in()
    # Nor may it replace the tile whose age is looked at.
    visit.page.route("**/events*", lambda route: route.abort())
    visit.page.clock.install()
    visit.page.reload()
    age = visit.page.locator("#tile-invented-05 .vital .age").nth(1)
    before = age.inner_text()

    # From a minute on an age is told in minutes.
    visit.page.clock.run_for(61_000)

    assert age.inner_text() != before


def test_the_patient_page_draws_its_charts_under_the_policy(visit: Visit) -> None:
    visit.sign_in()

    visit.page.goto(f"{visit.address}/patients/invented-01?hours=6")
    visit.page.wait_for_selector("#charts[data-drawn=true]")

    visit.page.wait_for_function("document.querySelector('#charts .bk-Column')?.shadowRoot?.childElementCount > 5")
    assert "11647 mmHg" in (visit.page.locator("#tables").text_content() or "")
    assert visit.page.locator("h1").inner_text().startswith("Bed 01")
    assert visit.complaints == []


def test_an_alert_is_acknowledged_on_the_worklist_by_keyboard(visit: Visit, house: House) -> None:
    visit.sign_in()
    visit.page.goto(f"{visit.address}/worklist")
    visit.page.keyboard.press("j")
    focused = visit.page.evaluate("document.activeElement.id")

    with visit.page.expect_navigation():
        visit.page.keyboard.press("a")

    assert focused == "alert-alert-01"
    visit.page.wait_for_selector("#alert-alert-01[data-seen]")
    with house.repository.reading() as transaction:
        row = alerts.alert(transaction, "alert-01")
    assert row is not None
    assert (row.acknowledged_by, row.acknowledge_reason) == ("morgan", "seen-going")
    assert visit.complaints == []


def test_a_board_without_its_stream_says_so_across_the_page(visit: Visit) -> None:
    visit.sign_in()

    visit.page.route("**/events*", lambda route: route.abort())
    visit.page.reload()

    visit.page.wait_for_selector("#connection[data-state=offline]")
    assert visit.page.locator("#offline").is_visible()
    assert "Values on this page are old" in visit.page.locator("#offline").inner_text()


def test_seven_tabs_share_one_stream_and_the_seventh_acknowledges(visit: Visit, house: House) -> None:
    visit.sign_in()
    streams: list[str] = []
    context = visit.page.context
    context.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    paths = ("/", "/", "/?ward=Ward+A", "/worklist", "/patients/invented-11", "/")
    tabs = [visit.page, *(context.new_page() for _ in paths)]
    for tab, path in zip(tabs[1:], paths, strict=True):
        tab.goto(f"{visit.address}{path}")
        tab.wait_for_selector("#connection[data-state=live]")
    worse = invented_ward.Bed(11, age=39, now=(30, 86, 84, 140, 39.6))
    row = invented_ward.live_row_of(worse, house.repository.clock.now_microseconds())
    with house.repository.writing() as transaction:
        scores.save_live(transaction, [row])

    for tab in (tabs[1], tabs[3], tabs[6]):
        tab.wait_for_selector("#tile-invented-11 .chip:has-text('14')")
    tabs[5].wait_for_selector("#present .chip:has-text('14')")
    tabs[6].goto(f"{visit.address}/worklist")
    tabs[6].wait_for_selector("#connection[data-state=live]")
    tabs[6].click("#alert-alert-02 button[data-key-press=a]")
    tabs[6].wait_for_selector("#alert-alert-02[data-seen]")
    tabs[4].wait_for_selector("#alert-alert-02[data-seen]")

    assert len(streams) <= 2

    visit.page.close()
    tabs[1].wait_for_selector("#connection[data-state=live]")
    better = invented_ward.live_row_of(invented_ward.BEDS[10], house.repository.clock.now_microseconds())
    with house.repository.writing() as transaction:
        scores.save_live(transaction, [better])
    for tab in (tabs[1], tabs[6]):
        tab.goto(f"{visit.address}/")
        tab.wait_for_selector("#tile-invented-11 .chip:has-text('0')")


def test_signing_out_in_one_tab_ends_all(visit: Visit) -> None:
    visit.sign_in()
    other = visit.page.context.new_page()
    other.goto(f"{visit.address}/worklist")
    other.wait_for_selector("#connection[data-state=live]")

    visit.page.click("text=Sign out")

    visit.page.wait_for_selector("input[name=password]")
    other.wait_for_selector("input[name=password]")


def test_a_page_in_use_takes_in_what_changes_around_what_is_typed(visit: Visit, house: House) -> None:
    visit.sign_in()
    visit.page.goto(f"{visit.address}/patients/invented-04")
    visit.page.wait_for_selector("#connection[data-state=live]")
    card = visit.page.locator("#card-alert-04")
    card.locator("details.story > summary").click()
    card.locator("details[data-key=note] > summary").click()
    note = card.locator("details[data-key=note] input[name=text]")
    note.press_sequentially("going to see")
    before = visit.page.locator("#present .chip.large").inner_text()
    worse = invented_ward.Bed(4, age=91, sex="male", now=(30, 82, 84, 140, 39.6), oxygen=10, alert="acknowledged")
    row = invented_ward.live_row_of(worse, house.repository.clock.now_microseconds())

    with house.repository.writing() as transaction:
        scores.save_live(transaction, [row])
    visit.page.wait_for_selector("#present .chip.large:has-text('16')")
    note.press_sequentially(" him")

    assert before != "16"
    assert note.input_value() == "going to see him"
    assert card.locator("details.story").get_attribute("open") is not None
    assert visit.page.evaluate("document.activeElement.name") == "text"
    assert visit.complaints == []


def test_a_half_typed_note_is_kept_when_its_alert_closes(visit: Visit, house: House) -> None:
    visit.sign_in()
    visit.page.goto(f"{visit.address}/worklist")
    visit.page.wait_for_selector("#connection[data-state=live]")
    item = visit.page.locator("#alert-alert-07")
    item.locator("details[data-key=note] > summary").click()
    note = item.locator("details[data-key=note] input[name=text]")
    note.press_sequentially("electrode")
    with house.repository.writing() as transaction:
        row = alerts.alert(transaction, "alert-07")
        assert row is not None
        alerts.save(transaction, replace(row, closed_at=row.updated_at, state="auto-cleared"), [])

    visit.page.wait_for_selector("#alert-alert-07[data-left-over]")

    assert note.input_value() == "electrode"


def test_a_request_that_nobody_answers_ends_and_says_so(visit: Visit) -> None:
    visit.sign_in()
    visit.page.goto(f"{visit.address}/worklist")
    visit.page.route("**/alerts/**", lambda route: None)
    visit.page.click("#alert-alert-01 button:has-text('Escalate')")

    visit.page.wait_for_selector("#not-sent:visible")

    assert "no answer within 10 s" in visit.page.locator("#not-sent").inner_text()


def test_values_that_stand_still_are_not_called_live(visit: Visit, house: House) -> None:
    visit.sign_in()
    old = house.repository.clock.now_microseconds() - 2 * invented_ward.HOUR
    visit.page.goto(f"{visit.address}/patients/invented-06")

    visit.page.wait_for_selector("#connection[data-state=quiet]")

    assert "no new values for" in visit.page.locator("#connection-word").inner_text()
    assert old < house.now


def test_an_alert_in_view_is_told_to_have_been_shown(visit: Visit, house: House) -> None:
    visit.sign_in()

    with visit.page.expect_response(lambda answer: answer.url.endswith("/alerts/shown")) as told:
        visit.page.goto(f"{visit.address}/worklist?tab=unassigned")

    sent = told.value.request.post_data_json or {}
    assert told.value.status == 204
    assert set(sent["alerts"]) <= {f"alert-{bed.number:02}" for bed in invented_ward.BEDS}
    with house.repository.reading() as transaction:
        happened = alerts.transitions(transaction, sent["alerts"])
    assert all("shown" in [event.transition for event in events] for events in happened.values())
