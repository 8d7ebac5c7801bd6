"""Step 15: the newest state of every patient, followed as it changes, for any number of open screens."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from pulseweir.backends.repository import Repository, scores
from pulseweir.backends.repository.rows import AlertRow, LiveRow, ScorePoint
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.hot_path.live import LiveFeed, LiveUpdate
from pulseweir.site_time import SiteTime
from pulseweir.web.rights import Viewer
from pulseweir.web.settings import WebSettings
from pulseweir.web.tiles import Tile, state_of, tile_of

_SECOND = 1_000_000
_HOUR = 3_600 * _SECOND
_POINTS_WHOLE_EVERY_SECONDS = 300.0
_POINTS_OVERLAP = 300 * _SECOND
_TICK_SECONDS = 1.0
_PRIORITIES = ("high", "medium", "low")


@dataclass(slots=True, eq=False)
class Subscription:
    """What one screen has not been told yet; a slow screen skips states, it never queues them."""

    live: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> tuple[set[str], set[str]]:
        """Patients with new values, and patients of whom an alert or the state changed; both start empty again."""
        live, touched = self.live, self.touched
        self.live, self.touched = set(), set()
        self.woken.clear()
        return live, touched


class Board:
    """Follows the live feed: one subscriber for all the screens of this process.

    Attributes:
        sequence: Last change that is in here.
        rows: Live row by patient.
    """

    def __init__(
        self, repository: Repository, clock: Clock, settings: WebSettings, site: SiteTime | None = None
    ) -> None:
        self.sequence = 0
        self.rows: dict[str, LiveRow] = {}
        self._repository = repository
        self._clock = clock
        self._settings = settings
        self._site = site or SiteTime()
        self._alerts: dict[str, dict[str, AlertRow]] = defaultdict(dict)
        self._points: dict[str, dict[int, ScorePoint]] = defaultdict(dict)
        self._states: dict[str, str] = {}
        self._tiles: dict[str, tuple[tuple[int, ...], Tile]] = {}
        self._subscriptions: set[Subscription] = set()
        self._fresh_at = time.monotonic()
        self._points_whole_at = float("-inf")

    async def run(self) -> None:
        """Follow until cancelled; a repository that does not answer is asked again."""
        feed = LiveFeed(self._repository, self._settings.poll_seconds)
        await feed.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(feed))
                tasks.create_task(self._tend())
        finally:
            await feed.close()

    def take(self, update: LiveUpdate) -> None:
        """Take in what changed and wake the screens that show it."""
        rows = [row for row in update.rows if row.model == scores.DEFAULT_MODEL]
        if update.complete:
            self._alerts.clear()
        self.sequence = max(self.sequence, update.sequence)
        for row in rows:
            self.rows[row.patient_id] = row
        for alert in update.alerts:
            self._take_alert(alert)
        live = {row.patient_id for row in rows}
        self._wake(live, {alert.patient_id for alert in update.alerts} | self._changed_states())

    async def look(self) -> None:
        """Read the newest points of the score lines, and let time pass: what fell silent changes its state."""
        await self._read_points()
        self._fresh_at = time.monotonic()
        self._wake(set(), self._changed_states())

    @property
    def delay_seconds(self) -> float:
        """How long ago the repository last answered."""
        return time.monotonic() - self._fresh_at

    def patients(self, viewer: Viewer) -> list[LiveRow]:
        """The rows in a person's scope, by ward and bed."""
        rows = [row for row in self.rows.values() if viewer.sees(row.ward)]
        return sorted(rows, key=lambda row: (row.ward or "~", row.bed or "~", row.patient_id))

    def tile(self, row: LiveRow) -> Tile:
        """The tile of one patient as of now; several screens that ask within a second share one."""
        now = self._clock.now_microseconds()
        alert = self.alert_of(row.patient_id)
        technical = self.technical_of(row.patient_id)
        sequences = (one.sequence for one in technical)
        drawn_for = (row.sequence, 0 if alert is None else alert.sequence, int(time.monotonic()), *sequences)
        kept = self._tiles.get(row.patient_id)
        if kept is None or kept[0] != drawn_for:
            points = [point for _, point in sorted(self._points.get(row.patient_id, {}).items())]
            tile = tile_of(row, alert, points, now, self._settings, technical=technical, site=self._site)
            kept = (drawn_for, tile)
            self._tiles[row.patient_id] = kept
        return kept[1]

    def alert_of(self, patient_id: str) -> AlertRow | None:
        """The open clinical alert of a patient that is most urgent: unacknowledged first, then by priority and age."""
        return min(
            (row for row in self._alerts.get(patient_id, {}).values() if row.kind != "technical"),
            key=lambda row: (row.acknowledged_at is not None, _PRIORITIES.index(row.priority), row.raised_at),
            default=None,
        )

    def technical_of(self, patient_id: str) -> list[AlertRow]:
        """The open alerts about a patient's devices, oldest first."""
        open_ones = self._alerts.get(patient_id, {}).values()
        return sorted((row for row in open_ones if row.kind == "technical"), key=lambda row: row.raised_at)

    def open_alerts(self, rows: Iterable[LiveRow]) -> list[AlertRow]:
        """Every open clinical alert of these patients."""
        of_patients = (alert for row in rows for alert in self._alerts.get(row.patient_id, {}).values())
        return [alert for alert in of_patients if alert.kind != "technical"]

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """Be told of changes for as long as the block runs."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def _take_alert(self, alert: AlertRow) -> None:
        of_patient = self._alerts[alert.patient_id]
        if alert.closed_at is None:
            of_patient[alert.alert_id] = alert
        else:
            of_patient.pop(alert.alert_id, None)

    def _wake(self, live: set[str], touched: set[str]) -> None:
        if not live and not touched:
            return
        for subscription in self._subscriptions:
            subscription.live |= live
            subscription.touched |= touched
            subscription.woken.set()

    def _changed_states(self) -> set[str]:
        """Patients whose state changed, be it only because time went by."""
        now = self._clock.now_microseconds()
        states = {key: state_of(row, self.alert_of(key), now, self._settings) for key, row in self.rows.items()}
        changed = {key for key, state in states.items() if self._states.get(key) != state}
        self._states = states
        return changed

    async def _follow(self, feed: LiveFeed) -> None:
        while True:
            try:
                async for update in feed.subscribe():
                    self.take(update)
            except RetryLater:
                await asyncio.sleep(_TICK_SECONDS)

    async def _tend(self) -> None:
        while True:
            try:
                await self.look()
            except RetryLater as error:
                structlog.get_logger().warning("screens are delayed", cause=type(error).__name__)
            await asyncio.sleep(_TICK_SECONDS)

    async def _read_points(self) -> None:
        """Keep the small score lines: the newest minutes often, everything now and then for late revisions."""
        moment = time.monotonic()
        horizon = self._clock.now_microseconds() - int(self._settings.sparkline_hours * _HOUR)
        is_whole = moment - self._points_whole_at > _POINTS_WHOLE_EVERY_SECONDS
        newest = max((max(points) for points in self._points.values() if points), default=0)
        since = horizon if is_whole else max(horizon, newest - _POINTS_OVERLAP)
        found = await self._repository.read(scores.recent_points, since=since)
        if is_whole:
            self._points_whole_at = moment
        for patient_id, points in found.items():
            kept = {end: point for end, point in self._points[patient_id].items() if end > horizon}
            self._points[patient_id] = kept | {point.window_end: point for point in points}
