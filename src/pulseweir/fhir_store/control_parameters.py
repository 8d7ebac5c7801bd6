"""Parameters that say how an answer looks or which part of it comes, with the modifiers that each takes. Pure.

Every request is held to this one table, whichever interaction it asks for: without its modifier such a parameter
would ask something else, and the oldest would come for the newest.
Source: HL7 FHIR R4, search, http://hl7.org/fhir/R4/search.html#modifiers; the operations' own definitions.
"""

import re
from collections.abc import Sequence

from pulseweir.fhir_store.outcomes import Refusal, parameter_place

Pairs = Sequence[tuple[str, str]]

FOLLOWED = frozenset({"iterate", "recurse"})
"""What `_include` and `_revinclude` take; `recurse` is what R4's predecessor called it."""
_NONE: frozenset[str] = frozenset()
PRESENTATION = {
    **dict.fromkeys(("_count", "_summary", "_elements", "_total", "_format", "_pretty", "_contained"), _NONE),
    **dict.fromkeys(("_include", "_revinclude"), FOLLOWED),
}
"""What does not change what is searched in which order."""
CONTROLS = PRESENTATION | dict.fromkeys(
    ("_sort", "_type", "_page", "_since", "_at", "_outputFormat", "_typeFilter"), _NONE
)
"""The modifiers of every such parameter."""
_OF_OPERATIONS = {
    "$everything": ("start", "end"),
    "$export": ("patient",),
    "$lastn": ("max",),
    "$validate": ("mode", "profile"),
    "$events": ("eventsSinceNumber", "eventsUntilNumber", "content"),
    "$status": ("id", "status"),
}
"""Further parameters of operations that take no modifier; what else they take is searched by."""


def refuse_modifiers(pairs: Pairs, operation: str = "") -> None:
    """Nothing, if no parameter of this kind has a modifier that it does not take.

    Args:
        pairs: Names and values, decoded.
        operation: The last segment of the path, which tells an operation.

    Raises:
        Refusal: 400 naming the modifier.
    """
    for name, _ in pairs:
        base, colon, modifier = name.partition(":")
        if not colon:
            continue
        taken = CONTROLS.get(base, _NONE if base in _OF_OPERATIONS.get(operation, ()) else None)
        if taken is not None and modifier not in taken:
            shown = re.sub(r"[^\w:.\-*]", "?", modifier[:64])
            text = f"Unsupported modifier `{shown}` on {base}."
            ways = f"It takes {' or '.join(sorted(taken))}." if taken else "It takes none; leave it out."
            raise Refusal(400, "not-supported", f"{text} {ways}", parameter_place(name))
