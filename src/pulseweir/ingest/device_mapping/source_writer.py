"""Step 4: the templates of a mapping to one Python function.

The function walks a message once for all templates that scan it, tests what was found, and appends one tuple for each
measurement. It decides only what it can decide exactly as the interpreter does; it leaves every refusal, and every
message that costs much, to the interpreter by raising `Undecided`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pulseweir.ingest.device_mapping import generated_runtime, jmespath_source, jsonpath_source
from pulseweir.ingest.device_mapping.budget import FIELD_STEPS, TEXT_SHIFT, Budget
from pulseweir.ingest.device_mapping.columns import Layout
from pulseweir.ingest.device_mapping.expressions import Expression
from pulseweir.ingest.device_mapping.generated_runtime import FAST_STEPS
from pulseweir.ingest.device_mapping.jmes import is_projection, parse_query
from pulseweir.ingest.device_mapping.jmes import plain_names as query_names
from pulseweir.ingest.device_mapping.jmespath_functions import DialectFunctions
from pulseweir.ingest.device_mapping.jmespath_source import NotWritten, refuse_unwritten, write_query
from pulseweir.ingest.device_mapping.jsonpath import compile_path, needs_object
from pulseweir.ingest.device_mapping.jsonpath_parser import Step, Where, parse
from pulseweir.ingest.device_mapping.jsonpath_source import filter_steps, filter_test, write_all, write_maybe, write_one
from pulseweir.ingest.device_mapping.scopes import Scope
from pulseweir.ingest.device_mapping.source_lines import Source
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Property

Run = Callable[[int, dict[str, object]], int]
_IDENTITIES = ("correlation", "patient", "encounter")
_RUNTIME: dict[str, object] = {
    **{name: getattr(generated_runtime, name) for name in generated_runtime.FOR_SOURCE},
    **jsonpath_source.RUNTIME,
    **jmespath_source.RUNTIME,
    "Budget": Budget,
    "DialectFunctions": DialectFunctions,
    "Property": Property,
}


class Program(NamedTuple):
    """A mapping as a Python function.

    Attributes:
        bind: From what `columns.Rows.appends` gives to the function that runs a message: from how many device ids there
            are, and its envelope, to the steps it left. It raises what `LEFT_TO_THE_INTERPRETER` names.
        layouts: What the rows of each template hold.
        text: The source, for people who want to read it.
    """

    bind: Callable[..., Run]
    layouts: tuple[Layout, ...]
    text: str


def compile_program(templates: Sequence[Template]) -> Program | None:
    """The function of a mapping; None when its source would be too deep for Python."""
    source = Source()
    try:
        text = _written(source, templates)
        code = compile(text, "<device mapping>", "exec")
    except (RecursionError, SyntaxError, MemoryError):
        return None
    names: dict[str, object] = {**_RUNTIME, **source.objects}
    exec(code, names)  # noqa: S102 - written by this module, of parsed expressions only
    return Program(names["bind"], tuple(map(layout_of, templates)), text)  # type: ignore[arg-type]


def layout_of(template: Template) -> Layout:
    """What the rows of a template hold."""
    asked = tuple(f"{name}_id" for name in _IDENTITIES if getattr(template, name) is not None)
    return Layout(template.type_name, asked, tuple(value.label for value in template.values))


def _written(source: Source, templates: Sequence[Template]) -> str:
    scans = [_scan_of(template.type_match) for template in templates]
    envelope = Scope(source, "envelope", is_object=True)
    lists = _write_scans(source, scans)
    shared: dict[object, str] = {}
    appends: list[str] = []
    for code, (template, steps, tokens) in enumerate(zip(templates, scans, lists, strict=True)):
        _TemplateSource(source, template, code, envelope, shared, appends).write(steps, tokens)
    body = source.text()
    head = Source()
    head.add(f"def bind({', '.join(('add_device', 'add_moment', 'add_head', 'add_code', *appends))}):")
    head.add("    def run(count, envelope):")
    head.add(f"        left = {FAST_STEPS}")
    for name in shared.values():
        head.add(f"        {name} = MISSING")
    head.add(f"        budget = Budget({FAST_STEPS})" if "budget" in body or "functions" in body else "        pass")
    if "functions." in body:
        head.add("        functions = DialectFunctions(budget)")
    tail = Source()
    if "budget" in body:
        tail.add(f"        left += budget.steps - {FAST_STEPS}")
    tail.add("        if left < 0:")
    tail.add("            raise Undecided")
    tail.add("        return left")
    tail.add("    return run")
    indented = "\n".join("        " + line for line in body.split("\n"))
    return f"{head.text()}\n{indented}\n{tail.text()}\n"


def _scan_of(expression: Expression | None) -> tuple[Step, ...] | None:
    """The steps of a path that starts with a scan for objects of the whole message; None of any other."""
    steps = _steps_of(expression) if expression is not None and expression.language == "JsonPath" else None
    if steps and isinstance(steps[0], Where) and steps[0].scan and needs_object(steps[0].condition):
        return steps
    return None


def _steps_of(expression: Expression) -> tuple[Step, ...] | None:
    """The steps of a JSONPath; None of one that is at fault and fails on every message."""
    try:
        compile_path(expression.text)
        return parse(expression.text)
    except ExpressionFault:
        return None


def _write_scans(source: Source, scans: list[tuple[Step, ...] | None]) -> list[str | None]:
    """One walk for every template that scans the message; the name of each one's list of objects."""
    names = [source.name("m") if steps else None for steps in scans]
    tests: list[tuple[str, Where]] = [
        (name, steps[0])
        for name, steps in zip(names, scans, strict=True)
        if name and steps and isinstance(steps[0], Where)
    ]
    if not tests:
        return list(names)
    source.add("objects, number, cost = walk(envelope)")
    cost = sum(filter_steps(where.condition) for _, where in tests)
    source.add(f"left -= cost + number * {cost}")
    with source.block("if left < 0:"):
        source.add("raise Undecided")
    for name, _ in tests:
        source.add(f"{name} = []")
    with source.block("for y in objects:"):
        for name, where in tests:
            with source.block(f"if {filter_test(source, where.condition, None, is_object=True)}:"):
                source.add(f"{name}.append(y)")
    return list(names)


