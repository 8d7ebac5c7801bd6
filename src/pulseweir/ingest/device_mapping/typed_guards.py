"""Step 4: whether the text of a body may hide what a typed decoder skips. Pure.

The decoder skips the members no template reads, but not everything it skips is harmless: an object among them may
match a scan, nest too deep, or hold what the full decoder refuses. These checks are cheap and err on the safe side.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from pulseweir.ingest.device_mapping.typed_objects import Counts, Flags, Places

# So many objects may a body have beyond those that the templates read.
SPARE_OBJECTS = 4
# A number overflows by its exponent, which then has three digits, or by more than 200 digits in a row: eight samples
# in a row, a stride apart, are digits then.
_STRIDE = 16
_DOUBLINGS = (1, 2, 4)
_EXPONENT_DIGITS = 3
_PIECE = 65_536
_END = b"\n" * 256

Letters = np.ndarray[tuple[int], np.dtype[np.uint8]]


def joined_bodies(bodies: Sequence[bytes]) -> bytes:
    """All bodies in one text, apart from each other."""
    return b"\n".join(bodies) + _END


def doubtful_bodies(
    bodies: Sequence[bytes],
    joined: bytes,
    objects: Counts,
    scanned: Callable[[], dict[bytes, Flags]],
    nesting_limit: int,
) -> Flags:
    """Which bodies are left to the exact tiers.

    Args:
        bodies: Each of them decodes.
        joined: From `joined_bodies`.
        objects: How many objects of each body the decoder saw.
        scanned: Gives each member name that a scan looks for, in quotes, with which bodies were seen to have it.
        nesting_limit: How deep a body may nest.
    """
    letters = np.frombuffer(joined, np.uint8)
    doubtful: Flags = np.zeros(len(bodies), np.bool_)
    if not joined.isascii():
        doubtful |= np.array([not _is_text(body) for body in bodies], np.bool_)
    opened, exponents = _marks(letters)
    for place in _suspicious_bodies(bodies, letters, exponents):
        doubtful[place] |= not _decodes(bodies[place])
    if opened != objects.sum() or objects.max() > nesting_limit or b"[" in joined:
        doubtful |= _hidden(bodies, joined, objects, scanned, nesting_limit)
    return doubtful


def _marks(letters: Letters) -> tuple[int, Places]:
    """How many objects open in a text, and where an e follows a digit."""
    opened = 0
    found = []
    # Pieces that stay in the processor's cache.
    for start in range(0, len(letters) - 1, _PIECE):
        piece = letters[start : start + _PIECE + 1]
        opened += int(np.count_nonzero(piece[:-1] == ord("{")))
        is_exponent = ((piece[1:] | np.uint8(0x20)) == ord("e")) & _is_digit(piece[:-1])
        if is_exponent.any():
            found.append(np.flatnonzero(is_exponent) + (start + 1))
    return opened, np.concatenate(found) if found else np.zeros(0, np.int64)


def _hidden(
    bodies: Sequence[bytes],
    joined: bytes,
    objects: Counts,
    scanned: Callable[[], dict[bytes, Flags]],
    nesting_limit: int,
) -> Flags:
    """Bodies that may nest too deep, or have an object with a member that a scan looks for."""
    braces = np.array([body.count(b"{") for body in bodies], np.int64)
    brackets = np.array([body.count(b"[") for body in bodies], np.int64) if b"[" in joined else 0
    doubtful: Flags = (braces + brackets > nesting_limit) | (braces > objects + SPARE_OBJECTS)
    unseen = braces != objects
    names = scanned() if unseen.any() else {}
    if not names:
        return doubtful
    # Without escapes, a member's name stands in the text as it is, once for each object that has it.
    is_plain = b"\\" not in joined
    if not is_plain:
        doubtful |= unseen & np.array([b"\\" in body for body in bodies], np.bool_)
    for name, has in names.items():
        if not is_plain or joined.count(name) != np.count_nonzero(has):
            doubtful |= unseen & (_occurrences(bodies, joined, name) != has)
    return doubtful


def _occurrences(bodies: Sequence[bytes], joined: bytes, name: bytes) -> Counts:
    """How often a name occurs in each body."""
    places = [found.start() for found in re.finditer(re.escape(name), joined)]
    return np.bincount(_bodies_at(bodies, np.array(places, np.int64)), minlength=len(bodies))


def _bodies_at(bodies: Sequence[bytes], places: Places) -> Places:
    """In which body each place of the joined text lies."""
    return np.searchsorted(np.cumsum([len(body) + 1 for body in bodies]), places, side="right")


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decodes(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _suspicious_bodies(bodies: Sequence[bytes], letters: Letters, exponents: Places) -> list[int]:
    """The bodies that may hold a number too large to be one."""
    is_signed = (letters[exponents + 1] == ord("+")) | (letters[exponents + 1] == ord("-"))
    first = exponents + 1 + is_signed
    for step in range(_EXPONENT_DIGITS):
        is_long = _is_digit(letters[first + step])
        first, exponents = first[is_long], exponents[is_long]
    run = _is_digit(letters[::_STRIDE])
    for step in _DOUBLINGS:
        run = run[:-step] & run[step:]
    places = np.concatenate([exponents, np.flatnonzero(run) * _STRIDE])
    if not places.size:
        return []
    suspicious: list[int] = np.unique(_bodies_at(bodies, places)).tolist()
    return suspicious


def _is_digit(letters: Letters) -> Flags:
    digits: Flags = (letters - np.uint8(ord("0"))) < 10
    return digits
