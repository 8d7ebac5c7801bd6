"""Every type of value through the writer: measured texts in, stored Observations out."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from faulty_fhir import faulty_server, healthy
from observed_rows import SITE, Time, rows, stored, written
from pulseweir.backends.fhir_client import FhirClient

SPO2 = ("spo2", 0, {"spo2": "96"})


@pytest.fixture
async def fhir(tmp_path: Path) -> AsyncIterator[FhirClient]:
    with faulty_server(tmp_path, healthy) as (client, _, _):
        yield client


async def test_an_event_without_values_is_an_observation_without_value(fhir: FhirClient) -> None:
    found = await written(fhir, rows(("pressed", 5, {}), pair=SITE, encounter="stay-1"))

    assert not [name for name in found if name.startswith(("value", "component"))]
    assert found["code"]["text"] == "pressed"
    assert found["subject"] == {"reference": "Patient/patient-1"}
    assert found["device"] == {"reference": "Device/monitor-1"}
    assert found["encounter"] == {"reference": "Encounter/stay-1"}
    assert found["effectiveDateTime"] == "2030-05-01T12:00:05Z"
    assert found["status"] == "final"


async def test_a_measurement_without_its_value_gets_it_when_it_comes(fhir: FhirClient) -> None:
    before = await written(fhir, rows(("spo2", 0, {}), received=1))
    after = await written(fhir, rows(SPO2, received=2))

    assert "valueQuantity" not in before
    assert before["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert after["valueQuantity"]["value"] == 96
    assert "dataAbsentReason" not in after


async def test_a_session_without_values_covers_its_instants(fhir: FhirClient) -> None:
    table = rows(("session", 0, {}), ("session", 30, {}), pair=SITE, correlation="s1")

    found = await written(fhir, table, rows(("session", 60, {}), pair=SITE, correlation="s1"))

    assert found["effectivePeriod"] == {"start": "2030-05-01T12:00:00Z", "end": "2030-05-01T12:01:00Z"}
    assert found["status"] == "preliminary"


async def test_texts_and_concepts_are_written_as_the_mapping_says(fhir: FhirClient) -> None:
    table = rows(("mood", 0, {"mood": 'say "ah"\n'}), ("fall", 0, {"fall": "anything"}), pair=SITE)

    await Time().stage(fhir).handle({0: table})

    found = {one["code"]["text"]: one for one in (await stored(fhir)).values()}
    assert found["mood"]["valueString"] == 'say "ah"\n'
    assert found["fall"]["valueCodeableConcept"] == {"coding": [{"code": "1"}], "text": "Fall"}


async def test_an_ecg_strip_of_thousands_of_samples_is_one_observation(fhir: FhirClient) -> None:
    samples = [("ecg", tick * 0.004, {"mv": f"{tick % 50 / 100}"}) for tick in range(5_000)]

    found = await written(
        fhir,
        rows(*samples[:2_500], pair=SITE, correlation="strip"),
        rows(*samples[2_500:], pair=SITE, correlation="strip"),
    )

    assert found["valueSampledData"]["data"].split() == [properties["mv"] for _, _, properties in samples]
    assert found["valueSampledData"]["period"] == 4


async def test_a_sample_that_is_no_number_leaves_the_others_in_their_slots(fhir: FhirClient) -> None:
    table = rows(
        *[("pulse-wave", 60 * slot, {"pulse": text}) for slot, text in enumerate(["60", "no lead", "62", "E", "+63"])],
        pair=SITE,
    )

    handled = await Time().stage(fhir).handle({0: table})

    (found,) = (await stored(fhir)).values()
    assert found["valueSampledData"]["data"].startswith("60 E 62 E 63 E")
    assert [item.row["text"].to_pylist() for item in handled.outcome.quarantined] == [["no lead"]]
    assert handled.outcome.tallies == {"written": 4}


async def test_a_text_that_is_no_number_does_not_take_the_number_before_it_along(fhir: FhirClient) -> None:
    table = rows(SPO2, ("spo2", 0, {"spo2": "high"}))

    handled = await Time().stage(fhir).handle({0: table})

    assert handled.outcome.tallies == {"written": 1}
    assert len(handled.outcome.quarantined) == 1
