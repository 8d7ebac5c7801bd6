"""The predecessor's own sample mappings, unchanged: each template takes the message it asks for, through to FHIR.

No payload comes with the samples, so one is built here for every template, after the paths it names.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pulseweir.ingest.device_mapping.loader import Compatibility
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.mapping import DeviceMapping, FhirMapping, Measurement
from pulseweir.operations.mapping_files import lint_files

Json = dict[str, Any]
IOMT = "iomt_fhir/sample/templates"
FIT = "fit_on_fhir/src/GoogleFit/Microsoft.Health.FitOnFhir.GoogleFit.Mapping.Console/Samples"
HEALTHKIT = "healthkit_on_fhir/Sample/Cloud/Configs"
PAIRS = {
    "basic": (f"{IOMT}/basic", f"{IOMT}/basic", 6),
    "healthkit-iomt": (f"{IOMT}/healthkitOnFhir", f"{IOMT}/healthkitOnFhir", 17),
    "sandbox": (f"{IOMT}/sandbox", f"{IOMT}/sandbox", 7),
    "sandbox-legacy": (f"{IOMT}/sandbox/legacy", f"{IOMT}/sandbox", 7),
    "healthkit": (HEALTHKIT, HEALTHKIT, 17),
    "google-fit": (FIT, FIT, 34),
}
"""Folder of the device mapping, folder of the FHIR mapping, number of templates."""

AT = "2030-05-01T08:15:00.25Z"
AT_NANOSECONDS = 1_903_853_700_250_000_000
SIMPLE_PATH = re.compile(r"\$((?:\.[A-Za-z][A-Za-z-]*)+)")
CHOICE = re.compile(r"\"n\":`1`,\"s\":'(\w+)'")

each_pair = pytest.mark.parametrize("pair", PAIRS)


def raw_templates(folder: Path) -> list[Json]:
    document = msgspec.json.decode((folder / "devicecontent.json").read_bytes().removeprefix(b"\xef\xbb\xbf"))
    templates: list[Json] = document["template"]
    return templates


def put(tree: Json, path: str, value: object) -> None:
    """Set ``$.a.b`` in a tree, making what lies on the way."""
    found = SIMPLE_PATH.fullmatch(path)
    assert found is not None, path
    *way, last = found[1].removeprefix(".").split(".")
    for name in way:
        tree = tree.setdefault(name, {})
    tree.setdefault(last, value)


def by_paths(kind: str, template: Json) -> tuple[Json, Json]:
    """The envelope a legacy template asks for, and the properties it must give."""
    token: Json = {}
    properties = {value["valueName"]: str(61 + place) for place, value in enumerate(template["values"])}
    for place, value in enumerate(template["values"]):
        put(token, value["valueExpression"], 61 + place)
    if kind == "JsonPathContent":
        put(token, template["deviceIdExpression"], "device-1")
        put(token, template["timestampExpression"], AT)
    elif kind == "IotCentralJsonPathContent":
        token |= {"deviceId": "device-1", "enqueuedTime": AT}
    else:
        token["SystemProperties"] = {"iothub-connection-device-id": "device-1", "iothub-enqueuedtime": AT}
    if "patientIdExpression" in template:
        put(token, template["patientIdExpression"], "record-1")
    return (token if kind == "IotJsonPathContent" else {"Body": token}), properties


def google_fit(template: Json) -> tuple[Json, Json]:
    """A data set of Google Fit as its template tells: the data source is the type, every choice is the first."""
    data_type = re.search(r"@dataTypeName == '([a-z_.]+)'", template["typeMatchExpression"])
    assert data_type is not None
    properties = {}
    for place, value in enumerate(template["values"]):
        expression = value["valueExpression"]
        choice = CHOICE.search(expression["value"]) if isinstance(expression, dict) else None
        is_integer = choice is None and expression.endswith("intVal")
        properties[value["valueName"]] = choice[1] if choice else "1" if is_integer else f"{61.5 + place}"
    point = {
        "dataTypeName": data_type[1],
        "endTimeNanos": AT_NANOSECONDS,
        "value": [{"fpVal": 61.5 + place, "intVal": 1} for place in range(len(template["values"]))],
    }
    body = {
        "deviceIdentifier": "device-1",
        "patientIdentifier": "record-1",
        "dataSourceId": template["typeName"],
        "point": [point],
    }
    return {"Body": body}, properties


def cases(folder: Path) -> Iterator[tuple[str, Json, Json, str | None]]:
    """For each template its type, a message for it, the properties wanted, and the patient the message names."""
    for container in raw_templates(folder):
        kind, template = container["templateType"], container["template"]
        envelope, properties = google_fit(template) if kind == "CalculatedContent" else by_paths(kind, template)
        patient = None
        if "patientIdExpression" in template:
            # The sandbox takes the device for the patient.
            is_device = re.search("device-?id$", template["patientIdExpression"], re.IGNORECASE)
            patient = "device-1" if is_device else "record-1"
        yield template["typeName"], envelope, properties, patient


def measured(mapping: DeviceMapping, type_name: str, envelope: Json) -> Measurement:
    (found,) = [one for one in mapping.normalize(envelope) if one.type == type_name]
    return found


@pytest.mark.parametrize("compatibility", ["strict", "pulseweir"])
@each_pair
def test_every_sample_loads_unchanged(pair: str, compatibility: Compatibility, test_data: Path) -> None:
    device_folder, fhir_folder, count = PAIRS[pair]

    device = DeviceMapping.load(
        test_data / "devices" / device_folder / "devicecontent.json", compatibility=compatibility
    )
    fhir = FhirMapping.load(test_data / "devices" / fhir_folder / "fhirmapping.json")

    assert len(device.templates) == count
    assert {template.type_name.casefold() for template in device.templates} == set(fhir.templates)


def test_no_sample_pair_is_forgotten(test_data: Path) -> None:
    found = {file.parent for file in (test_data / "devices").rglob("devicecontent.json")}

    assert found == {test_data / "devices" / folder for folder, *_ in PAIRS.values()}


@each_pair
def test_every_template_of_a_sample_takes_the_message_it_asks_for(pair: str, test_data: Path) -> None:
    folder = test_data / "devices" / PAIRS[pair][0]
    mapping = DeviceMapping.load(folder / "devicecontent.json")

    for type_name, envelope, properties, patient in cases(folder):
        found = measured(mapping, type_name, envelope)
        assert (found.device_id, found.occurred_at_microseconds) == ("device-1", parse_instant(AT))
        assert (found.patient_id, found.properties) == (patient, properties)


@each_pair
def test_every_template_of_a_sample_reaches_its_observation(pair: str, test_data: Path) -> None:
    device_folder, fhir_folder, _ = (part for part in PAIRS[pair])
    folder = test_data / "devices" / str(device_folder)
    mapping = DeviceMapping.load(folder / "devicecontent.json")
    fhir = FhirMapping.load(test_data / "devices" / str(fhir_folder) / "fhirmapping.json")

    for type_name, envelope, properties, _ in cases(folder):
        found = measured(mapping, type_name, envelope)
        made = fhir.observation(
            {"measureType": found.type, "data": [{"occurrenceTimeUtc": AT, "properties": found.properties}]},
            patient_id="patient-1",
            device_id="device-1",
        )
        assert isinstance(made, dict)
        assert shown_values(made) == wanted_values(fhir, type_name, properties)


def shown_values(observation: Json) -> dict[str, object]:
    """What an Observation says, by name of the value: a number, a text, the one sample, or the concept's code."""
    own = {"": observation} | {part["code"]["text"]: part for part in observation.get("component", ())}
    shown: dict[str, object] = {}
    for name, part in own.items():
        if "valueSampledData" in part:
            (shown[name],) = [text for text in part["valueSampledData"]["data"].split() if text != "E"]
        elif "valueQuantity" in part:
            shown[name] = str(part["valueQuantity"]["value"])
        elif "valueCodeableConcept" in part:
            shown[name] = part["valueCodeableConcept"]["coding"][0]["code"]
        elif "valueString" in part:
            shown[name] = part["valueString"]
    return shown


