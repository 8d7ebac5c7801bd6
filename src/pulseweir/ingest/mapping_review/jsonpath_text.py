"""Step 4: JSONPath steps back to text, to show and to try parts of an expression. Pure."""

import re
from collections.abc import Sequence

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
)

_BARE = re.compile(r"[^\s\[\]().=<!>|&'\"\\*]+")
_WORDS = {True: "true", False: "false", None: "null"}


def steps_text(steps: Sequence[Step], start: str = "$") -> str:
    """The text of some steps.

    Args:
        steps: As the parser gives them.
        start: ``$`` for a whole expression, ``@`` for a path inside a filter.

    >>> from pulseweir.ingest.device_mapping.jsonpath_parser import parse
    >>> steps_text(parse("$..[?(@Body.hr && @Body['a b'] == 'x')]"))
    "$..[?(@.Body.hr && @.Body['a b'] == 'x')]"
    """
    return start + "".join(step_text(step) for step in steps)


def step_text(step: Step) -> str:
    """The text of one step, with the dot that leads to it."""
    if isinstance(step, Root):
        return ""
    if isinstance(step, Members):
        return _members(step)
    if isinstance(step, Indexes):
        return "[*]" if step.places is None else f"[{','.join(map(str, step.places))}]"
    if isinstance(step, Slice):
        parts = ["" if part is None else str(part) for part in (step.start, step.stop)]
        return f"[{':'.join(parts + ([] if step.step is None else [str(step.step)]))}]"
    return f"{'..' if step.scan else ''}[?({condition_text(step.condition)})]"


def condition_text(condition: Condition, *, grouped: bool = False) -> str:
    """The text of a filter's condition.

    Args:
        condition: As the parser gives it.
        grouped: Show with parentheses how tests nest, which the language itself cannot write.

    >>> from pulseweir.ingest.device_mapping.jsonpath_parser import parse
    >>> condition_text(parse("$[?(@a && @b || @c)]")[0].condition, grouped=True)
    '@.a && (@.b || @.c)'
    """
    if isinstance(condition, Comparison):
        left = side_text(condition.left)
        if condition.right is None:
            return left
        return f"{left} {condition.operator} {side_text(condition.right)}"
    parts = [_part(part, grouped=grouped) for part in condition.parts]
    return (" && " if condition.every else " || ").join(parts)


def _part(condition: Condition, *, grouped: bool) -> str:
    text = condition_text(condition, grouped=grouped)
    return f"({text})" if grouped and isinstance(condition, Composite) else text


def _members(step: Members) -> str:
    dots = ".." if step.scan else "."
    if step.names is None:
        return f"{dots}*"
    if len(step.names) == 1 and _BARE.fullmatch(step.names[0]):
        return f"{dots}{step.names[0]}"
    return f"{'..' if step.scan else ''}[{','.join(_quoted(name) for name in step.names)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def side_text(side: Side) -> str:
    """The text of one side of a test."""
    if isinstance(side, Path):
        is_root = bool(side.steps) and isinstance(side.steps[0], Root)
        return steps_text(side.steps, "$" if is_root else "@")
    if isinstance(side, Pattern):
        return f"/{side.text.replace('/', chr(92) + '/')}/{side.flags}"
    return _constant(side)


def _constant(side: Constant) -> str:
    if isinstance(side.value, str):
        return _quoted(side.value)
    if side.value is None or isinstance(side.value, bool):
        return _WORDS[side.value]
    return repr(side.value)
