"""Step 4: the objects of message bodies the templates read, decoded to structs made for them.

Only the members that templates read are decoded. A member a template cannot read safely, such as an object where a
scalar is expected, makes the decoding of that one body fail, which leaves it to the exact tiers.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from pulseweir.ingest.device_mapping.typed_paths import BODY, Path, Unplannable

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Counts = np.ndarray[tuple[int], np.dtype[np.int64]]
Places = Counts
Scalar = int | float | str | bool | None
# No integer is both above and below zero: a body with such a member never decodes.
_FORBIDDEN = Annotated[int, Meta(gt=0, lt=0)] | UnsetType
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')


@dataclass(frozen=True, slots=True)
class Node:
    """One object of the body.

    Attributes:
        struct: What it decodes to.
        empty: Stands in where a body does not have it.
        members: By member name, a function from objects to what each has there.
    """

    struct: type[Any]
    empty: object
    members: dict[str, Callable[[list[Any]], list[object]]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Every object of the body that templates read.

    Attributes:
        nodes: By path; children before parents, the body last.
        suspects: Members whose presence means that a template could match more than once.
        decode: One body to its struct.
    """

    nodes: dict[Path, Node]
    suspects: tuple[Path, ...]
    decode: Callable[[bytes], object]


def inner_paths(paths: Iterable[Path]) -> frozenset[Path]:
    """The body and every path that leads to a member below it."""
    found = {path[:length] for path in paths for length in range(1, len(path)) if path[:1] == BODY}
    return frozenset(found | {BODY})


def shape_of(paths: Iterable[Path], forbidden: Callable[[Path], frozenset[str]]) -> Shape:
    """Structs for all paths below the body.

    Args:
        paths: What is read.
        forbidden: The members that must not be in the object at a path, because a template would match there too.

    Raises:
        Unplannable: A member has a name no struct can have.
    """
    read = {path for path in paths if path[:1] == BODY}
    inner = inner_paths(read)
    nodes: dict[Path, Node] = {}
    suspects: list[Path] = []
    for path in sorted(inner, key=len, reverse=True):
        members = {other[-1] for other in read | inner if other[:-1] == path and len(other) > 1}
        refused = forbidden(path)
        suspects += [(*path, name) for name in sorted(members & refused)]
        kinds: dict[str, object] = {name: Scalar | UnsetType for name in members}
        kinds |= {name: _FORBIDDEN for name in refused - members}
        kinds |= {name: nodes[*path, name].struct | None | UnsetType for name in members if (*path, name) in inner}
        nodes[path] = _node(kinds)
    return Shape(nodes, tuple(suspects), msgspec.json.Decoder(nodes[BODY].struct).decode)


def _node(kinds: dict[str, object]) -> Node:
    if any(_UNNAMEABLE.search(name) for name in kinds):
        raise Unplannable("a member name with a quote, a backslash or a control character")
    fields = {name: f"member_{number}" for number, name in enumerate(sorted(kinds))}
    struct = msgspec.defstruct(
        "BodyObject",
        [(fields[name], kind, UNSET) for name, kind in sorted(kinds.items())],
        rename={field: name for name, field in fields.items()},
        gc=False,
    )
    # Twice as quick as an attribute getter mapped over the objects; the field names are ours.
    members = {name: eval(f"lambda objects: [each.{field} for each in objects]") for name, field in fields.items()}  # noqa: S307
    return Node(struct, struct(), members)


def decoded_bodies(shape: Shape, bodies: Sequence[bytes]) -> tuple[list[object], list[int]]:
    """The structs of the bodies that decode, and which those are."""
    try:
        return list(map(shape.decode, bodies)), list(range(len(bodies)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    structs: list[object] = []
    places: list[int] = []
    for place, body in enumerate(bodies):
        try:
            structs.append(shape.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        places.append(place)
    return structs, places


class Objects:
    """The objects of one batch of decoded bodies, one list for each node, aligned by message."""

    def __init__(self, shape: Shape, bodies: list[object]) -> None:
        self._shape = shape
        self.count = len(bodies)
        self.every: Flags = np.ones(self.count, np.bool_)
        self.none: Flags = np.zeros(self.count, np.bool_)
        self._lists: dict[Path, list[object]] = {BODY: bodies}
        self._there: dict[Path, Flags] = {BODY: self.every}
        self._null: dict[Path, Flags] = {BODY: self.none}

    def is_object(self, path: Path) -> bool:
        """Whether a path leads to an object of the body."""
        return path in self._shape.nodes

    def values(self, path: Path) -> list[object]:
        """The member at a path of each message; UNSET where there is none."""
        return self._shape.nodes[path[:-1]].members[path[-1]](self._list(path[:-1]))

    def there(self, path: Path) -> Flags:
        """Which messages have the object at a path."""
        self._list(path)
        return self._there[path]

    def null(self, path: Path) -> Flags:
        """Which messages have null instead of the object at a path."""
        self._list(path)
        return self._null[path]

    def counts(self) -> Counts:
        """How many objects each body was seen to have."""
        counts = np.zeros(self.count, np.int64)
        for path in self._shape.nodes:
            counts += self.there(path)
        return counts

    def _list(self, path: Path) -> list[object]:
        found = self._lists.get(path)
        if found is None:
            found = self._lists[path] = self._children(path)
        return found

    def _children(self, path: Path) -> list[object]:
        node = self._shape.nodes[path]
        found = self.values(path)
        kinds = set(map(type, found))
        self._there[path], self._null[path] = self.every, self.none
        if kinds == {node.struct}:
            return found
        self._there[path] = np.array([type(value) is node.struct for value in found], np.bool_)
        if type(None) in kinds:
            self._null[path] = np.array([value is None for value in found], np.bool_)
        return [value if type(value) is node.struct else node.empty for value in found]
