"""The store on disk: one writer thread that commits in groups, readers beside it."""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import apsw
import structlog

from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import RefuseToStart, RetryLater
from pulseweir.fhir_store.change_count import COUNTED_TYPES, ChangeCount
from pulseweir.fhir_store.change_count import FILE_NAME as COUNT_FILE_NAME
from pulseweir.fhir_store.definitions.tables import parameters_digest
from pulseweir.fhir_store.schema import MIGRATIONS
from pulseweir.fhir_store.security.access import NO_BOUNDS, Access, current_access
from pulseweir.fhir_store.session import SHORT_READ_STEPS, WriteSession, took_too_long
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.terms import Terms
from pulseweir.sqlite import connect, immediate, migrate

T = TypeVar("T")
FILE_NAME = "fhir.sqlite"
_log = structlog.get_logger()
INDEX_LAYOUT = 5
"""Counts up when the same parameters are indexed in another way."""
_REINDEX_RESOURCES = 5_000
_GATHER_SECONDS = 0.02
"""How long units that nobody waits for gather when no other write comes."""


class FhirStoreUnusable(RefuseToStart):
    """The file of the FHIR store cannot be opened."""

    def __init__(self, directory: Path, cause: str) -> None:
        super().__init__(
            f"The FHIR store in {directory} cannot be opened ({cause}). Check that this user may write the folder and"
            " that the disk has room; where the file itself is damaged, restore a backup."
        )


class _Sign(Enum):
    """What the writer is told besides units: that some wait in no hurry, or that no more will come."""

    SOON = 0
    CLOSE = 1


@dataclass(slots=True, eq=False)
class _Unit:
    """One request's writes: all or nothing."""

    work: Callable[[WriteSession], Any]
    done: "Future[Any] | asyncio.Future[Any]"
    access: Access


@dataclass(slots=True)
class ReadSession:
    """One thread's view of what is committed; `access` is that of the request it works for."""

    connection: apsw.Connection
    terms: Terms
    access: Access = NO_BOUNDS


