"""Steps 15-17: templates, and the words for instants and ages in them: the time of the site, with its zone."""

from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from pulseweir.clock import Clock
from pulseweir.site_time import SiteTime, span
from pulseweir.web.rights import Viewer
from pulseweir.web.security import CHART_POLICY

DISCLAIMER = "Not a medical device. Not a primary alarm system. Do not remove bedside alarms."


class Pages:
    """Renders templates; everything put into them is escaped."""

    def __init__(
        self,
        clock: Clock,
        site: SiteTime | None = None,
        *,
        quiet_after_seconds: float = 900,
        shown_path: str = "",
        tells_nobody: bool = False,
    ) -> None:
        self._clock = clock
        self._site = site or SiteTime()
        self._templates = Environment(
            loader=PackageLoader("pulseweir.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            clock_time=self.clock_time, day_time=self.day_time, day=self._site.day, zone=self._site.zone_name, span=span
        )
        self._templates.globals.update(
            disclaimer=DISCLAIMER,
            clock=clock,
            offsets=self._offsets,
            quiet_after=quiet_after_seconds,
            shown_path=shown_path,
            tells_nobody=tells_nobody,
        )

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

    def clock_time(self, instant: int | None) -> str:
        """Hours, minutes, seconds; with the day when it is not today, with the zone where it could be mistaken."""
        if instant is None:
            return ""
        now, site = self._clock.now_microseconds(), self._site
        day = "" if site.local(instant).date() == site.local(now).date() else f"{site.day(instant)} "
        return site.with_zone(day + site.clock(instant), instant, now)

    def day_time(self, instant: int | None) -> str:
        """Day and minute; with the zone where it could be mistaken."""
        if instant is None:
            return ""
        return self._site.with_zone(self._site.day_minute(instant), instant, self._clock.now_microseconds())

    def _offsets(self) -> str:
        """For scripts: from which instant on the site is how many seconds from UTC, and what that is called."""
        found = self._site.offsets(self._clock.now_microseconds())
        return msgspec.json.encode([[one.since, one.seconds, one.name] for one in found]).decode()
