"""Which Encounter and which of its places say where a patient is."""

import pytest

from hospital_fhir import LOCATION_TYPE, Json, ago, at
from patient_measurements import MINUTE, NOON
from pulseweir.scoring.stays import location_of, newest_encounter, place_in

DAY = 24 * 60 * MINUTE


@pytest.mark.parametrize(
    "places",
    [
        [at("old", status="completed"), at("new")],
        [at("old", status="reserved"), at("new", status="active")],
        [at("old", status="planned"), at("new", status="active")],
        [at("old", period={"start": ago(DAY)}), at("new", period={"start": ago(MINUTE)})],
        [at("old"), at("new", period={"start": ago(MINUTE)})],
        [at("new", period={"start": ago(DAY)}), at("old", period={"start": ago(-MINUTE)})],
        [at("old", period={"end": ago(1)}), at("new", period={"start": ago(1), "end": ago(-DAY)})],
        [at("old", period={"end": ago(2 * DAY)[:10]}), at("new", period={"end": ago(0)[:10]})],
        [
            at("old", physicalType={"coding": [{"system": LOCATION_TYPE, "code": "wa"}]}),
            at("new", physicalType={"coding": [{"system": LOCATION_TYPE, "code": "bd"}]}),
        ],
    ],
)
def test_status_and_period_say_which_place_counts(places: list[Json]) -> None:
    assert location_of({"location": places}, NOON) == "new"
    assert location_of({"location": places[::-1]}, NOON) == "new"


def test_an_encounter_whose_places_are_all_left_or_to_come_has_no_bed() -> None:
    places = [at("old", status="completed"), at("next", status="planned"), at("old", period={"end": ago(1)})]

    assert location_of({"location": places}, NOON) is None
    assert location_of({}, NOON) is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"period": {"start": ago(2 * DAY)}}, {"period": {"start": ago(DAY)}}),
        ({"meta": {"lastUpdated": ago(2)}}, {"meta": {"lastUpdated": ago(1)}}),
        ({"period": {"start": ago(2)}, "meta": {"lastUpdated": ago(0)}}, {"period": {"start": ago(1)}}),
        ({"period": {"start": ago(2), "end": ago(1)}}, {"period": {"start": ago(3)}}),
        ({"status": "finished", "period": {"start": ago(1)}}, {"period": {"start": ago(2)}}),
        ({"status": "planned", "period": {"start": ago(1)}}, {}),
    ],
)
def test_the_newest_encounter_in_progress_decides(older: Json, newer: Json) -> None:
    old, new = {"id": "old", "status": "in-progress", **older}, {"id": "new", "status": "in-progress", **newer}

    assert newest_encounter([old, new], NOON) == newest_encounter([new, old], NOON) == new
    assert newest_encounter([], NOON) is None


def test_the_ward_is_found_above_the_room() -> None:
    ward = {"id": "w", "name": "Ward C", "physicalType": {"coding": [{"system": LOCATION_TYPE, "code": "wa"}]},
            "partOf": {"reference": "Location/house"}}  # fmt: skip
    locations: dict[str, Json] = {
        "b": {"id": "b", "name": "Bed 7", "partOf": {"reference": "Location/r"}},
        "r": {"id": "r", "name": "Room 2", "partOf": {"reference": "Location/w"}},
        "w": ward,
        "house": {"id": "house", "name": "Hospital"},
    }
    place = place_in(locations, "b")
    on_the_ward = place_in(locations, "w")
    without_a_ward = place_in(locations, "r") if locations.pop("w") else None

    assert (place.ward, place.bed) == ("Ward C", "Bed 7")
    assert (on_the_ward.ward, on_the_ward.bed) == ("Ward C", None)
    assert without_a_ward is not None
    assert (without_a_ward.ward, without_a_ward.bed) == (None, "Room 2")
