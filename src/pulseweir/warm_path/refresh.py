"""Step 16: reports refresh on a schedule and on demand."""

import asyncio
from contextlib import suppress

from pulseweir.backends.repository import Repository, reports
from pulseweir.backends.repository.rows import RefreshRow
from pulseweir.errors import RetryLater
from pulseweir.site_time import SiteTime
from pulseweir.warm_path.settings import RefreshSettings

_LOOK_SECONDS = 0.5
_SECOND = 1_000_000


class ReportRefresh:
    """Makes the report tables anew. Each refresh is one transaction: a reader sees the old reports or the new."""

    def __init__(self, repository: Repository, settings: RefreshSettings, site: SiteTime | None = None) -> None:
        self._repository = repository
        self._settings = settings
        self._site = site or SiteTime()

    async def refresh(self, cause: str = "manual", requested_by: str = "") -> RefreshRow:
        """Refresh now."""
        return await self._repository.write(
            reports.refresh,
            now=self._repository.clock.now_microseconds(),
            cause=cause,
            requested_by=requested_by,
            days=self._settings.burden_days,
            site=self._site,
        )

    async def refresh_if_due(self) -> RefreshRow | None:
        """Refresh when the last scheduled one, of whichever process, is old enough."""
        last = await self._repository.read(reports.last_refresh, cause="schedule")
        now = self._repository.clock.now_microseconds()
        if last is not None and 0 <= now - last.started_at < self._settings.every_seconds * _SECOND:
            return None
        return await self.refresh("schedule")

    async def run(self) -> None:
        """Follow the schedule until cancelled."""
        while True:
            # While the repository is away the reports stay as old as they say they are.
            with suppress(RetryLater):
                await self.refresh_if_due()
            await asyncio.sleep(_LOOK_SECONDS)
