"""Rows on their way into the tables of the store: gathered one resource at a time, written many at a time."""

from typing import Any, NamedTuple

import apsw

from pulseweir.fhir_store.extraction import Amount, Unit
from pulseweir.fhir_store.indexing import Coded, IndexRows
from pulseweir.fhir_store.terms import Terms

_STATEMENTS = (
    "INSERT INTO resource (pk, type, id, version, updated, meta, content, posted) VALUES (?, ?, ?, 1, ?, ?, ?, ?)",
    "INSERT INTO text_index VALUES (?, ?, ?, ?)",
    "INSERT INTO range_index VALUES (?, ?, ?, ?)",
    "INSERT INTO amount_index VALUES (?, ?, ?, ?, ?)",
    "INSERT INTO observation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO observation_component VALUES (?, ?, ?, ?, ?, ?, ?)",
)


class ResourceRow(NamedTuple):
    """The row of a first version, as `Rows.add` takes it."""

    pk: int
    resource_type: int
    resource_id: str
    updated: int
    meta: bytes
    content: bytes
    posted: bool


class Rows:
    """What is gathered for one connection; used by its thread only."""

    def __init__(self, connection: apsw.Connection, terms: Terms) -> None:
        self._connection = connection
        self._terms = terms
        self._tables: tuple[list[tuple[Any, ...]], ...] = tuple([] for _ in _STATEMENTS)

    def add(self, row: ResourceRow) -> None:
        """Gather the first version of a resource."""
        self._tables[0].append(row)

    def index(self, pk: int, rows: IndexRows) -> None:
        """Gather what a resource is found by; names are interned at once."""
        intern = self._terms.intern
        _, texts, ranges, amounts, observations, components = self._tables
        if rows.texts:
            texts += [(pk, intern(key), value, intern(system)) for key, value, system in rows.texts]
        if rows.ranges:
            ranges += [(pk, intern(key), low, high) for key, low, high in rows.ranges]
        if rows.amounts:
            amounts += [
                (pk, intern(key), self._unit(amount.unit), amount.low, amount.high) for key, amount in rows.amounts
            ]
        columns = rows.observation
        if columns is not None:
            observations.append(
                (
                    pk,
                    columns.subject and intern(columns.subject),
                    self._token_set(columns.code),
                    columns.low,
                    columns.high,
                    columns.status and intern(columns.status),
                    self._token_set(columns.category),
                    columns.device and intern(columns.device),
                    columns.encounter and intern(columns.encounter),
                    *self._amount(columns.value),
                    self._token_set(columns.concept),
                )
            )
        if rows.components:
            components += [
                (pk, place, self._token_set(each.code), *self._amount(each.value), self._token_set(each.concept))
                for place, each in enumerate(rows.components)
            ]

    def lengths(self) -> tuple[int, ...]:
        """How much is gathered, for `write` and `cut`."""
        return tuple(map(len, self._tables))

    def cut(self, lengths: tuple[int, ...] | None = None) -> None:
        """Forget what was gathered since it was so much; everything without `lengths`."""
        for table, length in zip(self._tables, lengths or [0] * len(self._tables), strict=True):
            del table[length:]

    def write(self, lengths: tuple[int, ...] | None = None) -> None:
        """Write what was gathered first, up to so much; everything without `lengths`."""
        for statement, table, length in zip(_STATEMENTS, self._tables, lengths or self.lengths(), strict=True):
            if length:
                self._connection.executemany(statement, table[:length])
                del table[:length]

    def _amount(self, amount: Amount | None) -> tuple[float | None, float | None, int | None]:
        return (None, None, None) if amount is None else (amount.low, amount.high, self._unit(amount.unit))

    def _unit(self, unit: Unit) -> int:
        """The id of a unit: quantities of one kind share one, so a unit costs one integer."""
        name = "\x1d".join(("", *unit))
        known = self._terms.find(name)
        if known is not None:
            return known
        number = self._terms.intern(name)
        self._connection.execute("INSERT OR IGNORE INTO unit VALUES (?, ?, ?, ?)", (number, *unit))
        return number

    def _token_set(self, coded: Coded) -> int | None:
        """The id of a set of codings: Observations of one kind share one, so a code costs one integer."""
        if not coded.tokens and not coded.texts:
            return None
        name = "\x1e".join(f"{system}\x1f{code}" for code, system in coded.tokens)
        if coded.texts:
            name = "\x1d".join((name, *coded.texts, ""))
        known = self._terms.find(name)
        if known is not None:
            return known
        number = self._terms.intern(name)
        self._connection.executemany(
            "INSERT OR IGNORE INTO token_set (token_set, value, system) VALUES (?, ?, ?)",
            [(number, code, self._terms.intern(system)) for code, system in coded.tokens],
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO token_text (token_set, text) VALUES (?, ?)", [(number, text) for text in coded.texts]
        )
        return number
