"""A measurement is never attributed to a patient who did not have the device at that instant.

Whatever is assigned, moved, released or corrected, in whatever order measurements arrive, however long an answer
has been remembered: checked against a plain table of who had the device at each instant.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from identity_house import SECOND, IdentityHouse, at
from pulseweir.clock import to_text
from pulseweir.ingest.device_mapping.tokens import LAST_INSTANT, parse_instant
from pulseweir.ingest.device_uses import Use
from pulseweir.ingest.identity import Identity, Question
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.operations.assign import Assignments
from pulseweir.operations.assignment_plan import AssignmentRefused

DEVICES = ("d", "e")
PATIENTS = ("anna", "bert", "carla")
HORIZON = 24
HALF = SECOND // 2
START = at("08:00")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[IdentityHouse]:
    made = IdentityHouse(tmp_path)
    yield made
    await made.close()


@pytest.mark.parametrize("told", [True, False])
async def test_a_device_moved_while_readings_flow_is_followed_at_once(house: IdentityHouse, told: bool) -> None:
    for patient in ("anna", "bert"):
        await house.put("Patient", patient)
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", Use("anna", at("08:00"), LAST_INSTANT))
    identity = house.identity(told=told, cache_seconds=3_600)
    house.now = at("10:00")
    assert (await identity.resolve("d", house.now - SECOND)).patient_id == "anna"

    await assignments.assign("d", Use("bert", at("10:00"), LAST_INSTANT))
    house.now = at("10:00") + HALF
    found = [(await identity.resolve("d", at("10:00") + shift)).patient_id for shift in (-1, 0, 1)]

    assert found == ["anna", "bert", "bert"]


async def test_told_of_changes_a_late_correction_holds_for_old_instants_too(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u", "d", "anna", "08:00")
    identity = house.identity(cache_seconds=3_600)
    house.now = at("12:00")
    assert (await identity.resolve("d", at("09:00"))).patient_id == "anna"

    await house.add_use("u", "d", "bert", "08:00")
    assert (await identity.resolve("d", at("09:00"))).patient_id == "bert"
    await house.fhir.send_bundle([{"request": {"method": "DELETE", "url": "DeviceUseStatement/u"}}])
    assert (await identity.resolve("d", at("09:00"))).missing == "patient-unknown"
    await house.add_device("d", patient="carla")
    assert (await identity.resolve("d", at("09:00"))).patient_id == "carla"


async def test_not_told_a_late_correction_holds_once_memory_has_aged(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u", "d", "anna", "08:00")
    identity = house.identity(told=False, cache_seconds=15)
    await identity.resolve("d", at("09:00"))

    await house.add_use("u", "d", "bert", "08:00")
    house.seconds = 15.0

    assert (await identity.resolve("d", at("09:00"))).patient_id == "bert"


async def test_while_nothing_changes_nothing_is_asked(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")
    await house.put("Patient", "anna", identifier=[{"value": "A"}])
    await house.add_encounter("e", "visit", "anna")
    told, alone = house.identity(), house.identity(told=False)
    for identity in (told, alone):
        await identity.resolve("d", at("11:00"), "visit", "A")
    house.requests.clear()

    for minute in range(60):
        house.seconds += 0.1
        await told.resolve("d", at(f"13:{minute:02d}"), "visit", "A")
        await alone.resolve("d", at(f"11:{minute:02d}"), "visit", "A")

    assert house.requests == []


async def test_without_a_count_the_time_of_asking_decides(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")
    identity = house.identity(told=True)
    identity._changes = lambda: None
    await identity.resolve("d", at("13:00"))
    house.requests.clear()

    await identity.resolve("d", at("11:00"))
    assert house.requests == []
    await identity.resolve("d", at("13:00"))
    assert len(house.requests) == 2


Table = dict[tuple[str, int], frozenset[str]]
"""Whose a device was in each half second: a table, and nothing clever."""


@dataclass(frozen=True)
class Step:
    """Something that happens.

    Attributes:
        kind: assign, replace, release, wait; or what others do without asking: write a statement, erase one
            (it was entered in error) or delete it.
        device: Which device.
        patient: Who gets it.
        start: Second at which it begins.
        length: Seconds it lasts; 0 for open.
        measured: Half second of a measurement that arrives afterwards.
        wait_seconds: How long nothing happened before.
    """

    kind: str
    device: str
    patient: str
    start: int
    length: int
    measured: int
    wait_seconds: int


steps = st.builds(
    Step,
    kind=st.sampled_from(["assign", "assign", "replace", "release", "write", "erase", "delete", "wait"]),
    device=st.sampled_from([DEVICES[0], *DEVICES]),
    patient=st.sampled_from(PATIENTS),
    start=st.integers(0, HORIZON - 1),
    length=st.sampled_from([0, 0, 0, 1, 4, 9]),
    measured=st.integers(0, 2 * HORIZON - 1),
    wait_seconds=st.sampled_from([0, 0, 0, 1, 3, 20]),
)


class Ward:
    """The commands, others who edit statements, a connector that remembers, and the table they are held against."""

    def __init__(self, house: IdentityHouse, identity: Identity) -> None:
        self.house = house
        self.identity = identity
        self.assignments = Assignments(house.fhir, IdentitySettings())
        house.now = START

    async def table(self) -> Table:
        """Read from the statements themselves."""
        found: dict[tuple[str, int], set[str]] = {}
        for statement in await self.house.fhir.search("DeviceUseStatement", {}):
            if statement["status"] == "entered-in-error":
                continue
            period = statement["timingPeriod"]
            [device] = [one for one in DEVICES if statement["device"]["reference"].endswith(f"fhir-{one}")]
            patient = statement["subject"]["reference"].removeprefix("Patient/")
            end = parse_instant(period["end"]) if "end" in period else LAST_INSTANT
            for half in range(2 * HORIZON):
                if parse_instant(period["start"]) <= instant_of(half) < end:
                    found.setdefault((device, half), set()).add(patient)
        return {key: frozenset(patients) for key, patients in found.items()}

    async def change(self, step: Step, start: int) -> None:
        """One change, and what it may do to the table."""
        before = await self.table()
        end = start + step.length if step.length else HORIZON
        use = Use(step.patient, instant_of(2 * start), instant_of(2 * end) if step.length else LAST_INSTANT)
        try:
            if step.kind == "release":
                await self.assignments.release(step.device, instant_of(2 * start))
            else:
                await self.assignments.assign(step.device, use, replacing=step.kind == "replace")
        except AssignmentRefused:
            assert await self.table() == before
            return
        after = await self.table()
        for device in DEVICES:
            for half in range(2 * HORIZON):
                was, now = (table.get((device, half), frozenset()) for table in (before, after))
                inside = device == step.device and 2 * start <= half
                if inside and step.kind != "release" and half < 2 * end:
                    assert now == {step.patient}
                elif not inside or step.kind == "replace":
                    assert now == was
                else:
                    assert now <= was
        if step.kind == "release":
            assert (step.device, 2 * start) not in after

    async def edit(self, step: Step) -> None:
        """Somebody else writes a statement or takes one back, without any command of ours."""
        if step.kind == "write":
            period = {"start": to_text(instant_of(2 * step.start))}
            if step.length:
                period["end"] = to_text(instant_of(2 * (step.start + step.length)))
            await self.house.put(
                "DeviceUseStatement",
                f"other-{step.patient}-{step.start % 3}",
                status="active",
                subject={"reference": f"Patient/{step.patient}"},
                device={"reference": f"Device/fhir-{step.device}"},
                timingPeriod=period,
            )
            return
        found = await self.house.fhir.search("DeviceUseStatement", {"_sort": "_id"})
        if not found:
            return
        chosen = found[step.start % len(found)]
        url = f"DeviceUseStatement/{chosen['id']}"
        if step.kind == "delete":
            await self.house.fhir.send_bundle([{"request": {"method": "DELETE", "url": url}}])
        else:
            await self.house.fhir.update(chosen | {"status": "entered-in-error"})

    async def measure(self, half: int, *, exactly: bool) -> None:
        """A batch of measurements around an instant, none of them anybody else's."""
        truth = await self.table()
        halves = range(half % 3, 2 * HORIZON, 3) if exactly else (half, (half + 7) % (2 * HORIZON))
        questions = [Question(device, instant_of(one)) for device in DEVICES for one in halves]
        answers = await self.identity.resolve_many(questions)
        for question, answer in answers.items():
            owners = truth.get((question.device_id, half_of(question.occurred_at_microseconds)), frozenset())
            owner = next(iter(owners)) if len(owners) == 1 else None
            if answer.patient_id is None and not exactly:
                continue
            if owner is None and half_of(question.occurred_at_microseconds) % 2 == 0:
                # An association's last instant is still its own.
                owner = await self.last_owner(question, truth) if not owners else None
            assert answer.patient_id == owner

    async def last_owner(self, question: Question, truth: Table) -> str | None:
        owners = truth.get((question.device_id, half_of(question.occurred_at_microseconds) - 1), frozenset())
        return next(iter(owners)) if len(owners) == 1 else None


