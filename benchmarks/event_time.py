"""A recording through the stages of the journey in event time: readings → windows → Flags → alerts → messages.

No process, socket or wall clock: the stages are called one after the other, at the instants at which something
arrives or falls due. It runs on every release since the first; what differs between them is asked for by name.
"""

import asyncio
import dataclasses
import heapq
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import text

from benchmarks.burden_counts import MINUTE, SECOND, Acknowledged, Happened, Opened, Page, Window
from benchmarks.event_signals import SetClock
from pulseweir.backends.repository import Repository, people
from pulseweir.backends.repository.rows import UserRow
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.scored_window import scored_windows
from pulseweir.hot_path.settings import CareRoutingSettings
from pulseweir.ingest.catalog import Mappings, catalog_directory
from pulseweir.ingest.connector import ConnectorStage
from pulseweir.ingest.identity import Association, Question
from pulseweir.ingest.recording_plan import RecordingPlan
from pulseweir.records.topics import ALERT_EVENTS, DEVICE_MESSAGE_SCHEMA, MEASUREMENTS, PATIENT_MEASUREMENT_SCHEMA
from pulseweir.scoring.enrichment import enrich
from pulseweir.scoring.patient_context import PatientContext
from pulseweir.scoring.score_shard import Wanted, score_shard
from pulseweir.scoring.settings import WindowSettings
from pulseweir.scoring.shard_state import ShardState
from pulseweir.warm_path import alert_commands
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.alert_store import change
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.settings import NoticeSettings

Arrival = Literal["charted", "stored"]
ARRIVES_AFTER = SECOND
"""A connected monitor's reading is with the hub so long after it was measured."""
SETTLED_AFTER = 10 * MINUTE
"""So long after its last reading nothing of a recording is under way any more."""
NURSE = "nurse"
LOOKS_EVERY = 5 * MINUTE
"""The stage of alerts looks for what no timer tells: patients of whom nothing is heard any more."""
_MESSAGES_AT_ONCE = 1_000
_NEVER = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class Nurse:
    """What is done about every message.

    Attributes:
        after: So many microseconds later.
        takes_over: The alert is claimed, which also acknowledges it; else it is acknowledged ("seen-going").
    """

    after: int
    takes_over: bool = False


class Told:
    """Scores with the instant at which they were told."""

    def __init__(self) -> None:
        self.tables: list[tuple[int, pa.Table]] = []
        self.tallies: dict[str, int] = {}

    def add(self, now: int, scores: pa.Table) -> None:
        """Keep the final rows."""
        finals = scores.filter(pc.invert(scores["live"]))
        if finals.num_rows:
            self.tables.append((now, finals))

    def count(self, tallies: Mapping[str, int]) -> None:
        """Add what became of the rows of one call."""
        for name, rows in tallies.items():
            self.tallies[name] = self.tallies.get(name, 0) + rows


def measurements(plan: RecordingPlan, arrival: Arrival) -> pa.Table:
    """The plan's messages as rows of `patient-measurements`, in the order in which they arrive.

    Args:
        plan: In the order of `arrival`.
        arrival: ``charted``: a second after they were measured. ``stored``: when the recording says they were entered.
    """
    patient_of = {device.device_id: one.patient_id for one in plan.patients for device in one.devices}
    later = ARRIVES_AFTER if arrival == "charted" else 0
    rows = [
        {
            "message_id": message.message_id,
            "device_id": message.device_id,
            "kind": plan.devices[0].kind,
            "received_at": message.due_microseconds + later,
            "properties_json": "{}",
            "system_properties_json": "{}",
            "body": message.body,
        }
        for message in plan.messages
    ]
    normalized = asyncio.run(_normalized(rows, patient_of))
    contexts = {one.patient_id: _context(one.birth_date, one.gender, one.ward, one.bed) for one in plan.patients}
    return enrich(normalized.filter(pc.is_valid(normalized["code"])), contexts).sort_by("received_at")


def scored(rows: pa.Table) -> Told:
    """Take rows in as they arrive, let time pass between them until nothing is due; every final row, when made."""
    settings, state, told = WindowSettings(), ShardState(), Told()
    received = rows["received_at"].cast(pa.int64()).to_numpy()
    place, now = 0, 0
    end = int(received[-1]) + SETTLED_AFTER if len(received) else 0
    while place < len(received) or state.due_at < end:
        arrives = int(received[place]) if place < len(received) else _NEVER
        now = min(arrives, max(state.due_at, now + 1))
        arrived = None
        if arrives == now:
            upto = int(received.searchsorted(now, side="right"))
            arrived, place = rows.slice(place, upto - place), upto
        made = score_shard(state, arrived, None, now, settings)
        if made.wanted:
            made = score_shard(state, arrived, _history(rows.slice(0, place), made.wanted), now, settings)
        state = made.state
        told.count(made.tallies)
        told.add(now, made.scores)
    return told


