"""What one consumer group has done with one topic: positions, leases, tallies, rows set aside, snapshots.

One SQLite file a group. A position, what became of the rows before it, and the state that belongs to it are
stored in one transaction, so the counts stay exact whatever is killed when.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from pulseweir.backends.bus.base import Outcome, SetAside
from pulseweir.backends.bus.encoding import decode, encode
from pulseweir.clock import real_microseconds
from pulseweir.errors import LeaseLost
from pulseweir.records.topics import with_later_columns
from pulseweir.sqlite import connect, immediate, migrate

PARKED, QUARANTINED = "parked", "quarantined"
DUPLICATE = "filtered:duplicate"
_SECOND = 1_000_000
_HEARTBEAT_LIMIT = 60 * _SECOND
_LONGEST_PAUSE = 30 * _SECOND

_MIGRATIONS = (
    """
    CREATE TABLE progress (shard INTEGER PRIMARY KEY, position INTEGER NOT NULL, snapshot BLOB);
    CREATE TABLE lease (shard INTEGER PRIMARY KEY, member TEXT NOT NULL);
    CREATE TABLE member (
        id TEXT PRIMARY KEY, process INTEGER NOT NULL, process_start TEXT NOT NULL, alive_at INTEGER NOT NULL
    );
    CREATE TABLE tally (name TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE aside (
        record_id TEXT PRIMARY KEY, state TEXT NOT NULL, shard INTEGER NOT NULL, payload BLOB NOT NULL,
        stage TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, template TEXT, expression TEXT, place TEXT,
        attempts INTEGER NOT NULL, first_at INTEGER NOT NULL, due_at INTEGER NOT NULL
    );
    CREATE INDEX aside_due ON aside (state, due_at);
    CREATE TABLE seen (id TEXT PRIMARY KEY, seen_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX seen_age ON seen (seen_at);
    """,
)
_ASIDE_COLUMNS = "record_id, payload, stage, reason, message, template, expression, place, first_at"


class Ledger:
    """One group's book on one topic. One instance belongs to one thread at a time; the file is shared."""

    def __init__(self, path: Path, topic: str, *, seen_seconds: int = 3_600) -> None:
        self.topic = topic
        self.group = path.stem
        self._seen_microseconds = seen_seconds * _SECOND
        self._connection = connect(path)
        migrate(self._connection, _MIGRATIONS)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # Leases

    def claim(self, member: str, shard_count: int) -> dict[int, tuple[int, bytes | None]]:
        """Keep this member alive and return the shards it owns now: shard → (position, snapshot).

        Every living member gets an even share. A member of a dead process loses its shards at once.
        """
        now = real_microseconds()
        with immediate(self._connection) as connection:
            connection.execute(
                "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET alive_at = excluded.alive_at",
                (member, os.getpid(), process_start(os.getpid()), now),
            )
            living = self._living(now)
            owners = dict(self._rows("SELECT shard, member FROM lease"))
            owners = {shard: owner for shard, owner in owners.items() if owner in living}
            share = -(-shard_count // len(living))
            mine = sorted(shard for shard, owner in owners.items() if owner == member)[:share]
            free = [shard for shard in range(shard_count) if shard not in owners]
            mine += free[: share - len(mine)]
            connection.execute("DELETE FROM lease WHERE member = ?", (member,))
            connection.executemany("INSERT OR REPLACE INTO lease VALUES (?, ?)", [(shard, member) for shard in mine])
            stored = {
                shard: (position, snapshot)
                for shard, position, snapshot in self._rows("SELECT shard, position, snapshot FROM progress")
            }
        return {shard: stored.get(shard, (0, None)) for shard in mine}

    def leave(self, member: str) -> None:
        """Give every shard of this member back at once."""
        with immediate(self._connection) as connection:
            connection.execute("DELETE FROM lease WHERE member = ?", (member,))
            connection.execute("DELETE FROM member WHERE id = ?", (member,))

    def _living(self, now: int) -> set[str]:
        living = set()
        for identity, process, start, alive_at in self._rows("SELECT * FROM member"):
            if process_start(process) == start and now - alive_at < _HEARTBEAT_LIMIT:
                living.add(identity)
            else:
                self._connection.execute("DELETE FROM member WHERE id = ?", (identity,))
        return living

    # Progress

    def commit(
        self,
        member: str,
        positions: Mapping[int, int],
        outcome: Outcome,
        snapshots: Mapping[int, bytes],
    ) -> None:
        """Store positions, outcome and snapshots in one transaction.

        Raises:
            LeaseLost: A shard belongs to another member; nothing was stored.
        """
        with immediate(self._connection) as connection:
            owners = dict(self._rows("SELECT shard, member FROM lease"))
            for shard in positions:
                if owners.get(shard) != member:
                    raise LeaseLost(self.topic, self.group, shard)
            connection.executemany(
                "INSERT INTO progress (shard, position) VALUES (?, ?) "
                "ON CONFLICT (shard) DO UPDATE SET position = excluded.position",
                list(positions.items()),
            )
            connection.executemany(
                "INSERT INTO progress (shard, position, snapshot) VALUES (?, 0, ?) "
                "ON CONFLICT (shard) DO UPDATE SET snapshot = excluded.snapshot",
                list(snapshots.items()),
            )
            self._record(outcome, min(positions, default=0))

    def settle(self, member: str, record_ids: Sequence[str], outcome: Outcome) -> None:
        """Store what became of parked rows; ids no longer parked change nothing.

        Raises:
            LeaseLost: The rows' shard belongs to another member; nothing was stored.
        """
        with immediate(self._connection) as connection:
            for record_id in record_ids:
                found = self._rows(
                    "SELECT a.shard, l.member FROM aside a LEFT JOIN lease l ON l.shard = a.shard "
                    "WHERE a.record_id = ? AND a.state = ?",
                    (record_id, PARKED),
                )
                if not found or found[0][1] != member:
                    raise LeaseLost(self.topic, self.group, found[0][0] if found else -1)
            again = {item.record_id for item in outcome.parked}
            for record_id in record_ids:
                if record_id not in again:
                    connection.execute("DELETE FROM aside WHERE record_id = ?", (record_id,))
            self._wait_longer(again)
            self._record(Outcome(outcome.tallies, outcome.quarantined, [], outcome.seen), 0)

    def _wait_longer(self, record_ids: Iterable[str]) -> None:
        for record_id in record_ids:
            rows = self._rows("SELECT attempts FROM aside WHERE record_id = ?", (record_id,))
            attempts = rows[0][0] + 1 if rows else 1
            pause = min(_SECOND << min(attempts, 10), _LONGEST_PAUSE)
            self._connection.execute(
                "UPDATE aside SET attempts = ?, due_at = ? WHERE record_id = ?",
                (attempts, real_microseconds() + pause, record_id),
            )

    def _record(self, outcome: Outcome, shard: int) -> None:
        now = real_microseconds()
        tallies = dict(outcome.tallies)
        for state, items in ((QUARANTINED, outcome.quarantined), (PARKED, outcome.parked)):
            for item in items:
                if not self._set_aside(item, state, shard, now):
                    tallies[DUPLICATE] = tallies.get(DUPLICATE, 0) + 1
        self._connection.executemany(
            "INSERT INTO tally VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET rows = rows + excluded.rows",
            list(tallies.items()),
        )
        self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", [(name, now) for name in outcome.seen])
        if outcome.seen:
            self._connection.execute("DELETE FROM seen WHERE seen_at < ?", (now - self._seen_microseconds,))

    def _set_aside(self, item: SetAside, state: str, shard: int, now: int) -> bool:
        due_at = now + _SECOND if state == PARKED else 0
        self._connection.execute(
            "INSERT OR IGNORE INTO aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)",
            (
                item.record_id,
                state,
                shard,
                encode(item.row),
                item.stage,
                item.reason,
                item.message,
                item.template,
                item.expression,
                item.place,
                now,
                due_at,
            ),
        )
        return bool(self._connection.changes())

    # Reading back

    def due(self, shards: Iterable[int], row_limit: int) -> list[SetAside]:
        """Parked rows of these shards whose time has come, oldest first."""
        owned = sorted(shards)
        marks = ",".join("?" * len(owned))
        return self._entries(
            f"state = ? AND due_at <= ? AND shard IN ({marks}) ORDER BY first_at, record_id LIMIT ?",
            (PARKED, real_microseconds(), *owned, row_limit),
        )

    def entries(self, state: str, row_limit: int = 1_000) -> list[SetAside]:
        """Rows in one state, oldest first."""
        return self._entries("state = ? ORDER BY first_at, record_id LIMIT ?", (state, row_limit))

    def entry(self, record_id: str) -> SetAside | None:
        """One row set aside, or None."""
        return next(iter(self._entries("record_id = ?", (record_id,))), None)

    def _rows(self, query: str, bindings: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, bindings).fetchall()

    def _entries(self, condition: str, bindings: tuple[Any, ...]) -> list[SetAside]:
        query = f"SELECT {_ASIDE_COLUMNS} FROM aside WHERE {condition}"  # noqa: S608 - conditions are constants above
        return [
            SetAside(
                record_id,
                with_later_columns(decode(payload), self.topic),
                stage,
                reason,
                message,
                template,
                expression,
                place,
                first_at,
            )
            for record_id, payload, stage, reason, message, template, expression, place, first_at in self._rows(
                query, bindings
            )
        ]

    def redrive(self, record_ids: Sequence[str]) -> int:
        """Move quarantined rows back to be tried at once; returns how many moved. Twice changes nothing."""
        with immediate(self._connection) as connection:
            moved = 0
            for record_id in record_ids:
                connection.execute(
                    "UPDATE aside SET state = ?, due_at = 0, first_at = ? WHERE record_id = ? AND state = ?",
                    (PARKED, real_microseconds(), record_id, QUARANTINED),
                )
                moved += connection.changes()
        return moved

    def discard(self, record_ids: Sequence[str]) -> int:
        """Drop quarantined rows by a person's decision, counted as filtered:discarded; returns how many."""
        with immediate(self._connection) as connection:
            dropped = 0
            for record_id in record_ids:
                connection.execute("DELETE FROM aside WHERE record_id = ? AND state = ?", (record_id, QUARANTINED))
                dropped += connection.changes()
            self._record(Outcome({"filtered:discarded": dropped} if dropped else {}), 0)
        return dropped

    def seen_before(self, message_ids: Sequence[str]) -> set[str]:
        """Which ids this group has committed as seen within the memory of one hour."""
        found = set()
        for message_id in message_ids:
            if self._connection.execute("SELECT 1 FROM seen WHERE id = ?", (message_id,)).fetchone():
                found.add(message_id)
        return found

    def balance(self) -> tuple[dict[int, int], dict[str, int], dict[str, int]]:
        """Positions by shard, tallies, and rows set aside by state, as of one instant."""
        with self._connection:
            positions = dict(self._rows("SELECT shard, position FROM progress"))
            tallies = dict(self._rows("SELECT name, rows FROM tally"))
            aside = dict(self._rows("SELECT state, count(*) FROM aside GROUP BY state"))
        return positions, tallies, aside

    @property
    def connection(self) -> apsw.Connection:
        """The open file, for backup."""
        return self._connection


def process_start(process: int) -> str:
    """A text that a living process keeps and that no later process of the same number has; "" when none lives."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() or not _responds(process) else "alive"
    return status.rsplit(")", 1)[1].split()[19]


def _responds(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
