"""Step 4: what the two expression languages do that the writer of a device mapping may not have expected. Pure."""

from collections.abc import Callable, Iterator

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import Expression, compile_expression
from pulseweir.ingest.device_mapping.jmes import Tree, is_projection, nodes_of, parse_query, plain_names
from pulseweir.ingest.device_mapping.jsonpath_parser import (
    Comparison,
    Composite,
    Condition,
    Members,
    Path,
    Root,
    Step,
    Where,
    parse,
)
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.jmespath_text import tree_text
from pulseweir.ingest.mapping_review.jsonpath_text import condition_text, steps_text
from pulseweir.ingest.mapping_review.jsonpath_trace import syntax_hints
from pulseweir.ingest.mapping_review.lint_rules import found

_BOOLEAN_FUNCTIONS = {"contains", "starts_with", "ends_with"}
_LIST_FUNCTIONS = {"keys", "map", "reverse", "sort", "sort_by", "to_array", "values"}
_ARITHMETIC = {"add", "subtract", "multiply", "divide", "pow"}
# Functions that accept null: every other refuses the message when its argument is missing.
_FORGIVING = {"not_null", "to_array", "to_string", "type", "to_number", "merge"}
_ENVELOPE = {"Body", "Properties", "SystemProperties"}
_LARGE = 1_000_000


def lint_expressions(mapping: DeviceMapping) -> Iterator[Finding]:
    """Expressions that fail, or mean something else than they seem to, template by template."""
    for template in mapping.templates:
        yield from _blank(template)
        for member, field, expression in _written(template):
            try:
                compile_expression(expression.text, expression.language)
            except ExpressionFault as fault:
                hints = " ".join(syntax_hints(expression.text))
                place = f"{template.type_name}.{field.label if field else 'TypeMatchExpression'}"
                yield found("bad-expression", place, str(fault), f"Correct it. {hints}".strip(), member=member)
                continue
            if expression.language == "JsonPath":
                yield from _jsonpath(template, member, field, parse(expression.text))
            else:
                yield from _jmespath(template, member, field, parse_query(expression.text))


def _written(template: Template) -> Iterator[tuple[str, Field | None, Expression]]:
    """Every expression the mapping itself holds, with its member and field; None for the type match."""
    base = f"template[{template.index}].template"
    if template.type_match is not None:
        yield f"{base}.typeMatchExpression", None, template.type_match
    is_fixed = template.kind in {"IotJsonPathContent", "IotCentralJsonPathContent"}
    named = () if is_fixed else (template.device, template.timestamp)
    for field in (*named, template.correlation, template.patient, template.encounter):
        for expression in () if field is None else field.expressions:
            yield f"{base}.{expression_member(field.label if field else '')}", field, expression
    for at, field in enumerate(template.values):
        for expression in field.expressions:
            yield f"{base}.values[{at}].valueExpression", field, expression


def expression_member(label: str) -> str:
    """The member of a field's label: deviceIdExpression of DeviceIdExpression."""
    return label[:1].lower() + label[1:]


def _blank(template: Template) -> Iterator[Finding]:
    blank = ["typeMatchExpression"] if template.type_match is None else []
    fields = (template.device, template.timestamp, template.correlation)
    blank += [expression_member(one.label) for one in fields if one is not None and not one.expressions]
    for member in blank:
        message = f"{member} is blank: every message that reaches this template is refused."
        place = f"template[{template.index}].template.{member}"
        yield found("blank-expression", template.type_name, message, "Write it.", member=place)


def _jsonpath(template: Template, member: str, field: Field | None, steps: tuple[Step, ...]) -> Iterator[Finding]:
    place = f"{template.type_name}.{field.label if field else 'TypeMatchExpression'}"
    for step in steps:
        if isinstance(step, Where) and _is_mixed(step.condition):
            message = f"The filter is read as {condition_text(step.condition, grouped=True)}."
            yield found("mixed-and-or", place, message, "Split the template, or use JMESPath.", member=member)
    first = steps[0] if steps else None
    if isinstance(first, Where) and not first.scan and (field is None or template.uses_envelope):
        message = "The filter stands on the message, an object: it tries the members, so a test of a path never holds."
        remedy = f"Write a scan: $..{steps_text(steps[:1])[1:]}."
        yield found("filter-on-object", place, message, remedy, member=member)
    if field is None and template.kind == "IotJsonPathContent" and not _may_match_envelope(steps):
        message = "The match is not the whole message, so neither SystemProperties nor Properties is in reach."
        remedy = "Match the message: $..[?(@Body.…)]; or use CalculatedContent."
        yield found("scope-without-envelope", template.type_name, message, remedy, member=member)


def _is_mixed(condition: Condition) -> bool:
    return isinstance(condition, Composite) and any(isinstance(part, Composite) for part in condition.parts)