def alerted(
    told: Told,
    nurse: Nurse | None,
    devices: Sequence[tuple[int, pa.Table]] = (),
    settings: AlertSettings | None = None,
) -> Happened:
    """Record the scores, raise alerts and let time pass; nobody delivers the messages.

    Args:
        told: Scores by instant.
        devices: Facts about devices by instant.
        settings: Of alerts; None: as installed.
        nurse: Who answers every message; None: nobody does.
    """
    with tempfile.TemporaryDirectory(prefix="pulseweir-burden-", dir=_memory()) as folder:
        ward = _Ward(Path(folder), nurse, settings or AlertSettings())
        try:
            asyncio.run(ward.play(told.tables, devices))
        finally:
            ward.close()
    ward.happened.windows += [one for now, table in told.tables for one in _windows(now, table)]
    return ward.happened


async def _normalized(rows: Sequence[dict[str, Any]], patient_of: Mapping[str, str]) -> pa.Table:
    stage = ConnectorStage(Mappings.load(catalog_directory()), _Worn(patient_of), _never_seen)  # type: ignore[arg-type]
    found = []
    for start in range(0, len(rows), _MESSAGES_AT_ONCE):
        table = pa.Table.from_pylist(list(rows[start : start + _MESSAGES_AT_ONCE])).cast(DEVICE_MESSAGE_SCHEMA)
        handled = await stage.handle({0: table})
        if handled.outcome.quarantined or handled.outcome.parked:
            raise ValueError(
                "The recording has messages that the catalog's mapping refuses; its figures are not whole."
            )
        found += [one for topic, one in handled.publish if topic == MEASUREMENTS]
    return pa.concat_tables(found).unify_dictionaries().combine_chunks()


async def _never_seen(_ids: Sequence[str]) -> set[str]:
    return set()


class _Worn:
    """Every device is its patient's, always."""

    def __init__(self, patient_of: Mapping[str, str]) -> None:
        self._patient_of = patient_of

    async def resolve_many(self, questions: Sequence[Question]) -> dict[Question, Association]:
        """The answer to each question."""
        return {one: Association(one.device_id, self._patient_of[one.device_id], None, None) for one in questions}


def _context(born: str, sex: str, ward: str, bed: str) -> PatientContext:
    day = date.fromisoformat(born)
    known: dict[str, Any] = {"version": 1, "birth_date": day, "born": (day, day), "sex": sex, "ward": ward, "bed": bed}
    known |= {"spo2_scale": 1, "pregnant": False}
    names = {one.name for one in dataclasses.fields(PatientContext)}
    return PatientContext(**{name: value for name, value in known.items() if name in names})


def _history(arrived: pa.Table, wanted: Sequence[Wanted]) -> pa.Table:
    """What the lake would hold by then."""
    parts = [
        arrived.filter(
            (pc.field("patient_id").cast(pa.utf8()) == one.patient_id)
            & (pc.field("occurred_at").cast(pa.int64()) >= one.start)
            & (pc.field("occurred_at").cast(pa.int64()) < one.end)
        )
        for one in wanted
    ]
    return pa.concat_tables([PATIENT_MEASUREMENT_SCHEMA.empty_table(), *parts]).unify_dictionaries()


def _windows(now: int, table: pa.Table) -> Iterator[Window]:
    for row in scored_windows(table):
        parts = msgspec.json.decode(row.contributions_json, type=list[dict[str, Any]])
        reds = frozenset(one["parameter"] for one in parts if one["points"] == 3)
        yield Window(row.patient_id, row.window_start, row.window_end, now, row.score, row.band, reds, row.backfill)


