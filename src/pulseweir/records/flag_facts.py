"""What the hot path tells the warm path about a Flag, as rows of `alert-events`. Pure."""

from collections.abc import Iterable, Sequence

import msgspec
import pyarrow as pa

from pulseweir.records.identifiers import digest
from pulseweir.records.topics import ALERT_EVENT_SCHEMA

FLAG_OPENED, FLAG_UPDATED, FLAG_CLOSED = "flag-opened", "flag-updated", "flag-closed"
FLAG_TRANSITIONS = frozenset({FLAG_OPENED, FLAG_UPDATED, FLAG_CLOSED})


class FlagFact(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a Flag after its latest change; a newer one replaces all older ones.

    Attributes:
        change: Grows with every change of this Flag.
        status: active, inactive, withdrawn.
        band: Band of the newest window outside.
        score: Its score.
        backfill: That window was already old on arrival: nobody is alerted.
        reason: What raised the score, for people with access to the patient.
        reds: Parameters that scored 3 in that window; None in a fact of an older release.
        start_at: Microseconds, as are the instants below.
    """

    flag_id: str
    patient_id: str
    rule: str
    change: int
    status: str
    band: str
    score: float | None
    backfill: bool
    reason: str
    start_at: int
    last_window_end: int
    end_at: int | None
    ward: str | None
    bed: str | None
    care_team_id: str | None
    care_team: str | None
    reds: list[str] | None = None


def flag_fact_table(facts: Iterable[tuple[str, FlagFact]]) -> pa.Table:
    """Rows of `alert-events` from (transition, fact); the same change of a Flag always has the same event id."""
    rows = [
        {
            "event_id": digest("flag-fact", fact.flag_id, fact.change),
            "alert_id": "",
            "patient_id": fact.patient_id,
            "rule": fact.rule,
            "transition": transition,
            "occurred_at": fact.last_window_end if fact.end_at is None else fact.end_at,
            "detail_json": msgspec.json.encode(fact).decode(),
        }
        for transition, fact in facts
    ]
    return pa.Table.from_pylist(rows, schema=ALERT_EVENT_SCHEMA)


def flag_facts(table: pa.Table) -> Sequence[FlagFact]:
    """The facts among rows of `alert-events`, in order; other rows are left out."""
    transitions = table.column("transition").cast(pa.utf8()).to_pylist()
    details = table.column("detail_json").to_pylist()
    return [
        msgspec.json.decode(detail, type=FlagFact)
        for transition, detail in zip(transitions, details, strict=True)
        if transition in FLAG_TRANSITIONS
    ]
