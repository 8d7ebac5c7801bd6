"""Step 4: JSON that remembers where each value stood, for mapping files. Pure.

Mapping files are small and read once, so they get a parser that is strict where message parsers are quick:
repeated keys, deep nesting and text after the document are faults with a line and a column.
"""

import json
import math
import re
from bisect import bisect_left
from dataclasses import dataclass, field

TEXT_LIMIT_CHARACTERS = 2_000_000
DEPTH_LIMIT = 64
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_SCALAR_START = frozenset('"-0123456789tfn')
_DECODER = json.JSONDecoder()


class LocatedJsonError(ValueError):
    """The text is not usable JSON.

    Attributes:
        line: 1-based line.
        column: 1-based column.
        problem: What is wrong there.
    """

    def __init__(self, line: int, column: int, problem: str) -> None:
        self.line = line
        self.column = column
        self.problem = problem
        super().__init__(f"line {line}, column {column}: {problem}")


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON value with its place.

    Attributes:
        line: 1-based line of its first character; 0 when it did not come from text.
        column: 1-based column, 0 as above.
        scalar: The value when it is text, a number, a boolean or null.
        members: Its members by name when it is an object, else None.
        items: Its elements when it is an array, else None.
    """

    line: int
    column: int
    scalar: object = None
    members: "dict[str, Node] | None" = None
    items: "list[Node] | None" = None

    @property
    def is_null(self) -> bool:
        """Whether this is the JSON null."""
        return self.members is None and self.items is None and self.scalar is None

    def plain(self) -> object:
        """The value without places: dict, list, text, number, boolean or None."""
        if self.members is not None:
            return {name: node.plain() for name, node in self.members.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.scalar

    def member(self, name: str) -> "Node | None":
        """The member of that name whatever its case; None when absent or when this is no object."""
        if self.members is None:
            return None
        found = self.members.get(name)
        if found is not None:
            return found
        folded = name.casefold()
        return next((node for key, node in self.members.items() if key.casefold() == folded), None)


def read(text: str) -> Node:
    """Parse a whole document.

    Raises:
        LocatedJsonError: The text is not JSON, repeats a key, nests deeper than `DEPTH_LIMIT` or is too long.
    """
    if len(text) > TEXT_LIMIT_CHARACTERS:
        raise LocatedJsonError(1, 1, f"a mapping may have {TEXT_LIMIT_CHARACTERS} characters at most.")
    reader = _Reader(text.removeprefix("\ufeff"))
    node = reader.value(0)
    reader.skip()
    if reader.at < len(reader.text):
        raise reader.error("text after the end of the document.")
    return node


def from_plain(value: object, depth: int = 0) -> Node:
    """Wrap a value that is already decoded; places are 0."""
    if depth > DEPTH_LIMIT:
        raise LocatedJsonError(0, 0, f"nested deeper than {DEPTH_LIMIT} levels.")
    if isinstance(value, dict):
        _refuse_twins(value)
        return Node(0, 0, members={str(name): from_plain(item, depth + 1) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return Node(0, 0, items=[from_plain(item, depth + 1) for item in value])
    problem = _problem_of(value)
    if problem:
        raise LocatedJsonError(0, 0, problem)
    return Node(0, 0, scalar=value)


def _refuse_twins(members: dict[object, object]) -> None:
    folded = [str(name).casefold() for name in members]
    for name in folded:
        if is_broken(name):
            raise LocatedJsonError(0, 0, "a text holds half a character (a lone surrogate).")
        if folded.count(name) > 1:
            raise LocatedJsonError(0, 0, f"the member '{name}' is given twice.")


def _problem_of(scalar: object) -> str | None:
    """Why a decoded scalar is no JSON value: half a character, or no number."""
    if isinstance(scalar, str) and is_broken(scalar):
        return "a text holds half a character (a lone surrogate)."
    if isinstance(scalar, float) and not math.isfinite(scalar):
        return "a number is not finite."
    return None


def is_broken(text: str) -> bool:
    """Whether a text holds half a character, which nothing can write down."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    line_ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.line_ends = [-1, *(found.start() for found in re.finditer("\n", self.text))]

    def error(self, problem: str) -> LocatedJsonError:
        line, column = self.place()
        return LocatedJsonError(line, column, problem)

    def place(self) -> tuple[int, int]:
        line = bisect_left(self.line_ends, self.at)
        return line, self.at - self.line_ends[line - 1]

    def skip(self) -> None:
        found = _WHITESPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def value(self, depth: int) -> Node:
        self.skip()
        if self.at >= len(self.text):
            raise self.error("the document ends where a value is expected.")
        if depth > DEPTH_LIMIT:
            raise self.error(f"nested deeper than {DEPTH_LIMIT} levels.")
        start = self.text[self.at]
        if start == "{":
            return self.object(depth)
        if start == "[":
            return self.array(depth)
        return self.scalar()

    def scalar(self) -> Node:
        line, column = self.place()
        if self.text[self.at] not in _SCALAR_START:
            raise self.error("a value is expected.")
        try:
            scalar, self.at = _DECODER.raw_decode(self.text, self.at)
        except ValueError as cause:
            raise self.error(f"not a JSON value ({getattr(cause, 'msg', cause)}).") from None
        problem = _problem_of(scalar)
        if problem:
            raise LocatedJsonError(line, column, problem)
        return Node(line, column, scalar=scalar)

    def object(self, depth: int) -> Node:
        line, column = self.place()
        members: dict[str, Node] = {}
        folded: set[str] = set()
        self.at += 1
        self.skip()
        while not self.take("}"):
            if members:
                self.need(",")
                self.skip()
            name = self.name()
            # Members are found whatever their case, so two spellings of one name are one name too many.
            if name.casefold() in folded:
                raise self.error(f"the member '{name}' is given twice.")
            folded.add(name.casefold())
            self.skip()
            self.need(":")
            members[name] = self.value(depth + 1)
            self.skip()
        return Node(line, column, members=members)

    def array(self, depth: int) -> Node:
        line, column = self.place()
        items: list[Node] = []
        self.at += 1
        self.skip()
        while not self.take("]"):
            if items:
                self.need(",")
            items.append(self.value(depth + 1))
            self.skip()
        return Node(line, column, items=items)

    def name(self) -> str:
        if self.text[self.at : self.at + 1] != '"':
            raise self.error("a member name in double quotes is expected.")
        return str(self.scalar().scalar)

    def take(self, character: str) -> bool:
        if self.text[self.at : self.at + 1] != character:
            return False
        self.at += 1
        return True

    def need(self, character: str) -> None:
        if not self.take(character):
            raise self.error(f"'{character}' is expected.")
