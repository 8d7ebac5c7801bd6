"""The screens in a real browser, under the content security policy they are served with."""

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
