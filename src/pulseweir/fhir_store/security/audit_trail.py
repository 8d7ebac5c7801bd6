"""AuditEvents in a chain: each carries the hash of the one before, and the store numbers them.

What a request wrote is audited in the transaction that wrote it. What it read is audited by the writer a moment
later, with the next write if there is one: many such events share a commit, and the store writes all of them before
it closes.
"""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from pulseweir.errors import RetryLater
from pulseweir.fhir_store.indexing import index_resource
from pulseweir.fhir_store.json_text import join_members, split_members
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.access import AUDIT_ID_PREFIX, NO_BOUNDS, Access
from pulseweir.fhir_store.security.audit_event import audit_event
from pulseweir.telemetry import FHIR_STORE_AUDIT_EVENTS

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import WriteSession
    from pulseweir.fhir_store.storage import FhirStore, ReadSession

HEAD = "audit_head"
"""Name of the setting that holds number and hash of the newest AuditEvent of the chain."""
BEGIN = "0" * 64
"""What the first AuditEvent carries in place of a hash."""
_WAITING = 2_000
"""Most AuditEvents that wait for the writer; then requests wait with them."""
_log = structlog.get_logger()


class AuditTrail:
    """Writes the AuditEvents of one store."""

    def __init__(self, store: "FhirStore") -> None:
        self._store = store
        # Each is counted up by one thread only: this one by the event loop's, the next by the writer.
        self._posted = 0
        self._finished = 0
        self._is_failing = False

    def append(self, session: "WriteSession", access: Access) -> None:
        """Write the AuditEvent of a request inside the transaction of what it wrote."""
        self.append_event(session, lambda previous: audit_event(access, session.now_microseconds, previous))
        access.is_recorded = True

    def append_event(self, session: "WriteSession", make: Callable[[str], Json]) -> None:
        """Write another AuditEvent inside a transaction.

        Args:
            session: The write transaction.
            make: Makes it from the hash of the one before.
        """
        number, previous = _read_head(session.setting(HEAD))
        event = {"resourceType": "AuditEvent", "id": f"{AUDIT_ID_PREFIX}{number + 1}"} | make(previous)
        session.access = NO_BOUNDS
        members = split_members(msgspec.json.encode(event))
        rows = index_resource("AuditEvent", event, [*map(bytes, members.values())])
        session.insert("AuditEvent", event["id"], event, join_members(members), rows)
        session.set_setting(HEAD, f"{number + 1}:{event_hash(event)}")

    def post_event(self, make: Callable[[str, int], Json]) -> None:
        """See to it that an AuditEvent is written that nobody waits for.

        Args:
            make: Makes it from the hash of the one before and the instant.
        """

        def write(session: "WriteSession") -> None:
            self.append_event(session, lambda previous: make(previous, session.now_microseconds))

        self._posted += 1
        self._store.post_soon(write).add_done_callback(self._noted)

    async def record(self, access: Access) -> None:
        """See to it that a request that wrote nothing gets its AuditEvent.

        Raises:
            RetryLater: AuditEvents cannot be written now; what was read must not be shown.
        """
        if access.is_recorded:
            FHIR_STORE_AUDIT_EVENTS.labels("written").inc()
            return
        self._posted += 1
        done = self._store.post_soon(lambda session: self.append(session, access))
        done.add_done_callback(self._noted)
        if self._is_failing or self._posted - self._finished > _WAITING:
            try:
                await asyncio.wrap_future(done)
            except Exception as error:
                raise RetryLater("The audit cannot be written, so nothing is shown; check the disk.") from error

    def _noted(self, done: "Future[Any]") -> None:
        """In the writer thread: count, and remember whether the audit works."""
        self._finished += 1
        error = done.exception()
        self._is_failing = error is not None
        FHIR_STORE_AUDIT_EVENTS.labels("failed" if error else "written").inc()
        if error is not None:
            _log.error("fhir_audit_failed", step=5, error=type(error).__name__)


def chain_head(session: "ReadSession") -> tuple[int, str]:
    """Number and hash of the newest AuditEvent of the chain."""
    text = session.connection.execute("SELECT value FROM setting WHERE name = ?", (HEAD,)).get
    return _read_head(None if text is None else str(text))


def _read_head(text: str | None) -> tuple[int, str]:
    if text is None:
        return 0, BEGIN
    number, _, found = text.partition(":")
    return int(number), found


def event_hash(event: Json) -> str:
    """SHA-256 over an AuditEvent: its JSON with sorted keys, without what the server sets in meta."""
    meta = {name: value for name, value in event.get("meta", {}).items() if name not in {"versionId", "lastUpdated"}}
    return hashlib.sha256(msgspec.json.encode(event | {"meta": meta}, order="sorted")).hexdigest()