def _may_match_envelope(steps: tuple[Step, ...]) -> bool:
    if not steps or not isinstance(steps[0], Where):
        return not steps
    return steps[0].scan and _fits_envelope(steps[0].condition)


def _fits_envelope(condition: Condition) -> bool:
    """Whether a condition may hold for an envelope: it asks for no member that an envelope has not."""
    if isinstance(condition, Composite):
        judged = [_fits_envelope(part) for part in condition.parts]
        return all(judged) if condition.every else any(judged)
    return _side_fits(condition)


def _side_fits(test: Comparison) -> bool:
    steps = test.left.steps if isinstance(test.left, Path) else ()
    if not steps or isinstance(steps[0], Root) or not isinstance(steps[0], Members) or steps[0].scan:
        return True
    return steps[0].names is None or bool(set(steps[0].names) & _ENVELOPE)


def _jmespath(template: Template, member: str, field: Field | None, tree: Tree) -> Iterator[Finding]:
    place = f"{template.type_name}.{field.label if field else 'TypeMatchExpression'}"
    if field is None:
        yield from _type_match(template, member, tree)
    yield from _integers(place, member, tree)
    if field is not None and not field.required:
        yield from _missing_argument(template, place, member, tree)


def _type_match(template: Template, member: str, tree: Tree) -> Iterator[Finding]:
    if is_projection(tree) or plain_names(tree) is not None:
        return
    last = tree
    while last["type"] in {"pipe", "subexpression"}:
        last = last["children"][-1]
    function = last["value"] if last["type"] == "function_expression" else ""
    remedy = "Write a filter projection: to_array(@)[?…] or [Body][?…]."
    if last["type"] in {"comparator", "not_expression"} or function in _BOOLEAN_FUNCTIONS:
        message = "The result is true or false, and false is a match too: every message matches."
        yield found("boolean-type-match", template.type_name, message, remedy, member=member)
    elif function in _LIST_FUNCTIONS or last["type"] == "multi_select_list":
        message = "The result is a plain list: it is one match as a whole, even when it is empty."
        yield found("list-type-match", template.type_name, message, "Add [] or [*] for one each.", member=member)


def _integers(place: str, member: str, tree: Tree, *, whole: bool = False) -> Iterator[Finding]:
    """Arithmetic of integers in a tree; `whole` where an integer is what is asked for, as in fromUnixTimestamp."""
    is_call = tree["type"] == "function_expression"
    if is_call and not _is_float(tree):
        yield from _integer_call(place, member, tree, whole=whole)
    whole = tree["value"].startswith("fromUnixTimestamp") if is_call and tree["value"] not in _ARITHMETIC else whole
    for child in tree["children"]:
        if isinstance(child, dict):
            yield from _integers(place, member, child, whole=whole and is_call)


def _integer_call(place: str, member: str, call: Tree, *, whole: bool) -> Iterator[Finding]:
    shown = tree_text(call)
    if call["value"] == "divide" and not whole:
        message = f"{shown} truncates when both are integers: 40 by 50 is 0."
        yield found("integer-division", place, message, "Make one a float: `50.0`.", member=member)
    numbers = [one["value"] for one in call["children"] if one["type"] == "literal"]
    large = any(isinstance(number, int) and abs(number) >= _LARGE for number in numbers)
    if call["value"] == "pow" or (call["value"] == "multiply" and large):
        message = f"{shown} of integers has 64 bits: beyond, it wraps around or is refused."
        yield found("integer-wrap", place, message, "Make one a float.", member=member)


def _is_float(tree: Tree) -> bool:
    if tree["type"] == "literal":
        return isinstance(tree["value"], float)
    is_arithmetic = tree["type"] == "function_expression" and tree["value"] in _ARITHMETIC
    return is_arithmetic and any(_is_float(child) for child in tree["children"])


def _missing_argument(template: Template, place: str, member: str, tree: Tree) -> Iterator[Finding]:
    guard = "" if template.type_match is None else template.type_match.text
    guarded = _guarded_by_itself(tree, guard)
    for node in nodes_of(tree):
        if node["type"] != "function_expression" or node["value"] in _FORGIVING:
            continue
        for argument in node["children"]:
            names = plain_names(argument)
            if names is None or names[-1] in guard or guarded(names):
                continue
            message = (
                f"When {tree_text(argument)} is missing, {node['value']}() fails and the whole message is refused,"
                " although the value is optional."
            )
            remedy = f"Ask for {names[-1]} in typeMatchExpression, or write {tree_text(argument)} && {tree_text(node)}."
            yield found("optional-function-argument", place, message, remedy, member=member)


def _guarded_by_itself(tree: Tree, guard: str) -> Callable[[tuple[str, ...]], bool]:
    """A test whether an expression asks for a path before it uses it: ``a && f(a)``."""
    asked = [
        plain_names(node["children"][0]) for node in nodes_of(tree) if node["type"] in {"and_expression", "comparator"}
    ]
    return lambda names: names in asked or names == ("matchedToken",)