class _TemplateSource:
    """Writes what one template makes of a message."""

    def __init__(
        self,
        source: Source,
        template: Template,
        code: int,
        envelope: Scope,
        shared: dict[object, str],
        appends: list[str],
    ) -> None:
        self.source = source
        self.template = template
        self.code = code
        self.envelope = envelope
        self.shared = shared
        self.appends = appends
        self.cost = FIELD_STEPS * len(template.fields)

    def write(self, steps: tuple[Step, ...] | None, tokens: str | None) -> None:
        """Lines for the type match and every match.

        Args:
            steps: Of a type match that scans; None of any other.
            tokens: The objects such a scan found.
        """
        expression = self.template.type_match
        if expression is None:
            self.source.add("raise Undecided")
        elif steps and tokens:
            if steps[1:]:
                tokens = write_all(self.source, steps[1:], self.envelope, tokens)
            self.several(tokens, is_object=not steps[1:])
        elif expression.language == "JsonPath":
            self.path(expression)
        else:
            self.query(expression)

    def path(self, expression: Expression) -> None:
        steps = _steps_of(expression)
        if steps is None:
            self.source.add("raise Undecided")
            return
        token = write_maybe(self.source, steps, self.envelope)
        if token is None:
            self.several(write_all(self.source, steps, self.envelope))
            return
        self.one(token, "MISSING", is_object=False)

    def query(self, expression: Expression) -> None:
        tree = parse_query(expression.text)
        names = query_names(tree)
        if names is not None:
            self.one(self.source.assign(self.envelope.member(names)), "None", is_object=False)
            return
        try:
            refuse_unwritten(tree)
        except NotWritten:
            find_all = self.source.object(expression.find_all)
            self.several(self.source.assign(f"{find_all}(envelope, budget)"))
            return
        found = write_query(self.source, tree, self.envelope)
        if not is_projection(tree):
            self.one(found, "None", is_object=False)
            return
        elements = f"[x for x in {found} if x is not None]"
        single = f"[] if {found} is None else [{found}]"
        self.several(self.source.assign(f"{elements} if type({found}) is list else {single}"))

    def several(self, tokens: str, *, is_object: bool = False) -> None:
        with self.source.block(f"if {tokens}:"):
            self.source.add(f"left -= len({tokens}) * {self.cost}")
            with self.source.block("if left < 0:"):
                self.source.add("raise Undecided")
            token = self.source.name("token")
            with self.source.block(f"for {token} in {tokens}:"):
                self.measurement(token, is_object=is_object)

    def one(self, token: str, absent: str, *, is_object: bool) -> None:
        with self.source.block(f"if {token} is not {absent}:"):
            self.source.add(f"left -= {self.cost}")
            self.measurement(token, is_object=is_object)

    def measurement(self, token: str, *, is_object: bool) -> None:
        """Lines that find every field of one match and append its row."""
        scope = (
            self.envelope.with_token(token, is_object=is_object)
            if self.template.uses_envelope
            else Scope(self.source, token, is_object=is_object)
        )
        template = self.template
        head = self.head(token, scope)
        cells = [self.text(field, scope) for field in _identities(template)]
        seen: dict[str, list[str]] = {}
        for field in template.values:
            value = self.value(field, scope)
            for earlier in seen.setdefault(field.label, []):
                with self.source.block(f"if {earlier} is not None:"):
                    self.source.add(f"{value} = None")
            seen[field.label].append(value)
            cells.append(value)
        self.source.add(f"add_head({head})")
        self.source.add(f"add_code({self.code})")
        for place, cell in enumerate(cells):
            append = f"add{self.code}_{place}"
            self.appends.append(append)
            self.source.add(f"{append}({cell})")

    def head(self, token: str, scope: Scope) -> str:
        """Lines that find device and instant of a match, unless a template that reads them alike just did."""
        template = self.template
        fields = (template.device, template.timestamp)
        alike = (template.uses_envelope, *((one.language, one.text) for field in fields for one in field.expressions))
        last = self.shared.setdefault(alike, f"last{len(self.shared)}")
        head = last.replace("last", "head")
        with self.source.block(f"if {token} is not {last}:"):
            inner = scope.branch()
            device = self.text(template.device, inner)
            moment = self.moment(template.timestamp, inner)
            self.source.add(f"add_device({device})")
            self.source.add(f"add_moment({moment})")
            self.source.add(f"{head} = count")
            self.source.add("count += 1")
            self.source.add(f"{last} = {token}")
        return head

    def text(self, field: Field, scope: Scope) -> str:
        value = self.found(field, scope)
        if field.required:
            with self.source.block(f"if type({value}) is not str or not {value} or {value}.isspace():"):
                self.source.add(f"{value} = required_text({value})")
        else:
            with self.source.block(f"if {value} is not None and type({value}) is not str:"):
                self.source.add(f"{value} = optional_text({value})")
        return value

    def moment(self, field: Field, scope: Scope) -> str:
        value = self.found(field, scope)
        with self.source.block(f"if type({value}) is not str:"):
            self.source.add(f"{value} = moment({value})")
        return value

    def value(self, field: Field, scope: Scope) -> str:
        value = self.found(field, scope)
        convert = "required_value" if field.required else "optional_value"
        missing = "" if field.required else f" and {value} is not None"
        with self.source.block(f"if type({value}) is not int and type({value}) is not float{missing}:"):
            self.source.add(f"{value} = {convert}({value})")
        return value

    def found(self, field: Field, scope: Scope) -> str:
        """Lines that find the token of a field; the name that holds it is used for nothing else."""
        if not field.expressions:
            if field.required:
                self.source.add("raise Undecided")
            return self.source.assign("None")
        value = self.single(field.expressions[0], scope)
        for expression in field.expressions[1:]:
            with self.source.block(f"if {value} is None:"):
                self.source.add(f"{value} = {self.single(expression, scope.branch())}")
        return value

    def single(self, expression: Expression, scope: Scope) -> str:
        """Lines that find the one token of an expression, into a name of its own."""
        if expression.language == "JsonPath":
            steps = _steps_of(expression)
            if steps is None:
                self.source.add("raise Undecided")
                return self.source.assign("None")
            return write_one(self.source, steps, scope)
        tree = parse_query(expression.text)
        names = query_names(tree)
        if names is not None:
            return self.source.assign(scope.member(names))
        try:
            refuse_unwritten(tree)
        except NotWritten:
            return self.bounded(f"{self.source.object(expression.find_one)}({scope.whole()}, budget)")
        found = write_query(self.source, tree, scope)
        if is_projection(tree):
            with self.source.block(f"if type({found}) is list and len({found}) > 1:"):
                self.source.add("raise Undecided")
            found = f"None if type({found}) is list and not {found} else {found}"
        return self.bounded(found)

    def bounded(self, expression: str) -> str:
        """What a query made: a text can be longer than the message, an integer too large for a column."""
        value = self.source.assign(expression)
        with self.source.block(f"if type({value}) is str:"):
            self.source.add(f"left -= len({value}) >> {TEXT_SHIFT}")
        with self.source.block(f"elif type({value}) is int:"):
            self.source.add(f"{value} = small_integer({value})")
        return value


def _identities(template: Template) -> list[Field]:
    fields = (template.correlation, template.patient, template.encounter)
    return [field for field in fields if field is not None]
