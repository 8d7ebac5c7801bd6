"""The public face of the mappings: load them, try them, check them.

>>> device = DeviceMapping.load({"templateType": "CollectionContent", "template": []})
>>> device.normalize({"Body": {}})
[]
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import compile_expression
from pulseweir.ingest.device_mapping.templates import Field, Measurement, Template
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, Instant, instant_text
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.templates import Coding, ValueTemplate
from pulseweir.records.codes import LOINC, UCUM, VITAL_BY_LOINC

__all__ = [
    "DeviceMapping",
    "FhirMapping",
    "Finding",
    "MappingError",
    "Measurement",
    "MessageError",
    "check",
    "dry_run",
    "explain",
    "is_loinc",
]

_Json = dict[str, object]
_EXPLAINED_MATCHES = 20
_KINDS = {
    dict: "object",
    list: "array",
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "nothing",
    Instant: "instant",
}
_SAME_DIMENSION = {"Cel": {"Cel", "[degF]"}}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look in a pair of mappings that load.

    Attributes:
        severity: ``error`` (it will not work as written) or ``warning`` (it may not mean what was meant).
        rule: Stable kebab-case word.
        place: Measurement type and value name.
        message: What was found and what to do.
    """

    severity: str
    rule: str
    place: str
    message: str

    def to_json(self) -> _Json:
        """The finding as plain values."""
        return asdict(self)


def is_loinc(code: str) -> bool:
    """Whether a code has the form and the check digit of a LOINC code.

    Source: LOINC Users' Guide, appendix on the check digit (modulus 10).

    >>> is_loinc("8867-4"), is_loinc("3150-6")
    (True, False)
    """
    body, _, digit = code.partition("-")
    if not (body.isascii() and body.isdecimal() and digit.isascii() and digit.isdecimal() and len(digit) == 1):
        return False
    odd = "".join(reversed(body[::-1][::2]))
    even = "".join(reversed(body[::-1][1::2]))
    total = sum(int(character) for character in even + str(int(odd) * 2))
    return (10 - total % 10) % 10 == int(digit)


def check(device_mapping: DeviceMapping, fhir_mapping: FhirMapping) -> list[Finding]:
    """Everything suspicious in two mappings that load, in mapping order; empty when nothing is."""
    return [*_bad_expressions(device_mapping), *_unbound(device_mapping, fhir_mapping), *_codes(fhir_mapping)]


def dry_run(device_mapping: DeviceMapping, fhir_mapping: FhirMapping, messages: Iterable[object]) -> list[_Json]:
    """What messages become: for each one its measurements, its Observations, warnings and the error, if any.

    A message that has neither ``Body`` nor ``Properties`` is taken as a body. Patient and device references show the
    ids of the message.
    """
    return [_try(device_mapping, fhir_mapping, message) for message in messages]


def explain(device_mapping: DeviceMapping, message: object) -> list[_Json]:
    """For each template why it did or did not match a message: matches, and what each field found; never a value.

    Args:
        device_mapping: Whose templates to try.
        message: A body, or an envelope, as for `dry_run`.
    """
    envelope = _envelope(message)
    return [_explained(template, envelope) for template in device_mapping.templates]


def _explained(template: Template, envelope: dict[str, object]) -> _Json:
    shown: _Json = {"template": template.index, "type": template.type_name, "matches": 0, "error": None, "fields": []}
    if template.type_match is None:
        return shown | {"error": "typeMatchExpression is blank."}
    try:
        tokens = template.type_match.matches(envelope)
    except ExpressionFault as fault:
        return shown | {"expression": template.type_match.text, "error": str(fault)}
    fields: list[_Json] = []
    for token in tokens[:_EXPLAINED_MATCHES]:
        scope = {**envelope, "matchedToken": token} if template.uses_envelope else token
        fields += [_explained_field(field, scope) for field in template.fields]
    return shown | {"expression": template.type_match.text, "matches": len(tokens), "fields": fields}


def _explained_field(field: Field, scope: object) -> _Json:
    shown: _Json = {"field": field.label, "expression": field.shown, "required": field.required, "error": None}
    try:
        tokens = [expression.single(scope) for expression in field.expressions]
    except ExpressionFault as fault:
        return shown | {"found": "error", "error": str(fault)}
    token = next((token for token in tokens if token is not None), None)
    return shown | {"found": _KINDS.get(type(token), type(token).__name__)}


def _try(device_mapping: DeviceMapping, fhir_mapping: FhirMapping, message: object) -> _Json:
    tried: _Json = {"measurements": [], "observations": [], "warnings": [], "error": None}
    try:
        measurements = device_mapping.normalize(_envelope(message))
        tried["measurements"] = [_shown(measurement) for measurement in measurements]
        if not measurements:
            tried["warnings"] = ["No measurements were produced: no template's typeMatchExpression selects anything."]
        observations, warnings = _observations(fhir_mapping, measurements)
        tried["observations"] = observations
        tried["warnings"] = [*tried["warnings"], *warnings]  # type: ignore[misc]
    except MessageError as error:
        tried["error"] = {
            "reason": error.reason,
            "message": str(error),
            "template": error.template,
            "expression": error.expression,
        }
    return tried


def _envelope(message: object) -> dict[str, object]:
    if isinstance(message, dict) and ("Body" in message or "Properties" in message):
        return message
    return {"Body": message, "Properties": {}, "SystemProperties": {}}


