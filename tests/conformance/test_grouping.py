"""The predecessor's batch-grouping vectors."""

from pathlib import Path
from typing import Any

from faulty_fhir import faulty_server, healthy
from observed_rows import Time, rows, stored
from pulseweir.ingest.fhir_mapping.values import parse_ticks
from pulseweir.ingest.grouping import Arrival, BatchKey, batch_groups

SECTION = "batch_grouping"


def arrival(event: dict[str, Any]) -> Arrival:
    key = BatchKey(event["DeviceId"], event["Type"], event["PatientId"], event["EncounterId"], event["CorrelationId"])
    properties = {pair["Name"]: pair["Value"] for pair in event["Properties"]}
    return Arrival(key, parse_ticks(event["OccurrenceTimeUtc"]), parse_ticks(event["IngestionTimeUtc"]), properties)


async def test_measurements_group_as_in_the_predecessor(case: dict[str, Any], tmp_path: Path) -> None:
    if "events" not in case:
        await assert_imported(case, tmp_path)
        return
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


async def assert_imported(case: dict[str, Any], folder: Path) -> None:
    """Groups of one device stay together and each of them is imported once."""
    kinds = ["heart-rate", "spo2", "heart-rate", "heart-rate"]
    names = ["heart_rate", "spo2", "heart_rate", "heart_rate"]
    devices = case["measurement_groups_device_ids"]
    keys = [BatchKey(device, kind, "patient-1", None, None) for device, kind in zip(devices, kinds, strict=True)]
    tables = [
        rows((kind, 0, {name: "70"}), device=device, named=device)
        for kind, name, device in zip(kinds, names, devices, strict=True)
    ]

    groups = batch_groups(Arrival(key, 0, 0, {"v": "1"}) for key in keys)
    with faulty_server(folder, healthy) as (client, _, _):
        outcome = (await Time().stage(client).handle(dict(enumerate(tables)))).outcome
        found = (await stored(client)).values()

    assert len({key.device_id for key in groups}) == case["expected_work_items"]
    assert len({one["device"]["reference"] for one in found}) == case["expected_work_items"]
    assert len(groups) == len(found) == case["expected_import_calls"]
    assert outcome.tallies == {"written": case["expected_import_calls"]}
