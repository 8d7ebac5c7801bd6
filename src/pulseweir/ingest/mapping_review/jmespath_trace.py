"""Step 4: at which sub-expression a JMESPath found nothing, was refused or was not true. Pure.

Every part is tried by the expression compiler that normalizes messages, so a trace never knows better than it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.jmes import Tree, compile_query, is_projection, parse_query, plain_names
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from pulseweir.ingest.mapping_review.jmespath_text import tree_text
from pulseweir.ingest.mapping_review.message_paths import ELEMENT, Segments, describe, kind_of, path_text
from pulseweir.ingest.mapping_review.stop import Stop, Surroundings, case_hint

_CANDIDATE_LIMIT = 300
_PROJECTIONS = {"projection", "value_projection", "filter_projection"}
_CHAINS = {"subexpression", "index_expression", "pipe"}
_WRAP = "A filter goes over an array. To test one object, wrap it: to_array(@)[?…], or [Body][?…]."


class _Answer(NamedTuple):
    token: object
    fault: ExpressionFault | None


def trace_jmespath(text: str, document: object, around: Surroundings) -> Stop | None:
    """Where a JMESPath stops on a document; None when it yields something.

    Args:
        text: The expression.
        document: What ``@`` is.
        around: The paths of the whole document.

    >>> from pulseweir.ingest.mapping_review.message_paths import MessagePaths
    >>> envelope = {"Body": {"heartRate": 61}}
    >>> stop = trace_jmespath("Body.heartrate", envelope, Surroundings(MessagePaths.of(envelope)))
    >>> stop.because, stop.nearest
    ('Body is an object with heartRate: no member heartrate.', 'Body.heartRate')
    """
    try:
        tree = parse_query(text)
    except ExpressionFault as fault:
        hints = ("Names with signs in them stand in double quotes, texts in single ones.",) if '"' in text else ()
        return Stop(text, str(fault), hints=hints, distance=100)
    return _Trace(around).stop(tree, document, ())


def boolean_hint(text: str) -> str | None:
    """What to know about a type match whose result is no projection; None for any other expression."""
    try:
        tree = parse_query(text)
    except ExpressionFault:
        return None
    if is_projection(tree) or plain_names(tree) is not None:
        return None
    return "The result is no projection: every result but null is one match, even false or an empty list."


@dataclass(frozen=True, slots=True)
class _Trace:
    around: Surroundings

    def stop(self, tree: Tree, token: object, base: Segments) -> Stop | None:
        answer = _evaluate(tree, token)
        if answer.fault is None and not _is_nothing(tree, answer.token):
            return None
        base = self.location(token, base)
        found = self.inside(tree, token, base)
        if found is not None:
            return found
        shown = tree_text(tree)
        return Stop(shown, str(answer.fault) if answer.fault else f"it is null of {describe(token)}.")

    def inside(self, tree: Tree, token: object, base: Segments) -> Stop | None:
        kind = tree["type"]
        if kind == "field":
            return self.field(tree, token, base)
        if kind in _CHAINS:
            return self.chain(tree["children"], token, base)
        if kind in _PROJECTIONS:
            return self.projection(tree, token, base)
        if kind == "function_expression":
            return self.call(tree, token, base)
        if kind in {"index", "slice"}:
            return self.element(tree, token)
        if kind == "not_expression":
            return None
        stops = (self.stop(child, token, base) for child in tree["children"])
        return next((stop for stop in stops if stop is not None), None)

    def field(self, tree: Tree, token: object, base: Segments) -> Stop:
        name, shown = tree["value"], tree_text(tree)
        where = self.around.place_text(base)
        if isinstance(token, dict) and name in token:
            return Stop(shown, f"{path_text((*base, name))} is null.")
        nearest = self.around.nearest((*base, name))
        hints = case_hint(name, nearest)
        if isinstance(token, list):
            hints = (f"An array has no members: write [*].{name}, or [0].{name} for its first element.",)
        return Stop(shown, f"{where} is {describe(token)}: no member {name}.", nearest, hints)

    def element(self, tree: Tree, token: object) -> Stop:
        if isinstance(token, list):
            return Stop(tree_text(tree), f"the array has {len(token)} elements.")
        return Stop(tree_text(tree), f"there is {describe(token)}, not an array.")

    def chain(self, children: Sequence[Tree], token: object, base: Segments) -> Stop | None:
        for child in children:
            stop = self.stop(child, token, base)
            if stop is not None:
                later = self.around.nearest((*base, *_names_from(children[list(children).index(child) :])))
                return replace(stop, nearest=later or stop.nearest) if child["type"] == "field" else stop
            token = _evaluate(child, token).token
            base = self.location(token, (*base, *_names_from([child])))
        return None

    def projection(self, tree: Tree, token: object, base: Segments) -> Stop | None:
        left, right = tree["children"][:2]
        stop = self.stop(left, token, base)
        if stop is not None:
            return stop
        over = _evaluate(left, token).token
        wanted = dict if tree["type"] == "value_projection" else list
        shown = tree_text({**tree, "children": [left, {"type": "identity", "children": []}, *tree["children"][2:]]})
        if not isinstance(over, wanted):
            hint = _WRAP if tree["type"] == "filter_projection" else "[*] goes over arrays, .* over objects."
            return Stop(shown, f"there is {describe(over)}.", hints=(hint,))
        elements = list(over.values()) if isinstance(over, dict) else list(over) if isinstance(over, list) else []
        if not elements:
            return Stop(shown, f"there is {describe(over)}: nothing to go over.")
        if tree["type"] == "filter_projection":
            failed = self.condition(tree["children"][2], elements[:_CANDIDATE_LIMIT], base)
            if failed is not None:
                return failed
        return self.stop(right, elements[0], (*base, *_names_from([left]), ELEMENT))

    def condition(self, condition: Tree, elements: Sequence[object], base: Segments) -> Stop | None:
        rated = [(*self.blame(condition, element), at) for at, element in enumerate(elements)]
        count, leaves, at = min(rated, key=lambda one: (one[0], one[2]))
        if not count:
            return None
        stop = self.failed_test(leaves[0], elements[at], base)
        others = ", ".join(tree_text(leaf) for leaf in leaves[1:])
        return replace(
            stop, because=stop.because + (f" Not true there either: {others}." if others else ""), distance=count
        )

    def blame(self, condition: Tree, element: object) -> tuple[int, list[Tree]]:
        """How many tests are missing for a condition to hold, and which."""
        if condition["type"] not in {"and_expression", "or_expression"}:
            answer = _evaluate(condition, element)
            return (0, []) if answer.fault is None and _is_true(answer.token) else (1, [condition])
        parts = [self.blame(part, element) for part in condition["children"]]
        leaves = [leaf for _, found in parts for leaf in found]
        if condition["type"] == "and_expression":
            return sum(count for count, _ in parts), leaves
        least = min(count for count, _ in parts)
        return least, leaves if least else []

    def failed_test(self, test: Tree, element: object, base: Segments) -> Stop:
        shown, base = tree_text(test), self.location(element, base)
        for side in test["children"] if test["type"] == "comparator" else [test]:
            stop = self.stop(side, element, base) if side["type"] != "literal" else None
            if stop is not None:
                return Stop(shown, stop.because, stop.nearest, stop.hints)
        if test["type"] == "comparator":
            left, right = (_evaluate(side, element).token for side in test["children"])
            return Stop(shown, f"{tree_text(test['children'][0])} is {self._compared(left, right)}")
        wanted = _asked_name(test)
        if wanted is not None:
            nearest = self.around.nearest((*base, wanted))
            return Stop(shown, f"there is {describe(element)}.", nearest, case_hint(wanted, nearest))
        return Stop(shown, f"it is not true of {describe(element)}.")

    def _compared(self, left: object, right: object) -> str:
        told = self.around.told(left)
        if _family(left) != _family(right):
            return f"{told}, compared with {describe(right)}."
        return f"{told}: the comparison is not true."

    def call(self, tree: Tree, token: object, base: Segments) -> Stop | None:
        for argument in tree["children"]:
            stop = None if argument["type"] in {"literal", "expref"} else self.stop(argument, token, base)
            if stop is not None:
                return stop
        kinds = [kind_of(_evaluate(one, token).token) for one in tree["children"] if one["type"] != "expref"]
        fault = _evaluate(tree, token).fault
        why = str(fault) if fault else "its result is null."
        return Stop(tree_text(tree), f"{tree['value']} was given {', '.join(kinds) or 'nothing'}: {why}")

    def location(self, token: object, base: Segments) -> Segments:
        found = self.around.paths.place(token)
        return base if found is None else found


@lru_cache(maxsize=1_024)
def _compiled(text: str) -> tuple[Callable[[object, Budget], object], bool]:
    return compile_query(text)


def _evaluate(tree: Tree, token: object) -> _Answer:
    try:
        evaluate, _ = _compiled(tree_text(tree))
        return _Answer(evaluate(token, Budget()), None)
    except ExpressionFault as fault:
        return _Answer(None, fault)


def _is_nothing(tree: Tree, token: object) -> bool:
    return token is None or (is_projection(tree) and token == [])


def _is_true(token: object) -> bool:
    return token is not None and token is not False and token not in ("", [], {})


def _names_from(children: Sequence[Tree]) -> Segments:
    names: list[str] = []
    for child in children:
        found = plain_names(child)
        if found is None:
            break
        names += found
    return tuple(names)


def _asked_name(test: Tree) -> str | None:
    """The name that a test of the form ``contains(keys(@), 'name')`` asks for."""
    if test["type"] != "function_expression" or test["value"] != "contains":
        return None
    over, wanted = test["children"]
    is_keys = over["type"] == "function_expression" and over["value"] == "keys"
    return str(wanted["value"]) if is_keys and wanted["type"] == "literal" else None


def _family(token: object) -> str:
    return "number" if kind_of(token) in {"integer", "number"} else kind_of(token)