def _shown(measurement: Measurement) -> _Json:
    return {
        "type": measurement.type,
        "device_id": measurement.device_id,
        "occurred_at": instant_text(measurement.occurred_at_microseconds),
        "patient_id": measurement.patient_id,
        "encounter_id": measurement.encounter_id,
        "correlation_id": measurement.correlation_id,
        "properties": measurement.properties,
    }


def _observations(fhir_mapping: FhirMapping, measurements: Iterable[Measurement]) -> tuple[list[_Json], list[str]]:
    """What one message becomes at once: measurements that share all but time and values make a group."""
    observations: list[_Json] = []
    warnings: dict[str, None] = {}
    groups: dict[tuple[str | None, ...], list[Measurement]] = {}
    for one in measurements:
        key = (one.type, one.device_id, one.patient_id, one.encounter_id, one.correlation_id)
        groups.setdefault(key, []).append(one)
    for first, *others in groups.values():
        if fhir_mapping.template(first.type) is None:
            warnings[f"No Fhir Template exists with the type name [{first.type}]."] = None
            continue
        names = dict.fromkeys(name for one in (first, *others) for name in one.properties)
        for name in names:
            if fhir_mapping.binding(first.type, name) is None:
                warnings[f"The value [{name}] of {first.type} is not represented in the FHIR mapping."] = None
        made = fhir_mapping.observation(
            _group(first, others),
            patient_id=first.patient_id or "patient",
            device_id=first.device_id,
            compatibility="pulseweir",
        )
        observations += made if isinstance(made, list) else [made]
    return observations, list(warnings)


def _group(first: Measurement, others: Iterable[Measurement]) -> _Json:
    return {
        "measureType": first.type,
        "correlationId": first.correlation_id,
        "data": [
            {"occurrenceTimeUtc": instant_text(one.occurred_at_microseconds), "properties": one.properties}
            for one in (first, *others)
        ],
    }


def _bad_expressions(device_mapping: DeviceMapping) -> Iterator[Finding]:
    for template, label, expression in device_mapping.expressions():
        try:
            compile_expression(expression.text, expression.language)
        except ExpressionFault as fault:
            yield Finding("error", "bad-expression", f"{template.type_name}.{label}", str(fault))
    for template in device_mapping.templates:
        fields = (template.device, template.timestamp)
        if template.type_match is None or any(not field.expressions for field in fields):
            message = "An expression is blank: every message that reaches this template is refused. Write it."
            yield Finding("error", "blank-expression", template.type_name, message)


def _unbound(device_mapping: DeviceMapping, fhir_mapping: FhirMapping) -> Iterator[Finding]:
    told: set[tuple[str, str]] = set()
    for template in device_mapping.templates:
        names = [value.label for value in template.values]
        if fhir_mapping.template(template.type_name) is None:
            if (template.type_name, "") not in told:
                told.add((template.type_name, ""))
                message = "No FHIR template has this type: its measurements become no Observation. Add one."
                yield Finding("warning", "no-fhir-template", template.type_name, message)
            continue
        for name in names:
            if fhir_mapping.binding(template.type_name, name) is None and (template.type_name, name) not in told:
                told.add((template.type_name, name))
                message = "The FHIR template of this type does not use this value. Add it as value or component."
                yield Finding("warning", "unused-value", f"{template.type_name}.{name}", message)


def _codes(fhir_mapping: FhirMapping) -> Iterator[Finding]:
    for template in fhir_mapping.templates.values():
        seen: list[tuple[str, tuple[Coding, ...]]] = [(template.type_name, template.codes)]
        seen += [(f"{template.type_name}.{part.value.value_name}", part.codes) for part in template.components]
        for place, codes in seen:
            for coding in codes:
                yield from _loinc_findings(place, coding)
        for codes, value in template.parts:
            yield from _unit_findings(f"{template.type_name}.{value.value_name}", codes, value)


def _loinc_findings(place: str, coding: Coding) -> Iterator[Finding]:
    code = coding.get("code", "")
    if coding.get("system") != LOINC:
        return
    if not is_loinc(code):
        message = f"{code} is no LOINC code: its check digit is wrong. Look the code up."
        yield Finding("error", "unknown-loinc", place, message)
        return
    vital = VITAL_BY_LOINC.get(code)
    display = coding.get("display", "")
    named = [other for other in VITAL_BY_LOINC.values() if other.title.casefold() == display.casefold()]
    if vital is not None and named and vital not in named:
        message = (
            f"{code} means {vital.title}, the display says {display}. Use {named[0].loinc[0]}, or correct the display."
        )
        yield Finding("error", "code-display", place, message)


def _unit_findings(place: str, codes: tuple[Coding, ...], value: ValueTemplate) -> Iterator[Finding]:
    vitals = [VITAL_BY_LOINC[coding.get("code", "")] for coding in codes if coding.get("code") in VITAL_BY_LOINC]
    if not vitals or value.value_type != "Quantity":
        return
    vital = vitals[0]
    if value.system != UCUM or value.code not in _SAME_DIMENSION.get(vital.unit, {vital.unit}):
        message = (
            f"{vital.title} is measured in UCUM {vital.unit}; the mapping says {value.code or value.unit or 'nothing'}."
        )
        yield Finding("warning", "code-unit", place, f"{message} Write system and code of the unit.")
