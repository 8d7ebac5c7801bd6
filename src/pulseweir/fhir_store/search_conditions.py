"""Conditions of a search as SQL: what one criterion, chain or ``_has`` asks of a row.

A row is one of `resource` (alias r and a number for its depth) and, where an Observation's columns are asked, the
one of `observation` (alias o and the same number) beside it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pulseweir.fhir_store.dates import NO_DATE
from pulseweir.fhir_store.indexing import (
    COMPONENT_COLUMNS,
    OBSERVATION_COLUMNS,
    REFERENCE_COLUMNS,
    STATUS_KEY,
    USUAL_STATUS,
)
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import Parameter, compartment_parameters, parameters_of
from pulseweir.fhir_store.search_pieces import ALWAYS, NEVER, Piece, all_of, any_of, marks, none_of
from pulseweir.fhir_store.search_request import ID, Chain, Condition, Criterion, Reverse, split_escaped, unescape
from pulseweir.fhir_store.search_values import Values, check_value

_AMOUNT = ("value_low", "value_high", "value_unit")
_CODED = frozenset({"code_set", "category_set", "concept_set"})


def column_of(parameter: Parameter) -> str | None:
    """The column of `observation` that holds a parameter, if one does."""
    owner, _, name = parameter.key.partition(".")
    return OBSERVATION_COLUMNS.get(name) if owner == "Observation" else None


def component_column_of(parameter: Parameter) -> str | None:
    """The column of `observation_component` that holds a parameter, if one does."""
    owner, _, name = parameter.key.partition(".")
    return COMPONENT_COLUMNS.get(name) if owner == "Observation" else None


def asks_columns(conditions: Iterable[Condition]) -> bool:
    """Whether any of the conditions asks a column of `observation`."""
    for condition in conditions:
        parameter = None if isinstance(condition, Reverse) else condition.parameter
        if parameter is None:
            continue
        if any(column_of(each) for each in (parameter, *parameter.parts)):
            return True
        if parameter.key.startswith("Observation.") and any(not root.path for root in parameter.roots):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one type, about which conditions are made.

    Attributes:
        resource_type: FHIR type.
        values: Reads the values asked for.
        has_columns: Whether the row of `observation` is there.
        depth: How many searches this one is inside of.
    """

    resource_type: str
    values: Values
    has_columns: bool = False
    depth: int = 0

    @property
    def resource(self) -> str:
        """Alias of `resource`."""
        return f"r{self.depth or ''}"

    @property
    def observation(self) -> str:
        """Alias of `observation`."""
        return f"o{self.depth or ''}"

    @property
    def pk(self) -> str:
        """The row number."""
        return f"{self.observation if self.has_columns else self.resource}.pk"

    def source(self) -> tuple[str, Piece]:
        """FROM clause, and what holds the rows to the type."""
        if self.has_columns:
            # CROSS JOIN: the narrow table is walked, the wide one only looked up.
            narrow, wide = self.observation, self.resource
            return f"observation {narrow} CROSS JOIN resource {wide} ON {wide}.pk = {narrow}.pk", ALWAYS
        wide = self.resource
        number = self.values.session.terms.find(self.resource_type)
        return f"resource {wide}", Piece(f"{wide}.type = ? AND {wide}.deleted = 0", (number,))

    def meets(self, condition: Condition) -> Piece:
        """What a row must meet."""
        if isinstance(condition, Chain):
            return any_of(self._chain(condition.parameter, *target) for target in condition.targets)
        if isinstance(condition, Reverse):
            return self._reverse(condition)
        return self._criterion(condition)

    def in_compartment(self, compartment: str, owner: str | None) -> Piece:
        """What a row in a compartment meets; without an owner, in any compartment of that type."""
        if self.resource_type == compartment and owner is None:
            return ALWAYS
        own = parameters_of(self.resource_type)
        named = [own[name] for name in compartment_parameters(compartment, self.resource_type)]
        if owner is None:
            return any_of(self._leads_to(parameter, compartment) for parameter in named)
        reference = f"{compartment}/{owner}"
        found = [Criterion(parameter, "", (reference,)) for parameter in named]
        if self.resource_type == compartment:
            found.append(Criterion(ID, "", (owner,)))
        return any_of(self._criterion(each) for each in found)

    def _inner(self, resource_type: str) -> "Rows":
        return Rows(resource_type, self.values, resource_type == "Observation", self.depth + 1)

    def _in_rows(self, table: str, condition: Piece) -> Piece:
        """The row number is among those of index rows that meet a condition."""
        if condition == NEVER:
            return NEVER
        return Piece(f"{self.pk} IN (SELECT pk FROM {table} WHERE {condition.text})", condition.values)  # noqa: S608

    def _beside(self, condition: Piece) -> Piece:
        """A condition on `observation`'s columns, whether its row is there or must be looked up."""
        if self.has_columns or condition in {NEVER, ALWAYS}:
            return condition
        name = self.observation
        text = f"{self.pk} IN (SELECT {name}.pk FROM observation {name} WHERE {condition.text})"  # noqa: S608
        return Piece(text, condition.values)

    def _criterion(self, criterion: Criterion) -> Piece:
        parameter = criterion.parameter
        if criterion.modifier == "not":
            return none_of(self._criterion(replace(criterion, modifier="")))
        if criterion.modifier == "missing":
            present = self._present(parameter)
            return none_of(present) if criterion.values == ("true",) else present
        if parameter.parts:
            return any_of(self._criterion(replace(criterion, parameter=part)) for part in parameter.parts)
        if parameter.roots:
            return any_of(self._composite(parameter, text) for text in criterion.values)
        if parameter.kind == "id":
            return self._is_one_of(criterion.values)
        if column_of(parameter):
            return self._beside(any_of(self._column(criterion, text) for text in criterion.values))
        return any_of(self._value(criterion, text) for text in criterion.values)

    def _is_one_of(self, ids: tuple[str, ...]) -> Piece:
        """The row has one of these ids; so many as there are, they are one value of the statement."""
        number = self.values.session.terms.find(self.resource_type)
        if len(ids) == 1:
            return self._in_rows("resource", Piece("type = ? AND id = ?", (number, unescape(ids[0]))))
        listed = json.dumps([unescape(each) for each in ids])
        return self._in_rows("resource", Piece("type = ? AND id IN (SELECT value FROM json_each(?))", (number, listed)))

    def _present(self, parameter: Parameter) -> Piece:
        if parameter.parts:
            return any_of(self._present(part) for part in parameter.parts)
        if parameter.target:
            return self._leads_to(parameter, parameter.target)
        if parameter.kind in {"id", "updated"}:
            return ALWAYS
        column, component = column_of(parameter), component_column_of(parameter)
        if component:
            return self._in_rows("observation_component", Piece(f"{component} IS NOT NULL"))
        if column:
            held = f"low > {NO_DATE}" if column == "low" else f"{column} IS NOT NULL"
            beside = (
                self._under_any(parameter.key, (":identifier", ":present")) if column in REFERENCE_COLUMNS else NEVER
            )
            return any_of([self._beside(Piece(f"{self.observation}.{held}")), beside])
        if parameter.kind in {"token", "reference"}:
            return self._under_any(parameter.key, ("", ":text", ":identifier", ":present"))
        number = self.values.session.terms.find(parameter.key)
        ranged = "range_index" if parameter.kind in {"date", "number"} else "text_index"
        table = "amount_index" if parameter.kind == "quantity" else ranged
        return NEVER if number is None else self._in_rows(table, Piece("parameter = ?", (number,)))

    def _under_any(self, key: str, endings: tuple[str, ...]) -> Piece:
        """Anything is indexed under the key with one of these endings."""
        find = self.values.session.terms.find
        numbers = [number for ending in endings if (number := find(f"{key}{ending}")) is not None]
        return self._in_rows("text_index", Piece(f"parameter IN ({marks(numbers)})", tuple(numbers)))

    def _leads_to(self, parameter: Parameter, resource_type: str) -> Piece:
        """The reference leads to any resource of a type."""
        return any_of(self._between(parameter, f"{base}{resource_type}") for base in self.values.bases(parameter))

    def _between(self, parameter: Parameter, place: str) -> Piece:
        """The reference is to something at a place, such as `Patient`."""
        ends = (f"{place}/", f"{place}0")  # "0" is the letter after "/"
        column = column_of(parameter)
        if column:
            terms = "SELECT id FROM term WHERE text >= ? AND text < ?"
            return self._beside(Piece(f"{self.observation}.{column} IN ({terms})", ends))
        number = self.values.session.terms.find(parameter.key)
        return self._in_rows("text_index", Piece("parameter = ? AND value >= ? AND value < ?", (number, *ends)))

    def _value(self, criterion: Criterion, text: str) -> Piece:
        parameter = criterion.parameter
        component = component_column_of(parameter)
        if parameter.kind == "updated":
            return self.values.dated(text, f"{self.resource}.updated", f"{self.resource}.updated + 1")
        if component:
            by_text = criterion.modifier == "text"
            return self._in_rows("observation_component", self._side(parameter, component, text, by_text=by_text))
        check_value(parameter, text)
        if parameter.kind in {"date", "number", "quantity"}:
            table = "amount_index" if parameter.kind == "quantity" else "range_index"
            return self._in_rows(table, self.values.ranged(parameter, text))
        return self._in_rows("text_index", self.values.text(criterion, text))

    def _column(self, criterion: Criterion, text: str) -> Piece:
        parameter, name = criterion.parameter, self.observation
        column = column_of(parameter) or ""
        if column == "low":
            ranged = self.values.dated(text, f"{name}.low", f"{name}.high")
            return Piece(f"({name}.low > {NO_DATE} AND {ranged.text})", ranged.values)
        if column == "value_low":
            low, high, unit = _AMOUNT
            return self.values.amount(text, (f"{name}.{low}", f"{name}.{high}", f"{name}.{unit}"))
        if criterion.modifier == "identifier":
            condition = self.values.text(criterion, text)
            inner = f"SELECT pk FROM text_index WHERE {condition.text}"  # noqa: S608
            return NEVER if condition == NEVER else Piece(f"{name}.pk IN ({inner})", condition.values)
        if column in _CODED:
            numbers = self.values.token_sets(parameter, text, by_text=criterion.modifier == "text")
        else:
            numbers = self._interned(criterion, text, column)
        if not numbers:
            return NEVER
        if column == "status" and self._codes(criterion, text) != [USUAL_STATUS]:
            values = (self.values.session.terms.find(STATUS_KEY), *self._codes(criterion, text))
            rows = "SELECT pk FROM text_index WHERE parameter = ? AND value = ?"
            return Piece(f"{name}.pk IN ({rows})", values)
        held = f"{name}.{column}"
        return Piece(f"{held} = ?" if len(numbers) == 1 else f"{held} IN ({marks(numbers)})", tuple(numbers))

    def _interned(self, criterion: Criterion, text: str, column: str) -> list[int]:
        names = self.values.references(criterion, text) if column != "status" else self._codes(criterion, text)
        return self.values.session.terms.find_all(name for name in names if name)

    def _codes(self, criterion: Criterion, text: str) -> list[str]:
        """A code of an element whose system is that of its value set."""
        parts = split_escaped(text, "|")
        system, code = (unescape(parts[0]), unescape(parts[-1])) if len(parts) > 1 else ("", unescape(text))
        if criterion.modifier == "text" or (system and system not in criterion.parameter.code_systems):
            return []
        return [code]

    def _side(self, parameter: Parameter, column: str, text: str, *, by_text: bool = False) -> Piece:
        """Condition on a column of an Observation's component."""
        if column == "value_low":
            return self.values.amount(text, _AMOUNT)
        numbers = self.values.token_sets(parameter, text, by_text=by_text)
        return Piece(f"{column} IN ({marks(numbers)})", tuple(numbers)) if numbers else NEVER

    def _composite(self, parameter: Parameter, text: str) -> Piece:
        """Both sides of a composite at one place of the resource: `code$value`."""
        sides = split_escaped(text, "$")
        if len(sides) != 2:
            raise Refusal(400, "invalid", f"{parameter.name} takes two values joined by $.")
        if self.resource_type != "Observation":
            number = self.values.session.terms.find(parameter.key)
            value = "$".join(unescape(side) for side in sides)
            return self._in_rows("text_index", Piece("parameter = ? AND value = ?", (number, value)))
        own = parameters_of("Observation")
        value = "value-" + parameter.name.rpartition("-")[2]
        places = []
        for root in parameter.roots:
            names = ("component-code", f"component-{value}") if root.path else ("code", value)
            pairs = list(zip((own[name] for name in names), sides, strict=True))
            if root.path:
                both = all_of(self._side(each, component_column_of(each) or "", side) for each, side in pairs)
                places.append(self._in_rows("observation_component", both))
            else:
                places.append(all_of(self._criterion(Criterion(each, "", (side,))) for each, side in pairs))
        return any_of(places)

    def _chain(self, parameter: Parameter, target: str, condition: Condition) -> Piece:
        if parameter.parts:
            return any_of(self._chain(part, target, condition) for part in parameter.parts)
        inner = self._inner(target)
        source, where = inner.source()
        met = all_of([where, inner.meets(condition)])
        if met == NEVER:
            return NEVER
        bases = self.values.bases(parameter)
        names = " UNION ALL ".join(
            [f"SELECT ? || {inner.resource}.id FROM {source} WHERE {met.text}"] * len(bases)  # noqa: S608
        )
        values = tuple(value for base in bases for value in (f"{base}{target}/", *met.values))
        column = column_of(parameter)
        if column:
            terms = f"SELECT id FROM term WHERE text IN ({names})"  # noqa: S608
            return self._beside(Piece(f"{self.observation}.{column} IN ({terms})", values))
        number = self.values.session.terms.find(parameter.key)
        return self._in_rows("text_index", Piece(f"parameter = ? AND value IN ({names})", (number, *values)))

    def _reverse(self, condition: Reverse) -> Piece:
        inner = self._inner(condition.source)
        met = inner.meets(condition.condition)
        if met == NEVER:
            return NEVER
        return any_of(
            self._reversed(each, inner, met, f"{base}{self.resource_type}/")
            for each in (condition.parameter, *condition.parameter.parts)
            if each.key
            for base in self.values.bases(each)
        )

    def _reversed(self, parameter: Parameter, inner: "Rows", met: Piece, prefix: str) -> Piece:
        """Some row of the other type refers to this one, by a prefix and its id, and meets the condition."""
        column, here = column_of(parameter), f"? || {self.resource}.id"
        source, where = inner.source()
        if column:
            # Asked of each row in turn: the chart index answers, where walking all that meets the condition would not.
            text = (
                f"EXISTS (SELECT 1 FROM {source} WHERE"  # noqa: S608
                f" {inner.observation}.{column} = (SELECT id FROM term WHERE text = {here}) AND {met.text})"
            )
            return Piece(text, (prefix, *met.values))
        number = self.values.session.terms.find(parameter.key)
        inside = all_of([where, met])
        names = (
            f"SELECT substr(value, {len(prefix) + 1}) FROM text_index WHERE parameter = ? AND value >= ? AND value < ?"  # noqa: S608
            f" AND pk IN (SELECT {inner.pk} FROM {source} WHERE {inside.text})"
        )
        values = (number, prefix, f"{prefix[:-1]}0", *inside.values)
        ids = Piece(f"type = ? AND id IN ({names})", (self.values.session.terms.find(self.resource_type), *values))
        return self._in_rows("resource", ids)
