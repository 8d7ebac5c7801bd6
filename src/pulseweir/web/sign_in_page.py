"""Step 17: signing in and out."""

import hmac
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pulseweir.web import sessions
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens, local_path, require_same_origin, screens_of

_FORM_COOKIE = "pulseweir_form"
_FORM_SECONDS = 3_600
_REFUSED = "That name and password do not open an account now. Check both, or wait a little and try again."
_EXPIRED = "This page was open for too long, or cookies are off. Please try again."


async def show_sign_in(request: Request) -> Response:
    """The form."""
    return _form(request, "", local_path(request.query_params.get("next")))


async def sign_in(request: Request) -> Response:
    """Check the form and begin a session."""
    screens = screens_of(request)
    require_same_origin(request)
    form = await request.form(max_files=0, max_fields=10)
    target = local_path(str(form.get("next", "")))
    expected = request.cookies.get(_FORM_COOKIE, "")
    if not expected or not hmac.compare_digest(str(form.get("csrf_token", "")).encode(), expected.encode()):
        return _form(request, _EXPIRED, target, status=403)
    address = request.client.host if request.client else ""
    user = await screens.sign_in.check(str(form.get("name", "")), str(form.get("password", "")), address)
    if user is None:
        return _form(request, _REFUSED, target, status=401)
    session = await sessions.begin(screens.repository, user.user_name, screens.settings)
    response = RedirectResponse(target, status_code=303)
    _set(response, screens, sessions.COOKIE, session.token, None)
    response.delete_cookie(_FORM_COOKIE)
    return response


async def sign_out(_request: Request, screens: Screens, viewer: Viewer, _form: object) -> Response:
    """End the session on the server, then forget it in the browser."""
    await sessions.end(screens.repository, viewer)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(sessions.COOKIE)
    return response


def _form(request: Request, problem: str, target: str, status: int = 200) -> Response:
    screens = screens_of(request)
    token = request.cookies.get(_FORM_COOKIE) or secrets.token_urlsafe(32)
    response = screens.pages.page("sign_in.html", status=status, problem=problem, target=target, csrf_token=token)
    _set(response, screens, _FORM_COOKIE, token, _FORM_SECONDS)
    return response


def _set(response: Response, screens: Screens, name: str, text: str, seconds: int | None) -> None:
    response.set_cookie(
        name, text, max_age=seconds, httponly=True, samesite="lax", secure=screens.settings.is_secure, path="/"
    )
