"""The predecessor's normalization vectors: same mapping, same message, same measurements or same refusal."""

import json
import math
from typing import Any

import pytest

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.tokens import parse_instant

SECTION = "normalization"
# The reason words under which our refusals carry the predecessor's exception types.
REASONS = {
    "IncompatibleDataException": {
        "incompatible-data",
        "expression-not-set",
        "not-convertible",
        "bad-timestamp",
        "out-of-range",
    },
    "TemplateExpressionException": {"expression-failed", "multiple-tokens", "invalid-type", "limit-exceeded"},
    "OverflowException": {"overflow"},
    "ArgumentOutOfRangeException": {"out-of-range"},
}


def run(case: dict[str, Any]) -> list[Any]:
    text = case.get("device_mapping_text") or json.dumps(case["device_mapping"])
    return list(DeviceMapping.loads(text).normalize(case["message"]))


def test_a_message_becomes_what_the_predecessor_made_of_it(case: dict[str, Any]) -> None:
    expected = case["expected"]
    if isinstance(expected, dict):
        assert_refused(case, expected)
        return
    found = run(case)
    assert len(found) == len(expected)
    for index, (measurement, wanted) in enumerate(zip(found, expected, strict=True)):
        assert measurement.type == wanted["type"]
        assert measurement.device_id == wanted["deviceId"]
        assert measurement.occurred_at_microseconds == parse_instant(wanted["timestamp"])
        assert measurement.patient_id == wanted.get("patientId")
        assert measurement.encounter_id == wanted.get("encounterId")
        assert measurement.correlation_id == wanted.get("correlationId")
        assert_properties(measurement.properties, wanted["properties"], case.get("numeric_properties", {}), index)


def assert_properties(found: dict[str, str], wanted: dict[str, str], numeric: dict[str, Any], index: int) -> None:
    assert set(found) == set(wanted)
    for name, text in wanted.items():
        rule = numeric.get(name)
        if rule is None or rule.get("only_index", index) != index:
            assert found[name] == text
        elif rule.get("kind") == "integer":
            assert int(found[name]) == int(text)
        else:
            tolerance = 10.0 ** -rule.get("decimals", 6)
            assert math.isclose(float(found[name]), float(text), rel_tol=1e-12, abs_tol=tolerance)


def assert_refused(case: dict[str, Any], expected: dict[str, Any]) -> None:
    kind = MappingError if expected["stage"] == "template" else MessageError
    with pytest.raises(kind) as caught:
        run(case)
    if isinstance(caught.value, MessageError) and expected["error"] in REASONS:
        assert caught.value.reason in REASONS[expected["error"]]
    fragments = expected.get("error_contains_all") or [expected.get("error_contains", "")]
    for fragment in fragments:
        assert fragment.lower() in str(caught.value).lower()