class FhirStore:
    """Resources, their history and their index in one SQLite file.

    A write that returned survives a power cut. Units that wait together share one commit; each is all or nothing.

    Attributes:
        after_commit: Called by the writer thread after every commit with the types that changed; it must neither wait
            nor fail.
    """

    def __init__(self, path: Path, clock: Clock, settings: FhirStoreSettings) -> None:
        self.settings = settings
        self.path = path
        self._clock = clock
        self._queue: queue.SimpleQueue[_Unit | _Sign] = queue.SimpleQueue()
        self._soon: deque[_Unit] = deque()
        self._is_gathering = False
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="fhir-reader")
        self._connection = connect(path, page_cache_kibibytes=settings.page_cache_kibibytes)
        migrate(self._connection, MIGRATIONS)
        self._reindex()
        self._connection.pragma("wal_autocheckpoint", 4_000)
        self._changes = ChangeCount(path.parent / COUNT_FILE_NAME, real_microseconds())
        self._thread = threading.Thread(target=self._write_forever, name="fhir-writer", daemon=True)
        self._closed = False
        self.after_commit: Callable[[Set[str]], None] | None = None
        self._thread.start()

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
        return not self._closed and self._thread.is_alive()

    def now_microseconds(self) -> int:
        """The present instant by the store's clock."""
        return self._clock.now_microseconds()

    async def write(self, work: Callable[[WriteSession], T]) -> T:
        """Run `work` in the writer thread inside a transaction; returns once its writes survive a crash.

        Raises:
            RetryLater: Nothing of it was stored; check the disk.
        """
        if self._closed:
            raise RetryLater("The FHIR store is closing; send the request again.")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Unit(work, done, current_access()))
        return await done

    def post(self, work: Callable[[WriteSession], T], access: Access = NO_BOUNDS) -> "Future[T]":
        """Queue `work` for the writer thread; it is done before the store closes."""
        done: Future[Any] = Future()
        self._queue.put(_Unit(work, done, access))
        return done

    def post_soon(self, work: Callable[[WriteSession], T]) -> "Future[T]":
        """Queue `work` that nobody waits for: it is part of the next commit, which comes in a moment at the latest."""
        done: Future[Any] = Future()
        self._soon.append(_Unit(work, done, NO_BOUNDS))
        if not self._is_gathering:
            self._is_gathering = True
            self._queue.put(_Sign.SOON)
        return done

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
        self._queue.put(_Sign.CLOSE)
        self._thread.join()
        self._pool.shutdown()
        for connection in self._readers:
            connection.close()
        self._connection.close()
        self._changes.close()

    def _reindex(self) -> None:
        """Make the index anew when it was made with other definitions; a crash amid it goes on where it stood."""
        wanted = f"{INDEX_LAYOUT}-{parameters_digest()}"
        rows = self._connection.execute("SELECT name, value FROM setting")
        held = {str(name): str(value) for name, value in rows}
        if held.get("index") == wanted:
            return
        session = WriteSession(self._connection)
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
            session = self._local.session = ReadSession(connection, Terms(connection))
        return session

    def _long_query(self, work: Callable[[ReadSession], T], access: Access) -> T:
        ends = monotonic() + self.settings.limits.search_seconds
        try:
            return self._in_snapshot(work, access, lambda: monotonic() > ends)
        except apsw.InterruptError:
            raise took_too_long() from None

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

    def _write_forever(self) -> None:
        session = WriteSession(self._connection)
        is_open = True
        while is_open:
            taken = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                if taken == [_Sign.SOON]:
                    taken.append(self._queue.get(timeout=_GATHER_SECONDS))
                while len(taken) < self.settings.group_units:
                    taken.append(self._queue.get_nowait())
            is_open = _Sign.CLOSE not in taken
            group = [*self._gathered(), *(unit for unit in taken if isinstance(unit, _Unit))]
            if group:
                self._commit_group(session, group)

    def _gathered(self) -> Iterator[_Unit]:
        # The flag goes first: what is queued after it went rings again.
        self._is_gathering = False
        while self._soon:
            yield self._soon.popleft()

    def _commit_group(self, session: WriteSession, units: list[_Unit]) -> None:
        session.begin(self._clock.now_microseconds())
        results: list[_Result] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                results.extend(self._run(session, unit) for unit in units)
                session.settle()
                self._connection.execute("COMMIT")
                if not COUNTED_TYPES.isdisjoint(session.changed_types):
                    self._changes.add()
            except BaseException:
                session.terms.forget()
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
                raise
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and the writer goes on
            failure = error
            if isinstance(error, (apsw.Error, OSError)):
                failure = RetryLater(f"The FHIR store could not commit ({type(error).__name__}); check the disk.")
            results = [(unit, None, failure) for unit in units]
        if self.after_commit is not None:
            self.after_commit(session.changed_types)
        _answer(results)

    def _run(self, session: WriteSession, unit: _Unit) -> "_Result":
        session.access = unit.access
        session.search_ends = monotonic() + self.settings.limits.search_seconds
        try:
            with session.undoable():
                outcome = unit.work(session)
                if unit.access.trail is not None:
                    unit.access.trail.append(session, unit.access)
        except apsw.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the unit's own error goes to who asked for it
            unit.access.forget()
            return unit, None, error
        return unit, outcome, None


_Result = tuple[_Unit, Any, BaseException | None]


def _answer(results: Sequence[_Result]) -> None:
    """Tell who waits; an event loop is woken once for all that wait in it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Result]] = {}
    for result in results:
        done = result[0].done
        if isinstance(done, Future):
            if done.set_running_or_notify_cancel():
                _settle(done, result)
        else:
            by_loop.setdefault(done.get_loop(), []).append(result)
    for loop, those in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(_settle_all, those)


def _settle_all(results: Sequence[_Result]) -> None:
    for result in results:
        if not result[0].done.done():
            _settle(result[0].done, result)


def _settle(done: "Future[Any] | asyncio.Future[Any]", result: _Result) -> None:
    _, outcome, failed = result
    if failed is None:
        done.set_result(outcome)
    else:
        done.set_exception(failed)
