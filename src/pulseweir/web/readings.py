"""Step 15: the inputs of a score as a person reads them: value, unit, trend, age, source. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
    device_id: str = ""
    slope_per_hour: float | None = None
    slope_readings: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest value of one vital.

    Attributes:
        vital: Name in `codes.VITALS`.
        shown: The value as text, rounded as its chart has it.
        number: The value; None for a word.
        unit: As on a screen.
        occurred_at: Device clock, microseconds.
        maximum_age_seconds: Older is stale.
        trend: rising, falling, steady, or "" when unknown.
        is_usable: Whether the score may use it: plausible and not too old.
        quality: good, suspect, impossible, future.
        source: monitor or manual.
        device_id: Which device measured.
        observation_id: FHIR id, or None.
    """

    vital: str
    shown: str
    number: float | None
    unit: str
    occurred_at: int
    maximum_age_seconds: int
    trend: str
    is_usable: bool
    quality: str
    source: str
    device_id: str
    observation_id: str | None

    @property
    def title(self) -> str:
        """Long name."""
        return VITAL_BY_NAME[self.vital].title

    def age_seconds(self, now: int) -> int:
        """Whole seconds since it was measured, never negative."""
        return max(0, now - self.occurred_at) // 1_000_000

    def is_stale(self, now: int) -> bool:
        """Whether it is older than its vital may be."""
        return self.age_seconds(now) > self.maximum_age_seconds


def readings_of(inputs_json: str) -> dict[str, Reading]:
    """The inputs of one score, by vital.

    >>> text = '[{"vital":"spo2","value":91.0,"unit":"%","occurred_at":"2026-01-01T00:00:00Z"}]'
    >>> readings_of(text)["spo2"].shown
    '91'
    """
    entries = msgspec.json.decode(inputs_json, type=list[_Entry])
    return {entry.vital: _reading(entry) for entry in entries if entry.vital in VITAL_BY_NAME}


def show(vital: str, number: float) -> str:
    """A number as its chart has it: temperature with one decimal, flow as given, the others whole."""
    if vital in _ONE_DECIMAL:
        return f"{number:.1f}"
    return f"{number:g}" if vital == "oxygen_flow" else f"{number:.0f}"


def points_of(contributions_json: str) -> dict[str, int]:
    """Points by parameter, as the model gave them."""
    entries = msgspec.json.decode(contributions_json, type=list[dict[str, str | int]])
    return {str(entry["parameter"]): int(entry["points"]) for entry in entries}


def names_of(names_json: str) -> list[str]:
    """A list of parameter names."""
    return msgspec.json.decode(names_json, type=list[str])


def is_on_oxygen(readings: dict[str, Reading]) -> bool | None:
    """Whether extra oxygen is given; None when nobody said."""
    flow, fraction = readings.get("oxygen_flow"), readings.get("fio2")
    known = [reading for reading in (flow, fraction) if reading is not None and reading.number is not None]
    if not known:
        return None
    newest = max(known, key=lambda reading: reading.occurred_at)
    limit = _ROOM_AIR_PERCENT if newest.vital == "fio2" else 0.0
    return (newest.number or 0.0) > limit


def oxygen_words(readings: dict[str, Reading]) -> str:
    """How oxygen is given: "on 2 L/min", "on 40 %", "on air", or "" when unknown."""
    on_oxygen = is_on_oxygen(readings)
    if on_oxygen is None:
        return ""
    if not on_oxygen:
        return "on air"
    for name in ("oxygen_flow", "fio2"):
        reading = readings.get(name)
        if reading is not None and reading.number:
            return f"on {reading.shown} {reading.unit}"
    return "on oxygen"


def reason_of(points: dict[str, int], readings: dict[str, Reading], *, most: int = 4) -> str:
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


def _cause(parameter: str, readings: dict[str, Reading], *, with_oxygen: bool) -> str:
    if parameter == "air_or_oxygen":
        return oxygen_words(readings) or "on oxygen"
    reading = readings.get("heart_rate" if parameter == "pulse" else parameter)
    title = SHORT_TITLES[parameter]
    if parameter == "consciousness":
        return CONSCIOUSNESS_WORDS.get(reading.shown, "Not alert") if reading else "Not alert"
    text = title if reading is None else f"{title} {reading.shown}"
    if parameter == "spo2" and with_oxygen:
        return f"{text} {oxygen_words(readings) or 'on oxygen'}"
    return text


def _reading(entry: _Entry) -> Reading:
    vital = VITAL_BY_NAME[entry.vital]
    shown = entry.text or ("–" if entry.value is None else show(entry.vital, entry.value))
    return Reading(
        vital=entry.vital,
        shown=shown,
        number=entry.value,
        unit=UNITS.get(entry.unit, entry.unit),
        occurred_at=to_microseconds(entry.occurred_at),
        maximum_age_seconds=vital.maximum_age_seconds,
        trend=_trend(entry),
        is_usable=entry.usable,
        quality=entry.quality,
        source="manual" if is_hand_charted(entry.type) else "monitor",
        device_id=entry.device_id,
        observation_id=entry.observation_id,
    )


def _trend(entry: _Entry) -> str:
    steady = _STEADY_PER_HOUR.get(entry.vital)
    if steady is None or entry.slope_per_hour is None or entry.slope_readings < _TREND_READINGS:
        return ""
    if abs(entry.slope_per_hour) < steady:
        return "steady"
    return "rising" if entry.slope_per_hour > 0 else "falling"
