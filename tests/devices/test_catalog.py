"""Every folder of the device catalog is a test: its message becomes its measurements and its Observations."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pulseweir.ingest.catalog import Mappings, catalog_directory, catalog_kinds
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.mapping import check, dry_run
from pulseweir.records.codes import LOINC, OBSERVATION_CATEGORY, UCUM

KINDS = catalog_kinds(catalog_directory())
MAPPINGS = Mappings.load(catalog_directory())


def read(folder: Path, name: str) -> Any:
    return msgspec.json.decode((folder / f"{name}.json").read_bytes())


def test_the_catalog_has_the_kinds_the_house_promises() -> None:
    assert {kind.name for kind in KINDS} >= {
        "bedside-monitor",
        "pulse-oximeter",
        "blood-pressure-cuff",
        "thermometer",
        "gateway",
        "nurse-entry",
    }


@pytest.mark.parametrize("folder", KINDS, ids=lambda folder: folder.name)
def test_the_message_becomes_the_measurements(folder: Path) -> None:
    envelope = {"Body": read(folder, "message"), "Properties": {}, "SystemProperties": {}}

    found = MAPPINGS.by_kind[folder.name].device.normalize(envelope)

    assert [(one.type, one.device_id, one.occurred_at_microseconds, one.properties) for one in found] == [
        (one["type"], one["device_id"], parse_instant(one["occurred_at"]), one["properties"])
        for one in read(folder, "measurements")
    ]


@pytest.mark.parametrize("folder", KINDS, ids=lambda folder: folder.name)
def test_the_measurements_become_the_observations(folder: Path) -> None:
    fhir = MAPPINGS.by_kind[folder.name].fhir
    made = [
        fhir.observation(
            {
                "measureType": one["type"],
                "data": [{"occurrenceTimeUtc": one["occurred_at"], "properties": one["properties"]}],
            },
            patient_id="patient-1",
            device_id=one["device_id"],
            compatibility="pulseweir",
        )
        for one in read(folder, "measurements")
    ]

    assert made == read(folder, "observation")


@pytest.mark.parametrize("folder", KINDS, ids=lambda folder: folder.name)
def test_the_observations_are_vital_signs_with_loinc_and_ucum(folder: Path) -> None:
    for observation in read(folder, "observation"):
        categories = {coding["code"] for concept in observation["category"] for coding in concept["coding"]}
        systems = {coding["system"] for concept in observation["category"] for coding in concept["coding"]}
        quantities = [
            part["valueQuantity"]
            for part in (observation, *observation.get("component", ()))
            if "valueQuantity" in part
        ]
        assert categories <= {"vital-signs", "exam"}
        assert systems == {OBSERVATION_CATEGORY}
        assert observation["code"]["coding"][0]["system"] == LOINC
        assert all(quantity["system"] == UCUM and quantity["code"] for quantity in quantities)


@pytest.mark.parametrize("folder", KINDS, ids=lambda folder: folder.name)
def test_the_mappings_have_no_findings(folder: Path) -> None:
    pair = MAPPINGS.by_kind[folder.name]

    assert check(pair.device, pair.fhir) == []
    assert [one["error"] for one in dry_run(pair.device, pair.fhir, [read(folder, "message")])] == [None]


@pytest.mark.parametrize(
    ("fahrenheit", "celsius"), [(98.6, "37"), (101.3, "38.5"), (32, "0"), (-40, "-40"), (97, "36.11")]
)
def test_fahrenheit_becomes_celsius_to_a_hundredth(fahrenheit: float, celsius: str) -> None:
    for kind in ("thermometer", "bedside-monitor"):
        body = {"device": "t", "measuredAt": "2030-01-01T00:00:00Z", "temperatureFahrenheit": fahrenheit}
        found = MAPPINGS.by_kind[kind].device.normalize({"Body": body})
        assert [one.properties for one in found] == [{"temperature": celsius}]


@pytest.mark.parametrize(
    ("charted", "percent"), [(0.3, "30"), (0.55, "55"), (1, "100"), (100, "100"), (40, "40"), ("0.35", "35")]
)
def test_inhaled_oxygen_becomes_percent_however_it_was_charted(charted: object, percent: str) -> None:
    body = {"device": "m", "measuredAt": "2030-01-01T00:00:00Z", "fio2": charted}

    found = MAPPINGS.by_kind["bedside-monitor"].device.normalize({"Body": body})

    assert [(one.type, one.properties) for one in found] == [("inhaled-oxygen", {"fio2": percent})]


def test_a_null_from_a_disconnected_probe_spoils_nothing_else() -> None:
    body = {"device": "m", "measuredAt": "2030-01-01T00:00:00Z", "spo2": None, "heartRate": 61, "cuffPressure": None}

    found = MAPPINGS.by_kind["bedside-monitor"].device.normalize({"Body": body})

    assert [one.type for one in found] == ["heart-rate"]
