"""Step 10: the stage of technical signals: who is here by FHIR, snapshots, catching up, kinds of devices."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from patient_measurements import HOUR, MINUTE, NOON, SECOND, Reading, StillClock, by_shard, patient_measurements
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import to_text
from pulseweir.device_catalog import catalog_directory
from pulseweir.errors import FhirUnavailable
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM
from pulseweir.records.signal_facts import SignalFact, heard_devices, signal_facts
from pulseweir.records.topics import ALERT_EVENTS, SCHEMAS
from pulseweir.scoring.device_intake import Key
from pulseweir.scoring.device_kinds import KIND_FILE, DeviceKind, read_kinds
from pulseweir.scoring.device_presence import DevicePresence, is_worn
from pulseweir.scoring.signal_stage import SignalStage

MONITOR = {"1": DeviceKind("continuous", 60)}
KINDS = sorted(path.parent for path in catalog_directory().glob("*/device_mapping.json"))
Json = dict[str, Any]


class Known:
    """Says what it is told."""

    def __init__(self, answer: bool | None = True) -> None:
        self.answer = answer

    def present(self, keys: Sequence[Key]) -> Mapping[Key, bool | None]:
        return dict.fromkeys(keys, self.answer)


def stage_at(minute: float, presence: Any = None, old: SignalStage | None = None) -> SignalStage:
    """A stage whose clock stands, begun with the snapshots of another."""
    fresh = SignalStage(presence or Known(), StillClock(instant=int(minute * MINUTE)), read_kinds=lambda: MONITOR)
    for shard, snapshot in (old.snapshots() if old else {}).items():
        fresh.assigned(shard, snapshot)
    return fresh


def at(stage: SignalStage, minute: float) -> SignalStage:
    """The same stage later."""
    stage._clock = StillClock(instant=int(minute * MINUTE))  # noqa: SLF001 - time passes
    return stage


async def facts_of(stage: SignalStage) -> list[SignalFact]:
    handled = await stage.tick()
    tables = [table for topic, table in handled.publish if topic == ALERT_EVENTS] if handled else []
    assert all(table.schema == SCHEMAS[ALERT_EVENTS] for table in tables)
    return [fact for table in tables for fact in signal_facts(table)]


def sets(minutes: range, patient: str = "ann") -> dict[int, pa.Table]:
    return by_shard(
        patient_measurements(
            [Reading("heart_rate", 70.0 + minute % 5, minute * MINUTE, patient=patient) for minute in minutes]
        )
    )


async def test_a_monitor_that_stopped_is_told_once_and_a_device_is_noted_when_it_was_heard() -> None:
    stage = stage_at(10)
    handled = await stage.handle(sets(range(10)))
    assert handled.outcome.tallies == {"noted": 10}
    ticked = await stage.tick()
    assert ticked is not None
    [noted] = heard_devices(ticked.publish[0][1])
    assert (noted.device_id, noted.received_at, noted.skew_seconds) == (
        "monitor-ann",
        NOON + 9 * MINUTE + SECOND,
        -1.0,
    )

    [fact] = await facts_of(at(stage, 16))
    assert (fact.signal, fact.active, fact.ward) == ("silent", True, "Ward A")
    assert await facts_of(at(stage, 17)) == []


async def test_a_restart_neither_repeats_nor_forgets_and_silence_counts_from_when_the_house_listens() -> None:
    stage = stage_at(10)
    await stage.handle(sets(range(10)))
    down = stage_at(60, old=stage)

    assert await facts_of(down) == []  # an hour of the house's own silence
    assert await facts_of(at(down, 64)) == []
    [fact] = await facts_of(at(down, 66))
    assert fact.since == NOON + 9 * MINUTE

    assert await facts_of(stage_at(67, old=down)) == []


async def test_while_it_catches_up_nobody_is_silent() -> None:
    stage = stage_at(60)
    stage.assigned(next(iter(sets(range(1)))), None)
    await stage.handle(sets(range(10)))
    assert await facts_of(stage) == []
    await at(stage, 64).handle(sets(range(10, 64)))
    assert await facts_of(stage) == []
    assert [fact.signal for fact in await facts_of(at(stage, 70))] == ["silent"]


async def test_a_shard_that_went_to_another_member_is_no_longer_watched() -> None:
    stage = stage_at(10)
    await stage.handle(sets(range(10)))
    for shard in list(stage.snapshots()):
        stage.revoked(shard)

    assert await facts_of(at(stage, 30)) == []
    assert stage.snapshots() == {}


async def test_a_device_whose_clock_is_ahead_is_logged_once_an_hour_without_a_patient() -> None:
    stage = stage_at(0)
    ahead = [Reading("heart_rate", 70.0, 2 * HOUR, received=0)]
    await stage.handle(by_shard(patient_measurements(ahead)))

    with capture_logs() as logs:
        await stage.tick()
        await at(stage, 1).tick()

    [line] = [one for one in logs if one["event"] == "device_clock_ahead"]
    assert (line["device"], line["ahead_seconds"]) == ("monitor-ann", 7_200)
    assert "ann" not in {value for key, value in line.items() if key != "device"}


# Who is here, by FHIR


@pytest.fixture
async def presence(fhir: FhirClient) -> AsyncIterator[DevicePresence]:
    one = presence_of(fhir)
    yield one
    await one.close()


def presence_of(fhir: FhirClient, **options: Any) -> DevicePresence:
    defaults: Json = {"device_system": DEVICE_IDENTIFIER_SYSTEM, "keep_seconds": 60, "without_encounter": True}
    return DevicePresence(fhir, StillClock(), **(defaults | options))


async def put(fhir: FhirClient, *resources: Json) -> None:
    for resource in resources:
        await fhir.update(resource)


def patient(name: str) -> Json:
    return {"resourceType": "Patient", "id": name}


def device(name: str, **other: Any) -> Json:
    identifier = [{"system": DEVICE_IDENTIFIER_SYSTEM, "value": name}]
    return {"resourceType": "Device", "id": f"d-{name}", "identifier": identifier, **other}


def use(name: str, who: str, start: int, end: int | None = None) -> Json:
    period = {"start": to_text(NOON + start)} | ({} if end is None else {"end": to_text(NOON + end)})
    return {
        "resourceType": "DeviceUseStatement",
        "id": f"u-{name}-{who}",
        "status": "active",
        "subject": {"reference": f"Patient/{who}"},
        "device": {"reference": f"Device/d-{name}"},
        "timingPeriod": period,
    }


def encounter(who: str, status: str) -> Json:
    return {
        "resourceType": "Encounter",
        "id": f"e-{who}-{status}",
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{who}"},
    }


async def asked(presence: DevicePresence, *keys: Key) -> list[bool | None]:
    presence.present(keys)
    await presence.settle()
    return list(presence.present(keys).values())


async def test_who_is_here_with_the_device(fhir: FhirClient, presence: DevicePresence) -> None:
    names = ["here", "gone", "released", "nobody", "moved"]
    await put(fhir, *map(patient, names), *map(device, names))
    await put(
        fhir,
        use("here", "here", -HOUR), encounter("here", "in-progress"),
        use("gone", "gone", -HOUR), encounter("gone", "finished"),
        use("released", "released", -2 * HOUR, -HOUR), encounter("released", "in-progress"),
        use("moved", "moved", -2 * HOUR, -HOUR), use("moved", "here", -HOUR),
    )  # fmt: skip

    answers = await asked(presence, *((name, name) for name in names), ("here", "moved"), ("here", "unknown"))

    assert answers == [True, False, False, True, False, True, True]


async def test_a_device_two_patients_have_at_once_is_nobodys(fhir: FhirClient, presence: DevicePresence) -> None:
    await put(fhir, patient("one"), patient("two"), device("m"), use("m", "one", -HOUR), use("m", "two", -HOUR))

    assert await asked(presence, ("one", "m"), ("two", "m")) == [False, False]


async def test_a_site_may_want_an_encounter(fhir: FhirClient) -> None:
    await put(fhir, patient("one"), device("m", patient={"reference": "Patient/one"}))

    assert await asked(presence_of(fhir), ("one", "m")) == [True]
    assert await asked(presence_of(fhir, without_encounter=False), ("one", "m")) == [False]


async def test_while_fhir_is_away_nobody_knows_and_it_is_said_once() -> None:
    class Away:
        async def search(self, *_: Any, **__: Any) -> list[Json]:
            raise FhirUnavailable("no answer")

    away: Any = Away()
    presence = presence_of(away)
    stage = stage_at(10, presence)
    await stage.handle(sets(range(10)))
    with capture_logs() as logs:
        assert await facts_of(at(stage, 20)) == []
        await presence.settle()
        assert await facts_of(at(stage, 30)) == []
        await presence.settle()

    assert [line["event"] for line in logs].count("device_presence_unread") == 1


@pytest.mark.parametrize(
    ("start", "end", "worn"),
    [
        ("2027-01", None, True),
        (None, "2027-01-15", True),
        (None, "2027-01-14", False),
        (None, "2027", True),
        ("2027-01-16", None, False),
        ("2027-01-15T08:00:00+01:00", "2027-01-15T20:00:00+01:00", True),
        ("nonsense", None, False),
    ],
)
def test_what_a_period_says_now(start: str | None, end: str | None, *, worn: bool) -> None:
    period = {key: value for key, value in (("start", start), ("end", end)) if value}
    now = 1_800_014_400 * SECOND

    assert is_worn({"status": "active", "timingPeriod": period}, now) == worn


# Kinds


@pytest.mark.parametrize("folder", KINDS, ids=lambda folder: str(folder.name))
def test_every_kind_says_how_it_is_used(folder: Path) -> None:
    assert len(read_kinds([folder.parent])) == len(KINDS)
    assert (folder / KIND_FILE).is_file()


def test_a_kind_that_says_nonsense_is_known_by_how_it_behaves(tmp_path: Path) -> None:
    kind = tmp_path / "own"
    kind.mkdir()
    for name, text in (("device_mapping.json", "{}"), ("fhir_mapping.json", "{}"), (KIND_FILE, '{"use": "often"}')):
        (kind / name).write_text(text, encoding="utf-8")

    assert read_kinds([tmp_path, tmp_path / "missing"]) == {}
    (kind / KIND_FILE).write_text('{"use": "continuous", "intervalSeconds": 5}', encoding="utf-8")
    assert list(read_kinds([tmp_path]).values()) == [DeviceKind("continuous", 5)]


async def test_the_loop_is_never_held_up(fhir: FhirClient) -> None:
    presence = presence_of(fhir)

    async with asyncio.timeout(5):
        assert presence.present([("a", "b")]) == {("a", "b"): None}
    await presence.close()
