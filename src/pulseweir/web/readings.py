"""Step 15: the inputs of a score as a person reads them: value, unit, trend, age, quality, source. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

import msgspec

from pulseweir.clock import to_microseconds
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.records.hand_charted import is_hand_charted

UNITS = {"/min": "/min", "%": "%", "mm[Hg]": "mmHg", "Cel": "°C", "L/min": "L/min", "{score}": "", "": ""}
"""What stands on a screen for a UCUM code."""

SHORT_TITLES = {
    "respiratory_rate": "RR",
    "spo2": "SpO₂",
    "air_or_oxygen": "Oxygen",
    "systolic_bp": "Systolic",
    "blood_pressure": "BP",
    "pulse": "Pulse",
    "heart_rate": "HR",
    "consciousness": "ACVPU",
    "temperature": "Temp",
}
CONSCIOUSNESS_WORDS = {
    "A": "Alert",
    "C": "New confusion",
    "V": "Voice",
    "P": "Pain",
    "U": "Unresponsive",
    "CVPU": "Not alert",
}
_STEADY_PER_HOUR = {
    "respiratory_rate": 2.0,
    "spo2": 1.0,
    "heart_rate": 5.0,
    "systolic_bp": 6.0,
    "diastolic_bp": 6.0,
    "temperature": 0.3,
}
_TREND_READINGS = 3
_ONE_DECIMAL = ("temperature",)
_ROOM_AIR_PERCENT = 21.0
_CONSCIOUSNESS = (
    "consciousness",
    "glasgow_coma_scale",
    "glasgow_coma_eye",
    "glasgow_coma_verbal",
    "glasgow_coma_motor",
)
_OXYGEN = ("oxygen_flow", "fio2")
_SECOND = 1_000_000
_DECODED_KEPT = 4_096


class _NewestEntry(msgspec.Struct):
    """`newest` of an entry: something known later than the value used, which may not be used."""

    occurred_at: datetime
    quality: str
    value: float | None = None
    text: str | None = None
    effective_at: datetime | None = None
    device_id: str | None = None
    held_until: datetime | None = None


class _Entry(msgspec.Struct):
    """One entry of `inputs_json`, as the engine writes it."""

    vital: str
    occurred_at: datetime
    value: float | None = None
    text: str | None = None
    unit: str = ""
    observation_id: str | None = None
    quality: str = "good"
    usable: bool = True
    type: str = ""
    device_id: str | None = ""
    effective_at: datetime | None = None
    held_until: datetime | None = None
    decides: bool = False
    flat_line: bool = False
    summed_from_parts: bool = False
    newest: _NewestEntry | None = None
    slope_per_hour: float | None = None
    slope_readings: int = 0


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest thing known of a vital where it may not be used.

    Attributes:
        shown: The value as text, or "".
        quality: impossible, suspect, future, not-understood.
        at: From when its age counts, microseconds: no later than it was received.
        ahead_seconds: How far the device's clock was ahead of its reception.
        counts_from: When a value from a clock ahead is taken, microseconds; None for the others.
        device_id: Which device sent it.
    """

    shown: str
    quality: str
    at: int
    ahead_seconds: int
    counts_from: int | None
    device_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest usable value of one vital; where there is none, the newest value of it.

    Attributes:
        vital: Name in `codes.VITALS`.
        shown: The value as text, rounded as its chart has it.
        number: The value; None for a word.
        unit: As on a screen.
        at: From when its age counts, microseconds: measured, but no later than it was received.
        maximum_age_seconds: Older is stale.
        trend: rising, falling, steady, or "" when unknown.
        is_usable: Whether the score may use it: plausible and not too old.
        quality: good, suspect, impossible, future, not-understood.
        source: monitor or manual.
        device_id: Which device measured.
        observation_id: FHIR id, or None.
        ahead_seconds: How far the device's clock was ahead of its reception.
        counts_from: When a value from a clock ahead is taken, microseconds; None for the others.
        decides: Whether it is the one of several that decided its parameter.
        is_flat: The line is flat: the same value for longer than a living body keeps it.
        is_summed: A coma scale summed from its parts.
        newest: Something newer that may not be used; None when this is the newest thing known.
        knows_decisions: Whether the row says what decided: rows of an older release do not.
    """

    vital: str
    shown: str
    number: float | None
    unit: str
    at: int
    maximum_age_seconds: int
    trend: str
    is_usable: bool
    quality: str
    source: str
    device_id: str
    observation_id: str | None
    ahead_seconds: int = 0
    counts_from: int | None = None
    decides: bool = False
    is_flat: bool = False
    is_summed: bool = False
    newest: Newest | None = None
    knows_decisions: bool = False

    @property
    def title(self) -> str:
        """Long name."""
        return VITAL_BY_NAME[self.vital].title

    def age_seconds(self, now: int) -> int:
        """Whole seconds since it was true, never negative."""
        return max(0, now - self.at) // _SECOND

    def is_stale(self, now: int) -> bool:
        """Whether it is older than its vital may be."""
        return self.age_seconds(now) > self.maximum_age_seconds


Readings = Mapping[str, Reading]


@lru_cache(_DECODED_KEPT)
def readings_of(inputs_json: str) -> Readings:
    """The inputs of one score, by vital.

    >>> text = '[{"vital":"spo2","value":91.0,"unit":"%","occurred_at":"2026-01-01T00:00:00Z"}]'
    >>> readings_of(text)["spo2"].shown
    '91'
    """
    entries = msgspec.json.decode(inputs_json, type=list[_Entry])
    knows = any(entry.effective_at is not None for entry in entries)
    found = {entry.vital: _reading(entry, knows_decisions=knows) for entry in entries if entry.vital in VITAL_BY_NAME}
    return MappingProxyType(found)


def show(vital: str, number: float) -> str:
    """A number as its chart has it: temperature with one decimal, flow as given, the others whole."""
    if vital in _ONE_DECIMAL:
        return f"{number:.1f}"
    return f"{number:g}" if vital == "oxygen_flow" else f"{number:.0f}"


def points_of(contributions_json: str) -> dict[str, int]:
    """Points by parameter, as the model gave them."""
    return {entry.parameter: round(entry.points) for entry in _contributions(contributions_json)}


def totals_by_scale(contributions_json: str, score: float | None) -> tuple[int, int] | None:
    """What the score would be on SpO₂ scale 1 and on scale 2; None when the scale is known or makes no difference."""
    for entry in _contributions(contributions_json):
        if score is not None and entry.on_scale_1 is not None and entry.on_scale_2 is not None:
            rest = round(score - entry.points)
            return rest + entry.on_scale_1, rest + entry.on_scale_2
    return None


def names_of(names_json: str) -> list[str]:
    """A list of parameter names."""
    return msgspec.json.decode(names_json, type=list[str])


def deciding(parameter: str, readings: Readings) -> Reading | None:
    """The reading that a NEWS2 parameter was scored by; None when nothing decided it.

    Of several inputs the score says which one decided. Rows of an older release do not: there the letter counts before
    the coma scale, and the newer of oxygen flow and concentration.
    """
    names = {"consciousness": _CONSCIOUSNESS, "air_or_oxygen": _OXYGEN}.get(parameter)
    if names is None:
        return readings.get("heart_rate" if parameter == "pulse" else parameter)
    known = [readings[name] for name in names if name in readings]
    if any(reading.knows_decisions for reading in known):
        only = known[0] if len(known) == 1 and known[0].is_usable and known[0].newest is None else None
        return next((reading for reading in known if reading.decides), only)
    if parameter == "air_or_oxygen":
        return max(known, key=lambda reading: reading.at, default=None)
    return next(iter(known), None)


def newest_known(parameter: str, readings: Readings) -> Reading | None:
    """The newest reading about a parameter, whether or not anything decided it."""
    names: Iterable[str] = {"consciousness": _CONSCIOUSNESS, "air_or_oxygen": _OXYGEN}.get(
        parameter, ("heart_rate" if parameter == "pulse" else parameter,)
    )
    known = [readings[name] for name in names if name in readings]
    return max(known, key=lambda one: one.at if one.newest is None else one.newest.at, default=None)


def is_on_oxygen(readings: Readings) -> bool | None:
    """Whether extra oxygen is given, by the reading that decided it; None when nothing did."""
    reading = deciding("air_or_oxygen", readings)
    if reading is None or reading.number is None:
        return None
    return reading.number > (_ROOM_AIR_PERCENT if reading.vital == "fio2" else 0.0)


def oxygen_words(readings: Readings) -> str:
    """How oxygen is given: "on 2 L/min", "on 40 %", "on air", or "" when unknown."""
    on_oxygen = is_on_oxygen(readings)
    if on_oxygen is None:
        return ""
    reading = deciding("air_or_oxygen", readings)
    return f"on {reading.shown} {reading.unit}" if reading is not None and on_oxygen else "on air"


def consciousness_words(reading: Reading | None) -> str:
    """What a reading says of consciousness: "Alert", "GCS 3 (sum of its parts)", "Eye opening 1"."""
    if reading is None:
        return ""
    if reading.vital == "consciousness":
        return CONSCIOUSNESS_WORDS.get(reading.shown, reading.shown)
    if reading.vital == "glasgow_coma_scale":
        return f"GCS {reading.shown}" + (" (sum of its parts)" if reading.is_summed else "")
    return f"{reading.title} {reading.shown}"


def reason_of(points: Mapping[str, int], readings: Readings, *, most: int = 4) -> str:
    """What raised the score, heaviest first: "RR 26, SpO₂ 91 on 2 L/min"."""
    raised = sorted((name for name, given in points.items() if given > 0), key=lambda name: -points[name])
    parts = [_cause(name, readings, with_oxygen="air_or_oxygen" in raised) for name in raised]
    if "spo2" in raised and "air_or_oxygen" in raised:
        parts = [part for name, part in zip(raised, parts, strict=True) if name != "air_or_oxygen"]
    rest = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {rest} more" if rest > 0 else "")


def titles_of(parameters: Sequence[str]) -> list[str]:
    """Long names of NEWS2 parameters."""
    titles = {"pulse": "Pulse", "air_or_oxygen": "Air or oxygen"}
    return [titles.get(name) or VITAL_BY_NAME[name].title for name in parameters]


def short_title(parameter: str) -> str:
    """Short name of a NEWS2 parameter or vital, as it stands before a value: "HR" for the pulse."""
    return SHORT_TITLES["heart_rate" if parameter == "pulse" else parameter]


def _contributions(text: str) -> list["_Contribution"]:
    return msgspec.json.decode(text, type=list[_Contribution])


class _Contribution(msgspec.Struct):
    parameter: str
    points: float = 0
    on_scale_1: int | None = None
    on_scale_2: int | None = None


def _cause(parameter: str, readings: Readings, *, with_oxygen: bool) -> str:
    if parameter == "air_or_oxygen":
        return oxygen_words(readings) or "on oxygen"
    reading = deciding(parameter, readings)
    title = short_title(parameter)
    if parameter == "consciousness":
        return consciousness_words(reading) or "Not alert"
    text = title if reading is None else f"{title} {reading.shown}"
    if parameter == "spo2" and with_oxygen:
        return f"{text} {oxygen_words(readings) or 'on oxygen'}"
    return text


def _reading(entry: _Entry, *, knows_decisions: bool) -> Reading:
    vital = VITAL_BY_NAME[entry.vital]
    at, ahead, counts_from = _instants(entry)
    return Reading(
        vital=entry.vital,
        shown=_shown(entry.vital, entry) or "–",
        number=entry.value,
        unit=UNITS.get(entry.unit, entry.unit),
        at=at,
        maximum_age_seconds=vital.maximum_age_seconds,
        trend=_trend(entry),
        is_usable=entry.usable,
        quality=entry.quality,
        source="manual" if is_hand_charted(entry.type) else "monitor",
        device_id=entry.device_id or "",
        observation_id=entry.observation_id,
        ahead_seconds=ahead,
        counts_from=counts_from,
        decides=entry.decides,
        is_flat=entry.flat_line,
        is_summed=entry.summed_from_parts,
        newest=None if entry.newest is None else _newest(entry.vital, entry.newest),
        knows_decisions=knows_decisions,
    )


def _newest(vital: str, entry: _NewestEntry) -> Newest:
    at, ahead, counts_from = _instants(entry)
    return Newest(_shown(vital, entry), entry.quality, at, ahead, counts_from, entry.device_id or "")


def _shown(vital: str, entry: _Entry | _NewestEntry) -> str:
    return entry.text or ("" if entry.value is None else show(vital, entry.value))


def _instants(entry: _Entry | _NewestEntry) -> tuple[int, int, int | None]:
    """From when the age counts, how far the clock was ahead, and when a held value is taken."""
    occurred = to_microseconds(entry.occurred_at)
    at = occurred if entry.effective_at is None else to_microseconds(entry.effective_at)
    held = None if entry.held_until is None else to_microseconds(entry.held_until)
    if held is None and entry.quality == "future":
        held = occurred
    return at, max(0, occurred - at) // _SECOND, held


def _trend(entry: _Entry) -> str:
    steady = _STEADY_PER_HOUR.get(entry.vital)
    if steady is None or entry.slope_per_hour is None or entry.slope_readings < _TREND_READINGS:
        return ""
    if abs(entry.slope_per_hour) < steady:
        return "steady"
    return "rising" if entry.slope_per_hour > 0 else "falling"
