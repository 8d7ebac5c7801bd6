"""What the store remembers about Subscriptions: changes not yet looked at, events, and how delivery stands.

Changes of followed types are noted by triggers in the transaction that makes them. Events are numbered, and the
changes they come from forgotten, in one transaction: a crash loses no event and numbers none twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pulseweir.fhir_store.json_text import decode_object, split_resource
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.subscriptions.topics import watched_type

Session = ReadSession | WriteSession
_STATE = (
    "SELECT s.pk, r.id, s.version, s.status, s.since_position, s.events, s.delivered, s.failures, s.failing_since,"
    " s.error FROM subscription s JOIN resource r ON r.pk = s.pk"
)
_VERSION = (
    "SELECT r.pk, t.text, r.id, v.version, v.updated, v.deleted, v.meta, v.content FROM ({versions}) v"
    " JOIN resource r ON r.pk = v.pk JOIN term t ON t.id = r.type"
)


@dataclass(frozen=True, slots=True)
class State:
    """How one Subscription stands.

    Attributes:
        pk: Row of the Subscription.
        resource_id: Its logical id.
        version: Its version that this is about.
        status: "requested", "active", "error" or "off".
        since_position: Changes after this one count; None before it was first active, or while it is off.
        events: Number of its newest event.
        delivered: Number of the newest event that its endpoint has taken.
        failures: Failed attempts in a row.
        failing_since: Real instant of the first of these; None without.
        error: Why the last attempt failed; "" when it did not.
    """

    pk: int
    resource_id: str
    version: int
    status: str
    since_position: int | None
    events: int
    delivered: int
    failures: int
    failing_since: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Change:
    """One version that was committed.

    Attributes:
        position: Counts up with every change of a followed type.
        stored: The version.
        subject: What criteria are held against: the version, or the one before a deletion.
    """

    position: int
    stored: Stored
    subject: Stored

    @property
    def interaction(self) -> str:
        """How it came to be."""
        return "delete" if self.stored.deleted else "create" if self.stored.version == 1 else "update"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a Subscription.

    Attributes:
        number: 1 for its first, +1 an event.
        interaction: "create", "update" or "delete".
        stored: The version it is about.
        subject: That version, or the one before a deletion.
    """

    number: int
    interaction: str
    stored: Stored
    subject: Stored


def states(session: Session, resource_id: str | None = None) -> list[State]:
    """All Subscriptions that are followed up, or the one with an id."""
    where = "" if resource_id is None else " WHERE r.id = ?"
    return [State(*row) for row in _rows(session, _STATE + where, () if resource_id is None else (resource_id,))]


def state_of(session: Session, pk: int) -> State | None:
    """One Subscription; None when it is not followed up."""
    return next((State(*row) for row in _rows(session, _STATE + " WHERE s.pk = ?", (pk,))), None)


def subscription_resource(session: Session, pk: int) -> Stored | None:
    """The current version of a Subscription by its row, with its headers."""
    text = _VERSION.format(versions="SELECT * FROM resource WHERE pk = ?")
    return next((_stored(row)._replace(is_whole=True) for row in _rows(session, text, (pk,))), None)


def changes(session: Session, limit: int) -> list[Change]:
    """The oldest changes that nobody has looked at yet."""
    rows = _rows(session, "SELECT position, pk, version FROM change ORDER BY position LIMIT ?", (limit,))
    found = []
    for position, pk, version in rows:
        stored = version_of(session, pk, version)
        subject = version_of(session, pk, version - 1) if stored is not None and stored.deleted else stored
        if stored is not None and subject is not None:
            found.append(Change(position, stored, subject))
    return found


def version_of(session: Session, pk: int, version: int) -> Stored | None:
    """One version of a resource by its row, current or superseded."""
    columns = "pk, version, updated, deleted, meta, content"
    both = " UNION ALL ".join(
        f"SELECT {columns} FROM {table} WHERE pk = ?1 AND version = ?2"  # noqa: S608 - fixed names
        for table in ("resource", "history")
    )
    return next((_stored(row) for row in _rows(session, _VERSION.format(versions=both), (pk, version))), None)


def events(session: Session, state: State, after: int, until: int, limit: int) -> list[Event]:
    """Events with numbers in (`after`, `until`], oldest first."""
    rows = _rows(
        session,
        "SELECT number, interaction, pk, version FROM subscription_event"
        " WHERE subscription = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?",
        (state.pk, after, until, limit),
    )
    found = []
    for number, interaction, pk, version in rows:
        stored = version_of(session, pk, version)
        subject = version_of(session, pk, version - 1) if stored is not None and stored.deleted else stored
        if stored is not None:
            found.append(Event(number, interaction, stored, subject or stored))
    return found


def begin(session: WriteSession) -> None:
    """Follow Subscriptions themselves from now on, and take up those that are stored."""
    number = session.terms.intern("Subscription")
    take_up(session, (pk for (pk,) in _rows(session, "SELECT pk FROM resource WHERE type = ?", (number,))))


def take_up(session: WriteSession, subscriptions: Iterable[int]) -> None:
    """Note what clients did to Subscriptions; what the server did itself is known already."""
    for pk in subscriptions:
        _take_up(session, pk)
    _follow_types(session)


