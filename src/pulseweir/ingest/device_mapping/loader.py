"""Step 4: device mapping JSON to compiled templates, every fault with its place. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pulseweir.errors import MappingFault
from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.expressions import LANGUAGES, Expression, Language, compile_expression
from pulseweir.ingest.device_mapping.located_json import LocatedJsonError, Node, read
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault

Compatibility = Literal["strict", "pulseweir"]
TEMPLATE_LIMIT = 1_000
_LONG_NAMES = {"JsonPathContent", "IotJsonPathContent"}
_KINDS = ("JsonPathContent", "IotJsonPathContent", "IotCentralJsonPathContent", "CalculatedContent")
_COMMON = (
    "typeName",
    "typeMatchExpression",
    "deviceIdExpression",
    "timestampExpression",
    "patientIdExpression",
    "encounterIdExpression",
    "correlationIdExpression",
    "values",
)
_VALUE_MEMBERS = ("valueName", "valueExpression", "required")
_FIXED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "IotJsonPathContent": (
        ("$.SystemProperties.iothub-connection-device-id",),
        ("$.Properties.iothub-creation-time-utc", "$.SystemProperties.iothub-enqueuedtime"),
    ),
    "IotCentralJsonPathContent": (("$.deviceId",), ("$.enqueuedTime",)),
}


@dataclass(slots=True)
class Faults:
    """Collects faults while reading goes on."""

    found: list[MappingFault] = field(default_factory=list)

    def add(self, node: Node | None, member: str, problem: str, remedy: str) -> None:
        """Note one fault at the place of a node."""
        line, column = (node.line, node.column) if node else (0, 0)
        self.found.append(MappingFault(line, column, member, problem, remedy))


def pascal(name: str) -> str:
    """A member name as the predecessor's messages write it."""
    return name[:1].upper() + name[1:]


def read_document(text: str, faults: Faults) -> Node | None:
    """Parse mapping text; None with a fault when it is not JSON."""
    try:
        return read(text)
    except LocatedJsonError as cause:
        place = Node(cause.line, cause.column)
        faults.add(place, "document", f"not a usable JSON document: {cause.problem}", "Correct the JSON.")
        return None


def read_collection(root: Node, expected: str, names: Iterable[str], faults: Faults) -> list[Node]:
    """The containers of a mapping's root, after checking its type and shape."""
    if root.members is None:
        faults.add(
            root, "document", "is not a JSON object.", f'Write {{"templateType": "{expected}", "template": []}}.'
        )
        return []
    kind = root.member("templateType")
    written = kind.scalar if kind else None
    if not isinstance(written, str) or written.casefold() not in {name.casefold() for name in names}:
        faults.add(
            kind or root, "templateType", f"Expected TemplateType value {expected}Template.", f"Write {expected}."
        )
        return []
    content = root.member("template")
    if content is None or content.items is None:
        faults.add(content or root, "template", "is not an array.", "Write an array of templates; it may be empty.")
        return []
    if len(content.items) > TEMPLATE_LIMIT:
        faults.add(content, "template", f"has more than {TEMPLATE_LIMIT} templates.", "Split the mapping.")
        return []
    return content.items


def refuse_unknown(node: Node, known: Iterable[str], place: str, faults: Faults) -> None:
    """Note every member that no template of this kind has."""
    names = list(known)
    allowed = {name.casefold() for name in names}
    for name, child in (node.members or {}).items():
        if name.casefold() not in allowed:
            remedy = f"Remove it, or use one of: {', '.join(names)}."
            faults.add(child, f"{place}.{name}", f"Could not find member '{name}': no such member here.", remedy)


def required(node: Node, name: str, place: str, faults: Faults) -> Node | None:
    """A member that must be there and not null."""
    found = node.member(name)
    if found is None or found.is_null:
        problem = f"Required property '{pascal(name)}' not found in JSON."
        faults.add(found or node, f"{place}.{name}", problem, f"Add {name}.")
        return None
    return found


def required_text(node: Node, name: str, place: str, faults: Faults) -> str | None:
    """A member that must be there and be text."""
    found = required(node, name, place, faults)
    if found is None:
        return None
    if not isinstance(found.scalar, str):
        faults.add(found, f"{place}.{name}", "is not text.", "Write it in double quotes.")
        return None
    return found.scalar


def load_templates(root: Node, faults: Faults, compatibility: Compatibility) -> list[Template]:
    """The templates of a device mapping that are good, in order; every other is in `faults`."""
    containers = read_collection(root, "CollectionContent", ("CollectionContent", "CollectionContentTemplate"), faults)
    templates: list[Template] = []
    for index, container in enumerate(containers):
        place = f"template[{index}]"
        kind = _kind(container, place, faults)
        content = required(container, "template", place, faults) if kind else None
        if kind is None or content is None:
            continue
        if content.members is None:
            faults.add(content, f"{place}.template", "is not an object.", "Write the template's members in braces.")
            continue
        before = len(faults.found)
        template = _TemplateReader(content, kind, f"{place}.template", faults, compatibility).read(index)
        if template is not None and len(faults.found) == before:
            templates.append(template)
    return templates


def _kind(container: Node, place: str, faults: Faults) -> str | None:
    if container.members is None:
        faults.add(container, place, "is not an object.", "Write templateType and template.")
        return None
    written = required_text(container, "templateType", place, faults)
    if written is None:
        return None
    folded = written.casefold()
    for kind in _KINDS:
        if folded == kind.casefold() or (kind in _LONG_NAMES and folded == f"{kind}Template".casefold()):
            return kind
    problem = f"No match found for template type '{written}'."
    faults.add(container.member("templateType"), f"{place}.templateType", problem, f"Use {', '.join(_KINDS)}.")
    return None


