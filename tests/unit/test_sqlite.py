"""The one door to SQLite: durable, migrated once, never opened by an older release."""

import threading
from pathlib import Path

import apsw
import pytest

from pulseweir import sqlite
from pulseweir.errors import DataDirectoryNewer, SqliteTooOld

FIRST = "CREATE TABLE reading (number INTEGER)"
SECOND = "ALTER TABLE reading ADD COLUMN unit TEXT DEFAULT ''"
BROKEN = "INSERT INTO reading (number) VALUES (1); CREATE TABLE reading (number INTEGER)"


def test_every_file_is_durable_and_shared(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "deep" / "file.db")

    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("foreign_keys") == 1
    connection.close()


def test_a_statement_is_compiled_once_whatever_is_bound_to_it(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "file.db")
    connection.execute("CREATE TABLE reading (device INTEGER, instant INTEGER)")
    compiled: list[str] = []

    def note(*names: object) -> int:
        compiled.append(str(names))
        return apsw.SQLITE_OK

    connection.authorizer = note
    counts = []
    for device in range(3):
        connection.execute("SELECT instant FROM reading WHERE device = ? ORDER BY instant", (device,)).fetchall()
        counts.append(len(compiled))

    assert counts[0] > 0
    assert counts == [counts[0]] * 3
    connection.close()


def test_each_migration_runs_once_and_in_order(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "file.db")
    sqlite.migrate(connection, [FIRST])
    connection.execute("INSERT INTO reading (number) VALUES (7)")

    sqlite.migrate(connection, [FIRST, SECOND])
    sqlite.migrate(connection, [FIRST, SECOND])

    assert connection.execute("SELECT number, unit FROM reading").fetchall() == [(7, "")]
    assert connection.pragma("user_version") == 2
    connection.close()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    newer = sqlite.connect(path)
    sqlite.migrate(newer, [FIRST, SECOND])
    newer.close()
    connection = sqlite.connect(path)

    with pytest.raises(DataDirectoryNewer) as refused:
        sqlite.migrate(connection, [FIRST])

    assert str(path) in str(refused.value)
    assert "version 2" in str(refused.value)
    assert "Upgrade pulseweir" in str(refused.value)
    assert connection.pragma("user_version") == 2
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "file.db")
    sqlite.migrate(connection, [FIRST])

    with pytest.raises(apsw.SQLError):
        sqlite.migrate(connection, [FIRST, SECOND, BROKEN])

    assert connection.pragma("user_version") == 1
    assert connection.execute("SELECT * FROM reading").fetchall() == []
    assert len(connection.execute("PRAGMA table_info(reading)").fetchall()) == 1
    connection.close()


def test_processes_that_open_a_new_file_at_once_migrate_it_once(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            connection = sqlite.connect(path)
            sqlite.migrate(connection, [FIRST, SECOND])
            connection.close()
        except apsw.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_an_error_rolls_a_transaction_back(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "file.db")
    connection.execute(FIRST)

    def fail() -> None:
        with sqlite.immediate(connection):
            connection.execute("INSERT INTO reading (number) VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert connection.execute("SELECT count(*) FROM reading").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2"])
def test_a_library_that_can_lose_data_is_refused(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)

    with pytest.raises(SqliteTooOld) as refused:
        sqlite.connect(tmp_path / "file.db")

    assert version in str(refused.value)
    assert "pip install -U apsw" in str(refused.value)
    assert not (tmp_path / "file.db").exists()
