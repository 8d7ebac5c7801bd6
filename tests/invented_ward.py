"""An invented ward for tests of the screens: twelve beds in every state a tile can be in."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, Transaction, alerts, flags, scores
from pulseweir.backends.repository.rows import AlertRow, FlagRow, LiveRow, ScoreRow, TransitionRow
from pulseweir.clock import to_text
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup, ward_resources, write_resources
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.scores import news2

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
WINDOW = 5 * MINUTE
_AGES = {"respiratory_rate": 40, "spo2": 12, "systolic_bp": 900, "diastolic_bp": 900, "heart_rate": 12}
_NAMES = (
    "Hazel",
    "Rowan",
    "Linden",
    "Aspen",
    "Juniper",
    "Willow",
    "Alder",
    "Cedar",
    "Maple",
    "Sorrel",
    "Bryony",
    "Reed",
)


@dataclass(frozen=True, slots=True)
class Bed:
    """One invented patient: vitals now, and six hours ago."""

    number: int
    ward: str = "Ward A"
    age: int = 70
    sex: str = "female"
    now: tuple[float | None, ...] = (16, 97, 124, 72, 36.8)
    before: tuple[float | None, ...] = (15, 97, 126, 70, 36.7)
    oxygen: float = 0.0
    alert: str = ""
    silent_seconds: int = 0

    @property
    def patient_id(self) -> str:
        """FHIR id."""
        return f"invented-{self.number:02}"

    @property
    def name(self) -> str:
        """Invented too."""
        return f"{_NAMES[(self.number - 1) % len(_NAMES)]} Example"


BEDS = (
    Bed(1, age=81, now=(26, 90, 94, 118, 38.6), before=(17, 96, 128, 84, 37.0), oxygen=2, alert="unacknowledged"),
    Bed(2, age=67, sex="male", now=(22, 94, 108, 96, 37.4), before=(16, 96, 122, 80, 36.9), alert="medium"),
    Bed(3, age=54),
    Bed(4, age=91, sex="male", now=(25, 92, 101, 112, 38.2), before=(21, 95, 117, 96, 37.5), alert="acknowledged"),
    Bed(5, age=73, now=(18, 95, 132, 88, 37.1), before=(18, 96, 130, 86, 37.0)),
    Bed(6, age=48, sex="male", silent_seconds=2_400),
    Bed(7, age=62, now=(14, 98, 141, 39, 36.4), before=(14, 98, 138, 58, 36.5), alert="low"),
    Bed(8, age=77, sex="male", now=(None, 97, None, 74, None), before=(None, 97, None, 76, None)),
    Bed(9, age=59, now=(15, 98, 118, 64, None), before=(14, 98, 119, 62, None)),
    Bed(10, age=85, sex="male", silent_seconds=50_000),
    Bed(11, age=39, now=(12, 99, 117, 58, 36.6)),
    Bed(12, age=70, sex="male", ward="Ward B", now=(20, 96, 112, 91, 37.9), before=(18, 97, 120, 84, 37.2)),
)


def fill(repository: Repository, now: int) -> None:
    """Store every bed's history, live row, flags and alerts as of `now`, microseconds."""
    with repository.writing() as transaction:
        for bed in BEDS:
            at = now - bed.silent_seconds * SECOND
            scores.save_scores(transaction, history_of(bed, at))
            scores.save_live(transaction, [live_row_of(bed, at)])
            if bed.alert:
                _raise(transaction, bed, at)


def live_row_of(bed: Bed, at: int, **other: Any) -> LiveRow:
    """The newest state of a bed, measured at `at`."""
    facts = _scored(bed, at, 1.0) | {
        "preliminary": True,
        "revision": 0,
        "care_team": f"Care team {bed.ward}",
        "care_team_id": "care-team",
    }
    return LiveRow(**(facts | other))


def history_of(bed: Bed, at: int) -> list[ScoreRow]:
    """Six hours of windows."""
    steps = 6 * HOUR // WINDOW
    return [
        ScoreRow(**_scored(bed, at - (steps - step) * WINDOW, step / steps), revision=1, basis_json="[]")
        for step in range(steps)
        if not (bed.number == 5 and 20 < step < 34)
    ]


async def write_fhir(fhir: FhirClient, now: int, *, every: int = WINDOW) -> None:
    """The patients, and their Observations of the last six hours, one of them impossible."""
    setups = [
        PatientSetup(
            bed.patient_id,
            bed.name,
            f"{2026 - bed.age}-03-01",
            bed.sex,
            bed.ward,
            _bed_name(bed),
            now - 24 * HOUR,
            _device(bed),
        )
        for bed in BEDS
    ]
    await write_resources(fhir, ward_resources(setups))
    observations = [resource for bed in BEDS[:2] for resource in _observations(bed, now, every)]
    for first in range(0, len(observations), 200):
        chunk = observations[first : first + 200]
        await fhir.send_bundle(
            [{"request": {"method": "PUT", "url": f"Observation/{one['id']}"}, "resource": one} for one in chunk]
        )


