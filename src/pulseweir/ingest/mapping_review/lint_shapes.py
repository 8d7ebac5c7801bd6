"""Step 5c: whether value types and periods of a FHIR mapping go together. Pure."""

from collections.abc import Iterator

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.fhir_mapping.templates import FhirTemplate
from pulseweir.ingest.fhir_mapping.values import SLOT_LIMIT
from pulseweir.ingest.grouping import CORRELATION, SINGLE
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.lint_codes import Part, parts_of
from pulseweir.ingest.mapping_review.lint_rules import found
from pulseweir.records.codes import LOINC, VITAL_BY_LOINC

_MILLISECONDS_A_MINUTE = 60_000


def lint_shapes(mapping: FhirMapping) -> Iterator[Finding]:
    """Value types that do not fit their period, template by template."""
    for template, parts in parts_of(mapping):
        if template.value is None and not template.components:
            message = "Neither value nor components: the Observation says only that something happened."
            remedy = "Add a value, or leave it so for an event."
            yield found("no-value", template.type_name, message, remedy, mapping="fhir", member=parts[0].member)
        for part in parts:
            if part.value is not None and part.value.value_type == "SampledData":
                yield from _samples(template, part)
            elif part.value is not None and part.value.value_type != "CodeableConcept" and template.interval != SINGLE:
                message = f"A {part.value.value_type} holds one value, and the Observation covers a period."
                remedy = "Use SampledData, or periodInterval Single, unless one value a period is meant."
                yield found(
                    "several-values", part.place, message, remedy, mapping="fhir", member=f"{part.member}.value"
                )


def lint_correlation(device_mapping: DeviceMapping, fhir_mapping: FhirMapping) -> Iterator[Finding]:
    """Correlation ids that are asked for and not given, or given and not asked for."""
    for template in device_mapping.templates:
        fhir = fhir_mapping.template(template.type_name)
        member = f"template[{template.index}].template"
        if fhir is not None and fhir.interval == CORRELATION and template.correlation is None:
            message = "The FHIR mapping groups this type by correlation id, and the device template gives none."
            remedy = "Add correlationIdExpression, or another periodInterval."
            yield found("no-correlation", template.type_name, message, remedy, member=member)
        if fhir is not None and fhir.interval != CORRELATION and template.correlation is not None:
            message = "A message without correlation id is refused, and no Observation is grouped by it."
            remedy = "Remove correlationIdExpression, or set periodInterval CorrelationId."
            where = f"{member}.correlationIdExpression"
            yield found("unused-correlation", template.type_name, message, remedy, member=where)


def _samples(template: FhirTemplate, part: Part) -> Iterator[Finding]:
    value = part.value
    if value is None:
        return
    member = f"{part.member}.value.defaultPeriod"
    length = template.interval * _MILLISECONDS_A_MINUTE
    if template.interval == SINGLE:
        message = "Each Observation covers one instant, so its SampledData holds one sample."
        remedy = "Set periodInterval Hourly, Daily or CorrelationId; or use Quantity."
        place = f"{part.member}.value"
        yield found("one-sample", part.place, message, remedy, mapping="fhir", member=place)
    elif length > 0 and value.period_milliseconds > length:
        message = "defaultPeriod is longer than the period of the Observation: one slot holds all of it."
        yield found("sparse-samples", part.place, message, "Shorten defaultPeriod.", mapping="fhir", member=member)
    elif length > 0 and length / value.period_milliseconds > SLOT_LIMIT:
        message = f"An Observation would hold more than {SLOT_LIMIT} samples: every one is refused."
        remedy = "Lengthen defaultPeriod, or shorten periodInterval."
        yield found("too-many-samples", part.place, message, remedy, mapping="fhir", member=member)
    if any(coding.get("system") == LOINC and coding.get("code") in VITAL_BY_LOINC for coding in part.codes):
        message = "The vital-signs profiles ask for a Quantity: readers that follow them do not see SampledData."
        remedy = "Use Quantity with periodInterval Single where others read it."
        yield found("sampled-vital-sign", part.place, message, remedy, mapping="fhir", member=f"{part.member}.value")
