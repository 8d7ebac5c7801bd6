"""Steps 15-17: the application that serves every page."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import bokeh
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from pulseweir.backends.repository import Repository
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.site_time import SiteTime
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.care_team import CareTeamDesk
from pulseweir.warm_path.refresh import ReportRefresh
from pulseweir.warm_path.settings import NoticeSettings, RefreshSettings
from pulseweir.web import (
    alert_actions,
    alert_shown,
    health_page,
    patient_page,
    reports_page,
    sign_in_page,
    ward_page,
    worklist_page,
)
from pulseweir.web.accounts import SignIn
from pulseweir.web.board import Board
from pulseweir.web.names import Names
from pulseweir.web.pages import Pages
from pulseweir.web.screens import Screens, acts, screens_of, shows
from pulseweir.web.security import SecurityHeaders
from pulseweir.web.settings import WebSettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient


@dataclass(frozen=True, slots=True)
class Place:
    """What is true of the whole site.

    Attributes:
        time: What time people read.
        channels: The channels to people that are set up; None when nobody looked.
    """

    time: SiteTime = field(default_factory=SiteTime)
    channels: Collection[str] | None = None

    @property
    def tells_nobody(self) -> bool:
        """Whether nobody is notified outside the screens: pages say so to who acts on alerts."""
        return self.channels is not None and not self.channels


def create_app(
    repository: Repository,
    fhir: "FhirClient",
    clock: Clock,
    settings: WebSettings,
    *,
    desk: CareTeamDesk | None = None,
    refresh: ReportRefresh | None = None,
    place: Place | None = None,
) -> Starlette:
    """The screens over a repository and a FHIR service; serve them without access log lines: paths hold patient ids.

    Args:
        repository: What is shown.
        fhir: Where names and measured vitals come from.
        clock: What time it is.
        settings: How the pages behave.
        desk: What carries out commands on alerts; by default one with default settings.
        refresh: What makes the reports; by default one with default settings.
        place: What is true of the whole site; by default it is in UTC.
    """
    place = place or Place()
    site = place.time
    routes = _routes()
    screens = Screens(
        repository=repository,
        fhir=fhir,
        clock=clock,
        settings=settings,
        names=Names(fhir, settings),
        board=Board(repository, clock, settings, site),
        pages=_pages(clock, place, settings, _shown_path(routes)),
        site=site,
        sign_in=SignIn(repository, settings),
        desk=desk or CareTeamDesk(repository, AlertSettings(), NoticeSettings()),
        refresh=refresh or ReportRefresh(repository, RefreshSettings(), site),
    )
    app = Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders, is_secure=settings.is_secure)],
        exception_handlers={HTTPException: _refuse, RetryLater: _come_back, 500: _fail},  # type: ignore[dict-item]
        lifespan=_lifespan,
    )
    app.state.screens = screens
    return app


def _routes() -> list[BaseRoute]:
    charts = Path(bokeh.__file__).parent / "server" / "static" / "js"
    return [
        Route("/", shows(None, ward_page.show_ward)),
        Route("/events", shows("see-patients", ward_page.stream_events, is_action=False)),
        Route("/patients/{patient_id}", shows("see-patients", patient_page.show_patient)),
        Route("/patients/{patient_id}/present", shows("see-patients", patient_page.show_present, is_action=False)),
        Route("/patients/{patient_id}/charts.json", shows("see-patients", patient_page.send_charts, is_action=False)),
        Route("/worklist", shows("see-patients", worklist_page.show_worklist)),
        Route("/worklist/items", shows("see-patients", worklist_page.show_items, is_action=False)),
        Route("/alerts/shown", acts("see-patients", alert_shown.take_shown), methods=["POST"]),
        Route("/alerts/{alert_id}", shows("see-patients", alert_actions.show_alert)),
        Route("/alerts/{alert_id}/{action}", acts("act", alert_actions.act_on_alert), methods=["POST"]),
        Route("/reports", shows("see-reports", reports_page.show_reports)),
        Route("/reports/refresh", acts("see-reports", reports_page.refresh_now), methods=["POST"]),
        Route("/sign-in", sign_in_page.show_sign_in, methods=["GET"]),
        Route("/sign-in", sign_in_page.sign_in, methods=["POST"]),
        Route("/sign-out", acts(None, sign_in_page.sign_out), methods=["POST"]),
        Route("/livez", health_page.live),
        Route("/readyz", health_page.ready),
        Mount("/static/charts", StaticFiles(directory=charts)),
        Mount("/static", StaticFiles(directory=str(files("pulseweir.web") / "static"))),
    ]


def _pages(clock: Clock, place: Place, settings: WebSettings, shown_path: str) -> Pages:
    quiet = settings.silent_after_seconds
    return Pages(clock, place.time, quiet_after_seconds=quiet, shown_path=shown_path, tells_nobody=place.tells_nobody)


def _shown_path(routes: list[BaseRoute]) -> str:
    """Where browsers say which alerts they showed; "" where nobody asks."""
    return next((route.path for route in routes if isinstance(route, Route) and route.path == "/alerts/shown"), "")


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    screens: Screens = app.state.screens
    following = asyncio.create_task(screens.board.run())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await screens.names.close()


async def _refuse(request: Request, error: HTTPException) -> Response:
    return _answer(request, error.status_code, error.detail)


async def _come_back(request: Request, _error: Exception) -> Response:
    return _answer(request, 503, "The records cannot be read at the moment. Nothing is lost; try again shortly.")


async def _fail(request: Request, _error: Exception) -> Response:
    return _answer(request, 500, "Something went wrong on this page. The fault is on our side and has been noted.")


def _answer(request: Request, status: int, sentence: str) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": sentence}, status_code=status)
    title = HTTPStatus(status).phrase
    return screens_of(request).pages.page("error.html", status=status, code=status, title=title, sentence=sentence)
