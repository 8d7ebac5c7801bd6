"""Who wears a device: one at a time, whoever writes, and said aloud when it cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from identity_house import IdentityHouse, at
from pulseweir.cli import app
from pulseweir.errors import RefuseToStart, RetryLater
from pulseweir.ingest.device_mapping.tokens import LAST_INSTANT
from pulseweir.ingest.device_uses import Use
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.operations import assign as operation
from pulseweir.operations.assign import Assignments, instant_of
from pulseweir.operations.assignment_plan import AssignmentRefused
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM

Json = dict[str, Any]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[IdentityHouse]:
    made = IdentityHouse(tmp_path)
    for patient in ("anna", "bert", "carla"):
        await made.put("Patient", patient)
    yield made
    await made.close()


def use(patient: str, start: str, end: str | None = None) -> Use:
    return Use(patient, at(start), at(end) if end else LAST_INSTANT)


async def book_of(house: IdentityHouse, device_id: str = "d") -> list[tuple[str, str | None, str | None]]:
    rows = await Assignments(house.fhir, IdentitySettings()).listed(device_id)
    assert not any(row["fault"] for row in rows)
    return [(row["patient"], *(text and text[11:16] for text in (row["start"], row["end"]))) for row in rows]


async def test_a_device_moved_to_the_next_patient_leaves_the_one_before(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())

    first = await assignments.assign("d", use("anna", "08:00"))
    await assignments.assign("d", use("bert", "10:00"))

    assert await book_of(house) == [("anna", "08:00", "10:00"), ("bert", "10:00", None)]
    assert (first.device_id, first.patient_id, first.end, first.recorded) == ("d", "anna", None, 0)
    statuses = [one["status"] for one in await house.fhir.search("DeviceUseStatement", [("_sort", "_id")])]
    assert sorted(statuses) == ["active", "completed"]


async def test_assigning_again_moves_the_end(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())

    for end in (None, "11:00", "12:00"):
        await assignments.assign("d", use("anna", "08:00", end))

    assert await book_of(house) == [("anna", "08:00", "12:00")]


@pytest.mark.parametrize(
    ("wanted", "replaced"),
    [
        (use("bert", "07:00"), [("bert", "07:00", None)]),
        (use("bert", "07:00", "09:00"), [("bert", "07:00", "09:00"), ("anna", "09:00", "10:00")]),
        (use("bert", "09:00"), [("anna", "08:00", "09:00"), ("bert", "09:00", None)]),
        (
            use("bert", "09:00", "09:30"),
            [("anna", "08:00", "09:00"), ("bert", "09:00", "09:30"), ("anna", "09:30", "10:00")],
        ),
        (use("bert", "08:00", "10:00"), [("bert", "08:00", "10:00")]),
    ],
)
async def test_a_span_of_somebody_else_is_refused_or_rewritten_on_demand(
    house: IdentityHouse, wanted: Use, replaced: list[tuple[str, str, str | None]]
) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", use("anna", "08:00", "10:00"))

    with pytest.raises(AssignmentRefused, match="--replace"):
        await assignments.assign("d", wanted)
    assert await book_of(house) == [("anna", "08:00", "10:00")]

    await assignments.assign("d", wanted, replacing=True)
    assert await book_of(house) == replaced


async def test_a_span_cut_out_of_an_open_one_gives_the_rest_back(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", use("anna", "08:00"))

    await assignments.assign("d", use("bert", "09:00", "10:00"), replacing=True)

    assert await book_of(house) == [("anna", "08:00", "09:00"), ("bert", "09:00", "10:00"), ("anna", "10:00", None)]


async def test_a_patient_who_had_it_twice_over_is_cut_as_one(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u1", "d", "anna", "07:00", "12:00")
    await house.add_use("u2", "d", "anna", "08:00", "13:00")

    await Assignments(house.fhir, IdentitySettings()).assign("d", use("bert", "09:00", "10:00"), replacing=True)

    assert await book_of(house) == [
        ("anna", "07:00", "09:00"),
        ("anna", "08:00", "09:00"),
        ("bert", "09:00", "10:00"),
        ("anna", "10:00", "13:00"),
    ]


async def test_spans_that_touch_do_not_meet(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())

    await assignments.assign("d", use("anna", "08:00", "10:00"))
    await assignments.assign("d", use("bert", "10:00", "11:00"))
    await assignments.assign("d", use("carla", "07:00", "08:00"))

    assert [row[0] for row in await book_of(house)] == ["carla", "anna", "bert"]


async def test_the_devices_own_patient_keeps_what_lies_before(house: IdentityHouse) -> None:
    await house.add_device("d", patient="anna")

    await Assignments(house.fhir, IdentitySettings()).assign("d", use("bert", "10:00"))

    assert await book_of(house) == [("anna", None, "10:00"), ("bert", "10:00", None)]
    assert (await house.identity().resolve("d", at("09:00"))).patient_id == "anna"


async def test_a_device_released_at_the_instant_it_was_assigned_was_nobodys(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", use("anna", "08:00"))

    await assignments.release("d", at("08:00"))

    answers = [await house.identity().resolve("d", at("08:00") + shift) for shift in (-1, 0, 1)]
    assert [answer.patient_id for answer in answers] == [None, None, None]
    assert await book_of(house) == []


async def test_a_released_device_is_nobodys(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", use("anna", "08:00"))

    await assignments.release("d", at("10:00"))

    assert await book_of(house) == [("anna", "08:00", "10:00")]
    assert (await house.identity().resolve("d", at("10:01"))).missing == "patient-unknown"
    with pytest.raises(AssignmentRefused, match="nobody has it"):
        await assignments.release("d", at("11:00"))
    with pytest.raises(AssignmentRefused, match="no Device"):
        await assignments.release("unknown", at("11:00"))


@pytest.mark.parametrize("device_exists", [False, True])
async def test_of_two_written_at_once_one_is_refused(house: IdentityHouse, device_exists: bool) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    if device_exists:
        await house.add_device("d")
    house.before_next("POST", lambda: assignments.assign("d", use("bert", "08:00")))

    with pytest.raises(AssignmentRefused, match="other patients"):
        await assignments.assign("d", use("anna", "08:00"))

    assert await book_of(house) == [("bert", "08:00", None)]
    assert len(await house.fhir.search("Device", {})) == 1


async def test_a_statement_changed_meanwhile_by_others_is_read_again(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await house.add_device("d")
    await house.add_use("u1", "d", "anna", "08:00")
    house.before_next("POST", lambda: house.add_use("u1", "d", "anna", "08:00", "09:30"))

    await assignments.assign("d", use("bert", "10:00"))

    assert await book_of(house) == [("anna", "08:00", "09:30"), ("bert", "10:00", None)]


async def test_a_device_that_keeps_changing_is_an_error_to_try_again(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await house.add_device("d")
    for number in range(10):
        house.before_next("POST", lambda number=number: house.put("Device", "fhir-d", **changed(number)))  # type: ignore[misc]

    with pytest.raises(RetryLater, match="Try again"):
        await assignments.assign("d", use("bert", "10:00"))

    assert await book_of(house) == []


def changed(number: int) -> Json:
    return {"identifier": [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": "d"}], "lotNumber": str(number)}


async def test_observations_recorded_for_somebody_else_are_counted_not_moved(house: IdentityHouse) -> None:
    assignments = Assignments(house.fhir, IdentitySettings())
    await assignments.assign("d", use("anna", "08:00"))
    [device] = await house.fhir.search("Device", {})
    for number in range(4):
        await house.put(
            "Observation",
            f"o{number}",
            status="final",
            code={"text": "heart rate"},
            subject={"reference": "Patient/anna"},
            device={"reference": f"Device/{device['id']}"},
            effectiveDateTime=f"2030-05-01T09:{number:02d}:00Z",
        )

    late = await assignments.assign("d", use("bert", "09:02"))
    released = await assignments.release("d", at("09:30"))

    assert (late.recorded, released.recorded) == (2, 0)


async def test_the_identifier_system_of_the_settings_is_used(house: IdentityHouse) -> None:
    settings = IdentitySettings(device_identifier_system="urn:own")

    await Assignments(house.fhir, settings).assign("d", use("anna", "08:00"))

    [device] = await house.fhir.search("Device", {})
    assert device["identifier"] == [{"system": "urn:own", "value": "d"}]
    identity = house.identity(device_identifier_system="urn:own")
    assert (await identity.resolve("d", at("09:00"))).patient_id == "anna"


async def test_a_patient_that_does_not_exist_gets_nothing(house: IdentityHouse) -> None:
    with pytest.raises(RefuseToStart, match="Create it first"):
        await Assignments(house.fhir, IdentitySettings()).assign("d", use("nobody", "08:00"))

    assert await house.fhir.search("Device", {}) == []


async def test_an_overlap_that_others_wrote_is_shown(house: IdentityHouse) -> None:
    await house.add_device("d")
    await house.add_use("u1", "d", "anna", "08:00")
    await house.add_use("u2", "d", "bert", "09:00")
    await house.add_use("u3", "d", "carla", "06:00", "07:00")

    rows = await Assignments(house.fhir, IdentitySettings()).listed("d")

    assert [(row["statement"], row["fault"]) for row in rows] == [("u3", None), ("u1", "overlap"), ("u2", "overlap")]


@pytest.mark.parametrize("text", ["soon", "2030-05-01T08:00:00", "2030-05-01", "2030-13-01T00:00:00Z", ""])
def test_an_instant_that_may_mean_two_is_refused(text: str) -> None:
    with pytest.raises(RefuseToStart, match="2026-01-31T08:00:00"):
        instant_of(text)


def test_instants_of_any_zone_are_taken() -> None:
    assert instant_of("2030-05-01T10:00:00+02:00") == instant_of("2030-05-01T08:00:00Z") == at("08:00")


class Shell:
    """The commands, against a store of this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *words: str) -> tuple[int, Any, str]:
        answer = CliRunner().invoke(app, ["device", *words, "--json", "--data-dir", str(self.directory)])
        return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    def open_house(_: object) -> Any:
        house = IdentityHouse(tmp_path / "fhir")
        close = house.fhir.close

        async def close_all() -> None:
            await close()
            house.store.close()

        house.fhir.close = close_all  # type: ignore[method-assign]
        return house.fhir

    async def set_up() -> None:
        house = IdentityHouse(tmp_path / "fhir")
        for patient in ("anna", "bert"):
            await house.put("Patient", patient)
        await house.close()

    asyncio.run(set_up())
    monkeypatch.setattr(operation, "open_fhir", open_house)
    return Shell(tmp_path)


