"""What a nurse sees when a sensor is silent, sends nonsense, or has a wrong clock: from the reading to the tile."""

import msgspec
import pytest

from bedside import WELL, Bedside, names, observed
from patient_measurements import HOUR, MINUTE, SECOND, Reading

_MONITORED = ("heart_rate", "respiratory_rate", "spo2")


async def nonsense(ward: Bedside, value: float, *, minutes: int, vitals: tuple[str, ...] = _MONITORED) -> None:
    start = ward.now
    for minute in range(1, minutes + 1):
        await ward.measure(*(Reading(vital, value, start + minute * MINUTE) for vital in vitals))


# Impossible readings are no sign of life


@pytest.mark.parametrize("value", [0, -1, 1_000, float("nan")])
async def test_an_hour_of_impossible_readings_is_never_normal(ward: Bedside, value: float) -> None:
    await ward.measure(*observed(0))
    assert (await ward.tile()).state == "normal"

    for turn in range(6):
        await nonsense(ward, value, minutes=10)
        row, tile = await ward.row(), await ward.tile()
        # After an hour the last good values are too old to be scored.
        assert row.status == ("partial" if turn < 5 else "insufficient-data")
        assert {"pulse", "respiratory_rate", "spo2"} <= {*names(row.doubtful_json), *names(row.missing_json)}
        assert tile.state != "normal"
        assert "all within range" not in tile.reason.lower()

    assert row.sign_of_life_at is not None
    assert row.sign_of_life_at <= ward._clock.now_microseconds() - 59 * MINUTE
    pulse = (await ward.inputs())["heart_rate"]
    assert pulse["quality"] == "impossible" or pulse["newest"]["quality"] == "impossible"


async def test_one_impossible_vital_leaves_the_others_and_names_itself(ward: Bedside) -> None:
    await ward.measure(*observed(0))

    await ward.measure(*observed(MINUTE, spo2=0))

    row = await ward.row()
    assert (row.status, names(row.doubtful_json)) == ("partial", ["spo2"])
    shown = (await ward.inputs())["spo2"]
    assert (shown["value"], shown["newest"]["value"], shown["newest"]["quality"]) == (98.0, 0.0, "impossible")
    assert (await ward.tile()).state != "normal"


@pytest.mark.parametrize(
    ("vital", "value"), [("diastolic_bp", 999), ("diastolic_bp", 0), ("mean_bp", 400), ("mean_bp", 0)]
)
async def test_another_pressure_that_is_impossible_takes_nothing_from_the_systolic(
    ward: Bedside, vital: str, value: float
) -> None:
    cuff = {"systolic_bp": 84.0, "diastolic_bp": 50.0, vital: float(value)}

    await ward.measure(
        *observed(0, systolic_bp=None), *(Reading(name, number, 0, type="cuff") for name, number in cuff.items())
    )

    row = await ward.row()
    assert (row.score, row.status, row.band) == (3.0, "complete", "low-medium")


async def test_good_readings_after_nonsense_make_everything_normal_again(ward: Bedside) -> None:
    await ward.measure(*observed(0))
    await nonsense(ward, 0, minutes=3)

    await ward.measure(*observed(5 * MINUTE))

    row = await ward.row()
    assert (row.status, names(row.doubtful_json)) == ("complete", [])
    assert (await ward.tile()).state == "normal"


async def test_a_second_honest_device_makes_up_for_one_that_sends_zeros(ward: Bedside) -> None:
    await ward.measure(*observed(0))

    await ward.measure(
        Reading("heart_rate", 0, MINUTE, device="broken"),
        Reading("heart_rate", 80, MINUTE + 20 * SECOND, device="honest"),
    )

    assert names((await ward.row()).doubtful_json) == []


# Clocks ahead


async def test_a_set_charted_ahead_is_held_visibly_and_scored_when_its_time_comes(ward: Bedside) -> None:
    ahead = {"respiratory_rate": 26, "spo2": 90, "heart_rate": 135, "systolic_bp": 88, "oxygen_flow": 4}
    await ward.measure(*(Reading(v, x, 8 * MINUTE, received=SECOND) for v, x in {**WELL, **ahead}.items()))

    row = await ward.row()
    held = (await ward.inputs())["heart_rate"]
    assert (row.score, held["quality"], held["usable"]) == (None, "future", False)
    assert await ward.alerts() == []

    await ward.until(8 * MINUTE + 30 * SECOND)

    row = await ward.row()
    assert row.score is not None
    assert row.score >= 14
    assert (await ward.inputs())["heart_rate"]["age_seconds"] >= 8 * 60 - 2
    await ward.settle()
    [alert] = await ward.alerts()
    assert alert.priority == "high"


async def test_a_device_two_hours_ahead_is_silent_not_fresh(ward: Bedside) -> None:
    for minute in range(150):
        at = minute * MINUTE
        await ward.measure(
            *(
                Reading(v, x, at + 2 * HOUR, received=at)
                for v, x in {**WELL, "heart_rate": 140}.items()
                if v != "oxygen_flow"
            )
        )

    row, tile = await ward.row(), await ward.tile()
    assert {"pulse", "spo2", "respiratory_rate"} <= set(names(row.missing_json))
    assert tile.state in ("stale", "no-data", "insufficient-data", "doubtful")
    assert await ward.pages() == []


async def test_a_fast_clock_does_not_mask_an_honest_device(ward: Bedside) -> None:
    await ward.measure(*observed(0))
    fast = [
        Reading("heart_rate", 75, MINUTE + 299 * SECOND, device="fast", received=MINUTE),
        Reading("spo2", 98, MINUTE + 299 * SECOND, device="fast", received=MINUTE),
    ]
    await ward.measure(*fast)

    await ward.measure(*observed(2 * MINUTE, heart_rate=140, spo2=84))

    row = await ward.row()
    assert row.score is not None
    assert row.score >= 6
    await ward.settle()
    assert [alert.patient_id for alert in await ward.alerts()] == ["ann"]


# Values that stand still


@pytest.mark.parametrize("every", [MINUTE, 20 * MINUTE, 30 * MINUTE])
async def test_a_pressure_equal_for_five_hours_is_marked(ward: Bedside, every: int) -> None:
    for at in range(0, 5 * HOUR, every):
        await ward.measure(*observed(at, heart_rate=70 + at // every % 7))

    shown = await ward.inputs()
    assert shown["systolic_bp"].get("flat_line") is True
    assert "flat_line" not in shown["heart_rate"]


async def test_every_input_says_whose_it_is_and_how_old(ward: Bedside) -> None:
    await ward.measure(*observed(0))

    for one in msgspec.json.decode((await ward.row()).inputs_json):
        assert {"vital", "occurred_at", "age_seconds", "quality", "usable", "device_id"} <= set(one)
