"""How entries reach a server: pauses, sizes, and what one bad entry does to its neighbours."""

import asyncio
from pathlib import Path

import httpx
import msgspec
import pyarrow as pa
import pytest

import faulty_fhir as faulty
from observed_rows import Time, counted, rows, stored
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.bundle_sender import BundleSender, Entry
from pulseweir.ingest.settings import ObservationSettings
from pulseweir.telemetry import FHIR_BUNDLE_RETRIES

MANY = rows(*[("heart-rate", second, {"heart_rate": str(60 + second)}) for second in range(40)])
BAD = faulty.holds('"value":77')
REASON = {"severity": "error", "code": "value", "diagnostics": "77 is refused", "expression": ["Observation.value"]}
OUTCOME = {"resourceType": "OperationOutcome", "issue": [REASON]}


def entry(name: int, characters: int = 10) -> Entry:
    resource = {
        "resourceType": "Observation",
        "id": f"o{name}",
        "status": "final",
        "code": {"text": "x" * characters},
    }
    return {
        "request": {"method": "PUT", "url": f"Observation/o{name}"},
        "resource": msgspec.Raw(msgspec.json.encode(resource)),
    }


def sender_on(client: FhirClient, time: Time, **settings: float) -> BundleSender:
    return BundleSender(client, ObservationSettings.model_validate(settings), time.waits)


@pytest.mark.parametrize("status", ["422", "400 Bad Request", "413", "500"])
async def test_one_bad_entry_of_many_is_set_aside_alone(status: str, tmp_path: Path) -> None:
    time = Time()
    with faulty.faulty_server(tmp_path, faulty.refuses_entries(BAD, status, OUTCOME)) as (client, honest, _):
        stage = time.stage(client, bundle_size=8)
        outcome = (await stage.handle({0: MANY})).outcome

        aside = [*outcome.quarantined, *outcome.parked]
        assert [item.row["text"].to_pylist() for item in aside] == [["77"]]
        assert aside[0].reason == ("fhir-failing" if status == "500" else "fhir-refused")
        assert "77" not in aside[0].message
        assert len(await stored(honest)) == 39
        assert counted(outcome) == 40


@pytest.mark.parametrize("status", [400, 422, 413, 500, 502])
async def test_one_bad_entry_that_spoils_its_bundle_is_set_aside_alone(status: int, tmp_path: Path) -> None:
    time = Time()
    with faulty.faulty_server(tmp_path, faulty.chokes_on(BAD, status)) as (client, honest, _):
        outcome = (await time.stage(client).handle({0: MANY})).outcome

        aside = [*outcome.quarantined, *outcome.parked]
        assert [item.row["text"].to_pylist() for item in aside] == [["77"]]
        assert bool(outcome.parked) == (status >= 500)
        assert len(await stored(honest)) == 39
        assert counted(outcome) == 40


async def test_an_entry_that_goes_on_failing_ends_in_quarantine(tmp_path: Path) -> None:
    time = Time()
    other = rows(("spo2", 0, {"spo2": "96"}))
    with faulty.faulty_server(tmp_path, faulty.refuses_entries(BAD, "500")) as (client, _, _):
        stage = time.stage(client, reference_wait_seconds=30)
        (bad,) = (await stage.handle({0: MANY})).outcome.parked
        time.seconds = 31
        outcome = (await stage.handle_parked(pa.concat_tables([bad.row, other]).unify_dictionaries(), [0, 0])).outcome

        assert [item.reason for item in outcome.quarantined] == ["fhir-failing"]
        assert outcome.tallies == {"written": 1}


async def test_a_server_that_refuses_everything_is_not_asked_one_by_one(tmp_path: Path) -> None:
    time = Time()
    with faulty.faulty_server(tmp_path, faulty.refuses_entries(lambda entry: True, "422")) as (client, _, transport):
        outcome = (await time.stage(client).handle({0: MANY})).outcome

        assert len(outcome.quarantined) == 40
        assert len(transport.asked) <= 6


async def test_a_server_that_fails_on_everything_sets_nothing_aside(tmp_path: Path) -> None:
    with faulty.faulty_server(tmp_path, faulty.refuses_entries(lambda entry: True, "500")) as (client, _, _):
        stage = Time().stage(client)

        with pytest.raises(RetryLater):
            await stage.handle({0: MANY})


@pytest.mark.parametrize("asked", [1, 3])
async def test_a_short_wait_is_kept_and_only_the_rest_is_sent_again(asked: int, tmp_path: Path) -> None:
    time = Time()
    met: list[int] = []

    async def once(request: httpx.Request, forward: faulty.Forward) -> httpx.Response:
        met.append(len(faulty.entries_of(request)))
        if len(met) == 2:
            return httpx.Response(429, headers={"retry-after": str(asked)})
        return await forward(request)

    with faulty.faulty_server(tmp_path, once) as (client, honest, _):
        await sender_on(client, time, bundle_size=4, concurrency=1).send([entry(name) for name in range(12)])

        assert sum(met) == 16
        assert sum(time.slept) >= asked
        assert len(await stored(honest)) == 12


