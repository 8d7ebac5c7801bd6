"""Sort keys of a search as SQL: the least value of each resource upwards, the greatest downwards, none last."""

from pulseweir.fhir_store.dates import NO_DATE
from pulseweir.fhir_store.parameters import Parameter
from pulseweir.fhir_store.search_conditions import Rows, column_of, component_column_of

_BEYOND_NUMBERS = "1.79e308"
_BEYOND_DATES = str(2**62)
_BEYOND_TEXTS = "char(1114111)"


def sort_key(rows: Rows, parameter: Parameter, *, down: bool) -> str:
    """The expression to sort by; where a resource has no value, one beyond all values in the direction."""
    if parameter.kind == "id":
        return f"{rows.resource}.id"
    if parameter.kind == "updated":
        return f"{rows.resource}.updated"
    if parameter.parts:
        keys = [sort_key(rows, part, down=down) for part in parameter.parts]
        return keys[0] if len(keys) == 1 else f"{'max' if down else 'min'}({', '.join(keys)})"
    absent = _absent(parameter, down=down)
    if component_column_of(parameter):
        return f"coalesce(({_component(rows, parameter, down=down)}), {absent})"
    column = column_of(parameter)
    if column and rows.has_columns:
        return f"coalesce({_column(rows, column)}, {absent})" if column != "low" else _date(rows, down=down)
    find = rows.values.session.terms.find
    table, held = {"date": ("range_index", "low"), "number": ("range_index", "low")}.get(
        parameter.kind, ("amount_index", "low") if parameter.kind == "quantity" else ("text_index", "value")
    )
    where = f"i.pk = {rows.pk} AND i.parameter = {int(find(parameter.key) or 0)}"
    if parameter.target:
        where += f" AND i.value >= '{parameter.target}/' AND i.value < '{parameter.target}0'"
    picked = f"SELECT {'max' if down else 'min'}(i.{held}) FROM {table} i WHERE {where}"  # noqa: S608 - own names
    return f"coalesce(({picked}), {absent})"


def is_chart_order(rows: Rows, parameter: Parameter, *, down: bool) -> bool:
    """Whether the key is the date upwards, which the chart index gives but for Observations without a date."""
    return rows.has_columns and column_of(parameter) == "low" and not down


def _date(rows: Rows, *, down: bool) -> str:
    name = f"{rows.observation}.low"
    return name if down else f"CASE WHEN {name} = {NO_DATE} THEN {_BEYOND_DATES} ELSE {name} END"


def _absent(parameter: Parameter, *, down: bool) -> str:
    if parameter.kind == "date":
        return f"-{_BEYOND_DATES}" if down else _BEYOND_DATES
    if parameter.kind in {"number", "quantity"}:
        return f"-{_BEYOND_NUMBERS}" if down else _BEYOND_NUMBERS
    return "''" if down else _BEYOND_TEXTS


def _column(rows: Rows, column: str) -> str:
    held = f"{rows.observation}.{column}"
    if column == "value_low":
        return held
    name = f"SELECT text FROM term WHERE id = {held}"  # noqa: S608 - own names
    if column in {"subject", "device", "encounter", "status"}:
        return f"({name})"
    # The name of a set of codings begins with its first system, then a separator, then the code.
    return f"(SELECT substr(text, instr(text, char(31)) + 1) FROM term WHERE id = {held})"  # noqa: S608


def _component(rows: Rows, parameter: Parameter, *, down: bool) -> str:
    pick = "max" if down else "min"
    column = component_column_of(parameter)
    if column == "value_low":
        return f"SELECT {pick}(c.value_low) FROM observation_component c WHERE c.pk = {rows.pk}"  # noqa: S608
    code = "substr(t.text, instr(t.text, char(31)) + 1)"
    joined = f"observation_component c JOIN term t ON t.id = c.{column}"
    return f"SELECT {pick}({code}) FROM {joined} WHERE c.pk = {rows.pk}"  # noqa: S608
