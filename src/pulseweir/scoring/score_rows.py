"""Step 10: evaluated windows and their scores as rows of the risk-scores topic. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.records.codes import VITALS
from pulseweir.records.topics import INSTANT, RISK_SCORE_SCHEMA
from pulseweir.scoring.evaluation import (
    CONSCIOUSNESS,
    FIO2,
    FLOW,
    GLASGOW,
    HEART_RATE,
    RESPIRATORY_RATE,
    SPO2,
    SYSTOLIC,
    TEMPERATURE,
    TREND_VITALS,
    Bench,
    Evaluation,
    Subjects,
)
from pulseweir.scoring.models.news2 import BANDS, MISSING, MODEL, MODEL_VERSION, PARAMETERS, News2Scores
from pulseweir.scoring.models.news2 import CONSCIOUSNESS as LETTERS
from pulseweir.scoring.quality import QUALITIES
from pulseweir.scoring.settings import MICROSECONDS, WindowSettings
from pulseweir.scoring.shard_state import Context, Source

Integers = npt.NDArray[np.int64]

_VITALS_OF = {
    "respiratory_rate": (RESPIRATORY_RATE,),
    "spo2": (SPO2,),
    "air_or_oxygen": (FIO2, FLOW),
    "systolic_bp": (SYSTOLIC,),
    "pulse": (HEART_RATE,),
    "consciousness": (CONSCIOUSNESS, GLASGOW),
    "temperature": (TEMPERATURE,),
}
_CORE = [PARAMETERS.index(name) for name in ("respiratory_rate", "spo2", "systolic_bp", "pulse", "temperature")]
_FEWEST_CORE = 3
_UNKNOWN = Context(0, None, None, None, None, 1)
_TREND_COLUMN = {int(vital): column for column, vital in enumerate(TREND_VITALS)}


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything known of some evaluated windows."""

    bench: Bench
    subjects: Subjects
    evaluation: Evaluation
    scores: News2Scores
    patients: Sequence[str]
    sources: Mapping[Source, int]
    contexts: Mapping[Context, int]


@dataclass(frozen=True, slots=True)
class Rows:
    """The variable part of each row, and a digest that is equal when two rows say the same."""

    contributions: list[bytes]
    inputs: list[bytes]
    missing: list[list[str]]
    stale: list[list[str]]
    basis: list[list[str]]
    status: list[str]
    digest: npt.NDArray[np.uint64]


def describe(scored: Scored, seen_from: Integers) -> Rows:
    """Write down each window: contributions, inputs, what is missing or stale, status.

    Args:
        scored: The windows.
        seen_from: The instant that ages are counted back from, one a window.
    """
    entries = _Entries(scored)
    points = scored.scores.points.tolist()
    fresh = scored.evaluation.fresh.tolist()
    stale = scored.evaluation.stale.tolist()
    rows = Rows([], [], [], [], [], [], np.zeros(len(points), np.uint64))
    for row, known in enumerate(points):
        missing = [name for name, value in zip(PARAMETERS, known, strict=True) if value == MISSING]
        rows.missing.append(missing)
        rows.stale.append([name for name in missing if _is_stale(name, fresh[row], stale[row])])
        rows.status.append(_status(known, missing))
        rows.contributions.append(_contributions(known))
        rows.inputs.append(msgspec.json.encode(entries.of(row, int(seen_from[row]))))
        rows.basis.append(entries.basis(row, known, fresh[row]))
        rows.digest[row] = _digest(scored, rows, row)
    return rows


@dataclass(frozen=True, slots=True)
class Issue:
    """What is said about the chosen windows as a whole.

    Attributes:
        revision: One a chosen window.
        scored_at: Microseconds.
        live: Whether these are live rows, preliminary by nature.
    """

    revision: Integers
    scored_at: int
    live: bool


