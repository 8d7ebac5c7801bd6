"""Pieces of SQL with the values of their question marks, kept in step. Pure.

The text is made of constants of this program alone; whatever a client sent is a value.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """A condition, or a SELECT, with its values in order."""

    text: str
    values: tuple[Any, ...] = ()


_BUNCH = 16
NEVER = Piece("0")
ALWAYS = Piece("1")


def any_of(pieces: Iterable[Piece]) -> Piece:
    """One of them holds; none at all never does."""
    found = [piece for piece in pieces if piece != NEVER]
    return _joined(found, " OR ") if found else NEVER


def all_of(pieces: Iterable[Piece]) -> Piece:
    """Each of them holds; so it is when there are none."""
    found = [piece for piece in pieces if piece != ALWAYS]
    return _joined(found, " AND ") if found else ALWAYS


def none_of(piece: Piece) -> Piece:
    """It does not hold, or cannot be said."""
    return Piece(f"NOT coalesce({piece.text}, 0)", piece.values)


def marks(values: Iterable[Any]) -> str:
    """Question marks for so many values."""
    return ", ".join("?" for _ in values)


def _joined(pieces: list[Piece], word: str) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    values = tuple(value for piece in pieces for value in piece.values)
    return Piece(f"({_bracketed([piece.text for piece in pieces], word)})", values)


def _bracketed(texts: list[str], word: str) -> str:
    """Joined in bunches: SQLite goes one level deeper with every text of a flat row, and has 1,000 levels."""
    while len(texts) > _BUNCH:
        texts = [f"({word.join(texts[at : at + _BUNCH])})" for at in range(0, len(texts), _BUNCH)]
    return word.join(texts)
