"""A repository of the first release opens with its alerts, Flags and messages: nothing lost, doubled or told twice."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa
import pytest
from sqlalchemy import inspect, text

import first_release as old
import first_release_rows as stored
from first_release import MINUTE, NOON, SECOND
from pulseweir.backends.channels.base import Notification
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, Transaction, alerts, flags, migrate, outbox, scores
from pulseweir.clock import Clock, real_microseconds
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.settings import CareRoutingSettings
from pulseweir.records.topics import ALERT_EVENTS, with_later_columns
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.coordination import CoordinationStage
from pulseweir.warm_path.delivery import OutboxSender
from pulseweir.warm_path.settings import CoordinationSettings, NoticeSettings

Json = dict[str, Any]
NURSE: Json = {"acknowledged_by": "nurse", "acknowledge_reason": "seen-going", "state": "acknowledged"}
RAISED = stored.alert("raised", "p-raised", 0, 8)
LADDER = stored.alert("ladder", "p-ladder", -90 * SECOND, 9, level=2, next_step_at=NOON + 90 * SECOND)
SEEN = stored.alert("seen", "p-seen", -10 * MINUTE, 7, acknowledged_at=NOON - MINUTE, next_step_at=None, **NURSE)
MEDIUM = stored.alert("medium", "p-medium", -4 * MINUTE, 5)
HELD = stored.alert(
    "held",
    "p-held",
    -4 * MINUTE,
    6,
    next_step_at=NOON + 30 * MINUTE,
    suppressed_until=NOON + 30 * MINUTE,
    suppressed_reason="in theatre",
    suppressed_by="nurse",
)
LATCHED = stored.alert(
    "latched", "p-latched", -30 * MINUTE, 8, level=4, next_step_at=None, ended_at=NOON - 9 * MINUTE, missed=True
)
CLOSED = stored.alert(
    "closed", "p-closed", -60 * MINUTE, 5, state="auto-cleared", next_step_at=None, closed_at=NOON - MINUTE
)
ALERTS = (RAISED, LADDER, SEEN, MEDIUM, HELD, LATCHED, CLOSED)
OPEN = {"raised", "ladder", "seen", "medium", "held", "latched"}
KILLED_AT = real_microseconds() - MINUTE
"""Messages wait by real time."""
WAITING = stored.message(
    RAISED, "page", 1, state="waiting", channel="", created_at=KILLED_AT, due_at=KILLED_AT, sent_at=None
)
MESSAGES = (
    WAITING,
    stored.message(LADDER, "page", 1),
    stored.message(LADDER, "escalation", 2),
    *(stored.message(one, "page", 1) for one in (SEEN, MEDIUM, HELD, LATCHED, CLOSED)),
)
TABLES = ("alert", "outbox", "flag", "score", "live_row", "alert_transition", "change_counter")


class StillClock(Clock):
    """A clock that stands where it is put, in microseconds after `NOON`."""

    after = 0

    def now_microseconds(self) -> int:
        return NOON + type(self).after


@dataclass
class Published:
    """A bus that keeps the Flag facts it is given."""

    facts: list[pa.Table] = field(default_factory=list)

    async def publish(self, tables: list[tuple[str, pa.Table]]) -> None:
        self.facts += [table for topic, table in tables if topic == ALERT_EVENTS]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The repository that the old release left: of its revision, with its rows."""
    address = f"sqlite:///{tmp_path / 'repository.sqlite'}"
    if request.param == "postgresql":
        address = str(request.getfixturevalue("postgres_url"))
    written = Repository.open(address, Clock())
    with written.writing() as transaction:
        migrate.run(transaction, "base")
        migrate.run(transaction, old.REPOSITORY_REVISION)
        fill(transaction)
    written.close()
    StillClock.after = 0
    yield address
    left = Repository.open(address, Clock())
    with left.writing() as transaction:
        migrate.run(transaction, "base")
    left.close()


def fill(transaction: Transaction) -> None:
    for values in ALERTS:
        stored.insert(transaction, "alert", **values)
        patient, is_over = values["patient_id"], values["ended_at"] or values["closed_at"]
        minute = (values["raised_at"] - NOON) // MINUTE - 1
        number = values["score"]
        status = {"status": "inactive", "end_at": is_over} if is_over else {}
        stored.insert(transaction, "flag", **stored.flag(patient, values["flag_id"], minute, number, **status))
        stored.insert(transaction, "score", **stored.score(patient, minute, number, flag_id=values["flag_id"]))
        stored.insert(transaction, "live_row", **stored.live_row(patient, minute, number))
    for message in MESSAGES:
        stored.insert(transaction, "outbox", **message)
    stored.insert(transaction, "change_counter", name="changes", value=1)


def rows(transaction: Transaction, table: str) -> list[Json]:
    found = [dict(row) for row in transaction.execute(text(f"SELECT * FROM {table}")).mappings()]
    return sorted(found, key=str)