def _device(bed: Bed) -> tuple[DeviceSetup, ...]:
    return (DeviceSetup(f"monitor-{bed.number:02}", "bedside-monitor"),)


def _bed_name(bed: Bed) -> str:
    return f"Bed {bed.number:02}"


def vitals_at(bed: Bed, fraction: float) -> dict[str, float]:
    """The vitals on the way from `before` (0) to `now` (1)."""
    names = ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "temperature")
    wobble = ((bed.number * 7 + int(fraction * 72) * 5) % 7 - 3) / 3
    found: dict[str, float] = {}
    for name, before, after in zip(names, bed.before, bed.now, strict=True):
        if before is not None and after is not None:
            number = before + (after - before) * fraction + (0 if fraction == 1 else wobble * (after * 0.015))
            found[name] = round(number, 1) if name == "temperature" else round(number)
    if "systolic_bp" in found:
        found["diastolic_bp"] = round(found["systolic_bp"] * 0.6)
    return found


def _scored(bed: Bed, at: int, fraction: float) -> dict[str, Any]:
    vitals = vitals_at(bed, fraction)
    is_known = len(vitals) > 3
    result = news2(
        respiratory_rate=vitals.get("respiratory_rate"),
        spo2=vitals.get("spo2"),
        on_oxygen=bed.oxygen > 0 if is_known else None,
        systolic_bp=vitals.get("systolic_bp"),
        pulse=vitals.get("heart_rate"),
        consciousness="A" if is_known else None,
        temperature=vitals.get("temperature"),
    )
    inputs = [_entry(bed, name, number, at) for name, number in vitals.items()]
    if is_known:
        inputs.append(_entry(bed, "consciousness", "A", at))
        inputs.append(_entry(bed, "oxygen_flow", bed.oxygen, at))
    status = "insufficient-data" if not is_known else "partial" if result.missing else "complete"
    points = [{"parameter": name, "points": given} for name, given in result.parts.items()]
    return {
        "patient_id": bed.patient_id,
        "model": "news2",
        "model_version": "1",
        "window_start": at // WINDOW * WINDOW,
        "window_end": at // WINDOW * WINDOW + WINDOW,
        "status": status,
        "score": float(result.total) if is_known else None,
        "probability": None,
        "band": result.band if is_known else None,
        "single_red": 3 in result.parts.values(),
        "backfill": False,
        "contributions_json": _json(points),
        "inputs_json": _json(inputs),
        "missing_json": _json(result.missing),
        "stale_json": "[]",
        "newest_occurred_at": at - 2 * SECOND,
        "newest_received_at": at - SECOND,
        "ward": bed.ward,
        "bed": _bed_name(bed),
        "age_years": bed.age,
        "sex": bed.sex,
        "spo2_scale": 1,
        "scored_at": at - SECOND // 2,
        "recorded_at": at,
    }


def _entry(bed: Bed, name: str, value: float | str, at: int) -> dict[str, Any]:
    slope = 0.0
    names = ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "temperature")
    if name in names:
        place = names.index(name)
        slope = ((bed.now[place] or 0) - (bed.before[place] or 0)) / 2
    vital = VITAL_BY_NAME[name]
    return {
        "vital": name,
        "text" if isinstance(value, str) else "value": value,
        "unit": vital.unit,
        "occurred_at": to_text(at - _AGES.get(name, 2_100) * SECOND),
        "quality": "good",
        "usable": True,
        "type": name.replace("_", "-"),
        "device_id": f"monitor-{bed.number:02}",
        "slope_per_hour": slope,
        "slope_readings": 12,
    }


def _raise(transaction: Transaction, bed: Bed, now: int) -> None:
    priority = {"medium": "medium", "low": "low"}.get(bed.alert, "high")
    row = alert_row_of(bed, now, priority)
    events = [_transition(row, "raised", "", row.raised_at), _transition(row, "notified", "", row.raised_at + SECOND)]
    if bed.alert == "acknowledged":
        row = replace(
            row,
            state="in-progress",
            acknowledged_at=now - 4 * MINUTE,
            acknowledged_by="morgan",
            acknowledge_reason="seen-going",
            owner="morgan",
            claimed_at=now - 4 * MINUTE,
            next_step_at=None,
        )
        events.append(_transition(row, "acknowledged", "morgan", now - 4 * MINUTE))
    alerts.save(transaction, row, events)
    flags.save(transaction, [_flag(bed, now)], now=now)


