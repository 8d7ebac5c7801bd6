"""The bus between the steps: what every backend guarantees, and the words it is spoken to in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Delivery:
    """One bus record: a batch of rows of one shard.

    Attributes:
        topic: Where it was read.
        shard: Part of the topic with one order.
        position: Place in the topic; grows within a shard, never reused, opaque otherwise.
        table: The rows, in the topic's schema.
    """

    topic: str
    shard: int
    position: int
    table: pa.Table


@dataclass(frozen=True, slots=True)
class SetAside:
    """One row that did not go on: parked (tried again by itself) or quarantined (waits for a person).

    Attributes:
        record_id: Deterministic id of the row; setting the same row aside twice keeps one.
        row: The row untouched, a table of one row in the topic's schema.
        stage: The step that set it aside.
        reason: Stable kebab-case word.
        message: One sentence with the remedy; never patient data.
        template: Mapping template at fault, if any.
        expression: Expression at fault, if any.
        place: Where in the record, if known.
        first_at_microseconds: Real instant at which it was first set aside; 0 before it is stored.
    """

    record_id: str
    row: pa.Table
    stage: str
    reason: str
    message: str
    template: str | None = None
    expression: str | None = None
    place: str | None = None
    first_at_microseconds: int = 0


@dataclass(slots=True)
class Outcome:
    """What became of the rows of one or more deliveries; stored in one transaction with their positions.

    Attributes:
        tallies: Rows by outcome: "normalized", "written", "filtered:<rule>". Quarantined and parked rows are
            counted by the lists below.
        quarantined: Rows that wait for a person.
        parked: Rows to try again by themselves.
        seen: Ids of messages this group has now dealt with, for `Subscription.seen_before`.
    """

    tallies: dict[str, int] = field(default_factory=dict)
    quarantined: list[SetAside] = field(default_factory=list)
    parked: list[SetAside] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def count(self, name: str, rows: int = 1) -> None:
        """Add rows to one tally; adding nothing leaves no trace."""
        if rows:
            self.tallies[name] = self.tallies.get(name, 0) + rows

    def absorb(self, other: "Outcome") -> None:
        """Add everything of another outcome to this one."""
        for name, rows in other.tallies.items():
            self.count(name, rows)
        self.quarantined.extend(other.quarantined)
        self.parked.extend(other.parked)
        self.seen.extend(other.seen)


class Subscription(Protocol):
    """One member of a consumer group on one topic.

    Delivery is at least once: what this group has not committed is delivered again after a restart, to this
    member or another. Within a shard the order is that of publication. A shard belongs to one member at a time.
    """

    async def assigned(self) -> Mapping[int, bytes | None]:
        """Shards newly given to this member since the last call, each with its stored snapshot, if any."""
        ...

    async def revoked(self) -> Sequence[int]:
        """Shards taken from this member since the last call; their uncommitted work is another's now."""
        ...

    async def read(
        self, *, wait_seconds: float, row_limit: int, without: frozenset[int] = frozenset()
    ) -> list[Delivery]:
        """The next deliveries, oldest first, of all owned shards but `without`; empty after `wait_seconds`.

        Reading again returns what follows, whether or not it was committed; `rewind` goes back.
        """
        ...

    async def rewind(self, shard: int) -> None:
        """Read the shard again from its committed position."""
        ...

    async def restart(self) -> Mapping[int, bytes | None]:
        """Read every owned shard again from its committed position; returns them with their snapshots."""
        ...

    async def commit(
        self, positions: Mapping[int, int], outcome: Outcome, snapshots: Mapping[int, bytes] | None = None
    ) -> None:
        """Store, in one transaction: this group is done up to these positions, with this outcome.

        Raises:
            LeaseLost: A shard now belongs to another member; nothing was stored.
        """
        ...

    async def due(self, *, row_limit: int) -> list[SetAside]:
        """Parked rows of the owned shards whose time has come, oldest first."""
        ...

    async def settle(self, record_ids: Sequence[str], outcome: Outcome) -> None:
        """Store, in one transaction, what became of parked rows: those ids leave, the outcome enters.

        A row that appears in ``outcome.parked`` again keeps its first instant and waits longer.
        """
        ...

    async def seen_before(self, message_ids: Sequence[str]) -> set[str]:
        """Which of these ids this group has already committed as seen."""
        ...

    async def close(self) -> None:
        """Give the shards back at once."""
        ...


class Bus(Protocol):
    """Topics of record batches, cut into shards by key."""

    async def publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        """Append rows to topics, each row to the shard of its key. Returns once all survive a crash.

        Tables are cast to the topic's schema and cut into records of at most one megabyte.

        Raises:
            BusUnavailable: Publish again later; rows may then appear twice, never not at all.
        """
        ...

    async def subscribe(self, topic: str, group: str) -> Subscription:
        """Join a consumer group on a topic."""
        ...

    async def close(self) -> None:
        """Release everything; subscriptions give their shards back."""
        ...