def _take_up(session: WriteSession, pk: int) -> None:
    current, state = subscription_resource(session, pk), state_of(session, pk)
    if current is None or current.deleted:
        session.connection.execute("DELETE FROM subscription WHERE pk = ?", (pk,))
        session.connection.execute("DELETE FROM subscription_event WHERE subscription = ?", (pk,))
    elif state is None or state.version != current.version:
        tree = current.tree()
        resource_type = watched_type(tree.get("criteria"))
        watched = session.terms.intern(resource_type) if resource_type else 0
        status = "off" if tree.get("status") == "off" or not watched else "requested"
        session.connection.execute(
            "INSERT INTO subscription (pk, version, status, watched) VALUES (?, ?, ?, ?) ON CONFLICT (pk) DO UPDATE SET"
            " version = excluded.version, status = excluded.status, watched = excluded.watched, failures = 0,"
            " failing_since = NULL, since_position = iif(excluded.status = 'off', NULL, since_position)",
            (pk, current.version, status, watched),
        )


def note_events(session: WriteSession, found: Mapping[int, Sequence[Change]], last_position: int) -> None:
    """Number the events of each Subscription, and forget the changes up to a position."""
    for pk, changed in found.items():
        state = state_of(session, pk)
        if state is None or state.since_position is None:
            continue
        rows = [
            (pk, number, change.stored.pk, change.stored.version, change.interaction)
            for number, change in enumerate(changed, state.events + 1)
        ]
        session.connection.executemany(
            "INSERT INTO subscription_event (subscription, number, pk, version, interaction) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        session.connection.execute("UPDATE subscription SET events = events + ? WHERE pk = ?", (len(rows), pk))
    session.connection.execute("DELETE FROM change WHERE position <= ?", (last_position,))


def note_success(session: WriteSession, known: State, delivered: int, events_kept: int) -> None:
    """Note that an endpoint took what was sent; a Subscription that was not active is so from now on."""
    state = state_of(session, known.pk)
    if state is None or state.version != known.version:
        return
    session.connection.execute(
        "UPDATE subscription SET delivered = max(delivered, ?), failures = 0, failing_since = NULL, error = '',"
        " since_position = coalesce(since_position, (SELECT seq FROM sqlite_sequence WHERE name = 'change'), 0)"
        " WHERE pk = ?",
        (delivered, state.pk),
    )
    session.connection.execute(
        "DELETE FROM subscription_event WHERE subscription = ? AND number <= ?", (state.pk, delivered - events_kept)
    )
    if state.status != "active":
        _set_status(session, state, "active", "")
    _follow_types(session)


def note_end(session: WriteSession, known: State) -> None:
    """Note that a Subscription is over: the instant has come that it named itself."""
    state = state_of(session, known.pk)
    if state is None or state.version != known.version:
        return
    session.connection.execute("UPDATE subscription SET since_position = NULL, error = '' WHERE pk = ?", (state.pk,))
    _set_status(session, state, "off", "")
    _follow_types(session)


def note_failure(session: WriteSession, known: State, text: str, now: int, limits: tuple[int, int]) -> None:
    """Note a failed attempt.

    Args:
        session: The write transaction.
        known: The Subscription as it was when the attempt began.
        text: Why it failed, for the client.
        now: Real instant.
        limits: Failures until `error`, microseconds of failures until `off`.
    """
    state = state_of(session, known.pk)
    if state is None or state.version != known.version:
        return
    failures, since = state.failures + 1, state.failing_since or now
    session.connection.execute(
        "UPDATE subscription SET failures = ?, failing_since = ?, error = ? WHERE pk = ?",
        (failures, since, text, state.pk),
    )
    if now - since >= limits[1]:
        session.connection.execute("UPDATE subscription SET since_position = NULL WHERE pk = ?", (state.pk,))
        _set_status(session, state, "off", text)
    elif failures >= limits[0] and state.status != "error":
        _set_status(session, state, "error", text)
    _follow_types(session)


def _set_status(session: WriteSession, state: State, status: str, error: str) -> None:
    """Write a Subscription's next version, as the server's own."""
    current = subscription_resource(session, state.pk)
    if current is None or current.deleted:
        return
    members = msgspec.json.decode(current.text(), type=dict[str, msgspec.Raw])
    members["status"] = msgspec.Raw(msgspec.json.encode(status))
    members.pop("error", None)
    if error:
        members["error"] = msgspec.Raw(msgspec.json.encode(error))
    text = msgspec.json.encode(members)
    written = session.replace(current, decode_object(text), split_resource(text))
    session.connection.execute(
        "UPDATE subscription SET version = ?, status = ? WHERE pk = ?", (written.version, status, state.pk)
    )


def _follow_types(session: WriteSession) -> None:
    session.connection.execute("DELETE FROM followed_type")
    session.connection.execute(
        "INSERT INTO followed_type SELECT watched FROM subscription WHERE since_position IS NOT NULL UNION SELECT ?",
        (session.terms.intern("Subscription"),),
    )


def _rows(session: Session, text: str, values: Sequence[Any]) -> list[Any]:
    return list(session.connection.execute(text, tuple(values)))


def _stored(row: Sequence[Any]) -> Stored:
    pk, resource_type, resource_id, version, updated, deleted, meta, content = row
    return Stored(pk, resource_type, resource_id, version, updated, bool(deleted), meta, content)
