"""Step 4: JMESPath formulas over scalar members, such as a unit turned into another, as Python closures. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.jmes import QueryError, Tree, nodes_of, parse_query, plain_names
from pulseweir.ingest.device_mapping.jmespath_functions import NUMERIC, DialectFunctions
from pulseweir.ingest.device_mapping.tokens import ExpressionFault

Names = tuple[str, ...]
Compute = Callable[[Sequence[object]], object]
_STANDARD = frozenset({"abs", "ceil", "floor", "to_number", "to_string"})
_FAULTS = (ExpressionFault, QueryError, ArithmeticError, TypeError, ValueError)


class NoFormula(ValueError):  # noqa: N818 - not an error: the other tiers take the query
    """A query is more than functions of members and constants."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A query that computes a value of scalar members.

    Attributes:
        text: As written in the mapping.
        paths: The members it reads.
        compute: From their values, None for those that are missing, to the result.
        nodes: Of its syntax tree: what evaluating it costs is in proportion.
    """

    text: str
    paths: tuple[Names, ...]
    compute: Compute = field(compare=False)
    nodes: int = field(compare=False)


def formula_of(text: str, located: Callable[[Names], Names]) -> Formula:
    """The formula of a query.

    Args:
        text: The query.
        located: From the names of a member to its path.

    Raises:
        NoFormula: It is something else.
        ExpressionFault: It is no query.
    """
    tree = parse_query(text)
    paths: list[Names] = []
    compute = _compiled(tree, located, paths)
    if not paths:
        raise NoFormula
    return Formula(text, tuple(paths), compute, sum(1 for _ in nodes_of(tree)))


def results_of(formula: Formula, columns: Iterable[Sequence[object]]) -> tuple[list[object], list[bool]]:
    """The result for each message, and for which messages there is none to be had.

    Args:
        formula: What to compute.
        columns: The values of each of its members by message; UNSET where there is none.
    """
    results: list[object] = []
    failed: list[bool] = []
    for row in zip(*columns, strict=True):
        values = [None if value is UNSET else value for value in row]
        result: object = UNSET
        # Without any of its members a formula mostly fails, and a template mostly does not match.
        is_failed = not any(value is not None for value in values)
        if not is_failed:
            try:
                result = formula.compute(values)
            except _FAULTS:
                is_failed = True
        results.append(result)
        failed.append(is_failed)
    return results, failed


def _compiled(tree: Tree, located: Callable[[Names], Names], paths: list[Names]) -> Compute:
    names = plain_names(tree)
    if names is not None:
        path = located(names)
        if path not in paths:
            paths.append(path)
        place = paths.index(path)
        return lambda values: values[place]
    if tree["type"] == "literal" and not isinstance(tree["value"], list | dict):
        constant = tree["value"]
        return lambda values: constant
    if tree["type"] != "function_expression":
        raise NoFormula
    arguments = [_compiled(child, located, paths) for child in tree["children"]]
    name = tree["value"]
    if name in NUMERIC:
        return _numeric(NUMERIC[name], arguments)
    if name in _STANDARD:
        functions = DialectFunctions
        return lambda values: functions(Budget()).call_function(name, [argument(values) for argument in arguments])
    raise NoFormula


def _numeric(function: Callable[..., object], arguments: list[Compute]) -> Compute:
    if len(arguments) == 1:
        (only,) = arguments
        return lambda values: function(only(values))
    first, second = arguments
    return lambda values: function(first(values), second(values))
