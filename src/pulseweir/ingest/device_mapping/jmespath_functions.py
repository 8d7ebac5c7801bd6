"""Step 4: the eight functions the predecessor adds to JMESPath, with 64-bit integers. Pure.

Two integers stay integers: sums wrap around at 64 bits, division truncates toward zero, a power is computed in
floating point and refused when it does not fit. Any float makes the result a float.
"""

import math
from collections.abc import Callable

from jmespath import functions

from pulseweir.ingest.device_mapping.budget import Budget, text_steps, tree_steps
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Instant, checked_instant

_RANGE = 2**64
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_NUMBERS = "Integer|Float"
CALL_STEPS = 20
_SORTING = frozenset({"sort", "sort_by", "min_by", "max_by"})
_READING = frozenset({"sort", "sort_by", "min_by", "max_by", "min", "max", "join", "contains"})
_WALKING = frozenset({"to_string", "contains"})
_ANY_TYPE: dict[str, list[str]] = {"types": []}


def _type_fault(function: str, place: int, expected: str) -> ExpressionFault:
    return ExpressionFault(
        f"Error: invalid-type, function {function} expects argument {place} to be one of the following: {expected}.",
        "invalid-type",
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(value: int) -> int:
    if not _LOWEST <= value <= _HIGHEST:
        raise ExpressionFault("An integer does not fit in 64 bits.", "overflow")
    return value


def _numbers(function: str, left: object, right: object) -> tuple[int | float, int | float]:
    for place, value in enumerate((left, right)):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _type_fault(function, place, _NUMBERS)
        if isinstance(value, int):
            _integer(value)
    return left, right  # type: ignore[return-value]


def _wrapped(value: int) -> int:
    return (value - _LOWEST) % _RANGE + _LOWEST


def _arithmetic(function: str, compute: Callable[..., int | float], left: object, right: object) -> int | float:
    first, second = _numbers(function, left, right)
    if isinstance(first, int) and isinstance(second, int):
        return _wrapped(int(compute(first, second)))
    return compute(float(first), float(second))


def _divide(left: object, right: object) -> int | float:
    first, second = _numbers("divide", left, right)
    if isinstance(first, int) and isinstance(second, int):
        if second == 0:
            raise ExpressionFault("An integer is divided by zero.", "divide-by-zero")
        quotient = abs(first) // abs(second)
        return _integer(quotient if (first < 0) == (second < 0) else -quotient)
    dividend, divisor = float(first), float(second)
    if divisor != 0.0:
        return dividend / divisor
    if dividend == 0.0 or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def _power(left: object, right: object) -> int | float:
    base, exponent = _numbers("pow", left, right)
    try:
        result = math.pow(base, exponent)
    except OverflowError:
        result = math.inf
    except ValueError:
        result = math.inf if base == 0 else math.nan
    if isinstance(base, int) and isinstance(exponent, int):
        if not math.isfinite(result):
            raise ExpressionFault("A power does not fit in 64 bits.", "overflow")
        return _integer(round(result))
    return result


def _add(left: object, right: object) -> int | float:
    return _arithmetic("add", lambda first, second: first + second, left, right)


def _subtract(left: object, right: object) -> int | float:
    return _arithmetic("subtract", lambda first, second: first - second, left, right)


def _multiply(left: object, right: object) -> int | float:
    return _arithmetic("multiply", lambda first, second: first * second, left, right)


def _from_unix_timestamp(seconds: object) -> Instant:
    return _instant("fromUnixTimestamp", seconds, 1_000_000)


def _from_unix_timestamp_ms(milliseconds: object) -> Instant:
    return _instant("fromUnixTimestampMs", milliseconds, 1_000)


NUMERIC: dict[str, Callable[..., object]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "pow": _power,
    "fromUnixTimestamp": _from_unix_timestamp,
    "fromUnixTimestampMs": _from_unix_timestamp_ms,
}


class DialectFunctions(functions.Functions):  # type: ignore[misc]
    """The standard functions and the eight additional ones, within a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: list[object]) -> object:
        """Call one function by name.

        Raises:
            ExpressionFault: The arguments are too large for the budget, or not what the function takes.
        """
        _pay(function_name, resolved_args, self._budget)
        result: object = super().call_function(function_name, resolved_args)
        return result

    @functions.signature(_ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_add(self, left: object, right: object) -> int | float:
        return _add(left, right)

    @functions.signature(_ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_subtract(self, left: object, right: object) -> int | float:
        return _subtract(left, right)

    @functions.signature(_ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_multiply(self, left: object, right: object) -> int | float:
        return _multiply(left, right)

    @functions.signature(_ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_divide(self, left: object, right: object) -> int | float:
        return _divide(left, right)

    @functions.signature(_ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_pow(self, left: object, right: object) -> int | float:
        return _power(left, right)

    @functions.signature(_ANY_TYPE, _ANY_TYPE, _ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_insertString(self, original: object, inserted: object, place: object) -> str:  # noqa: N802
        for position, value in enumerate((original, inserted)):
            if not isinstance(value, str):
                raise _type_fault("insertString", position, "String")
        if not _is_integer(place):
            raise _type_fault("insertString", 2, "Integer")
        return _inserted(str(original), str(inserted), int(place))  # type: ignore[call-overload]

    @functions.signature(_ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_fromUnixTimestamp(self, seconds: object) -> Instant:  # noqa: N802
        return _from_unix_timestamp(seconds)

    @functions.signature(_ANY_TYPE)  # type: ignore[untyped-decorator]
    def _func_fromUnixTimestampMs(self, milliseconds: object) -> Instant:  # noqa: N802
        return _from_unix_timestamp_ms(milliseconds)


def _pay(function: str, arguments: list[object], budget: Budget) -> None:
    """Take away what a call costs before it is made: texts and lists may be long, and hold one part many times."""
    budget.spend(CALL_STEPS)
    for argument in arguments:
        if isinstance(argument, str):
            budget.spend(text_steps(argument))
        elif isinstance(argument, list | dict):
            if function in _WALKING:
                tree_steps(argument, budget)
            budget.spend(len(argument))
            if function in _READING:
                texts = sum(map(text_steps, argument))
                budget.spend(
                    texts + (len(argument) + texts) * (len(argument).bit_length() if function in _SORTING else 0)
                )
    if function == "join" and isinstance(arguments[0], str) and isinstance(arguments[1], list):
        budget.spend(text_steps(arguments[0]) + len(arguments[0]) * len(arguments[1]) // 64)


def _inserted(original: str, inserted: str, place: int) -> str:
    if not 0 <= place <= len(original):
        raise ExpressionFault("insertString: the position lies outside the text.", "out-of-range")
    return original[:place] + inserted + original[place:]


def _instant(function: str, value: object, microseconds: int) -> Instant:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _type_fault(function, 0, "Integer")
    return Instant(checked_instant(value * microseconds))
