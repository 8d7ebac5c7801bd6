"""Step 14: opens the repository; one transaction a call, on SQLite or PostgreSQL."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from pulseweir.backends.repository.migrate import bring_up_to_date
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater

BUSY_TIMEOUT_SECONDS = 10
_READERS = 4

Transaction = Connection
"""What query and command functions take first: everything done with it commits together or not at all."""

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class RepositoryUnavailable(RetryLater):
    """The database did not take a transaction; nothing of it was stored."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(
            f"The repository is not available: {cause}. Check that its disk or server is there and writable."
        )


class Repository:
    """The SQL repository.

    Queries and commands are plain functions whose first argument is a `Transaction`; they live in the sibling
    modules (`scores`, `flags`, `alerts`, `outbox`, `people`, `reports`) and combine freely. `read` and `write`
    run one off the event loop, in a transaction of its own::

        rows = await repository.read(scores.live_rows, wards=["Ward A"])

    Several processes may open the same repository. Writers follow each other; a reader sees one committed state.
    What `write` ran survives a power cut once it returned.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.clock = clock
        self._engine = engine
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="repository-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="repository-reader")

    @classmethod
    def open(cls, url: str, clock: Clock) -> "Repository":
        """Open (and create, and migrate) a repository.

        Args:
            url: SQLAlchemy address: ``sqlite:////path/to/repository.sqlite`` or ``postgresql+psycopg://…``.
            clock: What gives `recorded_at`, `updated_at` and the like.

        Raises:
            DataDirectoryNewer: A newer release wrote it: upgrade pulseweir, or restore a backup.
            RepositoryUnavailable: The database cannot be reached.
        """
        engine = _engine(url)
        with ExitStack() as unless_open:
            unless_open.callback(engine.dispose)
            try:
                bring_up_to_date(engine)
            except OperationalError as error:
                raise RepositoryUnavailable(_cause(error)) from error
            unless_open.pop_all()
        return cls(engine, clock)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent read, on the caller's thread."""
        with self._transaction(writes=False) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One write transaction, on the caller's thread: commits at the end, rolls back on any error.

        Raises:
            RepositoryUnavailable: Nothing was stored; try again.
        """
        with self._transaction(writes=True) as transaction:
            yield transaction

    async def read(
        self,
        query: Callable[Concatenate[Transaction, _Arguments], _Answer],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Run a query off the event loop."""

        def call() -> _Answer:
            with self.reading() as transaction:
                return query(transaction, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    async def write(
        self,
        command: Callable[Concatenate[Transaction, _Arguments], _Answer],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Run a command off the event loop; returns once what it did is durable."""

        def call() -> _Answer:
            with self.writing() as transaction:
                return command(transaction, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    def close(self) -> None:
        """Finish what runs and release every connection."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Transaction]:
        try:
            with self._engine.connect() as connection:
                prepared = connection.execution_options(writes=writes)
                with prepared.begin():
                    yield prepared
        except OperationalError as error:
            raise RepositoryUnavailable(_cause(error)) from error


def _cause(error: OperationalError) -> str:
    """The driver's own words, without the statement and its parameters."""
    return str(error.orig).splitlines()[0] if error.orig is not None else "connection failed"


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(
        url,
        hide_parameters=True,
        poolclass=NullPool if ":memory:" in url else None,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's own driver would open transactions by itself, and late: `_begin_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Not WAL: the SQLite that Python was built with may have its reset race.
    cursor.execute("PRAGMA journal_mode=TRUNCATE")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA cache_size=-8192")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
