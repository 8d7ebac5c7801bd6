"""Step 4: what generated source calls. Pure.

Generated source decides only what is plain. Whatever it leaves undecided, the interpreter decides: `Undecided` is
raised, and everything of that message is forgotten.
"""

from collections.abc import Collection
from typing import Final

from pulseweir.ingest.device_mapping.budget import LIST_LIMIT, VISIT_STEPS
from pulseweir.ingest.device_mapping.jmes import QueryError
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Instant, render

FAST_STEPS: Final = 60_000  # the interpreter's budget is larger: what takes more is left to it
TEXT_STEPS: Final = 50_000  # what texts may cost beyond; together they stay within the interpreter's budget
MISSING: Final = object()
EMPTY: Final[dict[str, object]] = {}
_CONTAINERS = frozenset({dict, list})


class Undecided(Exception):  # noqa: N818 - not an error: the interpreter decides
    """Generated source leaves this message to the interpreter."""


LEFT_TO_THE_INTERPRETER: Final = (
    Undecided,
    ExpressionFault,
    QueryError,
    ArithmeticError,
    TypeError,
    ValueError,
    RecursionError,
)


def walk(envelope: dict[str, object]) -> tuple[list[dict[str, object]], int, int]:
    """Every object of a message that has members, in document order.

    Returns:
        The objects, how many there are with those that are empty, and what the interpreter pays for finding them once.
    """
    found = [envelope] if envelope else []
    number, cost = 1, VISIT_STEPS + len(envelope)
    for value in envelope.values():
        if type(value) is dict and _CONTAINERS.isdisjoint(map(type, value.values())):
            # What most messages are made of: an object of scalars.
            number += 1
            cost += VISIT_STEPS + len(value)
            if value:
                found.append(value)
        elif type(value) is dict or type(value) is list:
            more, paid = _walk_below(value, found)
            number += more
            cost += paid
    return found, number, cost


def _walk_below(start: object, found: list[dict[str, object]]) -> tuple[int, int]:
    number = cost = 0
    stack = [start]
    while stack:
        value = stack.pop()
        if type(value) is dict:
            number += 1
            cost += VISIT_STEPS + len(value)
            if value:
                found.append(value)
            children: Collection[object] = value.values()
        elif type(value) is list:
            is_flat = _CONTAINERS.isdisjoint(map(type, value))
            cost += VISIT_STEPS + (len(value) >> 3 if is_flat else len(value))
            children = () if is_flat else value
        stack += reversed([child for child in children if type(child) is dict or type(child) is list])
        if cost > FAST_STEPS:
            raise Undecided
    return number, cost


def required_text(token: object) -> str:
    """The text of a field that must have one.

    Raises:
        Undecided: It has none, or a blank one.
    """
    if token is None:
        raise Undecided
    text = render(small_integer(token) if type(token) is int else token)
    if not text.strip():
        raise Undecided
    return text


def optional_text(token: object) -> str | None:
    """The text of a field that may have none."""
    try:
        return None if token is None else render(small_integer(token) if type(token) is int else token)
    except ExpressionFault:
        return None


def required_value(token: object) -> object:
    """A value that must be there: a number as it is, anything else as text."""
    return token if type(token) is float or type(token) is int else required_text(token)


def optional_value(token: object) -> object:
    """A value that may be missing, likewise."""
    return token if type(token) is float or type(token) is int else optional_text(token)


def moment(token: object) -> int:
    """The microseconds of an instant that a function made.

    Raises:
        Undecided: The token is neither an instant nor a text.
    """
    if type(token) is Instant:
        return token.microseconds
    raise Undecided


def is_false(value: object) -> bool:
    """Whether JMESPath counts a value as false."""
    return value is None or value is False or value in ("", [], {})


def flatten(value: object) -> list[object] | None:
    """The elements of an array, those of its arrays one by one; None of anything else.

    Raises:
        Undecided: There are too many.
    """
    if type(value) is not list:
        return None
    merged: list[object] = []
    for element in value:
        if type(element) is list:
            merged += element
        else:
            merged.append(element)
        if len(merged) > LIST_LIMIT:
            raise Undecided
    return merged


def small_integer(number: int) -> int:
    """An integer of 64 bits as it is.

    Raises:
        Undecided: It is larger: writing it out takes long.
    """
    if -(2**63) <= number < 2**63:
        return number
    raise Undecided


FOR_SOURCE: Final = (
    "EMPTY",
    "MISSING",
    "Undecided",
    "flatten",
    "is_false",
    "moment",
    "optional_text",
    "optional_value",
    "required_text",
    "required_value",
    "small_integer",
    "walk",
)
