"""Writes, one transaction after another: units that wait together share a durable commit, each is all or nothing.

A thread writes, so that the event loop never waits for the disk for long. Short units are an exception while the disk
is quick: handing them over and back costs more than they do, so the loop's own thread writes them.
"""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Any, TypeVar

import apsw

from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.security.access import NO_BOUNDS, Access, current_access
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.sqlite import BUSY_TIMEOUT_MILLISECONDS

T = TypeVar("T")
_GATHER_SECONDS = 0.02
"""How long units that nobody waits for gather when no other write comes."""
_QUIET_TURNS = 2
"""Turns of the event loop in which a request that has arrived is read and begun: what comes in them shares a commit."""
_PATIENCE_SECONDS = 0.000_3
"""How long fewer units than shared the last commit wait for the others: clients that were answered together come back
together, and a commit costs more than the wait."""
_SHORT_SECONDS = 0.002
"""What takes no longer may hold up the event loop: some ten reads take as long."""
_NEWEST_SHARE = 0.2
_CHECKPOINT_PAGES = 10_000
"""So long, 40 MB, the log may grow: pages that change again and again are brought into the file once."""


class _Sign(Enum):
    """What the thread is told besides units: some wait in no hurry, the log is long, no more will come."""

    SOON = 0
    CHECKPOINT = 1
    CLOSE = 2


@dataclass(slots=True, eq=False)
class _Unit:
    """One request's writes: all or nothing."""

    work: Callable[[WriteSession], Any]
    done: "Future[Any] | asyncio.Future[Any]"
    access: Access


@dataclass(slots=True, eq=False)
class _Gathering:
    """Short units of one event loop that will share a commit.

    Attributes:
        loop: Where they wait.
        ends: When the last of them must come, in seconds of `monotonic`.
        units: Those that came so far.
        seen: How many there were a turn ago.
        quiet_turns: Turns since the last one came.
    """

    loop: asyncio.AbstractEventLoop
    ends: float
    units: list[_Unit] = field(default_factory=list)
    seen: int = 0
    quiet_turns: int = 0