@dataclass
class Ward:
    """The new release on the old repository."""

    repository: Repository
    bus: Published = field(default_factory=Published)
    settings: AlertSettings = field(default_factory=AlertSettings)

    def __post_init__(self) -> None:
        bus: Any = self.bus
        self.coordination = CoordinationStage(self.repository, bus, self.settings, NoticeSettings())
        self.record = RecordStage(self.repository, bus, FlagSettings(), CareRoutingSettings())
        self.known = self._keys()

    def after(self, microseconds: int) -> list[tuple[str, str, int]]:
        """Let time pass to an instant after `NOON`: alert, kind and level of every message written on the way."""
        StillClock.after = microseconds
        asyncio.run(self.coordination.run_due(NOON + microseconds))
        return self.told()

    def take(self, *facts: Json) -> list[tuple[str, str, int]]:
        """Take facts from the bus: the messages that follow."""
        asyncio.run(self.coordination.handle({0: old.table("alert-events", *facts)}))
        return self.told()

    def told(self) -> list[tuple[str, str, int]]:
        found = self._keys()
        new = [found[key] for key in found if key not in self.known]
        self.known = found
        bodies = [(alert_id, msgspec.json.decode(body)) for alert_id, body in new]
        return sorted((alert_id, body["kind"], body["level"]) for alert_id, body in bodies)

    def alert(self, alert_id: str) -> Any:
        with self.repository.reading() as transaction:
            return alerts.alert(transaction, alert_id)

    def count(self, table: str) -> int:
        with self.repository.reading() as transaction:
            return len(rows(transaction, table))

    def _keys(self) -> dict[str, tuple[str, str]]:
        with self.repository.reading() as transaction:
            found = [row for row in rows(transaction, "outbox") if row["kind"] == outbox.NOTIFICATION]
        return {row["entry_key"]: (row["alert_id"], row["body_json"]) for row in found}


@pytest.fixture
def ward(url: str) -> Iterator[Ward]:
    repository = Repository.open(url, StillClock())
    yield Ward(repository)
    repository.close()


def test_every_row_is_there_with_its_values(ward: Ward) -> None:
    with ward.repository.reading() as transaction:
        found = {row["alert_id"]: row for row in rows(transaction, "alert")}
        messages = {row["entry_key"]: row for row in rows(transaction, "outbox")}

    for values in ALERTS:
        assert found[values["alert_id"]] | values == found[values["alert_id"]]
    for message in MESSAGES:
        assert messages[message["entry_key"]] == message
    assert len(found) == len(ALERTS)
    assert len(messages) == len(MESSAGES)


def test_open_alerts_are_clinical_open_and_as_they_were(ward: Ward) -> None:
    with ward.repository.reading() as transaction:
        found = {row.alert_id: row for row in alerts.open_alerts(transaction)}
        live = scores.live_rows(transaction, model=None)
        standing = flags.newest_episodes(transaction, [one["patient_id"] for one in ALERTS])

    assert set(found) == OPEN
    assert {row.kind for row in found.values()} == {"clinical"}
    assert (found["seen"].state, found["seen"].acknowledged_by) == ("acknowledged", "nurse")
    assert (found["held"].suppressed_until, found["held"].suppressed_by) == (NOON + 30 * MINUTE, "nurse")
    assert (found["latched"].ended_at, found["latched"].missed) == (NOON - 9 * MINUTE, True)
    assert {(row.patient_id, row.unknown_json, row.doubtful_json, row.abstained) for row in live} == {
        (one["patient_id"], "[]", "[]", None) for one in ALERTS
    }
    assert len(standing) == len(ALERTS)


def test_opening_twice_changes_nothing(url: str, ward: Ward) -> None:
    again = Repository.open(url, Clock())
    with again.reading() as first, ward.repository.reading() as second:
        assert [rows(first, table) for table in TABLES] == [rows(second, table) for table in TABLES]
    again.close()


def test_back_to_the_old_revision_and_forth_again_keeps_what_the_old_release_knew(url: str, ward: Ward) -> None:
    with ward.repository.writing() as transaction:
        migrate.run(transaction, old.REPOSITORY_REVISION)
        columns = {column["name"] for column in inspect(transaction).get_columns("alert")}
        back = {row["alert_id"]: row for row in rows(transaction, "alert")}

    assert columns == set(RAISED)
    assert all(back[values["alert_id"]] == values for values in ALERTS)
    ward.repository.close()
    again = Repository.open(url, Clock())
    with again.reading() as transaction:
        assert {row.alert_id for row in alerts.open_alerts(transaction)} == OPEN
    again.close()


def test_nobody_is_told_because_the_house_was_upgraded(ward: Ward) -> None:
    assert ward.after(0) == []


def test_a_ladder_goes_on_where_it_stood(ward: Ward) -> None:
    assert ward.after(60 * SECOND) == [("medium", "escalation", 2), ("raised", "escalation", 2)]
    assert ward.after(60 * SECOND) == []
    assert ward.after(90 * SECOND) == [("ladder", "escalation", 3)]


