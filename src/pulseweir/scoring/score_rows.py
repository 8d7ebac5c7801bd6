"""Step 10: evaluated windows and their scores as rows of the risk-scores topic. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pulseweir.records.topics import INSTANT, RISK_SCORE_SCHEMA
from pulseweir.scoring.bench import Bench
from pulseweir.scoring.decisions import UNSAID
from pulseweir.scoring.eligibility import ABSTENTIONS, NOT_KNOWN, UNKNOWNS, Eligibility, eligibility
from pulseweir.scoring.evaluation import SPO2, VITALS_OF, Evaluation, Subjects
from pulseweir.scoring.input_entries import Entries
from pulseweir.scoring.models.news2 import BANDS, MISSING, MODEL, MODEL_VERSION, NO_SCALE, PARAMETERS, News2Scores
from pulseweir.scoring.own_readings import NO_OWN
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import Context, Source

Integers = npt.NDArray[np.int64]

_CORE = [PARAMETERS.index(name) for name in ("respiratory_rate", "spo2", "systolic_bp", "pulse", "temperature")]
_FEWEST_CORE = 3
_UNKNOWN = Context(0, None, None, None, None, None, None)
_RAISED_FROM = BANDS.index("low-medium")


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
    unknown: list[list[str]]
    doubtful: list[list[str]]
    abstained: list[str | None]
    newest_at: Integers
    newest_arrived: Integers
    digest: npt.NDArray[np.uint64]


def describe(scored: Scored, seen_from: Integers, settings: WindowSettings) -> Rows:
    """Write down each window: contributions, inputs, what is missing, stale, doubtful or unknown, status.

    Args:
        scored: The windows.
        seen_from: The instant that ages are counted back from, one a window.
        settings: Of the windows.
    """
    entries = Entries(scored.bench, scored.evaluation, list(scored.sources))
    may = _eligibility(scored, settings)
    points = scored.scores.points.tolist()
    fresh = scored.evaluation.fresh.tolist()
    stale = scored.evaluation.stale.tolist()
    newest_at, newest_arrived = _newest(scored, settings)
    rows = Rows([], [], [], [], [], [], [], [], [], newest_at, newest_arrived, np.zeros(len(points), np.uint64))
    unknown, abstained = may.unknown.tolist(), may.abstained.tolist()
    doubtful = scored.evaluation.doubtful.tolist()
    raises = (scored.scores.band >= _RAISED_FROM).tolist()
    for row, known in enumerate(points):
        parts = _parts(tuple(known))
        rows.missing.append(parts.missing)
        rows.stale.append([name for name in parts.missing if _is_stale(name, fresh[row], stale[row])])
        rows.unknown.append(_named(UNKNOWNS, unknown[row]))
        rows.doubtful.append(_named(PARAMETERS, doubtful[row]))
        rows.abstained.append(ABSTENTIONS[abstained[row]])
        rows.status.append(_status(rows, row, parts, raises=raises[row]))
        rows.contributions.append(_contributions(scored, rows, row, parts))
        rows.inputs.append(msgspec.json.encode(entries.of(row, int(seen_from[row]))))
        rows.basis.append([] if rows.abstained[row] else entries.basis(row, parts.known))
        rows.digest[row] = _digest(scored, rows, row)
    return rows


def _named(names: Sequence[str], marks: list[bool]) -> list[str]:
    return [name for name, mark in zip(names, marks, strict=True) if mark] if True in marks else []


def _eligibility(scored: Scored, settings: WindowSettings) -> Eligibility:
    """Whether each window's patient may be scored, and what of the patient is not known."""
    known, places = list(scored.contexts), scored.evaluation.contexts
    age = np.array([*(NOT_KNOWN if one.age_years is None else one.age_years for one in known), NOT_KNOWN], np.int64)
    pregnant = np.array([*(NOT_KNOWN if one.pregnant is None else one.pregnant for one in known), NOT_KNOWN], np.int64)
    male = np.array([*(one.sex == "male" for one in known), False], np.bool_)
    no_scale = scored.evaluation.inputs.spo2_scale == NO_SCALE
    return eligibility(
        age[places.age],
        pregnant[places.pregnant],
        male[places.sex],
        no_scale & scored.evaluation.fresh[:, SPO2],
        needs_age=settings.unknown_age == "abstain",
    )


