"""Rows of the measurements topic made of measurements, by the connector's own code."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pulseweir.ingest.catalog import MappingPair
from pulseweir.ingest.device_mapping.batch import interpret_batch
from pulseweir.ingest.device_mapping.templates import Measurement
from pulseweir.ingest.identity import Association
from pulseweir.ingest.measurement_columns import NormalizedShare
from pulseweir.records.topics import INSTANT, MEASUREMENT_SCHEMA


def measured(
    measurements: Sequence[Measurement], who: Association, pair: MappingPair, message_id: str, received_at: int
) -> pa.Table:
    """The rows of one message that holds these measurements."""
    normalized = interpret_batch(lambda _: list(measurements), [b"{}"], (None, None), (64, 1_000)).measurements
    share = NormalizedShare(pair, normalized)
    rows, _, refused = share.rows(dict.fromkeys(share.questions, who), np.ones(1, np.bool_))
    assert not refused
    columns = {name: rows[name] for name in rows.column_names} | {
        "message_id": pa.array([message_id] * rows.num_rows, pa.utf8()),
        "received_at": pa.array([received_at] * rows.num_rows, pa.int64()).cast(INSTANT),
    }
    return pa.table([columns[name] for name in MEASUREMENT_SCHEMA.names], schema=MEASUREMENT_SCHEMA)
