"""Step 4: JMESPath to Python source. Pure.

Every node becomes the lines that compute it; projections become loops. Functions are called at run time, and a
function that takes an expression leaves its whole query to the interpreter.
"""

from collections.abc import Callable
from typing import Any

from pulseweir.ingest.device_mapping.budget import LIST_LIMIT, QUERY_START_STEPS, QUERY_STEPS, SLICE_SHIFT, TEXT_SHIFT
from pulseweir.ingest.device_mapping.jmes import Tree, compare, nodes_of
from pulseweir.ingest.device_mapping.jmespath_functions import CALL_STEPS, NUMERIC
from pulseweir.ingest.device_mapping.scopes import Scope
from pulseweir.ingest.device_mapping.source_lines import Source


class NotWritten(Exception):  # noqa: N818 - not an error: the interpreter takes the query
    """A query holds a node that has no source."""


def refuse_unwritten(tree: Tree) -> None:
    """Nothing, for a query that `write_query` can write.

    Raises:
        NotWritten: It hands an expression to a function.
    """
    for node in nodes_of(tree):
        if node["type"] not in _WRITERS and node["type"] != "key_val_pair":
            raise NotWritten(node["type"])


def write_query(source: Source, tree: Tree, scope: Scope) -> str:
    """Lines that compute a query; returns the name of the result.

    Args:
        source: Where lines go.
        tree: The query, which `refuse_unwritten` lets pass.
        scope: What the query is asked of.
    """
    writer = _QuerySource(source, scope)
    writer.pay(str(QUERY_START_STEPS + _steps(tree)))
    return writer.node(tree, None)


class _QuerySource:
    """Writes one query.

    Args:
        source: Where lines go.
        scope: What the query is asked of.
    """

    def __init__(self, source: Source, scope: Scope) -> None:
        self.source = source
        self.scope = scope

    def pay(self, steps: str) -> None:
        """A line that takes steps away, and one that gives up when none are left."""
        self.source.add(f"left -= {steps}")
        with self.source.block("if left < 0:"):
            self.source.add("raise Undecided")

    def node(self, tree: Tree, value: str | None) -> str:
        """Lines for one node; `value` names what it is asked of, None stands for the document."""
        return _WRITERS[tree["type"]](self, tree, value)

    def bounded(self, name: str) -> str:
        """The same name, after lines that give up when it holds a list that is too long."""
        with self.source.block(f"if type({name}) is list and len({name}) > {LIST_LIMIT}:"):
            self.source.add("raise Undecided")
        return name

    def current(self, tree: Tree, value: str | None) -> str:
        return self.bounded(self.scope.whole()) if value is None else value

    def field(self, tree: Tree, value: str | None) -> str:
        if value is None:
            return self.bounded(self.source.assign(self.scope.member((tree["value"],))))
        name = self.source.constant(tree["value"])
        return self.bounded(self.source.assign(f"{value}.get({name}) if type({value}) is dict else None"))

    def sequence(self, tree: Tree, value: str | None) -> str:
        for child in tree["children"]:
            value = self.node(child, value)
        return value or self.scope.whole()

    def index(self, tree: Tree, value: str | None) -> str:
        base, place = self.held(value), tree["value"]
        inside = f"type({base}) is list and {-place if place < 0 else place + 1} <= len({base})"
        return self.bounded(self.source.assign(f"{base}[{place}] if {inside} else None"))

    def slice(self, tree: Tree, value: str | None) -> str:
        base = self.held(value)
        part = self.source.object(slice(*tree["children"]))
        result = self.source.assign(f"{base}[{part}] if type({base}) is list else None")
        with self.source.block(f"if {result} is not None:"):
            self.source.add(f"left -= len({base}) >> {SLICE_SHIFT}")
        return result

    def held(self, value: str | None) -> str:
        return self.scope.whole() if value is None else value

    def flatten(self, tree: Tree, value: str | None) -> str:
        base = self.node(tree["children"][0], value)
        result = self.source.assign(f"flatten({base})")
        with self.source.block(f"if {result} is not None:"):
            self.source.add(f"left -= len({base}) + len({result})")
        return result

    def literal(self, tree: Tree, value: str | None) -> str:
        return self.source.assign(self.source.constant(tree["value"]))

    def projection(self, tree: Tree, value: str | None) -> str:
        base, each = tree["children"]
        return self.loop(self.node(base, value), "list", "{}", each, None)

    def value_projection(self, tree: Tree, value: str | None) -> str:
        base, each = tree["children"]
        return self.bounded(self.loop(self.node(base, value), "dict", "{}.values()", each, None))

    def filter_projection(self, tree: Tree, value: str | None) -> str:
        base, each, condition = tree["children"]
        return self.loop(self.node(base, value), "list", "{}", each, condition)

    def loop(self, base: str, kind: str, elements: str, each: Tree, condition: Tree | None) -> str:
        source = self.source
        collected = source.assign("None")
        with source.block(f"if type({base}) is {kind}:"):
            self.pay(f"len({base}) * {_steps(each) + (_steps(condition) if condition else 0)}")
            source.add(f"{collected} = []")
            element = source.name("e")
            with source.block(f"for {element} in {elements.format(base)}:"):
                if condition is not None:
                    with source.block(f"if is_false({self.node(condition, element)}):"):
                        source.add("continue")
                found = self.node(each, element)
                with source.block(f"if {found} is not None:"):
                    source.add(f"{collected}.append({found})")
        return collected

    def comparator(self, tree: Tree, value: str | None) -> str:
        left, right = (self.node(child, value) for child in tree["children"])
        literal = tree["children"][1]
        if tree["value"] in {"eq", "ne"} and literal["type"] == "literal":
            equal = _equals_literal(left, right, literal["value"])
            if equal:
                return self.source.assign(f"not ({equal})" if tree["value"] == "ne" else equal)
        return self.source.assign(f"compare({tree['value']!r}, {left}, {right}, budget)")

    def either(self, tree: Tree, value: str | None) -> str:
        return self.shortened(tree, value, "if is_false({}):")

    def both(self, tree: Tree, value: str | None) -> str:
        return self.shortened(tree, value, "if not is_false({}):")

    def shortened(self, tree: Tree, value: str | None, head: str) -> str:
        first, second = tree["children"]
        result = self.source.assign(self.node(first, value))
        with self.source.block(head.format(result)):
            self.source.add(f"{result} = {self.branch(second, value)}")
        return result

    def branch(self, tree: Tree, value: str | None) -> str:
        """A node that is computed in a block only."""
        return _QuerySource(self.source, self.scope.branch()).node(tree, value)

    def negation(self, tree: Tree, value: str | None) -> str:
        result = self.node(tree["children"][0], value)
        is_zero = f"type({result}) is not bool and isinstance({result}, (int, float)) and {result} == 0"
        return self.source.assign(f"False if {is_zero} else not {result}")

    def list_of(self, tree: Tree, value: str | None) -> str:
        return self.made(tree, value, lambda parts: f"[{', '.join(parts)}]")

    def object_of(self, tree: Tree, value: str | None) -> str:
        names = [self.source.constant(child["value"]) for child in tree["children"]]

        def made(parts: list[str]) -> str:
            return "{" + ", ".join(f"{name}: {part}" for name, part in zip(names, parts, strict=True)) + "}"

        return self.made(tree, value, made)

    def made(self, tree: Tree, value: str | None, shown: Callable[[list[str]], str]) -> str:
        held = self.held(value)
        result = self.source.assign("None")
        with self.source.block(f"if {held} is not None:"):
            nodes = [child["children"][0] if child["type"] == "key_val_pair" else child for child in tree["children"]]
            self.source.add(f"{result} = {shown([self.branch(node, value) for node in nodes])}")
        return result

    def function(self, tree: Tree, value: str | None) -> str:
        name = tree["value"]
        arguments = ", ".join([self.node(child, value) for child in tree["children"]])
        if name in NUMERIC:
            return self.source.assign(f"{self.source.object(NUMERIC[name])}({arguments})")
        return self.bounded(self.source.assign(f"functions.call_function({name!r}, [{arguments}])"))