def instant_of(half: int) -> int:
    return START + half * HALF


def half_of(instant: int) -> int:
    return (instant - START) // HALF


async def play(history: list[Step], *, told: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        house = IdentityHouse(Path(directory))
        for patient in PATIENTS:
            await house.put("Patient", patient)
        for device in DEVICES:
            await house.add_device(device)
        ward = Ward(house, house.identity(told=told, cache_seconds=1e9))
        try:
            for step in history:
                house.seconds += step.wait_seconds
                house.now += step.wait_seconds * SECOND
                # Who is not told of changes is promised only that none of them reaches back before it was entered.
                entered = -(-(house.now - START) // SECOND)
                start = step.start if told else min(entered + step.start // 4, HORIZON - 1)
                if step.kind in {"assign", "replace", "release"} and (told or entered < HORIZON):
                    await ward.change(step, start)
                elif step.kind in {"write", "erase", "delete"} and told:
                    await ward.edit(step)
                await ward.measure(step.measured, exactly=told)
        finally:
            await house.close()


many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Histories are short; making them shorter would outlast the time a test may take.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)


@many
@given(st.lists(steps, min_size=4, max_size=16))
def test_told_of_changes_every_answer_is_the_truth_of_the_moment(history: list[Step]) -> None:
    asyncio.run(play(history, told=True))


@many
@given(st.lists(steps, min_size=4, max_size=16))
def test_not_told_no_answer_names_a_patient_who_did_not_have_the_device(history: list[Step]) -> None:
    asyncio.run(play(history, told=False))
