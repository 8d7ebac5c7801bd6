"""Steps 4 and 5c: everything worth a look in a pair of mappings that load, and in what they make of messages. Pure."""

from collections.abc import Sequence

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.mapping_review.findings import Finding
from pulseweir.ingest.mapping_review.lint_codes import lint_codes
from pulseweir.ingest.mapping_review.lint_expressions import lint_expressions
from pulseweir.ingest.mapping_review.lint_names import lint_names, lint_repeats
from pulseweir.ingest.mapping_review.lint_shapes import lint_correlation, lint_shapes
from pulseweir.ingest.mapping_review.lint_values import lint_messages

_ORDER = {"error": 0, "warning": 1, "info": 2}


def lint(
    device_mapping: DeviceMapping | None = None,
    fhir_mapping: FhirMapping | None = None,
    messages: Sequence[object] = (),
) -> list[Finding]:
    """Everything worth a look, errors first; empty when there is nothing.

    Args:
        device_mapping: None looks at the FHIR mapping alone.
        fhir_mapping: None looks at the device mapping alone.
        messages: Bodies or envelopes: their values are held against the plausible ranges of their codes and units,
            and refused or unmatched ones are told.

    >>> fhir = FhirMapping.load({"templateType": "CollectionFhir", "template": [
    ...     {"templateType": "CodeValueFhir", "template": {"typeName": "pressure", "codes": [
    ...         {"system": "http://loinc.org", "code": "8867-4", "display": "Diastolic blood pressure"}],
    ...         "value": {"valueType": "Quantity", "valueName": "diastolic", "unit": "mmHg",
    ...                   "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}}]})
    >>> [(one.rule, one.remedy) for one in lint(fhir_mapping=fhir)][0]
    ('code-display', 'Write 8462-4, or correct the display.')
    """
    findings: list[Finding] = []
    if device_mapping is not None:
        findings += [*lint_expressions(device_mapping), *lint_repeats(device_mapping)]
    if fhir_mapping is not None:
        findings += [*lint_codes(fhir_mapping), *lint_shapes(fhir_mapping)]
    if device_mapping is not None and fhir_mapping is not None:
        findings += [*lint_names(device_mapping, fhir_mapping), *lint_correlation(device_mapping, fhir_mapping)]
    if device_mapping is not None:
        findings += lint_messages(device_mapping, fhir_mapping, messages)
    return sorted(findings, key=lambda one: _ORDER[one.severity])
