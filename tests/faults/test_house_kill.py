"""kill -9 of every role while recordings arrive: afterwards the house holds exactly what it holds without faults."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.running_house import plain_address, until
from pulseweir.backends.repository import flags, scores
from pulseweir.clock import Clock
from pulseweir.ingest.recording import plan_recording
from pulseweir.ingest.recording_plan import RecordingOptions, RecordingPlan
from pulseweir.ingest.replay_sender import Replay, pacing_clock, prepare
from pulseweir.local_house import LocalHouse
from pulseweir.operations.conserve import Conservation
from pulseweir.pipeline import ROLES
from pulseweir.run_files import read_ready
from pulseweir.systems import open_lake, open_repository

SEED = 20_240_117
KILLS = 14
CALM_SECONDS, STORM_SECONDS = 8, 30
"""How long the recording is sent in: the storm needs time for its kills."""
SETTLE_SECONDS = 90
RETURN_SECONDS = 60


@dataclass(frozen=True)
class Held:
    """What a house holds, in words that do not depend on when or how often it was written."""

    observations: int
    risk_assessments: set[str]
    flags: set[tuple[str, str]]
    scores: list[tuple[Any, ...]]
    flag_episodes: list[tuple[Any, ...]]
    lake_rows: dict[str, int]


Interference = Callable[[LocalHouse], Awaitable[None]]


async def left_alone(_: LocalHouse) -> None:
    return


async def killed_at_random(house: LocalHouse) -> None:
    """Every role at least once, in an order and at instants settled by the seed; each comes back in time."""
    chance = random.Random(SEED)
    roles = list(ROLES)
    chance.shuffle(roles)
    victims = [*roles, *(chance.choice(roles) for _ in range(KILLS - len(roles)))]
    returning: dict[str, asyncio.Task[None]] = {}
    for role in victims:
        await asyncio.sleep(chance.uniform(0.1, 3.0))
        if role in returning:
            await returning[role]
        process = house.process_ids()[role]
        os.kill(process, signal.SIGKILL)
        returning[role] = asyncio.create_task(comes_back(house, role, process))
    await asyncio.gather(*returning.values())


async def comes_back(house: LocalHouse, role: str, killed: int) -> None:
    """Return when another process of the role is ready."""

    def is_back() -> bool:
        facts = read_ready(house.settings.data_dir, role)
        return facts is not None and facts["process"] != killed

    await until(is_back, RETURN_SECONDS)


async def replayed(
    directory: Path, plan: RecordingPlan, sending_seconds: float, interfere: Interference
) -> tuple[Held, Conservation]:
    house = await LocalHouse.start(directory, Clock())
    try:
        fhir, registry = house.fhir(), house.registry()
        span = (plan.messages[-1].due_microseconds - plan.starts_microseconds) / 1_000_000
        keys = await prepare(plan, registry, fhir)
        session = Replay(plan, keys, plain_address(house), pace=pacing_clock(plan, span / sending_seconds))
        await session.connect()
        sending = asyncio.create_task(session.run())
        await interfere(house)
        assert (await sending).messages_acknowledged == len(plan.messages)
        await session.close()
        assert await house.settle(SETTLE_SECONDS)
        held, books = await found_in(house, plan), house.conserve()
        registry.close()
        await fhir.close()
        return held, books
    finally:
        await house.stop()


async def found_in(house: LocalHouse, plan: RecordingPlan) -> Held:
    fhir, repository = house.fhir(), open_repository(house.settings, house.clock)
    windows: list[tuple[Any, ...]] = []
    episodes: list[tuple[Any, ...]] = []
    for patient in plan.patients:
        history = await repository.read(scores.score_history, patient.patient_id)
        windows += [(row.patient_id, row.window_start, row.window_end, row.score, row.band) for row in history]
        opened = await repository.read(flags.flags_of, patient.patient_id)
        episodes += [(flag.flag_id, flag.start_at, flag.end_at, flag.windows, flag.status) for flag in opened]
    held = Held(
        observations=await fhir.count("Observation", {}),
        risk_assessments={one["id"] for one in await fhir.search("RiskAssessment", {})},
        flags={(one["id"], one["status"]) for one in await fhir.search("Flag", {})},
        scores=windows,
        flag_episodes=episodes,
        lake_rows={table.name: table.rows for table in open_lake(house.settings).tables()},
    )
    repository.close()
    await fhir.close()
    return held


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_killing_every_role_at_random_changes_nothing_of_what_the_house_holds(
    tmp_path: Path, test_data: Path
) -> None:
    chosen = RecordingOptions(patients=4, hours=24)
    plan = plan_recording("mimic3-demo", test_data / "mimic3-demo", Clock().now_microseconds(), chosen)
    calm, calm_books = await replayed(tmp_path / "calm", plan, CALM_SECONDS, left_alone)

    stormy, books = await replayed(tmp_path / "stormy", plan, STORM_SECONDS, killed_at_random)

    assert books.conservation_difference == 0
    assert books.messages.in_flight == books.measurements.in_flight == 0
    assert books.messages.done == calm_books.messages.done
    assert books.messages.total - books.messages.filtered.get("duplicate", 0) == len(plan.messages)
    assert stormy.scores == calm.scores
    assert stormy == calm
