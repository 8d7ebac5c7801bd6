"""Steps 6-8: measurements are merged with their Patient, judged, and published as patient measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock
from pulseweir.records import topics
from pulseweir.records.identifiers import digest
from pulseweir.records.topics import (
    INSTANT,
    PATIENT_CONTEXT_TYPE,
    PATIENT_MEASUREMENT_SCHEMA,
    PATIENT_MEASUREMENTS,
)
from pulseweir.scoring.judgement import coded, judge
from pulseweir.scoring.patient_context import UNKNOWN, ContextCache, PatientContext
from pulseweir.scoring.quality import GOOD, QUALITIES
from pulseweir.scoring.settings import EnrichmentSettings
from pulseweir.worker import Handled, Stage

GROUP = "enrichment"
Integers = npt.NDArray[np.int64]
_DAY = 86_400 * 1_000_000
_ADULT_YEARS = 16


@dataclass(slots=True)
class _Told:
    """What was last published of a patient: when they were last measured, house clock, and their context."""

    measured_at: int
    context: PatientContext


class EnrichmentStage(Stage):
    """Measurements in, patient measurements out; goes on without context where the FHIR service does not answer.

    What becomes known of a patient after their measurements were published, or changes, goes out as a context row:
    a row without a value, so that scoring follows a patient who is silent.

    Args:
        fhir: The FHIR service.
        settings: How patients are looked up.
        clock: Of the house.
    """

    topic = topics.MEASUREMENTS
    group = GROUP
    tick_seconds: float | None = 1.0
    row_limit = 4_000

    def __init__(
        self, fhir: FhirClient, settings: EnrichmentSettings | None = None, clock: Clock | None = None
    ) -> None:
        settings = settings or EnrichmentSettings()
        self.gather_seconds = settings.batch_seconds
        self._clock = clock or Clock()
        self._follow_microseconds = round(settings.context_follow_seconds * 1_000_000)
        self._cache = ContextCache(
            fhir,
            keep_seconds=settings.context_keep_seconds,
            wait_seconds=settings.context_wait_seconds,
            now=self._clock.now_microseconds,
        )
        self._told: dict[str, _Told] = {}

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Enrich the rows that have a code; the others are tallied and end here."""
        rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables.values()])
        meant = rows.filter(pc.is_valid(rows["code"]))
        handled = Handled()
        handled.outcome.count("filtered:no-code", rows.num_rows - meant.num_rows)
        if meant.num_rows:
            contexts = await self._cache.contexts(pc.unique(meant["patient_id"]).to_pylist())
            handled.publish.append((PATIENT_MEASUREMENTS, enrich(meant, contexts)))
            handled.outcome.count("enriched", meant.num_rows)
            now = self._clock.now_microseconds()
            self._told |= {name: _Told(now, context) for name, context in contexts.items()}
        return handled

    async def tick(self) -> Handled | None:
        """Publish what has become known of patients since they were last measured."""
        now = self._clock.now_microseconds()
        self._told = {name: told for name, told in self._told.items() if self._is_followed(told, now)}
        latest = self._cache.latest(list(self._told))
        news = {name: one for name, one in latest.items() if not one.says_the_same(self._told[name].context)}
        if not news:
            return None
        for name, context in news.items():
            self._told[name].context = context
        return Handled(publish=[(PATIENT_MEASUREMENTS, context_rows(news, now))])

    async def close(self) -> None:
        """Stop reading contexts."""
        await self._cache.close()

    def _is_followed(self, told: _Told, now: int) -> bool:
        """Whether a patient was measured of late; one whose context was never read whole is waited for longer."""
        limit = self._follow_microseconds if told.context.is_read else max(30 * _DAY, self._follow_microseconds)
        return now - told.measured_at <= limit


