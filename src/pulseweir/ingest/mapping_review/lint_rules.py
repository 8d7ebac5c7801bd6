"""Steps 4 and 5c: every rule of the linter, with how serious it is and what it means. Pure."""

from typing import NamedTuple

from pulseweir.ingest.mapping_review.findings import Finding, Severity, Side


class Rule(NamedTuple):
    """One rule.

    Attributes:
        severity: Of what it finds.
        meaning: What it finds, for the list of rules.
    """

    severity: Severity
    meaning: str


RULES = {
    "bad-expression": Rule("error", "A JSONPath that loads in strict mode and fails on every message."),
    "blank-expression": Rule("error", "A typeMatch, device or timestamp expression that is blank."),
    "boolean-type-match": Rule(
        "error",
        "A JMESPath typeMatchExpression that yields true or false: both are one match, so every message matches.",
    ),
    "list-type-match": Rule(
        "warning", "A JMESPath typeMatchExpression that yields a plain list: the whole list is one match, even empty."
    ),
    "filter-on-object": Rule(
        "warning", "A JSONPath filter on what is an object: it tries the members, not the object itself."
    ),
    "mixed-and-or": Rule(
        "warning", "`&&` and `||` in one JSONPath filter: they nest to the right, without precedence."
    ),
    "scope-without-envelope": Rule(
        "error", "An IotJsonPathContent template whose match is not the whole message: it cannot reach device and time."
    ),
    "integer-division": Rule("warning", "divide() of two integers truncates: 40 / 50 is 0."),
    "integer-wrap": Rule("info", "multiply() or pow() of integers by a large factor: 64 bits wrap around or overflow."),
    "optional-function-argument": Rule(
        "warning",
        "A function over a path that may be missing: the whole message is refused, although the value is optional.",
    ),
    "duplicate-value": Rule("warning", "A value name given twice in one device template: the first wins."),
    "duplicate-type": Rule("info", "Several device templates make one measurement type; all of them run."),
    "shadowed-match": Rule(
        "warning", "Two templates of one type match the same messages and make the same value: it is measured twice."
    ),
    "no-fhir-template": Rule("warning", "A measurement type that the FHIR mapping has no template for."),
    "no-device-template": Rule("warning", "A FHIR template whose type no device template makes."),
    "unused-value": Rule("warning", "A device value that the FHIR template of its type does not use."),
    "unbound-value": Rule("warning", "A FHIR value name that no device template of the type makes."),
    "unknown-loinc": Rule("error", "A LOINC code whose check digit is wrong."),
    "code-display": Rule("error", "A code that means something else than its display says."),
    "code-name": Rule("warning", "A code that means something else than the value name says."),
    "code-system": Rule("warning", "A code system that is nearly, but not quite, one that is known."),
    "duplicate-code": Rule("warning", "Two parts of one Observation with the same code."),
    "no-standard-code": Rule("info", "A part without LOINC, SNOMED CT or MDC code: nobody else can read it."),
    "no-value": Rule("info", "A FHIR template with neither value nor components."),
    "code-unit": Rule("error", "A unit that does not measure what the code means."),
    "missing-unit": Rule("warning", "A number without unit where the code asks for one."),
    "not-ucum": Rule("warning", "A unit code said to be UCUM that is none."),
    "unit-text": Rule("warning", "A unit's text and its code that say different things."),
    "unit-system": Rule("warning", "A unit code without the UCUM system."),
    "several-values": Rule(
        "info", "A Quantity or String over a period: a second value in it is refused or replaces the first."
    ),
    "one-sample": Rule("warning", "SampledData with periodInterval Single: each Observation holds one sample."),
    "too-many-samples": Rule("error", "SampledData of more slots than an Observation may hold."),
    "sparse-samples": Rule("warning", "A defaultPeriod longer than the period of the Observation."),
    "no-correlation": Rule(
        "error", "periodInterval CorrelationId without correlationIdExpression: every group is refused."
    ),
    "unused-correlation": Rule(
        "info",
        "correlationIdExpression without periodInterval CorrelationId: messages without one are refused for nothing.",
    ),
    "sampled-vital-sign": Rule("info", "A vital sign as SampledData: the vital-signs profiles ask for a Quantity."),
    "message-rejected": Rule("error", "A message given is refused."),
    "message-unmatched": Rule("warning", "A message given matches no template."),
    "observation-rejected": Rule("error", "Measurements of a message given fit no Observation."),
    "double-match": Rule("warning", "Two templates make the same value of one message, at the same instant."),
    "time-without-zone": Rule(
        "warning", "A time of day of a message given has no zone: it is taken for UTC, and may be local time."
    ),
    "implausible-value": Rule(
        "warning", "A value outside the plausible range of its code, in the unit of the mapping."
    ),
    "scientific-number": Rule(
        "info", "A number rendered with an exponent, such as 1E-05: the predecessor refuses it as a Quantity."
    ),
    "not-loadable": Rule("error", "A fault that keeps a mapping from loading."),
}


def found(rule: str, place: str, message: str, remedy: str, *, mapping: Side = "device", member: str = "") -> Finding:
    """A finding of a rule, as serious as the rule says."""
    return Finding(RULES[rule].severity, rule, place, message, remedy, mapping, member)
