"""Step 4: JMESPath with the predecessor's functions, checked when the mapping loads. Pure."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jmespath
from jmespath import exceptions, visitor

from pulseweir.ingest.device_mapping.jmespath_functions import DialectFunctions
from pulseweir.ingest.device_mapping.tokens import ExpressionFault

VISIT_LIMIT = 200_000
LIST_LIMIT = 10_000
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})


def compile_query(text: str) -> tuple[Callable[[object], object], bool]:
    """A function from a document to the result, and whether that result is a projection's list.

    Raises:
        ExpressionFault: Bad syntax, an unknown function or the wrong number of arguments; the function raises it
            for arguments of the wrong type, arithmetic errors and exceeded limits.
    """
    tree = _parse(text)
    for node in _nodes(tree):
        if node["type"] == "function_expression":
            _check_call(text, node)
    names = _plain_names(tree)
    if names is not None:
        return _chain(names), False
    interpreter = _Interpreter(visitor.Options(custom_functions=DialectFunctions()))
    return lambda document: interpreter.run(tree, document), _is_projection(tree)


def _parse(text: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        # The predecessor allows unquoted words between back-ticks; the library warns about them.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        try:
            tree: dict[str, Any] = jmespath.compile(text).parsed
        except (exceptions.JMESPathError, RecursionError, ValueError) as cause:
            first = str(cause).partition("\n")[0]
            raise ExpressionFault(f"The following JmesPath expression could not be parsed: {text} ({first}).") from None
    return tree


def _nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    stack: list[object] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and "children" in node:
            yield node
            stack.extend(node["children"])


def _check_call(text: str, node: dict[str, Any]) -> None:
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


def _plain_names(tree: dict[str, Any]) -> tuple[str, ...] | None:
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] == "subexpression":
        parts = [_plain_names(child) for child in tree["children"]]
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


def _is_projection(tree: dict[str, Any]) -> bool:
    while tree["type"] in {"pipe", "subexpression"}:
        tree = tree["children"][-1]
    return tree["type"] in _PROJECTIONS


class _Interpreter(visitor.TreeInterpreter):  # type: ignore[misc]
    """The library's interpreter with a limit on visits and on the length of every list it makes."""

    def run(self, tree: dict[str, Any], document: object) -> object:
        self._visits_left = VISIT_LIMIT
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

    def visit(self, node: dict[str, Any], *args: object, **named: object) -> object:
        self._visits_left -= 1
        if self._visits_left < 0:
            raise ExpressionFault(f"The expression takes more than {VISIT_LIMIT} steps.", "limit-exceeded")
        result = super().visit(node, *args, **named)
        if type(result) is list and len(result) > LIST_LIMIT:
            raise ExpressionFault(f"The expression makes a list longer than {LIST_LIMIT}.", "limit-exceeded")
        return result
