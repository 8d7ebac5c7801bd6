"""Step 15: one counter over every change, so that a screen can ask what is new."""

from collections.abc import Hashable, Iterable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Row, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pulseweir.backends.repository.schema import CHANGE_COUNTER
from pulseweir.backends.repository.store import Transaction

_NAME = "changes"
_Row = TypeVar("_Row")


def latest(transaction: Transaction) -> int:
    """Sequence of the last committed change; 0 in an empty repository."""
    return transaction.execute(select(CHANGE_COUNTER.c.value)).scalar() or 0


def take(transaction: Transaction, count: int = 1) -> int:
    """Reserve `count` sequences and return the first.

    Writers of sequences follow each other until they commit, so a reader that has seen sequence n
    never meets a smaller one later.
    """
    changed = transaction.execute(
        update(CHANGE_COUNTER).where(CHANGE_COUNTER.c.name == _NAME).values(value=CHANGE_COUNTER.c.value + count)
    )
    if changed.rowcount == 0:
        transaction.execute(insert(CHANGE_COUNTER).values(name=_NAME, value=count))
        return 1
    return latest(transaction) - count + 1


def upsert(transaction: Transaction, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows, or replace those with the same primary key."""
    values = list(rows)
    if not values:
        return
    dialect = postgresql if transaction.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key.columns]
    replaced = {name: statement.excluded[name] for name in values[0] if name not in keys}
    transaction.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced), values)


def insert_new(transaction: Transaction, table: Table, rows: Iterable[dict[str, Any]]) -> int:
    """Insert rows whose primary key is new; return how many were."""
    dialect = postgresql if transaction.dialect.name == "postgresql" else sqlite
    keys = [column.name for column in table.primary_key.columns]
    statement = dialect.insert(table).on_conflict_do_nothing(index_elements=keys)
    # SQLAlchemy keeps the count of UPDATE and DELETE only, unless told.
    statement = statement.execution_options(preserve_rowcount=True)
    return sum(transaction.execute(statement, row).rowcount for row in rows)


def values_of(row: Any) -> dict[str, Any]:
    """The columns of a row record."""
    return {name: getattr(row, name) for name in _names(row.__class__)}


@cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cast(type[Any], kind)))


def typed(kind: type[_Row], result: Iterable[Row[Any]]) -> list[_Row]:
    """Rows of a query that selected `columns` of one record kind, as those records."""
    names = _names(kind)  # type: ignore[arg-type]
    return [kind(**dict(zip(names, row, strict=True))) for row in result]


def columns(kind: type[Any], table: Table) -> list[ColumnElement[Any]]:
    """The columns of a table that a record kind holds."""
    return [table.c[name] for name in _names(kind)]  # type: ignore[arg-type]
