"""One topic as SQLite files: an append-only log of record batches, rotated by size.

Layout: ``<topic>/<first position>.db``; one blob row a record, the shard a column. A commit that returned is on
disk. Positions grow by one and are never reused.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from pulseweir.errors import BusUnavailable
from pulseweir.sqlite import connect, immediate, migrate

_MIGRATIONS = (
    """
    CREATE TABLE batch (
        position INTEGER PRIMARY KEY, shard INTEGER NOT NULL, rows INTEGER NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE fact (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE rows_before (shard INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
    """,
)
_FILE_DIGITS = 20
_SELECT = "SELECT position, shard, rows, payload FROM batch WHERE position > ?"


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """One record as the log holds it."""

    position: int
    shard: int
    rows: int
    payload: bytes


class TopicLog:
    """Append to and read from one topic. One instance belongs to one thread at a time; files are shared.

    Raises:
        RefuseToStart: From the constructor: SQLite too old, or written by a newer release.
    """

    def __init__(
        self,
        directory: Path,
        shard_count: int,
        rotate_bytes: int = 256 * 1024 * 1024,
        *,
        checkpoints_itself: bool = True,
    ) -> None:
        """Open (and create) a topic.

        Args:
            directory: The topic's folder; its name is the topic.
            shard_count: Of a topic that is new.
            rotate_bytes: Size at which a file is closed and the next begun.
            checkpoints_itself: Whether an append may move the write-ahead log into the file, which takes tens of
                milliseconds; False where somebody else calls `checkpoint`.
        """
        self.topic = directory.name
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        self._checkpoints_itself = checkpoints_itself
        self._files: dict[int, apsw.Connection] = {}
        directory.mkdir(parents=True, exist_ok=True)
        if not self._bases():
            self._create(1, shard_count, {})
        self._newest = self._bases()[-1]
        self.shard_count: int = next(_rows(self._open(self._newest), "SELECT number FROM fact WHERE name = 'shards'"))[
            0
        ]

    def append(self, batches: Sequence[tuple[int, int, bytes]]) -> int:
        """Store (shard, rows, payload) records in one commit and return the last position.

        Raises:
            BusUnavailable: Nothing was stored.
        """
        try:
            while True:
                self._newest = self._bases()[-1]
                connection = self._open(self._newest)
                with immediate(connection):
                    if self._bases()[-1] == self._newest:
                        position = self._insert(connection, self._newest, batches)
                        break
        except apsw.Error as error:
            raise BusUnavailable(self.topic, f"could not append ({type(error).__name__})") from error
        self._rotate_when_full(connection)
        return position

    def read(self, after: Mapping[int, int], row_limit: int) -> list[StoredBatch]:
        """Records behind each shard's position, oldest first, until `row_limit` rows are passed."""
        found: list[StoredBatch] = []
        rows = 0
        self._newest = self._bases()[-1]
        for connection in self._files_from(min(after.values()) + 1):
            condition = " OR ".join("(shard = ? AND position > ?)" for _ in after)
            query = f"{_SELECT} AND ({condition}) ORDER BY position"
            bindings = (min(after.values()), *(number for pair in after.items() for number in pair))
            for position, shard, count, payload in _rows(connection, query, bindings):
                found.append(StoredBatch(position, shard, count, payload))
                rows += count
                if rows >= row_limit:
                    return found
        return found

    def version(self) -> tuple[int, int]:
        """Something that changes when another connection has appended since the last `read` or `version`."""
        return self._newest, int(str(self._open(self._newest).pragma("data_version")))

    def checkpoint(self) -> None:
        """Move what the newest file's write-ahead log holds into the file; waits for nobody, loses nothing."""
        self._newest = self._bases()[-1]
        # Whatever hinders it now, such as a full disk, the appends meet and report; the next call tries again.
        with contextlib.suppress(apsw.Error):
            self._open(self._newest).wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def total_rows(self) -> int:
        """All rows ever appended, those of removed files included."""
        return sum(self.rows_up_to(dict.fromkeys(range(self.shard_count), 1 << 62)).values())

    def rows_up_to(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Rows ever appended at or before a position, by shard."""
        counts: dict[int, int] = {}
        for shard, position in positions.items():
            base = max((base for base in self._bases() if base <= position), default=self._bases()[0])
            connection = self._open(base)
            before = next(_rows(connection, "SELECT rows FROM rows_before WHERE shard = ?", (shard,)), (0,))
            inside = "SELECT coalesce(sum(rows), 0) FROM batch WHERE shard = ? AND position <= ?"
            counts[shard] = before[0] + next(_rows(connection, inside, (shard, position)))[0]
        return counts

    def remove_settled(self, done: Sequence[Mapping[int, int]], untouched_since: float) -> int:
        """Unlink the oldest closed files that nobody needs any more; returns how many.

        Args:
            done: Of every consumer group, the committed position by shard; a shard not named is not begun.
            untouched_since: Real instant, seconds; files written to later stay.
        """
        removed = 0
        for base in self._bases()[:-1]:
            ends = dict(_rows(self._open(base), "SELECT shard, max(position) FROM batch GROUP BY shard"))
            is_done = all(positions.get(shard, 0) >= end for positions in done for shard, end in ends.items())
            if not is_done or self._path(base).stat().st_mtime > untouched_since:
                break
            self._files.pop(base).close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path(base)}{suffix}").unlink(missing_ok=True)
            removed += 1
        return removed

    def close(self) -> None:
        """Close every file."""
        for connection in self._files.values():
            connection.close()
        self._files.clear()

    def _insert(self, connection: apsw.Connection, base: int, batches: Sequence[tuple[int, int, bytes]]) -> int:
        position = _next_position(connection, base)
        connection.executemany(
            "INSERT INTO batch VALUES (?, ?, ?, ?)",
            [(position + index, shard, rows, payload) for index, (shard, rows, payload) in enumerate(batches)],
        )
        return position + len(batches) - 1

    def _rotate_when_full(self, connection: apsw.Connection) -> None:
        if _size_bytes(connection) < self._rotate_bytes:
            return
        with immediate(connection):
            if self._bases()[-1] != self._newest:
                return
            following = _next_position(connection, self._newest)
            before: dict[int, int] = dict(_rows(connection, "SELECT shard, rows FROM rows_before"))
            for shard, rows in _rows(connection, "SELECT shard, sum(rows) FROM batch GROUP BY shard"):
                before[shard] = before.get(shard, 0) + rows
            self._create(following, self.shard_count, before)
            # Writing here wakes readers that watch this file, so that they find its successor.
            connection.execute("INSERT OR REPLACE INTO fact VALUES ('followed_by', ?)", (following,))

    def _create(self, base: int, shard_count: int, rows_before: Mapping[int, int]) -> None:
        """Make a file under another name and rename it, so that nobody sees it half made."""
        unfinished = self._path(base).with_suffix(f".{uuid.uuid4().hex}.new")
        connection = connect(unfinished)
        migrate(connection, _MIGRATIONS)
        with immediate(connection):
            connection.executemany("INSERT INTO rows_before VALUES (?, ?)", list(rows_before.items()))
            connection.execute("INSERT INTO fact VALUES ('shards', ?)", (shard_count,))
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, self._path(base))
        unfinished.unlink()

    def _files_from(self, position: int) -> Iterator[apsw.Connection]:
        bases = self._bases()
        for base, following in zip(bases, [*bases[1:], 1 << 62], strict=True):
            if following > position:
                yield self._open(base)

    def _open(self, base: int) -> apsw.Connection:
        if base not in self._files:
            connection = connect(self._path(base))
            migrate(connection, _MIGRATIONS)
            if not self._checkpoints_itself:
                connection.wal_autocheckpoint(0)
            self._files[base] = connection
        return self._files[base]

    def _bases(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.db"))

    def _path(self, base: int) -> Path:
        return self._directory / f"{base:0{_FILE_DIGITS}d}.db"


def _rows(connection: apsw.Connection, query: str, bindings: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield from connection.execute(query, bindings)


def _next_position(connection: apsw.Connection, base: int) -> int:
    last: int | None = next(_rows(connection, "SELECT max(position) FROM batch"))[0]
    return base if last is None else last + 1


def _size_bytes(connection: apsw.Connection) -> int:
    """The file's size with what its write-ahead log still holds."""
    pages, page = connection.pragma("page_count"), connection.pragma("page_size")
    return int(str(pages)) * int(str(page))
