"""One decision on consciousness and one on oxygen, followed by score, words and page."""

import pytest

from bedside import Bedside, names, observed
from patient_measurements import HOUR, MINUTE, SECOND, Reading
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.site_time import SiteTime
from pulseweir.web.patient_page import parts_of
from pulseweir.web.readings import readings_of


async def points(ward: Bedside) -> dict[str, int]:
    import msgspec

    return {one["parameter"]: one["points"] for one in msgspec.json.decode((await ward.row()).contributions_json)}


async def shown(ward: Bedside, title: str) -> str:
    row = await ward.row()
    [value] = [
        part.value
        for part in parts_of(row, readings_of(row.inputs_json), ward._clock.now_microseconds(), SiteTime())
        if part.title == title
    ]
    return value


async def test_a_coma_scale_newer_than_the_letter_counts(ward: Bedside) -> None:
    await ward.measure(*observed(0))
    await ward.until(2 * HOUR)
    await ward.measure(*observed(2 * HOUR, consciousness=None), Reading("glasgow_coma_scale", 3, 2 * HOUR))

    assert (await points(ward))["consciousness"] == 3
    assert "3" in await shown(ward, VITAL_BY_NAME["consciousness"].title)
    await ward.settle()
    assert len(await ward.alerts()) == 1


async def test_a_letter_newer_than_the_coma_scale_counts(ward: Bedside) -> None:
    await ward.measure(Reading("glasgow_coma_scale", 9, 0), *observed(30 * MINUTE))

    assert (await points(ward))["consciousness"] == 0


async def test_parts_of_one_minute_are_summed(ward: Bedside) -> None:
    parts = {"glasgow_coma_eye": 1, "glasgow_coma_verbal": 1, "glasgow_coma_motor": 4}
    await ward.measure(
        *observed(0, consciousness=None), *(Reading(part, value, 10 * SECOND) for part, value in parts.items())
    )

    assert (await points(ward))["consciousness"] == 3
    assert "6" in await shown(ward, VITAL_BY_NAME["consciousness"].title)


async def test_full_parts_are_alert(ward: Bedside) -> None:
    parts = {"glasgow_coma_eye": 4, "glasgow_coma_verbal": 5, "glasgow_coma_motor": 6}
    await ward.measure(*observed(0, consciousness=None), *(Reading(part, value, 0) for part, value in parts.items()))

    assert (await points(ward))["consciousness"] == 0


@pytest.mark.parametrize(
    "word", ["C", "c", "Confused", "New confusion", " C", "130987000", "CONFUSED ", "v", "Unresponsive"]
)
async def test_new_confusion_in_words_counts(ward: Bedside, word: str) -> None:
    await ward.measure(*observed(0))
    await ward.measure(*observed(MINUTE, consciousness=word))

    assert (await points(ward))["consciousness"] == 3
    await ward.settle()
    assert len(await ward.alerts()) == 1


@pytest.mark.parametrize("word", ["verwirrt", "confuso", "42", "??", "agitated-ish"])
async def test_what_is_not_understood_ends_the_old_value(ward: Bedside, word: str) -> None:
    await ward.measure(*observed(0))
    await ward.measure(*observed(MINUTE, consciousness=word))

    row = await ward.row()
    assert "consciousness" not in await points(ward)
    assert "consciousness" in names(row.missing_json)
    assert row.status == "partial"
    assert (await ward.tile()).state != "normal"


@pytest.mark.parametrize(
    ("fraction", "flow"),
    [
        ((50, -10 * MINUTE), (0, -5 * MINUTE)),
        ((50, 0), (0, 0)),
        ((21, 0), (2, 0)),
        ((0.4, -MINUTE), (0, 0)),
        ((21, 0), (2, -MINUTE)),
    ],
)
async def test_any_of_two_that_says_oxygen_is_oxygen(
    ward: Bedside, fraction: tuple[float, int], flow: tuple[float, int]
) -> None:
    start = 20 * MINUTE
    await ward.measure(
        Reading("fio2", fraction[0], start + fraction[1]),
        Reading("oxygen_flow", flow[0], start + flow[1]),
        *observed(start, oxygen_flow=None),
    )

    assert (await points(ward))["air_or_oxygen"] == 2
    assert (await shown(ward, "Air or oxygen")).lower() not in ("air", "")
    assert "on air" not in " ".join(cell.note for cell in (await ward.tile()).vitals)


@pytest.mark.parametrize("fraction", [0.2, 0.21, 20, 21])
async def test_room_air_by_fraction_or_per_cent_is_air(ward: Bedside, fraction: float) -> None:
    await ward.measure(*observed(0, oxygen_flow=None), Reading("fio2", fraction, 0))

    assert (await points(ward))["air_or_oxygen"] == 0


async def test_both_saying_air_is_air(ward: Bedside) -> None:
    await ward.measure(*observed(0, oxygen_flow=0), Reading("fio2", 21, 0))

    assert (await points(ward))["air_or_oxygen"] == 0
    assert await shown(ward, "Air or oxygen") == "Air"
