"""Step 4: one batch of messages as the templates of a typed plan see it. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import UNSET

from pulseweir.ingest.device_mapping.budget import STEP_LIMIT, Budget
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from pulseweir.ingest.device_mapping.typed_columns import Column
from pulseweir.ingest.device_mapping.typed_formulas import Formula, results_of
from pulseweir.ingest.device_mapping.typed_objects import Counts, Flags, Objects, Scalar
from pulseweir.ingest.device_mapping.typed_paths import BODY, Check, Combined, Passes, Path, Present, Source

_decode_members = msgspec.json.Decoder(dict[str, Scalar]).decode
Members = dict[str, Scalar]


class Batch:
    """The members of a batch of messages, each looked up once, and which messages are doubtful.

    Attributes:
        doubtful: Messages the plan must leave undecided, so far.
        steps: What comparisons took of each message's budget, so far.
        properties: Of the messages, by path; a path may be missing where no message has any.
    """

    def __init__(self, objects: Objects) -> None:
        """Take the objects of the bodies."""
        self.doubtful = objects.none.copy()
        self.steps: Counts = np.zeros(objects.count, np.int64)
        self.properties: dict[Path, list[Members]] = {}
        self._objects = objects
        self._values: dict[Source, list[object]] = {}
        self._failed: dict[Formula, Flags] = {}
        self._columns: dict[tuple[Source, ...], Column] = {}

    def column(self, sources: tuple[Source, ...]) -> Column:
        """The first of some members that is there and not null, of each message."""
        found = self._columns.get(sources)
        if found is None:
            values = self.values(sources[0])
            for path in sources[1:]:
                pairs = zip(values, self.values(path), strict=True)
                values = [second if first is None or first is UNSET else first for first, second in pairs]
            found = self._columns[sources] = Column(values)
        return found

    def values(self, source: Source) -> list[object]:
        """A member of each message, or what is computed of its members; UNSET where there is none."""
        found = self._values.get(source)
        if found is None:
            found = self._computed(source) if isinstance(source, Formula) else self._looked_up(source)
            self._values[source] = found
        return found

    def failed(self, formula: Formula) -> Flags:
        """Messages for which a formula fails."""
        self.values(formula)
        return self._failed[formula]

    def present(self, path: Path, *, filled: bool = False) -> Flags:
        """Which messages have a member; `filled` asks that it is not null either."""
        if len(path) < 2:
            return self._objects.every
        if self._objects.is_object(path):
            there = self._objects.there(path)
            return there if filled else there | self._objects.null(path)
        column = self.column((path,))
        if filled or column.filled.all():
            return column.filled
        return np.array([value is not UNSET for value in self.values(path)], np.bool_)

    def holds(self, check: Check) -> Flags:
        """Which messages satisfy a check; one that cannot be checked becomes doubtful."""
        if isinstance(check, Present):
            return self.present(check.path, filled=check.filled)
        if isinstance(check, Combined):
            combine = np.logical_and if check.every else np.logical_or
            combined: Flags = combine.reduce([self.holds(part) for part in check.parts])
            return combined
        if check.equals is not None:
            return np.array([value == check.equals for value in self.values(check.path)], np.bool_)
        return np.array([self._passes(check, *pair) for pair in enumerate(self.values(check.path))], np.bool_)

    def _passes(self, check: Passes, message: int, value: object) -> bool:
        if value is UNSET:
            return False
        budget = Budget()
        try:
            return check.test(value, budget)
        except ExpressionFault:
            self.doubtful[message] = True
            return False
        finally:
            self.steps[message] += STEP_LIMIT - budget.steps

    def _computed(self, formula: Formula) -> list[object]:
        results, failed = results_of(formula, [self.values(path) for path in formula.paths])
        self._failed[formula] = np.array(failed, np.bool_)
        return results

    def _looked_up(self, path: Path) -> list[object]:
        if path[:1] == BODY:
            return self._objects.values(path)
        members = self.properties.get(path[:1])
        if members is None:
            return [UNSET] * self._objects.count
        return [member.get(path[1], UNSET) for member in members]


def decoded_properties(texts: Sequence[str | None]) -> tuple[list[Members], list[int]]:
    """The properties of each message, and the places of those that are more than a flat object of scalars."""
    try:
        return [_decode_members(text) if text else {} for text in texts], []
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    found: list[Members] = []
    refused: list[int] = []
    for place, text in enumerate(texts):
        try:
            found.append(_decode_members(text) if text else {})
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            found.append({})
            refused.append(place)
    return found, refused
