"""The predecessor's batch-grouping vectors."""

from typing import Any

from pulseweir.ingest.fhir_mapping.values import parse_ticks
from pulseweir.ingest.grouping import Arrival, BatchKey, batch_groups

SECTION = "batch_grouping"


def arrival(event: dict[str, Any]) -> Arrival:
    key = BatchKey(event["DeviceId"], event["Type"], event["PatientId"], event["EncounterId"], event["CorrelationId"])
    properties = {pair["Name"]: pair["Value"] for pair in event["Properties"]}
    return Arrival(key, parse_ticks(event["OccurrenceTimeUtc"]), parse_ticks(event["IngestionTimeUtc"]), properties)


def is_supported(case: dict[str, Any]) -> bool:
    """Work items are how the predecessor runs in parallel; our writer has shards instead."""
    return "events" in case


def test_measurements_group_as_in_the_predecessor(case: dict[str, Any]) -> None:
    groups = batch_groups(arrival(event) for event in case["events"])

    assert len(groups) == len(case["expected_groups"])
    for (key, readings), wanted in zip(groups.items(), case["expected_groups"], strict=True):
        assert (key.device_id, key.type, key.patient_id) == (
            wanted["deviceId"],
            wanted["measureType"],
            wanted["patientId"],
        )
        assert [(reading.occurred_at, reading.ingested_at) for reading in readings] == [
            (parse_ticks(row["occurrenceTimeUtc"]), parse_ticks(row["ingestionTimeUtc"])) for row in wanted["data"]
        ]
