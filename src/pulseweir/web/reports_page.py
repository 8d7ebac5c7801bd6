"""Step 16: the report tables, when they were made, and a button that makes them anew."""

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pulseweir.backends.repository import reports
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens


async def show_reports(_request: Request, screens: Screens, viewer: Viewer) -> Response:
    """Ward summary and alert burden."""
    return screens.pages.page(
        "reports.html",
        viewer=viewer,
        here="reports",
        summary=await screens.repository.read(reports.ward_summary, wards=viewer.wards),
        burden=await screens.repository.read(reports.alert_burden, wards=viewer.wards),
        last=await screens.repository.read(reports.last_refresh),
    )


async def refresh_now(_request: Request, screens: Screens, viewer: Viewer, _form: FormData) -> Response:
    """Make the reports anew because somebody asked."""
    await screens.refresh.refresh("manual", viewer.user_name)
    await screens.record(viewer, "refresh-reports")
    return RedirectResponse("/reports", status_code=303)
