"""The one delivery loop: read, handle, write, publish, commit; retry, park, quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from pulseweir.backends.bus.base import Outcome


@dataclass(slots=True)
class Handled:
    """What a stage made of rows: its outputs for the bus and what became of each row.

    Attributes:
        publish: (topic, rows) to append before the positions are committed.
        outcome: Every input row is counted in it exactly once: tallied, quarantined or parked.
    """

    publish: list[tuple[str, pa.Table]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


class Stage(Protocol):
    """One step of the journey as the loop sees it. Inherit from it for the defaults.

    Attributes:
        topic: What it reads.
        group: Its consumer group, also its name in metrics and quarantine.
        tick_seconds: How often `tick` is called, real seconds; None for never.
        commit_seconds: 0 commits after every read; more collects positions, for stages with snapshots.
        row_limit: Rows handed to `handle` at most in one call (a single larger record comes whole).
    """

    topic: str
    group: str
    tick_seconds: float | None = None
    commit_seconds: float = 0.0
    row_limit: int = 5_000

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Deal with rows of several shards: compute, and write every outside effect idempotently.

        Called again with the same rows after any error or crash. A row that can never succeed belongs in
        ``outcome.quarantined``, one whose world may recover in ``outcome.parked``.

        Raises:
            RetryLater: Nothing of these tables counts as done; they come again after a back-off.
            RejectRecord: Only where the call had one row; the loop isolates rows after an unexpected error.
        """
        ...

    async def handle_parked(self, rows: pa.Table, first_parked_microseconds: list[int]) -> Handled:
        """Deal with parked rows whose time has come; the default treats them like new ones."""
        return await self.handle({-1: rows})

    async def tick(self) -> Handled | None:
        """Work that time causes rather than data; None when there is none."""
        return None

    def assigned(self, shard: int, snapshot: bytes | None) -> None:
        """A shard begins here, with the state last committed with its position."""

    def revoked(self, shard: int) -> None:
        """A shard has gone to another member: forget its state."""

    def snapshots(self) -> Mapping[int, bytes]:
        """State to commit with the positions, by shard; empty for a stage without state."""
        return {}
