"""The store on disk: one writer that commits in groups, readers beside it."""

import asyncio
import threading
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import apsw
import structlog

from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.change_count import COUNTED_TYPES, ChangeCount
from pulseweir.fhir_store.change_count import FILE_NAME as COUNT_FILE_NAME
from pulseweir.fhir_store.definitions.tables import parameters_digest
from pulseweir.fhir_store.known_searches import KnownSearches
from pulseweir.fhir_store.schema import MIGRATIONS
from pulseweir.fhir_store.security.access import NO_BOUNDS, Access, current_access
from pulseweir.fhir_store.session import SHORT_READ_STEPS, WriteSession, took_too_long
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.terms import Terms
from pulseweir.fhir_store.writer import Writer
from pulseweir.sqlite import connect, immediate, migrate

if TYPE_CHECKING:
    from pulseweir.fhir_store.search_sql import SearchSql

T = TypeVar("T")
FILE_NAME = "fhir.sqlite"
_log = structlog.get_logger()
INDEX_LAYOUT = 6
"""Counts up when the same parameters are indexed in another way."""
_REINDEX_RESOURCES = 5_000


class FhirStoreUnusable(RefuseToStart):
    """The file of the FHIR store cannot be opened."""

    def __init__(self, directory: Path, cause: str) -> None:
        super().__init__(
            f"The FHIR store in {directory} cannot be opened ({cause}). Check that this user may write the folder and"
            " that the disk has room; where the file itself is damaged, restore a backup."
        )


@dataclass(slots=True)
class ReadSession:
    """One thread's view of what is committed; `access` is that of the request it works for, `zone` that of days."""

    connection: apsw.Connection
    terms: Terms
    access: Access = NO_BOUNDS
    known_searches: "KnownSearches[SearchSql]" = field(default_factory=KnownSearches)
    zone: str = "UTC"


class FhirStore:
    """Resources, their history and their index in one SQLite file.

    A write that returned survives a power cut. Units that wait together share one commit; each is all or nothing.

    Attributes:
        after_commit: Called after every commit with the types that changed, by whichever thread committed; it must
            neither wait nor fail.
    """

    def __init__(self, path: Path, clock: Clock, settings: FhirStoreSettings) -> None:
        self.settings = settings
        self.path = path
        self._clock = clock
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="fhir-reader")
        self._connection = connect(path, page_cache_kibibytes=settings.page_cache_kibibytes)
        migrate(self._connection, MIGRATIONS)
        self._reindex()
        self._changes = ChangeCount(path.parent / COUNT_FILE_NAME, real_microseconds())
        self.after_commit: Callable[[Set[str]], None] | None = None
        self._writer = Writer(self._connection, clock, settings, self._committed)
        self._closed = False

    @classmethod
    def open(cls, directory: Path, clock: Clock, settings: FhirStoreSettings | None = None) -> "FhirStore":
        """Open the store of a directory, made when it is new.

        Raises:
            DataDirectoryNewer: Written by a newer release; upgrade, or restore a backup.
            FhirStoreUnusable: Its file cannot be read or written.
        """
        try:
            return cls(directory / FILE_NAME, clock, settings or FhirStoreSettings())
        except (apsw.Error, OSError) as error:
            raise FhirStoreUnusable(directory, type(error).__name__) from error

    @property
    def is_ready(self) -> bool:
        """Whether writes are taken."""
        return self._writer.is_ready

    def now_microseconds(self) -> int:
        """The present instant by the store's clock."""
        return self._clock.now_microseconds()

    async def write(self, work: Callable[[WriteSession], T], *, is_short: bool = False) -> T:
        """Run `work` inside a transaction; returns once its writes survive a crash.

        Args:
            work: What to do in the transaction.
            is_short: See `Writer.write`.

        Raises:
            RetryLater: Nothing of it was stored; check the disk.
        """
        return await self._writer.write(work, is_short=is_short)

    def post(self, work: Callable[[WriteSession], T], access: Access = NO_BOUNDS) -> "Future[T]":
        """Queue `work` for the writer; it is done before the store closes."""
        return self._writer.post(work, access)

    def post_soon(self, work: Callable[[WriteSession], T]) -> "Future[T]":
        """Queue `work` that nobody waits for, see `Writer.post_soon`."""
        return self._writer.post_soon(work)

    def read(self, work: Callable[[ReadSession], T]) -> T:
        """Run a short read on the calling thread."""
        session = self._session()
        session.access = current_access()
        return work(session)

    async def query(self, work: Callable[[ReadSession], T]) -> T:
        """Run a read that may be long, in one snapshot: at once while it is short, else in a reader thread."""
        access = current_access()
        try:
            return self._in_snapshot(work, access, lambda: True)
        except apsw.InterruptError:
            access.forget()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._long_query, work, access)

    def close(self) -> None:
        """Finish what is queued and let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._pool.shutdown()
        for connection in self._readers:
            connection.close()
        self._connection.close()
        self._changes.close()

    def _committed(self, changed_types: Set[str]) -> None:
        if not COUNTED_TYPES.isdisjoint(changed_types):
            self._changes.add()
        if self.after_commit is not None:
            self.after_commit(changed_types)

    def _reindex(self) -> None:
        """Make the index anew when it was made with other definitions; a crash amid it goes on where it stood."""
        wanted = f"{INDEX_LAYOUT}-{parameters_digest()}"
        if self.settings.time_zone != "UTC":
            # Days are indexed by the zone they are of.
            wanted += f"-{self.settings.time_zone}"
        rows = self._connection.execute("SELECT name, value FROM setting")
        held = {str(name): str(value) for name, value in rows}
        if held.get("index") == wanted:
            return
        session = WriteSession(self._connection, self.settings.time_zone)
        after: int | None = int(held.get("index_row", "0")) if held.get("index_wanted") == wanted else 0
        if not after and self._connection.execute("SELECT EXISTS (SELECT 1 FROM resource)").get:
            _log.warning("fhir_index_made_anew", step=4)
        while after is not None:
            with immediate(self._connection):
                after = session.reindex(after, _REINDEX_RESOURCES)
                done = {"index": wanted} if after is None else {"index_wanted": wanted, "index_row": str(after)}
                self._connection.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", list(done.items()))

    def _session(self) -> ReadSession:
        session: ReadSession | None = getattr(self._local, "session", None)
        if session is None:
            connection = connect(self.path)
            connection.pragma("query_only", True)
            self._readers.append(connection)
            session = self._local.session = ReadSession(connection, Terms(connection), zone=self.settings.time_zone)
        return session

    def _long_query(self, work: Callable[[ReadSession], T], access: Access) -> T:
        ends = monotonic() + self.settings.limits.search_seconds
        try:
            return self._in_snapshot(work, access, lambda: monotonic() > ends)
        except apsw.InterruptError:
            raise took_too_long() from None
        except StopIteration as error:  # no future takes one
            raise RuntimeError("a read ended an iteration that is not its own") from error

    def _in_snapshot(self, work: Callable[[ReadSession], T], access: Access, is_over: Callable[[], bool]) -> T:
        """Run a read; InterruptError when `is_over` says so, which is asked about every millisecond."""
        session = self._session()
        session.access = access
        session.connection.execute("BEGIN")
        session.connection.set_progress_handler(is_over, SHORT_READ_STEPS)
        try:
            return work(session)
        finally:
            session.connection.set_progress_handler(None)
            session.connection.execute("COMMIT")
