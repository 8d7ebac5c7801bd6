"""Step 4: which members of a message the templates of a mapping read, as paths from the envelope. Pure.

A template qualifies for the typed decoder when its type match and its fields read members by plain paths. What it
reads is worked out once, when the mapping loads.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.comparisons import Test, comparison, compile_pattern, matches_pattern
from pulseweir.ingest.device_mapping.expressions import Expression
from pulseweir.ingest.device_mapping.jsonpath_parser import (
    Comparison,
    Composite,
    Condition,
    Constant,
    Members,
    Pattern,
    Root,
    Side,
    Step,
    Where,
    parse,
)
from pulseweir.ingest.device_mapping.jsonpath_parser import Path as FilterPath
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from pulseweir.ingest.device_mapping.typed_formulas import Formula, NoFormula, formula_of

Path = tuple[str, ...]
Source = Path | Formula
ENVELOPE: Path = ()
BODY: Path = ("Body",)
PROPERTIES: tuple[Path, ...] = (("Properties",), ("SystemProperties",))
TOP = frozenset({"Body", "Properties", "SystemProperties"})
_TEST_STEPS = 1_000  # a test that costs more leaves its message undecided
_NODE_WEIGHT = 3
_MATCHED = "matchedToken"
_BARE = r'(?:[A-Za-z_][A-Za-z0-9_]*|"[^"\\\x00-\x1f]+")'
_QUERY = re.compile(rf"\s*{_BARE}(?:\.{_BARE})*\s*", re.ASCII)
_FIELD = re.compile(_BARE, re.ASCII)


class Unplannable(ValueError):
    """An expression reads a message in a way the typed decoder does not know."""


@dataclass(frozen=True, slots=True)
class Present:
    """The member at a path is there; `filled` asks that it is not null either."""

    path: Path
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Passes:
    """The member at a path is there and its value passes a test."""

    path: Path
    test: Callable[[object, Budget], bool]
    equals: str | None = None


@dataclass(frozen=True, slots=True)
class Combined:
    """Every part holds, or any part does."""

    every: bool
    parts: "tuple[Check, ...]"


Check = Present | Passes | Combined


@dataclass(frozen=True, slots=True)
class Match:
    """When a template makes a measurement of a message, and of which token.

    Attributes:
        check: Holds for the messages that match, once.
        token: Where the matched token is.
        triggers: Members without one of which no other object of the message can match too; empty when only the
            token itself is ever looked at.
    """

    check: Check
    token: Path
    triggers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a field is read, or of what it is computed; the first source that is there and not null wins."""

    label: str
    required: bool
    sources: tuple[Source, ...]

    @property
    def formulas(self) -> list[Formula]:
        """The sources that are computed."""
        return [source for source in self.sources if isinstance(source, Formula)]


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the fields of a measurement are read; None for those not asked for, values in mapping order."""

    device: Wanted
    timestamp: Wanted
    correlation: Wanted | None
    patient: Wanted | None
    encounter: Wanted | None
    values: tuple[Wanted, ...]

    @property
    def wanted(self) -> list[Wanted]:
        """Every field."""
        named = (self.device, self.timestamp, self.correlation, self.patient, self.encounter)
        return [field for field in (*named, *self.values) if field is not None]

    @property
    def paths(self) -> list[Path]:
        """Every path a field is read from."""
        sources = [source for field in self.wanted for source in field.sources]
        return [path for source in sources for path in (source.paths if isinstance(source, Formula) else (source,))]

    @property
    def weight(self) -> int:
        """What evaluating them costs, in plain fields."""
        return sum(1 + sum(_NODE_WEIGHT * formula.nodes for formula in field.formulas) for field in self.wanted)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one template reads.

    Attributes:
        type_name: The measurement type it makes.
        match: When it makes a measurement.
        fields: Of what; None when they are beyond the typed decoder, which then leaves every match undecided.
    """

    type_name: str
    match: Match
    fields: Fields | None


def reading_of(template: Template) -> Reading:
    """What a template reads.

    Raises:
        Unplannable: Its match cannot be planned.
    """
    if template.type_match is None:
        raise Unplannable("no type match")
    match = _match(template.type_match)
    try:
        fields = _fields(template, match.token)
    except (Unplannable, NoFormula, ExpressionFault):
        fields = None
    return Reading(template.type_name, match, fields)


def _fields(template: Template, token: Path) -> Fields:
    def wanted(field: Field | None) -> Wanted | None:
        return None if field is None else _wanted(field, template, token)

    device, timestamp = wanted(template.device), wanted(template.timestamp)
    if device is None or timestamp is None:
        raise Unplannable("no device or no timestamp")
    values = tuple(found for found in map(wanted, template.values) if found is not None)
    optional = wanted(template.correlation), wanted(template.patient), wanted(template.encounter)
    return Fields(device, timestamp, *optional, values)