def table_of(scored: Scored, rows: Rows, chosen: Integers, issue: Issue, settings: WindowSettings) -> pa.Table:
    """The chosen windows as a table in the topic's schema."""
    window = scored.evaluation
    contexts = [*scored.contexts, _UNKNOWN]
    context = [contexts[place] for place in window.context[chosen]]
    enough = np.array([rows.status[row] != "insufficient-data" for row in chosen], np.bool_)
    columns: dict[str, Any] = {
        "patient_id": [scored.patients[who] for who in scored.subjects.who[chosen]],
        "model": [MODEL] * len(chosen),
        "model_version": [MODEL_VERSION] * len(chosen),
        "revision": issue.revision,
        "preliminary": np.full(len(chosen), issue.live),
        "live": np.full(len(chosen), issue.live),
        "backfill": window.backfill[chosen],
        "status": [rows.status[row] for row in chosen],
        "score": pa.array(scored.scores.total[chosen].astype(np.float64), mask=~enough),
        "probability": pa.nulls(len(chosen), pa.float64()),
        "band": [
            BANDS[band] if known else None for band, known in zip(scored.scores.band[chosen], enough, strict=True)
        ],
        "single_red": scored.scores.single_red[chosen] & enough,
        "contributions_json": [rows.contributions[row].decode() for row in chosen],
        "inputs_json": [rows.inputs[row].decode() for row in chosen],
        "missing": [rows.missing[row] for row in chosen],
        "stale": [rows.stale[row] for row in chosen],
        "basis": [rows.basis[row] for row in chosen],
        "ward": [one.ward for one in context],
        "bed": [one.bed for one in context],
        "age_years": [one.age_years for one in context],
        "sex": [one.sex for one in context],
        "spo2_scale": [one.spo2_scale for one in context],
    }
    columns |= _instants(scored, chosen, issue.scored_at, settings)
    return pa.table([_as(columns[field.name], field.type) for field in RISK_SCORE_SCHEMA], schema=RISK_SCORE_SCHEMA)


def _instants(scored: Scored, chosen: Integers, now: int, settings: WindowSettings) -> dict[str, Integers]:
    return {
        "newest_occurred_at": scored.evaluation.newest_occurred[chosen],
        "newest_received_at": scored.evaluation.newest_arrived[chosen],
        "window_start": scored.subjects.number[chosen] * settings.window,
        "window_end": (scored.subjects.number[chosen] + 1) * settings.window,
        "scored_at": np.full(len(chosen), now),
    }


