"""Step 4: comparisons inside JSONPath filters, with the predecessor's coercions. Pure.

Numbers compare by value, whether integer or float; a text is coerced to the type of the other side; an object or
array differs from everything and is neither smaller nor greater.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from pulseweir.ingest.device_mapping.budget import Budget, text_steps
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Instant, Property, parse_instant, render

PATTERN_LIMIT_CHARACTERS = 256
TEXT_LIMIT_CHARACTERS = 256
REPEAT_LIMIT = 3
_ORDER_STEPS = 40
_TRIES_A_STEP = 16
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\((?:\?(?:P?<[A-Za-z_]\w*>|<?[=!]|[a-z-]*:?))?)|(?P<close>\))"
    r"|(?P<repeat>[*+]|\{\d*,?\d*\})(?P<manner>[?+])?|(?P<optional>\?)|(?P<choice>\|)|.",
    re.DOTALL,
)
_EXACT = re.compile(r"\{(\d+)(?:,\1)?\}")

Test = Callable[[object, object, Budget], bool]


@dataclass(frozen=True, slots=True)
class BoundedPattern:
    """A regular expression, and what trying it can cost at worst.

    Attributes:
        pattern: The compiled expression.
        repeats: How many of its parts repeat: the degree of the polynomial that bounds its time.
        choices: In how many ways its other parts can be tried.
    """

    pattern: re.Pattern[str]
    repeats: int
    choices: int

    def steps(self, length: int) -> int:
        """The worst cost of searching a text of so many characters, in steps of the budget.

        >>> BoundedPattern(re.compile("a"), 0, 1).steps(256) < BoundedPattern(re.compile("a*b"), 1, 1).steps(256)
        True
        """
        ways = math.comb(length + self.repeats + 1, self.repeats + 1) * self.choices
        return 1 + ways // _TRIES_A_STEP


def compile_pattern(text: str, flags: str) -> BoundedPattern:
    """A regular expression that stays quick on any text.

    Raises:
        ExpressionFault: It is malformed, too long, or repeats something that itself repeats.
    """
    if len(text) > PATTERN_LIMIT_CHARACTERS:
        raise ExpressionFault(f"A regular expression may have {PATTERN_LIMIT_CHARACTERS} characters at most.")
    unknown = set(flags) - set(_FLAGS)
    if unknown:
        raise ExpressionFault("The flags of a regular expression are i, m, s and x.")
    repeats, choices = _worst_case(text)
    value = re.RegexFlag(0)
    for letter in flags:
        value |= _FLAGS[letter]
    try:
        pattern = re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", text), value)
    except (re.error, RecursionError, OverflowError):
        raise ExpressionFault("The regular expression is malformed.") from None
    return BoundedPattern(pattern, repeats, choices)


def _worst_case(text: str) -> tuple[int, int]:
    """How many parts repeat, and in how many ways the others can be tried.

    Repeated groups that repeat or choose inside are refused: their time can double with every character.
    """
    groups: list[bool] = [False]
    repeats, choices = 0, 1
    closed_unsafe = False
    for piece in _PIECE.finditer(text):
        if piece["open"]:
            groups.append(False)
        elif piece["close"] and len(groups) > 1:
            closed_unsafe = groups.pop()
            groups[-1] = groups[-1] or closed_unsafe
            continue
        elif piece["repeat"]:
            if closed_unsafe or repeats >= REPEAT_LIMIT:
                raise ExpressionFault(
                    f"A regular expression may repeat {REPEAT_LIMIT} times, and never what itself repeats or chooses."
                )
            if _EXACT.fullmatch(piece["repeat"]) is None:
                repeats += 1
            groups[-1] = True
        elif piece["optional"] or piece["choice"]:
            choices *= 2
            groups[-1] = True
        elif re.fullmatch(r"\\\d", piece[0]):
            choices *= TEXT_LIMIT_CHARACTERS
            groups[-1] = True
        closed_unsafe = False
    return repeats, choices


def matches_pattern(bounded: BoundedPattern) -> Callable[[object, Budget], bool]:
    """The test of ``=~``: only texts match; long ones are refused rather than searched."""
    search = bounded.pattern.search

    def test(token: object, budget: Budget) -> bool:
        if not isinstance(token, str):
            return False
        if len(token) > TEXT_LIMIT_CHARACTERS:
            raise ExpressionFault(
                f"A regular expression is tried on {TEXT_LIMIT_CHARACTERS} characters at most.", "limit-exceeded"
            )
        budget.spend(bounded.steps(len(token)))
        return search(token) is not None

    return test


def comparison(operator: str) -> Test:
    """The test two tokens must pass for an operator other than ``exists`` and ``=~``."""
    return _TESTS[operator]


def _is_container(token: object) -> bool:
    return isinstance(token, dict | list | Property)


def _is_number(token: object) -> bool:
    return isinstance(token, int | float) and not isinstance(token, bool)


def _equal(left: object, right: object) -> bool:
    if _is_number(left) and _is_number(right):
        return left == right
    return type(left) is type(right) and left == right


def _equals(left: object, right: object) -> bool:
    return not _is_container(left) and not _is_container(right) and _equal(left, right)


def _differs(left: object, right: object) -> bool:
    return _is_container(left) or _is_container(right) or not _equal(left, right)


def _strictly_differs(left: object, right: object) -> bool:
    return not _is_container(left) and not _is_container(right) and not _equal(left, right)


def _ordered(left: object, right: object) -> int | None:
    """Negative, 0 or positive; None when the two cannot be ordered."""
    if _is_container(left) or _is_container(right):
        return None
    if left is None or right is None:
        return (left is not None) - (right is not None)
    if isinstance(left, str) and isinstance(right, str):
        return _ordered_texts(left, right)
    kind = right if isinstance(left, str) else left
    if isinstance(kind, bool):
        return _truth(left) - _truth(right)
    if isinstance(kind, Instant):
        return _sign(_moment(left), _moment(right))
    return _sign(_number(left, like=kind), _number(right, like=kind))


def _ordered_texts(left: str, right: str) -> int:
    try:
        return _sign(parse_instant(left), parse_instant(right))
    except ExpressionFault:
        return (left > right) - (left < right)


def _sign(left: float, right: float) -> int:
    return (left > right) - (left < right)


def _moment(token: object) -> int:
    return token.microseconds if isinstance(token, Instant) else parse_instant(render(token))


def _truth(token: object) -> bool:
    if isinstance(token, str):
        if token.lower() in {"true", "false"}:
            return token.lower() == "true"
        raise ExpressionFault("A text is compared with true or false.")
    return bool(token)


def _number(token: object, *, like: object) -> float:
    if isinstance(token, int | float):
        return token
    try:
        return int(str(token)) if isinstance(like, int) else float(str(token))
    except ValueError:
        raise ExpressionFault("A text that is no number is compared with a number.") from None


def _order_test(accept: Callable[[int], bool]) -> Test:
    def test(left: object, right: object, budget: Budget) -> bool:
        if isinstance(left, str) or isinstance(right, str):
            # Texts are tried as dates first.
            budget.spend(_order_steps(left) + _order_steps(right))
        order = _ordered(left, right)
        return order is not None and accept(order)

    return test


def _order_steps(value: object) -> int:
    """What trying a value as a date costs; a slash or a comma makes a text worth trying in every form."""
    if not isinstance(value, str):
        return 0
    return text_steps(value) + _ORDER_STEPS * (6 if "/" in value or "," in value else 1)


def _equality_test(accept: Callable[[object, object], bool]) -> Test:
    def test(left: object, right: object, budget: Budget) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            budget.spend(min(text_steps(left), text_steps(right)))
        return accept(left, right)

    return test


_TESTS: dict[str, Test] = {
    "==": _equality_test(_equals),
    "===": _equality_test(_equals),
    "!=": _equality_test(_differs),
    "!==": _equality_test(_strictly_differs),
    "<": _order_test(lambda order: order < 0),
    "<=": _order_test(lambda order: order <= 0),
    ">": _order_test(lambda order: order > 0),
    ">=": _order_test(lambda order: order >= 0),
}
