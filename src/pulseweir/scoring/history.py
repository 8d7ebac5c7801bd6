"""Step 11: the engine reads more of a patient's history from the lake, where its state does not hold it.

What was withdrawn in FHIR since is left out: the lake keeps every row as it came.
"""

import asyncio
import weakref
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.fhir_foreign import house_ids_of
from pulseweir.backends.lake import PATIENT_MEASUREMENTS, Lake
from pulseweir.clock import to_text
from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.records import topics
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, with_later_columns
from pulseweir.scoring.score_shard import Wanted

WITHDRAWN = ("entered-in-error", "cancelled")
"""`Observation.status` of what is not to be used. Source: HL7 FHIR R4, ObservationStatus: a modifier element."""
_IDS_IN_ONE_SEARCH = 50
_WAIT_SECONDS = 5.0
_SECOND = 1_000_000
_silent: "weakref.WeakSet[FhirClient]" = weakref.WeakSet()
"""Services that did not answer last time: told in the log once, until they answer again."""


async def read_history(lake: Lake, wanted: Sequence[Wanted], fhir: FhirClient | None = None) -> pa.Table:
    """The wanted patients' measurements in one table of ``PATIENT_MEASUREMENT_SCHEMA``; empty when the lake has none.

    One query serves all of them; rows of a patient outside that patient's own span are left out by scoring, which
    keeps only what its windows need.

    Args:
        lake: Where measurements are kept.
        wanted: Whose, and since when.
        fhir: Says which Observations were withdrawn; where it does not answer, history is used as it is.

    Raises:
        LakeUnavailable: Nothing was read; try again later.
    """
    names = sorted({one.patient_id for one in wanted})
    start, end = min(one.start for one in wanted), max(one.end for one in wanted)
    found = await asyncio.to_thread(lake.read, PATIENT_MEASUREMENTS, names, start, end)
    if found is None or not found.num_rows:
        return PATIENT_MEASUREMENT_SCHEMA.empty_table()
    found = with_later_columns(found, topics.PATIENT_MEASUREMENTS)
    columns = [_as(found[field.name], field.type) for field in PATIENT_MEASUREMENT_SCHEMA]
    history = pa.table(columns, schema=PATIENT_MEASUREMENT_SCHEMA)
    gone = await _withdrawn(fhir, names, start, end) if fhir is not None else set()
    if not gone:
        return history
    # A row that no Observation holds cannot have been withdrawn.
    return history.filter(pc.invert(pc.is_in(history["observation_id"], pa.array(sorted(gone), pa.utf8()))))


async def _withdrawn(fhir: FhirClient, patient_ids: Sequence[str], start: int, end: int) -> set[str]:
    """Ids of Observations of these patients and this span that were withdrawn; none while the service is away."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            found = [
                one
                for ids in _chunks(patient_ids)
                for one in await fhir.search(
                    "Observation",
                    [
                        ("patient", ",".join(ids)),
                        ("status", ",".join(WITHDRAWN)),
                        ("date", f"ge{to_text(start // _SECOND * _SECOND)}"),
                        ("date", f"le{to_text(-(-end // _SECOND) * _SECOND)}"),
                    ],
                )
            ]
    except (RetryLater, RejectRecord, TimeoutError) as error:
        if fhir not in _silent:
            structlog.get_logger().warning("withdrawn_observations_unread", error=type(error).__name__)
        _silent.add(fhir)
        return set()
    _silent.discard(fhir)
    gone = [one for one in found if one.get("status") in WITHDRAWN]
    return {name for one in gone for name in (str(one.get("id")), *house_ids_of(one))}


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), _IDS_IN_ONE_SEARCH):
        yield names[first : first + _IDS_IN_ONE_SEARCH]


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.cast(kind.value_type).dictionary_encode()
    return column.cast(kind)
