"""Step 4: JMESPath with the predecessor's functions, checked when the mapping loads. Pure."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jmespath
from jmespath import exceptions, visitor

from pulseweir.ingest.device_mapping.budget import (
    LIST_LIMIT,
    QUERY_START_STEPS,
    QUERY_STEPS,
    SLICE_SHIFT,
    Budget,
    text_steps,
    tree_steps,
)
from pulseweir.ingest.device_mapping.jmespath_functions import DialectFunctions
from pulseweir.ingest.device_mapping.located_json import is_broken
from pulseweir.ingest.device_mapping.tokens import ExpressionFault

Tree = dict[str, Any]
_EQUALITIES = frozenset({"eq", "ne"})
QueryError = exceptions.JMESPathError
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})


def compile_query(text: str) -> tuple[Callable[[object, Budget], object], bool]:
    """A function from a document, within a budget, to the result, and whether that result is a projection's list.

    Raises:
        ExpressionFault: Bad syntax, an unknown function or the wrong number of arguments; the function raises it
            for arguments of the wrong type, arithmetic errors and exceeded limits.
    """
    tree = parse_query(text)
    names = plain_names(tree)
    if names is not None:
        chain = _chain(names)
        return lambda document, budget: chain(document), False
    return lambda document, budget: _Interpreter(budget).run(tree, document), is_projection(tree)


def parse_query(text: str) -> Tree:
    """The checked syntax tree of a query, as the library makes it.

    Raises:
        ExpressionFault: As `compile_query`.
    """
    tree = _parse(text)
    for node in nodes_of(tree):
        if node["type"] == "function_expression":
            _check_call(text, node)
        if _is_broken(node.get("value")):
            raise ExpressionFault(
                f"The following JmesPath expression could not be parsed: {text} (half a character: a lone surrogate)."
            )
    return tree


def _is_broken(value: object) -> bool:
    """Whether a literal holds half a character anywhere, which no value can be written with."""
    if isinstance(value, dict):
        return any(_is_broken(name) or _is_broken(item) for name, item in value.items())
    if isinstance(value, list):
        return any(map(_is_broken, value))
    return isinstance(value, str) and is_broken(value)


def _parse(text: str) -> Tree:
    with warnings.catch_warnings():
        # The predecessor allows unquoted words between back-ticks; the library warns about them.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        try:
            tree: Tree = jmespath.compile(text).parsed
        except (exceptions.JMESPathError, RecursionError, ValueError) as cause:
            first = str(cause).partition("\n")[0]
            raise ExpressionFault(f"The following JmesPath expression could not be parsed: {text} ({first}).") from None
    return tree


def nodes_of(tree: Tree) -> Iterator[Tree]:
    """Every node of a tree."""
    stack: list[object] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and "children" in node:
            yield node
            stack.extend(node["children"])


def _check_call(text: str, node: Tree) -> None:
    known = DialectFunctions.FUNCTION_TABLE.get(node["value"])
    problem = "unknown function" if known is None else ""
    if known is not None:
        signature = known["signature"]
        given, needed = len(node["children"]), len(signature)
        variadic = bool(signature) and bool(signature[-1].get("variadic"))
        if given < needed or (given > needed and not variadic):
            problem = f"{needed} arguments are needed, {given} are given"
    if problem:
        raise ExpressionFault(
            f"The following JmesPath expression could not be parsed: {text} ({node['value']}: {problem})."
        )


def plain_names(tree: Tree) -> tuple[str, ...] | None:
    """The names of a query that only goes from member to member; None of any other query."""
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] == "subexpression":
        parts = [plain_names(child) for child in tree["children"]]
        if all(part is not None for part in parts):
            return tuple(name for part in parts if part is not None for name in part)
    return None


def _chain(names: tuple[str, ...]) -> Callable[[object], object]:
    def select(document: object) -> object:
        token = document
        for name in names:
            if type(token) is not dict:
                return None
            token = token.get(name)
        return token

    return select


def is_projection(tree: Tree) -> bool:
    """Whether the result of a query is a projection's list, of which each element counts."""
    while tree["type"] in {"pipe", "subexpression"}:
        tree = tree["children"][-1]
    return tree["type"] in _PROJECTIONS


class _Interpreter(visitor.TreeInterpreter):  # type: ignore[misc]
    """The library's interpreter within a budget, and with a limit on the length of every list."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(visitor.Options(custom_functions=DialectFunctions(budget)))
        self._budget = budget

    def run(self, tree: Tree, document: object) -> object:
        self._budget.spend(QUERY_START_STEPS)
        try:
            result: object = self.visit(tree, document)
        except exceptions.JMESPathTypeError as cause:
            raise ExpressionFault(
                f"Error: invalid-type, function {cause.function_name} does not take a value of type"
                f" {cause.actual_type} (it takes {'|'.join(cause.expected_types)}).",
                "invalid-type",
            ) from None
        except (exceptions.JMESPathError, ArithmeticError, TypeError, ValueError, RecursionError) as cause:
            if isinstance(cause, ExpressionFault):
                raise
            raise ExpressionFault(f"The function or operator failed ({type(cause).__name__}).") from None
        return result

    def visit(self, node: Tree, *args: object, **named: object) -> object:
        self._budget.spend(QUERY_STEPS)
        result = _VISITS[node["type"]](self, node, *args, **named)
        if type(result) is list and len(result) > LIST_LIMIT:
            raise ExpressionFault(f"The expression makes a list longer than {LIST_LIMIT}.", "limit-exceeded")
        return result

    def visit_flatten(self, node: Tree, value: object) -> object:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        merged: list[object] = []
        for element in base:
            parts = element if isinstance(element, list) else [element]
            self._budget.spend(1 + len(parts))
            merged += parts
        return merged

    def visit_slice(self, node: Tree, value: object) -> object:
        if isinstance(value, list):
            self._budget.spend(len(value) >> SLICE_SHIFT)
        return super().visit_slice(node, value)

    def visit_comparator(self, node: Tree, value: object) -> object:
        left, right = node["children"]
        return compare(node["value"], self.visit(left, value), self.visit(right, value), self._budget)


_VISITS: dict[str, Callable[..., object]] = {
    name.removeprefix("visit_"): getattr(_Interpreter, name) for name in dir(_Interpreter) if name.startswith("visit_")
}


def compare(operator: str, left: object, right: object, budget: Budget) -> object:
    """What a comparator makes of two values; None where they cannot be ordered."""
    if type(left) is type(right):
        if isinstance(left, dict | list):
            # Two values may each hold one part many times over: comparing them can take longer than making them.
            tree_steps(left, budget)
        elif isinstance(left, str):
            budget.spend(min(text_steps(left), text_steps(right)))
    if operator not in _EQUALITIES and not (_is_orderable(left) and _is_orderable(right)):
        return None
    return visitor.TreeInterpreter.COMPARATOR_FUNC[operator](left, right)


def _is_orderable(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
