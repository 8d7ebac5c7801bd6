"""The screens as a test holds them: the application without a socket, and browsers that are signed in."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import msgspec
from starlette.applications import Starlette

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, people
from pulseweir.backends.repository.rows import UserRow
from pulseweir.web import sessions
from pulseweir.web.screens import Screens

ORIGIN = "http://screens"
HTML = {"accept": "text/html"}


@dataclass
class Site:
    """The application, and browsers that are signed in."""

    app: Starlette
    repository: Repository
    fhir: FhirClient
    now: int

    @property
    def screens(self) -> Screens:
        """What the pages work with."""
        screens: Screens = self.app.state.screens
        return screens

    def browser(self) -> httpx.AsyncClient:
        """A browser nobody signed in with."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=ORIGIN, headers=HTML)

    async def session(self, role: str, wards: list[str] | None = None, name: str = "") -> sessions.NewSession:
        """A session of a new account with this role; the password is nobody's business."""
        user = name or f"{role}-{len(wards or ())}"
        row = UserRow(
            user_name=user,
            password_hash="none",
            role=role,
            wards_json=msgspec.json.encode(wards).decode(),
            created_at=0,
        )
        with self.repository.writing() as transaction:
            people.save_user(transaction, row)
        return await sessions.begin(self.repository, user, self.screens.settings)

    async def signed_in(self, role: str, wards: list[str] | None = None, name: str = "") -> httpx.AsyncClient:
        """A browser of a person with this role; it sends its CSRF token with every form."""
        session = await self.session(role, wards, name)
        browser = self.browser()
        browser.cookies.set(sessions.COOKIE, session.token)
        browser.headers["x-csrf-token"] = session.csrf_token
        return browser

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for the board to follow."""
        async with asyncio.timeout(20):
            while not is_true():
                await asyncio.sleep(0.01)
