"""Step 4: JSONPath text to steps, in the predecessor's dialect (Newtonsoft.Json 13). Pure.

The dialect is its own: ``@name`` needs no dot, only single quotes exist, ``&&`` and ``||`` nest to the right
without precedence, a number in a filter ends with a space or ``)``, and there is no grouping and no ``!``.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from pulseweir.ingest.device_mapping.tokens import ExpressionFault

DEPTH_LIMIT = 32
Operator = Literal["exists", "==", "===", "!=", "!==", "<", "<=", ">", ">=", "=~"]
_OPERATORS: tuple[tuple[str, Operator], ...] = (
    ("===", "==="),
    ("!==", "!=="),
    ("=~", "=~"),
    ("==", "=="),
    ("!=", "!="),
    ("<>", "!="),
    ("<=", "<="),
    (">=", ">="),
    ("<", "<"),
    (">", ">"),
)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "\\": "\\", '"': '"', "'": "'", "/": "/"}
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Root:
    """Start at the document, inside a filter."""


@dataclass(frozen=True, slots=True)
class Members:
    """Members of these names; None is every member. With `scan`, of every descendant too."""

    names: tuple[str, ...] | None
    scan: bool = False


@dataclass(frozen=True, slots=True)
class Indexes:
    """Elements at these places; None is every element."""

    places: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Elements of a slice, as Python counts them."""

    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Where:
    """Children that satisfy a condition; with `scan`, the token itself and all descendants."""

    condition: "Condition"
    scan: bool = False


Step = Root | Members | Indexes | Slice | Where


