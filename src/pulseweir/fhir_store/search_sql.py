"""A search request as SQL over the index tables: one page, in order, and the total."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pulseweir.fhir_store.dates import NO_DATE
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.search_conditions import Rows, asks_columns
from pulseweir.fhir_store.search_order import is_chart_order, sort_key
from pulseweir.fhir_store.search_pieces import NEVER, Piece, all_of, any_of
from pulseweir.fhir_store.search_request import REMEMBERED_LETTERS, Condition, Criterion, Reverse, SearchRequest
from pulseweir.fhir_store.search_values import Values
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import ReadSession

Statement = tuple[str, tuple[Any, ...]]
_MOST_VALUES = 30_000
_LONGEST_TEXT = 900_000
"""A little less than SQLite takes in one statement: what the page and the order need comes on top."""


@dataclass(frozen=True, slots=True)
class SearchSql:
    """The pieces of a search's statements.

    Attributes:
        source: FROM clause.
        where: What the matches meet.
        keys: Sort expressions, the row number last.
        descending: Direction of each key.
        undated_last: Whether the first key is an Observation's date upwards: those without one are a walk of their
            own, so that the others come in the order of the index.
    """

    source: str
    where: Piece
    keys: list[str]
    descending: list[bool]
    undated_last: bool = False

    def count_statement(self) -> Statement:
        """Counts all matches."""
        return f"SELECT count(*) FROM {self.source} WHERE {self.where.text}", self.where.values  # noqa: S608

    def page_statements(self, after: list[Any] | None, limit: int) -> Iterator[Statement]:
        """Select one page: the resource's columns and type, then the sort keys. A page not full goes on in the next."""
        if after is not None and len(after) != len(self.keys):
            raise Refusal(400, "invalid", "The page token belongs to another search; start the search again.")
        if not self.undated_last:
            yield self._page(self.where, self.keys, after, limit)
            return
        is_beyond = after is not None and after[0] == 2**62
        if not is_beyond:
            dated = all_of([self.where, Piece(f"o.low > {NO_DATE}")])
            yield self._page(dated, ["o.low", *self.keys[1:]], after, limit)
        undated = all_of([self.where, Piece(f"o.low = {NO_DATE}")])
        yield self._page(undated, self.keys, after if is_beyond else None, limit)

    def _page(self, where: Piece, keys: list[str], after: list[Any] | None, limit: int) -> Statement:
        condition = where if after is None else all_of([where, self._after(keys, after)])
        order = ", ".join(f"{key} {'DESC' if down else 'ASC'}" for key, down in zip(keys, self.descending, strict=True))
        statement = (
            f"SELECT r.pk, r.id, r.version, r.updated, r.meta, r.content, r.type, {', '.join(keys)}"  # noqa: S608
            f" FROM {self.source} WHERE {condition.text} ORDER BY {order} LIMIT {int(limit)}"
        )
        return statement, condition.values

    def _after(self, keys: list[str], after: list[Any]) -> Piece:
        if len(set(self.descending)) == 1:
            sign = "<" if self.descending[0] else ">"
            return Piece(f"({', '.join(keys)}) {sign} ({', '.join('?' * len(after))})", tuple(after))
        branches = []
        for place, down in enumerate(self.descending):
            equal = [Piece(f"{key} = ?", (value,)) for key, value in zip(keys[:place], after[:place], strict=True)]
            branches.append(all_of([*equal, Piece(f"{keys[place]} {'<' if down else '>'} ?", (after[place],))]))
        return any_of(branches)


def compile_search(
    request: SearchRequest, session: ReadSession | WriteSession, *, is_as_read: bool = False
) -> SearchSql:
    """The statements' pieces of a search; names that nothing uses match nothing without asking the tables.

    Args:
        request: The search.
        session: Where it will run.
        is_as_read: Whether the search is what `read_search` made of its parameters, so that these tell it from others.
    """
    if not is_as_read or isinstance(session, WriteSession) or request.within is not None:
        return _compile(request, session)
    known = session.known_searches.as_of(session.terms.newest())
    asked = (request.path, request.base_url, *request.applied)
    sql = known.get(asked)
    if sql is None:
        sql = _compile(request, session)
        if _lasts(request) and sum(len(text) for _, text in request.applied) <= REMEMBERED_LETTERS:
            known[asked] = sql
    return sql


def _lasts(request: SearchRequest) -> bool:
    """Whether a search compiles to the same as long as no other name comes into use.

    Not so what depends on the present, or on whether anything refers to the own base URL, which is looked for.
    """
    if not request.resource_type or request.compartment is not None or request.unless_missing:
        return False
    for condition in request.criteria:
        if not isinstance(condition, Criterion) or condition.modifier == "missing":
            return False
        is_date = condition.parameter.kind in {"date", "updated"}
        if is_date and any(text.startswith("ap") for text in condition.values):
            return False
    return True


def _compile(request: SearchRequest, session: ReadSession | WriteSession) -> SearchSql:
    values = Values(session, request.base_url, request.now)
    if not request.resource_type:
        met = any_of(_part(part, values) for part in request.parts)
        return SearchSql("resource r", _affordable(met), *_order(request, Rows("", values)))
    rows = _rows(request, values)
    source, where = rows.source()
    met = all_of([where, *_conditions(request, rows)])
    keys, descending = _order(request, rows)
    is_chart = bool(request.sort) and is_chart_order(rows, request.sort[0][0], down=request.sort[0][1])
    return SearchSql(source, _affordable(met), keys, descending, is_chart)


def _affordable(met: Piece) -> Piece:
    """The condition, if SQLite takes one of its size."""
    if len(met.values) > _MOST_VALUES or len(met.text) > _LONGEST_TEXT:
        raise Refusal(400, "too-costly", "The search has too many alternatives for so many types; ask for fewer.")
    return met


def _rows(request: SearchRequest, values: Values) -> Rows:
    asked = [*request.criteria, *(each for way in request.within or () for each in way)]
    asked += [Criterion(parameter, "", ()) for parameter, _ in request.sort]
    is_observation = request.resource_type == "Observation"
    needs_columns = request.compartment is not None or asks_columns(asked)
    return Rows(request.resource_type, values, is_observation and needs_columns)


def _part(request: SearchRequest, values: Values) -> Piece:
    """What resources of one of several types meet."""
    rows = Rows(request.resource_type, values)
    return all_of([rows.source()[1], *_conditions(request, rows)])


def _conditions(request: SearchRequest, rows: Rows) -> list[Piece]:
    found = [_met(rows, condition) for condition in request.criteria]
    for each in request.unless_missing:
        absent = Criterion(each.parameter, "missing", ("true",))
        found.append(any_of([rows.meets(absent), rows.meets(each)]))
    if request.compartment is not None:
        found.append(rows.in_compartment(*request.compartment))
    if request.within is not None:
        ways = [all_of(rows.meets(each) for each in way) for way in request.within]
        found.append(any_of(ways) if ways else NEVER)
    return found


def _met(rows: Rows, condition: Condition) -> Piece:
    try:
        return rows.meets(condition)
    except Refusal as refusal:
        name = "_has" if isinstance(condition, Reverse) else condition.parameter.name
        raise refusal.located(f"http.{name}") from None


def _order(request: SearchRequest, rows: Rows) -> tuple[list[str], list[bool]]:
    keys = [sort_key(rows, parameter, down=down) for parameter, down in request.sort]
    descending = [down for _, down in request.sort]
    return [*keys, rows.pk], [*descending, descending[-1] if descending else False]
