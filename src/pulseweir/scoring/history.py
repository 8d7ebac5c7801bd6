"""Step 11: the engine reads more of a patient's history from the lake, where its state does not hold it."""

import asyncio
from collections.abc import Sequence

import pyarrow as pa

from pulseweir.backends.lake import PATIENT_MEASUREMENTS, Lake
from pulseweir.records import topics
from pulseweir.records.topics import PATIENT_MEASUREMENT_SCHEMA, with_later_columns
from pulseweir.scoring.score_shard import Wanted


async def read_history(lake: Lake, wanted: Sequence[Wanted]) -> pa.Table:
    """The wanted patients' measurements in one table of ``PATIENT_MEASUREMENT_SCHEMA``; empty when the lake has none.

    One query serves all of them; rows of a patient outside that patient's own span are left out by scoring, which
    keeps only what its windows need.

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
    return pa.table(columns, schema=PATIENT_MEASUREMENT_SCHEMA)


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.cast(kind.value_type).dictionary_encode()
    return column.cast(kind)
