"""A level of consciousness charted in letters, words or codes: taken, or named and set aside; never dropped unseen."""

from typing import Any

import msgspec
import pytest

from observed_rows import Time, rows
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.fhir_mapping.consciousness import kind_of, level_concept

MAPPINGS = Mappings.load(catalog_directory())
LOINC_LEVEL = "67775-7"
charts = pytest.mark.parametrize("kind", ["nurse-entry", "bedside-monitor"])


def measured(kind: str, level: Any) -> dict[str, str]:
    """Texts by type that a message's level and its oxygen or pulse become, one message alone and in a batch."""
    body = {"device": "s", "measuredAt": "2030-05-01T08:40:00Z", "consciousness": level, "oxygenFlow": 4, "SpO2": 95}
    pair = MAPPINGS.by_kind[kind]
    whole = pair.device.normalize({"Body": body, "Properties": {}, "SystemProperties": {}})
    batch = pair.device.normalize_batch(
        [msgspec.json.encode(body)],
        properties=[None],
        system_properties=[None],
        nesting_limit=64,
        body_limit_bytes=10_000,
    )
    found = [(row["type"], row["text"]) for row in batch.measurements.to_pylist()]
    assert found == [(one.type, text) for one in whole for text in one.properties.values()]
    assert len(dict(found)) == len(found)
    assert batch.rejects.num_rows == 0
    return dict(found)


@charts
@pytest.mark.parametrize(
    ("level", "type_name"),
    [
        ("A", "consciousness-alert"),
        ("CVPU", "consciousness-not-alert"),
        ("c", "consciousness"),
        (" C", "consciousness"),
        ("New  confusion", "consciousness"),
        (130987000, "consciousness"),
        ("verwirrt", "consciousness"),
        (42, "consciousness"),
        (0, "consciousness"),
        ({"level": "C"}, "consciousness"),
        (["C"], "consciousness"),
        (True, "consciousness"),
        (-1.5, "consciousness"),
        (False, "consciousness"),
        ({}, "consciousness"),
    ],
)
def test_whatever_is_charted_becomes_one_measurement_and_costs_no_other(kind: str, level: Any, type_name: str) -> None:
    found = measured(kind, level)

    assert [name for name in found if name.startswith("consciousness")] == [type_name]
    assert len(found) > 1
    assert MAPPINGS.by_kind[kind].fhir.binding(type_name, "consciousness") is not None
    assert MAPPINGS.by_kind[kind].fhir.bindings[type_name, "consciousness"].code == LOINC_LEVEL


@charts
@pytest.mark.parametrize("level", [None, "", " ", "  "])
def test_nothing_charted_is_no_measurement(kind: str, level: str | None) -> None:
    assert not [name for name in measured(kind, level) if name.startswith("consciousness")]


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("c", "130987000", "New confusion"),
        ("Confused", "130987000", "New confusion"),
        (" NEW confusion ", "130987000", "New confusion"),
        ("130987000", "130987000", "New confusion"),
        ("alert", "248234008", "Alert"),
        ("responds to PAIN", "450847001", "Responds to pain"),
        ("v", "300202002", "Responds to voice"),
        ("Unresponsive", "422768004", "Unresponsive"),
        ("not alert", "CVPU", "Not alert, level not recorded"),
    ],
)
async def test_a_level_in_words_is_written_by_its_code(fhir: FhirClient, text: str, code: str, told: str) -> None:
    handled = (
        await Time()
        .stage(fhir, MAPPINGS)
        .handle({0: rows(("consciousness", 0, {"consciousness": text}), pair=MAPPINGS.by_kind["nurse-entry"])})
    )

    [stored] = await fhir.search("Observation", [("patient", "patient-1")])
    assert handled.outcome.tallies == {"written": 1}
    assert stored["valueCodeableConcept"]["coding"][0]["code"] == code
    assert stored["valueCodeableConcept"]["text"] == told
    by_letter = MAPPINGS.by_kind["nurse-entry"].fhir.templates
    assert stored["valueCodeableConcept"] in [one.value.concept for one in by_letter.values() if one.value is not None]


@pytest.mark.parametrize("text", ["verwirrt", "42", "asleep, rousable", "{}", " ", "A: confused"])
async def test_a_level_nobody_understands_is_set_aside_by_its_kind_and_costs_no_neighbour(
    fhir: FhirClient, text: str
) -> None:
    table = rows(
        ("consciousness", 0, {"consciousness": text}),
        ("oxygen-flow", 0, {"oxygen_flow": "4"}),
        pair=MAPPINGS.by_kind["nurse-entry"],
    )

    handled = await Time().stage(fhir, MAPPINGS).handle({0: table})

    [aside] = handled.outcome.quarantined
    [stored] = await fhir.search("Observation", [("patient", "patient-1")])
    assert (handled.outcome.tallies, aside.reason) == ({"written": 1}, "consciousness-not-understood")
    assert kind_of(text) in aside.message
    assert text.strip() == "" or text not in aside.message
    assert "patient-1" not in aside.message
    assert stored["valueQuantity"]["value"] == 4
    assert level_concept(text) is None
