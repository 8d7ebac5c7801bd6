"""Step 15: one bed of the ward overview, ready to be drawn. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulseweir.backends.repository.rows import AlertRow, LiveRow, ScorePoint
from pulseweir.site_time import SiteTime
from pulseweir.web import doubts
from pulseweir.web.doubts import Doubt
from pulseweir.web.readings import (
    SHORT_TITLES,
    Newest,
    Reading,
    Readings,
    names_of,
    oxygen_words,
    points_of,
    readings_of,
    reason_of,
    titles_of,
)
from pulseweir.web.settings import WebSettings
from pulseweir.web.sparkline import Change, Sparkline, change_of, draw

BAND_WORDS = {"low": "Low", "low-medium": "Low–medium", "medium": "Medium", "high": "High"}
BANDS = tuple(reversed(BAND_WORDS))
OLDEST_SHOWN_TO_ANYONE = 89
_SECOND = 1_000_000
_TILE_VITALS = ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "temperature")
_TILE_REASONS = 3
_STARS = {"high": "★★★", "medium": "★★", "low": "★"}
_WORDS_WITHOUT_BAND = {"no-data": "No data", "not-scored": "Not scored"}
_RANK_HIGH, _RANK_ALERT, _RANK_REST = 0, 1, 2


@dataclass(frozen=True, slots=True)
class VitalCell:
    """One vital of a tile or of the patient page.

    Attributes:
        title: Short name.
        value: As shown; "–" when there is none.
        note: What belongs to it, such as how oxygen is given.
        reading: Where it comes from; None when never measured.
        points: NEWS2 points, None when not scored.
        newest: Something newer that may not be used, shown struck through beside the value; None for nothing.
        newest_words: Why not, such as "impossible", "clock 8 min ahead, counts from 10:02".
    """

    title: str
    value: str
    note: str
    reading: Reading | None
    points: int | None
    newest: Newest | None = None
    newest_words: str = ""

    @property
    def is_struck(self) -> bool:
        """Whether the value itself is one that may not be used."""
        return self.reading is not None and doubts.unusable_newest(self.reading) is not None and self.newest is None


@dataclass(frozen=True, slots=True)
class Pill:
    """An open alert as a pill: stars, shape, word; never a chip.

    Attributes:
        alert_id: Which.
        priority: high, medium, low.
        stars: As many as the priority is worth.
        word: State in words.
        is_acknowledged: Somebody has seen it: the pill is steady.
        next_step_at: When the ladder climbs, microseconds; None when it does not.
        owner: Who has it, or "".
        raised_at: When, microseconds.
        state: What became of it, as stored.
        is_technical: It is about a device, not about the patient.
    """

    alert_id: str
    priority: str
    stars: str
    word: str
    is_acknowledged: bool
    next_step_at: int | None
    owner: str
    raised_at: int
    state: str = ""
    is_technical: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """One bed: the worst of value, age and quality.

    `state` is one of `STATES`. `lead` and `doubts` are the parts of `reason`, for pages that let ages tick.
    `sign_of_life_at` is None when no usable reading is known. `order` sorts as text: high always first, then open
    alerts, then by bed.
    """

    patient_id: str
    ward: str
    bed: str
    age_sex: str
    state: str
    band: str | None
    band_word: str
    score: str
    is_lower_bound: bool
    change: Change | None
    reason: str
    lead: str
    doubts: tuple[Doubt, ...]
    flat: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: str
    vitals: tuple[VitalCell, ...]
    sparkline: Sparkline
    pill: Pill | None
    sign_of_life_at: int | None
    is_backfill: bool
    technical: tuple[Pill, ...]
    order: str


STATES = (
    "high-unacknowledged",
    "high-acknowledged",
    "no-data",
    "stale",
    "not-scored",
    "insufficient-data",
    "medium",
    "doubtful",
    "incomplete",
    "normal",
)
"""What a tile may say, the worst first."""


def tile_of(
    row: LiveRow,
    alert: AlertRow | None,
    points: Sequence[ScorePoint],
    now: int,
    settings: WebSettings,
    *,
    technical: Sequence[AlertRow] = (),
    site: SiteTime | None = None,
) -> Tile:
    """The tile of one patient as of `now`, microseconds; `technical` are the open alerts about their devices."""
    place = site or SiteTime()
    readings = readings_of(row.inputs_json)
    given = points_of(row.contributions_json)
    state = state_of(row, alert, now, settings)
    band = None if state == "no-data" or row.score is None else row.band
    lead = lead_of(row, readings, given, state, now)
    caveats = doubts.caveats_of(row, readings, now, place)
    return Tile(
        patient_id=row.patient_id,
        ward=row.ward or "",
        bed=row.bed or "No bed",
        age_sex=age_sex(row.age_years, row.sex),
        state=state,
        band=band,
        band_word=BAND_WORDS.get(band or "", _WORDS_WITHOUT_BAND.get(state, "Not enough data")),
        score="–" if band is None else f"{row.score:.0f}",
        is_lower_bound=row.missing_json != "[]" and band is not None,
        change=change_of(points, row.score, now),
        reason="; ".join(part for part in (lead, caveats) if part),
        lead=lead,
        doubts=doubts.doubts_of(row, readings, now, place),
        flat=doubts.flat_of(readings),
        unknown=doubts.unknown_of(row),
        missing=", ".join(titles_of(names_of(row.missing_json))),
        vitals=vital_cells(readings, given, now, place),
        sparkline=draw(points, now, settings.sparkline_hours),
        pill=None if alert is None else pill_of(alert),
        sign_of_life_at=doubts.sign_of_life(row),
        is_backfill=row.backfill,
        technical=tuple(pill_of(one) for one in technical),
        order=_order(row, alert, state),
    )


def state_of(row: LiveRow, alert: AlertRow | None, now: int, settings: WebSettings) -> str:
    """The one state a tile is drawn in: silence, nonsense and missing data outrank a reassuring score.

    Nothing outranks an open high alert.
    """
    if alert is not None and alert.priority == "high":
        return "high-acknowledged" if alert.acknowledged_at else "high-unacknowledged"
    alive = doubts.sign_of_life(row)
    silent_seconds = settings.absent_after_seconds + 1 if alive is None else (now - alive) / _SECOND
    if silent_seconds > settings.absent_after_seconds:
        return "no-data"
    return "stale" if silent_seconds > settings.silent_after_seconds else _state_by_score(row, alert, now)


def lead_of(row: LiveRow, readings: Readings, given: dict[str, int], state: str, now: int) -> str:
    """What raised the score, or that nothing known did; "All within range" only of a score that is whole."""
    if row.abstained:
        return doubts.not_scored_words(row)
    if row.score is None:
        return ""
    raised = reason_of(given, readings, most=_TILE_REASONS)
    if state in ("stale", "no-data"):
        return f"Last known: {raised}" if raised else "Last known values within range"
    if raised:
        return raised[:1].upper() + raised[1:]
    return "All within range" if doubts.is_whole(row, readings, now) else "Known values within range"


def pill_of(alert: AlertRow) -> Pill:
    """The pill of an alert."""
    return Pill(
        alert_id=alert.alert_id,
        priority=alert.priority,
        stars=_STARS.get(alert.priority, "★"),
        word=alert_word(alert),
        is_acknowledged=alert.acknowledged_at is not None,
        next_step_at=None if alert.acknowledged_at is not None else alert.next_step_at,
        owner=alert.owner or alert.acknowledged_by or "",
        raised_at=alert.raised_at,
        state=f"{alert.state} {alert.level}",
        is_technical=alert.kind == "technical",
    )


def alert_word(alert: AlertRow) -> str:
    """What a person reads on a pill: priority, and what became of it."""
    if alert.state in ("resolved", "rejected", "auto-cleared"):
        return f"{alert.priority.capitalize()} · {alert.state.replace('-', ' ')}"
    if alert.suppressed_until is not None and alert.next_step_at == alert.suppressed_until:
        return f"{alert.priority.capitalize()} · suppressed"
    if alert.acknowledged_at is not None:
        return f"{alert.priority.capitalize()} · {alert.state.replace('-', ' ')}"
    return f"{alert.priority.capitalize()} · " + (f"escalated {alert.level - 1}×" if alert.level > 1 else "new")


def age_sex(age_years: int | None, sex: str | None, *, deidentified: bool = False) -> str:
    """Such as "74 F"; ages over 89 stay vague for who may not know the person."""
    letter = {"female": "F", "male": "M", "other": "X"}.get(sex or "", "")
    if age_years is None:
        return letter
    vague = deidentified and age_years > OLDEST_SHOWN_TO_ANYONE
    return f"{'90+' if vague else age_years} {letter}".strip()


def vital_cells(readings: Readings, points: dict[str, int], now: int, site: SiteTime) -> tuple[VitalCell, ...]:
    """The five vitals of a tile, in one order everywhere."""
    return tuple(_cell(name, readings, points, now, site) for name in _TILE_VITALS)


def _cell(name: str, readings: Readings, points: dict[str, int], now: int, site: SiteTime) -> VitalCell:
    reading = readings.get(name)
    given = points.get("pulse" if name == "heart_rate" else name)
    value = "–" if reading is None else reading.shown
    note = ""
    if name == "spo2":
        note = oxygen_words(readings).replace(" L/min", " L")
    if name == "systolic_bp":
        lower = readings.get("diastolic_bp")
        value = value if lower is None or reading is None else f"{value}/{lower.shown}"
    title = SHORT_TITLES["blood_pressure" if name == "systolic_bp" else name]
    unused = None if reading is None else doubts.unusable_newest(reading)
    words = "" if unused is None else doubts.why_unused(unused, now, site)
    return VitalCell(title, value, note, reading, given, None if reading is None else reading.newest, words)


def _state_by_score(row: LiveRow, alert: AlertRow | None, now: int) -> str:
    if row.abstained:
        return "not-scored"
    if row.score is None or row.band is None:
        return "insufficient-data"
    if row.band == "high":
        return "high-acknowledged"
    if row.band == "medium" or alert is not None:
        return "medium"
    readings = readings_of(row.inputs_json)
    if doubts.is_doubtful(row, readings):
        return "doubtful"
    return "normal" if doubts.is_whole(row, readings, now) else "incomplete"


def _order(row: LiveRow, alert: AlertRow | None, state: str) -> str:
    is_high = state.startswith("high") or row.band == "high"
    rank = _RANK_HIGH if is_high else _RANK_ALERT if alert is not None else _RANK_REST
    seen = 1 if alert is None or alert.acknowledged_at is not None else 0
    return f"{rank}{seen}|{row.ward or '~'}|{row.bed or '~'}|{row.patient_id}"