def _equals_literal(name: str, literal: str, value: object) -> str | None:
    """A test of equality with a literal; None where only the general one is exact."""
    if value is None or isinstance(value, bool):
        return f"{name} is {value}"
    if isinstance(value, str):
        return f"{name} == {literal}"
    if isinstance(value, int | float):
        return f"{name} == {literal} and type({name}) is not bool" if value in {0, 1} else f"{name} == {literal}"
    return None


def _steps(tree: Tree) -> int:
    """What the interpreter pays for a node at most, loops aside: those pay as they turn."""
    own = QUERY_STEPS
    children = [child for child in tree["children"] if isinstance(child, dict)] if "children" in tree else []
    if tree["type"] in {"projection", "value_projection", "filter_projection"}:
        children = children[:1]
    elif tree["type"] == "function_expression":
        own += CALL_STEPS
    elif tree["type"] == "literal" and isinstance(tree["value"], str):
        own += len(tree["value"]) >> TEXT_SHIFT
    return own + sum(_steps(child) for child in children)


_WRITERS: dict[str, Callable[[_QuerySource, Tree, Any], str]] = {
    "field": _QuerySource.field,
    "subexpression": _QuerySource.sequence,
    "index_expression": _QuerySource.sequence,
    "pipe": _QuerySource.sequence,
    "index": _QuerySource.index,
    "slice": _QuerySource.slice,
    "flatten": _QuerySource.flatten,
    "literal": _QuerySource.literal,
    "identity": _QuerySource.current,
    "current": _QuerySource.current,
    "projection": _QuerySource.projection,
    "value_projection": _QuerySource.value_projection,
    "filter_projection": _QuerySource.filter_projection,
    "comparator": _QuerySource.comparator,
    "or_expression": _QuerySource.either,
    "and_expression": _QuerySource.both,
    "not_expression": _QuerySource.negation,
    "multi_select_list": _QuerySource.list_of,
    "multi_select_dict": _QuerySource.object_of,
    "function_expression": _QuerySource.function,
}

RUNTIME = {"compare": compare}