async def test_a_long_wait_is_handed_to_the_loop_and_nothing_is_asked_before_it_is_over(tmp_path: Path) -> None:
    time = Time()
    with faulty.faulty_server(tmp_path, faulty.refuses(429, retry_after="120")) as (client, _, transport):
        sender = sender_on(client, time)
        seen = []
        for _ in range(3):
            with pytest.raises(RetryLater) as raised:
                await sender.send([entry(1)])
            seen.append(raised.value.retry_after_seconds)
            time.seconds += 10

        assert len(transport.asked) == 1
        assert all(later is not None and later >= 119 - 10 * turn for turn, later in enumerate(seen))


@pytest.mark.parametrize(
    "fault", [faulty.times_out_after_commit, faulty.cannot_be_reached, faulty.cuts_answer, faulty.says_outcome]
)
async def test_a_server_that_never_answers_is_left_after_a_few_tries(fault: faulty.Fault, tmp_path: Path) -> None:
    time = Time()
    before = FHIR_BUNDLE_RETRIES.labels("unanswered")._value.get()
    with faulty.faulty_server(tmp_path, fault) as (client, _, transport):
        with pytest.raises(RetryLater):
            await sender_on(client, time).send([entry(name) for name in range(40)])

        assert 2 <= len(transport.asked) <= 6
        assert sum(time.slept) < 6
        assert FHIR_BUNDLE_RETRIES.labels("unanswered")._value.get() > before


async def test_bundles_hold_no_more_bytes_than_allowed_but_at_least_one_entry(tmp_path: Path) -> None:
    time = Time()
    with faulty.faulty_server(tmp_path, faulty.healthy) as (client, honest, transport):
        entries = [entry(name, 4_000) for name in range(6)] + [entry(6, 50_000), entry(7)]
        answers = await sender_on(client, time, bundle_bytes=10_000).send(entries)

        assert [len(faulty.entries_of(request)) for request in transport.asked] == [2, 2, 2, 1, 1]
        assert [answer.status for answer in answers] == [201] * 8
        assert len(await stored(honest)) == 8


@pytest.mark.parametrize("told", ["413", "too-costly"])
async def test_what_a_server_takes_is_learned(told: str, tmp_path: Path) -> None:
    refused: list[int] = []

    async def limited(request: httpx.Request, forward: faulty.Forward) -> httpx.Response:
        count = len(faulty.entries_of(request))
        if count <= 10:
            return await forward(request)
        refused.append(count)
        outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "too-costly"}]}
        return httpx.Response(413) if told == "413" else httpx.Response(400, json=outcome)

    with faulty.faulty_server(tmp_path, limited) as (client, honest, _):
        sender = sender_on(client, Time(), bundle_size=64, concurrency=1)
        await sender.send([entry(name) for name in range(64)])
        learned = len(refused)
        await sender.send([entry(name) for name in range(200)])

        assert learned <= 4
        assert len(refused) == learned
        assert 5 <= sender.pace.entries <= 10
        assert len(await stored(honest)) == 200


async def test_a_slow_server_gets_smaller_bundles(tmp_path: Path) -> None:
    time = Time()

    async def slow(request: httpx.Request, forward: faulty.Forward) -> httpx.Response:
        time.seconds += len(faulty.entries_of(request))
        return await forward(request)

    with faulty.faulty_server(tmp_path, slow) as (client, _, transport):
        await sender_on(client, time, bundle_size=40, concurrency=1).send([entry(name) for name in range(200)])

        sizes = [len(faulty.entries_of(request)) for request in transport.asked]
        assert sizes[0] == 40
        assert sum(sizes) == 200
        assert sum(sizes[4:]) / len(sizes[4:]) <= 8


async def test_one_burst_of_429_slows_once_and_a_well_server_gets_the_full_pace_again(tmp_path: Path) -> None:
    time = Time()
    arrived: list[httpx.Request] = []
    all_under_way = asyncio.Event()

    async def throttles(request: httpx.Request, forward: faulty.Forward) -> httpx.Response:
        arrived.append(request)
        if len(arrived) > 4:
            return await forward(request)
        if len(arrived) == 4:
            all_under_way.set()
        await all_under_way.wait()
        return httpx.Response(429)

    with faulty.faulty_server(tmp_path, throttles) as (client, honest, _):
        sender = sender_on(client, time, bundle_size=4, concurrency=4)
        await sender.send([entry(name) for name in range(40)])
        turns = sender.pace.turn
        await sender.send([entry(name) for name in range(400)])

        assert turns == 1
        assert (sender.pace.lanes, sender.pace.entries) == (4, 4)
        assert len(await stored(honest)) == 400


@pytest.mark.parametrize("fault", [faulty.fails_after_commit, faulty.cuts_answer, faulty.drops_an_entry])
async def test_every_entry_gets_its_own_answer_whatever_happens(fault: faulty.Fault, tmp_path: Path) -> None:
    time = Time()
    reads = [{"request": {"method": "GET", "url": f"Observation/o{name}"}} for name in range(30)]
    with faulty.faulty_server(tmp_path, faulty.sometimes(0.3, fault)) as (client, honest, _):
        await sender_on(honest, time).send([entry(name) for name in range(0, 30, 2)])
        answers = await sender_on(client, time, bundle_size=7).send(reads)

        for name, answer in enumerate(answers):
            assert answer.is_worth_retrying or answer.status == (404 if name % 2 else 200)
            assert answer.resource is None or answer.resource["id"] == f"o{name}"
        assert sum(answer.is_worth_retrying for answer in answers) < 10
