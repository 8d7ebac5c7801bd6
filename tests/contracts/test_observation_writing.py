"""What the Observation writer promises of any FHIR server, sound or not.

Each fault is met by the same deliveries: single values, panels in pieces, an hour, a session, corrections,
repetitions, a late value. Nothing is lost or doubled, counts conserve, neighbours are written, and in the end
the server holds exactly what a healthy one holds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faulty_fhir as faulty
from hapi_server import FIRST_TEST_SECONDS
from limited_fhir import limited_server
from observed_rows import HOUR, MINUTE, NOON, SITE, Time, counted, rows, stored, versions
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.fhir_foreign import HOUSE_ID_SYSTEM, house_ids_of
from pulseweir.ingest.observation_writer import ObservationStage

PULSES = [("heart-rate", second, {"heart_rate": str(60 + second)}) for second in range(9)]
PANEL = ("cuff-pressure", 0, {"systolic": "120", "diastolic": "70", "mean": "87.5"})
DELIVERIES = [
    rows(*PULSES, PANEL, ("spo2", 0, {"spo2": "96"})),
    rows(("cuff-pressure", 60, {"systolic": "121"}), ("heart-rate", 3, {"heart_rate": "40"}), received=61),
    rows(("pulse-wave", 0, {"pulse": "60"}), ("pulse-wave", 60, {"pulse": "61"}), pair=SITE, received=62),
    rows(("cuff-pressure", 60, {"diastolic": "71"}), received=63),
    rows(("pulse-wave", 120, {"pulse": "62"}), ("steps", 120, {"steps": "9"}), pair=SITE, received=121),
    rows(
        *[("ecg", 130 + tick * 0.004, {"mv": str(tick)}) for tick in range(20)],
        pair=SITE,
        correlation="s1",
        received=132,
    ),
    rows(("mood", 140, {"mood": 'so-"so"'}), ("fall", 141, {"fall": "x"}), ("pressed", 142, {}), pair=SITE),
    rows(("ecg", 130.2, {"mv": "99"}), ("session", 150, {}), pair=SITE, correlation="s1", received=151),
]
LATE = rows(("pulse-wave", 180, {"pulse": "63"}), pair=SITE, received=7_200)

FAULTS: dict[str, Callable[[], faulty.Fault]] = {
    "healthy": lambda: faulty.healthy,
    "429 with seconds": lambda: faulty.sometimes(0.4, faulty.refuses(429, retry_after="2")),
    "503 with a date": lambda: faulty.sometimes(0.4, faulty.asks_until(30)),
    "503 without a word": lambda: faulty.sometimes(0.4, faulty.refuses(503)),
    "500 after commit": lambda: faulty.sometimes(0.4, faulty.fails_after_commit),
    "an outcome for a bundle, after commit": lambda: faulty.sometimes(0.4, faulty.says_outcome_after_commit),
    "an outcome for a bundle": lambda: faulty.sometimes(0.4, faulty.says_outcome),
    "cut off": lambda: faulty.sometimes(0.4, faulty.cuts_answer),
    "an entry missing": lambda: faulty.sometimes(0.4, faulty.drops_an_entry),
    "time-out after commit": lambda: faulty.sometimes(0.4, faulty.times_out_after_commit),
    "reset after commit": lambda: faulty.sometimes(0.4, faulty.resets_after_commit),
    "not reached": lambda: faulty.sometimes(0.4, faulty.cannot_be_reached),
    "413 above two entries": lambda: faulty.takes_at_most(2, 413),
    "400 above three entries": lambda: faulty.takes_at_most(3, 400),
    "one entry a bundle": lambda: faulty.takes_at_most(1, 422),
    "no bundles, 405": lambda: faulty.takes_no_bundles(405),
    "no bundles, 404": lambda: faulty.takes_no_bundles(404),
    "no bundles, 400": lambda: faulty.takes_no_bundles(400),
    "no bundles, 501": lambda: faulty.takes_no_bundles(501),
    "no If-None-Match": lambda: faulty.knows_no_if_none_match,
    "304 for If-None-Match": lambda: faulty.says_not_modified,
    "conflicts": lambda: faulty.refuses_entries(faulty.now_and_then(0.4), "409"),
    "conflicts that are none": lambda: faulty.refuses_entries(faulty.now_and_then(0.4), "412", after_commit=True),
    "busy for some entries": lambda: faulty.refuses_entries(faulty.now_and_then(0.3), "429 Too Many Requests"),
    "failing for some entries": lambda: faulty.refuses_entries(faulty.now_and_then(0.3), "500", after_commit=True),
    "success with an error": lambda: faulty.refuses_entries(faulty.now_and_then(0.3), "200", faulty.OUTCOME),
    "unreadable entries": lambda: faulty.refuses_entries(faulty.now_and_then(0.3, "GET"), "503"),
    "everything at once": lambda: faulty.sometimes(0.3, faulty.fails_after_commit, seed=5),
}


async def write_all(
    time: Time, stage: ObservationStage, fhir: FhirClient, patient: str | None = None
) -> list[dict[str, Any]]:
    """Every delivery, the end of the day, and a late value; gives what is stored after each part."""
    seen = []
    for table in (*DELIVERIES, *DELIVERIES):
        outcome = await time.deliver(stage, table)
        assert counted(outcome) == table.num_rows
        assert outcome.quarantined == []
    seen.append(await stored(fhir, patient))
    await closed(time, stage, NOON + HOUR + 6 * MINUTE)
    seen.append(await stored(fhir, patient))
    await time.deliver(stage, LATE)
    await time.deliver(stage, LATE)
    await closed(time, stage, NOON + 24 * HOUR)
    seen.append(await stored(fhir, patient))
    return seen


async def closed(time: Time, stage: ObservationStage, at: int) -> None:
    time.house = at
    for _ in range(60):
        time.seconds += 10
        await stage.tick()


@pytest.fixture
async def expected(tmp_path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    time = Time()
    with faulty.faulty_server(tmp_path / "healthy", faulty.healthy) as (client, _, _):
        return await write_all(time, time.stage(client), client), await versions(client)


@pytest.mark.parametrize("name", FAULTS)
async def test_in_the_end_a_faulty_server_holds_what_a_healthy_one_holds(
    name: str, expected: tuple[list[dict[str, Any]], dict[str, int]], tmp_path: Path
) -> None:
    time = Time()

    with faulty.faulty_server(tmp_path / "faulty", FAULTS[name]()) as (client, honest, _):
        seen = await write_all(time, time.stage(client, bundle_size=5, merge_attempts=10), honest)
        written = await versions(honest)

    assert seen == expected[0]
    assert written == expected[1]


LIMITS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "no ids of ours": (("client-ids",), {}),
    "no ids of ours, no conditional create": (("client-ids", "if-none-exist"), {}),
    "no ids of ours, no batches": (("client-ids", "batch", "transaction"), {}),
    "no ids of ours, four entries a bundle": (("client-ids",), {"most": 4}),
    "no versions": (("versions",), {}),
    "no batches": (("batch", "transaction"), {}),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_in_the_end_a_server_that_can_less_holds_the_same(
    name: str, expected: tuple[list[dict[str, Any]], dict[str, int]], tmp_path: Path
) -> None:
    time = Time()
    lacking, limits = LIMITS[name]

    with limited_server(tmp_path / "limited", *lacking, **limits) as (client, whole, _):
        seen = await write_all(time, time.stage(client, bundle_size=5), whole)

    assert [named_as_here(part) for part in seen] == expected[0]
    if "client-ids" in lacking:
        assert not set(seen[0]) & set(expected[0][0])


@pytest.mark.timeout(FIRST_TEST_SECONDS)
async def test_in_the_end_hapi_holds_the_same(
    hapi_url: str, expected: tuple[list[dict[str, Any]], dict[str, int]]
) -> None:
    time = Time()
    client = FhirClient(hapi_url, discovers=True)
    # HAPI holds nothing that refers to what it does not hold.
    await client.update({"resourceType": "Patient", "id": "patient-1"})
    await client.update({"resourceType": "Device", "id": "monitor-1"})

    seen = await write_all(time, time.stage(client, bundle_size=5), client, "patient-1")

    await client.close()
    assert seen == expected[0]


def named_as_here(observations: dict[str, Any]) -> dict[str, Any]:
    """What is stored, by the ids that this house chose, without the identifier that carries them."""
    named = {}
    for one in observations.values():
        (name,) = house_ids_of(one) or {one["id"]}
        kept = [each for each in one["identifier"] if each["system"] != HOUSE_ID_SYSTEM]
        named[name] = one | {"id": name, "identifier": kept}
    return named


async def test_the_states_are_those_of_an_observations_life(
    expected: tuple[list[dict[str, Any]], dict[str, int]],
) -> None:
    def states(observations: dict[str, Any]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in observations.values():
            found.setdefault(one["code"]["text"], set()).add(one["status"])
        return found

    open_hours, ended, late = (states(part) for part in expected[0])

    assert open_hours["heart-rate"] == {"final", "amended"}
    assert open_hours["cuff-pressure"] == {"final", "amended"}
    assert {name: open_hours[name] for name in ("pulse-wave", "steps", "ecg", "session")} == dict.fromkeys(
        ("pulse-wave", "steps", "ecg", "session"), {"preliminary"}
    )
    assert {name: open_hours[name] for name in ("mood", "fall", "pressed")} == dict.fromkeys(
        ("mood", "fall", "pressed"), {"final"}
    )
    assert {name: ended[name] for name in ("pulse-wave", "steps", "ecg", "session")} == {
        "pulse-wave": {"final"},
        "steps": {"preliminary"},
        "ecg": {"final"},
        "session": {"final"},
    }
    assert late["pulse-wave"] == {"amended"}
    assert late["steps"] == {"final"}
