"""The predecessor's FHIR vectors: groups to Observations, merges, and mappings that load or do not."""

import json
from typing import Any

import pytest

from expected_json import assert_matches
from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.fhir_mapping.collection import FhirMapping

SECTION = "fhir"


def is_supported(case: dict[str, Any]) -> bool:
    """Whether the case is about mapping; what a scripted server answers is in `test_writing`."""
    return "server_behaviour" not in case


def run(case: dict[str, Any]) -> Any:
    mapping = FhirMapping.loads(case.get("fhir_mapping_text") or json.dumps(case["fhir_mapping"]))
    group = case["measurement_group"]
    if group is None:
        return None
    ids = case.get("resolved_ids", {"Device": "deviceId", "Patient": "patientId"})
    return mapping.observation(
        group, case.get("existing_observation"), patient_id=ids.get("Patient"), device_id=ids.get("Device")
    )


def test_a_group_becomes_what_the_predecessor_made_of_it(case: dict[str, Any]) -> None:
    expected = case.get("expected", {})
    if "error" in expected:
        assert_refused(case, expected)
        return
    made = run(case)
    if expected.get("valid"):
        return
    if "expected_observations" in case:
        assert len(made) == len(case["expected_observations"])
        for one, wanted in zip(made, case["expected_observations"], strict=True):
            assert_matches(one, wanted, case)
        return
    first = made[0] if isinstance(made, list) else made
    assert_matches(first, case["expected_observation"], case)
    if case["id"] == "save-existing-unchanged-noop":
        assert made == case["existing_observation"]


def assert_refused(case: dict[str, Any], expected: dict[str, Any]) -> None:
    kind = MappingError if expected["stage"] == "template" else MessageError
    with pytest.raises(kind) as caught:
        run(case)
    assert expected.get("error_contains", "").lower() in str(caught.value).lower()
