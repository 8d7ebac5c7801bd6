"""Steps 4 and 5c: what messages reveal about a pair of mappings: refusals, doubles, times, implausible values. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, names_no_zone
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.values import decimal_text
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.lint_codes import Part, parts_of
from pulseweir.ingest.mapping_review.lint_rules import found
from pulseweir.ingest.mapping_review.messages import envelope_of
from pulseweir.ingest.mapping_review.trial import dry_run
from pulseweir.records.quantities import Quantity
from pulseweir.records.units import UNIT_BY_CODE, convert, written_unit


def lint_messages(
    device_mapping: DeviceMapping, fhir_mapping: FhirMapping | None, messages: Sequence[object]
) -> Iterator[Finding]:
    """What messages reveal, each kind of finding once a place, with how many messages show it."""
    seen: dict[tuple[str, str, str], tuple[Finding, int]] = {}
    parts = {} if fhir_mapping is None else _parts(fhir_mapping)
    for at, message in enumerate(messages):
        for one in _of_message(device_mapping, fhir_mapping, parts, (at, envelope_of(message))):
            key = (one.rule, one.place, one.message)
            before = seen.get(key)
            seen[key] = (one, 1) if before is None else (before[0], before[1] + 1)
    for one, count in seen.values():
        times = f" In {count} of {len(messages)} messages." if len(messages) > 1 else ""
        yield found(one.rule, one.place, one.message + times, one.remedy, mapping=one.mapping, member=one.member)


def _parts(mapping: FhirMapping) -> dict[tuple[str, str], Part]:
    return {
        (template.type_name.casefold(), part.value.value_name): part
        for template, parts in parts_of(mapping)
        for part in reversed(parts)
        if part.value is not None
    }


def _of_message(
    device_mapping: DeviceMapping,
    fhir_mapping: FhirMapping | None,
    parts: dict[tuple[str, str], Part],
    numbered: tuple[int, dict[str, object]],
) -> Iterator[Finding]:
    at, envelope = numbered
    (trial,) = dry_run(device_mapping, fhir_mapping, [envelope])
    for reject in trial.rejects:
        rule = "message-rejected" if reject.category == "NORMALIZATION" else "observation-rejected"
        place = f"template {reject.template}" if rule == "message-rejected" else reject.template or ""
        yield found(rule, place, reject.message, "", mapping="message")
    if any(reject.category == "NORMALIZATION" for reject in trial.rejects):
        return
    if not trial.measurements:
        message = "No template matches it: pulseweir mapping explain says why."
        yield found("message-unmatched", f"message {at}", message, "", mapping="message")
    yield from _doubles(device_mapping, envelope)
    yield from _zones(device_mapping, envelope)
    for measurement in device_mapping.normalize(envelope):
        for name, text in measurement.properties.items():
            part = parts.get((measurement.type.casefold(), name))
            if part is not None and part.value is not None and part.value.value_type in {"Quantity", "SampledData"}:
                yield from _value(part, text)


def _doubles(mapping: DeviceMapping, envelope: dict[str, object]) -> Iterator[Finding]:
    made: list[tuple[int, Measurement]] = []
    for template in mapping.templates:
        try:
            made += [(template.index, one) for one in template.apply(envelope, Budget())]
        except MessageError:
            return
    for (first, one), (second, other) in combinations(made[:200], 2):
        if first == second or one.type.casefold() != other.type.casefold():
            continue
        same = (one.device_id, one.occurred_at_microseconds) == (other.device_id, other.occurred_at_microseconds)
        shared = sorted(set(one.properties) & set(other.properties))
        if same and (shared or not (one.properties or other.properties)):
            message = f"Templates {first} and {second} both make {', '.join(shared) or 'the event'} of one message."
            member = f"template[{second}].template.typeMatchExpression"
            yield found("double-match", one.type, message, "Narrow one of them, or remove it.", member=member)


def _zones(mapping: DeviceMapping, envelope: dict[str, object]) -> Iterator[Finding]:
    """Times of day without a zone: a device that sends its local time so is hours ahead, or looks hours late."""
    for template in mapping.templates:
        try:
            times = template.timestamps(envelope, Budget())
        except (MessageError, ExpressionFault):
            continue
        if any(map(names_no_zone, times)):
            message = "A time has no zone and is taken for UTC: a local time is then wrong by its whole offset."
            remedy = "Let the device send Z or its offset, or append it in the expression, with join()."
            member = f"template[{template.index}].template.timestampExpression"
            yield found("time-without-zone", template.type_name, message, remedy, member=member)


def _value(part: Part, text: str) -> Iterator[Finding]:
    number_text = decimal_text(text)
    quantity, value = part.quantity, part.value
    if number_text is None or value is None:
        return
    if "E" in number_text.upper() and value.value_type == "Quantity":
        message = "A number is rendered with an exponent. The house reads it; the predecessor refuses it."
        remedy, member = "Scale it in the device mapping.", f"{part.member}.value"
        yield found("scientific-number", part.place, message, remedy, mapping="fhir", member=member)
    unit = written_unit(value.code) or written_unit(value.unit)
    if quantity is None or not quantity.units or quantity.lowest is None or quantity.highest is None:
        return
    code = unit.code if unit is not None else quantity.units[0]
    if _is_plausible(float(number_text), code, quantity):
        return
    fits = [other for other in _guesses(code, quantity) if _is_plausible(float(number_text), other, quantity)]
    guess = f" It would be plausible in {fits[0]}: convert it, or correct the unit." if fits else ""
    limits = f"{quantity.lowest:g} to {quantity.highest:g} {quantity.units[0]}"
    message = f"A value is outside {limits}, the plausible range of {quantity.title}, in the mapping's {code}."
    remedy = guess.strip() or "Check the expression and the unit."
    yield found("implausible-value", part.place, message, remedy, mapping="fhir", member=f"{part.member}.value")


def _guesses(code: str, quantity: Quantity) -> Iterable[str]:
    family = {"mg/dL": ("mmol/L",), "mmol/L": ("mg/dL",)}.get(code, ())
    return (*family, *(unit for unit in quantity.units if unit != code))


def _is_plausible(number: float, code: str, quantity: Quantity) -> bool:
    if quantity.lowest is None or quantity.highest is None:
        return True
    if {code, quantity.units[0]} == {"mg/dL", "mmol/L"}:
        molar = 18.0156
        number = number * molar if code == "mmol/L" else number / molar
    elif code in UNIT_BY_CODE:
        converted = convert(number, code, quantity.units[0])
        number = number if converted is None else converted
    return quantity.lowest <= number <= quantity.highest
