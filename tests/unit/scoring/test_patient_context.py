"""What is told of a patient: where they are, how old, pregnant or not; what stays unknown, and what comes later."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
import structlog

from hospital_fhir import LOCATION_TYPE, Hospital, Json, ago, at, coded
from patient_measurements import MINUTE, NOON, Reading, StillClock, by_shard, measurements
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import to_text
from pulseweir.records.codes import SNOMED, SPO2_SCALE_EXTENSION
from pulseweir.records.topics import PATIENT_CONTEXT_TYPE, PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.enrichment import EnrichmentStage, context_rows
from pulseweir.scoring.patient_context import PatientContext
from pulseweir.scoring.settings import EnrichmentSettings

DAY = 24 * 60 * MINUTE
ICD = "http://hl7.org/fhir/sid/icd-10-cm"


@pytest.fixture
def hospital() -> Hospital:
    one = Hospital()
    one.put("Patient", id="ann", birthDate="1957-01-16", gender="female", meta={"lastUpdated": "2026-01-01T00:00:00Z"})
    for ward, bed in (("ward-a", "bed-1"), ("ward-b", "bed-2")):
        one.put("Location", id=ward, name=ward)
        one.bed(bed, ward)
    return one


@pytest.fixture
async def stage(hospital: Hospital) -> AsyncIterator[EnrichmentStage]:
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(hospital))
    settings = EnrichmentSettings(context_wait_seconds=0.5, context_keep_seconds=0.01, batch_seconds=0)
    one = EnrichmentStage(fhir, settings, StillClock())
    yield one
    await one.close()
    await fhir.close()


async def row(stage: EnrichmentStage, patient: str = "ann") -> Json:
    handled = await stage.handle(by_shard(measurements([Reading("heart_rate", 70, 0, patient)])))
    [(_, table)] = handled.publish
    [found] = table.to_pylist()
    return dict(found)


async def news(stage: EnrichmentStage, wanted: str, value: object) -> Json:
    """The context row that tells something, once the stage has published it."""
    for _ in range(300):
        handled = await stage.tick()
        for _, table in handled.publish if handled else []:
            assert table.schema == PATIENT_MEASUREMENT_SCHEMA
            for found in table.to_pylist():
                if found[wanted] == value:
                    return dict(found)
        await asyncio.sleep(0.01)
    pytest.fail("no context row came")


# Where the patient is


async def test_a_place_left_behind_is_not_where_the_patient_is(hospital: Hospital, stage: EnrichmentStage) -> None:
    left = {"start": ago(2 * DAY), "end": ago(DAY)}
    hospital.stay("s", "ann", at("bed-1", status="active", period=left), at("bed-2", status="active"))

    found = await row(stage)

    assert (found["ward"], found["bed"]) == ("ward-b", "bed-2")


async def test_a_ward_above_a_room_is_read(hospital: Hospital, stage: EnrichmentStage) -> None:
    kind = {"coding": [{"system": LOCATION_TYPE, "code": "wa"}]}
    hospital.put("Location", id="w", name="Ward C", physicalType=kind, partOf={"reference": "Location/house"})
    hospital.put("Location", id="r", name="Room 2", partOf={"reference": "Location/w"})
    hospital.bed("b", "r")
    hospital.stay("s", "ann", at("b"))

    found = await row(stage)

    assert (found["ward"], found["bed"]) == ("Ward C", "b")


async def test_a_move_is_followed_for_a_silent_patient(hospital: Hospital, stage: EnrichmentStage) -> None:
    hospital.stay("first", "ann", at("bed-1"), changed="2026-06-01T00:00:00Z", period={"start": ago(DAY)})
    before = await row(stage)
    hospital.stay("second", "ann", at("bed-2"), changed="2026-02-01T00:00:00Z", period={"start": ago(MINUTE)})

    after = await news(stage, "ward", "ward-b")

    assert (before["ward"], after["bed"], after["type"]) == ("ward-a", "bed-2", PATIENT_CONTEXT_TYPE)
    assert after["context_version"] > before["context_version"]
    assert (after["code"], after["number"], after["text"], after["device_id"]) == (None, None, None, "")
    assert await stage.tick() is None


# Pregnancy and age


async def test_pregnancy_is_known_not_known_and_known_not_to_be(hospital: Hospital, stage: EnrichmentStage) -> None:
    assert (await row(stage))["pregnant"] is False

    hospital.put("Condition", id="c", subject={"reference": "Patient/ann"}, code=coded("77386006", SNOMED))
    assert (await news(stage, "pregnant", True))["conditions"] == ["77386006"]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_one_search_that_fails_leaves_the_rest(hospital: Hospital, stage: EnrichmentStage, status: int) -> None:
    hospital.stay("s", "ann", at("bed-1"))
    hospital.answers["Condition"] = status

    found = await row(stage)
    assert (found["age_years"], found["ward"], found["spo2_scale"], found["pregnant"]) == (69, "ward-a", 1, None)
    assert found["context_version"] > 0

    del hospital.answers["Condition"]
    assert (await news(stage, "pregnant", False))["ward"] == "ward-a"


async def test_what_was_known_stays_when_it_cannot_be_read_again(hospital: Hospital, stage: EnrichmentStage) -> None:
    hospital.put("Condition", id="c", subject={"reference": "Patient/ann"}, code=coded("Z34.0", ICD))
    assert (await row(stage))["pregnant"] is True

    hospital.answers |= {"Condition": 500, "Patient": 500}
    await asyncio.sleep(0.02)
    for _ in range(5):
        found = await row(stage)
        assert (found["pregnant"], found["age_years"], found["spo2_scale"]) == (True, 69, 1)
        await asyncio.sleep(0.01)


async def test_an_answer_cut_short_is_asked_for_again_a_patient_at_a_time(
    hospital: Hospital, stage: EnrichmentStage
) -> None:
    hospital.put("Patient", id="ben", birthDate="1990-05-05")
    hospital.stay("s", "ann", at("bed-1"))
    hospital.stay("t", "ben", at("bed-2"))
    hospital.put("Condition", id="c", subject={"reference": "Patient/ann"}, code=coded("1"))
    hospital.put("Condition", id="d", subject={"reference": "Patient/ben"}, code=coded("O80", ICD))
    hospital.most = dict.fromkeys(("Patient", "Encounter", "Condition", "Location"), 1)

    handled = await stage.handle(by_shard(measurements([Reading("spo2", 95, 0), Reading("spo2", 95, 0, "ben")])))

    [(_, table)] = handled.publish
    found = {one["patient_id"]: (one["ward"], one["pregnant"], one["spo2_scale"]) for one in table.to_pylist()}
    assert found == {"ann": ("ward-a", False, 1), "ben": ("ward-b", True, 1)}


async def test_conditions_that_stay_cut_short_leave_pregnancy_unknown(
    hospital: Hospital, stage: EnrichmentStage
) -> None:
    for name in ("c", "d"):
        hospital.put("Condition", id=name, subject={"reference": "Patient/ann"}, code=coded("1"))
    hospital.most = {"Condition": 1}

    assert (await row(stage))["pregnant"] is None


@pytest.mark.parametrize(
    ("birth_date", "years"),
    [
        ("2011-01-15", 16),
        ("2011-01-16", 15),
        ("2026-05-01", 0),
        ("2010", 17),
        ("2011", None),
        ("2011-01", None),
        ("2011-02", 15),
        ("2012", 15),
        ("1957", 70),
        ("2030-01-01", None),
        ("2009-02-30", None),
        ("unknown", None),
        (None, None),
    ],
)
async def test_an_age_is_told_where_it_is_certain_on_which_side_of_16_it_is(
    hospital: Hospital, stage: EnrichmentStage, birth_date: str | None, years: int | None
) -> None:
    assert to_text(NOON).startswith("2027-01-15")
    hospital.held["Patient"][0]["birthDate"] = birth_date

    assert (await row(stage))["age_years"] == years


# The SpO2 scale, and what comes later


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([], 1),
        ([{"valueInteger": 1}], 1),
        ([{"valueInteger": 2}], 2),
        ([{"valueInteger": 3}], None),
        ([{"valueInteger": 0}], None),
        ([{"valueInteger": True}], None),
        ([{"valueString": "2"}], None),
        ([{}], None),
        ([{"valueInteger": 1}, {"valueInteger": 2}], None),
        ([{"valueInteger": 2}, {"valueInteger": 2}], 2),
    ],
)
async def test_a_scale_that_is_neither_1_nor_2_is_not_known(
    hospital: Hospital, stage: EnrichmentStage, values: list[Json], scale: int | None
) -> None:
    hospital.held["Patient"][0]["extension"] = [{"url": SPO2_SCALE_EXTENSION, **value} for value in values]

    with structlog.testing.capture_logs() as said:
        found = [await row(stage), await row(stage)]

    assert [one["spo2_scale"] for one in found] == [scale, scale]
    assert [one["event"] for one in said].count("spo2_scale_unreadable") == (scale is None)
    assert "ann" not in json.dumps(said)


@pytest.mark.parametrize("kinds", [["Patient"], ["Patient", "Encounter", "Condition", "Observation"], ["Encounter"]])
async def test_a_context_that_comes_after_a_week_is_published_for_a_silent_patient(
    hospital: Hospital, kinds: Iterable[str]
) -> None:
    class MovingClock(StillClock):
        def now_microseconds(self) -> int:
            return NOON + passed[0]

    passed = [0]
    hospital.held["Patient"][0]["extension"] = [{"url": SPO2_SCALE_EXTENSION, "valueInteger": 2}]
    hospital.stay("s", "ann", at("bed-1"))
    hospital.answers = dict.fromkeys(kinds, 503)
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(hospital))
    stage = EnrichmentStage(fhir, EnrichmentSettings(context_wait_seconds=0.01, batch_seconds=0), MovingClock())
    before = await row(stage)
    assert None in (before["spo2_scale"], before["ward"])

    passed[0] = 7 * DAY
    assert await stage.tick() is None
    hospital.answers = {}
    after = await news(stage, "spo2_scale", 2) if "Patient" in kinds else await news(stage, "ward", "ward-a")

    assert (after["spo2_scale"], after["ward"], after["age_years"]) == (2, "ward-a", 70)
    assert after["occurred_at"] == after["received_at"]
    assert to_text(int(after["occurred_at"].timestamp() * 1_000_000)) == to_text(NOON + 7 * DAY)
    await stage.close()
    await fhir.close()


async def test_a_patient_nobody_measured_for_a_day_is_not_followed(hospital: Hospital) -> None:
    class MovingClock(StillClock):
        def now_microseconds(self) -> int:
            return NOON + passed[0]

    passed = [0]
    fhir = FhirClient("http://fhir.test/", transport=httpx.MockTransport(hospital))
    settings = EnrichmentSettings(context_wait_seconds=0.5, context_keep_seconds=0.001, batch_seconds=0)
    stage = EnrichmentStage(fhir, settings, MovingClock())
    await row(stage)

    passed[0] = DAY + MINUTE
    hospital.stay("s", "ann", at("bed-1"))
    for _ in range(10):
        assert await stage.tick() is None
        await asyncio.sleep(0.005)
    await stage.close()
    await fhir.close()


async def test_nothing_new_is_not_published_again(hospital: Hospital, stage: EnrichmentStage) -> None:
    hospital.stay("s", "ann", at("bed-1"))
    await row(stage)
    hospital.held["Patient"][0]["meta"] = {"lastUpdated": ago(0)}

    for _ in range(10):
        assert await stage.tick() is None
        await asyncio.sleep(0.005)


async def test_a_resource_of_another_shape_costs_no_other_part(hospital: Hospital, stage: EnrichmentStage) -> None:
    hospital.stay("s", "ann", at("bed-1"))
    hospital.put("Condition", id="c", subject={"reference": "Patient/ann"}, code="flu")

    found = await row(stage)

    assert (found["ward"], found["pregnant"]) == ("ward-a", None)


def test_a_context_row_carries_no_value() -> None:
    table = context_rows({"ann": PatientContext(version=5, ward="W", spo2_scale=2, pregnant=False)}, NOON)

    [found] = table.to_pylist()
    told = {name: value for name, value in found.items() if value is not None}
    assert told.keys() == {
        "message_id", "device_id", "type", "patient_id", "occurred_at", "received_at", "implausible", "ward",
        "spo2_scale", "conditions", "context_version", "pregnant", "quality",
    }  # fmt: skip
    assert told["quality"] == "good"
