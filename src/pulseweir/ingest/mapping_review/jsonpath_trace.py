"""Step 4: at which step, and at which test of a filter, a JSONPath selected nothing. Pure.

Every part is tried by the expression compiler that normalizes messages, so a trace never knows better than it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pulseweir.ingest.device_mapping.expressions import Expression, compile_expression
from pulseweir.ingest.device_mapping.jsonpath_parser import (
    Comparison,
    Composite,
    Condition,
    Constant,
    Indexes,
    Members,
    Path,
    Pattern,
    Root,
    Side,
    Slice,
    Step,
    Where,
    parse,
)
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from pulseweir.ingest.mapping_review.jsonpath_text import condition_text, side_text, step_text, steps_text
from pulseweir.ingest.mapping_review.message_paths import ELEMENT, Segments, describe, kind_of, path_text
from pulseweir.ingest.mapping_review.stop import Stop, Surroundings, case_hint

_CANDIDATE_LIMIT = 300
_TIED_LIMIT = 30
_NESTING_LIMIT = 3


def trace_jsonpath(text: str, document: object, around: Surroundings) -> Stop | None:
    """Where a JSONPath stops on a document; None when it selects something.

    Args:
        text: The expression.
        document: What ``$`` is.
        around: The paths of the whole document.

    >>> from pulseweir.ingest.mapping_review.message_paths import MessagePaths
    >>> envelope = {"Body": {"heartRate": 61}}
    >>> stop = trace_jsonpath("$..[?(@Body.heartrate)]", envelope, Surroundings(MessagePaths.of(envelope)))
    >>> stop.expression, stop.nearest
    ('@Body.heartrate', 'Body.heartRate')
    """
    try:
        steps = parse(text)
        compile_expression(text, "JsonPath")
    except ExpressionFault as fault:
        return Stop(text, str(fault), hints=syntax_hints(text), distance=100)
    stop = _Trace(around, document).stop(steps, document, (), 0)
    if stop is None or "@." in text:
        return stop
    return replace(stop, expression=stop.expression.replace("@.", "@"), because=stop.because.replace("@.", "@"))


def syntax_hints(text: str) -> tuple[str, ...]:
    """What may be meant where a text is no JSONPath of this dialect."""
    hints = []
    if '"' in text:
        hints.append("Texts stand in single quotes in this dialect; double quotes are not known.")
    if "!" in text.replace("!=", ""):
        hints.append("There is no `!` in this dialect: test for the opposite, or use JMESPath.")
    if "?" in text and "((" in text.replace(" ", ""):
        hints.append("Tests cannot be grouped with parentheses in this dialect.")
    if any(text[at : at + 1].isdigit() and text[at + 1 : at + 3] in {"&&", "||"} for at in range(len(text))):
        hints.append("A number in a filter ends with a space or `)`.")
    return tuple(hints)


@dataclass(frozen=True, slots=True)
class _Trace:
    around: Surroundings
    document: object

    def stop(self, steps: Sequence[Step], document: object, base: Segments, depth: int) -> Stop | None:
        before: list[object] = [document]
        for at in range(len(steps)):
            shown = steps_text(steps[: at + 1], "$")
            try:
                found = _compiled(shown).matches(document)
            except ExpressionFault as fault:
                if isinstance(steps[at], Where):
                    return replace(self.object_filter(shown, before), distance=len(steps) - at)
                return Stop(shown, str(fault), distance=len(steps) - at)
            if not found:
                stop = self.at_step(steps[at:], shown, before, ((*base, *_plain_chain(steps[:at])), depth))
                return replace(stop, distance=stop.distance + len(steps) - at - 1)
            before = found
        return None

    def at_step(self, steps: Sequence[Step], shown: str, before: list[object], place: tuple[Segments, int]) -> Stop:
        step = steps[0]
        if isinstance(step, Members):
            return self.members(step, steps, shown, before, place[0])
        if isinstance(step, Where):
            return self.filter(step, shown, before, place)
        if isinstance(step, Indexes | Slice):
            return self.elements(step, shown, before)
        return Stop(shown, "nothing is there.")

    def members(self, step: Members, steps: Sequence[Step], shown: str, before: list[object], base: Segments) -> Stop:
        token = next((one for one in before if isinstance(one, dict)), before[0])
        if step.names is None:
            return Stop(shown, f"there is {describe(token)} and `*` asks for members.")
        name = step.names[0]
        location = self.location(token, base)
        if step.scan:
            nearest = self.around.nearest((name,))
            return Stop(shown, f"no member {name} is anywhere below.", nearest, case_hint(name, nearest))
        nearest = self.around.nearest((*location, *_plain_chain(steps)), (*location, name))
        hints = case_hint(name, nearest)
        if isinstance(token, list):
            hints = (f"An array has no members: write [*] before .{name}, or [0] for its first element.",)
        return Stop(
            shown, f"{self.around.place_text(location)} is {describe(token)}: no member {name}.", nearest, hints
        )

    def elements(self, step: Indexes | Slice, shown: str, before: list[object]) -> Stop:
        arrays = [one for one in before if isinstance(one, list)]
        if not arrays:
            hint = "[*] goes over arrays only; over the members of an object goes .*"
            return Stop(shown, f"there is {describe(before[0])}, not an array.", hints=(hint,))
        return Stop(shown, f"the array has {max(len(one) for one in arrays)} elements: {step_text(step)} has none.")

    def object_filter(self, shown: str, before: list[object]) -> Stop:
        hint = (
            "A filter on an object tries its members, not the object itself. To test the object, scan from the level"
            " above: $..[?(…)]; the scan tries the start as well."
        )
        return Stop(shown, f"the filter stands on {describe(before[0])}.", hints=(hint,))

    def filter(self, step: Where, shown: str, before: list[object], place: tuple[Segments, int]) -> Stop:
        candidates = list(_candidates(step, before))
        if not step.scan and not candidates and any(isinstance(one, dict) for one in before):
            return self.object_filter(shown, before)
        if not candidates:
            return Stop(shown, f"there is {describe(before[0])}: nothing to try the filter on.")
        rated = [(*self.blame(step.condition, one), one) for one in candidates]
        count = min(one[0] for one in rated)
        if not count:
            return Stop(shown, "its tests hold, but what they select are members, no values.")
        leaves, stop = self.closest([(leaves, one) for least, leaves, one in rated if least == count], place)
        others = [condition_text(leaf) for leaf in leaves[1:]]
        also = f" Not true there either: {', '.join(others)}." if others else ""
        return replace(
            stop, because=stop.because + also, hints=(*stop.hints, *_nesting_hints(step.condition)), distance=count
        )

    def closest(
        self, tied: list[tuple[list[Comparison], object]], place: tuple[Segments, int]
    ) -> tuple[list[Comparison], Stop]:
        """Of candidates that lack equally many tests, the one on which the first of them comes furthest."""
        rated: list[tuple[int, bool, int, Stop]] = []
        for at, (leaves, one) in enumerate(tied[:_TIED_LIMIT]):
            stop = self.failed_test(leaves[0], one, place)
            is_beside = (stop.nearest or "").rpartition(".")[0] == path_text(self.location(one, place[0]))
            rated.append((stop.distance, stop.nearest is None or not is_beside, at, stop))
        _, _, best, stop = min(rated, key=lambda one: one[:3])
        return tied[best][0], stop

    def blame(self, condition: Condition, candidate: object) -> tuple[int, list[Comparison]]:
        """How many tests are missing for a condition to hold, and which."""
        if isinstance(condition, Comparison):
            return (0, []) if self.holds(condition, candidate) else (1, [condition])
        parts = [self.blame(part, candidate) for part in condition.parts]
        leaves = [leaf for _, found in parts for leaf in found]
        if condition.every:
            return sum(count for count, _ in parts), leaves
        least = min(count for count, _ in parts)
        return least, leaves if least else []

    def holds(self, test: Comparison, candidate: object) -> bool:
        lefts = self.values(test.left, candidate)
        if test.right is None:
            return bool(lefts)
        if not isinstance(test.right, Path):
            text = f"$[?(@ {test.operator} {side_text(test.right)})]"
            return any(_selects(text, [left]) for left in lefts)
        text = f"$[?(@.left {test.operator} @.right)]"
        rights = self.values(test.right, candidate)
        return any(_selects(text, [{"left": left, "right": right}]) for left in lefts for right in rights)

    def values(self, side: Side, candidate: object) -> list[object]:
        """What a side of a test selects: a path from the candidate, or with ``$`` from the document."""
        if not isinstance(side, Path):
            return [side.value] if isinstance(side, Constant) else []
        start, steps = self.start(side, candidate)
        try:
            return _compiled(steps_text(steps)).matches(start)
        except ExpressionFault:
            return []

    def start(self, path: Path, candidate: object) -> tuple[object, Sequence[Step]]:
        if path.steps and isinstance(path.steps[0], Root):
            return self.document, path.steps[1:]
        return candidate, path.steps

    def failed_test(self, test: Comparison, candidate: object, place: tuple[Segments, int]) -> Stop:
        base, depth = place
        shown = condition_text(test)
        if isinstance(test.left, Path) and depth < _NESTING_LIMIT:
            start, steps = self.start(test.left, candidate)
            location = () if start is self.document else self.location(start, base)
            stop = self.stop(steps, start, location, depth + 1)
            if stop is not None:
                return replace(stop, expression=shown)
            left = self.values(test.left, candidate)
            if left:
                return Stop(shown, f"{side_text(test.left)} is {self._compared(left[0], test)}", distance=0)
        return Stop(shown, f"the test is not true of {describe(candidate)}.")

    def _compared(self, left: object, test: Comparison) -> str:
        told = self.around.told(left)
        right = test.right
        if isinstance(right, Pattern):
            return f"{told}, and does not fit the pattern." if isinstance(left, str) else f"{told}: only texts match."
        if isinstance(right, Constant) and _family(left) != _family(right.value):
            return f"{told}, compared with {describe(right.value)}: they never are {test.operator}."
        return f"{told}: the comparison is not true."

    def location(self, token: object, base: Segments) -> Segments:
        found = self.around.paths.place(token)
        return base if found is None else found


def _plain_chain(steps: Sequence[Step]) -> Segments:
    names: list[str] = []
    for step in steps:
        if isinstance(step, Members) and not step.scan and step.names is not None:
            names.append(step.names[0])
        elif isinstance(step, Indexes | Slice):
            names.append(ELEMENT)
        else:
            break
    return tuple(names)


def _candidates(step: Where, before: list[object]) -> Iterator[object]:
    if not step.scan:
        children = [child for one in before if isinstance(one, list) for child in one]
        yield from children[:_CANDIDATE_LIMIT]
        return
    waiting = list(before)
    for given, token in enumerate(waiting):
        if given >= _CANDIDATE_LIMIT:
            return
        yield token
        children = list(token.values()) if isinstance(token, dict) else token if isinstance(token, list) else []
        waiting += [child for child in children if isinstance(child, dict | list)]


@lru_cache(maxsize=1_024)
def _compiled(text: str) -> Expression:
    return compile_expression(text, "JsonPath")


def _selects(text: str, document: object) -> bool:
    try:
        return bool(_compiled(text).matches(document))
    except ExpressionFault:
        return False


def _family(token: object) -> str:
    return "number" if kind_of(token) in {"integer", "number"} else kind_of(token)


def _nesting_hints(condition: Condition) -> tuple[str, ...]:
    if isinstance(condition, Composite) and any(isinstance(part, Composite) for part in condition.parts):
        grouped = condition_text(condition, grouped=True)
        return (f"&& and || nest to the right without precedence: this filter is read as {grouped}.",)
    return ()
