"""Step 4: JSONPath steps to Python source. Pure.

A path of single members and places becomes a chain of look-ups; any other step becomes a comprehension over the
tokens so far. Tests of a filter become one Python expression where that is exact, and call the interpreter's test
where it is not.
"""

from pulseweir.ingest.device_mapping.budget import MATCH_LIMIT, TEXT_SHIFT
from pulseweir.ingest.device_mapping.comparisons import comparison, compile_pattern, matches_pattern
from pulseweir.ingest.device_mapping.jsonpath import (
    children_of,
    compile_condition,
    compile_step,
    needs_object,
    plain_names,
    steps_of_test,
)
from pulseweir.ingest.device_mapping.jsonpath_parser import (
    Comparison,
    Composite,
    Condition,
    Constant,
    Indexes,
    Members,
    Path,
    Pattern,
    Slice,
    Step,
    Where,
)
from pulseweir.ingest.device_mapping.jsonpath_walks import members_below, objects_of
from pulseweir.ingest.device_mapping.scopes import Scope
from pulseweir.ingest.device_mapping.source_lines import Source

_ORDERS = {"<": "{} < {}", "<=": "not {} > {}", ">": "{} > {}", ">=": "not {} < {}"}


def write_one(source: Source, steps: tuple[Step, ...], scope: Scope) -> str:
    """Lines that find the one token of a path; returns the name that holds it, None for none."""
    names = plain_names(steps)
    if names is not None:
        return source.assign(scope.member(names))
    at = _scalar_steps(steps)
    token = _chain(source, steps[:at], scope)
    if at == len(steps):
        return source.assign(f"None if {token} is MISSING else {token}")
    tokens = _tail(source, steps[at:], source.assign(f"[] if {token} is MISSING else [{token}]"), scope)
    with source.block(f"if len({tokens}) > 1:"):
        source.add("raise Undecided")
    return source.assign(f"{tokens}[0] if {tokens} else None")


def write_all(source: Source, steps: tuple[Step, ...], scope: Scope, tokens: str | None = None) -> str:
    """Lines that find every token of a path; returns the name of the list.

    Args:
        source: Where lines go.
        steps: The path, or what is left of it behind `tokens`.
        scope: What ``$`` means.
        tokens: The name of the tokens the steps start from; None starts at the document.
    """
    if tokens is None:
        at = _scalar_steps(steps)
        token = _chain(source, steps[:at], scope)
        tokens = source.assign(f"[] if {token} is MISSING else [{token}]")
        steps = steps[at:]
    return _tail(source, steps, tokens, scope)


def write_maybe(source: Source, steps: tuple[Step, ...], scope: Scope) -> str | None:
    """Lines that find the token of a path that selects one at most; returns its name, which may hold MISSING.

    None for a path that may select several: `write_all` is for those.
    """
    return _chain(source, steps, scope) if _scalar_steps(steps) == len(steps) else None


def _scalar_steps(steps: tuple[Step, ...]) -> int:
    for at, step in enumerate(steps):
        is_member = isinstance(step, Members) and not step.scan and step.names is not None and len(step.names) == 1
        is_place = isinstance(step, Indexes) and step.places is not None and len(step.places) == 1
        if not is_member and not is_place:
            return at
    return len(steps)


def _chain(source: Source, steps: tuple[Step, ...], scope: Scope) -> str:
    at = next((at for at, step in enumerate(steps) if not isinstance(step, Members)), len(steps))
    names = tuple(step.names[0] for step in steps[:at] if isinstance(step, Members) and step.names)
    token = source.assign(scope.member(names, absent="MISSING"))
    for step in steps[at:]:
        if isinstance(step, Members) and step.names:
            name = source.constant(step.names[0])
            found = f"{token}.get({name}, MISSING) if type({token}) is dict else MISSING"
        elif isinstance(step, Indexes) and step.places:
            (place,) = step.places
            fits = f"len({token}) > {place}" if place >= 0 else f"len({token}) >= {-place}"
            found = f"{token}[{place}] if type({token}) is list and {fits} else MISSING"
        token = source.assign(found)
    if plain_names(steps) is None:
        source.add(f"left -= {3 * len(steps)}")
    return token


def _tail(source: Source, steps: tuple[Step, ...], tokens: str, scope: Scope) -> str:
    for step in steps:
        tokens = source.assign(_step(source, step, tokens, scope))
        source.add(f"left -= len({tokens}) + 1")
        with source.block(f"if len({tokens}) > {MATCH_LIMIT} or left < 0:"):
            source.add("raise Undecided")
    if any(isinstance(step, Where) and not step.scan for step in steps):
        with source.block(f"if any(type(x) is Property for x in {tokens}):"):
            source.add("raise Undecided")
    return tokens


