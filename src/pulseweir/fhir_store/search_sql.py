"""A search request as SQL over the index tables.

Dates compare as ranges (R4 search, section 3.1.1.4.5): a month matches all of its days.
"""

from dataclasses import dataclass, replace
from typing import Any

import apsw

from pulseweir.fhir_store.dates import NO_DATE, date_range
from pulseweir.fhir_store.extraction import normalized
from pulseweir.fhir_store.indexing import COMPONENT_COLUMNS, OBSERVATION_COLUMNS
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter, parameters_of
from pulseweir.fhir_store.query import Criterion, SearchRequest, split_escaped, unescape
from pulseweir.fhir_store.search_amounts import PREFIXES, amount_condition, read_number
from pulseweir.fhir_store.session import Terms

_AMOUNT = ("value_low", "value_high", "value_unit")
_NOTHING = "0"
_LAST_TEXT = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class SearchSql:
    """The pieces of a search's statements.

    Attributes:
        source: FROM clause.
        where: Conditions of the matches.
        arguments: Values of `where`.
        keys: Sort expressions, the row number last.
        descending: Direction of each key.
    """

    source: str
    where: str
    arguments: list[Any]
    keys: list[str]
    descending: list[bool]

    def count_statement(self) -> tuple[str, list[Any]]:
        """Counts all matches."""
        return f"SELECT count(*) FROM {self.source} WHERE {self.where}", self.arguments  # noqa: S608

    def page_statement(self, after: list[Any] | None, limit: int) -> tuple[str, list[Any]]:
        """Selects one page: the resource's columns, then the sort keys."""
        condition, arguments = self._after(after)
        order = ", ".join(
            f"{key} {'DESC' if down else 'ASC'}" for key, down in zip(self.keys, self.descending, strict=True)
        )
        statement = (
            f"SELECT r.pk, r.id, r.version, r.updated, r.meta, r.content, {', '.join(self.keys)} FROM {self.source}"  # noqa: S608
            f" WHERE {self.where}{condition} ORDER BY {order} LIMIT {limit}"
        )
        return statement, [*self.arguments, *arguments]

    def _after(self, after: list[Any] | None) -> tuple[str, list[Any]]:
        if after is None:
            return "", []
        if len(after) != len(self.keys):
            raise Refusal(400, "invalid", "The page token belongs to another search; start the search again.")
        if len(set(self.descending)) == 1:
            sign = "<" if self.descending[0] else ">"
            return f" AND ({', '.join(self.keys)}) {sign} ({', '.join('?' * len(after))})", list(after)
        branches, arguments = [], []
        for place, down in enumerate(self.descending):
            equal = [f"{key} = ?" for key in self.keys[:place]]
            branches.append(" AND ".join([*equal, f"{self.keys[place]} {'<' if down else '>'} ?"]))
            arguments.extend(after[: place + 1])
        return f" AND (({') OR ('.join(branches)}))", arguments


