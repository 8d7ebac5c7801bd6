"""Steps 12-15: from a batch of scores to repository, Flag facts, FHIR and screens."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, flags, people, reports, scores
from pulseweir.clock import Clock
from pulseweir.hot_path.flag import AcceptableRange, Episode, FlagSettings, JudgedWindow, judge
from pulseweir.hot_path.flag_record import to_episode
from pulseweir.hot_path.live import LiveFeed
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.vital_limits import VitalLimit
from pulseweir.records.codes import WARD_IDENTIFIER_SYSTEM
from pulseweir.records.flag_facts import FlagFact, flag_facts
from pulseweir.records.topics import ALERT_EVENTS
from risk_rows import FLAGS, MINUTE, ROUTING, fhir_stage, live, record_stage, row, table


async def published(bus: EmbeddedBus) -> list[FlagFact]:
    subscription = await bus.subscribe(ALERT_EVENTS, "test")
    deliveries = await subscription.read(wait_seconds=1, row_limit=1_000)
    await subscription.close()
    return [fact for delivery in deliveries for fact in flag_facts(delivery.table)]


# The repository


async def test_a_batch_is_recorded_and_its_flag_published(repository: Repository, bus: EmbeddedBus) -> None:
    stage = record_stage(repository, bus)

    handled = await stage.handle(table(row("p1", 0), row("p1", 1, 8), row("p2", 1)))

    assert handled.outcome.tallies == {"recorded": 3}
    [flag] = await repository.read(flags.open_flags)
    assert (flag.patient_id, flag.start_at, flag.last_score) == ("p1", MINUTE, 8)
    [fact] = await published(bus)
    assert (fact.flag_id, fact.status, fact.band, fact.backfill) == (flag.flag_id, "active", "high", False)
    assert fact.reason == "NEWS2 8 (high). Raised by pulse 2."


async def test_what_is_told_of_a_flag_says_what_was_missing_doubtful_and_not_known(
    repository: Repository, bus: EmbeddedBus
) -> None:
    heart = '[{"vital":"heart_rate","value":131,"newest":{"value":0,"quality":"impossible"}}]'
    facts = {"missing": ["temperature"], "doubtful": ["pulse"], "unknown": ["age"], "inputs_json": heart}

    await record_stage(repository, bus).handle(table(row("p1", 1, 8, status="partial", **facts)))

    [fact] = await published(bus)
    assert fact.reason == (
        "NEWS2 8 (high). Raised by pulse 2. Missing: temperature. Doubtful: pulse (newest reading impossible;"
        " last good value used). Age not known. The true score may be higher."
    )


async def test_redelivery_changes_nothing(repository: Repository, bus: EmbeddedBus) -> None:
    batch = table(row("p1", 0, 8), row("p1", 1, 8), live("p1", 2, 9))
    await record_stage(repository, bus).handle(batch)
    before = await repository.read(flags.open_flags), await repository.read(scores.live_rows)

    handled = await record_stage(repository, bus).handle(batch)

    assert handled.outcome.tallies == {"unchanged": 3}
    after = await repository.read(flags.open_flags), await repository.read(scores.live_rows)
    assert [(one.change, one.windows) for one in after[0]] == [(one.change, one.windows) for one in before[0]]
    assert after[1] == before[1]


async def test_a_fact_that_was_stored_and_not_noted_as_published_comes_again(
    repository: Repository, bus: EmbeddedBus
) -> None:
    await record_stage(repository, bus).handle(table(row("p1", 0, 8)))

    restarted = record_stage(repository, bus)
    await restarted.tick()
    await restarted.tick()
    await restarted.tick()

    facts = await published(bus)
    assert len(facts) == 2
    assert facts[0] == facts[1]


async def test_live_rows_open_no_flag_and_measure_latency(tmp_path: Path, bus: EmbeddedBus) -> None:
    clock = Clock(real_start_microseconds=0, simulated_start_microseconds=0, speed=10.0)
    repository = Repository.open(f"sqlite:///{tmp_path / 'fast.sqlite'}", clock)
    occurred_at = clock.now_microseconds() - 20_000_000
    stage = record_stage(repository, bus)

    await stage.handle(table(live("p1", 5, 9, newest_occurred_at=occurred_at)))
    await stage.handle(table(live("p2", 5, 9, backfill=True)))
    await stage.tick()

    assert await repository.read(flags.open_flags) == []
    [latency] = await repository.read(reports.latency_samples)
    assert latency >= 2.0
    assert latency < 60
    repository.close()


async def test_a_late_revision_withdraws_the_flag_it_takes_back(repository: Repository, bus: EmbeddedBus) -> None:
    stage = record_stage(repository, bus)
    await stage.handle(table(row("p1", 0, 8), row("p1", 1, 8), row("p1", 2, 1)))
    [first] = await repository.read(flags.open_flags)

    await stage.handle(table(row("p1", 0, 1, revision=2)))

    [second] = await repository.read(flags.open_flags)
    withdrawn = (await repository.read(flags.by_id, [first.flag_id]))[first.flag_id]
    assert (second.start_at, withdrawn.status) == (MINUTE, "withdrawn")
    linked = await repository.read(scores.windows_of_flags, [first.flag_id, second.flag_id])
    assert {key: len(rows) for key, rows in linked.items()} == {second.flag_id: 1}


SCORES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from([1, 1, 6, 8, None])), max_size=25)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(deliveries=SCORES, size=st.integers(1, 6))
async def test_stored_flags_equal_a_recomputation_from_the_last_revisions(
    tmp_path_factory: pytest.TempPathFactory, deliveries: list[tuple[int, int, float | None]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("house")
    repository = Repository.open(f"sqlite:///{folder / 'repository.sqlite'}", Clock())
    bus = EmbeddedBus.open(folder / "bus")
    stage = record_stage(repository, bus)
    known = {(minute, revision): score for minute, revision, score in deliveries}
    rows = [row("p1", minute, known[minute, revision], revision=revision) for minute, revision, _ in deliveries]

    for first in range(0, len(rows), size):
        await stage.handle(table(*rows[first : first + size]))

    last = {minute: known[minute, max(r for m, r in known if m == minute)] for minute, _ in known}
    windows = [
        JudgedWindow(
            start=minute * MINUTE,
            end=(minute + 1) * MINUTE,
            outside=None if score is None else score >= 5,
            score=score,
            band="high" if (score or 0) >= 7 else "medium" if (score or 0) >= 5 else "low",
            model_version="1",
            ward="Ward A",
            bed="Bed 01",
        )
        for minute, score in last.items()
    ]
    wanted = judge(windows, patient_id="p1", rule="news2", settings=FLAGS)
    stored: list[Episode] = [
        to_episode(flag) for flag in await repository.read(flags.episodes, "p1", "news2") if flag.status != "withdrawn"
    ]
    history = await repository.read(scores.score_history, "p1")
    await bus.close()
    repository.close()
    assert stored == wanted.episodes
    assert {(one.window_start, one.window_end): one.flag_id for one in history} == wanted.links


async def test_the_wards_care_team_is_found_and_stored(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    team = {
        "resourceType": "CareTeam",
        "id": "team-a",
        "status": "active",
        "name": "A nurses",
        "identifier": [{"system": WARD_IDENTIFIER_SYSTEM, "value": "Ward A"}],
    }
    own = {"resourceType": "CareTeam", "id": "own", "name": "Own", "subject": {"reference": "Patient/p2"}}
    await fhir.update(team)
    await fhir.update(own)
    await fhir_stage(repository, fhir).tick()

    await record_stage(repository, bus).handle(table(row("p1", 0), row("p2", 0), row("p3", 0, ward=None)))

    teams = {one.patient_id: one.care_team for one in await repository.read(scores.live_rows)}
    assert teams == {"p1": "A nurses", "p2": "Own", "p3": "Ward team"}
    assert len(await repository.read(people.care_teams)) == 2


# Screens


async def test_a_screen_gets_the_full_state_and_then_each_change(repository: Repository, bus: EmbeddedBus) -> None:
    stage = record_stage(repository, bus)
    await stage.handle(table(row("p1", 0)))
    feed = LiveFeed(repository, poll_seconds=0.01)
    await feed.start()
    first_screen, second_screen = feed.subscribe(), feed.subscribe()
    states = [await anext(first_screen), await anext(second_screen)]

    await stage.handle(table(live("p2", 1, 6)))
    changes = await asyncio.gather(anext(first_screen), anext(second_screen))

    await feed.close()
    assert all(state.complete and [one.patient_id for one in state.rows] == ["p1"] for state in states)
    assert all([one.patient_id for one in change.rows] == ["p2"] for change in changes)
    assert all(change.server_time > 0 and change.sequence > states[0].sequence for change in changes)


async def test_what_the_full_state_held_is_not_told_again_as_a_change(repository: Repository, bus: EmbeddedBus) -> None:
    stage = record_stage(repository, bus)
    await stage.handle(table(row("p1", 0)))
    feed = LiveFeed(repository)
    first_screen, second_screen = feed.subscribe(), feed.subscribe()
    await asyncio.gather(anext(first_screen), anext(second_screen))

    await stage.handle(table(live("p2", 1, 6)))
    await feed.look()
    changes = await asyncio.gather(anext(first_screen), anext(second_screen))

    assert [[one.patient_id for one in change.rows] for change in changes] == [["p2"], ["p2"]]


async def test_a_screen_that_fell_behind_starts_from_the_full_state(
    repository: Repository, bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulseweir.hot_path.live._WAITING_UPDATES", 1)
    stage = record_stage(repository, bus)
    await stage.handle(table(row("p1", 0)))
    feed = LiveFeed(repository, poll_seconds=0.01)
    screen = feed.subscribe()
    await anext(screen)

    for minute in (1, 2, 3):
        await stage.handle(table(row("p1", minute)))
        await feed.look()
    update = await anext(screen)

    await screen.aclose()
    assert update.complete
    assert update.rows[0].window_start == 3 * MINUTE


# Limits of single vitals, and what is known of a patient too little is known of


SPO2_84 = '[{"vital":"spo2","value":84,"usable":true,"age_seconds":5}]'
ABSTAINING = {"status": "abstained", "abstained": "age-under-16", "contributions_json": "[]", "band": None}


def limited_stage(repository: Repository, bus: EmbeddedBus, **limit: object) -> RecordStage:
    limits = (VitalLimit.model_validate({"vital": "spo2", "below": 90} | limit),)
    return RecordStage(repository, bus, FlagSettings(acceptable_range=AcceptableRange(vital_limits=limits)), ROUTING)


async def test_a_vital_beyond_its_limit_raises_a_flag_of_a_patient_who_is_not_scored(
    repository: Repository, bus: EmbeddedBus
) -> None:
    stage = limited_stage(repository, bus, band="high", age_under=16)
    child = ABSTAINING | {"age_years": 0, "inputs_json": SPO2_84}

    await stage.handle(table(row("p1", 0, None, **child), row("p2", 0, None, **(child | {"age_years": 40}))))
    await stage.handle(table(row("p1", 1, None, **child)))
    await stage.handle(table(row("p1", 0, None, **(child | {"revision": 2}))))

    facts = await published(bus)
    assert {fact.patient_id for fact in facts} == {"p1"}
    assert {(fact.status, fact.band, fact.score) for fact in facts} == {("active", "high", None)}
    assert facts[0].reason.startswith("SpO2 84 below 90. ")
    assert facts[0].reds == ["spo2"]
    [flag] = await repository.read(flags.open_flags)
    assert (flag.windows, flag.peak_band) == (2, "high")


async def test_a_flag_ends_when_the_patient_may_no_longer_be_scored(repository: Repository, bus: EmbeddedBus) -> None:
    stage = record_stage(repository, bus)
    await stage.handle(table(row("p1", 0, 8), row("p2", 0, 8)))

    await stage.handle(table(row("p1", 1, None, **ABSTAINING), row("p1", 2, None, **ABSTAINING)))
    await stage.handle(table(row("p2", 0, None, **(ABSTAINING | {"revision": 2}))))

    assert await repository.read(flags.open_flags) == []
    assert [fact.status for fact in await published(bus)] == ["active", "active", "inactive", "withdrawn"]


async def test_too_few_values_that_are_outside_already_raise_a_flag(repository: Repository, bus: EmbeddedBus) -> None:
    reds = '[{"parameter":"spo2","points":3},{"parameter":"pulse","points":2}]'

    await record_stage(repository, bus).handle(table(row("p1", 0, None, contributions_json=reds), row("p2", 0, None)))

    [fact] = await published(bus)
    assert (fact.patient_id, fact.band, fact.score, fact.reds) == ("p1", "medium", None, ["spo2"])
