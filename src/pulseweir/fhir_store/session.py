"""One write transaction of the store: what is there, what changes, in the writer's own words."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

import apsw
import msgspec

from pulseweir.clock import real_microseconds
from pulseweir.fhir_store.indexing import IndexRows, index_resource
from pulseweir.fhir_store.json_text import decode_object, join_resource, split_members
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.rows import ResourceRow, Rows
from pulseweir.fhir_store.schema import INDEX_TABLES
from pulseweir.fhir_store.security.access import NO_BOUNDS, Access
from pulseweir.fhir_store.security.maker import note_maker, renew_maker, revealed
from pulseweir.fhir_store.subscriptions.headers import masked
from pulseweir.fhir_store.terms import Terms


class Stored(NamedTuple):
    """One version of a resource as it lies in the store.

    Attributes:
        pk: Row of the resource, the same for all its versions.
        resource_type: FHIR type.
        resource_id: Logical id.
        version: 1 for the first, +1 a change.
        updated: Instant of this version, microseconds.
        deleted: Whether this version says that the resource is gone.
        meta: What the client said in meta, without braces.
        content: All other members, without braces.
        is_whole: Whether its text shows what a Subscription keeps to itself, its headers.
    """

    pk: int
    resource_type: str
    resource_id: str
    version: int
    updated: int
    deleted: bool
    meta: bytes
    content: bytes
    is_whole: bool = False

    def text(self) -> bytes:
        """The full resource as JSON text."""
        content = self.content
        if self.resource_type == "Subscription" and not self.is_whole:
            content = masked(content)
        return join_resource((self.resource_type, self.resource_id, self.version, self.updated), self.meta, content)

    def tree(self) -> Json:
        """The full resource, decoded."""
        return decode_object(self.text())

    @property
    def etag(self) -> str:
        """The weak entity tag of this version."""
        return f'W/"{self.version}"'


_FATAL = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ProtocolError,
)
"""After these nothing of a transaction can be relied on; others concern the statement alone."""
_DAY_MICROSECONDS = 86_400_000_000
SHORT_READ_STEPS = 20_000
"""Steps of SQLite's machine, about a millisecond: a switch of threads would cost more than most searches."""


def took_too_long() -> Refusal:
    """400 for a search that was given up."""
    return Refusal(400, "too-costly", "The search took too long and was given up; make it narrower.")


@dataclass(slots=True)
class _Mark:
    """Where a part of the transaction began that may be undone.

    Attributes:
        lengths: What was gathered by then.
        next_pk: The row that the next resource would have got.
        settings: Settings changed by then.
        is_set: Whether SQLite has a savepoint for it; not needed while nothing of the part was written.
    """

    lengths: tuple[int, ...]
    next_pk: int | None
    settings: dict[str, str]
    is_set: bool = False


