"""Steps 12-15: from a batch of scores to repository, Flag facts, FHIR and screens."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limited_fhir import limited_server
from pulseweir.backends.bus.embedded import EmbeddedBus
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, flags, people, reports, scores
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.hot_path.fhir_risk import FhirRiskStage
from pulseweir.hot_path.flag import Episode, FlagSettings, JudgedWindow, judge
from pulseweir.hot_path.flag_record import to_episode
from pulseweir.hot_path.live import LiveFeed
from pulseweir.hot_path.risk_output import RecordStage
from pulseweir.hot_path.settings import CareRoutingSettings, FhirRiskSettings, RiskAssessmentSettings
from pulseweir.records.codes import WARD_IDENTIFIER_SYSTEM
from pulseweir.records.flag_facts import FlagFact, flag_facts
from pulseweir.records.topics import ALERT_EVENTS, RISK_SCORE_SCHEMA

MINUTE = 60_000_000
FLAGS, ROUTING = FlagSettings(), CareRoutingSettings()


def row(patient_id: str, minute: int, score: float | None = 1, **other: Any) -> dict[str, Any]:
    start = minute * MINUTE
    band = None if score is None else "high" if score >= 7 else "medium" if score >= 5 else "low"
    facts = {
        "patient_id": patient_id,
        "model": "news2",
        "model_version": "1",
        "window_start": start,
        "window_end": start + MINUTE,
        "revision": 1,
        "preliminary": False,
        "live": False,
        "backfill": False,
        "status": "insufficient-data" if score is None else "complete",
        "score": score,
        "probability": None,
        "band": band,
        "single_red": False,
        "contributions_json": '[{"parameter":"pulse","points":2}]',
        "inputs_json": "[]",
        "missing": [],
        "stale": [],
        "basis": ["b" * 64],
        "newest_occurred_at": start + 30_000_000,
        "newest_received_at": start + 31_000_000,
        "ward": "Ward A",
        "bed": "Bed 01",
        "age_years": 70,
        "sex": "female",
        "spo2_scale": 1,
        "scored_at": start + MINUTE,
    }
    return facts | other


def live(patient_id: str, minute: int, score: float, **other: Any) -> dict[str, Any]:
    return row(patient_id, minute, score, live=True, preliminary=True, revision=0, **other)


def table(*rows: dict[str, Any]) -> dict[int, pa.Table]:
    return {0: pa.Table.from_pylist(list(rows), schema=RISK_SCORE_SCHEMA)}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    opened = Repository.open(f"sqlite:///{tmp_path / 'repository.sqlite'}", Clock())
    yield opened
    opened.close()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    opened = EmbeddedBus.open(tmp_path / "bus")
    yield opened
    await opened.close()


@pytest.fixture
async def fhir(tmp_path: Path) -> AsyncIterator[FhirClient]:
    store = FhirStore.open(tmp_path / "fhir", Clock())
    client = FhirClient("http://store/fhir", transport=httpx.ASGITransport(create_app(store)))
    yield client
    await client.close()
    store.close()


def record_stage(repository: Repository, bus: EmbeddedBus) -> RecordStage:
    return RecordStage(repository, bus, FLAGS, ROUTING)


def fhir_stage(repository: Repository, fhir: FhirClient, **options: Any) -> FhirRiskStage:
    return FhirRiskStage(repository, fhir, FhirRiskSettings(**options), RiskAssessmentSettings(), ROUTING)


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


# FHIR


async def test_each_final_window_becomes_an_observation_and_a_risk_assessment(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    batch = table(row("p1", 0, 8), row("p1", 1, 1), row("p2", 0, None, missing=["spo2"]))
    await record_stage(repository, bus).handle(batch)

    handled = await fhir_stage(repository, fhir, windows_per_bundle=2).handle(batch)

    assert handled.outcome.tallies == {"written": 3}
    assessments = await fhir.search("RiskAssessment", {})
    observations = await fhir.search("Observation", {})
    [flag] = await fhir.search("Flag", {})
    assert (len(assessments), len(observations)) == (3, 3)
    [high] = [one for one in assessments if one.get("mitigation", "").startswith("Emergency")]
    assert high["prediction"][0]["qualitativeRisk"]["coding"][0]["code"] == "high"
    [unknown] = [one for one in assessments if "qualitativeRisk" not in one["prediction"][0]]
    assert "Missing: oxygen saturation" in unknown["prediction"][0]["rationale"]
    evidence = [part for part in flag["extension"] if part["url"].endswith("flag-detail")]
    assert [part["valueReference"]["reference"] for part in evidence] == [f"RiskAssessment/{high['id']}"]
    assert flag["status"] == "active"
    assert await fhir.read("Device", "model-news2-1") is not None
    assert await repository.read(flags.unwritten, limit=5) == []


async def test_a_closed_flag_is_written_with_its_end(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    record, write = record_stage(repository, bus), fhir_stage(repository, fhir)
    for minute, score in enumerate((8, 1, 1)):
        await record.handle(table(row("p1", minute, score)))
        await write.handle(table(row("p1", minute, score)))

    [flag] = await fhir.search("Flag", {})

    assert flag["status"] == "inactive"
    assert flag["period"] == {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:03:00.000Z"}


async def test_a_score_that_is_not_recorded_yet_waits(repository: Repository, fhir: FhirClient) -> None:
    with pytest.raises(RetryLater, match="record"):
        await fhir_stage(repository, fhir, record_wait_seconds=0).handle(table(row("p1", 0, 8)))


async def test_a_revision_amends_and_an_old_one_is_passed_over(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    first, second = row("p1", 0, 1), row("p1", 0, 8, revision=2)
    await record_stage(repository, bus).handle(table(first, second))

    handled = await fhir_stage(repository, fhir).handle(table(first, second))

    [assessment] = await fhir.search("RiskAssessment", {})
    assert assessment["status"] == "amended"
    assert handled.outcome.tallies == {"superseded": 1, "written": 1}


async def test_a_preliminary_assessment_is_written_only_when_the_band_rises(
    repository: Repository, bus: EmbeddedBus, fhir: FhirClient
) -> None:
    batch = table(live("p1", 0, 1), live("p1", 0, 6), live("p1", 0, 6), live("p2", 0, 1))
    await record_stage(repository, bus).handle(batch)
    stage = fhir_stage(repository, fhir)

    handled = await stage.handle(batch)
    await stage.handle(batch)

    assert handled.outcome.tallies == {"live": 3, "written": 1}
    [assessment] = await fhir.search("RiskAssessment", {})
    assert (assessment["status"], assessment["meta"]["versionId"]) == ("preliminary", "1")


async def test_a_refused_window_is_set_aside_and_its_neighbours_are_written(
    repository: Repository, bus: EmbeddedBus
) -> None:
    written: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(201, json=msgspec.json.decode(request.content))
        bundle = msgspec.json.decode(request.content)
        entries = bundle["entry"]
        if any("Patient/p2" in str(entry) for entry in entries):
            issue = {"severity": "error", "code": "invalid", "diagnostics": "no"}
            return httpx.Response(422, json={"resourceType": "OperationOutcome", "issue": [issue]})
        written.extend(entry["request"]["url"] for entry in entries)
        done = [{"response": {"status": "200"}} for _ in entries]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response", "entry": done})

    fhir = FhirClient("http://faulty/fhir", transport=httpx.MockTransport(answer))
    batch = table(row("p1", 0, 8), row("p2", 0, 1), row("p3", 0, 1))
    await record_stage(repository, bus).handle(batch)

    handled = await fhir_stage(repository, fhir).handle(batch)

    await fhir.close()
    assert handled.outcome.tallies == {"written": 2}
    [refused] = handled.outcome.quarantined
    assert (refused.reason, refused.row["patient_id"].to_pylist()) == ("fhir-refused", ["p2"])
    assert len(written) == 5


@pytest.mark.parametrize("lacking", [("transaction",), ("transaction", "batch"), ("client-ids",), ("versions",)])
async def test_a_server_that_can_less_holds_the_same_assessments_and_flags(
    lacking: tuple[str, ...], repository: Repository, bus: EmbeddedBus, tmp_path: Path
) -> None:
    batch = table(row("p1", 0, 8), row("p1", 1, 1), row("p2", 0, 1))
    await record_stage(repository, bus).handle(batch)

    with limited_server(tmp_path / "limited", *lacking) as (client, whole, _):
        stage = fhir_stage(repository, client)
        handled = await stage.handle(batch)
        await stage.handle(batch)
        assessments = {f"RiskAssessment/{one['id']}": one for one in await whole.search("RiskAssessment", {})}
        observations = await whole.search("Observation", {})
        [device] = await whole.search("Device", {})
        [flag] = await whole.search("Flag", {})

    assert handled.outcome.tallies == {"written": 3}
    assert len(assessments) == len(observations) == 3
    assert {one["performer"]["reference"] for one in assessments.values()} == {f"Device/{device['id']}"}
    [evidence] = [part for part in flag["extension"] if part["url"].endswith("flag-detail")]
    assert assessments[evidence["valueReference"]["reference"]]["mitigation"].startswith("Emergency")


async def test_a_server_that_takes_few_windows_at_once_is_asked_with_fewer_from_then_on(
    repository: Repository, bus: EmbeddedBus, tmp_path: Path
) -> None:
    batch = table(*(row(f"p{number}", 0, 1) for number in range(16)))
    await record_stage(repository, bus).handle(batch)

    with limited_server(tmp_path / "limited", most=5, too_many=400) as (client, whole, transport):
        stage = fhir_stage(repository, client, windows_per_bundle=8)
        await stage.handle(batch)
        learned = len(transport.asked)
        await stage.handle(batch)
        stored = await whole.count("RiskAssessment", {})

    assert stored == 16
    assert len(transport.asked) - learned == 8


async def test_a_window_that_refers_to_what_is_not_there_yet_waits_however_the_server_says_so(
    repository: Repository, bus: EmbeddedBus
) -> None:
    """HAPI answers 400 where a reference leads nowhere."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return httpx.Response(201, json=msgspec.json.decode(request.content))
        issue = {"severity": "error", "code": "processing", "diagnostics": "Resource Encounter/e1 not found"}
        return httpx.Response(400, json={"resourceType": "OperationOutcome", "issue": [issue]})

    batch = table(row("p1", 0, 8))
    await record_stage(repository, bus).handle(batch)
    fhir = FhirClient("http://strict/fhir", transport=httpx.MockTransport(answer))

    handled = await fhir_stage(repository, fhir).handle(batch)

    await fhir.close()
    assert (len(handled.outcome.parked), handled.outcome.quarantined) == (1, [])


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