def _memory() -> str | None:
    """A memory file system where there is one: each transaction of a repository syncs."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class _Caught:
    """A bus that hands over what is published at once."""

    def __init__(self) -> None:
        self.facts: list[pa.Table] = []

    async def publish(self, tables: Sequence[tuple[str, pa.Table]]) -> None:
        """Keep the Flag facts."""
        self.facts += [table for topic, table in tables if topic == ALERT_EVENTS]


class _Ward:
    """Repository, Flags and alerts of one run."""

    def __init__(self, folder: Path, nurse: Nurse | None, settings: AlertSettings) -> None:
        self.happened = Happened()
        self._nurse = nurse
        self._clock, self._bus = SetClock(), _Caught()
        clock: Any = self._clock
        self._repository = Repository.open(f"sqlite:///{folder}/repository.sqlite", clock)
        self._settings, self._notices = settings, NoticeSettings()
        with self._repository.writing() as transaction:
            account = UserRow(user_name=NURSE, password_hash="", role="nurse", wards_json="null", created_at=0)
            people.save_user(transaction, account)
        bus: Any = self._bus
        self._record = _made(
            RecordStage,
            repository=self._repository,
            bus=bus,
            flag_settings=FlagSettings(),
            routing_settings=CareRoutingSettings(),
        )
        self._coordination = _made(
            CoordinationStage,
            repository=self._repository,
            bus=bus,
            settings=self._settings,
            notices=self._notices,
        )
        self._seen_alert, self._seen_message, self._looked_at = 0, 0, 0
        self._to_acknowledge: list[tuple[int, str, str]] = []

    def close(self) -> None:
        """Let the repository go."""
        self._repository.close()

    async def play(self, scores: Sequence[tuple[int, pa.Table]], devices: Sequence[tuple[int, pa.Table]]) -> None:
        """All that is told, in order, and between any two whatever time brings."""
        events = [(now, True, table) for now, table in scores] + [(now, False, table) for now, table in devices]
        self._looked_at = min((now for now, _, _ in events), default=0) if devices else _NEVER
        for now, is_scores, table in sorted(events, key=lambda one: one[:2]):
            await self._pass_time(now)
            self._put_clock(now)
            if is_scores:
                await self._record.handle({0: table})
            facts, self._bus.facts = [*self._bus.facts, *([] if is_scores else [table])], []
            if facts:
                await self._coordination.handle({0: pa.concat_tables(facts)})
                self._note(now)
        await self._pass_time(max((now for now, _, _ in events), default=0) + 1)

    async def _pass_time(self, until: int) -> None:
        """Timers of alerts, acknowledgements and looks of the stage, in order, before `until`."""
        while True:
            step = min(self._next_step(), self._looked_at + LOOKS_EVERY, _NEVER)
            deed = self._to_acknowledge[0][0] if self._to_acknowledge else _NEVER
            now = min(step, deed)
            if now >= until:
                return
            self._put_clock(now)
            if deed <= step:
                self._acknowledge(*heapq.heappop(self._to_acknowledge))
            else:
                await self._coordination.tick()
                self._looked_at = now if self._looked_at < _NEVER else _NEVER
            self._note(now)

    def _put_clock(self, now: int) -> None:
        self._clock.instant = max(self._clock.instant, now)

    def _next_step(self) -> int:
        with self._repository.reading() as transaction:
            query = "SELECT min(next_step_at) FROM alert WHERE closed_at IS NULL"
            found = transaction.execute(text(query)).scalar()
        return _NEVER if found is None else int(found)

    def _acknowledge(self, now: int, alert_id: str, patient: str) -> None:
        """As a nurse would who goes to the patient; whoever was quicker leaves nothing to do."""
        takes_over = self._nurse is not None and self._nurse.takes_over

        def deed(alert: Any) -> Any:  # noqa: ANN401 - an Alert and a Step of whichever release runs
            if not alert.is_open or (alert.acknowledged_at is not None and not (takes_over and alert.owner is None)):
                return None
            if takes_over:
                return alert_commands.claim(alert, NURSE, now)
            return alert_commands.acknowledge(alert, NURSE, "seen-going", now, self._settings)

        with self._repository.writing() as transaction:
            if change(transaction, alert_id, deed, self._notices) is not None:
                self.happened.acknowledged.append(Acknowledged(patient, now))

    def _note(self, now: int) -> None:
        """Keep the alerts that were raised and the messages that were written since the last look."""
        with self._repository.reading() as transaction:
            raised = transaction.execute(
                text(
                    "SELECT a.*, t.sequence AS happened, t.detail_json FROM alert_transition t"
                    " JOIN alert a ON a.alert_id = t.alert_id WHERE t.transition = 'raised' AND t.sequence > :seen"
                ),
                {"seen": self._seen_alert},
            ).mappings()
            for row in raised.all():
                self._seen_alert = max(self._seen_alert, int(row["happened"]))
                self._opened(now, dict(row))
            messages = transaction.execute(
                text(
                    "SELECT rowid, entry_key, alert_id, patient_id, body_json FROM outbox"
                    " WHERE kind = 'notification' AND rowid > :seen ORDER BY rowid"
                ),
                {"seen": self._seen_message},
            )
            for number, key, alert_id, patient, body in messages.all():
                self._seen_message = number
                self._sent(now, key, alert_id, patient, msgspec.json.decode(body))

    def _opened(self, now: int, row: Mapping[str, Any]) -> None:
        told = msgspec.json.decode(row["detail_json"])
        kind = row.get("kind", "clinical")
        self.happened.opened.append(Opened(row["patient_id"], row["alert_id"], now, told["priority"], kind))

    def _sent(self, now: int, key: str, alert_id: str, patient: str, body: dict[str, Any]) -> None:
        content = msgspec.json.encode({name: value for name, value in body.items() if name != "key"}, order="sorted")
        self.happened.pages.append(Page(patient, alert_id, now, key, body["kind"], content.decode()))
        if self._nurse is not None:
            heapq.heappush(self._to_acknowledge, (now + self._nurse.after, alert_id, patient))


def _made(kind: Callable[..., Any], **known: Any) -> Any:  # noqa: ANN401 - stages of whichever release runs
    """A stage with what its release asks for."""
    names = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in known.items() if name in names})
