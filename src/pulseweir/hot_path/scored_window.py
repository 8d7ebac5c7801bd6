"""Step 12: the rows of `risk-scores` as records. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pulseweir.records.columns import values
from pulseweir.records.topics import RISK_SCORE_SCHEMA

INSUFFICIENT = "insufficient-data"
ABSTAINED = "abstained"


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """One row of `risk-scores`; instants are microseconds, columns are described in `records.topics`."""

    patient_id: str
    model: str
    model_version: str
    window_start: int
    window_end: int
    revision: int
    preliminary: bool
    live: bool
    backfill: bool
    status: str
    score: float | None
    probability: float | None
    band: str | None
    single_red: bool
    contributions_json: str
    inputs_json: str
    missing: list[str]
    stale: list[str]
    basis: list[str]
    newest_occurred_at: int
    newest_received_at: int
    ward: str | None
    bed: str | None
    age_years: int | None
    sex: str | None
    spo2_scale: int | None
    scored_at: int
    unknown: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    abstained: str | None = None
    sign_of_life_at: int = 0

    @property
    def is_final(self) -> bool:
        """Whether this is the word on its window, not a state on the way."""
        return not self.live and not self.preliminary

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Which window of which patient and model it is about."""
        return (self.patient_id, self.model, self.window_start, self.window_end)


def scored_windows(table: pa.Table) -> list[ScoredWindow]:
    """The rows of one table, in its order; an absent instant becomes 0, an absent list an empty one."""
    columns = {name: _plain(table.column(name), name) for name in RISK_SCORE_SCHEMA.names}
    return [ScoredWindow(*row) for row in zip(*columns.values(), strict=True)]


def all_scored_windows(tables: Mapping[int, pa.Table]) -> list[ScoredWindow]:
    """The rows of several shards."""
    return [window for table in tables.values() for window in scored_windows(table)]


_EMPTY_TEXT = {"status": "", "contributions_json": "[]", "inputs_json": "[]", "model_version": ""}
_FALSE = {"preliminary", "live", "backfill", "single_red"}


def _plain(column: pa.ChunkedArray, name: str) -> list[object]:
    kind = RISK_SCORE_SCHEMA.field(name).type
    if pa.types.is_timestamp(kind):
        return [instant or 0 for instant in values(column)]
    if pa.types.is_list(kind):
        return [names or [] for names in column.to_pylist()]
    found: list[object] = values(column)
    if name in _EMPTY_TEXT:
        return [_EMPTY_TEXT[name] if value is None else value for value in found]
    if name in _FALSE:
        return [bool(value) for value in found]
    return [0 if value is None else value for value in found] if name == "revision" else found