def _as(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - lists, arrays and Arrow alike
    if kind == INSTANT:
        return pa.array(values, pa.int64()).cast(INSTANT)
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def _is_stale(parameter: str, fresh: list[bool], stale: list[bool]) -> bool:
    vitals = _VITALS_OF[parameter]
    return not any(fresh[vital] for vital in vitals) and any(stale[vital] for vital in vitals)


def _status(points: list[int], missing: list[str]) -> str:
    if sum(points[place] != MISSING for place in _CORE) < _FEWEST_CORE:
        return "insufficient-data"
    return "partial" if missing else "complete"


def _contributions(points: list[int]) -> bytes:
    known = zip(PARAMETERS, points, strict=True)
    return msgspec.json.encode([{"parameter": name, "points": value} for name, value in known if value != MISSING])


def _digest(scored: Scored, rows: Rows, row: int) -> np.uint64:
    window = scored.evaluation
    rest = (
        rows.status[row],
        rows.missing[row],
        rows.stale[row],
        bool(window.backfill[row]),
        int(window.newest_occurred[row]),
        int(window.newest_arrived[row]),
        int(scored.evaluation.inputs.spo2_scale[row]),
    )
    text = rows.inputs[row] + rows.contributions[row] + msgspec.json.encode(rest)
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def _texts(instants: Integers) -> list[str]:
    """RFC 3339 texts, in milliseconds where these suffice for all."""
    unit: Literal["ms", "us"] = "us" if (instants % 1_000).any() else "ms"
    return [f"{text}Z" for text in np.datetime_as_string(instants.astype("M8[us]"), unit=unit).tolist()]


def _or_none(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    known = numbers.astype(np.object_)
    known[np.isnan(numbers)] = None
    return known


class _Entries:
    """Writes the inputs of windows; holds every column as plain lists, which single look-ups read fastest."""

    def __init__(self, scored: Scored) -> None:
        window = scored.evaluation
        used, compact = np.unique(window.place, return_inverse=True)
        readings = scored.bench.readings[used]
        self._places: list[list[int]] = np.where(window.place < 0, -1, compact.reshape(window.place.shape)).tolist()
        self._fresh = window.fresh.tolist()
        self._sources = list(scored.sources)
        self._source = readings["source"].tolist()
        self._occurred = readings["occurred"].tolist()
        self._occurred_text = _texts(readings["occurred"])
        self._number = _or_none(np.round(readings["number"], 6)).tolist()
        self._quality = readings["quality"].tolist()
        self._flat = scored.bench.flat[used].tolist()
        self._observation = [one.decode() for one in readings["observation"].tolist()]
        rows = len(self._places)
        self._slope = _or_none(np.round(window.trends.slope, 3)).reshape(rows, -1).tolist()
        self._r2 = np.round(window.trends.r2, 3).reshape(rows, -1).tolist()
        self._trend_readings = window.trends.readings.reshape(rows, -1).tolist()
        self._count = window.panes.count.tolist()
        self._panes = window.panes

    def of(self, row: int, seen_from: int) -> list[dict[str, object]]:
        """One entry for every vital that is known."""
        return [
            self._entry(row, vital, place, seen_from) for vital, place in enumerate(self._places[row]) if place >= 0
        ]

    def basis(self, row: int, points: list[int], fresh: list[bool]) -> list[str]:
        """The Observations that the score rests on."""
        vitals = [
            vital
            for name, known in zip(PARAMETERS, points, strict=True)
            if known != MISSING
            for vital in _VITALS_OF[name]
            if fresh[vital]
        ]
        ids = [self._observation[self._places[row][vital]] for vital in vitals]
        return [one for one in dict.fromkeys(ids) if one]

    def _entry(self, row: int, vital: int, place: int, seen_from: int) -> dict[str, object]:
        definition = VITALS[vital]
        source = self._sources[self._source[place]]
        number = self._number[place]
        entry: dict[str, object] = {"vital": definition.name}
        if vital == CONSCIOUSNESS:
            entry["text"] = None if number is None else LETTERS[int(number)]
        else:
            entry["value"] = number
        entry["unit"] = definition.unit
        entry["occurred_at"] = self._occurred_text[place]
        entry["age_seconds"] = max(0, seen_from - self._occurred[place]) // MICROSECONDS
        entry["observation_id"] = self._observation[place] or None
        entry["quality"] = QUALITIES[self._quality[place]]
        entry["usable"] = self._fresh[row][vital]
        entry["type"] = source.type
        entry["device_id"] = source.device_id
        if self._flat[place]:
            entry["flat_line"] = True
        self._add_trend(entry, row, vital)
        self._add_pane(entry, row, vital)
        return entry

    def _add_trend(self, entry: dict[str, object], row: int, vital: int) -> None:
        column = _TREND_COLUMN.get(vital)
        slope = None if column is None else self._slope[row][column]
        entry["slope_per_hour"] = slope
        if column is not None and entry["slope_per_hour"] is not None:
            entry["slope_readings"] = self._trend_readings[row][column]
            entry["slope_r2"] = self._r2[row][column]

    def _add_pane(self, entry: dict[str, object], row: int, vital: int) -> None:
        count = self._count[row][vital]
        if count > 1 and vital != CONSCIOUSNESS:
            entry["count"] = count
            entry["mean"] = round(float(self._panes.total[row, vital]) / count, 3)
            entry["minimum"] = float(self._panes.lowest[row, vital])
            entry["maximum"] = float(self._panes.highest[row, vital])
