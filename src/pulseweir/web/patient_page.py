"""Step 15: one patient: what the score is made of, how it came about, what was done."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pulseweir.backends.repository import Transaction, alerts, device_signals, flags, scores
from pulseweir.backends.repository.rows import AlertRow, DeviceSignalRow, FlagRow, LiveRow, ScoreRow, TransitionRow
from pulseweir.hot_path.score_wording import RESPONSE
from pulseweir.records.codes import VITAL_BY_NAME
from pulseweir.records.identifiers import risk_assessment_id
from pulseweir.records.signal_facts import skew_text
from pulseweir.site_time import SiteTime
from pulseweir.web import doubts
from pulseweir.web.alert_actions import RESOLVE_REASONS, acknowledge_reasons
from pulseweir.web.alert_words import status_words
from pulseweir.web.charts import CHARTS, chart_json
from pulseweir.web.names import NOBODY, Person
from pulseweir.web.readings import (
    UNITS,
    Newest,
    Reading,
    Readings,
    consciousness_words,
    deciding,
    names_of,
    newest_known,
    oxygen_words,
    points_of,
    readings_of,
    show,
    titles_of,
)
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens
from pulseweir.web.tiles import BAND_WORDS, age_sex, pill_of
from pulseweir.web.vitals_history import History, Sample, read_history

HOURS = (1, 6, 24, 72, 168)
_USUAL_HOURS = 24
_HOUR = 3_600_000_000
_TABLE_ROWS = 200
_PARAMETERS = ("respiratory_rate", "spo2", "air_or_oxygen", "systolic_bp", "pulse", "consciousness", "temperature")
_MOST_ALERTS = 50


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter of the score.

    Attributes:
        title: Long name.
        value: As scored, with its unit.
        points: 0 to 3; None when it was not scored.
        reading: Where the value comes from; None when never measured.
        lack: "", "missing" or "out of date".
        newest: Something newer that may not be used; None when the value is the newest thing known.
        newest_words: Why not.
        is_struck: Whether the value itself may not be used.
    """

    title: str
    value: str
    points: int | None
    reading: Reading | None
    lack: str
    newest: Newest | None = None
    newest_words: str = ""
    is_struck: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    row: LiveRow
    known_since: int
    last_final: ScoreRow | None
    alerts: list[AlertRow]
    flags: list[FlagRow]
    happened: dict[str, list[TransitionRow]]
    devices: list[DeviceSignalRow]


