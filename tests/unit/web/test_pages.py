"""Every page: who may see it, what it carries, and what it never lets through."""

from dataclasses import replace

import httpx
import msgspec
import pytest
from starlette.routing import Route

import invented_ward
from invented_ward import BEDS
from pulseweir.backends.repository import alerts, device_signals, people, reports, scores
from pulseweir.backends.repository.rows import DeviceSignalRow
from pulseweir.clock import Clock
from pulseweir.site_time import SiteTime
from pulseweir.web.pages import DISCLAIMER, Pages
from pulseweir.web.rights import Viewer
from pulseweir.web.security import CHART_POLICY, STRICT_POLICY
from screen_site import Site

PAGES = ("/", "/worklist", "/reports", "/patients/invented-01")


@pytest.mark.parametrize("path", [*PAGES, "/sign-in", "/no-such-page"])
async def test_every_page_carries_the_policy_and_the_disclaimer(site: Site, path: str) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.get(path)

    expected = CHART_POLICY if path.startswith("/patients") else STRICT_POLICY
    assert answer.headers["content-security-policy"] == expected
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert DISCLAIMER in answer.text


def test_no_policy_lets_foreign_or_inline_scripts_run() -> None:
    for policy in (STRICT_POLICY, CHART_POLICY):
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
    assert "unsafe" not in STRICT_POLICY


@pytest.mark.parametrize("path", [*PAGES, "/events", "/patients/invented-01/charts.json", "/worklist/items"])
async def test_nobody_sees_anything_without_signing_in(site: Site, path: str) -> None:
    async with site.browser() as browser:
        page = await browser.get(path)
        machine = await browser.get(path, headers={"accept": "application/json"})

    assert page.headers["location"].startswith("/sign-in?next=/")
    assert machine.status_code == 401
    assert "Bed" not in machine.text


async def test_every_form_needs_its_token(site: Site) -> None:
    posts = [route.path for route in site.app.routes if isinstance(route, Route) and "POST" in (route.methods or ())]
    async with await site.signed_in("charge-nurse") as browser:
        del browser.headers["x-csrf-token"]
        for path in posts:
            place = path.format(alert_id="alert-01", action="acknowledge") if "{" in path else path

            answer = await browser.post(place, data={"reason": "seen-going", "csrf_token": "guessed"})

            assert answer.status_code == 403, place

    alert = await site.repository.read(alerts.alert, "alert-01")
    assert alert is not None
    assert alert.acknowledged_at is None