def context_rows(contexts: Mapping[str, PatientContext], now: int) -> pa.Table:
    """Rows of ``PATIENT_MEASUREMENT_SCHEMA`` that carry contexts only: without code and value; pure.

    Args:
        contexts: By patient id.
        now: When they are known, microseconds; the rows' instants.
    """
    names = list(contexts)
    instants = pa.array([now] * len(names), pa.int64()).cast(INSTANT)
    columns: dict[str, pa.Array] = {
        "message_id": pa.array([digest(PATIENT_CONTEXT_TYPE, name, now) for name in names], pa.utf8()),
        "device_id": pa.array([""] * len(names), pa.utf8()),
        "type": pa.array([PATIENT_CONTEXT_TYPE] * len(names), pa.utf8()),
        "patient_id": pa.array(names, pa.utf8()),
        "occurred_at": instants,
        "received_at": instants,
        "implausible": pa.array([False] * len(names)),
        "quality": pa.array([QUALITIES[GOOD]] * len(names), pa.utf8()),
        **_context_columns(list(contexts.values()), np.arange(len(names)), np.full(len(names), now, np.int64)),
    }
    arrays = [columns.get(field.name, pa.nulls(len(names), field.type)) for field in PATIENT_MEASUREMENT_SCHEMA]
    return _in_schema(arrays)


def enrich(measurements: pa.Table, contexts: Mapping[str, PatientContext]) -> pa.Table:
    """Merge measurements with their patients' contexts; pure.

    Args:
        measurements: Rows of ``MEASUREMENT_SCHEMA``, each with a code.
        contexts: One for every patient of the rows.
    """
    whole = measurements.unify_dictionaries().combine_chunks()
    codes, words = coded(whole["patient_id"])
    known = [contexts.get(word, UNKNOWN) for word in words]
    columns = _context_columns(known, codes, _instants(whole["occurred_at"]))
    columns["quality"] = pa.array(list(QUALITIES)).dictionary_encode().take(pa.array(judge(whole)))
    return _in_schema([columns[name] if name in columns else whole[name] for name in PATIENT_MEASUREMENT_SCHEMA.names])


def _instants(column: pa.ChunkedArray) -> Integers:
    return np.array(column.cast(pa.int64()), np.int64)


def _words(values: Sequence[str | None], place: pa.Array) -> pa.Array:
    return pa.array(values, pa.utf8()).dictionary_encode().take(place)


def _context_columns(known: Sequence[PatientContext], codes: Integers, occurred: Integers) -> dict[str, pa.Array]:
    """The columns that tell the patient; `codes` are places in `known`, one a row."""
    place = pa.array(codes)
    return {
        "age_years": _ages(known, codes, occurred),
        "sex": _words([one.sex for one in known], place),
        "ward": _words([one.ward for one in known], place),
        "bed": _words([one.bed for one in known], place),
        "spo2_scale": pa.array([one.spo2_scale for one in known], pa.int8()).take(place),
        "conditions": pa.array([list(one.conditions) for one in known], pa.list_(pa.utf8())).take(place),
        "context_version": pa.array([one.version for one in known], pa.int64()).take(place),
        "pregnant": pa.array([one.pregnant for one in known], pa.bool_()).take(place),
    }


def _in_schema(arrays: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Table:
    return pa.table(
        [array.cast(field.type) for array, field in zip(arrays, PATIENT_MEASUREMENT_SCHEMA, strict=True)],
        schema=PATIENT_MEASUREMENT_SCHEMA,
    )


def _ages(contexts: Sequence[PatientContext], codes: Integers, occurred: Integers) -> pa.Array:
    """Whole years at the instant of each measurement, at most; null where the birth date is unknown or later.

    Of a birth date of which the day or the month is not known, the age is told only where it is certain whether the
    patient is under 16: the chart is not meant for them.
    """
    day = occurred.astype("M8[us]").astype("M8[D]")
    oldest, youngest = (
        _years(np.array([one.born[end] if one.born else None for one in contexts], "M8[D]")[codes], day)
        for end in (0, 1)
    )
    unknown = (oldest < 0) | ((oldest >= _ADULT_YEARS) != (youngest >= _ADULT_YEARS))
    return pa.array(np.where(unknown, 0, oldest), pa.int16(), mask=unknown)


def _years(born: npt.NDArray[np.datetime64], day: npt.NDArray[np.datetime64]) -> Integers:
    """Whole years from one day to another; -1 where either is unknown, negative where the first is later."""
    months = day.astype("M8[M]").astype(np.int64) - born.astype("M8[M]").astype(np.int64)
    before_birthday = (day - day.astype("M8[M]")) < (born - born.astype("M8[M]"))
    years: Integers = np.where(np.isnat(born), -1, (months - before_birthday) // 12)
    return years
