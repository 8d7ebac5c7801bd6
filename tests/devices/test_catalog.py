"""Every folder of the device catalog is a test: its message becomes its measurements and its Observations."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pyarrow as pa
import pytest

from devices.catalog_files import KINDS, envelope, groups, read
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.catalog import DEVICE_FILE, Mappings, catalog_directory
from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.device_mapping.expressions import LANGUAGES
from pulseweir.ingest.device_mapping.loader import Compatibility
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.device_mapping.tokens import parse_instant
from pulseweir.ingest.fhir_mapping.templates import VALUE_TYPES
from pulseweir.ingest.grouping import INTERVALS
from pulseweir.ingest.hub.registry import DeviceEntry, Registry
from pulseweir.mapping import dry_run, is_loinc, lint
from pulseweir.records.codes import LOINC, OBSERVATION_CATEGORY, PULSEWEIR, SNOMED, UCUM, VITAL_BY_LOINC

MAPPINGS = Mappings.load(catalog_directory())
MDC = "urn:iso:std:iso:11073:10101"
CATEGORIES = {"vital-signs", "exam", "activity", "laboratory", "procedure"}
PROFILED_UNITS = {"29463-7": "kg", "39156-5": "kg/m2", "8302-2": "cm", "99504-3": "mg/dL"}
"""UCUM units that profiles fix for codes the house does not score (R4 vital signs; HL7 CGM)."""

each_kind = pytest.mark.parametrize("folder", KINDS, ids=lambda folder: folder.name)


def shown(found: list[Measurement]) -> list[tuple[Any, ...]]:
    return [
        (
            one.type,
            one.device_id,
            one.occurred_at_microseconds,
            one.patient_id,
            one.encounter_id,
            one.correlation_id,
            one.properties,
        )
        for one in found
    ]


def test_the_catalog_has_the_kinds_the_house_promises() -> None:
    named = {kind.name for kind in KINDS}

    assert named >= {
        "bedside-monitor",
        "pulse-oximeter",
        "blood-pressure-cuff",
        "thermometer",
        "gateway",
        "nurse-entry",
    }
    assert named >= {"fitbit-tracker", "withings-scale", "healthkit-phone", "google-fit-phone"}
    assert named >= {"glucose-monitor", "body-scale", "spirometer", "ecg-patch"}
    assert len(named) >= 16


def test_the_catalog_shows_every_template_language_value_type_and_period() -> None:
    devices = [template for pair in MAPPINGS.by_kind.values() for template in pair.device.templates]
    expressions = [found for pair in MAPPINGS.by_kind.values() for *_, found in pair.device.expressions()]
    fhir = [template for pair in MAPPINGS.by_kind.values() for template in pair.fhir.templates.values()]

    assert {template.kind for template in devices} == {
        "CalculatedContent",
        "JsonPathContent",
        "IotJsonPathContent",
        "IotCentralJsonPathContent",
    }
    assert {expression.language for expression in expressions} == set(LANGUAGES.values())
    assert {value.value_type for template in fhir for _, value in template.parts} == set(VALUE_TYPES.values())
    assert {template.interval for template in fhir} == set(INTERVALS.values())
    assert {"patient", "encounter", "correlation"} == {
        name
        for name in ("patient", "encounter", "correlation")
        if any(getattr(template, name) is not None for template in devices)
    }


def test_the_readme_lists_every_kind() -> None:
    listed = re.findall(r"^\| \[`([a-z-]+)`\]", (catalog_directory() / "README.md").read_text("utf-8"), re.MULTILINE)

    assert listed == [kind.name for kind in KINDS]


@pytest.mark.parametrize("compatibility", get_args(Compatibility))
@each_kind
def test_the_message_becomes_the_measurements(folder: Path, compatibility: Compatibility) -> None:
    mapping = DeviceMapping.load(folder / DEVICE_FILE, compatibility=compatibility)

    assert shown(mapping.normalize(envelope(folder))) == [
        (
            one["type"],
            one["device_id"],
            parse_instant(one["occurred_at"]),
            one.get("patient_id"),
            one.get("encounter_id"),
            one.get("correlation_id"),
            one["properties"],
        )
        for one in read(folder, "measurements")
    ]


@each_kind
def test_a_batch_of_messages_becomes_the_same_measurements(folder: Path) -> None:
    whole = envelope(folder)
    body, *others = (msgspec.json.encode(whole[name]) for name in ("Body", "Properties", "SystemProperties"))
    properties, system_properties = ([text.decode()] * 3 for text in others)
    wanted = [
        (
            message,
            place,
            one["type"],
            one["device_id"],
            parse_instant(one["occurred_at"]),
            one.get("patient_id"),
            one.get("encounter_id"),
            one.get("correlation_id"),
            name,
            text,
        )
        for message in (0, 2)
        for place, one in enumerate(read(folder, "measurements"))
        for name, text in (one["properties"] or {None: None}).items()
    ]

    found = MAPPINGS.by_kind[folder.name].device.normalize_batch(
        [body, b"{", body], properties=properties, system_properties=system_properties
    )

    table = found.measurements.set_column(4, "occurred_at", found.measurements["occurred_at"].cast(pa.int64()))
    assert [tuple(row.values())[:10] for row in table.to_pylist()] == wanted
    assert found.rejects["message"].to_pylist() == [1]


@each_kind
def test_the_measurements_become_the_observations(folder: Path) -> None:
    made: list[dict[str, object]] = []
    for group, (first, *_) in groups(folder):
        found = MAPPINGS.by_kind[folder.name].fhir.observation(
            group,
            patient_id="patient-1",
            device_id=first["device_id"],
            encounter_id=first.get("encounter_id"),
            compatibility="pulseweir",
        )
        made += found if isinstance(found, list) else [found]

    assert made == read(folder, "observation")


@each_kind
def test_every_code_is_of_a_known_system_and_every_loinc_code_is_one(folder: Path) -> None:
    for template in MAPPINGS.by_kind[folder.name].fhir.templates.values():
        for coding in (coding for codes, _ in template.parts for coding in (*template.codes, *codes)):
            assert coding["system"] in {LOINC, MDC, SNOMED} or coding["system"].startswith(f"{PULSEWEIR}/CodeSystem/")
            assert coding["display"].strip() == coding["display"] != ""
            assert coding["system"] != LOINC or is_loinc(coding["code"])
            assert coding["system"] != MDC or coding["display"].startswith("MDC_")


@each_kind
def test_the_observations_have_a_category_and_ucum_units(folder: Path) -> None:
    for observation in read(folder, "observation"):
        codings = [coding for concept in observation.get("category", ()) for coding in concept["coding"]]
        parts = (observation, *observation.get("component", ()))
        quantities = [part["valueQuantity"] for part in parts if "valueQuantity" in part]
        assert {coding["code"] for coding in codings} <= CATEGORIES
        assert {coding["system"] for coding in codings} <= {OBSERVATION_CATEGORY}
        assert all(quantity["system"] == UCUM and quantity["code"] and quantity["unit"] for quantity in quantities)
        assert all(part["valueSampledData"]["origin"]["unit"] for part in parts if "valueSampledData" in part)


@each_kind
def test_vital_signs_are_quantities_in_the_unit_of_their_profile(folder: Path) -> None:
    for observation in read(folder, "observation"):
        own = {coding["code"] for coding in observation["code"]["coding"]}
        for part in (observation, *observation.get("component", ())):
            for code in {coding["code"] for coding in part["code"]["coding"]}:
                unit = PROFILED_UNITS.get(code, VITAL_BY_LOINC[code].unit if code in VITAL_BY_LOINC else "")
                if unit and "{" not in unit:
                    assert part["valueQuantity"]["code"] == unit
        if own & {"8867-4", "9279-1", "59408-5", "8310-5", "85354-9", "29463-7", "39156-5", "8302-2"}:
            assert observation["category"][0]["coding"][0]["code"] == "vital-signs"
        if "85354-9" in own:
            components = {coding["code"] for part in observation["component"] for coding in part["code"]["coding"]}
            assert components & {"8480-6", "8462-4"}


@each_kind
def test_the_mappings_have_no_findings(folder: Path) -> None:
    pair = MAPPINGS.by_kind[folder.name]

    found = lint(pair.device, pair.fhir, [read(folder, "message")])
    assert [one for one in found if one.severity != "info"] == []
    (tried,) = dry_run(pair.device, pair.fhir, [read(folder, "message")])
    assert (tried.rejects, tried.warnings) == ((), ())


@each_kind
def test_a_dry_run_shows_the_observations_of_the_folder(folder: Path) -> None:
    pair = MAPPINGS.by_kind[folder.name]

    (tried,) = dry_run(pair.device, pair.fhir, [read(folder, "message")])

    assert [without_references(one) for one in tried.observations] == [
        without_references(one) for one in read(folder, "observation")
    ]


def without_references(observation: dict[str, Any]) -> dict[str, Any]:
    references = {"id", "identifier", "subject", "encounter"}
    return {name: part for name, part in observation.items() if name not in references}


@each_kind
def test_every_value_of_a_template_is_shown_by_the_message(folder: Path) -> None:
    """Kinds with more templates than one message can show are left to their own tests below."""
    if folder.name in {"bedside-monitor", "nurse-entry"}:
        return
    pair = MAPPINGS.by_kind[folder.name]
    named = {(template.type_name, value.label) for template in pair.device.templates for value in template.values}

    found = pair.device.normalize(envelope(folder))

    assert {(one.type, name) for one in found for name in one.properties} == named


@each_kind
def test_a_device_of_every_kind_can_be_registered_and_finds_its_mapping(folder: Path, tmp_path: Path) -> None:
    device = Registry.open(tmp_path / "hub").add(DeviceEntry("device-1", kind=folder.name))

    assert MAPPINGS.for_kind(device.kind) is MAPPINGS.by_kind[folder.name]


@each_kind
async def test_a_validating_fhir_store_takes_the_observations_as_they_are(folder: Path, fhir: FhirClient) -> None:
    for observation in read(folder, "observation"):
        await fhir.update(observation)

        (stored,) = await fhir.search("Observation", [("_id", observation["id"])])
        assert {name: part for name, part in stored.items() if name != "meta"} == observation


@pytest.mark.parametrize(
    ("fahrenheit", "celsius"), [(98.6, "37"), (101.3, "38.5"), (32, "0"), (-40, "-40"), (97, "36.11")]
)
def test_fahrenheit_becomes_celsius_to_a_hundredth(fahrenheit: float, celsius: str) -> None:
    for kind in ("thermometer", "bedside-monitor"):
        body = {"device": "t", "measuredAt": "2030-01-01T00:00:00Z", "temperatureFahrenheit": fahrenheit}
        found = MAPPINGS.by_kind[kind].device.normalize({"Body": body})
        assert [one.properties for one in found] == [{"temperature": celsius}]


@pytest.mark.parametrize(("pounds", "kilograms"), [(163.4, "74.12"), (100, "45.36"), (0.5, "0.23"), (330, "149.69")])
def test_pounds_become_kilograms_to_a_hundredth(pounds: float, kilograms: str) -> None:
    body = {"device": "s", "measuredAt": "2030-01-01T00:00:00Z", "weightPounds": pounds}

    found = MAPPINGS.by_kind["body-scale"].device.normalize({"Body": body})

    assert [one.properties for one in found] == [{"body_weight": kilograms}]


@pytest.mark.parametrize(
    ("number", "power", "kilograms"), [(74126, -3, "74.126"), (7413, -2, "74.13"), (74, 0, "74"), (7, 1, "70")]
)
def test_a_decimal_power_scales_the_scale(number: int, power: int, kilograms: str) -> None:
    measures = [{"type": 1, "value": number, "unit": power}]
    body = {"device": "w", "body": {"measuregrps": [{"attrib": 0, "category": 1, "date": 0, "measures": measures}]}}

    found = MAPPINGS.by_kind["withings-scale"].device.normalize({"Body": body})

    assert [one.properties for one in found] == [{"body_weight": kilograms}]


@pytest.mark.parametrize(("attrib", "category"), [(0, 2), (1, 1)])
def test_a_goal_and_a_weight_of_somebody_unknown_are_no_measurements(attrib: int, category: int) -> None:
    group = {"attrib": attrib, "category": category, "date": 0, "measures": [{"type": 1, "value": 70, "unit": 0}]}

    assert MAPPINGS.by_kind["withings-scale"].device.normalize({"Body": {"body": {"measuregrps": [group]}}}) == []


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