async def test_a_form_sent_from_another_site_is_refused(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.post("/reports/refresh", headers={"origin": "https://elsewhere.example"})

    assert answer.status_code == 403


async def test_the_board_shows_every_bed_of_the_ward_with_initials_and_no_names(site: Site) -> None:
    async with await site.signed_in("nurse", ["Ward A"]) as browser:
        page = (await browser.get("/")).text

    assert all(f'id="tile-{bed.patient_id}"' in page for bed in BEDS if bed.ward == "Ward A")
    assert ">HE</span>" in page
    assert page.index("tile-invented-01") < page.index("tile-invented-03")


async def test_a_nurse_of_one_ward_sees_nothing_of_another(site: Site) -> None:
    async with await site.signed_in("nurse", ["Ward B"]) as browser:
        board = (await browser.get("/")).text
        worklist = (await browser.get("/worklist")).text
        hidden = [
            await browser.get("/patients/invented-01"),
            await browser.get("/patients/invented-01/present"),
            await browser.get("/patients/invented-01/charts.json"),
            await browser.get("/alerts/alert-01"),
            await browser.post("/alerts/alert-01/acknowledge", data={"reason": "seen-going"}),
        ]
        chosen = (await browser.get("/", params={"ward": "Ward A"})).text

    assert "invented-12" in board
    for text in (board, worklist, chosen):
        assert "invented-01" not in text
        assert "Hazel" not in text
    assert [answer.status_code for answer in hidden] == [404] * 5


async def test_a_deidentified_viewer_sees_no_names_and_no_exact_high_ages(site: Site) -> None:
    async with await site.signed_in("viewer-deid") as browser:
        pages = [(await browser.get(path)).text for path in ("/", "/patients/invented-04", "/worklist")]
        denied = await browser.post("/alerts/alert-01/acknowledge", data={"reason": "seen-going"})

    assert all("Example" not in page and "1935-03-01" not in page for page in pages)
    assert all("91 M" not in page for page in pages)
    assert "90+ M" in pages[0]
    assert denied.status_code == 403


async def test_operations_sees_counts_but_no_patient(site: Site) -> None:
    async with await site.signed_in("ops") as browser:
        assert (await browser.get("/")).headers["location"] == "/reports"
        for path in ("/patients/invented-01", "/worklist", "/events"):
            assert (await browser.get(path)).status_code == 403


async def test_a_name_that_is_code_stays_text(site: Site) -> None:
    evil = "<img src=x onerror=alert(1)>"
    await site.fhir.update({"resourceType": "Patient", "id": "invented-03", "name": [{"text": evil}]})
    row = replace(invented_ward.live_row_of(BEDS[2], site.now + 1_000_000), bed=evil)
    await site.repository.write(scores.save_live, [row])
    await site.until(lambda: site.screens.board.rows["invented-03"].bed == evil)

    async with await site.signed_in("nurse") as browser:
        pages = [(await browser.get(path)).text for path in ("/", "/patients/invented-03")]

    assert all("<img" not in page for page in pages)
    assert "&lt;img" in pages[1]


async def test_the_patient_page_names_what_raised_the_score_and_what_is_missing(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        high = (await browser.get("/patients/invented-01")).text
        partial = (await browser.get("/patients/invented-09")).text
        unknown = (await browser.get("/patients/invented-08")).text

    assert "RR 26, SpO₂ 90 on 2 L/min" in high
    assert "Hazel Example" in high
    assert "Emergency response" in high
    assert "Missing: Temperature. The true score may be higher." in partial
    assert "Not enough data for a score" in unknown


async def test_charts_come_as_data_with_impossible_values_struck_through(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        answer = await browser.get("/patients/invented-01/charts.json", params={"hours": 24})

    facts = msgspec.json.decode(answer.content)
    assert facts["charts"]["doc"]["roots"]
    assert '<s class="struck">11647 mmHg</s>' in facts["tables"]
    assert "no: not scored" in facts["tables"]
    assert "CustomJS" not in answer.text


async def test_a_dead_fhir_service_costs_names_but_no_page(without_fhir: Site) -> None:
    async with await without_fhir.signed_in("nurse") as browser:
        board = await browser.get("/")
        charts = await browser.get("/patients/invented-02/charts.json")

    assert "Bed 01" in board.text
    assert "The FHIR service does not answer" in charts.json()["tables"]


async def test_the_patient_page_says_when_each_device_spoke_and_how_far_its_clock_is_off(site: Site) -> None:
    heard = site.repository.clock.now_microseconds()
    known = DeviceSignalRow(
        device_id="monitor-1", patient_id="invented-01", type="heart-rate", received_at=heard, good_at=None,
        skew_seconds=7_200.0, signals_json="[]", updated_at=heard,
    )  # fmt: skip
    other = replace(known, device_id="monitor-2", patient_id="invented-02")
    await site.repository.write(device_signals.save, [known, other])
    async with await site.signed_in("nurse") as browser:
        page = (await browser.get("/patients/invented-01")).text

    assert "its clock +2 h 00 min" in page
    assert "no good reading" in page
    assert "monitor-1" in page
    assert "monitor-2" not in page


async def test_looking_at_a_patient_is_on_record(site: Site) -> None:
    async with await site.signed_in("nurse", name="looker") as browser:
        await browser.get("/patients/invented-02")

    acts = await site.repository.read(people.acts, patient_id="invented-02")
    assert [(act.actor, act.action, act.subject) for act in acts] == [("looker", "read", "patient-page")]
    assert await site.repository.read(people.verify_acts) is None


async def test_reports_are_refreshed_by_hand(site: Site) -> None:
    async with await site.signed_in("charge-nurse", name="asker") as browser:
        before = (await browser.get("/reports")).text
        await browser.post("/reports/refresh")
        after = (await browser.get("/reports")).text

    last = await site.repository.read(reports.last_refresh)
    assert "Never refreshed" in before
    assert "manual by asker" in after
    assert last is not None
    assert last.requested_by == "asker"


async def test_the_process_says_whether_it_lives_and_is_ready(site: Site) -> None:
    async with site.browser() as browser:
        live, ready = await browser.get("/livez"), await browser.get("/readyz")
        site.screens.board._fresh_at -= 60
        delayed = await browser.get("/readyz")

    assert live.text == "ok\n"
    assert ready.json() == {"repository": "ok", "board": "ok"}
    assert delayed.status_code in (200, 503)


async def test_static_files_are_our_own(site: Site) -> None:
    async with site.browser() as browser:
        answers: list[httpx.Response] = [
            await browser.get(path)
            for path in ("/static/pulseweir.css", "/static/ward.js", "/static/charts/bokeh.min.js")
        ]

    assert [answer.status_code for answer in answers] == [200] * 3


def test_with_no_channel_to_people_who_acts_is_told_once() -> None:
    pages = Pages(Clock(), tells_nobody=True)
    facts = {"code": 404, "title": "Not found", "sentence": "No.", "here": ""}
    nurse, watcher = (Viewer("a", role, None, "", "") for role in ("nurse", "viewer-deid"))

    assert pages.text("error.html", viewer=nurse, **facts).count("no channel to people is set up") == 1
    assert "no channel" not in pages.text("error.html", viewer=watcher, **facts)
    assert "no channel" not in Pages(Clock()).text("error.html", viewer=nurse, **facts)


def test_times_on_a_page_are_those_of_the_site() -> None:
    now = Clock().now_microseconds()
    site = SiteTime("Asia/Kolkata")

    text = Pages(Clock(), site).text(
        "error.html", viewer=Viewer("a", "nurse", None, "", ""), code=1, title="", sentence="", here=""
    )

    assert ">IST</abbr>" in text
    assert site.minute(now) in text or site.minute(now + 60_000_000) in text


def test_a_simulated_clock_is_shown_on_every_page() -> None:
    pages = Pages(Clock.faster(10))

    text = pages.text("sign_in.html", viewer=None, problem="", target="/", csrf_token="token")

    assert "simulated clock ×10" in text
