"""Steps 6-8: measurements are merged with their Patient, judged, and published as patient measurements."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.records import topics
from pulseweir.records.codes import VITAL_BY_LOINC
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, PATIENT_MEASUREMENTS
from pulseweir.scoring.intake import coded
from pulseweir.scoring.models.news2 import CONSCIOUSNESS
from pulseweir.scoring.patient_context import ContextCache, PatientContext
from pulseweir.scoring.quality import (
    FUTURE,
    FUTURE_TOLERANCE_MICROSECONDS,
    GOOD,
    IMPOSSIBLE,
    QUALITIES,
    SUSPECT,
    VITAL_INDEX,
    contradicting_pressures,
    normalise,
    range_quality,
)
from pulseweir.scoring.settings import EnrichmentSettings
from pulseweir.worker import Handled, Stage

GROUP = "enrichment"
Integers = npt.NDArray[np.int64]


class EnrichmentStage(Stage):
    """Measurements in, patient measurements out; goes on without context where the FHIR service does not answer."""

    topic = topics.MEASUREMENTS
    group = GROUP
    row_limit = 4_000

    def __init__(self, fhir: FhirClient, settings: EnrichmentSettings | None = None) -> None:
        settings = settings or EnrichmentSettings()
        self.gather_seconds = settings.batch_seconds
        self._cache = ContextCache(
            fhir, keep_seconds=settings.context_keep_seconds, wait_seconds=settings.context_wait_seconds
        )

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
        return handled

    async def close(self) -> None:
        """Stop reading contexts."""
        await self._cache.close()


def enrich(measurements: pa.Table, contexts: Mapping[str, PatientContext]) -> pa.Table:
    """Merge measurements with their patients' contexts; pure.

    Args:
        measurements: Rows of ``MEASUREMENT_SCHEMA``, each with a code.
        contexts: One for every patient of the rows.
    """
    whole = measurements.unify_dictionaries().combine_chunks()
    codes, words = coded(whole["patient_id"])
    known = [contexts.get(word, PatientContext()) for word in words]
    place = pa.array(codes)
    occurred = _instants(whole["occurred_at"])
    columns = {
        "age_years": _ages(known, codes, occurred),
        "sex": _words([one.sex for one in known], place),
        "ward": _words([one.ward for one in known], place),
        "bed": _words([one.bed for one in known], place),
        "spo2_scale": pa.array([one.spo2_scale for one in known], pa.int8()).take(place),
        "conditions": pa.array([list(one.conditions) for one in known], pa.list_(pa.utf8())).take(place),
        "context_version": pa.array([one.version for one in known], pa.int64()).take(place),
        "quality": pa.array(list(QUALITIES)).dictionary_encode().take(pa.array(judge(whole))),
    }
    arrays = [columns[name] if name in columns else whole[name] for name in PATIENT_MEASUREMENT_SCHEMA.names]
    return pa.table(
        [array.cast(field.type) for array, field in zip(arrays, PATIENT_MEASUREMENT_SCHEMA, strict=True)],
        schema=PATIENT_MEASUREMENT_SCHEMA,
    )


def judge(measurements: pa.Table) -> Integers:
    """Quality of each measurement, as places in `QUALITIES`; what earlier readings say is left to scoring."""
    codes, words = coded(measurements["code"])
    vital = np.array([VITAL_INDEX[VITAL_BY_LOINC[word].name] if word in VITAL_BY_LOINC else -1 for word in words])[
        codes
    ]
    number = np.array(pc.fill_null(measurements["number"], np.nan).to_numpy(), np.float64)
    quality = np.full(len(vital), GOOD, np.int64)
    known = vital >= 0
    quality[known] = range_quality(vital[known], number[known])
    spoken = vital == VITAL_INDEX["consciousness"]
    letters = np.array(pc.is_in(measurements["text"], pa.array(CONSCIOUSNESS)), np.bool_)
    quality[spoken] = np.where(letters[spoken], GOOD, IMPOSSIBLE)
    guessed = np.zeros(len(vital), np.bool_)
    guessed[known] = normalise(vital[known], number[known]).guessed
    implausible = np.array(pc.fill_null(measurements["implausible"], False), np.bool_)
    quality[implausible & ~guessed] = IMPOSSIBLE
    crossed = contradicting_pressures(_same_reading(measurements), vital, number)
    quality[crossed & (quality == GOOD)] = SUSPECT
    ahead = (
        _instants(measurements["occurred_at"]) > _instants(measurements["received_at"]) + FUTURE_TOLERANCE_MICROSECONDS
    )
    return np.where(ahead, FUTURE, quality)


def _same_reading(measurements: pa.Table) -> Integers:
    """Equal numbers for rows of one device, type and instant."""
    group = np.zeros(measurements.num_rows, np.int64)
    for column in (
        coded(measurements["device_id"])[0],
        coded(measurements["type"])[0],
        _instants(measurements["occurred_at"]),
    ):
        _, place = np.unique(column, return_inverse=True)
        _, group = np.unique(group * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    return group.astype(np.int64)


def _instants(column: pa.ChunkedArray) -> Integers:
    return np.array(column.cast(pa.int64()), np.int64)


def _words(values: Sequence[str | None], place: pa.Array) -> pa.Array:
    return pa.array(values, pa.utf8()).dictionary_encode().take(place)


def _ages(contexts: Sequence[PatientContext], codes: Integers, occurred: Integers) -> pa.Array:
    """Whole years at the instant of each measurement; null where the birth date is unknown or later."""
    born = np.array([one.birth_date for one in contexts], "M8[D]")[codes]
    day = occurred.astype("M8[us]").astype("M8[D]")
    months = day.astype("M8[M]").astype(np.int64) - born.astype("M8[M]").astype(np.int64)
    before_birthday = (day - day.astype("M8[M]")) < (born - born.astype("M8[M]"))
    years = (months - before_birthday) // 12
    unknown = np.isnat(born) | (years < 0)
    return pa.array(np.where(unknown, 0, years), pa.int16(), mask=unknown)