@dataclass(slots=True)
class _TemplateReader:
    content: Node
    kind: str
    place: str
    faults: Faults
    compatibility: Compatibility

    def read(self, index: int) -> Template | None:
        members = (*_COMMON, "defaultExpressionLanguage") if self.calculated else _COMMON
        refuse_unknown(self.content, members, self.place, self.faults)
        default = self.default_language()
        type_name = required_text(self.content, "typeName", self.place, self.faults)
        type_match = self.expression("typeMatchExpression", default, needed=True)
        device, timestamp = self.identity_fields(default)
        optional = {name: self.optional_field(f"{name}IdExpression", default) for name in _OPTIONAL}
        values = self.values(default)
        if type_name is None or device is None or timestamp is None:
            return None
        return Template(
            index=index,
            type_name=type_name,
            kind=self.kind,
            type_match=type_match,
            device=device,
            timestamp=timestamp,
            values=values,
            **optional,
        )

    @property
    def calculated(self) -> bool:
        return self.kind == "CalculatedContent"

    def default_language(self) -> Language:
        node = self.content.member("defaultExpressionLanguage")
        if node is None or node.is_null or not self.calculated:
            return "JsonPath"
        return self.language(node, f"{self.place}.defaultExpressionLanguage")

    def language(self, node: Node, place: str) -> Language:
        found = LANGUAGES.get(str(node.scalar).casefold())
        if found is None:
            self.faults.add(node, place, f"'{node.scalar}' is no expression language.", "Use JsonPath or JmesPath.")
            return "JsonPath"
        return found

    def identity_fields(self, default: Language) -> tuple[Field | None, Field | None]:
        fixed = _FIXED.get(self.kind)
        if fixed is not None:
            device, timestamp = (tuple(compile_expression(path, "JsonPath") for path in paths) for paths in fixed)
            return Field("DeviceIdExpression", device, True), Field("TimestampExpression", timestamp, True)
        return self.needed_field("deviceIdExpression", default), self.needed_field("timestampExpression", default)

    def needed_field(self, name: str, default: Language) -> Field | None:
        before = len(self.faults.found)
        expression = self.expression(name, default, needed=True)
        if len(self.faults.found) > before:
            return None
        return Field(pascal(name), (expression,) if expression else (), required=True)

    def optional_field(self, name: str, default: Language) -> Field | None:
        node = self.content.member(name)
        if node is None or node.is_null:
            return None
        expression = self.expression(name, default, needed=False)
        is_required = name == "correlationIdExpression"
        return Field(pascal(name), (expression,) if expression else (), is_required)

    def expression(self, name: str, default: Language, *, needed: bool) -> Expression | None:
        node = self.content.member(name)
        if needed:
            node = required(self.content, name, self.place, self.faults)
        return None if node is None else self.compiled(node, f"{self.place}.{name}", default)

    def compiled(self, node: Node, place: str, language: Language) -> Expression | None:
        """One expression; None when it is blank (an older template fails later) or at fault."""
        if node.members is not None and self.calculated:
            chosen = node.member("language")
            if chosen is not None and not chosen.is_null:
                language = self.language(chosen, f"{place}.language")
            inner = required(node, "value", place, self.faults)
            if inner is None:
                return None
            node = inner
        if not isinstance(node.scalar, str):
            self.faults.add(node, place, "is not an expression.", "Write the expression as text.")
            return None
        if not node.scalar.strip():
            if self.calculated or self.compatibility == "pulseweir":
                self.faults.add(node, place, "An expression must be set; it is blank.", "Write the expression.")
            return None
        return self.compile(node, node.scalar, place, language)

    def compile(self, node: Node, text: str, place: str, language: Language) -> Expression | None:
        try:
            return compile_expression(text, language)
        except ExpressionFault as fault:
            if language == "JsonPath" and self.compatibility == "strict":
                return _failing(text, fault)
            self.faults.add(node, place, str(fault), f"Correct the {language} expression.")
            return None

    def values(self, default: Language) -> tuple[Field, ...]:
        node = self.content.member("values")
        if node is None or node.is_null:
            return ()
        if node.items is None:
            self.faults.add(node, f"{self.place}.values", "is not an array.", "Write an array of values.")
            return ()
        fields = [self.value(item, f"{self.place}.values[{at}]", default) for at, item in enumerate(node.items)]
        return tuple(found for found in fields if found is not None)

    def value(self, node: Node, place: str, default: Language) -> Field | None:
        if node.members is None:
            self.faults.add(node, place, "is not an object.", "Write valueName and valueExpression.")
            return None
        refuse_unknown(node, _VALUE_MEMBERS, place, self.faults)
        name = required_text(node, "valueName", place, self.faults)
        written = required(node, "valueExpression", place, self.faults)
        if name is None or written is None:
            return None
        expression = self.compiled(written, f"{place}.valueExpression", default)
        return Field(name, (expression,) if expression else (), self.is_required(node, place))

    def is_required(self, node: Node, place: str) -> bool:
        flag = node.member("required")
        if flag is None or flag.is_null:
            return False
        written = flag.scalar.casefold() if isinstance(flag.scalar, str) else flag.scalar
        if written in (True, "true"):
            return True
        if written not in (False, "false"):
            self.faults.add(flag, f"{place}.required", "is neither true nor false.", "Write true or false.")
        return False


_OPTIONAL = ("correlation", "patient", "encounter")


def _failing(text: str, fault: ExpressionFault) -> Expression:
    """An expression that loads, as the predecessor loads it, and fails on every message."""

    def fail(document: object, budget: Budget) -> list[object]:
        raise ExpressionFault(str(fault), fault.reason)

    return Expression(text, "JsonPath", fail, fail)
