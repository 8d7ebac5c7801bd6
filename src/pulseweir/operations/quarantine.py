"""Rows that wait for a person: list, show, redrive, discard. Redriving twice changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulseweir.backends.bus.base import SetAside
from pulseweir.backends.bus.ledger import PARKED, QUARANTINED, Ledger
from pulseweir.clock import to_text


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """One row and why it stands still; holds no patient data.

    Attributes:
        id: What `show`, `redrive` and `discard` take.
        topic: Where it was read.
        group: The consumer group that set it aside.
        reason: Stable word.
        message: What to do.
        template: Mapping template at fault, if any.
        expression: Expression at fault, if any.
        place: Where in the record, if known.
        since: Real instant it was first set aside.
    """

    id: str
    topic: str
    group: str
    reason: str
    message: str
    template: str | None
    expression: str | None
    place: str | None
    since: str


def listed(bus_directory: Path, *, parked: bool = False, row_limit: int = 1_000) -> list[QuarantinedRow]:
    """Quarantined rows of every group, or the parked ones, oldest first within a group."""
    rows = []
    for ledger in ledgers(bus_directory):
        with ledger as book:
            entries = book.entries(PARKED if parked else QUARANTINED, row_limit)
            rows += [_row(book, item) for item in entries]
    return rows


def shown(bus_directory: Path, record_id: str) -> dict[str, Any] | None:
    """One row with its data: patient data, for the operator's eyes; None when there is no such row."""
    for ledger in ledgers(bus_directory):
        with ledger as book:
            item = book.entry(record_id)
            if item is not None:
                [values] = item.row.to_pylist()
                return {
                    **{name: _text(value) for name, value in values.items()},
                    "reason": item.reason,
                    "message": item.message,
                }
    return None


def redrive(bus_directory: Path, record_ids: Sequence[str]) -> int:
    """Hand rows back to their group to be tried again at once; returns how many."""
    return _each(bus_directory, record_ids, Ledger.redrive)


def discard(bus_directory: Path, record_ids: Sequence[str]) -> int:
    """Drop rows for good; they count as filtered:discarded from then on. Returns how many."""
    return _each(bus_directory, record_ids, Ledger.discard)


def ledgers(bus_directory: Path) -> Iterator[Any]:
    """Every group's book, each as a context that closes it."""
    for path in sorted((bus_directory / "groups").glob("*/*.db")):
        yield _opened(path)


@contextmanager
def _opened(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path, path.parent.name)
    try:
        yield ledger
    finally:
        ledger.close()


def _each(bus_directory: Path, record_ids: Sequence[str], act: Any) -> int:
    changed = 0
    for ledger in ledgers(bus_directory):
        with ledger as book:
            changed += act(book, record_ids)
    return changed


def _row(ledger: Ledger, item: SetAside) -> QuarantinedRow:
    return QuarantinedRow(
        id=item.record_id,
        topic=ledger.topic,
        group=ledger.group,
        reason=item.reason,
        message=item.message,
        template=item.template,
        expression=item.expression,
        place=item.place,
        since=to_text(item.first_at_microseconds),
    )


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, int | float | str | bool | None) else str(value)