async def show_patient(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The whole page; charts and tables follow in a second request."""
    patient_id = request.path_params["patient_id"]
    record = await _record(screens, viewer, patient_id)
    person = NOBODY
    if viewer.may("see-names"):
        person = (await screens.names.look_up([patient_id]))[patient_id]
    await screens.record(viewer, "read", patient_id=patient_id, subject="patient-page")
    return screens.pages.page(
        "patient.html",
        viewer=viewer,
        charts=True,
        here="patient",
        hours=_hours(request, record),
        all_hours=HOURS,
        **_facts(screens, viewer, record, person),
    )


async def show_present(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The parts of the page that change: who and where, score, parts, latest values, alerts."""
    patient_id = request.path_params["patient_id"]
    record = await _record(screens, viewer, patient_id)
    person = screens.names.known([patient_id])[patient_id] if viewer.may("see-names") else NOBODY
    facts = _facts(screens, viewer, record, person)
    return HTMLResponse(screens.pages.text("patient_renewed.html", viewer=viewer, **facts))


async def send_charts(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The charts as Bokeh JSON, and the same numbers as tables."""
    patient_id = request.path_params["patient_id"]
    record = await _record(screens, viewer, patient_id)
    end = screens.clock.now_microseconds()
    start = end - _hours(request, record) * _HOUR
    rows, episodes, past = await screens.repository.read(_past, patient_id, start)
    history = await read_history(screens.fhir, patient_id, start, rows)
    await screens.record(viewer, "read", patient_id=patient_id, subject="charts")
    item = await asyncio.to_thread(
        chart_json,
        rows,
        episodes,
        past,
        history,
        span=(start, end),
        spo2_scale=record.row.spo2_scale,
        site=screens.site,
    )
    tables = screens.pages.text(
        "patient_tables.html",
        rows=rows[::-1][:_TABLE_ROWS],
        flags=episodes,
        band_words=BAND_WORDS,
        vitals=_vital_tables(history),
        drawn_at=end,
        history=history,
        most=_TABLE_ROWS,
    )
    return Response(msgspec.json.encode({"charts": item, "tables": tables}), media_type="application/json")


async def _record(screens: Screens, viewer: Viewer, patient_id: str) -> _Record:
    """What the repository knows; not found when it is nothing, or nothing for this person."""
    record = await screens.repository.read(_read, patient_id)
    if record is None or not viewer.sees(record.row.ward):
        raise HTTPException(404, "There is no such patient, or none in your wards.")
    return record


def _read(transaction: Transaction, patient_id: str) -> _Record | None:
    row = scores.live_row(transaction, patient_id)
    if row is None:
        return None
    final = scores.score_history(transaction, patient_id, start=row.window_start - _HOUR)
    alive = min(row.newest_occurred_at, row.recorded_at) or row.newest_occurred_at
    shown = alerts.alerts_of(transaction, patient_id, start=alive - 24 * _HOUR)[:_MOST_ALERTS]
    happened = alerts.transitions(transaction, [alert.alert_id for alert in shown])
    known = scores.known_since(transaction, patient_id)
    return _Record(
        row,
        row.window_start if known is None else known,
        final[-1] if final else None,
        shown,
        flags.open_flags(transaction, patient_id=patient_id),
        happened,
        device_signals.of_patient(transaction, patient_id),
    )


def _past(
    transaction: Transaction, patient_id: str, start: int
) -> tuple[list[ScoreRow], list[FlagRow], list[AlertRow]]:
    return (
        scores.score_history(transaction, patient_id, start=start),
        flags.flags_of(transaction, patient_id, start=start),
        alerts.alerts_of(transaction, patient_id, start=start),
    )


def _facts(screens: Screens, viewer: Viewer, record: _Record, person: Person) -> dict[str, Any]:
    row = record.row
    readings = readings_of(row.inputs_json)
    now = screens.clock.now_microseconds()
    tile = screens.board.tile(row)
    return {
        "row": row,
        "tile": tile,
        "person": person,
        "age": age_sex(row.age_years, row.sex, deidentified=not viewer.may("see-names")),
        "parts": parts_of(row, readings, now, screens.site),
        "others": others_of(readings, now, screens.site),
        "lacks": doubts.lacking(row),
        "unknown": doubts.unknown_of(row),
        "not_scored": doubts.not_scored_words(row),
        "response": RESPONSE.get(row.band or ""),
        "open_alerts": [alert for alert in record.alerts if alert.closed_at is None and not _is_technical(alert)],
        "technical_alerts": [alert for alert in record.alerts if alert.closed_at is None and _is_technical(alert)],
        "closed_alerts": [alert for alert in record.alerts if alert.closed_at is not None],
        "happened": record.happened,
        "became": {
            alert.alert_id: status_words(
                alert, record.happened.get(alert.alert_id, []), now, screens.desk.settings, screens.site
            )
            for alert in record.alerts
        },
        "alert_pills": {alert.alert_id: pill_of(alert) for alert in record.alerts},
        "acknowledge_reasons": acknowledge_reasons(screens),
        "resolve_reasons": RESOLVE_REASONS,
        "flags": record.flags,
        "devices": [(one, skew_text(one.skew_seconds)) for one in record.devices],
        "risk_assessment": _assessment(record.last_final),
    }


def parts_of(row: LiveRow, readings: Readings, now: int, site: SiteTime) -> list[Part]:
    """Every parameter of the chart, scored or not, by the reading that decided it."""
    points = points_of(row.contributions_json)
    stale, missing = names_of(row.stale_json), names_of(row.missing_json)
    parts = []
    for name, title in zip(_PARAMETERS, titles_of(_PARAMETERS), strict=True):
        reading = deciding(name, readings) or newest_known(name, readings)
        lack = "out of date" if name in stale else "missing" if name in missing else ""
        parts.append(_part(title, _shown(name, reading, readings), points.get(name), reading, lack, now, site))
    return parts


def others_of(readings: Readings, now: int, site: SiteTime) -> list[Part]:
    """What is known beside the readings that decided the score: other pressures, the coma scale and its parts."""
    shown = {reading for name in _PARAMETERS if (reading := deciding(name, readings) or newest_known(name, readings))}
    return [
        _part(reading.title, _value(reading), None, reading, "not scored", now, site)
        for reading in readings.values()
        if reading not in shown
    ]


def _part(  # noqa: PLR0913
    title: str, value: str, points: int | None, reading: Reading | None, lack: str, now: int, site: SiteTime
) -> Part:
    unused = None if reading is None else doubts.unusable_newest(reading)
    words = "" if unused is None else doubts.why_unused(unused, now, site)
    newest = None if reading is None else reading.newest
    return Part(title, value, points, reading, lack, newest, words, is_struck=unused is not None and newest is None)


def _shown(parameter: str, reading: Reading | None, readings: Readings) -> str:
    if reading is None:
        return "–"
    if parameter == "air_or_oxygen":
        words = oxygen_words(readings).removeprefix("on ")
        return words[:1].upper() + words[1:] if words else _value(reading)
    return consciousness_words(reading) if parameter == "consciousness" else _value(reading)


def _value(reading: Reading) -> str:
    if reading.vital == "consciousness":
        return consciousness_words(reading)
    return f"{reading.shown} {reading.unit}".strip()


def _is_technical(alert: AlertRow) -> bool:
    return alert.kind == "technical"


def _assessment(final: ScoreRow | None) -> str | None:
    if final is None:
        return None
    return risk_assessment_id(final.patient_id, final.model, final.model_version, final.window_start, final.window_end)


def _vital_tables(history: History) -> list[tuple[str, list[tuple[Sample, str]]]]:
    """By title, newest first: what stands, and what was withdrawn."""
    tables = []
    for _, vitals, unit, _, _ in CHARTS:
        for vital in vitals:
            known = [*history.samples.get(vital, ()), *history.withdrawn.get(vital, ())]
            newest = sorted(known, reverse=True)[:_TABLE_ROWS]
            shown = [(sample, f"{show(vital, sample.number)} {UNITS[unit]}") for sample in newest]
            tables.append((VITAL_BY_NAME[vital].title, shown))
    return tables


def _hours(request: Request, record: _Record) -> int:
    """The span asked for, else the shortest that holds all there is, up to the usual one."""
    text = request.query_params.get("hours", "")
    if text in [str(hours) for hours in HOURS]:
        return int(text)
    known = record.row.newest_occurred_at - record.known_since
    return next((hours for hours in HOURS if known < hours * _HOUR or hours == _USUAL_HOURS), _USUAL_HOURS)