def test_commands_answer_in_json_with_exit_codes(shell: Shell) -> None:
    code, made, _ = shell.run("assign", "d", "--patient", "anna", "--from", "2030-05-01T08:00:00Z")
    assert (code, made["patient_id"], made["end"], made["recorded"]) == (0, "anna", None, 0)

    code, made, _ = shell.run("release", "d", "--at", "2030-05-01T10:00:00+00:00")
    assert (code, made["patient_id"], made["start"]) == (0, None, "2030-05-01T10:00:00.000Z")

    overlap = ("assign", "d", "--patient", "bert", "--from", "2030-05-01T09:00:00Z")
    code, made, said = shell.run(*overlap)
    assert (code, made) == (2, None)
    assert "pulseweir device assignments d" in said
    assert shell.run(*overlap, "--replace")[0] == 0

    code, rows, _ = shell.run("assignments", "d")
    assert (code, [(row["patient"], row["end"]) for row in rows]) == (
        0,
        [("anna", "2030-05-01T09:00:00.000Z"), ("bert", None)],
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("assign", "d", "--patient", "anna", "--from", "2030-05-01T08:00:00"), "no time zone"),
        (
            ("assign", "d", "--patient", "anna", "--from", "2030-05-01T08:00:00Z", "--to", "2030-05-01T08:00:00Z"),
            "--to",
        ),
        (("assign", "d", "--patient", "nobody"), "Create it first"),
        (("release", "d"), "no Device"),
        (("assignments", "d"), "no Device"),
    ],
)
def test_commands_refuse_with_a_remedy(shell: Shell, words: tuple[str, ...], says: str) -> None:
    code, made, said = shell.run(*words)

    assert (code, made) == (2, None)
    assert says in said
