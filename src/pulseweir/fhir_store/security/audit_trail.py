"""AuditEvents in a chain: each carries the hash of the one before, and the store numbers them.

What a request wrote is audited in the transaction that wrote it. What it read is audited by the writer a moment
later: many such events share a commit, and the store writes all of them before it closes.
"""

import asyncio
import hashlib
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from pulseweir.errors import RetryLater
from pulseweir.fhir_store.json_text import split_resource
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.access import AUDIT_ID_PREFIX, NO_BOUNDS, Access
from pulseweir.fhir_store.security.audit_event import CHAIN_EXTENSION, audit_event
from pulseweir.sqlite import connect
from pulseweir.telemetry import FHIR_STORE_AUDIT_EVENTS

if TYPE_CHECKING:
    from pulseweir.fhir_store.session import WriteSession
    from pulseweir.fhir_store.storage import FhirStore, ReadSession

_HEAD = "audit_head"
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
        number, previous = chain_head(session)
        event = audit_event(access, session.now_microseconds, previous)
        event = {"resourceType": "AuditEvent", "id": f"{AUDIT_ID_PREFIX}{number + 1}"} | event
        session.access = NO_BOUNDS
        session.insert("AuditEvent", event["id"], event, split_resource(msgspec.json.encode(event)))
        head = f"{number + 1}:{event_hash(event)}"
        session.connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_HEAD, head))
        access.is_recorded = True

    async def record(self, access: Access) -> None:
        """See to it that a request that wrote nothing gets its AuditEvent.

        Raises:
            RetryLater: AuditEvents cannot be written now; what was read must not be shown.
        """
        if access.is_recorded:
            FHIR_STORE_AUDIT_EVENTS.labels("written").inc()
            return
        self._posted += 1
        done = self._store.post(lambda session: self.append(session, access))
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


def chain_head(session: "WriteSession | ReadSession") -> tuple[int, str]:
    """Number and hash of the newest AuditEvent of the chain."""
    text = session.connection.execute("SELECT value FROM setting WHERE name = ?", (_HEAD,)).get
    if text is None:
        return 0, BEGIN
    number, _, found = str(text).partition(":")
    return int(number), found


def event_hash(event: Json) -> str:
    """SHA-256 over an AuditEvent: its JSON with sorted keys, without what the server sets in meta."""
    meta = {name: value for name, value in event.get("meta", {}).items() if name not in {"versionId", "lastUpdated"}}
    return hashlib.sha256(msgspec.json.encode(event | {"meta": meta}, order="sorted")).hexdigest()


class BrokenLink(msgspec.Struct, frozen=True):
    """Where the chain breaks.

    Attributes:
        number: The AuditEvent at fault.
        reason: What is wrong with it.
    """

    number: int
    reason: str


class Verified(msgspec.Struct, frozen=True):
    """What a look at the whole chain found.

    Attributes:
        events: AuditEvents whose hash and place hold.
        head: Hash of the newest; note it elsewhere to be sure that nobody rewrites them all.
        broken: The first link that does not hold, None when all do.
    """

    events: int
    head: str
    broken: BrokenLink | None


def verify(session: "ReadSession") -> Verified:
    """Walk the chain from its beginning to the first link that does not hold."""
    last, head = chain_head(session)
    previous = BEGIN
    for number in range(1, last + 1):
        event = _event(session, number)
        if event is None:
            return Verified(number - 1, head, BrokenLink(number, "it is missing, or deleted"))
        found = event_hash(event)
        if _carried(event) != previous:
            # The link after it tells which of the two was changed.
            later = _event(session, number + 1)
            is_whole = found == (head if number == last else later and _carried(later))
            at_fault = number - 1 if is_whole and number > 1 else number
            return Verified(at_fault - 1, head, BrokenLink(at_fault, "it is not as it was written"))
        previous = found
    if previous != head:
        return Verified(max(last - 1, 0), head, BrokenLink(max(last, 1), "it is not as it was written"))
    return Verified(last, head, None)


def verify_directory(directory: Path) -> Verified:
    """Walk the chain of the store in a directory, whether it is served or not."""
    from pulseweir.fhir_store.storage import FILE_NAME, ReadSession
    from pulseweir.fhir_store.terms import Terms

    if not (directory / FILE_NAME).exists():
        return Verified(0, BEGIN, None)
    connection = connect(directory / FILE_NAME)
    try:
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        return verify(ReadSession(connection, Terms(connection)))
    finally:
        connection.close()


def _event(session: "ReadSession", number: int) -> Json | None:
    from pulseweir.fhir_store.session import find_current

    stored = find_current(session.connection, session.terms, "AuditEvent", f"{AUDIT_ID_PREFIX}{number}")
    if stored is None or stored.deleted:
        return None
    try:
        return stored.tree()
    except (TypeError, ValueError):
        return {}


def _carried(event: Json) -> str | None:
    """The hash of the AuditEvent before it, as an AuditEvent carries it."""
    found = [each.get("valueString") for each in event.get("extension", ()) if each.get("url") == CHAIN_EXTENSION]
    return found[0] if len(found) == 1 else None
