"""Steps 4 and 5c: what the review found, as lines for a terminal. Pure."""

from collections.abc import Iterator

from pulseweir.ingest.mapping_review.difference import Change
from pulseweir.ingest.mapping_review.explanation import FieldExplanation, MessageExplanation, TemplateExplanation
from pulseweir.ingest.mapping_review.stop import Stop
from pulseweir.ingest.mapping_review.trial import Trial


def trial_lines(trial: Trial) -> Iterator[str]:
    """What a message becomes, one line a thing."""
    for measurement in trial.measurements:
        properties = measurement["properties"]
        shown = ", ".join(f"{name} {text}" for name, text in properties.items()) if isinstance(properties, dict) else ""
        ids = "".join(
            f" {name.removesuffix('_id')} {measurement[name]}"
            for name in ("patient_id", "encounter_id", "correlation_id")
            if measurement[name] is not None
        )
        yield f"  measurement {measurement['type']} of {measurement['device_id']}{ids}"
        yield f"    at {measurement['occurred_at']}: {shown or 'no values'}"
    for observation in trial.observations:
        yield f"  Observation {_code(observation)}: {', '.join(_values(observation)) or 'no value'}"
    yield from (f"  rejected ({one.category}, {one.reason}): {one.message}" for one in trial.rejects)
    yield from (f"  warning: {text}" for text in trial.warnings)


def explanation_lines(explanation: MessageExplanation) -> Iterator[str]:
    """Why a message became what it became: the verdict, then template by template."""
    yield f"  {explanation.verdict}"
    for template in explanation.templates:
        yield from _template_lines(template)


def change_lines(change: Change) -> Iterator[str]:
    """What differs, one line a change, with values below where they are shown."""
    inside = f": {', '.join(change.paths)}" if change.paths else ""
    yield f"  {change.kind} {change.what} {change.name}{inside}"
    if change.old is not None:
        yield f"    was {change.old}"
    if change.new is not None:
        yield f"    is  {change.new}"


def _template_lines(template: TemplateExplanation) -> Iterator[str]:
    name = f"  template {template.template} ({template.type}, {template.kind})"
    if template.error is not None and not template.matches:
        yield f"{name}: cannot be evaluated."
        yield f"    {template.expression}"
        yield f"    {template.error}"
        yield from _hint_lines(template.stop)
    elif template.stop is not None:
        yield f"{name}: no match."
        yield f"    {template.expression}"
        yield from _stop_lines(template.stop)
    else:
        yield f"{name}: {template.matches} {'match' if template.matches == 1 else 'matches'}."
        yield from (f"    note: {hint}" for hint in template.hints)
        for field in template.fields:
            yield from _field_lines(field, several=template.matches > 1)
    if template.fhir is not None and "no template" in template.fhir:
        yield f"    {template.fhir}"


def _field_lines(field: FieldExplanation, *, several: bool) -> Iterator[str]:
    match = f"match {field.match}: " if several else ""
    unbound = " (not used by the FHIR mapping)" if field.bound is False else ""
    value = f" {field.value}" if field.value is not None else ""
    need = "required" if field.required else "optional"
    yield f"    {match}{field.field} ({need}): {field.found}{value}{unbound}"
    if field.error is not None:
        yield f"      {field.error}"
    if field.stop is not None:
        yield f"      {field.expression}"
        yield from (f"  {line}" for line in _stop_lines(field.stop))


def _stop_lines(stop: Stop) -> Iterator[str]:
    yield f"    stops at {stop.expression}: {stop.because}"
    if stop.nearest is not None:
        yield f"    nearest: {stop.nearest} exists."
    yield from _hint_lines(stop)


def _hint_lines(stop: Stop | None) -> Iterator[str]:
    yield from (f"    note: {hint}" for hint in (stop.hints if stop else ()))


def _code(observation: dict[str, object]) -> str:
    code = observation.get("code")
    codings = code.get("coding", []) if isinstance(code, dict) else []
    first = codings[0] if codings else {}
    return f"{first.get('code', '')} {first.get('display', '')}".strip()


def _values(observation: dict[str, object]) -> Iterator[str]:
    components = observation.get("component")
    for part in [observation, *(components if isinstance(components, list) else [])]:
        for name, value in part.items():
            if name.startswith("value"):
                label = "" if part is observation else f"{_code(part)} "
                yield label + _value(value)


def _value(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    if "data" in value:
        return f"{len(str(value['data']).split())} samples"
    if "value" in value:
        return f"{value['value']} {value.get('unit') or value.get('code') or ''}".strip()
    codings = value.get("coding") or [{}]
    return str(value.get("text") or codings[0].get("display") or codings[0].get("code") or "")