def wanted_values(fhir: FhirMapping, type_name: str, properties: Json) -> dict[str, object]:
    template = fhir.template(type_name)
    assert template is not None
    wanted: dict[str, object] = {
        part.value.value_name: properties[part.value.value_name] for part in template.components
    }
    if template.value is not None:
        concept: Any = template.value.concept
        wanted[""] = concept["coding"][0]["code"] if concept else properties[template.value.value_name]
    return wanted


@each_pair
def test_diastolic_pressure_coded_as_heart_rate_is_told_with_the_right_code(pair: str, test_data: Path) -> None:
    fhir_file = test_data / "devices" / PAIRS[pair][1] / "fhirmapping.json"

    errors = [one for one in lint_files(None, fhir_file) if one.severity == "error"]

    if pair == "google-fit":
        assert errors == []
        return
    [wrong] = errors
    assert (wrong.rule, wrong.place) == ("code-display", "bloodpressure.diastolic")
    assert "8867-4 means Heart rate" in wrong.message
    assert "8462-4" in wrong.remedy
    assert "8867-4" in fhir_file.read_text(encoding="utf-8-sig").splitlines()[wrong.line - 1]


@each_pair
def test_a_sample_pair_names_the_same_types_and_values(pair: str, test_data: Path) -> None:
    device_folder, fhir_folder, _ = PAIRS[pair]

    found = lint_files(
        test_data / "devices" / device_folder / "devicecontent.json",
        test_data / "devices" / fhir_folder / "fhirmapping.json",
    )

    assert {one.rule for one in found if one.severity != "info"} <= {"code-display", "missing-unit"}
