"""Steps 15-17: templates, and the words for instants and ages in them."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from pulseweir.clock import Clock, from_microseconds
from pulseweir.web.rights import Viewer
from pulseweir.web.security import CHART_POLICY

DISCLAIMER = "Not a medical device. Not a primary alarm system. Do not remove bedside alarms."


class Pages:
    """Renders templates; everything put into them is escaped."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._templates = Environment(
            loader=PackageLoader("pulseweir.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(clock_time=clock_time, day_time=day_time, span=span)
        self._templates.globals.update(disclaimer=DISCLAIMER, clock=clock)

    def page(
        self, template: str, *, viewer: Viewer | None = None, status: int = 200, charts: bool = False, **facts: Any
    ) -> HTMLResponse:
        """One whole page."""
        headers = {"content-security-policy": CHART_POLICY} if charts else None
        return HTMLResponse(self.text(template, viewer=viewer, **facts), status_code=status, headers=headers)

    def text(self, template: str, **facts: Any) -> str:
        """A template as text."""
        now = self._clock.now_microseconds()
        return self._templates.get_template(template).render({"now": now, **facts})


def clock_time(microseconds: int | None) -> str:
    """Hours, minutes, seconds in UTC."""
    return "" if microseconds is None else from_microseconds(microseconds).strftime("%H:%M:%S")


def day_time(microseconds: int | None) -> str:
    """Day and minute in UTC."""
    return "" if microseconds is None else from_microseconds(microseconds).strftime("%d %b %H:%M")


def span(seconds: float | None) -> str:
    """A span of time as people say it.

    >>> span(12), span(125), span(3_720), span(200_000)
    ('12 s', '2 min', '1 h 2 min', '2 d')
    """
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        minutes = whole % 3_600 // 60
        return f"{whole // 3_600} h {minutes} min" if minutes else f"{whole // 3_600} h"
    return f"{whole // 86_400} d"
