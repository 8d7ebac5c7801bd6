"""Step 4: Python source that is put together line by line. Pure.

Names and constants of a mapping never become source text as they are: a constant enters as its ``repr`` when it is a
short text, a small integer, a boolean or None, and through a table of objects when it is anything else.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_SMALL = 2**63


class Source:
    r"""Lines of one function, with the objects they use.

    >>> source = Source()
    >>> with source.block("if x:"):
    ...     source.add(f"y = {source.constant('a')}")
    >>> source.text()
    "if x:\n    y = 'a'"
    """

    def __init__(self) -> None:
        self.objects: dict[str, object] = {}
        self._lines: list[str] = []
        self._depth = 0
        self._count = 0

    def add(self, line: str) -> None:
        """Append one line at the present depth."""
        self._lines.append("    " * self._depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Append the head of a compound statement; what is added inside the context is its body."""
        self.add(head)
        self._depth += 1
        before = len(self._lines)
        yield
        if len(self._lines) == before:
            self.add("pass")
        self._depth -= 1

    def name(self, prefix: str = "v") -> str:
        """A name that no other line uses."""
        self._count += 1
        return f"{prefix}{self._count}"

    def assign(self, expression: str, prefix: str = "v") -> str:
        """Append an assignment to a new name, and return that name."""
        name = self.name(prefix)
        self.add(f"{name} = {expression}")
        return name

    def constant(self, value: object) -> str:
        """How source text refers to a value."""
        if value is None or isinstance(value, bool):
            return repr(value)
        if isinstance(value, str) and len(value) <= 200:
            return repr(value)
        if type(value) is int and -_SMALL < value < _SMALL:
            return f"({value})" if value < 0 else str(value)
        return self.object(value)

    def object(self, value: object) -> str:
        """A name under which the source finds an object."""
        name = self.name("k")
        self.objects[name] = value
        return name

    def text(self) -> str:
        """All lines."""
        return "\n".join(self._lines)
