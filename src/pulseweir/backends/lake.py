"""The lake: Delta tables on a local disk or in object storage. The one door of deltalake.

Rows are appended exactly once, whatever is delivered again and however many processes write: each append looks up
the keys that the table already holds and commits, with the writer's own counter in the table's log, only if no other
append of that writer came in between. Tables are partitioned by the day of their event, never by patient.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pulseweir.errors import LakeUnavailable

EVENT_DATE = "event_date"
_ATTEMPTS = 10
_INDEX = "__row"


@dataclass(frozen=True, slots=True)
class Table:
    """What the lake must know of a table.

    Attributes:
        name: Folder beneath the lake's root.
        key: Columns that together name a row; a row whose key is there already is not appended again.
        event: Instant whose day is the partition.
        near: Instant that equal keys share, and that grows with time: bounds the search for keys.
    """

    name: str
    key: tuple[str, ...]
    event: str
    near: str


PATIENT_MEASUREMENTS = Table(
    "patient_measurements", ("message_id", "device_id", "type", "name", "occurred_at"), "occurred_at", "received_at"
)
RISK_SCORES = Table(
    "risk_scores",
    ("patient_id", "model", "model_version", "window_start", "revision"),
    "window_start",
    "window_start",
)


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table as it is.

    Attributes:
        name: Of the table.
        version: Of its log.
        files: Live ones.
        rows: In all live files.
        bytes: Likewise.
    """

    name: str
    version: int
    files: int
    rows: int
    bytes: int


class Lake:
    """Delta tables beneath one root. Calls block: use a thread. May be shared between threads.

    Args:
        root: Directory, or the URL of an object store.
        compact_after_commits: Small files of a table are joined after so many commits of this process.
    """

    def __init__(self, root: str, *, compact_after_commits: int = 40) -> None:
        self._root = root.rstrip("/")
        self._compact_after = compact_after_commits
        self._open: dict[str, DeltaTable] = {}
        self._commits: dict[str, int] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def append(self, table: Table, rows: pa.Table, writer: str) -> int:
        """Append the rows whose key the table does not hold yet.

        Args:
            table: Where to.
            rows: Any number of rows; a later release may add columns.
            writer: Name of the consumer group, the same in every process that writes the table for it.

        Returns:
            How many rows were new.

        Raises:
            LakeUnavailable: Nothing was appended; append the same rows again later.
        """
        if not rows.num_rows:
            return 0
        plain = _once(_plain(rows, table.event), table.key)
        with self._lock(table.name):
            for _ in range(_ATTEMPTS):
                try:
                    return self._append(table, plain, writer)
                except CommitFailedError:
                    continue
                except (DeltaError, OSError) as error:
                    raise LakeUnavailable(table.name, type(error).__name__) from error
        raise LakeUnavailable(table.name, "other writers were always faster")

    def read(self, table: Table, patient_ids: Sequence[str], start: int, end: int) -> pa.Table | None:
        """Rows of some patients with their event from `start` up to and without `end`, microseconds.

        Returns:
            In no particular order; None while the table does not exist.

        Raises:
            LakeUnavailable: Try again later.
        """
        names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in patient_ids)
        if not names:
            return None
        return self.query(
            table,
            f"SELECT * FROM {table.name} WHERE {EVENT_DATE} BETWEEN {_day(start)} AND {_day(end)} "  # noqa: S608 - quoted above
            f"AND {table.event} >= to_timestamp_micros({start}) AND {table.event} < to_timestamp_micros({end}) "
            f"AND patient_id IN ({names})",
        )

    def query(self, table: Table, sql: str) -> pa.Table | None:
        """The answer to one SELECT over one table, by its name; None while the table does not exist.

        Raises:
            LakeUnavailable: Try again later.
        """
        try:
            with self._lock(table.name):
                delta = self._current(table.name)
                return None if delta is None else _strings(_ask(delta, table.name, sql))
        except (DeltaError, OSError) as error:
            raise LakeUnavailable(table.name, type(error).__name__) from error

    def tables(self) -> list[TableInfo]:
        """Every known table that exists."""
        found = []
        for table in (PATIENT_MEASUREMENTS, RISK_SCORES):
            with self._lock(table.name):
                delta = self._current(table.name)
                if delta is None:
                    continue
                files = pa.table(delta.get_add_actions(flatten=True))
                rows, size = (pc.sum(files[name]).as_py() or 0 for name in ("num_records", "size_bytes"))
                found.append(TableInfo(table.name, delta.version(), files.num_rows, rows, size))
        return found

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _current(self, name: str) -> DeltaTable | None:
        """The newest version of a table; None while it does not exist."""
        delta = self._open.get(name)
        if delta is not None:
            delta.update_incremental()
            return delta
        try:
            delta = DeltaTable(f"{self._root}/{name}")
        except TableNotFoundError:
            return None
        self._open[name] = delta
        return delta

    def _append(self, table: Table, rows: pa.Table, writer: str) -> int:
        delta = self._current(table.name) or self._create(table.name, rows.schema)
        counter = delta.transaction_version(writer) or 0
        fresh = _without_known(delta, table, rows)
        if not fresh.num_rows:
            return 0
        properties = CommitProperties(app_transactions=[Transaction(writer, counter + 1)])
        # A release may have added columns: rows of before read as null there.
        write_deltalake(delta, fresh, mode="append", schema_mode="merge", commit_properties=properties)
        self._compact_sometimes(table.name, delta)
        return int(fresh.num_rows)

    def _create(self, name: str, schema: pa.Schema) -> DeltaTable:
        location = f"{self._root}/{name}"
        if "://" not in location:
            Path(location).mkdir(parents=True, exist_ok=True)
        delta = DeltaTable.create(location, schema=schema, partition_by=[EVENT_DATE], mode="ignore")
        self._open[name] = delta
        return delta

    def _compact_sometimes(self, name: str, delta: DeltaTable) -> None:
        self._commits[name] = self._commits.get(name, 0) + 1
        if self._commits[name] % self._compact_after:
            return
        try:
            delta.optimize.compact()
        except CommitFailedError:
            return  # another process compacts; the rows are safe either way


