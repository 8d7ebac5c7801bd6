"""Step 1: what each kind of simulated device says, and when. Pure.

Every function gives the members of one message in its catalog format, or nothing when the device has nothing to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pulseweir.ingest.simulation.physiology import Physiology

Members = dict[str, Any]
_LEAD_OFF = 0
_SPIKE = 350


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a kind of device speaks.

    Attributes:
        every_seconds: Simulated time between two looks at the patient.
        members: (vitals, number of the look from 0, what it said last) → members, None for silence.
    """

    every_seconds: float
    members: Callable[[Physiology, int, Members | None], Members | None]


def monitor_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Bedside monitor: heart, breathing and saturation always, temperature each minute, cuff each five."""
    members = _vital_members(vitals)
    if look % 5 == 0:
        members["temperatureCelsius"] = round(vitals.temperature, 2)
    if look % 25 == 0:
        members["cuffPressure"] = _pressures(vitals)
    return members


def arterial_monitor_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Bedside monitor of a patient with an arterial line: pressure in every message."""
    members = monitor_members(vitals, look, last)
    members.pop("cuffPressure", None)
    return members | {"arterialPressure": _pressures(vitals)}


def oximeter_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Pulse oximeter."""
    return {"spo2": round(vitals.spo2), "pulse": round(vitals.heart_rate)}


def cuff_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Blood-pressure cuff."""
    return {"systolic": round(vitals.systolic), "diastolic": round(vitals.diastolic)}


def thermometer_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Thermometer in degrees Fahrenheit."""
    return {"temperatureFahrenheit": round(vitals.temperature * 1.8 + 32, 1)}


def nurse_members(vitals: Physiology, look: int, last: Members | None) -> Members | None:
    """Nurse entry: at the start, hourly, and when consciousness or oxygen changed."""
    members: Members = {"consciousness": vitals.consciousness, "oxygenFlow": vitals.oxygen_flow}
    return members if members != last or look % 240 == 0 else None


def patch_members(vitals: Physiology, look: int, last: Members | None) -> Members:
    """Worn patch behind a gateway: temperature each minute, pressure each five."""
    members = _vital_members(vitals)
    if look % 4 == 0:
        members["temperatureCelsius"] = round(vitals.temperature, 2)
    if look % 20 == 0:
        members |= cuff_members(vitals, look, last)
    return members


def with_artefact(members: Members, look: int, phase: int) -> Members:
    """Now and then the lead is off or a spike is seen: values no living patient has."""
    if look % 20 == phase:
        return members | {"heartRate": _LEAD_OFF}
    if look % 20 == (phase + 7) % 20:
        return members | {"heartRate": _SPIKE}
    return members


RHYTHMS = {
    "bedside-monitor": Rhythm(12, monitor_members),
    "arterial-monitor": Rhythm(12, arterial_monitor_members),
    "pulse-oximeter": Rhythm(10, oximeter_members),
    "blood-pressure-cuff": Rhythm(300, cuff_members),
    "thermometer": Rhythm(3600, thermometer_members),
    "nurse-entry": Rhythm(15, nurse_members),
    "patch": Rhythm(15, patch_members),
}
"""By role of the device; an arterial monitor is a bedside monitor, a patch speaks through its gateway."""


def _vital_members(vitals: Physiology) -> Members:
    return {
        "heartRate": round(vitals.heart_rate),
        "respiratoryRate": round(vitals.respiratory_rate),
        "spo2": round(vitals.spo2),
    }


def _pressures(vitals: Physiology) -> Members:
    return {
        "systolic": round(vitals.systolic),
        "diastolic": round(vitals.diastolic),
        "mean": round((vitals.systolic + 2 * vitals.diastolic) / 3),
    }