def test_what_was_held_back_stays_so_until_its_end(ward: Ward) -> None:
    before = [one for seconds in range(0, 1_800, 60) for one in ward.after(seconds * SECOND) if one[0] == "held"]

    assert before == []
    assert ("held", "escalation", 2) in ward.after(30 * MINUTE)
    assert ward.alert("held").suppressed_until is None


def test_a_fact_the_old_release_had_taken_is_not_taken_again(ward: Ward) -> None:
    before = ward.count("alert"), ward.count("alert_transition")

    assert ward.take(*(stored.fact(values, 1, values["score"]) for values in ALERTS)) == []
    assert (ward.count("alert"), ward.count("alert_transition")) == before


@pytest.mark.parametrize("values", [RAISED, LADDER, SEEN, MEDIUM, HELD], ids=lambda one: one["alert_id"])
def test_an_unread_fact_no_worse_than_what_was_paged_updates_its_alert(ward: Ward, values: Json) -> None:
    fact = stored.fact(values, 2, values["score"])

    assert ward.take(fact, fact) == []
    found = ward.alert(values["alert_id"])
    assert (found.flag_change, found.state, found.level) == (2, values["state"], values["level"])
    assert ward.count("alert") == len(ALERTS)


@pytest.mark.parametrize("values", [RAISED, SEEN, LADDER], ids=lambda one: one["alert_id"])
def test_an_unread_fact_that_is_worse_pages_once(ward: Ward, values: Json) -> None:
    fact = stored.fact(values, 2, values["score"] + 2)

    told = ward.take(fact)

    assert [alert_id for alert_id, _, _ in told] == [values["alert_id"]]
    assert ward.take(fact) == []
    assert ward.count("alert") == len(ALERTS)


def test_an_unread_fact_of_a_flag_that_closed_ends_its_alert(ward: Ward) -> None:
    over = stored.fact(MEDIUM, 2, 5, status="inactive", end_at=NOON)
    clears_at = int(ward.settings.clear_after_seconds * SECOND)

    assert ward.take(over) == []
    assert ward.alert("medium").ended_at == NOON
    assert [one for one in ward.after(clears_at) if one[0] == "medium"] == []
    assert (ward.alert("medium").state, ward.alert("medium").closed_at) == ("auto-cleared", NOON + clears_at)


def risk(patient: str, minute: int, number: float) -> pa.Table:
    row = old.sample("risk-scores", 0) | {
        "patient_id": patient,
        "model": "news2",
        "window_start": NOON + minute * MINUTE,
        "window_end": NOON + (minute + 1) * MINUTE,
        "status": "complete",
        "score": number,
        "band": "high" if number >= 7 else "medium" if number >= 5 else "low",
        "ward": "Ward A",
        "bed": "Bed 01",
        "missing": [],
        "stale": [],
    }
    return with_later_columns(old.table("risk-scores", row), "risk-scores")


def record(ward: Ward, table: pa.Table) -> list[pa.Table]:
    ward.bus.facts = []
    asyncio.run(ward.record.handle({0: table}))
    return ward.bus.facts


def test_unread_scores_go_on_with_the_flag_that_stood(ward: Ward) -> None:
    found = record(ward, risk("p-raised", 0, 8))
    again = record(ward, risk("p-raised", 0, 8))

    assert sum(table.num_rows for table in found) == 1
    (detail,) = found[0]["detail_json"].to_pylist()
    assert msgspec.json.decode(detail)["flag_id"] == RAISED["flag_id"]
    assert again == []
    assert ward.count("flag") == len(ALERTS)
    assert ward.count("score") == len(ALERTS) + 1


def test_unread_scores_that_were_recorded_change_nothing(ward: Ward) -> None:
    assert record(ward, risk("p-raised", -1, 8)) == []
    assert ward.count("score") == len(ALERTS)


@dataclass
class People:
    """A channel that people look at."""

    name: str = "teams"
    keys: list[str] = field(default_factory=list)

    async def send(self, notification: Notification) -> None:
        self.keys.append(notification.key)

    async def close(self) -> None:
        return


def test_a_message_that_waited_reaches_people_once(ward: Ward) -> None:
    people = People()

    async def send() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(503))
        fhir = FhirClient("http://fhir.test/fhir", transport=transport)
        sender = OutboxSender(ward.repository, fhir, {"teams": people}, CoordinationSettings())
        while await sender.send_notifications():
            pass
        await fhir.close()

    asyncio.run(send())
    asyncio.run(send())

    assert people.keys == [WAITING["entry_key"]]
    with ward.repository.reading() as transaction:
        states = {
            row["entry_key"]: row["state"] for row in rows(transaction, "outbox") if row["kind"] == "notification"
        }
    assert set(states.values()) == {"sent"}
