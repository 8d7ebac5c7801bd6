"""Steps 4 and 5c: is a mapping valid, with every fault at its place. Pure."""

from dataclasses import replace

from pulseweir.errors import MappingError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.mapping_review.findings import Finding, faults_of, located
from pulseweir.ingest.mapping_review.lint_expressions import lint_expressions

_FAILS = {"bad-expression", "blank-expression"}


def check_device_mapping(text: str, *, source: str = "device mapping") -> list[Finding]:
    """Every fault of a device mapping's text, also those that the predecessor meets only with a message.

    Args:
        text: JSON.
        source: What findings call the file.

    >>> [one.message for one in check_device_mapping('{"templateType": "CollectionContent"}')]
    ['is not an array.']
    """
    try:
        mapping = DeviceMapping.loads(text, source=source, compatibility="strict")
    except MappingError as error:
        found = faults_of(error, "device")
        return sorted((*found, *_late_faults(text, source, found)), key=lambda one: (one.line, one.column))
    findings = [one for one in lint_expressions(mapping) if one.rule in _FAILS]
    return located(findings, "device", text, source)


def check_fhir_mapping(text: str, *, source: str = "FHIR mapping") -> list[Finding]:
    """Every fault of a FHIR mapping's text; as `check_device_mapping`."""
    try:
        FhirMapping.loads(text, source=source, compatibility="pulseweir")
    except MappingError as error:
        return faults_of(error, "fhir")
    return []


def _late_faults(text: str, source: str, told: list[Finding]) -> list[Finding]:
    """Faults that only the house's own mode finds while loading, of a mapping that has others too."""
    try:
        DeviceMapping.loads(text, source=source, compatibility="pulseweir")
    except MappingError as error:
        known = {(one.member, one.message) for one in told}
        found = faults_of(error, "device")
        return [replace(one, rule="bad-expression") for one in found if (one.member, one.message) not in known]
    return []
