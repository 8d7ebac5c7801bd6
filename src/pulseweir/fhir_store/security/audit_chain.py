"""Whether the chain of AuditEvents is whole: each carries the hash of the one before, and the newest is noted beside.

Whoever can write the database can cut the chain's end off and note another newest one. An *anchor*, the number and
hash of an AuditEvent noted elsewhere, shows that too.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.outcomes import Json
from pulseweir.fhir_store.security.access import AUDIT_ID_PREFIX
from pulseweir.fhir_store.security.audit_event import CHAIN_EXTENSION
from pulseweir.fhir_store.security.audit_trail import BEGIN, chain_head, event_hash
from pulseweir.sqlite import connect

if TYPE_CHECKING:
    from pulseweir.fhir_store.storage import ReadSession

_ANCHOR = re.compile(r"([1-9]\d{0,18}):([0-9a-f]{64})")


class AnchorUnusable(RefuseToStart):
    """A text that is no anchor of the audit's chain."""


class Anchor(msgspec.Struct, frozen=True):
    """What was noted of the chain at some time.

    Attributes:
        number: Number of the AuditEvent that was the newest then.
        hash: Its hash.
    """

    number: int
    hash: str

    @classmethod
    def read(cls, text: str) -> "Anchor":
        """The anchor in a text, as `pulseweir fhir audit verify` prints it.

        Raises:
            AnchorUnusable: It is none.
        """
        match = _ANCHOR.fullmatch(text.strip())
        if match is None:
            raise AnchorUnusable("An anchor is NUMBER:HASH, as `pulseweir fhir audit verify` prints it.")
        return cls(int(match[1]), match[2])


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
        head: Hash of the newest.
        anchor: Number and hash of the newest, to be noted elsewhere; "" when there is none.
        broken: The first link that does not hold, None when all do.
    """

    events: int
    head: str
    anchor: str
    broken: BrokenLink | None


def verify(session: "ReadSession", anchors: tuple[Anchor, ...] = ()) -> Verified:
    """Walk the chain from its beginning to the first link that does not hold.

    Args:
        session: The store.
        anchors: What was noted of it before.
    """
    last, head = chain_head(session)
    broken = _first_broken(session, last, head) or _not_anchored(session, last, anchors) or _inserted(session, last)
    events = last if broken is None else min(max(broken.number - 1, 0), last)
    return Verified(events, head, f"{last}:{head}" if last else "", broken)


def _first_broken(session: "ReadSession", last: int, head: str) -> BrokenLink | None:
    previous = BEGIN
    for number in range(1, last + 1):
        event = _event(session, number)
        if event is None:
            return BrokenLink(number, "it is missing, or deleted")
        found = event_hash(event)
        if _carried(event) != previous:
            # The link after it tells which of the two was changed.
            later = _event(session, number + 1)
            is_whole = found == (head if number == last else later and _carried(later))
            return BrokenLink(number - 1 if is_whole and number > 1 else number, "it is not as it was written")
        previous = found
    return None if previous == head else BrokenLink(max(last, 1), "it is not as it was written")


def _not_anchored(session: "ReadSession", last: int, anchors: tuple[Anchor, ...]) -> BrokenLink | None:
    for anchor in sorted(anchors, key=lambda each: each.number):
        if anchor.number > last:
            return BrokenLink(last + 1, "it is missing: the chain was longer when its anchor was noted")
        event = _event(session, anchor.number)
        if event is None or event_hash(event) != anchor.hash:
            return BrokenLink(anchor.number, "it is not what its anchor says: the chain was written anew")
    return None


def _inserted(session: "ReadSession", last: int) -> BrokenLink | None:
    """The first AuditEvent with an id of the chain that the chain does not know."""
    strangers = [number for number in _numbers(session) if not 0 < number <= last]
    return BrokenLink(min(strangers), "it is none that this store wrote") if strangers else None


def _numbers(session: "ReadSession") -> Iterator[int]:
    rows = session.connection.execute(
        "SELECT id FROM resource WHERE type = ? AND id >= ? AND id < ?",
        (session.terms.find("AuditEvent"), AUDIT_ID_PREFIX, AUDIT_ID_PREFIX[:-1] + "."),
    )
    for (name,) in rows:
        text = str(name).removeprefix(AUDIT_ID_PREFIX)
        # Ids are asked for by their number, written in one way.
        yield int(text) if re.fullmatch(r"[1-9][0-9]{0,18}", text) else 0


def verify_directory(directory: Path, anchors: tuple[Anchor, ...] = ()) -> Verified:
    """Walk the chain of the store in a directory, whether it is served or not."""
    from pulseweir.fhir_store.storage import FILE_NAME, ReadSession
    from pulseweir.fhir_store.terms import Terms

    if not (directory / FILE_NAME).exists():
        missing = BrokenLink(1, "it is missing: the chain was longer when its anchor was noted") if anchors else None
        return Verified(0, BEGIN, "", missing)
    connection = connect(directory / FILE_NAME)
    try:
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        return verify(ReadSession(connection, Terms(connection)), anchors)
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