class Writer:
    """The only writer of a store's file.

    Args:
        connection: Used by nobody else from now on.
        clock: Gives every transaction its instant.
        settings: Of the store.
        committed: Called after every commit with the types that changed, before anybody hears that it is done, by the
            thread that committed.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        clock: Clock,
        settings: FhirStoreSettings,
        committed: Callable[[Set[str]], None],
    ) -> None:
        self._connection = connection
        self._session = WriteSession(connection, settings.time_zone)
        self._clock = clock
        self._settings = settings
        self._committed = committed
        self._turn = threading.Lock()
        self._thread_wants_turn = False
        self._queue: queue.SimpleQueue[_Unit | _Sign] = queue.SimpleQueue()
        self._soon: deque[_Unit] = deque()
        self._is_gathering_soon = False
        self._gathering: _Gathering | None = None
        self._newest_short = 0
        self._hold_seconds = 0.0  # how long a commit takes of late, or a unit here with the pages it reads
        self._log_pages = 0
        self._is_closed = False
        connection.pragma("wal_autocheckpoint", 0)
        connection.set_wal_hook(self._note_log)
        self._thread = threading.Thread(target=self._write_forever, name="fhir-writer", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether writes are taken."""
        return not self._is_closed and self._thread.is_alive()

    async def write(self, work: Callable[[WriteSession], T], *, is_short: bool = False) -> T:
        """Run `work` inside a transaction; returns once its writes survive a crash.

        Args:
            work: What to do in the transaction.
            is_short: Whether it is done within a fraction of a millisecond, whatever is stored: the event loop may
                have to wait for it.

        Raises:
            RetryLater: Nothing of it was stored; check the disk.
        """
        if self._is_closed:
            raise _closing()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        unit = _Unit(work, done, current_access())
        if is_short:
            self._gather(loop, unit)
        else:
            self._queue.put(unit)
        return await done

    def post(self, work: Callable[[WriteSession], T], access: Access) -> "Future[T]":
        """Queue `work` for the writer's thread; it is done before the writer closes."""
        done: Future[Any] = Future()
        self._queue.put(_Unit(work, done, access))
        return done

    def post_soon(self, work: Callable[[WriteSession], T]) -> "Future[T]":
        """Queue `work` that nobody waits for: it is written in a moment, with the thread's next commit."""
        done: Future[Any] = Future()
        self._soon.append(_Unit(work, done, NO_BOUNDS))
        if not self._is_gathering_soon:
            self._is_gathering_soon = True
            self._queue.put(_Sign.SOON)
        return done

    def close(self) -> None:
        """Finish what is queued; whatever comes later is refused."""
        self._is_closed = True
        self._queue.put(_Sign.CLOSE)
        self._thread.join()
        with self._turn:  # an event loop in another thread may be amid a commit
            self._connection.set_wal_hook(None)

    def _gather(self, loop: asyncio.AbstractEventLoop, unit: _Unit) -> None:
        gathering = self._gathering
        if gathering is None or gathering.loop is not loop:
            gathering = self._gathering = _Gathering(loop, monotonic() + _PATIENCE_SECONDS)
            loop.call_soon(self._turn_passed, gathering)
        gathering.units.append(unit)

    def _turn_passed(self, gathering: _Gathering) -> None:
        """Write what was gathered, unless more has come in the last turns of its loop, or will in a moment."""
        number, most = len(gathering.units), self._settings.group_units
        gathering.quiet_turns = gathering.quiet_turns + 1 if number == gathering.seen else 0
        gathering.seen = number
        is_quiet = gathering.quiet_turns >= _QUIET_TURNS
        if number < most and not (is_quiet and (number >= self._newest_short or monotonic() >= gathering.ends)):
            gathering.loop.call_soon(self._turn_passed, gathering)
            return
        units = gathering.units[:most]
        del gathering.units[:most]
        self._newest_short = len(units)
        if gathering.units:
            gathering.loop.call_soon(self._turn_passed, gathering)
        elif self._gathering is gathering:
            self._gathering = None
        if not self._write_here(units, gathering.loop):
            self._hand_over(units)

    def _hand_over(self, units: list[_Unit]) -> None:
        if self._is_closed:
            _answer([(unit, None, _closing()) for unit in units])
            return
        for unit in units:
            self._queue.put(unit)

    def _write_here(self, units: list[_Unit], loop: asyncio.AbstractEventLoop) -> bool:
        """Write in this thread, that of the loop; False when it could have to wait for long."""
        is_quick = self._hold_seconds < _SHORT_SECONDS and not self._thread_wants_turn
        if not is_quick or not self._turn.acquire(blocking=False):
            return False
        try:
            if self._is_closed or not self._begins_at_once():
                return False
            results = self._write_begun(units, is_here=True)
            if self._log_pages >= _CHECKPOINT_PAGES:
                self._thread_wants_turn = True
                self._queue.put(_Sign.CHECKPOINT)
        finally:
            self._turn.release()
        _answer(results, loop)
        return True

    def _begins_at_once(self) -> bool:
        """Begin a transaction; False when another process is writing, or worse: the thread waits for it, or tells."""
        self._connection.set_busy_timeout(0)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.Error:
            return False
        finally:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
        return True

    def _write_forever(self) -> None:
        is_open = True
        while is_open:
            taken = self._take()
            is_open = _Sign.CLOSE not in taken
            with self._thread_turn():
                units = [*self._gathered(), *(unit for unit in taken if isinstance(unit, _Unit))]
                results = self._write_group(units) if units else []
            # Not before the turn is over: a loop that hears of it at once would find it taken, and hand over again.
            _answer(results)
            if self._log_pages >= _CHECKPOINT_PAGES:
                with self._thread_turn():
                    self._checkpoint()

    @contextlib.contextmanager
    def _thread_turn(self) -> Iterator[None]:
        # Else a busy event loop could take every turn.
        self._thread_wants_turn = True
        with self._turn:
            self._thread_wants_turn = False
            yield

    def _take(self) -> list[_Unit | _Sign]:
        taken = [self._queue.get()]
        with contextlib.suppress(queue.Empty):
            if taken == [_Sign.SOON]:
                taken.append(self._queue.get(timeout=_GATHER_SECONDS))
            while len(taken) < self._settings.group_units:
                taken.append(self._queue.get_nowait())
        return taken

    def _gathered(self) -> Iterator[_Unit]:
        # The flag goes first: what is queued after it went rings again.
        self._is_gathering_soon = False
        while self._soon:
            yield self._soon.popleft()

    def _write_group(self, units: list[_Unit]) -> "list[_Result]":
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            return [(unit, None, _failure(error)) for unit in units]
        return self._write_begun(units)

    def _write_begun(self, units: list[_Unit], *, is_here: bool = False) -> "list[_Result]":
        """Run units in the transaction that was begun and commit it; the event loop's thread reads pages, too."""
        session = self._session
        results: list[_Result] = []
        began = monotonic()
        try:
            session.begin(self._clock.now_microseconds())
            results.extend(self._run(unit) for unit in units)
            session.settle()
            ready = monotonic()
            self._connection.execute("COMMIT")
            done = monotonic()
            took = max(done - ready, (done - began) / len(units)) if is_here else done - ready
            self._hold_seconds += (took - self._hold_seconds) * _NEWEST_SHARE
            self._committed(session.changed_types)
        except BaseException as error:
            session.terms.forget()
            with contextlib.suppress(apsw.Error):
                self._connection.execute("ROLLBACK")
            if not isinstance(error, Exception):
                raise
            results = [(unit, None, _failure(error)) for unit in units]
        return results

    def _run(self, unit: _Unit) -> "_Result":
        session = self._session
        session.access = unit.access
        session.search_ends = monotonic() + self._settings.limits.search_seconds
        try:
            with session.undoable():
                outcome = unit.work(session)
                if unit.access.trail is not None:
                    unit.access.trail.append(session, unit.access)
        except Exception as error:  # noqa: BLE001 - the unit's own error goes to who asked for it
            if session.is_lost(error):
                raise
            unit.access.forget()
            return unit, None, error
        return unit, outcome, None

    def _checkpoint(self) -> None:
        """Bring the log into the file, which SQLite would do amid a commit, maybe in the event loop's thread."""
        self._log_pages = 0
        # What could not be brought over stays in the log, where it is as safe; the next commit leads here again.
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _note_log(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK


_Result = tuple[_Unit, Any, BaseException | None]


def _closing() -> RetryLater:
    return RetryLater("The FHIR store is closing; send the request again.")


def _failure(error: Exception) -> Exception:
    """What those hear whose transaction failed."""
    if isinstance(error, (apsw.Error, OSError)):
        return RetryLater(f"The FHIR store could not commit ({type(error).__name__}); check the disk.")
    return error


def _answer(results: Sequence[_Result], here: asyncio.AbstractEventLoop | None = None) -> None:
    """Tell who waits; an event loop is woken once for all that wait in it, and not at all when it is `here`."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Result]] = {}
    for result in results:
        done = result[0].done
        if isinstance(done, Future):
            if done.set_running_or_notify_cancel():
                _settle(done, result)
        else:
            by_loop.setdefault(done.get_loop(), []).append(result)
    for loop, those in by_loop.items():
        if loop is here:
            _settle_all(those)
            continue
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
    elif isinstance(failed, StopIteration):
        # No future takes one: who waits would wait for ever, and all whose answers come after it.
        done.set_exception(RuntimeError("a unit ended an iteration that is not its own"))
    else:
        done.set_exception(failed)
