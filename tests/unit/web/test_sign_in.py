"""Signing in: who gets in, who does not, and when it ends."""

import re
from dataclasses import replace

import httpx
import pytest

from pulseweir.backends.repository import people
from pulseweir.clock import real_microseconds
from pulseweir.errors import AccountInvalid
from pulseweir.records.identifiers import digest
from pulseweir.web import sessions
from pulseweir.web.accounts import add_user
from pulseweir.web.settings import WebSettings
from screen_site import Site

PASSWORD = "correct horse battery"
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


async def submit(browser: httpx.AsyncClient, name: str, password: str, **other: str) -> httpx.Response:
    form = await browser.get("/sign-in", params={"next": other.pop("next", "/worklist")})
    token = _TOKEN.search(form.text)
    target = re.search(r'name="next" value="([^"]+)"', form.text)
    assert token is not None
    assert target is not None
    fields = {"name": name, "password": password, "csrf_token": token[1], "next": target[1]}
    return await browser.post("/sign-in", data=fields | other)


@pytest.fixture
def account(site: Site) -> str:
    add_user(site.repository, "morgan", PASSWORD, "nurse", ["Ward A"])
    return "morgan"


async def test_the_right_password_opens_a_session_in_a_guarded_cookie(site: Site, account: str) -> None:
    async with site.browser() as browser:
        answer = await submit(browser, account, PASSWORD)

        cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(sessions.COOKIE))
        assert answer.status_code == 303
        assert answer.headers["location"] == "/worklist"
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert (await browser.get("/worklist")).status_code == 200


async def test_the_session_cookie_is_secure_where_the_pages_are(site: Site, account: str) -> None:
    settings = site.screens.settings.model_copy(update={"certificate_file": "certificate.pem"})
    site.app.state.screens = replace(site.screens, settings=settings)

    async with site.browser() as browser:
        answer = await browser.get("/sign-in")

    assert "Secure" in answer.headers["set-cookie"]


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(site: Site, account: str) -> None:
    async with site.browser() as browser:
        wrong = await submit(browser, account, "not this one at all")
        unknown = await submit(browser, "nobody", PASSWORD)

    assert wrong.status_code == unknown.status_code == 401
    assert _TOKEN.sub("", wrong.text).split("now")[-1] == _TOKEN.sub("", unknown.text).split("now")[-1]


async def test_an_account_is_locked_after_too_many_wrong_passwords(site: Site, account: str) -> None:
    async with site.browser() as browser:
        for _ in range(site.screens.settings.sign_in_attempts):
            await submit(browser, account, "not this one at all")

        locked = await submit(browser, account, PASSWORD)
        with site.repository.writing() as transaction:
            row = people.user(transaction, account)
            assert row is not None
            assert row.locked_until is not None
            people.save_user(transaction, replace(row, locked_until=real_microseconds()))
        later = await submit(browser, account, PASSWORD)

    assert locked.status_code == 401
    assert later.status_code == 303


async def test_one_address_cannot_try_passwords_without_end(site: Site, account: str) -> None:
    admits = site.screens.sign_in._admits
    allowed = [admits("192.0.2.1") for _ in range(site.screens.settings.sign_in_attempts_per_address + 1)]

    assert allowed[-2:] == [True, False]
    assert admits("192.0.2.2")


async def test_a_sign_in_form_that_another_site_made_is_refused(site: Site, account: str) -> None:
    fields = {"name": account, "password": PASSWORD, "csrf_token": "guessed"}
    async with site.browser() as browser:
        without = await browser.post("/sign-in", data=fields)
        foreign = await browser.post("/sign-in", data=fields, headers={"origin": "https://elsewhere.example"})

    assert without.status_code == foreign.status_code == 403


async def test_signing_in_never_leads_to_another_site(site: Site, account: str) -> None:
    async with site.browser() as browser:
        answer = await submit(browser, account, PASSWORD, next="//elsewhere.example/")

    assert answer.headers["location"] == "/"


async def test_signing_out_ends_the_session_on_the_server(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        token = browser.cookies[sessions.COOKIE]

        await browser.post("/sign-out")

        browser.cookies.set(sessions.COOKIE, token)
        assert (await browser.get("/")).headers["location"] == "/sign-in?next=/"


async def test_a_session_ends_when_nothing_is_done_with_it(site: Site) -> None:
    async with await site.signed_in("nurse") as browser:
        hashed = digest("session", browser.cookies[sessions.COOKIE])
        await site.repository.write(people.touch_session, hashed, last_seen_at=0, expires_at=real_microseconds())

        answer = await browser.get("/")

    assert answer.status_code == 303


async def test_use_prolongs_a_session_but_never_beyond_its_lifetime(site: Site) -> None:
    settings = WebSettings(session_idle_minutes=600, session_lifetime_hours=1)
    session = await sessions.begin(site.repository, "nobody", settings)
    await site.session("nurse", name="nobody")
    hashed = digest("session", session.token)
    await site.repository.write(people.touch_session, hashed, last_seen_at=0, expires_at=real_microseconds() + 10**9)

    await sessions.viewer_of(site.repository, session.token, settings)

    row = await site.repository.read(people.session, hashed, now_real=0)
    assert row is not None
    assert row.expires_at == row.created_at + 3_600_000_000


async def test_disabling_an_account_ends_its_sessions(site: Site) -> None:
    async with await site.signed_in("nurse", name="leaver") as browser:
        with site.repository.writing() as transaction:
            row = people.user(transaction, "leaver")
            assert row is not None
            people.save_user(transaction, replace(row, disabled=True))

        assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [("", PASSWORD, "nurse"), ("morgan", "short", "nurse"), ("morgan", PASSWORD, "surgeon")],
)
def test_an_account_needs_a_name_a_long_password_and_a_known_role(
    site: Site, name: str, password: str, role: str
) -> None:
    with pytest.raises(AccountInvalid, match="Choose"):
        add_user(site.repository, name, password, role)
