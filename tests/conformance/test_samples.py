"""The predecessor's own sample mappings load unchanged, and its wrong code for diastolic pressure is told."""

from pathlib import Path

import pytest

from pulseweir.mapping import DeviceMapping, FhirMapping, check

FAMILIES = {"iomt_fhir/sample": 6, "healthkit_on_fhir/Sample": 2, "fit_on_fhir/src": 2}


@pytest.mark.parametrize("family", FAMILIES)
def test_sample_mappings_load_unchanged(family: str, test_data: Path) -> None:
    folder = test_data / "devices" / family
    devices = sorted(folder.rglob("devicecontent.json"))
    fhirs = sorted(folder.rglob("fhirmapping.json"))

    assert len(devices) + len(fhirs) >= FAMILIES[family]
    assert all(DeviceMapping.load(file, compatibility="pulseweir").templates for file in devices)
    assert all(FhirMapping.load(file).templates for file in fhirs)


def test_diastolic_pressure_coded_as_heart_rate_is_told(test_data: Path) -> None:
    folder = test_data / "devices" / "iomt_fhir" / "sample" / "templates" / "basic"

    findings = check(DeviceMapping.load(folder / "devicecontent.json"), FhirMapping.load(folder / "fhirmapping.json"))

    assert [(one.rule, one.place) for one in findings if one.severity == "error"] == [
        ("code-display", "bloodpressure.diastolic")
    ]
