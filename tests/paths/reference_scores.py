"""The scores a patient's windows should get: a slow, straightforward second reading of the rules, one window at a time.

Only the point table itself (`pulseweir.scores.news2`, proven elsewhere) is the product's.
"""

import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paths.recount import HOUR, MINUTE, Charted, Key
from pulseweir.scores import news2

POSSIBLE: dict[str, Callable[[float], bool]] = {
    "heart_rate": lambda number: 0 < number < 300,
    "respiratory_rate": lambda number: 0 < number < 70,
    "spo2": lambda number: 0 < number <= 100,
    "systolic_bp": lambda number: 0 < number < 400,
    "temperature": lambda number: 10 < number < 50,
    "fio2": lambda number: 20 <= number <= 100,
    "oxygen_flow": lambda number: 0 <= number < 100,
    "glasgow_coma_scale": lambda number: 3 <= number <= 15,
    "glasgow_coma_eye": lambda number: 1 <= number <= 4,
    "glasgow_coma_verbal": lambda number: 1 <= number <= 5,
    "glasgow_coma_motor": lambda number: 1 <= number <= 6,
}
USUAL = {
    "heart_rate": (20, 250),
    "respiratory_rate": (3, 60),
    "spo2": (70, 100),
    "systolic_bp": (40, 280),
    "temperature": (30, 43),
}
FASTEST_PER_MINUTE = {
    "heart_rate": 60,
    "respiratory_rate": 20,
    "spo2": 10,
    "systolic_bp": 50,
    "temperature": 0.3,
}
LONGEST = {
    "heart_rate": HOUR,
    "respiratory_rate": HOUR,
    "spo2": HOUR,
    "systolic_bp": 4 * HOUR,
    "temperature": 12 * HOUR,
    "fio2": 4 * HOUR,
    "oxygen_flow": 4 * HOUR,
    "glasgow_coma_scale": 4 * HOUR,
    "glasgow_coma_eye": 4 * HOUR,
    "glasgow_coma_verbal": 4 * HOUR,
    "glasgow_coma_motor": 4 * HOUR,
}
SOURCES: dict[str, tuple[Key, ...]] = {
    "heart_rate": (("heart-rate", "heart_rate"),),
    "respiratory_rate": (("respiratory-rate", "respiratory_rate"),),
    "spo2": (("spo2", "spo2"),),
    # In one minute the arterial pressure comes last, and so counts.
    "systolic_bp": (("cuff-pressure", "systolic"), ("arterial-pressure", "systolic")),
    "temperature": (("temperature", "temperature"),),
    "fio2": (("inhaled-oxygen", "fio2"),),
    "oxygen_flow": (("oxygen-flow", "oxygen_flow"),),
    "glasgow_coma_scale": (("glasgow-coma-scale", "glasgow_coma_scale"),),
    "glasgow_coma_eye": (("glasgow-coma-eye", "glasgow_coma_eye"),),
    "glasgow_coma_verbal": (("glasgow-coma-verbal", "glasgow_coma_verbal"),),
    "glasgow_coma_motor": (("glasgow-coma-motor", "glasgow_coma_motor"),),
}
FULL = {"glasgow_coma_scale": 15, "glasgow_coma_eye": 4, "glasgow_coma_verbal": 5, "glasgow_coma_motor": 6}
VITALS_OF = {
    "respiratory_rate": ("respiratory_rate",),
    "spo2": ("spo2",),
    "air_or_oxygen": ("fio2", "oxygen_flow"),
    "systolic_bp": ("systolic_bp",),
    "pulse": ("heart_rate",),
    "consciousness": tuple(FULL),
    "temperature": ("temperature",),
}
CORE = ("respiratory_rate", "spo2", "systolic_bp", "pulse", "temperature")


@dataclass(frozen=True, slots=True)
class Reading:
    """One value with its instant; `usable` once it may be scored."""

    at: int
    number: float
    doubtful: bool


@dataclass(frozen=True, slots=True)
class ExpectedScore:
    """What one window should say."""

    start: int
    status: str
    score: int | None
    band: str | None
    single_red: bool
    missing: frozenset[str]
    doubtful: frozenset[str]
    systolic_from: int | None