def _step(source: Source, step: Step, tokens: str, scope: Scope) -> str:
    if isinstance(step, Members) and step.scan:
        return f"members_below({tokens}, {source.object(step.names)}, budget)"
    if isinstance(step, Members) and step.names is not None and len(step.names) == 1:
        name = source.constant(step.names[0])
        return f"[x[{name}] for x in {tokens} if type(x) is dict and {name} in x]"
    if isinstance(step, Members | Indexes | Slice):
        # The interpreter's own steps: they pay for every token as they go.
        return f"{source.object(compile_step(step))}(None, {tokens}, budget)"
    if isinstance(step, Where):
        return _where(source, step, tokens, scope)
    return f"[{scope.whole()}]"


def _where(source: Source, step: Where, tokens: str, scope: Scope) -> str:
    if step.scan and not needs_object(step.condition):
        return f"{source.object(compile_step(step))}({scope.whole()}, {tokens}, budget)"
    below = "objects_of" if step.scan else source.object(children_of)
    tested = source.assign(f"[y for x in {tokens} for y in {below}(x, budget)]")
    source.add(f"left -= len({tested}) * {filter_steps(step.condition)}")
    with source.block("if left < 0:"):
        source.add("raise Undecided")
    test = filter_test(source, step.condition, scope, is_object=step.scan)
    return f"[y for y in {tested} if {test}]"


def filter_steps(condition: Condition) -> int:
    """What testing one token can cost, as far as it is known beforehand."""
    if isinstance(condition, Composite):
        return sum(filter_steps(part) for part in condition.parts)
    right = condition.right
    text = len(right.value) >> TEXT_SHIFT if isinstance(right, Constant) and isinstance(right.value, str) else 0
    return steps_of_test(condition) + text


def filter_test(source: Source, condition: Condition, scope: Scope | None, *, is_object: bool) -> str:
    """A Python expression that tests the token named ``y``.

    Args:
        source: Where objects go that the expression uses.
        condition: The filter.
        scope: What ``$`` means; None when the filter does not ask.
        is_object: Whether the token is known to be an object.
    """
    if isinstance(condition, Composite):
        parts = [filter_test(source, part, scope, is_object=is_object) for part in condition.parts]
        return "(" + (" and " if condition.every else " or ").join(parts) + ")"
    names = plain_names(condition.left.steps) if isinstance(condition.left, Path) else None
    found = _inline_test(source, condition, names, is_object=is_object) if names else None
    if found is not None:
        return found
    root = "envelope" if scope is None else scope.whole()
    return f"{source.object(compile_condition(condition))}({root}, y, budget)"


def _inline_test(source: Source, test: Comparison, names: tuple[str, ...], *, is_object: bool) -> str | None:
    guard, holder = _holder(source, names, is_object=is_object)
    last = source.constant(names[-1])
    if test.operator == "exists" or test.right is None:
        return f"({guard}{last} in {holder})"
    if test.operator == "=~" and isinstance(test.right, Pattern):
        matches = source.object(matches_pattern(compile_pattern(test.right.text, test.right.flags)))
        return f"({guard}{last} in {holder} and {matches}({holder}[{last}], budget))"
    if not isinstance(test.right, Constant):
        return None
    value = source.name("t")
    read = f"({value} := {holder}.get({last}, MISSING)) is not MISSING"
    return f"({guard}{read} and {_value_test(source, test.operator, value, test.right.value)})"


def _holder(source: Source, names: tuple[str, ...], *, is_object: bool) -> tuple[str, str]:
    holder = "y"
    guard = "" if is_object else "type(y) is dict and "
    for name in names[:-1]:
        inner = source.name("t")
        guard += f"type({inner} := {holder}.get({source.constant(name)})) is dict and "
        holder = inner
    return guard, holder


def _value_test(source: Source, operator: str, value: str, constant: object) -> str:
    """A test of a value that is there against a constant."""
    shown = source.constant(constant)
    if operator in {"==", "===", "!="}:
        if constant is None or isinstance(constant, bool):
            equal = f"{value} is {shown}"
        elif isinstance(constant, str):
            equal = f"{value} == {shown}"
        else:
            equal = f"({value} == {shown} and type({value}) is not bool)"
        return f"not {equal}" if operator == "!=" else equal
    test = source.object(comparison(operator))
    if operator in _ORDERS and isinstance(constant, int | float) and not isinstance(constant, bool):
        plain = _ORDERS[operator].format(value, shown)
        is_number = f"type({value}) is int or type({value}) is float"
        return f"(({plain}) if {is_number} else {test}({value}, {shown}, budget))"
    return f"{test}({value}, {shown}, budget)"


RUNTIME = {"members_below": members_below, "objects_of": objects_of}
