"""Observations of hours, days and sessions become final by themselves, also after a restart."""

from pathlib import Path

import httpx
import pytest

from faulty_fhir import Forward, entries_of, faulty_server, healthy, refuses
from observed_rows import HOUR, MINUTE, NOON, SECOND, SITE, Time, rows, stored, versions

TICKS = 100
FIRST = rows(("pulse-wave", 0, {"pulse": "60"}), pair=SITE)
ENDED = NOON + HOUR + 5 * MINUTE


async def test_an_hour_is_final_only_when_it_has_ended_and_been_quiet(tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (client, _, transport):
        stage = time.stage(client)
        await stage.handle({0: FIRST})
        states = []
        for time.house in (ENDED - SECOND, ENDED, ENDED + SECOND):
            await stage.tick()
            (found,) = (await stored(client)).values()
            states.append(found["status"])
        asked = len(transport.asked)
        for _ in range(TICKS):
            await stage.tick()

        assert states == ["preliminary", "final", "final"]
        assert len(transport.asked) == asked


async def test_what_an_earlier_process_left_open_is_closed(tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (client, _, _):
        await time.stage(client).handle({0: FIRST})

        time.house = ENDED
        await time.stage(client).tick()

        (found,) = (await stored(client)).values()
        assert found["status"] == "final"


async def test_a_start_finds_when_the_others_close(tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (client, _, _):
        await time.stage(client).handle({0: FIRST})
        again = time.stage(client)

        time.house = ENDED - MINUTE
        await again.tick()
        time.house = ENDED
        await again.tick()

        (found,) = (await stored(client)).values()
        assert found["status"] == "final"


async def test_a_session_closes_when_nothing_more_comes(tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (client, _, _):
        stage = time.stage(client)
        await stage.handle({0: rows(("ecg", 0, {"mv": "1"}), pair=SITE, correlation="s")})
        time.house = NOON + 299 * SECOND
        await stage.handle({0: rows(("ecg", 200, {"mv": "1"}), pair=SITE, correlation="s", received=299)})
        states = []
        for time.house in (NOON + 598 * SECOND, NOON + 599 * SECOND):
            await stage.tick()
            (found,) = (await stored(client)).values()
            states.append(found["status"])

        assert states == ["preliminary", "final"]


async def test_preliminary_observations_of_others_are_left_alone(tmp_path: Path) -> None:
    theirs = {
        "resourceType": "Observation",
        "id": "lab-1",
        "status": "preliminary",
        "code": {"text": "culture"},
        "effectiveDateTime": "2020-01-01T00:00:00Z",
    }
    time = Time(house=ENDED)
    with faulty_server(tmp_path, healthy) as (client, _, _):
        await client.update(theirs)
        await client.update(theirs | {"id": "lab-2", "identifier": [{"system": "https://lab.test", "value": "1"}]})

        await time.stage(client).tick()

        assert {one["status"] for one in (await stored(client)).values()} == {"preliminary"}


async def test_a_value_that_comes_while_it_is_closed_wins_and_it_is_closed_later(tmp_path: Path) -> None:
    time = Time()
    second = rows(("pulse-wave", 60, {"pulse": "61"}), pair=SITE, received=3_900)
    met: list[bool] = []

    async def overtakes(request: httpx.Request, forward: Forward) -> httpx.Response:
        is_closing = any('"final"' in str(entry.get("resource")).replace("'", '"') for entry in entries_of(request))
        if is_closing and not met:
            met.append(True)
            await time.stage(honest).handle({0: second})
        return await forward(request)

    with faulty_server(tmp_path, overtakes) as (client, honest, _):
        stage = time.stage(client)
        await stage.handle({0: FIRST})
        time.house = ENDED
        await stage.tick()
        (overtaken,) = (await stored(honest)).values()
        time.house = NOON + 3_900 * SECOND + 5 * MINUTE + HOUR
        await stage.tick()
        (found,) = (await stored(honest)).values()

        assert met
        assert overtaken["status"] == "preliminary"
        assert found["status"] == "final"
        assert found["valueSampledData"]["data"].startswith("60 61 E")


@pytest.mark.parametrize("status", [400, 403, 503])
async def test_a_service_that_will_not_search_stops_nothing(status: int, tmp_path: Path) -> None:
    time = Time(house=ENDED)
    with faulty_server(tmp_path, refuses(status)) as (client, _, transport):
        stage = time.stage(client)

        assert [await stage.tick() for _ in range(3)] == [None] * 3
        assert len(transport.asked) == (3 if status == 503 else 1)


async def test_without_the_search_what_this_process_wrote_is_closed_all_the_same(tmp_path: Path) -> None:
    time = Time()

    async def answers_no_search(request: httpx.Request, forward: Forward) -> httpx.Response:
        return httpx.Response(403) if request.method == "GET" else await forward(request)

    with faulty_server(tmp_path, answers_no_search) as (client, honest, _):
        stage = time.stage(client)
        await stage.handle({0: FIRST})
        await stage.tick()
        time.house = ENDED
        await stage.tick()

        (found,) = (await stored(honest)).values()
        assert found["status"] == "final"


async def test_one_withdrawn_meanwhile_is_let_go(tmp_path: Path) -> None:
    time = Time()
    with faulty_server(tmp_path, healthy) as (client, honest, transport):
        stage = time.stage(client)
        await stage.handle({0: FIRST})
        (found,) = (await stored(honest)).values()
        await honest.update(found | {"status": "entered-in-error"})
        time.house = ENDED
        await stage.tick()
        asked = len(transport.asked)
        await stage.tick()

        (found,) = (await stored(honest)).values()
        assert found["status"] == "entered-in-error"
        assert len(transport.asked) == asked


async def test_a_service_that_ignores_the_search_is_not_read_to_its_end(tmp_path: Path) -> None:
    time = Time(house=ENDED)

    async def ignores(request: httpx.Request, forward: Forward) -> httpx.Response:
        plain = httpx.Request(request.method, str(request.url).split("?", maxsplit=1)[0] + "?_count=2")
        return await forward(plain if request.method == "GET" else request)

    with faulty_server(tmp_path, ignores) as (client, honest, transport):
        await time.stage(honest).handle({0: rows(*[("spo2", at, {"spo2": "96"}) for at in range(9)])})
        before = await versions(honest)

        await time.stage(client).tick()

        assert len(transport.asked) == 1
        assert await versions(honest) == before


async def test_all_pages_are_closed(tmp_path: Path) -> None:
    time = Time()
    hours = [rows(("pulse-wave", 3_600 * hour, {"pulse": "60"}), pair=SITE) for hour in range(-300, 0)]
    with faulty_server(tmp_path, healthy) as (client, _, _):
        stage = time.stage(client)
        await stage.handle(dict(enumerate(hours)))
        assert {one["status"] for one in (await stored(client)).values()} == {"preliminary"}

        time.house = ENDED
        await stage.tick()

        assert {one["status"] for one in (await stored(client)).values()} == {"final"}