def expected_scores(charted: Iterable[Charted], shift: int) -> list[ExpectedScore]:
    """One score for every instant that had a value, in order; a window ends with its wall-clock minute."""
    instants = list(charted)
    usable = {vital: usable_readings(instants, vital, shift) for vital in SOURCES}
    charted_at = {vital: sorted(_instants(instants, vital, shift)) for vital in SOURCES}
    starts = sorted({(one.at + shift) // MINUTE * MINUTE for one in instants})
    return [_score(start, usable, charted_at) for start in starts]


def _instants(charted: Sequence[Charted], vital: str, shift: int) -> set[int]:
    """When anything of one vital was charted, possible or not."""
    return {one.at + shift for one in charted if any(source in one.numbers for source in SOURCES[vital])}


def usable_readings(charted: Sequence[Charted], vital: str, shift: int) -> list[Reading]:
    """What of one vital may be scored: neither impossible, nor doubtful without a doubtful one just before."""
    readings: list[Reading] = []
    for one in charted:
        for source in SOURCES[vital]:
            number = one.numbers.get(source)
            if number is not None and POSSIBLE[vital](number):
                doubtful = _is_unusual(vital, number) or _is_crossed(one, source)
                readings.append(Reading(one.at + shift, number, doubtful))
    judged = [
        Reading(one.at, one.number, one.doubtful or _leaps(readings, place, vital))
        for place, one in enumerate(readings)
    ]
    kept = []
    for place, reading in enumerate(judged):
        before = judged[place - 1] if place else None
        confirmed = before is not None and before.doubtful and reading.at - before.at <= LONGEST[vital]
        if not reading.doubtful or confirmed:
            kept.append(reading)
    return kept


def theil_sen_per_hour(readings: Sequence[Reading], end: int) -> float | None:
    """Median slope through the last reading of each half hour of the four before `end`; None below three readings."""
    chosen: list[Reading] = []
    for half_hours in range(8):
        limit = end - half_hours * HOUR // 2
        before = [one for one in readings if one.at // MINUTE * MINUTE < limit]
        if before and before[-1].at >= end - 4 * HOUR and before[-1] not in chosen:
            chosen.append(before[-1])
    slopes = [
        (second.number - first.number) / ((second.at - first.at) / HOUR)
        for place, first in enumerate(chosen)
        for second in chosen[place + 1 :]
        if second.at != first.at
    ]
    return statistics.median(slopes) if len(chosen) >= 3 and slopes else None


def _is_unusual(vital: str, number: float) -> bool:
    lowest, highest = USUAL.get(vital, (float("-inf"), float("inf")))
    return not lowest <= number <= highest


def _is_crossed(one: Charted, source: Key) -> bool:
    """Whether a systolic pressure lies not above the diastolic one of the same cuff or line."""
    kind, name = source
    diastolic = one.numbers.get((kind, "diastolic"))
    return name == "systolic" and diastolic is not None and one.numbers[source] <= diastolic


def _leaps(readings: Sequence[Reading], place: int, vital: str) -> bool:
    """Whether a good reading lies far off the four of the ten minutes before it."""
    if place < 4 or vital not in FASTEST_PER_MINUTE or readings[place].at - readings[place - 4].at > 10 * MINUTE:
        return False
    before = [one.number for one in readings[place - 4 : place]]
    middle = statistics.median(before)
    sigma = 1.4826 * statistics.median(abs(number - middle) for number in before)
    minutes = max((readings[place].at - readings[place - 1].at) / MINUTE, 1)
    leap = abs(readings[place].number - middle)
    return leap > 4 * sigma and leap > FASTEST_PER_MINUTE[vital] * minutes


def _score(start: int, usable: dict[str, list[Reading]], charted_at: dict[str, list[int]]) -> ExpectedScore:
    end = start + MINUTE
    found = {vital: _latest(readings, end, LONGEST[vital]) for vital, readings in usable.items()}
    score = news2(
        respiratory_rate=_number(found["respiratory_rate"]),
        spo2=_number(found["spo2"]),
        on_oxygen=_on_oxygen(found["fio2"], found["oxygen_flow"]),
        systolic_bp=_number(found["systolic_bp"]),
        pulse=_number(found["heart_rate"]),
        consciousness=_consciousness(found),
        temperature=_number(found["temperature"]),
    )
    missing = frozenset(score.missing)
    doubtful = frozenset(
        name
        for name, vitals in VITALS_OF.items()
        if name not in missing and _is_doubtful(vitals, found, charted_at, end)
    )
    known = [name for name in CORE if name not in missing]
    systolic = found["systolic_bp"]
    from_at = None if systolic is None else systolic.at
    red = any(points == 3 for points in score.parts.values())
    if len(known) < 3 and not red and score.total < 5:
        return ExpectedScore(start, "insufficient-data", None, None, False, missing, doubtful, from_at)
    status = "partial" if missing or doubtful else "complete"
    return ExpectedScore(start, status, score.total, score.band, red, missing, doubtful, from_at)


def _is_doubtful(
    vitals: Sequence[str], found: dict[str, Reading | None], charted_at: dict[str, list[int]], end: int
) -> bool:
    """Whether the newest thing charted is newer than the newest value that counts, and does not count itself."""
    newest_used = max((one.at for vital in vitals if (one := found[vital]) is not None), default=None)
    if newest_used is None:
        return False
    for vital in vitals:
        place = bisect_left(charted_at[vital], end)
        newest = charted_at[vital][place - 1] if place else newest_used
        own = found[vital]
        if newest > newest_used and (own is None or own.at < newest):
            return True
    return False


def _consciousness(found: dict[str, Reading | None]) -> str | None:
    """The newest of the coma scale and of parts that are below their best; a part at its best says nothing."""
    said = [
        (one.at, one.number < full)
        for vital, full in FULL.items()
        if (one := found[vital]) is not None and (vital == "glasgow_coma_scale" or one.number < full)
    ]
    return None if not said else ("CVPU" if max(said)[1] else "A")


def _latest(readings: Sequence[Reading], end: int, longest: int) -> Reading | None:
    place = bisect_left(readings, end, key=lambda one: one.at)
    return readings[place - 1] if place and end - readings[place - 1].at <= longest else None


def _number(reading: Reading | None) -> float | None:
    return None if reading is None else reading.number


def _on_oxygen(fraction: Reading | None, flow: Reading | None) -> bool | None:
    """Either of concentration and flow is enough."""
    if fraction is None and flow is None:
        return None
    return (fraction is not None and fraction.number > 21) or (flow is not None and flow.number > 0)
