"""One write transaction of the store: what is there, what changes, in the writer's own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import apsw

from pulseweir.clock import real_microseconds
from pulseweir.fhir_store.extraction import Amount, Unit
from pulseweir.fhir_store.indexing import Coded, IndexRows, index_resource
from pulseweir.fhir_store.json_text import decode_object, join_resource
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.schema import INDEX_TABLES
from pulseweir.fhir_store.security.access import NO_BOUNDS, Access
from pulseweir.fhir_store.security.maker import note_maker, revealed
from pulseweir.fhir_store.subscriptions.headers import masked


@dataclass(frozen=True, slots=True)
class Stored:
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


SHORT_READ_STEPS = 20_000
"""Steps of SQLite's machine, about a millisecond: a switch of threads would cost more than most searches."""


def took_too_long() -> Refusal:
    """400 for a search that was given up."""
    return Refusal(400, "too-costly", "The search took too long and was given up; make it narrower.")


class Terms:
    """Interned names, read through one connection; an id once committed never changes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._ids: dict[str, int] = {"": 0}

    def find(self, text: str) -> int | None:
        """The id of a name, None when no resource ever used it."""
        found = self._ids.get(text)
        if found is None:
            found = self._connection.execute("SELECT id FROM term WHERE text = ?", (text,)).get
            if found is not None:
                self._keep(text, int(found))
        return found

    def intern(self, text: str) -> int:
        """The id of a name, made when it is new; only inside a write transaction."""
        found = self.find(text)
        if found is None:
            self._connection.execute("INSERT INTO term (text) VALUES (?)", (text,))
            found = self._connection.last_insert_rowid()
            self._keep(text, found)
        return found

    def forget(self) -> None:
        """Drop what is remembered; needed after a rollback."""
        self._ids = {"": 0}

    def _keep(self, text: str, number: int) -> None:
        if len(self._ids) > 100_000:
            self.forget()
        self._ids[text] = number


class WriteSession:
    """The writer's connection inside a transaction. Used by the writer thread only."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.terms = Terms(connection)
        self.now_microseconds = 0
        self.changed_types: set[str] = set()
        self.access: Access = NO_BOUNDS
        self.search_ends = 0.0

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
        found = find_current(self.connection, self.terms, resource_type, resource_id)
        return revealed(self, found) if found is not None and self.access.sees(found, "cruds") else None

    def insert(self, resource_type: str, resource_id: str, tree: Json, parts: tuple[bytes, bytes]) -> Stored:
        """Store the first version of a resource."""
        self.access.check_insert(resource_type, resource_id, tree)
        meta, content = parts
        self.changed_types.add(resource_type)
        self.connection.execute(
            "INSERT INTO resource (type, id, version, updated, meta, content) VALUES (?, ?, 1, ?, ?, ?)",
            (self.terms.intern(resource_type), resource_id, self.now_microseconds, meta, content),
        )
        pk = self.connection.last_insert_rowid()
        self._index(pk, index_resource(resource_type, tree))
        stored = Stored(pk, resource_type, resource_id, 1, self.now_microseconds, False, meta, content)
        if resource_type == "Subscription":
            stored = self._made(stored)
        self.access.wrote("create", stored)
        return stored

    def replace(self, current: Stored, tree: Json, parts: tuple[bytes, bytes]) -> Stored:
        """Store the next version of a resource; the present one goes to history."""
        self.access.check_replace(current, tree)
        updated = self._supersede(current, deleted=False, parts=parts)
        self._index(current.pk, index_resource(current.resource_type, tree))
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
        for pk, resource_type, content, meta in rows:
            self._unindex(pk)
            tree = decode_object(b"{" + content + b"}")
            if meta:
                tree["meta"] = decode_object(b"{" + meta + b"}")
            self._index(pk, index_resource(resource_type, tree))
        return int(rows[-1][0]) if rows else None

    def delete(self, current: Stored) -> Stored:
        """Store that a resource is gone."""
        self.access.check_delete(current)
        self.access.wrote("delete", current)
        return self._supersede(current, deleted=True, parts=(b"", b""))

    def _made(self, stored: Stored) -> Stored:
        """A version of a Subscription as whoever made it sees it, once that is noted."""
        note_maker(self, stored, real_microseconds())
        return replace(stored, is_whole=True)

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
        return Stored(
            pk, current.resource_type, current.resource_id, version, self.now_microseconds, deleted, meta, content
        )

    def _index(self, pk: int, rows: IndexRows) -> None:
        intern = self.terms.intern
        if rows.texts:
            self.connection.executemany(
                "INSERT INTO text_index VALUES (?, ?, ?, ?)",
                [(pk, intern(key), value, intern(system)) for key, value, system in rows.texts],
            )
        if rows.ranges:
            self.connection.executemany(
                "INSERT INTO range_index VALUES (?, ?, ?, ?)",
                [(pk, intern(key), low, high) for key, low, high in rows.ranges],
            )
        if rows.amounts:
            self.connection.executemany(
                "INSERT INTO amount_index VALUES (?, ?, ?, ?, ?)",
                [(pk, intern(key), self._unit(amount.unit), amount.low, amount.high) for key, amount in rows.amounts],
            )
        columns = rows.observation
        if columns is not None:
            self.connection.execute(
                "INSERT INTO observation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    pk,
                    columns.subject and intern(columns.subject),
                    self._token_set(columns.code),
                    columns.low,
                    columns.high,
                    columns.status and intern(columns.status),
                    self._token_set(columns.category),
                    columns.device and intern(columns.device),
                    columns.encounter and intern(columns.encounter),
                    *self._amount(columns.value),
                    self._token_set(columns.concept),
                ),
            )
        if rows.components:
            self.connection.executemany(
                "INSERT INTO observation_component VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (pk, place, self._token_set(each.code), *self._amount(each.value), self._token_set(each.concept))
                    for place, each in enumerate(rows.components)
                ],
            )

    def _unindex(self, pk: int) -> None:
        for table in INDEX_TABLES:
            self.connection.execute(f"DELETE FROM {table} WHERE pk = ?", (pk,))  # noqa: S608 - fixed names

    def _amount(self, amount: Amount | None) -> tuple[float | None, float | None, int | None]:
        return (None, None, None) if amount is None else (amount.low, amount.high, self._unit(amount.unit))

    def _unit(self, unit: Unit) -> int:
        """The id of a unit: quantities of one kind share one, so a unit costs one integer."""
        name = "\x1d".join(("", *unit))
        known = self.terms.find(name)
        if known is not None:
            return known
        number = self.terms.intern(name)
        self.connection.execute("INSERT OR IGNORE INTO unit VALUES (?, ?, ?, ?)", (number, *unit))
        return number

    def _token_set(self, coded: Coded) -> int | None:
        """The id of a set of codings: Observations of one kind share one, so a code costs one integer."""
        if not coded.tokens and not coded.texts:
            return None
        name = "\x1e".join(f"{system}\x1f{code}" for code, system in coded.tokens)
        if coded.texts:
            name = "\x1d".join((name, *coded.texts, ""))
        known = self.terms.find(name)
        if known is not None:
            return known
        number = self.terms.intern(name)
        self.connection.executemany(
            "INSERT OR IGNORE INTO token_set (token_set, value, system) VALUES (?, ?, ?)",
            [(number, code, self.terms.intern(system)) for code, system in coded.tokens],
        )
        self.connection.executemany(
            "INSERT OR IGNORE INTO token_text (token_set, text) VALUES (?, ?)", [(number, text) for text in coded.texts]
        )
        return number


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
