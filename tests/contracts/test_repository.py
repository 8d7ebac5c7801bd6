"""What every database behind the repository must do, SQLite and PostgreSQL (PULSEWEIR_TEST_POSTGRES may name one)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from pulseweir.backends.repository import (
    Repository,
    RepositoryUnavailable,
    alerts,
    changes,
    flags,
    migrate,
    outbox,
    people,
    reports,
    schema_people,
    scores,
)
from pulseweir.backends.repository.rows import OutboxRow, UserRow
from pulseweir.backends.repository.schema import METADATA
from pulseweir.clock import Clock
from pulseweir.errors import DataDirectoryNewer
from repository_rows import MINUTE, alert_row, flag_row, live_row, score_row, transition_row


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'repository.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def repository(url: str) -> Iterator[Repository]:
    opened = Repository.open(url, Clock())
    yield opened
    with opened.writing() as transaction:
        migrate.run(transaction, "base")
    opened.close()


def test_migrations_lead_to_the_schema_the_code_uses(repository: Repository) -> None:
    assert schema_people.SESSION.metadata is METADATA
    with repository.reading() as transaction:
        difference = compare_metadata(MigrationContext.configure(transaction), METADATA)

    assert [each for each in difference if not _tells_comments_only(each)] == []


def _tells_comments_only(difference: Any) -> bool:
    """Comments stay in the code: PostgreSQL would keep them, SQLite cannot."""
    return isinstance(difference, list) and all(change[0] == "modify_comment" for change in difference)


def test_the_newest_migration_is_the_one_the_code_asks_for() -> None:
    folder = Path(migrate.__file__).with_name("migrations")

    assert ScriptDirectory(str(folder)).get_current_head() == migrate.NEWEST


def test_migrating_back_leaves_nothing_and_forward_again_works(repository: Repository) -> None:
    with repository.writing() as transaction:
        migrate.run(transaction, "0001")
        assert not inspect(transaction).has_table("session")
        migrate.run(transaction, "base")
        assert inspect(transaction).get_table_names() == ["alembic_version"]
        assert inspect(transaction).get_view_names() == []
        migrate.run(transaction, migrate.NEWEST)

    with repository.reading() as transaction:
        assert changes.latest(transaction) == 0


def test_a_repository_of_a_newer_release_is_refused(repository: Repository, url: str) -> None:
    with repository.writing() as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DataDirectoryNewer, match="9999"):
        Repository.open(url, Clock())
    with repository.writing() as transaction:
        transaction.execute(text(f"UPDATE alembic_version SET version_num = '{migrate.NEWEST}'"))


def test_many_processes_may_open_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'repository.sqlite'}"

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Repository.open(url, Clock()), range(4)))

    for repository in opened:
        repository.close()


def test_a_database_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable):
        Repository.open(f"sqlite:///{tmp_path / 'absent' / 'repository.sqlite'}", Clock())


def test_a_failed_transaction_leaves_no_trace(repository: Repository) -> None:
    def fail() -> None:
        with repository.writing() as transaction:
            scores.save_scores(transaction, [score_row("p1", 0)])
            raise ValueError

    with pytest.raises(ValueError):
        fail()

    with repository.reading() as transaction:
        assert scores.score_history(transaction, "p1") == []
        assert changes.latest(transaction) == 0


async def test_the_last_revision_of_a_window_stays_whatever_the_order(repository: Repository) -> None:
    first, second = score_row("p1", 0, 3), score_row("p1", 0, 6, revision=2)

    stored = await repository.write(scores.save_scores, [second])
    again = await repository.write(scores.save_scores, [first, second])

    assert [row.score for row in stored] == [6]
    assert again == []
    assert [row.score for row in await repository.read(scores.score_history, "p1")] == [6]


async def test_the_live_row_only_moves_forward(repository: Repository) -> None:
    await repository.write(scores.save_live, [live_row("p1", 1, 5, score=4.0)])
    await repository.write(scores.save_live, [live_row("p1", 0, 50, score=1.0), live_row("p1", 1, 4, score=2.0)])

    [row] = await repository.read(scores.live_rows)

    assert row.score == 4.0


async def test_a_final_row_replaces_the_live_row_of_its_window(repository: Repository) -> None:
    live = live_row("p1", 1, 5)
    await repository.write(scores.save_live, [live])
    await repository.write(scores.save_live, [replace(live, preliminary=False, revision=1)])

    row = await repository.read(scores.live_row, "p1")

    assert row is not None
    assert not row.preliminary


async def test_a_screen_sees_each_change_after_its_sequence_once(repository: Repository) -> None:
    await repository.write(scores.save_live, [live_row("p1", 1, 5), live_row("p2", 1, 5)])
    seen = await repository.read(changes.latest)
    await repository.write(scores.save_live, [live_row("p2", 1, 6)])

    fresh = await repository.read(scores.live_rows, since=seen)

    assert [row.patient_id for row in fresh] == ["p2"]
    assert fresh[0].sequence > seen


async def test_wards_limit_what_is_returned(repository: Repository) -> None:
    await repository.write(scores.save_live, [live_row("p1", 1, 5), live_row("p2", 1, 5, ward="Ward B")])

    rows = await repository.read(scores.live_rows, wards=["Ward B"])

    assert [row.patient_id for row in rows] == ["p2"]
    assert await repository.read(scores.live_rows, wards=[]) == []


async def test_points_of_a_timeline_come_in_order_by_patient(repository: Repository) -> None:
    await repository.write(scores.save_scores, [score_row("p1", minute, minute) for minute in (2, 0, 1)])

    points = await repository.read(scores.recent_points, since=MINUTE)

    assert [point.score for point in points["p1"]] == [1, 2]


async def test_the_newest_standing_episode_of_each_patient_is_found(repository: Repository) -> None:
    rows = [flag_row("f1", 0), flag_row("f2", MINUTE), flag_row("f3", 2 * MINUTE, status="withdrawn")]
    stored = await repository.write(flags.save, rows, now=5)

    newest = await repository.read(flags.newest_episodes, ["p1"])

    assert newest["p1", "news2"].flag_id == "f2"
    assert [row.change for row in stored] == [1, 1, 1]


async def test_a_flag_counts_as_unwritten_until_its_newest_change_is_written(repository: Repository) -> None:
    [first] = await repository.write(flags.save, [flag_row("f1", 0)], now=5)
    [second] = await repository.write(flags.save, [first], now=6)
    await repository.write(flags.mark_written, [("f1", first.change)])
    still = await repository.read(flags.unwritten, limit=10)
    await repository.write(flags.mark_written, [("f1", second.change)])
    await repository.write(flags.mark_written, [("f1", first.change)])

    assert [row.flag_id for row in still] == ["f1"]
    assert await repository.read(flags.unwritten, limit=10) == []


async def test_the_worklist_puts_unacknowledged_and_urgent_first(repository: Repository) -> None:
    rows = [
        alert_row("seen", acknowledged_at=20, priority="high", raised_at=1),
        alert_row("old-medium", priority="medium", raised_at=2),
        alert_row("new-high", raised_at=9),
        alert_row("old-high", raised_at=3),
        alert_row("closed", closed_at=30),
    ]
    for row in rows:
        await repository.write(alerts.save, row, [])

    listed = await repository.read(alerts.worklist)

    assert [row.alert_id for row in listed] == ["old-high", "new-high", "old-medium", "seen"]
    assert [row.alert_id for row in await repository.read(alerts.worklist, "done")] == ["closed"]


async def test_an_event_is_stored_once(repository: Repository) -> None:
    event = transition_row("e1")
    await repository.write(alerts.save, alert_row("a1"), [event])
    await repository.write(alerts.save, alert_row("a1"), [event])

    found = await repository.read(alerts.transitions, ["a1"])
    waiting = await repository.read(alerts.unpublished)
    await repository.write(alerts.mark_published, ["e1"])

    assert [row.event_id for row in found["a1"]] == ["e1"]
    assert len(waiting) == 1
    assert await repository.read(alerts.unpublished) == []


async def test_an_outbox_key_enters_once_and_leaves_in_order(repository: Repository) -> None:
    first = OutboxRow(
        entry_key="k1",
        kind="notification",
        alert_id="a1",
        patient_id="p1",
        channels_json='["log"]',
        body_json="{}",
        created_at=1,
        due_at=1,
    )
    entered = await repository.write(outbox.put, [first, replace(first, entry_key="k2"), first])
    [due, _] = await repository.read(outbox.due, "notification", 5)
    await repository.write(outbox.save, [replace(due, state="sent", channel="log", sent_at=6)])

    assert entered == 2
    assert due.entry_key == "k1"
    assert [row.entry_key for row in await repository.read(outbox.due, "notification", 5)] == ["k2"]
    assert await repository.read(outbox.count) == {("notification", "sent"): 1, ("notification", "waiting"): 1}


async def test_the_audit_chain_shows_a_changed_act(repository: Repository) -> None:
    for action in ("read", "acknowledge", "read"):
        await repository.write(people.record_act, actor="nurse", action=action, now=1, patient_id="p1")
    assert await repository.read(people.verify_acts) is None

    with repository.writing() as transaction:
        transaction.execute(text("UPDATE audit_log SET actor = 'other' WHERE number = 2"))

    assert await repository.read(people.verify_acts) == 2


async def test_a_user_keeps_the_wards_given(repository: Repository) -> None:
    nurse = UserRow(user_name="nurse", password_hash="h", role="nurse", wards_json='["Ward A"]', created_at=1)
    await repository.write(people.add_user_if_new, nurse)
    assert not await repository.write(people.add_user_if_new, replace(nurse, role="ops"))

    found = await repository.read(people.user, "nurse")

    assert found == nurse
    assert people.wards_of(nurse) == frozenset({"Ward A"})
    assert people.wards_of(replace(nurse, wards_json="null")) is None


async def test_reports_count_what_is_there(repository: Repository) -> None:
    await repository.write(scores.save_live, [live_row("p1", 1, 5, band="high"), live_row("p2", 1, 5)])
    await repository.write(scores.save_scores, [score_row("p1", 1), score_row("p2", 1)])
    await repository.write(flags.save, [flag_row("f1", 0)], now=5)
    await repository.write(alerts.save, alert_row("a1", acknowledged_at=4_000_010, state="acknowledged"), [])
    await repository.write(alerts.save, alert_row("a2"), [])

    run = await repository.write(reports.refresh, now=2 * MINUTE, cause="manual", requested_by="nurse")
    [ward] = await repository.read(reports.ward_summary)
    [burden] = await repository.read(reports.alert_burden)

    assert (ward.patients, ward.high, ward.low, ward.flags_open) == (2, 1, 1, 1)
    assert (ward.alerts_open, ward.alerts_unacknowledged) == (2, 1)
    assert (burden.alerts, burden.patient_days, burden.alerts_per_patient_day) == (2, 2.0, 1.0)
    assert (burden.acknowledged, burden.median_acknowledge_seconds) == (1, 4.0)
    assert await repository.read(reports.last_refresh) == run


async def test_views_for_reports_answer(repository: Repository) -> None:
    await repository.write(scores.save_live, [live_row("p1", 1, 5)])
    await repository.write(scores.save_scores, [score_row("p1", 1)])
    await repository.write(alerts.save, alert_row("a1"), [])

    with repository.reading() as transaction:
        counts = [
            transaction.execute(text(f"SELECT count(*) FROM {view}")).scalar()
            for view in ("fact_score", "fact_alert", "v_hot_board")
        ]

    assert counts == [1, 1, 1]


async def test_only_the_newest_latencies_stay(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LATENCY_SAMPLES_KEPT", 3)
    await repository.write(reports.add_latencies, "recorded", [0.1, 0.2])
    await repository.write(reports.add_latencies, "recorded", [0.3, 0.4])

    assert await repository.read(reports.latency_samples) == [0.2, 0.3, 0.4]
