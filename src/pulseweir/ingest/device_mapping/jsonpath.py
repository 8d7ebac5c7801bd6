"""Step 4: JSONPath steps to closures; nothing is parsed while messages flow. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pulseweir.ingest.device_mapping.comparisons import Test, comparison, compile_pattern, matches_pattern
from pulseweir.ingest.device_mapping.jsonpath_parser import (
    Comparison,
    Composite,
    Condition,
    Constant,
    Indexes,
    Members,
    Path,
    Pattern,
    Root,
    Side,
    Slice,
    Step,
    Where,
    parse,
)
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Property

MATCH_LIMIT = 10_000
VISIT_LIMIT = 500_000


@dataclass(slots=True)
class Budget:
    """How many tokens one evaluation may still visit."""

    visits: int = VISIT_LIMIT

    def spend(self, visits: int) -> None:
        """Take visits away.

        Raises:
            ExpressionFault: None are left.
        """
        self.visits -= visits
        if self.visits < 0:
            raise ExpressionFault(f"The expression visits more than {VISIT_LIMIT} tokens.", "limit-exceeded")


Tokens = list[object]
Walk = Callable[[object, Tokens, Budget], Tokens]
Check = Callable[[object, object, Budget], bool]
_NONE: Tokens = []


def compile_path(text: str) -> Callable[[object], Tokens]:
    """A function from a document to the tokens the path selects, in document order.

    Raises:
        ExpressionFault: The text is not a path of this dialect; the function raises it for a message that
            selects members rather than values, or too many tokens.
    """
    steps = parse(text)
    names = _plain_names(steps)
    if names is not None:
        return _chain(names)
    walk = _path(steps)

    def select(document: object) -> Tokens:
        found = walk(document, [document], Budget())
        if any(type(token) is Property for token in found):
            raise ExpressionFault("A filter on an object selects its members, which are no values.")
        return found

    return select


def _plain_names(steps: tuple[Step, ...]) -> tuple[str, ...] | None:
    names: list[str] = []
    for step in steps:
        if not isinstance(step, Members) or step.scan or step.names is None or len(step.names) != 1:
            return None
        names.append(step.names[0])
    return tuple(names)


def _chain(names: tuple[str, ...]) -> Callable[[object], Tokens]:
    def select(document: object) -> Tokens:
        token = document
        for name in names:
            if type(token) is not dict or name not in token:
                return []
            token = token[name]
        return [token]

    return select


def _path(steps: tuple[Step, ...]) -> Walk:
    walks = [_step(step) for step in steps]

    def walk(root: object, start: Tokens, budget: Budget) -> Tokens:
        tokens = start
        for each in walks:
            tokens = each(root, tokens, budget)
            budget.spend(len(tokens))
            if len(tokens) > MATCH_LIMIT:
                raise ExpressionFault(f"The expression selects more than {MATCH_LIMIT} tokens.", "limit-exceeded")
            if not tokens:
                return _NONE
        return tokens

    return walk


def _step(step: Step) -> Walk:
    if isinstance(step, Root):
        return lambda root, tokens, budget: [root]
    if isinstance(step, Members):
        return _scan(step.names) if step.scan else _members(step.names)
    if isinstance(step, Indexes):
        return _indexes(step.places)
    if isinstance(step, Slice):
        return _slice(slice(step.start, step.stop, step.step))
    return _where(step)


def _members(names: tuple[str, ...] | None) -> Walk:
    if names is None:
        return lambda root, tokens, budget: [
            value for token in tokens if type(token) is dict for value in token.values()
        ]
    if len(names) == 1:
        name = names[0]
        return lambda root, tokens, budget: [token[name] for token in tokens if type(token) is dict and name in token]
    return lambda root, tokens, budget: [
        token[name] for token in tokens if type(token) is dict for name in names if name in token
    ]


def _scan(names: tuple[str, ...] | None) -> Walk:
    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            for name, value in _descend(token, budget):
                if names is None or name in names:
                    found.append(value)  # noqa: PERF401
        return found

    return walk


def _descend(token: object, budget: Budget) -> Iterator[tuple[str | None, object]]:
    """The token and all descendants in document order, each with its member name if it has one."""
    stack: list[tuple[str | None, object]] = [(None, token)]
    while stack:
        pair = stack.pop()
        yield pair
        value = pair[1]
        if type(value) is dict:
            budget.spend(len(value))
            stack.extend(reversed(value.items()))
        elif type(value) is list:
            budget.spend(len(value))
            stack.extend((None, item) for item in reversed(value))


def _indexes(places: tuple[int, ...] | None) -> Walk:
    if places is None:
        return lambda root, tokens, budget: [item for token in tokens if type(token) is list for item in token]
    return lambda root, tokens, budget: [
        token[place] for token in tokens if type(token) is list for place in places if -len(token) <= place < len(token)
    ]


def _slice(part: slice) -> Walk:
    return lambda root, tokens, budget: [item for token in tokens if type(token) is list for item in token[part]]


def _where(step: Where) -> Walk:
    check = _condition(step.condition)
    if step.scan and _needs_object(step.condition):
        return lambda root, tokens, budget: [
            value for token in tokens for value in _objects(token, budget) if check(root, value, budget)
        ]
    if step.scan:
        return lambda root, tokens, budget: [
            value for token in tokens for _, value in _descend(token, budget) if check(root, value, budget)
        ]

    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            children: Tokens = []
            if type(token) is list:
                children = token
            elif type(token) is dict:
                children = [Property(name, value) for name, value in token.items()]
            found.extend(child for child in children if check(root, child, budget))
        return found

    return walk


def _needs_object(condition: Condition) -> bool:
    """Whether only objects can satisfy a condition, because every test of it asks for a member."""
    if isinstance(condition, Composite):
        judged = [_needs_object(part) for part in condition.parts]
        return any(judged) if condition.every else all(judged)
    steps = condition.left.steps if isinstance(condition.left, Path) else ()
    return bool(steps) and isinstance(steps[0], Members) and not steps[0].scan


def _objects(token: object, budget: Budget) -> Tokens:
    """Every object among the token and its descendants, in document order."""
    found: Tokens = []
    stack: Tokens = [token]
    while stack:
        value = stack.pop()
        if type(value) is dict:
            found.append(value)
            children: Tokens = [child for child in value.values() if type(child) is dict or type(child) is list]
            budget.spend(len(value))
        elif type(value) is list:
            children = [child for child in value if type(child) is dict or type(child) is list]
            budget.spend(len(value))
        else:
            continue
        children.reverse()
        stack += children
    return found


def _condition(condition: Condition) -> Check:
    if isinstance(condition, Composite):
        checks = [_condition(part) for part in condition.parts]
        if condition.every:
            return lambda root, token, budget: all(check(root, token, budget) for check in checks)
        return lambda root, token, budget: any(check(root, token, budget) for check in checks)
    return _comparison(condition)


def _comparison(condition: Comparison) -> Check:
    left = _side(condition.left)
    if condition.operator == "exists" or condition.right is None:
        return _exists(condition.left)
    if condition.operator == "=~":
        if not isinstance(condition.right, Pattern):
            raise ExpressionFault("The right side of =~ is a regular expression between slashes.")
        matches = matches_pattern(compile_pattern(condition.right.text, condition.right.flags))
        return lambda root, token, budget: any(matches(value) for value in left(root, token, budget))
    test = comparison(condition.operator)
    names = _plain_names(condition.left.steps) if isinstance(condition.left, Path) else None
    if names is not None and len(names) == 1 and isinstance(condition.right, Constant):
        return _member_test(names[0], test, condition.right.value)
    right = _side(condition.right)

    def check(root: object, token: object, budget: Budget) -> bool:
        lefts = left(root, token, budget)
        return bool(lefts) and any(test(a, b) for b in right(root, token, budget) for a in lefts)

    return check


def _member_test(name: str, test: Test, constant: object) -> Check:
    return lambda root, token, budget: type(token) is dict and name in token and test(token[name], constant)


def _side(side: Side) -> Callable[[object, object, Budget], Tokens]:
    if isinstance(side, Path):
        walk = _path(side.steps)
        return lambda root, token, budget: walk(root, [token], budget)
    if isinstance(side, Constant):
        constant: Tokens = [side.value]
        return lambda root, token, budget: constant
    pattern: Tokens = [f"/{side.text}/{side.flags}"]
    return lambda root, token, budget: pattern


def _exists(side: Side) -> Check:
    names = _plain_names(side.steps) if isinstance(side, Path) else None
    if names is not None and len(names) == 1:
        name = names[0]
        return lambda root, token, budget: type(token) is dict and name in token
    if names:
        chain = _chain(names)
        return lambda root, token, budget: bool(chain(token))
    values = _side(side)
    return lambda root, token, budget: bool(values(root, token, budget))