class WriteSession:
    """The writer's connection inside a transaction. Used by the writer thread only."""

    def __init__(self, connection: apsw.Connection, zone: str = "UTC") -> None:
        self._connection = connection
        self.zone = zone
        self.terms = Terms(connection)
        self.now_microseconds = 0
        self.changed_types: set[str] = set()
        self.access: Access = NO_BOUNDS
        self.search_ends = 0.0
        self._rows = Rows(connection, self.terms)
        self._marks: list[_Mark] = []
        self._known: dict[tuple[str, str], Stored | None] = {}
        self._settings: dict[str, str] = {}
        self._next_pk: int | None = None
        self._is_settled = True

    @property
    def connection(self) -> apsw.Connection:
        """The connection, once it holds all that was written so far: first versions are gathered until then."""
        if not self._is_settled:
            self.settle()
        return self._connection

    def begin(self, now_microseconds: int) -> None:
        """Forget the transaction before this one.

        Versions of a clock that was set back are later than those before it all the same: who asks for what changed
        since would miss them. A clock that was a day ahead or more was wrong, and is not held to.
        """
        before = self.now_microseconds or self._newest()
        goes_back = 0 < before - now_microseconds < _DAY_MICROSECONDS
        self.now_microseconds = before + 1 if goes_back else now_microseconds
        self.changed_types.clear()
        self._rows.cut()
        self._marks.clear()
        self._known.clear()
        self._settings = {}
        self._next_pk = None
        self._is_settled = True

    def _newest(self) -> int:
        """Instant of the newest version, found by one step in the index a type; 0 in an empty store."""
        statement = (
            "WITH RECURSIVE held (type) AS (SELECT min(type) FROM resource UNION ALL"
            " SELECT (SELECT min(type) FROM resource WHERE type > held.type) FROM held WHERE held.type IS NOT NULL)"
            " SELECT coalesce(max((SELECT max(updated) FROM resource WHERE type = held.type)), 0) FROM held"
        )
        return int(self._connection.execute(statement).get)

    def settle(self) -> None:
        """Write what is gathered; needed before a commit."""
        for depth, mark in enumerate(self._marks):
            if not mark.is_set:
                self._rows.write(mark.lengths)
                self._connection.execute(f"SAVEPOINT part{depth}")
                mark.is_set = True
        self._rows.write()
        if self._settings:
            self._connection.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", [*self._settings.items()])
        self._is_settled = True

    @contextmanager
    def undoable(self) -> Iterator[None]:
        """A part of the transaction: an error inside undoes what it wrote, and is raised again."""
        mark = _Mark(self._rows.lengths(), self._next_pk, dict(self._settings))
        name = f"part{len(self._marks)}"
        self._marks.append(mark)
        self._is_settled = False
        try:
            yield
            if mark.is_set:
                self._connection.execute(f"RELEASE {name}")
        except BaseException as error:
            if self.is_lost(error):
                raise
            if mark.is_set:
                self.terms.forget()
                self._connection.execute(f"ROLLBACK TO {name}")
                self._connection.execute(f"RELEASE {name}")
            self._rows.cut(None if mark.is_set else mark.lengths)
            self._next_pk, self._settings = mark.next_pk, mark.settings
            self._known.clear()
            self._is_settled = False
            raise
        finally:
            self._marks.pop()

    def is_lost(self, error: BaseException) -> bool:
        """Whether an error takes the whole transaction with it: SQLite ended it, or cannot write or read on."""
        return isinstance(error, _FATAL) or (isinstance(error, apsw.Error) and self._connection.get_autocommit())

    def setting(self, name: str) -> str | None:
        """The value of a setting; None when it was never set."""
        if name in self._settings:
            return self._settings[name]
        found = self._connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).get
        return None if found is None else str(found)

    def set_setting(self, name: str, value: str) -> None:
        """Change a setting."""
        self._settings[name] = value
        self._is_settled = False

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Searches inside end when the unit has searched for too long; writes are never cut off.

        Raises:
            Refusal: 400 when they did.
        """
        self.connection.set_progress_handler(lambda: monotonic() > self.search_ends, SHORT_READ_STEPS)
        try:
            yield
        except apsw.InterruptError:
            raise took_too_long() from None
        finally:
            self.connection.set_progress_handler(None)

    def find(self, resource_type: str, resource_id: str) -> Stored | None:
        """The current version, a deleted one too; None when there never was one that the caller may know of."""
        key = (resource_type, resource_id)
        found = self._known[key] if key in self._known else find_current(self.connection, self.terms, *key)
        return revealed(self, found) if found is not None and self.access.sees(found, "cruds") else None

    def look_up(self, resource_type: str, resource_ids: Iterable[str]) -> None:
        """Read the current versions of many resources at once, for `find` in the same part of the transaction."""
        number = self.terms.find(resource_type)
        names = [name for name in resource_ids if (resource_type, name) not in self._known]
        self._known.update(((resource_type, name), None) for name in names)
        rows = self.connection.execute(
            "SELECT pk, id, version, updated, deleted, meta, content FROM resource"
            " WHERE type = ? AND id IN (SELECT value FROM json_each(?))",
            (number, msgspec.json.encode(names).decode()),
        )
        for pk, name, version, updated, deleted, meta, content in rows:
            stored = Stored(pk, resource_type, name, version, updated, bool(deleted), meta, content)
            self._known[resource_type, name] = stored

    def insert(
        self,
        resource_type: str,
        resource_id: str,
        tree: Json,
        parts: tuple[bytes, bytes],
        rows: IndexRows | None = None,
        *,
        posted: bool = True,
    ) -> Stored:
        """Store the first version of a resource.

        Args:
            resource_type: FHIR type.
            resource_id: Its id, which no other of the type has.
            tree: The decoded resource.
            parts: Its text, as `split_resource` gives it.
            rows: What it is found by; None to ask the tree.
            posted: Whether the id is the server's, as a POST has it.
        """
        self.access.check_insert(resource_type, resource_id, tree)
        meta, content = parts
        rows = rows or index_resource(resource_type, tree, zone=self.zone)
        self.changed_types.add(resource_type)
        pk = self._new_pk()
        number = self.terms.intern(resource_type)
        self._rows.add(ResourceRow(pk, number, resource_id, self.now_microseconds, meta, content, posted))
        self._rows.index(pk, rows)
        self._is_settled = False
        stored = Stored(pk, resource_type, resource_id, 1, self.now_microseconds, False, meta, content)
        self._known[resource_type, resource_id] = stored
        if resource_type == "Subscription":
            stored = self._made(stored)
        self.access.wrote("create", stored)
        return stored

    def replace(self, current: Stored, tree: Json, parts: tuple[bytes, bytes], rows: IndexRows | None = None) -> Stored:
        """Store the next version of a resource, see `insert`; the present one goes to history."""
        self.access.check_replace(current, tree)
        rows = rows or index_resource(current.resource_type, tree, zone=self.zone)
        updated = self._supersede(current, deleted=False, parts=parts)
        self._index(current.pk, rows)
        if current.resource_type == "Subscription":
            updated = self._made(updated)
        self.access.wrote("update", updated)
        return updated

    def reindex(self, after: int, limit: int) -> int | None:
        """Make the index of some resources anew, in the order of their rows.

        Args:
            after: Row after which to go on; 0 to begin.
            limit: Most resources.

        Returns:
            The last row done; None when there are no more.
        """
        rows: list[Any] = self.connection.execute(
            "SELECT r.pk, t.text, r.content, r.meta FROM resource r JOIN term t ON t.id = r.type"
            " WHERE r.pk > ? AND r.deleted = 0 ORDER BY r.pk LIMIT ?",
            (after, limit),
        ).fetchall()
        for pk, *_ in rows:
            self._unindex(pk)
        for pk, resource_type, content, meta in rows:
            text = b'{"meta":{' + meta + b"}" + (b"," if content else b"") + content + b"}"
            texts = [*map(bytes, split_members(text).values())]
            self._index(pk, index_resource(resource_type, decode_object(text), texts, self.zone))
        self.settle()
        return int(rows[-1][0]) if rows else None

    def delete(self, current: Stored) -> Stored:
        """Store that a resource is gone."""
        self.access.check_delete(current)
        self.access.wrote("delete", current)
        return self._supersede(current, deleted=True, parts=(b"", b""))

    def stays(self, current: Stored) -> bool:
        """Whether an update that changes nothing keeps the version: a Subscription may get another maker by one."""
        return current.resource_type != "Subscription" or renew_maker(self, current, real_microseconds())

    def _made(self, stored: Stored) -> Stored:
        """A version of a Subscription as whoever made it sees it, once that is noted."""
        note_maker(self, stored, real_microseconds())
        return stored._replace(is_whole=True)

    def _supersede(self, current: Stored, *, deleted: bool, parts: tuple[bytes, bytes]) -> Stored:
        meta, content = parts
        pk, version = current.pk, current.version + 1
        self.changed_types.add(current.resource_type)
        self.connection.execute(
            "INSERT INTO history (pk, version, updated, deleted, meta, content, type)"
            " SELECT pk, version, updated, deleted, meta, content, type FROM resource WHERE pk = ?",
            (pk,),
        )
        self.connection.execute(
            "UPDATE resource SET version = ?, updated = ?, deleted = ?, meta = ?, content = ? WHERE pk = ?",
            (version, self.now_microseconds, deleted, meta, content, pk),
        )
        self._unindex(pk)
        key = current.resource_type, current.resource_id
        stored = Stored(pk, *key, version, self.now_microseconds, deleted, meta, content)
        self._known[key] = stored
        return stored

    def _index(self, pk: int, rows: IndexRows) -> None:
        self._rows.index(pk, rows)
        self._is_settled = False

    def _new_pk(self) -> int:
        pk = self._next_pk
        if pk is None:
            pk = int(self._connection.execute("SELECT coalesce(max(pk), 0) + 1 FROM resource").get)
        self._next_pk = pk + 1
        return pk

    def _unindex(self, pk: int) -> None:
        for table in INDEX_TABLES:
            self.connection.execute(f"DELETE FROM {table} WHERE pk = ?", (pk,))  # noqa: S608 - fixed names


def find_current(connection: apsw.Connection, terms: Terms, resource_type: str, resource_id: str) -> Stored | None:
    """The current version of a resource, a deleted one too; None when the id was never used."""
    number = terms.find(resource_type)
    row = connection.execute(
        "SELECT pk, version, updated, deleted, meta, content FROM resource WHERE type = ? AND id = ?",
        (number, resource_id),
    ).fetchone()
    if row is None:
        return None
    pk, version, updated, deleted, meta, content = row
    return Stored(pk, resource_type, resource_id, version, updated, bool(deleted), meta, content)


def find_versions(connection: apsw.Connection, current: Stored, version: int | None = None) -> Iterator[Stored]:
    """Superseded versions of a resource, newest first; only one of them when `version` is given."""
    rows = connection.execute(
        "SELECT version, updated, deleted, meta, content FROM history"
        " WHERE pk = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY version DESC",
        (current.pk, version),
    )
    for number, updated, deleted, meta, content in rows:
        yield Stored(
            current.pk, current.resource_type, current.resource_id, number, updated, bool(deleted), meta, content
        )
