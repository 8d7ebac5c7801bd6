"""The one door to SQLite: connections, pragmas, the version check, migrations.

Every file opened here is in WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from pulseweir.errors import DataDirectoryNewer, SqliteTooOld

NEEDED_VERSION = (3, 51, 3)
BUSY_TIMEOUT_MILLISECONDS = 10_000


def check_version() -> None:
    """Refuse a SQLite library that can lose committed data under concurrent WAL use.

    Raises:
        SqliteTooOld: Install a newer apsw wheel; it carries its own SQLite.
    """
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < NEEDED_VERSION:
        raise SqliteTooOld(apsw.sqlite_lib_version(), ".".join(map(str, NEEDED_VERSION)))


def connect(path: Path, *, page_cache_kibibytes: int = 8_192) -> apsw.Connection:
    """Open (and create) one database file, durable and ready for several processes.

    A connection belongs to one thread at a time.

    Raises:
        SqliteTooOld: See `check_version`.
    """
    check_version()
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", True)
    connection.pragma("cache_size", -page_cache_kibibytes)
    # Else a statement that sorts is compiled again whenever other values are bound to it. The price: no index is chosen
    # by a bound value, as LIKE or a partial index with a constant would have it.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def library_version() -> str:
    """The SQLite library in use."""
    return apsw.sqlite_lib_version()


def copy_database(source: Path, target: Path) -> None:
    """Copy one database file while others use it, by SQLite's own online backup; the copy is whole in itself."""
    original, copy = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE), apsw.Connection(str(target))
    try:
        with copy.backup("main", original, "main") as running:
            running.step(-1)
    finally:
        original.close()
        copy.close()


@contextmanager
def immediate(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    """One write transaction: takes the write lock at once, commits at the end, rolls back on any error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def migrate(connection: apsw.Connection, migrations: Sequence[str]) -> None:
    """Bring a file to the newest schema; each migration runs once, in its own transaction.

    Args:
        connection: The open file.
        migrations: SQL scripts, oldest first; the file's ``user_version`` counts those applied.

    Raises:
        DataDirectoryNewer: The file knows more migrations than this release: upgrade pulseweir.
    """
    if connection.pragma("user_version") == len(migrations):
        return
    with immediate(connection):
        applied = int(str(connection.pragma("user_version")))
        if applied > len(migrations):
            raise DataDirectoryNewer(connection.filename, applied, len(migrations))
        for script in migrations[applied:]:
            connection.execute(script)
        connection.pragma("user_version", len(migrations))