def _newest(scored: Scored, settings: WindowSettings) -> tuple[Integers, Integers]:
    """Newest effective instant and reception of each window; without readings of its own, of its sign of life."""
    own = scored.evaluation.own
    start = scored.subjects.number * settings.window
    life = scored.evaluation.sign_of_life
    instead = np.where(life == UNSAID, start, life)
    return (
        np.where(own.newest_at == NO_OWN, instead, own.newest_at),
        np.where(own.newest_arrived == NO_OWN, instead, own.newest_arrived),
    )


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
    enough = np.array([rows.status[row] in ("complete", "partial") for row in chosen], np.bool_)
    columns: dict[str, Any] = {
        "patient_id": [scored.patients[who] for who in scored.subjects.who[chosen]],
        "model": [MODEL] * len(chosen),
        "model_version": [MODEL_VERSION] * len(chosen),
        "revision": issue.revision,
        "preliminary": np.full(len(chosen), issue.live),
        "live": np.full(len(chosen), issue.live),
        "backfill": scored.evaluation.own.backfill[chosen],
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
        "unknown": [rows.unknown[row] for row in chosen],
        "doubtful": [rows.doubtful[row] for row in chosen],
        "abstained": [rows.abstained[row] for row in chosen],
    }
    columns |= _of_patients(scored, chosen) | _instants(scored, rows, chosen, issue.scored_at, settings)
    return pa.table([_as(columns[field.name], field.type) for field in RISK_SCORE_SCHEMA], schema=RISK_SCORE_SCHEMA)


def _of_patients(scored: Scored, chosen: Integers) -> dict[str, Any]:
    """What is known of the patients, each field from the context that knows it."""
    contexts, places = [*scored.contexts, _UNKNOWN], scored.evaluation.contexts
    now = [contexts[place] for place in places.place[chosen]]
    return {
        "ward": [one.ward for one in now],
        "bed": [one.bed for one in now],
        "age_years": [contexts[place].age_years for place in places.age[chosen]],
        "sex": [contexts[place].sex for place in places.sex[chosen]],
        "spo2_scale": [contexts[place].spo2_scale for place in places.scale[chosen]],
    }


def _instants(scored: Scored, rows: Rows, chosen: Integers, now: int, settings: WindowSettings) -> dict[str, Any]:
    life = scored.evaluation.sign_of_life[chosen]
    return {
        "newest_occurred_at": rows.newest_at[chosen],
        "newest_received_at": rows.newest_arrived[chosen],
        "window_start": scored.subjects.number[chosen] * settings.window,
        "window_end": (scored.subjects.number[chosen] + 1) * settings.window,
        "scored_at": np.full(len(chosen), now),
        "sign_of_life_at": pa.array(life, mask=life == UNSAID),
    }


def _as(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - lists, arrays and Arrow alike
    if kind == INSTANT:
        instants = values if isinstance(values, pa.Array) else pa.array(values, pa.int64())
        return instants.cast(INSTANT)
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def _is_stale(parameter: str, fresh: list[bool], stale: list[bool]) -> bool:
    vitals = VITALS_OF[parameter]
    return not any(fresh[vital] for vital in vitals) and any(stale[vital] for vital in vitals)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What follows from the points of a window alone."""

    missing: list[str]
    known: list[str]
    enough: bool
    contributions: bytes


@lru_cache(maxsize=16_384)
def _parts(points: tuple[int, ...]) -> _Parts:
    known = [(name, value) for name, value in zip(PARAMETERS, points, strict=True) if value != MISSING]
    return _Parts(
        [name for name, value in zip(PARAMETERS, points, strict=True) if value == MISSING],
        [name for name, _ in known],
        sum(points[place] != MISSING for place in _CORE) >= _FEWEST_CORE,
        msgspec.json.encode([{"parameter": name, "points": value} for name, value in known]),
    )


def _status(rows: Rows, row: int, parts: _Parts, *, raises: bool) -> str:
    """What the total is worth: a lower bound that raises something counts, however little is known."""
    if rows.abstained[row] is not None:
        return "abstained"
    if not parts.enough and not raises:
        return "insufficient-data"
    return "partial" if parts.missing or rows.doubtful[row] or rows.unknown[row] else "complete"


def _contributions(scored: Scored, rows: Rows, row: int, parts: _Parts) -> bytes:
    """Points by parameter; of the saturation on both scales while the patient's is not known."""
    if rows.abstained[row] is not None:
        return b"[]"
    if "spo2_scale" not in rows.unknown[row]:
        return parts.contributions
    entries: list[dict[str, object]] = msgspec.json.decode(parts.contributions)
    scales = enumerate(scored.scores.spo2_on_scales[row].tolist(), start=1)
    on_scales = {f"on_scale_{scale}": points for scale, points in scales if points != MISSING}
    return msgspec.json.encode([one | on_scales if one["parameter"] == "spo2" else one for one in entries])


def _digest(scored: Scored, rows: Rows, row: int) -> np.uint64:
    rest = (
        rows.status[row],
        rows.missing[row],
        rows.stale[row],
        rows.unknown[row],
        rows.doubtful[row],
        rows.abstained[row],
        rows.basis[row],
        bool(scored.evaluation.own.backfill[row]),
        int(rows.newest_at[row]),
        int(rows.newest_arrived[row]),
        int(scored.evaluation.sign_of_life[row]),
        int(scored.evaluation.inputs.spo2_scale[row]),
    )
    text = rows.inputs[row] + rows.contributions[row] + msgspec.json.encode(rest)
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