def _plain(rows: pa.Table, event: str) -> pa.Table:
    """The rows as Delta holds them: no dictionaries, and the day of the event as a column."""
    fields = [
        pa.field(one.name, one.type.value_type if pa.types.is_dictionary(one.type) else one.type) for one in rows.schema
    ]
    plain = rows.cast(pa.schema(fields)).replace_schema_metadata(None)
    return plain.append_column(EVENT_DATE, plain[event].cast(pa.date32()))


def _once(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """The first row of each key."""
    indexed = rows.select(key).append_column(_INDEX, pa.array(range(rows.num_rows), pa.int64()))
    first = indexed.group_by(list(key), use_threads=False).aggregate([(_INDEX, "min")])
    return rows if first.num_rows == rows.num_rows else rows.take(first[f"{_INDEX}_min"].combine_chunks().sort())


def _without_known(delta: DeltaTable, table: Table, rows: pa.Table) -> pa.Table:
    """The rows whose key no live file holds; files are skipped by their day and by the range of `near`."""
    near = rows[table.near].cast(pa.int64())
    bounds = pc.min_max(near).as_py()
    days = ", ".join(f"date '{day}'" for day in pc.unique(rows[EVENT_DATE]).to_pylist())
    known = _ask(
        delta,
        table.name,
        f"SELECT {', '.join(table.key)} FROM {table.name} WHERE {EVENT_DATE} IN ({days}) "  # noqa: S608 - own names and numbers
        f"AND {table.near} BETWEEN to_timestamp_micros({bounds['min']}) AND to_timestamp_micros({bounds['max']})",
    )
    if not known.num_rows:
        return rows
    schema = pa.schema([rows.schema.field(name) for name in table.key])
    keys = rows.select(table.key).append_column(_INDEX, pa.array(range(rows.num_rows), pa.int64()))
    fresh = keys.join(known.cast(schema), list(table.key), join_type="left anti", use_threads=False)
    return rows.take(fresh[_INDEX].combine_chunks().sort())


def _ask(delta: DeltaTable, name: str, sql: str) -> pa.Table:
    return pa.table(QueryBuilder().register(name, delta).execute(sql))


def _strings(answer: pa.Table) -> pa.Table:
    """Plain strings instead of string views, which not every kernel takes."""
    kinds = [pa.utf8() if pa.types.is_string_view(one.type) else one.type for one in answer.schema]
    return answer.cast(pa.schema(list(zip(answer.schema.names, kinds, strict=True))))


def _day(microseconds: int) -> str:
    return f"cast(to_timestamp_micros({microseconds}) as date)"
