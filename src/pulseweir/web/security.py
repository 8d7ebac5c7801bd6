"""Steps 15-17: headers every answer carries, and the policy that keeps foreign code out of the pages."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {styles}; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
STRICT_POLICY = _POLICY.format(styles="'self'")
CHART_POLICY = _POLICY.format(styles="'self' 'unsafe-inline'")
"""For pages with charts only: Bokeh writes its style sheets as <style> elements. Scripts stay our own files."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
_YEAR_SECONDS = 31_536_000


class SecurityHeaders:
    """Adds the headers to every answer, streams and errors too; a page may bring its own, narrower ones."""

    def __init__(self, app: ASGIApp, *, is_secure: bool) -> None:
        self._app = app
        self._is_secure = is_secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cacheable = scope["path"].startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, text in _HEADERS.items():
                    headers.setdefault(name, text)
                headers.setdefault("content-security-policy", STRICT_POLICY)
                headers.setdefault("cache-control", "private, max-age=3600" if cacheable else "no-store")
                if self._is_secure:
                    headers.setdefault("strict-transport-security", f"max-age={_YEAR_SECONDS}")
            await send(message)

        await self._app(scope, receive, send_with_headers)
