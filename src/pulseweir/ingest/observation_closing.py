"""Step 5c: makes Observations final whose hour, day or session has ended and brought nothing new for a while.

The FHIR service itself remembers what is preliminary, so nothing is lost in a restart: a search after the start, and
once an hour, finds whatever this or another process left open. In between, this process knows when the Observations
it wrote close, and reads exactly those. A change by another writer meanwhile wins (If-Match) and is looked at again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from pulseweir.errors import FhirRefused, MessageError, RetryLater
from pulseweir.ingest.bundle_sender import BundleSender, Entry
from pulseweir.ingest.fhir_mapping.status import PRELIMINARY, closes_at
from pulseweir.ingest.observation_entries import etag_of, put_entry, read_entry
from pulseweir.records.codes import SERVICE_SYSTEM
from pulseweir.telemetry import OBSERVATIONS_SAVED

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

_HOUR = 3_600_000_000
_REMEMBERED = 100_000
_READ_AT_ONCE = 50
_CONFLICTS = frozenset({409, 412})
_SEARCH = (("status", PRELIMINARY), ("identifier", f"{SERVICE_SYSTEM}|"), ("_count", "100"))


class Closing:
    """Finds and closes what is due.

    Args:
        fhir: The FHIR service.
        sender: Writes to it.
        now: House clock, microseconds.
        closing_microseconds: How long after its end and its newest value an Observation closes.
    """

    def __init__(
        self, fhir: "FhirClient", sender: BundleSender, now: Callable[[], int], closing_microseconds: int
    ) -> None:
        self._fhir = fhir
        self._sender = sender
        self._now = now
        self._closing = closing_microseconds
        self._open: dict[str, int] = {}
        self._search_at = float("-inf")

    def expect(self, resource_id: str, closes: int | None) -> None:
        """Remember when an Observation closes; what is not remembered is found by the hourly search."""
        if closes is not None and (resource_id in self._open or len(self._open) < _REMEMBERED):
            self._open[resource_id] = closes

    async def close_due(self) -> None:
        """Make final what is due. Cheap when nothing is.

        A service that cannot answer now is asked again at the next call: nothing waits for this.
        """
        now = self._now()
        try:
            if now >= self._search_at:
                await self._search(now)
                self._search_at = now + _HOUR
            due = [name for name, closes in self._open.items() if closes <= now]
            for first in range(0, len(due), _READ_AT_ONCE):
                await self._close_known(due[first : first + _READ_AT_ONCE], now)
        except RetryLater:
            return

    async def _search(self, now: int) -> None:
        try:
            async for page in self._fhir.pages("Observation", _SEARCH):
                if any(found.get("status") != PRELIMINARY for found in page):
                    _warn(200)
                    return
                await self._close([found for found in page if self._is_due(found, now)])
        except FhirRefused as error:
            _warn(error.status)

    async def _close_known(self, names: list[str], now: int) -> None:
        answers = await self._sender.send([read_entry(name) for name in names])
        due = []
        for name, answer in zip(names, answers, strict=True):
            found = answer.resource if answer.is_done else None
            if found is not None and found.get("status") == PRELIMINARY and self._is_due(found, now):
                due.append(found)
            elif not answer.is_worth_retrying and self._open[name] <= now:
                del self._open[name]
        await self._close(due)

    def _is_due(self, found: dict[str, Any], now: int) -> bool:
        """Whether one of ours has closed; remembered when it is still open."""
        identifiers = found.get("identifier") or ()
        if not any(identifier.get("system") == SERVICE_SYSTEM for identifier in identifiers):
            return False
        try:
            closes = closes_at(found, self._closing)
        except MessageError:
            return False
        self.expect(str(found["id"]), closes)
        return closes is not None and closes <= now

    async def _close(self, due: list[dict[str, Any]]) -> None:
        entries: list[Entry] = [
            put_entry(str(found["id"]), found | {"status": "final"}, etag=etag_of(found, None)) for found in due
        ]
        for found, answer in zip(due, await self._sender.send(entries), strict=True):
            if answer.is_done:
                OBSERVATIONS_SAVED.labels("closed").inc()
            if answer.status not in _CONFLICTS and not answer.is_worth_retrying:
                self._open.pop(str(found["id"]), None)


def _warn(status: int) -> None:
    """The service does not find preliminary Observations: only what this process wrote itself is closed."""
    structlog.get_logger().warning("open_observations_not_searched", status=status)
