"""Step 4: where an expression stopped finding anything, in words. Pure."""

from dataclasses import dataclass

from pulseweir.ingest.device_mapping.tokens import Instant, instant_text
from pulseweir.ingest.mapping_review.message_paths import MessagePaths, Segments, describe, path_text


@dataclass(frozen=True, slots=True)
class Stop:
    """The sub-expression at which an expression stopped, and what was there instead.

    Attributes:
        expression: The part that selected nothing, as the mapping writes it.
        because: What was there instead: kinds and names, no values unless asked for.
        nearest: The existing path most like the one that is not there; None when none is.
        hints: What the language does that the writer may not have expected.
        distance: How many tests and steps are between this and a match; 1 is one away.
    """

    expression: str
    because: str
    nearest: str | None = None
    hints: tuple[str, ...] = ()
    distance: int = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a trace may look at and tell.

    Attributes:
        paths: Of the whole document in which an expression is evaluated.
        show_values: Whether sentences may hold values of the message.
        root: What the document is called.
    """

    paths: MessagePaths
    show_values: bool = False
    root: str = "the message"

    def told(self, token: object) -> str:
        """A token in words; its value only when that is allowed."""
        if not self.show_values or isinstance(token, dict | list) or token is None:
            return describe(token)
        value = instant_text(token.microseconds) if isinstance(token, Instant) else repr(token)
        return f"{describe(token)}, {value}"

    def place_text(self, location: Segments) -> str:
        """A place in the document, as sentences call it."""
        return path_text(location) if location else self.root

    def nearest(self, *wanted: Segments) -> str | None:
        """The nearest existing path of the first wanted one that has any."""
        for segments in wanted:
            found = self.paths.nearest(segments)
            if found is not None:
                return path_text(found)
        return None


def case_hint(wanted: str, nearest: str | None) -> tuple[str, ...]:
    """A hint when the nearest path has the wanted name in other letters, upper or lower."""
    for name in (nearest or "").replace("[*]", "").split("."):
        if name != wanted and name.casefold() == wanted.casefold():
            return (f"Names are case-sensitive: {wanted} is not {name}.",)
    return ()
