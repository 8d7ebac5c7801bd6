"""Who may be scored, and what is said while nobody knows: from the context to the alert."""

from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
import pytest

from bedside import ADULT, Bedside, finals, names, observed
from patient_measurements import HOUR, MINUTE, SECOND, Reading
from pulseweir.scoring.patient_context import UNKNOWN, PatientContext
from pulseweir.scoring.settings import WindowSettings

INFANT = replace(ADULT, born=(date(2026, 5, 1), date(2026, 5, 1)))
# The ward's noon lies in January 2027.
FAILING: dict[str, Any] = {"respiratory_rate": 26, "spo2": 90, "heart_rate": 140, "systolic_bp": 85}


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (INFANT, "age-under-16"),
        (replace(ADULT, born=(date(2011, 6, 1), date(2011, 6, 1))), "age-under-16"),
        (replace(ADULT, born=(date(1995, 6, 1), date(1995, 6, 1)), pregnant=True), "pregnancy"),
        (replace(INFANT, sex="male"), "age-under-16"),
    ],
)
@pytest.mark.parametrize("changes", [{}, FAILING])
async def test_news2_abstains_and_says_why(
    ward: Bedside, context: PatientContext, reason: str, changes: dict[str, Any]
) -> None:
    ward.contexts["ann"] = context

    await ward.measure(*observed(0, **changes))
    await ward.until(5 * MINUTE)

    row, tile = await ward.row(), await ward.tile()
    assert (row.status, row.abstained, row.score, row.band) == ("abstained", reason, None, None)
    assert await ward.ever() == []
    assert tile.state not in ("normal", "high-unacknowledged", "medium")
    assert tile.score == "–"
    assert [cell.value for cell in tile.vitals if cell.title == "HR"] == [
        str(changes.get("heart_rate", 78)).removesuffix(".0")
    ]


async def test_a_sixteenth_birthday_ends_the_abstention(ward: Bedside) -> None:
    ward.contexts["ann"] = replace(ADULT, born=(date(2011, 1, 1), date(2011, 1, 1)))

    await ward.measure(*observed(0))

    assert (await ward.row()).abstained is None


async def test_an_unknown_age_is_scored_marked_and_paged_and_revised_when_read(ward: Bedside) -> None:
    ward.contexts["ann"] = UNKNOWN
    await ward.measure(*observed(0, **FAILING))

    row = await ward.row()
    assert (row.status, row.band) == ("partial", "high")
    assert {"age", "pregnancy", "spo2_scale"} <= set(names(row.unknown_json))
    await ward.settle()
    assert len(await ward.pages()) >= 1

    await ward.until(3 * MINUTE)
    await ward.learn("ann", INFANT)
    await ward.until(5 * MINUTE)

    assert (await ward.row()).abstained == "age-under-16"
    assert [one["abstained"] for one in finals(ward.rows)] == ["age-under-16"]
    [alert] = await ward.ever()
    assert alert.ended_at is not None


async def test_a_site_may_abstain_while_the_age_is_unknown(ward: Bedside) -> None:
    ward._windows = WindowSettings(unknown_age="abstain")
    ward.contexts["ann"] = replace(ADULT, born=None)

    await ward.measure(*observed(0, **FAILING))

    assert (await ward.row()).abstained == "unknown-age"


async def test_an_unread_scale_gives_the_higher_total_and_names_both(ward: Bedside) -> None:
    ward.contexts["ann"] = replace(ADULT, spo2_scale=None)
    await ward.measure(*observed(0, spo2=89, oxygen_flow=0))

    row = await ward.row()
    assert (row.status, row.score, names(row.unknown_json)) == ("partial", 3.0, ["spo2_scale"])
    [spo2] = [one for one in msgspec.json.decode(row.contributions_json) if one["parameter"] == "spo2"]
    assert (spo2["points"], spo2["on_scale_1"], spo2["on_scale_2"]) == (3, 3, 0)

    await ward.until(2 * MINUTE)
    await ward.learn("ann", replace(ADULT, spo2_scale=2))
    await ward.until(4 * MINUTE)

    assert ((await ward.row()).score, (await ward.row()).status) == (0.0, "complete")
    assert [(one["score"], one["status"]) for one in finals(ward.rows)] == [(0.0, "complete")]


async def test_what_was_known_stays_known_while_fhir_is_away(ward: Bedside) -> None:
    ward.contexts["ann"] = replace(ADULT, spo2_scale=2)
    await ward.measure(*observed(0, spo2=90))
    ward.contexts["ann"] = UNKNOWN

    await ward.measure(*observed(MINUTE, spo2=90))

    row = await ward.row()
    assert (row.score, row.status, names(row.unknown_json)) == (0.0, "complete", [])


async def test_a_context_that_comes_after_a_week_breaks_nothing(ward: Bedside) -> None:
    ward.contexts["ann"] = UNKNOWN
    await ward.measure(*observed(0))
    await ward.until(3 * MINUTE)
    ward._clock.hand[0] = 7 * 24 * HOUR

    await ward.learn("ann", ADULT)
    await ward.until(7 * 24 * HOUR + MINUTE)
    await ward.measure(*observed(7 * 24 * HOUR + 2 * MINUTE))

    assert (await ward.row()).status == "complete"


# Few values, all red


@pytest.mark.parametrize(
    "few",
    [
        {"spo2": 82, "heart_rate": 138, "consciousness": "U", "oxygen_flow": 15},
        {"consciousness": "P"},
        {"spo2": 85},
        {"heart_rate": 125, "oxygen_flow": 4, "temperature": 39.5},
    ],
)
async def test_a_lower_bound_that_is_already_red_is_flagged_and_alerted(
    ward: Bedside, few: dict[str, float | str]
) -> None:
    await ward.measure(*(Reading(vital, value, 0) for vital, value in few.items()))
    await ward.until(2 * MINUTE)

    row = await ward.row()
    assert row.status == "partial"
    assert row.band in ("low-medium", "medium", "high")
    await ward.settle()
    assert len(await ward.alerts()) == 1
    assert (await ward.tile()).is_lower_bound


async def test_few_values_that_raise_nothing_stay_insufficient(ward: Bedside) -> None:
    await ward.measure(Reading("heart_rate", 80, 0), Reading("spo2", 97, SECOND))
    await ward.until(2 * MINUTE)

    assert (await ward.row()).status == "insufficient-data"
    assert await ward.ever() == []