def paths_of(check: Check) -> list[Path]:
    """Every path a check reads."""
    if isinstance(check, Combined):
        return [path for part in check.parts for path in paths_of(part)]
    return [check.path]


def tested_paths(check: Check) -> list[Path]:
    """Every path whose value a check compares."""
    if isinstance(check, Combined):
        return [path for part in check.parts for path in tested_paths(part)]
    return [check.path] if isinstance(check, Passes) else []


def _match(expression: Expression) -> Match:
    if expression.language == "JmesPath":
        path = _query(expression.text)
        return Match(Present(path, filled=True), path)
    try:
        steps = parse(expression.text)
    except ExpressionFault as fault:
        raise Unplannable(str(fault)) from None
    last = steps[-1] if steps else None
    if not isinstance(last, Where):
        path = _names(steps)
        return Match(Present(path), path)
    if not last.scan or _names(steps[:-1]) not in {ENVELOPE, BODY}:
        raise Unplannable("only a scan from the top or from the body is known")
    return _scan(last.condition, inside_body=len(steps) > 1)


def _scan(condition: Condition, *, inside_body: bool) -> Match:
    triggers = _triggers(condition)
    if triggers is None:
        raise Unplannable("values that are no objects can match too")
    at_top = triggers <= TOP and not inside_body
    if not at_top and triggers & TOP:
        raise Unplannable("the message and its body can both match")
    site = ENVELOPE if at_top else BODY
    return Match(_check(condition, site), site, triggers)


def _triggers(condition: Condition) -> frozenset[str] | None:
    """Members one of which an object must have for the condition to hold of it, or to fail on it alone."""
    if isinstance(condition, Composite):
        found = [_triggers(part) for part in condition.parts]
        if condition.every:
            return next((names for names in found if names is not None), None)
        if any(names is None for names in found):
            return None
        return frozenset(name for names in found if names is not None for name in names)
    steps = condition.left.steps if isinstance(condition.left, FilterPath) else ()
    return frozenset(_names(steps)[:1]) if steps and not isinstance(steps[0], Root) else None


def _check(condition: Condition, site: Path) -> Check:
    if isinstance(condition, Composite):
        return Combined(condition.every, tuple(_check(part, site) for part in condition.parts))
    return _comparison(condition, site)


def _comparison(condition: Comparison, site: Path) -> Check:
    path = _side(condition.left, site)
    right = condition.right
    if condition.operator == "exists" or right is None:
        return Present(path)
    if isinstance(right, Pattern) and condition.operator == "=~":
        return Passes(path, matches_pattern(compile_pattern(right.text, right.flags)))
    if not isinstance(right, Constant):
        raise Unplannable("a comparison of two members")
    is_text = condition.operator in {"==", "==="} and isinstance(right.value, str)
    test = _against(comparison(condition.operator), right.value)
    return Passes(path, test, equals=str(right.value) if is_text else None)


def _against(test: Test, constant: object) -> Callable[[object, Budget], bool]:
    return lambda value, budget: test(value, constant, budget)


def _side(side: Side, site: Path) -> Path:
    if not isinstance(side, FilterPath) or not side.steps:
        raise Unplannable("a test without a member")
    if isinstance(side.steps[0], Root):
        return _names(side.steps[1:])
    return site + _names(side.steps)


def _wanted(field: Field, template: Template, token: Path) -> Wanted | None:
    """Where a field is read; None for an optional field without an expression."""
    if not field.expressions:
        if field.required:
            raise Unplannable("a required field without an expression")
        return None
    return Wanted(
        field.label,
        field.required,
        tuple(_source(expression, template, token) for expression in field.expressions),
    )


def _source(expression: Expression, template: Template, token: Path) -> Source:
    def located(names: Path) -> Path:
        if not template.uses_envelope:
            return token + names
        return token + names[1:] if names[:1] == (_MATCHED,) else names

    if expression.language == "JsonPath":
        return located(_names(parse(expression.text)))
    if _QUERY.fullmatch(expression.text) is not None:
        return located(_query(expression.text))
    return formula_of(expression.text, located)


def _names(steps: Sequence[Step]) -> Path:
    names: list[str] = []
    for step in steps:
        if not isinstance(step, Members) or step.scan or step.names is None or len(step.names) != 1:
            raise Unplannable("a path that is not plain")
        names.append(step.names[0])
    return tuple(names)


def _query(text: str) -> Path:
    """The members a JMESPath text selects one below the other."""
    if _QUERY.fullmatch(text) is None:
        raise Unplannable("a query that is not plain")
    return tuple(name.strip('"') for name in _FIELD.findall(text))
