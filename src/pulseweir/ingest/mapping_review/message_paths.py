"""Step 4: what is where in a message, and which of its paths comes nearest to one that is not there. Pure.

Only names and kinds are told, never a value.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Self

from pulseweir.ingest.device_mapping.tokens import Instant

Segments = tuple[str, ...]
ELEMENT = "[*]"
PATH_LIMIT = 2_000
_NAMES_SHOWN = 8
_NEAR = 1.3
_ALIKE = 0.6
_MISSING_LEVEL = 0.6
_KINDS = {
    dict: "object",
    list: "array",
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    Instant: "instant",
}
_PLAIN = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def kind_of(token: object) -> str:
    """The kind of a token, as explanations call it.

    >>> kind_of({}), kind_of([]), kind_of(1), kind_of(True), kind_of(None)
    ('object', 'array', 'integer', 'boolean', 'null')
    """
    return _KINDS.get(type(token), type(token).__name__)


def describe(token: object) -> str:
    """The kind of a token, with its member names or its length.

    >>> describe({"hr": 61, "unit": "bpm"}), describe([1, 2])
    ('an object with hr, unit', 'an array of 2')
    """
    if isinstance(token, dict):
        if not token:
            return "an object without members"
        names = ", ".join(list(token)[:_NAMES_SHOWN])
        return f"an object with {names}{', …' if len(token) > _NAMES_SHOWN else ''}"
    if isinstance(token, list):
        return f"an array of {len(token)}"
    kind = kind_of(token)
    return kind if kind == "null" else f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def path_text(segments: Sequence[str]) -> str:
    """A path as people write it.

    >>> path_text(("Body", "readings", "[*]", "heart rate"))
    "Body.readings[*]['heart rate']"
    """
    text = ""
    for segment in segments:
        if segment == ELEMENT:
            text += segment
        elif _PLAIN.fullmatch(segment):
            text += f".{segment}" if text else segment
        else:
            text += f"['{segment}']"
    return text or "$"


@dataclass(slots=True)
class MessagePaths:
    """Every path of one document, elements of an array taken together.

    Attributes:
        kinds: By path the kind of what is there first.
        places: By identity of each object and array its path.
    """

    kinds: dict[Segments, str] = field(default_factory=dict)
    places: dict[int, Segments] = field(default_factory=dict)
    _asked: dict[Segments, Segments | None] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> Self:
        """The paths of a document, the first `PATH_LIMIT` of them."""
        found = cls()
        for segments, token in _walk(document):
            found.kinds.setdefault(segments, kind_of(token))
            if isinstance(token, dict | list):
                found.places.setdefault(id(token), segments)
            if len(found.kinds) >= PATH_LIMIT:
                break
        return found

    def place(self, token: object) -> Segments | None:
        """Where an object or array of the document stands; None for anything else."""
        return self.places.get(id(token)) if isinstance(token, dict | list) else None

    def nearest(self, wanted: Segments) -> Segments | None:
        """The existing path most like one that is not there: other case, other level, small misspelling.

        >>> MessagePaths.of({"Body": {"heartRate": 61}}).nearest(("Body", "heartrate"))
        ('Body', 'heartRate')
        >>> MessagePaths.of({"Body": {"vitals": {"hr": 61}}}).nearest(("Body", "hr"))
        ('Body', 'vitals', 'hr')
        """
        if wanted not in self._asked:
            self._asked[wanted] = self._nearest(wanted) if wanted else None
        return self._asked[wanted]

    def _nearest(self, wanted: Segments) -> Segments | None:
        rated = [
            (distance, len(real), real)
            for real in self.kinds
            if real and real != wanted and _name_distance(real[-1], wanted[-1]) < _ALIKE
            for distance in (_distance(wanted, real),)
            if distance <= _NEAR
        ]
        return min(rated)[2] if rated else None


def _walk(document: object) -> Iterator[tuple[Segments, object]]:
    waiting: list[tuple[Segments, object]] = [((), document)]
    for segments, token in waiting:
        yield segments, token
        if isinstance(token, dict):
            waiting += [((*segments, str(name)), value) for name, value in token.items()]
        elif isinstance(token, list):
            waiting += [((*segments, ELEMENT), value) for value in token]
        if len(waiting) > 20 * PATH_LIMIT:
            return


def _distance(wanted: Segments, real: Segments) -> float:
    """How far two paths are apart: 0 for equal names, about 0.6 for a level too many or too few."""
    row = [_MISSING_LEVEL * column for column in range(len(real) + 1)]
    for at, name in enumerate(wanted):
        before = row
        row = [_MISSING_LEVEL * (at + 1)]
        for column, other in enumerate(real):
            row.append(
                min(
                    before[column] + _name_distance(other, name),
                    before[column + 1] + _MISSING_LEVEL,
                    row[column] + (_MISSING_LEVEL if other != ELEMENT else _MISSING_LEVEL / 2),
                )
            )
    return row[-1]


@lru_cache(maxsize=16_384)
def _name_distance(real: str, wanted: str) -> float:
    if real == wanted:
        return 0.0
    if ELEMENT in (real, wanted):
        return 2.0
    if real.casefold() == wanted.casefold():
        return 0.1
    plain_real, plain_wanted = (re.sub(r"[\W_]", "", name).casefold() for name in (real, wanted))
    if plain_real == plain_wanted:
        return 0.2
    if plain_wanted == _initials(real) or plain_real == _initials(wanted):
        return 0.5
    if min(len(plain_real), len(plain_wanted)) < 3:
        return 2.0
    return 2 * (1 - SequenceMatcher(None, plain_real, plain_wanted).ratio())


def _initials(name: str) -> str:
    """The first letters of the words of a name: hr of heartRate and of heart_rate."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)
    return "".join(word[0] for word in words).casefold() if len(words) > 1 else name