class SearchCompiler:
    """Makes the SQL of one search; unknown names are found to match nothing without asking the tables."""

    def __init__(self, request: SearchRequest, terms: Terms, connection: apsw.Connection) -> None:
        self._request = request
        self._terms = terms
        self._connection = connection
        self._arguments: list[Any] = []
        criteria = [*request.criteria, *(each for way in request.within or () for each in way)]
        asked = [criterion.parameter for criterion in criteria] + [each for each, _ in request.sort]
        keys = [each.key for parameter in asked for each in (parameter, *parameter.parts)]
        names = {key.partition(".")[2] for key in keys}
        names |= {"code" for parameter in asked for root in parameter.roots if not root.path}
        is_observation = request.resource_type == "Observation"
        self._has_columns = is_observation and bool(names & OBSERVATION_COLUMNS.keys())
        self._pk = "o.pk" if self._has_columns else "r.pk"

    def compile(self) -> SearchSql:
        """The statements' pieces."""
        where = []
        if self._has_columns:
            # CROSS JOIN: the narrow table is walked, the wide one only looked up.
            source = "observation o CROSS JOIN resource r ON r.pk = o.pk"
        else:
            source = "resource r"
            where.append("r.type = ? AND r.deleted = 0")
            self._arguments.append(self._terms.find(self._request.resource_type))
        where.extend(self._criterion(criterion) for criterion in self._request.criteria)
        if self._request.within is not None:
            ways = [" AND ".join(self._criterion(each) for each in way) for way in self._request.within]
            where.append(f"(({') OR ('.join(ways)}))" if ways else _NOTHING)
        arguments = list(self._arguments)
        keys = [self._sort_key(parameter, down) for parameter, down in self._request.sort]
        descending = [down for _, down in self._request.sort]
        return SearchSql(
            source,
            " AND ".join(where) or "1",
            arguments,
            [*keys, self._pk],
            [*descending, descending[-1] if descending else False],
        )

    def _sort_key(self, parameter: Parameter, down: bool) -> str:
        if parameter.kind == "id":
            return "r.id"
        if parameter.kind == "updated":
            return "r.updated"
        column = self._column(parameter)
        if column == "low":
            return "o.low"
        if column == "value_low":
            return f"coalesce(o.value_low, {'-9e999' if down else '9e999'})"
        if column:
            return f"coalesce((SELECT text FROM term WHERE id = o.{column}), '')"  # noqa: S608
        number = self._terms.find(parameter.key) or 0
        pick = "max" if down else "min"
        if parameter.kind in {"date", "number"}:
            absent = NO_DATE if down else -NO_DATE
            rows = f"SELECT {pick}(low) FROM range_index i WHERE i.pk = {self._pk} AND i.parameter = {number}"  # noqa: S608
            return f"coalesce(({rows}), {absent})"
        rows = f"SELECT {pick}(value) FROM text_index i WHERE i.pk = {self._pk} AND i.parameter = {number}"  # noqa: S608
        return f"coalesce(({rows}), {'char()' if down else 'char(1114111)'})"

    def _column(self, parameter: Parameter) -> str | None:
        """The Observation column that holds a parameter, if one does."""
        owner, _, name = parameter.key.partition(".")
        return OBSERVATION_COLUMNS.get(name) if owner == "Observation" else None

    def _criterion(self, criterion: Criterion) -> str:
        parameter = criterion.parameter
        if parameter.parts:
            is_absent = criterion.modifier == "not" or (
                criterion.modifier == "missing" and criterion.values == ("true",)
            )
            parts = [self._criterion(replace(criterion, parameter=part)) for part in parameter.parts]
            return f"({(' AND ' if is_absent else ' OR ').join(parts)})"
        if parameter.roots:
            return f"({' OR '.join(self._composite(parameter, text) for text in criterion.values)})"
        if criterion.modifier == "missing":
            return self._missing(parameter, criterion.values)
        column = self._column(parameter)
        branches = [
            self._column_value(column, criterion, text) if column else self._value(criterion, text)
            for text in criterion.values
        ]
        condition = f"({' OR '.join(branches)})"
        return f"NOT coalesce({condition}, 0)" if criterion.modifier == "not" else condition

    def _missing(self, parameter: Parameter, values: tuple[str, ...]) -> str:
        if values not in (("true",), ("false",)):
            raise Refusal(400, "invalid", f"{parameter.name}:missing must be true or false.")
        column = self._column(parameter)
        if column == "low":
            present = f"o.low > {NO_DATE}"
        elif parameter.name in COMPONENT_COLUMNS:
            held = COMPONENT_COLUMNS[parameter.name]
            present = f"{self._pk} IN (SELECT pk FROM observation_component WHERE {held} IS NOT NULL)"  # noqa: S608
        elif column:
            present = f"o.{column} IS NOT NULL"
        else:
            ranged = "range_index" if parameter.kind in {"date", "number"} else "text_index"
            table = "amount_index" if parameter.kind == "quantity" else ranged
            self._arguments.append(self._terms.find(parameter.key))
            present = f"{self._pk} IN (SELECT pk FROM {table} WHERE parameter = ?)"  # noqa: S608
        return f"NOT ({present})" if values == ("true",) else f"({present})"

    def _value(self, criterion: Criterion, text: str) -> str:
        kind = criterion.parameter.kind
        if kind == "id":
            self._arguments.extend([self._terms.find(self._request.resource_type), unescape(text)])
            return f"{self._pk} IN (SELECT pk FROM resource WHERE type = ? AND id = ?)"  # noqa: S608
        if kind == "updated":
            return self._range_condition(_split_prefix(text), "r.updated", "r.updated + 1")
        if criterion.parameter.name in COMPONENT_COLUMNS and criterion.parameter.key.startswith("Observation."):
            condition = self._side(COMPONENT_COLUMNS[criterion.parameter.name], text)
            return f"{self._pk} IN (SELECT pk FROM observation_component WHERE {condition})"  # noqa: S608
        number = self._terms.find(criterion.parameter.key)
        if number is None:
            self._check(kind, text)
            return _NOTHING
        if kind in {"date", "number", "quantity"}:
            return self._ranged(kind, text, number)
        matching = self._text_condition(criterion, text, number)
        return f"{self._pk} IN (SELECT pk FROM text_index WHERE {matching})" if matching else _NOTHING  # noqa: S608

    def _ranged(self, kind: str, text: str, number: int) -> str:
        table = "amount_index" if kind == "quantity" else "range_index"
        self._arguments.append(number)
        if kind == "date":
            condition = self._range_condition(_split_prefix(text), "low", "high")
        elif kind == "number":
            condition, values = read_number(unescape(text)).condition("low", "high")
            self._arguments.extend(values)
        else:
            condition = self._amount(text, ("low", "high", "unit"))
        return f"{self._pk} IN (SELECT pk FROM {table} WHERE parameter = ? AND {condition})"  # noqa: S608

    def _amount(self, text: str, columns: tuple[str, str, str]) -> str:
        condition, values = amount_condition(text, self._connection, columns)
        self._arguments.extend(values)
        return condition

    def _composite(self, parameter: Parameter, text: str) -> str:
        """Both sides of a composite at one place of the resource: `code$value`."""
        sides = split_escaped(text, "$")
        if len(sides) != 2:
            raise Refusal(400, "invalid", f"{parameter.name} takes two values joined by $.")
        if self._request.resource_type != "Observation":
            number = self._terms.find(parameter.key)
            if number is None:
                return _NOTHING
            self._arguments.extend([number, "$".join(unescape(side) for side in sides)])
            return f"{self._pk} IN (SELECT pk FROM text_index WHERE parameter = ? AND value = ?)"  # noqa: S608
        own = parameters_of("Observation")
        value = "value-" + parameter.name.rpartition("-")[2]
        places = []
        for root in parameter.roots:
            if root.path:
                columns = (COMPONENT_COLUMNS["component-code"], COMPONENT_COLUMNS[f"component-{value}"])
                both = " AND ".join(self._side(column, side) for column, side in zip(columns, sides, strict=True))
                places.append(f"{self._pk} IN (SELECT pk FROM observation_component WHERE {both})")  # noqa: S608
            else:
                pairs = zip((own["code"], own[value]), sides, strict=True)
                places.append(" AND ".join(self._criterion(Criterion(each, "", (side,))) for each, side in pairs))
        return f"({' OR '.join(places)})"

    def _side(self, column: str, text: str) -> str:
        """Condition on a column of an Observation's component."""
        if column == "value_low":
            return self._amount(text, _AMOUNT)
        numbers = self._token_sets(text)
        self._arguments.extend(numbers)
        return f"{column} IN ({', '.join('?' * len(numbers))})"

    def _check(self, kind: str, text: str) -> None:
        if kind == "date":
            _split_prefix(text)
        elif kind == "number":
            read_number(text)

    def _text_condition(self, criterion: Criterion, text: str, number: int) -> str | None:
        kind = criterion.parameter.kind
        if kind == "token":
            condition, arguments = self._token(text)
            self._arguments.extend([number, *arguments] if condition else [])
            return condition and f"parameter = ? AND {condition}"
        if kind == "reference":
            references = self._references(criterion, text)
            self._arguments.extend([number, *references])
            return f"parameter = ? AND value IN ({', '.join('?' * len(references))})"
        if kind == "string":
            return self._string_condition(criterion, unescape(text), number)
        self._arguments.extend([number, unescape(text)])
        return "parameter = ? AND value = ?"

    def _string_condition(self, criterion: Criterion, text: str, number: int) -> str | None:
        if criterion.modifier == "exact":
            exact = self._terms.find(criterion.parameter.key + ":exact")
            self._arguments.extend([exact, text])
            return "parameter = ? AND value = ?"
        plain = normalized(text)
        if criterion.modifier == "contains":
            self._arguments.extend([number, plain])
            return "parameter = ? AND instr(value, ?) > 0"
        self._arguments.extend([number, plain, plain + _LAST_TEXT])
        return "parameter = ? AND value >= ? AND value < ?"

    def _token(self, text: str) -> tuple[str | None, list[Any]]:
        """Condition on (value, system); None when the system is one that no resource uses."""
        parts = split_escaped(text, "|")
        if len(parts) == 1:
            return "value = ?", [unescape(text)]
        system = self._terms.find(unescape(parts[0]))
        if system is None:
            return None, []
        if not parts[1]:
            return "system = ?", [system]
        return "value = ? AND system = ?", [unescape(parts[1]), system]

    def _references(self, criterion: Criterion, text: str) -> list[str]:
        """Every stored form a reference value may have."""
        target = criterion.parameter.target or (criterion.modifier or None)
        value = unescape(text)
        if "/" not in value:
            return [f"{resource_type}/{value}" for resource_type in ([target] if target else RESOURCE_TYPES)]
        if target and value.split("/")[-2] != target:
            return [""]
        if "://" in value:
            return [value, "/".join(value.split("/")[-2:])]
        return [value]

    def _column_value(self, column: str, criterion: Criterion, text: str) -> str:
        if column == "low":
            return f"o.low > {NO_DATE} AND " + self._range_condition(_split_prefix(text), "o.low", "o.high")
        if column == "value_low":
            return self._amount(text, ("o.value_low", "o.value_high", "o.value_unit"))
        if column in {"code_set", "category_set", "concept_set"}:
            numbers = self._token_sets(text)
        else:
            is_status = column == "status"
            names = [unescape(split_escaped(text, "|")[-1])] if is_status else self._references(criterion, text)
            numbers = [number for name in names if name and (number := self._terms.find(name)) is not None]
        if not numbers:
            return _NOTHING
        self._arguments.extend(numbers)
        if len(numbers) == 1:
            return f"o.{column} = ?"
        return f"o.{column} IN ({', '.join('?' * len(numbers))})"

    def _token_sets(self, text: str) -> list[int]:
        """The sets of codings that have this token; as plain numbers they let the chart index give the order."""
        condition, arguments = self._token(text)
        if condition is None:
            return []
        statement = f"SELECT DISTINCT token_set FROM token_set WHERE {condition}"  # noqa: S608
        return [int(row[0]) for row in self._connection.execute(statement, arguments)]

    def _range_condition(self, parsed: tuple[str, float, float], low: str, high: str) -> str:
        prefix, first, beyond = parsed
        template, wanted = {
            "eq": (f"({low} >= ? AND {high} <= ?)", [first, beyond]),
            "ne": (f"NOT ({low} >= ? AND {high} <= ?)", [first, beyond]),
            "gt": (f"{high} > ?", [beyond]),
            "lt": (f"{low} < ?", [first]),
            "ge": (f"({high} > ? OR ({low} >= ? AND {high} <= ?))", [beyond, first, beyond]),
            "le": (f"({low} < ? OR ({low} >= ? AND {high} <= ?))", [first, first, beyond]),
            "sa": (f"{low} >= ?", [beyond]),
            "eb": (f"{high} <= ?", [first]),
            "ap": (f"({low} < ? AND {high} > ?)", [beyond, first]),
        }[prefix]
        self._arguments.extend(wanted)
        return template


def _split_prefix(text: str) -> tuple[str, float, float]:
    """(prefix, low, high) of a date value.

    Raises:
        Refusal: 400 when the rest is no date.
    """
    prefix, rest = (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)
    try:
        low, high = date_range(rest)
    except ValueError:
        raise Refusal(400, "invalid", "A date in the search is not one, such as date=ge2024-02-29.") from None
    return prefix, low, high
