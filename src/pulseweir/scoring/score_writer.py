"""Step 11a: a copy of the final scores goes to the lake."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.backends.lake import RISK_SCORES, Lake
from pulseweir.backends.settings import LakeSettings
from pulseweir.records import topics
from pulseweir.scoring.lake_writer import Appender
from pulseweir.worker import Handled, Stage

GROUP = "lake-scores"


class ScoreWriterStage(Stage):
    """Appends every revision of every final score to the Delta table ``risk_scores``, exactly once.

    Live rows are for the screens and stay out of the lake.
    """

    topic = topics.RISK_SCORES
    group = GROUP

    def __init__(self, lake: Lake, settings: LakeSettings | None = None) -> None:
        self._appender = Appender(lake, RISK_SCORES, GROUP)
        settings = settings or LakeSettings()
        self.row_limit = settings.commit_rows
        self.gather_seconds = settings.commit_seconds

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Append the final rows.

        Raises:
            LakeUnavailable: Nothing was appended.
        """
        rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables.values()])
        finals = rows.filter(pc.invert(rows["live"]))
        handled = Handled()
        handled.outcome.count("filtered:live", rows.num_rows - finals.num_rows)
        if finals.num_rows:
            written = await self._appender.append(finals)
            handled.outcome.count("written", written)
            handled.outcome.count("filtered:duplicate", finals.num_rows - written)
        return handled
