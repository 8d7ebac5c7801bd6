"""Steps 15-17: what every page works with, and the door in front of it: session, rights, CSRF."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.site_time import SiteTime
from pulseweir.warm_path import audit
from pulseweir.warm_path.care_team import CareTeamDesk
from pulseweir.warm_path.refresh import ReportRefresh
from pulseweir.web import sessions
from pulseweir.web.accounts import SignIn
from pulseweir.web.board import Board
from pulseweir.web.names import Names
from pulseweir.web.pages import Pages
from pulseweir.web.rights import Right, Viewer
from pulseweir.web.settings import WebSettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient


@dataclass(frozen=True, slots=True)
class Screens:
    """What every page works with."""

    repository: Repository
    fhir: "FhirClient"
    clock: Clock
    settings: WebSettings
    names: Names
    board: Board
    pages: Pages
    sign_in: SignIn
    desk: CareTeamDesk
    refresh: ReportRefresh
    site: SiteTime

    async def record(self, viewer: Viewer, action: str, *, patient_id: str = "", subject: str = "") -> None:
        """Append to the audit log what a person looked at or did."""
        await self.repository.write(
            audit.record,
            actor=viewer.user_name,
            action=action,
            now=self.clock.now_microseconds(),
            patient_id=patient_id,
            subject=subject,
        )


Show = Callable[[Request, Screens, Viewer], Awaitable[Response]]
Act = Callable[[Request, Screens, Viewer, FormData], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def screens_of(request: Request) -> Screens:
    """The screens this application was made with."""
    screens: Screens = request.app.state.screens
    return screens


def shows(right: Right | None, show: Show, *, is_action: bool = True) -> Endpoint:
    """An endpoint for those who are signed in and have a right (None: any person signed in)."""

    async def endpoint(request: Request) -> Response:
        screens = screens_of(request)
        viewer = await _viewer(request, screens, is_action=is_action)
        if viewer is None:
            return _to_sign_in(request)
        _require(viewer, right)
        return await show(request, screens, viewer)

    return endpoint


def acts(right: Right | None, act: Act) -> Endpoint:
    """An endpoint that changes something: as `shows`, and the form must come from one of our own pages."""

    async def endpoint(request: Request) -> Response:
        screens = screens_of(request)
        viewer = await _viewer(request, screens, is_action=True)
        if viewer is None:
            return _to_sign_in(request)
        require_same_origin(request)
        form = await request.form(max_files=0, max_fields=50)
        sent = request.headers.get("x-csrf-token") or form.get("csrf_token") or ""
        if not hmac.compare_digest(str(sent).encode(), viewer.csrf_token.encode()):
            raise HTTPException(403, "This form is too old. Go back, reload the page and try again.")
        _require(viewer, right)
        return await act(request, screens, viewer, form)

    return endpoint


def require_same_origin(request: Request) -> None:
    """Refuse a form that another site sent."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "This form was sent from another site.")


def local_path(text: str | None) -> str:
    """A path on this site to go to; anything else leads to the first page.

    >>> local_path("//elsewhere"), local_path("/worklist")
    ('/', '/worklist')
    """
    is_local = text is not None and text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_local and text is not None and text.isprintable() else "/"


async def _viewer(request: Request, screens: Screens, *, is_action: bool) -> Viewer | None:
    token = request.cookies.get(sessions.COOKIE)
    if not token:
        return None
    return await sessions.viewer_of(screens.repository, token, screens.settings, is_action=is_action)


def _require(viewer: Viewer, right: Right | None) -> None:
    if right is not None and not viewer.may(right):
        raise HTTPException(403, "Your role does not include this page or action.")


def _to_sign_in(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(path)}", status_code=303)
    raise HTTPException(401, "Sign in first.")
