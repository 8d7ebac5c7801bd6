"""Step 4: one template of a device mapping, and the measurements it makes of a message. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.budget import FIELD_STEPS, Budget, text_steps
from pulseweir.ingest.device_mapping.expressions import Expression
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, instant_of, render

_Converted = TypeVar("_Converted")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REMEDY = "Compare the message with the template: pulseweir mapping explain."


class Measurement(NamedTuple):
    """What one template made of one match: the values a device measured at one instant.

    Attributes:
        type: The template's typeName.
        device_id: The device that measured.
        occurred_at_microseconds: Device clock, microseconds since 1970 UTC.
        patient_id: What the mapping says about the patient, if anything.
        encounter_id: What the mapping says about the encounter, if anything.
        correlation_id: What ties measurements of one session together, if anything.
        properties: Rendered values by value name; always text.
    """

    type: str
    device_id: str
    occurred_at_microseconds: int
    patient_id: str | None
    encounter_id: str | None
    correlation_id: str | None
    properties: dict[str, str]

    @property
    def occurred_at(self) -> datetime:
        """Device clock as an aware UTC datetime."""
        return _EPOCH + timedelta(microseconds=self.occurred_at_microseconds)


@dataclass(frozen=True, slots=True)
class Field:
    """How one field of a measurement is found.

    Attributes:
        label: What messages call it, such as ``DeviceIdExpression`` or the value name.
        expressions: Tried in order until one yields a token; empty when none is set.
        required: Whether a message without it is refused.
    """

    label: str
    expressions: tuple[Expression, ...]
    required: bool

    @property
    def shown(self) -> str:
        """The expressions as messages show them."""
        return ", ".join(expression.text for expression in self.expressions)


@dataclass(frozen=True, slots=True)
class Template:
    """One template, compiled.

    Attributes:
        index: Its place in the mapping, from 0.
        type_name: The measurement type it makes.
        kind: ``CalculatedContent``, ``JsonPathContent``, ``IotJsonPathContent`` or ``IotCentralJsonPathContent``.
        type_match: Finds the tokens that each become a measurement; None when it was left blank.
        device: Finds the device id.
        timestamp: Finds when it was measured.
        correlation: Finds the correlation id, None when not asked for.
        patient: Finds the patient id, None when not asked for.
        encounter: Finds the encounter id, None when not asked for.
        values: Finds each value, in mapping order.
    """

    index: int
    type_name: str
    kind: str
    type_match: Expression | None
    device: Field
    timestamp: Field
    correlation: Field | None
    patient: Field | None
    encounter: Field | None
    values: tuple[Field, ...]

    @property
    def uses_envelope(self) -> bool:
        """Whether later expressions see the whole envelope with ``matchedToken``, not only the match."""
        return self.kind == "CalculatedContent"

    @property
    def fields(self) -> list[Field]:
        """Every field it looks for, in the order it does."""
        named = (self.device, self.timestamp, self.correlation, self.patient, self.encounter)
        return [field for field in (*named, *self.values) if field is not None]

    def apply(self, envelope: dict[str, object], budget: Budget) -> list[Measurement]:
        """One measurement for each token the type match selects, in order; empty when it selects none.

        Raises:
            MessageError: The message does not hold what the template asks for.
        """
        if self.type_match is None:
            raise self._error("An expression must be set for [TypeMatchExpression].", "expression-not-set")
        try:
            tokens = self.type_match.find_all(envelope, budget)
        except ExpressionFault as fault:
            raise self._error(str(fault), fault.reason, self.type_match.text) from None
        if not tokens:
            return []
        if self.uses_envelope:
            return [self._measurement({**envelope, "matchedToken": token}, budget) for token in tokens]
        return [self._measurement(token, budget) for token in tokens]

    def timestamps(self, envelope: dict[str, object], budget: Budget) -> list[object]:
        """The timestamp token of each match, as the message has it.

        Raises:
            MessageError: The message does not hold what the template asks for.
            ExpressionFault: Its type match cannot be evaluated.
        """
        tokens = self.type_match.find_all(envelope, budget) if self.type_match is not None else []
        scopes = [{**envelope, "matchedToken": token} for token in tokens] if self.uses_envelope else tokens
        return [self._token(self.timestamp, scope, budget) for scope in scopes]

    def _measurement(self, scope: object, budget: Budget) -> Measurement:
        device_id = self._text(self.device, scope, budget)
        occurred_at = self._convert(self.timestamp, scope, budget, instant_of)
        correlation_id = None if self.correlation is None else self._text(self.correlation, scope, budget)
        patient_id = None if self.patient is None else self._text(self.patient, scope, budget)
        encounter_id = None if self.encounter is None else self._text(self.encounter, scope, budget)
        properties: dict[str, str] = {}
        for value in self.values:
            text = self._text(value, scope, budget)
            if text is not None:
                properties.setdefault(value.label, text)
        return Measurement(
            self.type_name,
            device_id or "",
            occurred_at or 0,
            patient_id,
            encounter_id,
            correlation_id,
            properties,
        )

    def _text(self, field: Field, scope: object, budget: Budget) -> str | None:
        text = self._convert(field, scope, budget, render)
        if field.required and (text is None or not text.strip()):
            raise self._error(
                f"Unable to extract required value for [{field.label}].", "incompatible-data", field.shown
            )
        return text

    def _convert(
        self, field: Field, scope: object, budget: Budget, convert: Callable[[object], _Converted]
    ) -> _Converted | None:
        token = self._token(field, scope, budget)
        if token is None:
            return None
        try:
            return convert(token)
        except ExpressionFault as fault:
            if not field.required:
                return None
            problem = f"Unable to extract required value for [{field.label}] using {field.shown}: {fault}"
            raise self._error(problem, fault.reason, field.shown) from None

    def _token(self, field: Field, scope: object, budget: Budget) -> object:
        try:
            budget.spend(FIELD_STEPS)
            for expression in field.expressions:
                token = expression.find_one(scope, budget)
                if token is not None:
                    budget.spend(text_steps(token))
                    return token
        except ExpressionFault as fault:
            raise self._error(f"[{field.label}]: {fault}", fault.reason, field.shown) from None
        if field.required:
            self._refuse_missing(field)
        return None

    def _refuse_missing(self, field: Field) -> None:
        if not field.expressions:
            raise self._error(f"An expression must be set for [{field.label}].", "expression-not-set")
        problem = f"Unable to extract required value for [{field.label}] using {field.shown}."
        raise self._error(problem, "incompatible-data", field.shown)

    def _error(self, problem: str, reason: str, expression: str | None = None) -> MessageError:
        place = f"template {self.index} ({self.type_name})"
        return MessageError(
            f"{place}: {problem} {_REMEDY}",
            reason=reason,
            template=str(self.index),
            expression=expression,
            position=f"$.template[{self.index}]",
        )
