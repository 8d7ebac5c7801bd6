"""Step 9: patient measurements are appended to the lake, for scoring over longer windows."""

import asyncio
from collections.abc import Mapping

import pyarrow as pa

from pulseweir.backends.lake import PATIENT_MEASUREMENTS, Lake, Table
from pulseweir.backends.settings import LakeSettings
from pulseweir.records import topics
from pulseweir.worker import Handled, Stage

GROUP = "lake"


class LakeWriterStage(Stage):
    """Appends every patient measurement to the Delta table ``patient_measurements``, exactly once.

    Each call makes one commit. Between calls rows gather on the bus for `commit_seconds`: nothing is held in memory
    that the bus does not still hold.
    """

    topic = topics.PATIENT_MEASUREMENTS
    group = GROUP

    def __init__(self, lake: Lake, settings: LakeSettings | None = None) -> None:
        self._appender = Appender(lake, PATIENT_MEASUREMENTS, GROUP)
        settings = settings or LakeSettings()
        self.row_limit = settings.commit_rows
        self.gather_seconds = settings.commit_seconds

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Append the rows.

        Raises:
            LakeUnavailable: Nothing was appended.
        """
        rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables.values()])
        written = await self._appender.append(rows)
        handled = Handled()
        handled.outcome.count("written", written)
        handled.outcome.count("filtered:duplicate", rows.num_rows - written)
        return handled


class Appender:
    """Appends to one table, off the event loop."""

    def __init__(self, lake: Lake, table: Table, writer: str) -> None:
        self._lake, self._table, self._writer = lake, table, writer

    async def append(self, rows: pa.Table) -> int:
        """Append rows; returns how many were new.

        Raises:
            LakeUnavailable: Nothing was appended.
        """
        return await asyncio.to_thread(self._lake.append, self._table, rows, self._writer)