def alert_row_of(bed: Bed, now: int, priority: str, **other: Any) -> AlertRow:
    """An alert of a bed, raised some minutes before `now`."""
    optional = [field.name for field in fields(AlertRow) if field.type in (int | None, str | None)]
    score = _scored(bed, now, 1.0)
    facts: dict[str, Any] = dict.fromkeys(optional) | {
        "alert_id": f"alert-{bed.number:02}",
        "patient_id": bed.patient_id,
        "rule": "news2",
        "flag_id": f"flag-{bed.number:02}",
        "state": "notified",
        "priority": priority,
        "band": score["band"],
        "score": score["score"],
        "reason": f"NEWS2 {score['score']:g}: " + ("RR 26, SpO2 90" if priority == "high" else "RR 22, systolic 108"),
        "action": "Assess now; call the medical team." if priority == "high" else "Review within the hour.",
        "ward": bed.ward,
        "bed": _bed_name(bed),
        "care_team": f"Care team {bed.ward}",
        "raised_at": now
        - (6 * MINUTE if bed.alert == "acknowledged" else 95 * SECOND if priority == "high" else 11 * MINUTE),
        "priority_since": now - 95 * SECOND,
        "level": 2 if priority == "high" else 1,
        "reminders": 0,
        "next_step_at": {"high": now + 85 * SECOND, "medium": now + 4 * MINUTE}.get(priority),
        "updates": 1,
        "updated_at": now,
        "missed": False,
    }
    return AlertRow(**(facts | other))


def _transition(row: AlertRow, transition: str, actor: str, at: int) -> TransitionRow:
    return TransitionRow(
        event_id=f"{row.alert_id}-{transition}",
        alert_id=row.alert_id,
        patient_id=row.patient_id,
        rule=row.rule,
        transition=transition,
        state=row.state,
        occurred_at=at,
        actor=actor,
        detail_json="{}",
    )


def _flag(bed: Bed, now: int) -> FlagRow:
    facts: dict[str, Any] = {field.name: 0 for field in fields(FlagRow)}
    score = _scored(bed, now, 1.0)
    facts |= {
        "flag_id": f"flag-{bed.number:02}",
        "patient_id": bed.patient_id,
        "rule": "news2",
        "status": "active",
        "start_at": now - 50 * MINUTE,
        "end_at": None,
        "model_version": "1",
        "peak_score": score["score"],
        "peak_band": score["band"],
        "last_score": score["score"],
        "last_band": score["band"],
        "windows": 10,
        "backfill": False,
        "ward": bed.ward,
        "bed": _bed_name(bed),
    }
    return FlagRow(**facts)


def _observations(bed: Bed, now: int, every: int) -> Iterator[dict[str, Any]]:
    steps = 6 * HOUR // every
    for step in range(0, steps + 1):
        at = now - (steps - step) * every
        vitals = vitals_at(bed, step / steps)
        for name in ("respiratory_rate", "spo2", "heart_rate", "temperature"):
            yield _observation(bed, name, at, {"valueQuantity": _quantity(name, vitals[name])})
        impossible = 11_647 if step == steps // 2 else vitals["systolic_bp"]
        pressures = {"systolic_bp": impossible, "diastolic_bp": vitals["diastolic_bp"]}
        components = [
            {"code": _code(VITAL_BY_NAME[name].loinc[0]), "valueQuantity": _quantity(name, number)}
            for name, number in pressures.items()
        ]
        yield _observation(bed, "blood-pressure", at, {"code": _code("85354-9"), "component": components})


def _observation(bed: Bed, name: str, at: int, rest: dict[str, Any]) -> dict[str, Any]:
    vital = VITAL_BY_NAME.get(name)
    return (
        {
            "resourceType": "Observation",
            "id": f"{bed.patient_id}-{name.replace('_', '-')}-{at // SECOND}",
            "status": "final",
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                            "code": "vital-signs",
                        }
                    ]
                }
            ],
            "subject": {"reference": f"Patient/{bed.patient_id}"},
            "effectiveDateTime": to_text(at),
        }
        | ({} if vital is None else {"code": _code(vital.loinc[0])})
        | rest
    )


def _code(loinc: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": loinc}]}


def _quantity(name: str, number: float) -> dict[str, Any]:
    return {"value": number, "system": "http://unitsofmeasure.org", "code": VITAL_BY_NAME[name].unit}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
