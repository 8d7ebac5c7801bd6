"""Step 5c: makes Observations final whose hour, day or session has ended and brought nothing new for a while.

The FHIR service itself remembers what is preliminary, so nothing is lost in a restart: the first look after a start
finds whatever an earlier process left open. Between looks this process knows when the Observations it wrote close.
A change by another writer meanwhile wins (If-Match); the next look sees it again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from pulseweir.errors import FhirRefused, MessageError, RetryLater
from pulseweir.ingest.bundle_sender import BundleSender, Entry
from pulseweir.ingest.fhir_mapping.status import PRELIMINARY, closes_at
from pulseweir.ingest.observation_entries import etag_of, put_entry
from pulseweir.records.codes import SERVICE_SYSTEM
from pulseweir.telemetry import OBSERVATIONS_SAVED

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

_HOUR = 3_600_000_000
_REMEMBERED = 1_000
_SEARCH = (("status", PRELIMINARY), ("identifier", f"{SERVICE_SYSTEM}|"), ("_count", "200"))


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
        self._due: set[int] = set()
        self._look_at = float("-inf")

    def expect(self, closes: int | None) -> None:
        """Remember that something closes then; what is not remembered is found by the hourly look."""
        if closes is not None and len(self._due) < _REMEMBERED:
            # Whole seconds, rounded up: a ward's hours close together, and one look serves them all.
            self._due.add(-(-closes // 1_000_000) * 1_000_000)

    async def close_due(self) -> int:
        """Make final what is due; returns how many. Cheap when nothing is.

        A service that cannot answer now is asked again at the next call: nothing waits for this.
        """
        now = self._now()
        if now < self._look_at and not any(due <= now for due in self._due):
            return 0
        remembered = {due for due in self._due if due > now}
        try:
            closed = await self._look(now, remembered)
        except RetryLater:
            return 0
        except FhirRefused as error:
            structlog.get_logger().warning("open_observations_not_searched", status=error.status)
            closed = 0
        self._due = remembered
        self._look_at = now + _HOUR
        return closed

    async def _look(self, now: int, remembered: set[int]) -> int:
        closed = 0
        async for page in self._fhir.pages("Observation", _SEARCH):
            if any(found.get("status") != PRELIMINARY for found in page):
                structlog.get_logger().warning("open_observations_not_searched", status=200)
                return closed
            closed += await self._close([found for found in page if self._is_due(found, now, remembered)])
        return closed

    def _is_due(self, found: dict[str, Any], now: int, remembered: set[int]) -> bool:
        identifiers = found.get("identifier") or ()
        if not any(identifier.get("system") == SERVICE_SYSTEM for identifier in identifiers):
            return False
        try:
            closes = closes_at(found, self._closing)
        except MessageError:
            return False
        if closes is not None and closes > now and len(remembered) < _REMEMBERED:
            remembered.add(closes)
        return closes is not None and closes <= now

    async def _close(self, due: list[dict[str, Any]]) -> int:
        entries: list[Entry] = [
            put_entry(str(found["id"]), found | {"status": "final"}, etag=etag_of(found, None)) for found in due
        ]
        answers = await self._sender.send(entries)
        closed = sum(answer.is_done for answer in answers)
        OBSERVATIONS_SAVED.labels("closed").inc(closed)
        return closed
