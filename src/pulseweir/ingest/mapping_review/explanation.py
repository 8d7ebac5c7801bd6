"""Steps 4 and 5c: why each template did or did not match a message, and what each of its fields found. Pure.

Names and kinds are told; a value of the message only where that is asked for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import Expression
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, instant_of, render
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.mapping_review.jmespath_trace import boolean_hint, trace_jmespath
from pulseweir.ingest.mapping_review.jsonpath_trace import trace_jsonpath
from pulseweir.ingest.mapping_review.message_paths import MessagePaths, kind_of, path_text
from pulseweir.ingest.mapping_review.messages import envelope_of
from pulseweir.ingest.mapping_review.stop import Stop, Surroundings

_EXPLAINED_MATCHES = 20
_SEVERAL = (
    "An expression must select one token here; this one selects several. Choose one: [0] or a narrower filter"
    " in JSONPath, `| [0]` in JMESPath."
)
_OWN_SCOPE = "In this kind of template `$` is the matched token{place}, not the whole message."


@dataclass(frozen=True, slots=True)
class FieldExplanation:
    """What one field of one match found.

    Attributes:
        match: Which match of the template, from 0.
        field: ``DeviceIdExpression`` and so on, or the value name.
        expression: The expressions tried, in order.
        required: Whether a message without it is refused.
        found: Kind of what was found: ``nothing``, ``error``, or the kind of the token.
        error: Why the field is refused or left out; None when it is used.
        stop: Where the expression stopped, when it found nothing.
        value: The text it becomes, only when values are shown.
        bound: Whether the FHIR template uses this value; None when that was not asked or does not apply.
    """

    match: int
    field: str
    expression: str
    required: bool
    found: str
    error: str | None = None
    stop: Stop | None = None
    value: str | None = None
    bound: bool | None = None


@dataclass(frozen=True, slots=True)
class TemplateExplanation:
    """What one template made of one message.

    Attributes:
        template: Its index in the mapping, from 0.
        type: Its measurement type.
        kind: ``CalculatedContent``, ``JsonPathContent`` and so on.
        expression: Its typeMatchExpression.
        language: The language of that.
        matches: How many tokens it selected.
        error: Why it could not be evaluated; None when it could.
        stop: Where it stopped, when it selected nothing.
        hints: What the language does that the writer may not have expected.
        fields: What each field of each match found.
        fhir: Whether the FHIR mapping has the type, in words; None when no FHIR mapping was given.
    """

    template: int
    type: str
    kind: str
    expression: str
    language: str
    matches: int
    error: str | None
    stop: Stop | None
    hints: tuple[str, ...]
    fields: tuple[FieldExplanation, ...]
    fhir: str | None


@dataclass(frozen=True, slots=True)
class MessageExplanation:
    """Why one message became what it became.

    Attributes:
        verdict: One sentence.
        outcome: ``accepted``, ``rejected`` or ``unmatched``.
        templates: One explanation for each template, in order.
    """

    verdict: str
    outcome: str
    templates: tuple[TemplateExplanation, ...]

    def to_json(self) -> dict[str, object]:
        """The explanation as plain values."""
        return asdict(self)


def explain(
    device_mapping: DeviceMapping,
    message: object,
    fhir_mapping: FhirMapping | None = None,
    *,
    show_values: bool = False,
) -> MessageExplanation:
    """Why each template did or did not match a message.

    Args:
        device_mapping: Whose templates to try.
        message: A body, or an envelope with ``Body``, ``Properties``, ``SystemProperties``.
        fhir_mapping: Where to look for types and value names; None leaves that out.
        show_values: Whether the answer may hold values of the message, which may be about a patient.

    >>> mapping = DeviceMapping.load({"templateType": "CollectionContent", "template": [
    ...     {"templateType": "JsonPathContent", "template": {
    ...         "typeName": "heart-rate", "typeMatchExpression": "$..[?(@heartrate)]",
    ...         "deviceIdExpression": "$.device", "timestampExpression": "$.at", "values": []}}]})
    >>> explain(mapping, {"heartRate": 61}).verdict
    'No template matches. Nearest: template 0 (heart-rate) fails only at @heartrate; Body.heartRate exists.'
    """
    envelope = envelope_of(message)
    paths = MessagePaths.of(envelope)
    templates = tuple(
        _Explainer(template, envelope, paths, fhir_mapping, show_values).explain()
        for template in device_mapping.templates
    )
    outcome, verdict = _verdict(device_mapping, envelope, templates)
    return MessageExplanation(verdict, outcome, templates)


def _verdict(
    mapping: DeviceMapping, envelope: dict[str, object], templates: Sequence[TemplateExplanation]
) -> tuple[str, str]:
    try:
        made = mapping.normalize(envelope)
    except MessageError as error:
        return "rejected", f"Rejected as a whole: {error}"
    if made:
        matched = [one for one in templates if one.matches]
        types = ", ".join(dict.fromkeys(one.type for one in matched))
        return "accepted", f"{len(matched)} of {len(templates)} templates match: {len(made)} measurements ({types})."
    stopped = [one for one in templates if one.stop is not None]
    if not stopped:
        return "unmatched", "No template matches: the mapping has none."
    return "unmatched", f"No template matches. Nearest: {_nearest(stopped)}"


def _nearest(stopped: Sequence[TemplateExplanation]) -> str:
    def far(one: TemplateExplanation) -> tuple[int, bool, int]:
        return (one.stop.distance, one.stop.nearest is None, one.template) if one.stop else (0, True, one.template)

    best = min(stopped, key=far)
    stop = best.stop or Stop("", "")
    only = "fails only at" if stop.distance == 1 else "fails first at"
    exists = f"; {stop.nearest} exists." if stop.nearest else f": {stop.because}"
    return f"template {best.template} ({best.type}) {only} {stop.expression}{exists}"


@dataclass(frozen=True, slots=True)
class _Explainer:
    template: Template
    envelope: dict[str, object]
    paths: MessagePaths
    fhir: FhirMapping | None
    show_values: bool

    def explain(self) -> TemplateExplanation:
        template, match = self.template, self.template.type_match
        shown = TemplateExplanation(
            template.index,
            template.type_name,
            template.kind,
            match.text if match else "",
            match.language if match else "JsonPath",
            0,
            None,
            None,
            (),
            (),
            self.fhir_words(),
        )
        if match is None:
            return replace(shown, error="typeMatchExpression is blank: every message is refused. Write it.")
        try:
            tokens = match.matches(self.envelope)
        except ExpressionFault as fault:
            return replace(shown, error=str(fault), stop=self.traced(match, self.envelope))
        if not tokens:
            return replace(shown, stop=self.traced(match, self.envelope))
        fields: list[FieldExplanation] = []
        for at, token in enumerate(tokens[:_EXPLAINED_MATCHES]):
            scope = {**self.envelope, "matchedToken": token} if template.uses_envelope else token
            fields += [self.field(at, field, scope) for field in template.fields]
        hint = boolean_hint(match.text) if match.language == "JmesPath" else None
        return replace(shown, matches=len(tokens), fields=tuple(fields), hints=(hint,) if hint else ())

    def fhir_words(self) -> str | None:
        if self.fhir is None:
            return None
        if self.fhir.template(self.template.type_name) is not None:
            return "The FHIR mapping has this type."
        names = [one.type_name for one in self.fhir.templates.values()]
        near = get_close_matches(self.template.type_name, names, 1)
        return f"The FHIR mapping has no template of this type{f'; it has {near[0]}' if near else ''}."

    def traced(self, expression: Expression, scope: object) -> Stop | None:
        is_match = scope is not self.envelope and not self.template.uses_envelope
        root = "the matched token" if is_match else "the message"
        paths = self.paths if scope is self.envelope else MessagePaths.of(scope)
        around = Surroundings(paths, self.show_values, root)
        if expression.language == "JsonPath":
            return trace_jsonpath(expression.text, scope, around)
        return trace_jmespath(expression.text, scope, around)

    def field(self, at: int, field: Field, scope: object) -> FieldExplanation:
        shown = FieldExplanation(at, field.label, field.shown, field.required, "nothing", bound=self.bound(field))
        if not field.expressions:
            return replace(shown, error="The expression is blank. Write it." if field.required else None)
        token: object = None
        for expression in field.expressions:
            try:
                token = expression.single(scope)
            except ExpressionFault as fault:
                return self.failed(shown, expression, scope, fault)
            if token is not None:
                break
        if token is None:
            stop = self.with_scope_hint(self.traced(field.expressions[-1], scope), field.expressions[-1], scope)
            error = "Nothing is there and the field is required." if field.required else None
            return replace(shown, found="nothing" if stop else "null", stop=stop, error=error)
        return self.converted(shown, field, token)

    def failed(
        self, shown: FieldExplanation, expression: Expression, scope: object, fault: ExpressionFault
    ) -> FieldExplanation:
        stop = self.traced(expression, scope)
        if fault.reason == "multiple-tokens":
            stop = Stop(expression.text, "it selects several tokens.", hints=(_SEVERAL,))
        always = "" if shown.required else " The whole message is refused, although the field is optional."
        return replace(shown, found="error", error=f"{fault}{always}", stop=stop)

    def converted(self, shown: FieldExplanation, field: Field, token: object) -> FieldExplanation:
        found = kind_of(token)
        try:
            text = str(instant_of(token)) if field.label == "TimestampExpression" else render(token)
        except ExpressionFault as fault:
            error = f"{fault}{'' if field.required else ' It is left out.'}"
            return replace(shown, found=found, error=error)
        if field.required and not text.strip():
            return replace(shown, found=found, error="The text is blank and the field is required.")
        value = render(token) if self.show_values else None
        return replace(shown, found=found, value=value)

    def bound(self, field: Field) -> bool | None:
        if self.fhir is None or not any(field is value for value in self.template.values):
            return None
        return self.fhir.binding(self.template.type_name, field.label) is not None

    def with_scope_hint(self, stop: Stop | None, expression: Expression, scope: object) -> Stop | None:
        if stop is None or self.template.uses_envelope or scope is self.envelope:
            return stop
        above = self.traced(expression, self.envelope)
        place = self.paths.place(scope)
        words = _OWN_SCOPE.format(place=f" ({path_text(place)})" if place else "")
        if above is None:
            return replace(stop, hints=(*stop.hints, f"{words} The whole message has this path."))
        if stop.nearest is None and above.nearest is not None:
            return replace(stop, hints=(*stop.hints, f"{words} The whole message has {above.nearest}."))
        return stop