@dataclass(frozen=True, slots=True)
class Path:
    """A path inside a filter."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant inside a filter."""

    value: object


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression inside a filter."""

    text: str
    flags: str


Side = Path | Constant | Pattern


@dataclass(frozen=True, slots=True)
class Comparison:
    """One test; `right` is None for ``exists``."""

    operator: Operator
    left: Side
    right: Side | None = None


@dataclass(slots=True)
class Composite:
    """All of (``&&``) or any of (``||``) its parts."""

    every: bool
    parts: "list[Condition]" = field(default_factory=list)


Condition = Comparison | Composite


def parse(text: str) -> tuple[Step, ...]:
    """The steps of one expression.

    Raises:
        ExpressionFault: The text is not a path of this dialect.
    """
    parser = _Parser(text)
    parser.blanks()
    start = parser.at
    if text[start : start + 1] == "$":
        if start + 1 == len(text):
            return ()
        if text[start + 1] in ".[":
            parser.at = start + 1
    steps: list[Step] = []
    if not parser.path(steps, in_filter=False):
        parser.blanks()
        if parser.at < len(text):
            raise parser.fault("unexpected character")
    return tuple(steps)


@dataclass(slots=True)
class _Parser:
    text: str
    at: int = 0
    depth: int = 0

    def fault(self, problem: str) -> ExpressionFault:
        shown = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        return ExpressionFault(
            f"Unable to retrieve JsonToken using expression {shown}: {problem} at character {self.at + 1}."
        )

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def need(self, problem: str) -> str:
        if self.at >= len(self.text):
            raise self.fault(problem)
        return self.text[self.at]

    def blanks(self) -> None:
        while self.peek() == " ":
            self.at += 1

    def path(self, steps: list[Step], *, in_filter: bool) -> bool:
        """Read steps until the path ends; True when the text ended with it."""
        scan = after_index = after_dot = False
        start = self.at
        stops = "]) =<!>|&" if in_filter else "]) "
        while self.at < len(self.text) and self.text[self.at] not in stops:
            character = self.text[self.at]
            if character not in "[(.":
                if after_index:
                    raise self.fault("unexpected character after an indexer")
                self.at += 1
                continue
            if self.at > start:
                steps.append(self.member(start, scan=scan))
                scan = False
            if character == ".":
                scan = self.dots() or scan
                after_index, after_dot = False, True
            else:
                steps.append(self.indexer(")" if character == "(" else "]", scan=scan))
                scan, after_index, after_dot = False, True, False
            start = self.at
        at_end = self.at == len(self.text)
        if self.at > start:
            steps.append(self.member(start, scan=scan))
        elif after_dot and (at_end or in_filter):
            raise self.fault("unexpected end of the path")
        return at_end

    def dots(self) -> bool:
        """Pass one dot or two; True for two."""
        two = self.text.startswith("..", self.at)
        self.at += 2 if two else 1
        return two

    def member(self, start: int, *, scan: bool) -> Members:
        name = self.text[start : self.at].rstrip()
        return Members(None if name == "*" else (name,), scan)

    def indexer(self, close: str, *, scan: bool) -> Step:
        self.at += 1
        self.need("the path ends inside an indexer")
        self.blanks()
        character = self.need("the path ends inside an indexer")
        if character == "'":
            return self.quoted_members(close, scan=scan)
        if character == "?":
            return self.filter(close, scan=scan)
        return self.array_indexer(close)

    def quoted_members(self, close: str, *, scan: bool) -> Members:
        names: list[str] = []
        while True:
            self.blanks()
            if self.need("the path ends inside an indexer") != "'":
                raise self.fault("a name in single quotes is expected")
            names.append(self.quoted())
            self.blanks()
            character = self.need("the path ends inside an indexer")
            self.at += 1
            if character == close:
                return Members(tuple(names), scan)
            if character != ",":
                self.at -= 1
                raise self.fault("',' or the end of the indexer is expected")

    def quoted(self) -> str:
        self.at += 1
        letters: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == "'":
                return "".join(letters)
            if character == "\\":
                escaped = _ESCAPES.get(self.need("the path ends inside a string"))
                if escaped is None:
                    raise self.fault("unknown escape")
                letters.append(escaped)
                self.at += 1
            else:
                letters.append(character)
        raise self.fault("the path ends inside a string")

    def array_indexer(self, close: str) -> Step:
        end = self.text.find(close, self.at)
        if end < 0:
            raise self.fault("the path ends inside an indexer")
        inside = self.text[self.at : end].strip(" ")
        if inside == "*":
            self.at = end + 1
            return Indexes(None)
        if ":" in inside:
            step: Step = self.slice(inside)
        else:
            step = Indexes(tuple(self.integer(part) for part in inside.split(",")))
        self.at = end + 1
        return step

    def slice(self, inside: str) -> Slice:
        parts = inside.split(":")
        if len(parts) > 3:
            raise self.fault("a slice has two colons at most")
        numbers = [self.integer(part) if part.strip(" ") else None for part in parts]
        numbers += [None] * (3 - len(numbers))
        if numbers[2] == 0:
            raise self.fault("a slice cannot step by zero")
        return Slice(*numbers)

    def integer(self, part: str) -> int:
        if _INTEGER.fullmatch(part.strip(" ")) is None:
            raise self.fault("an array index is expected")
        return int(part)

    def filter(self, close: str, *, scan: bool) -> Where:
        self.at += 1
        if self.need("the path ends inside a filter") != "(":
            raise self.fault("'(' is expected after '?'")
        self.at += 1
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise self.fault(f"filters nest {DEPTH_LIMIT} deep at most")
        condition = self.condition()
        self.depth -= 1
        self.at += 1
        self.blanks()
        if self.need("the path ends inside a filter") != close:
            raise self.fault(f"'{close}' is expected")
        self.at += 1
        return Where(condition, scan)

    def condition(self) -> Condition:
        root: Condition | None = None
        parent: Composite | None = None
        while True:
            comparison = self.comparison()
            character = self.need("the path ends inside a filter")
            if character == ")":
                if parent is None:
                    return comparison
                parent.parts.append(comparison)
                return root or parent
            if self.text[self.at : self.at + 2] not in {"&&", "||"}:
                raise self.fault("'&&', '||' or ')' is expected")
            self.at += 2
            every = character == "&"
            if parent is None or parent.every != every:
                composite = Composite(every)
                if parent is not None:
                    parent.parts.append(composite)
                parent = composite
                root = root or parent
            parent.parts.append(comparison)

    def comparison(self) -> Comparison:
        left = self.side()
        if self.need("the path ends inside a filter") in ")|&":
            return Comparison("exists", left)
        for written, operator in _OPERATORS:
            if self.text.startswith(written, self.at):
                self.at += len(written)
                return Comparison(operator, left, self.side())
        raise self.fault("an operator is expected")

    def side(self) -> Side:
        self.blanks()
        character = self.need("the path ends inside a filter")
        if character in "$@":
            self.at += 1
            steps: list[Step] = [Root()] if character == "$" else []
            if self.path(steps, in_filter=True):
                raise self.fault("the path ends inside a filter")
            side: Side = Path(tuple(steps))
        else:
            side = self.constant(character)
        self.blanks()
        return side

    def constant(self, character: str) -> Side:
        if character == "'":
            return Constant(self.quoted())
        if character == "/":
            return self.pattern()
        for word, value in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return Constant(value)
        return Constant(self.number())

    def number(self) -> int | float:
        end = self.at
        while end < len(self.text) and self.text[end] not in " )":
            end += 1
        written = self.text[self.at : end]
        try:
            number = float(written) if set(written) & set(".eE") else int(written)
        except ValueError:
            raise self.fault("a path, a text in single quotes or a number (then a space or ')') is expected") from None
        if end == len(self.text):
            raise self.fault("the path ends inside a filter")
        self.at = end
        return number

    def pattern(self) -> Pattern:
        end = self.at + 1
        while end < len(self.text) and (self.text[end] != "/" or self.text[end - 1] == "\\"):
            end += 1
        if end >= len(self.text):
            raise self.fault("the path ends inside a regular expression")
        written = self.text[self.at + 1 : end]
        self.at = end + 1
        start = self.at
        while self.peek().isalpha():
            self.at += 1
        return Pattern(written.replace("\\/", "/"), self.text[start : self.at])
