"""Step 4: JSONPath steps to closures; nothing is parsed while messages flow. Pure."""

from collections.abc import Callable

from pulseweir.ingest.device_mapping.budget import MEMBER_TEST_STEPS, TEST_STEPS, VISIT_STEPS, Budget, refuse_many
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
from pulseweir.ingest.device_mapping.jsonpath_walks import Tokens, descend, members_below, objects_of
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Property

Walk = Callable[[object, Tokens, Budget], Tokens]
Check = Callable[[object, object, Budget], bool]
_NONE: Tokens = []


def compile_path(text: str) -> Callable[[object, Budget], Tokens]:
    """A function from a document, within a budget, to the tokens the path selects, in document order.

    Raises:
        ExpressionFault: The text is not a path of this dialect; the function raises it for a message that
            selects members rather than values, or too many tokens.
    """
    steps = parse(text)
    names = plain_names(steps)
    if names is not None:
        chain = _chain(names)
        return lambda document, budget: chain(document)
    walk = _path(steps)

    def select(document: object, budget: Budget) -> Tokens:
        found = walk(document, [document], budget)
        if any(type(token) is Property for token in found):
            raise ExpressionFault("A filter on an object selects its members, which are no values.")
        return found

    return select


def plain_names(steps: tuple[Step, ...]) -> tuple[str, ...] | None:
    """The names of a path that only goes from member to member; None of any other path."""
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
    walks = [compile_step(step) for step in steps]

    def walk(root: object, start: Tokens, budget: Budget) -> Tokens:
        tokens = start
        for each in walks:
            tokens = each(root, tokens, budget)
            budget.spend(len(tokens) + 1)
            refuse_many(len(tokens))
            if not tokens:
                return _NONE
        return tokens

    return walk


def compile_step(step: Step) -> Walk:
    """One step of a path: from root, tokens and budget to the next tokens."""
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
    if names is not None and len(names) == 1:
        name = names[0]
        return lambda root, tokens, budget: [token[name] for token in tokens if type(token) is dict and name in token]

    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            if type(token) is dict:
                budget.spend(len(token) if names is None else len(names))
                found += token.values() if names is None else [token[name] for name in names if name in token]
        return found

    return walk


def _scan(names: tuple[str, ...] | None) -> Walk:
    return lambda root, tokens, budget: members_below(tokens, names, budget)


def _indexes(places: tuple[int, ...] | None) -> Walk:
    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            if type(token) is list:
                budget.spend(len(token) if places is None else len(places))
                if places is None:
                    found += token
                else:
                    found += [token[place] for place in places if -len(token) <= place < len(token)]
        return found

    return walk


def _slice(part: slice) -> Walk:
    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            if type(token) is list:
                budget.spend(len(token))
                found += token[part]
        return found

    return walk


def _where(step: Where) -> Walk:
    check = compile_condition(step.condition)
    steps = steps_of_test(step.condition)
    source = children_of
    if step.scan:
        source = objects_of if needs_object(step.condition) else _all_below

    def walk(root: object, tokens: Tokens, budget: Budget) -> Tokens:
        found: Tokens = []
        for token in tokens:
            tested = source(token, budget)
            budget.spend(steps * len(tested))
            found += [value for value in tested if check(root, value, budget)]
        return found

    return walk


def _all_below(token: object, budget: Budget) -> Tokens:
    return list(descend(token, budget))


def children_of(token: object, budget: Budget) -> Tokens:
    """What a filter without scan tests: the elements of an array, the members of an object."""
    if type(token) is list:
        return token
    if type(token) is dict:
        budget.spend(VISIT_STEPS * len(token))
        return [Property(name, value) for name, value in token.items()]
    return []


def steps_of_test(condition: Condition) -> int:
    """What testing one token costs at least, in steps of the budget."""
    if isinstance(condition, Composite):
        return sum(steps_of_test(part) for part in condition.parts)
    if condition.operator == "exists" and isinstance(condition.left, Path) and len(condition.left.steps) == 1:
        step = condition.left.steps[0]
        if isinstance(step, Members) and not step.scan:
            return MEMBER_TEST_STEPS
    sides = [side for side in (condition.left, condition.right) if isinstance(side, Path)]
    return TEST_STEPS * (1 + sum(len(side.steps) for side in sides))


def needs_object(condition: Condition) -> bool:
    """Whether only objects can satisfy a condition, because every test of it asks for a member."""
    if isinstance(condition, Composite):
        judged = [needs_object(part) for part in condition.parts]
        return any(judged) if condition.every else all(judged)
    steps = condition.left.steps if isinstance(condition.left, Path) else ()
    return bool(steps) and isinstance(steps[0], Members) and not steps[0].scan


def compile_condition(condition: Condition) -> Check:
    """The test of a filter: from document, token and budget to whether the token passes."""
    if isinstance(condition, Composite):
        checks = [compile_condition(part) for part in condition.parts]
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
        return lambda root, token, budget: any(matches(value, budget) for value in left(root, token, budget))
    test = comparison(condition.operator)
    names = plain_names(condition.left.steps) if isinstance(condition.left, Path) else None
    if names is not None and len(names) == 1 and isinstance(condition.right, Constant):
        return _member_test(names[0], test, condition.right.value)
    right = _side(condition.right)

    def check(root: object, token: object, budget: Budget) -> bool:
        lefts = left(root, token, budget)
        if not lefts:
            return False
        rights = right(root, token, budget)
        budget.spend(TEST_STEPS * len(lefts) * len(rights))
        return any(test(a, b, budget) for b in rights for a in lefts)

    return check


def _member_test(name: str, test: Test, constant: object) -> Check:
    return lambda root, token, budget: type(token) is dict and name in token and test(token[name], constant, budget)


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
    names = plain_names(side.steps) if isinstance(side, Path) else None
    if names is not None and len(names) == 1:
        name = names[0]
        return lambda root, token, budget: type(token) is dict and name in token
    if names:
        chain = _chain(names)
        return lambda root, token, budget: bool(chain(token))
    values = _side(side)
    return lambda root, token, budget: bool(values(root, token, budget))
