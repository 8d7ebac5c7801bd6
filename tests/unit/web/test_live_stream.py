"""The live stream: everything on connecting, then what changes, for as long as the session lasts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

import invented_ward
from invented_ward import BEDS
from pulseweir.backends.repository import alerts, people, scores
from pulseweir.web import sessions
from pulseweir.web.rights import Viewer
from pulseweir.web.ward_page import View, events
from screen_site import Site


class Stream:
    """Reads a stream event by event."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source

    async def next(self, *wanted: str) -> tuple[str, dict[str, Any], int]:
        """The next event, or the next of the wanted kinds: name, facts, id."""
        async with asyncio.timeout(20):
            async for block in self._source:
                fields = dict(line.split(": ", 1) for line in block.decode().strip().split("\n"))
                if "event" in fields and (not wanted or fields["event"] in wanted):
                    return fields["event"], msgspec.json.decode(fields["data"]), int(fields["id"])
        pytest.fail("the stream ended")


async def opened(site: Site, wards: list[str] | None = None, view: View | None = None) -> tuple[Stream, Viewer, str]:
    session = await site.session("nurse", wards, name="watcher")
    viewer = await sessions.viewer_of(site.repository, session.token, site.screens.settings)
    assert viewer is not None
    return Stream(events(site.screens, viewer, session.token, view or View())), viewer, session.token


async def measure(site: Site, number: int, seconds: int, **other: Any) -> None:
    row = invented_ward.live_row_of(BEDS[number - 1], site.now + seconds * 1_000_000, **other)
    await site.repository.write(scores.save_live, [row])


async def test_a_screen_is_told_everything_first_also_when_it_comes_back(site: Site) -> None:
    for _ in range(2):
        stream, _, _ = await opened(site)

        name, facts, sequence = await stream.next()

        assert name == "board"
        assert {row["patient_id"] for row in facts["rows"]} == {bed.patient_id for bed in BEDS}
        assert facts["bands"]["high"] == 2
        assert facts["unacknowledged"] == 3
        assert sequence == site.screens.board.sequence


async def test_a_live_event_says_when_its_values_were_measured_and_recorded(site: Site) -> None:
    stream, _, _ = await opened(site)
    await stream.next("board")

    await measure(site, 3, 5)
    _, facts, _ = await stream.next("live")

    row = facts["rows"][0]
    assert row["patient_id"] == "invented-03"
    assert row["newest_occurred_at"] == site.now + 3_000_000
    assert row["recorded_at"] == site.now + 5_000_000
    assert facts["server_time"] > site.now
    assert 'id="tile-invented-03"' in row["html"]


async def test_a_screen_of_one_ward_is_told_nothing_of_another(site: Site) -> None:
    stream, _, _ = await opened(site, ["Ward B"])
    _, board, _ = await stream.next("board")

    await measure(site, 1, 5)
    await measure(site, 12, 6)
    _, facts, _ = await stream.next("live")

    assert [row["patient_id"] for row in board["rows"]] == ["invented-12"]
    assert [row["patient_id"] for row in facts["rows"]] == ["invented-12"]


async def test_a_patient_who_moves_to_another_ward_leaves_the_screen(site: Site) -> None:
    stream, _, _ = await opened(site, ["Ward A"])
    await stream.next("board")

    await measure(site, 3, 5, ward="Ward B")
    _, facts, _ = await stream.next("gone")

    assert facts["patients"] == ["invented-03"]


async def test_an_acknowledgement_reaches_the_screen(site: Site) -> None:
    stream, _, _ = await opened(site, view=View(only_alerts=True))
    _, board, _ = await stream.next("board")
    row = await site.repository.read(alerts.alert, "alert-01")
    assert row is not None

    seen = replace(row, acknowledged_at=site.now, acknowledged_by="morgan", state="acknowledged")
    await site.repository.write(alerts.save, seen, [])
    _, facts, _ = await stream.next("tile")
    _, summary, _ = await stream.next("summary")

    assert board["rows"] == []
    assert facts["rows"][0]["state"] == "high-acknowledged"
    assert summary["unacknowledged"] == 2


async def test_a_quiet_stream_says_that_it_is_alive(site: Site) -> None:
    stream, _, _ = await opened(site)

    _, facts, _ = await stream.next("heartbeat")

    assert facts["delay_seconds"] < 10
    assert facts["speed"] == 1.0


async def test_a_stream_ends_with_its_session(site: Site) -> None:
    stream, viewer, _ = await opened(site)
    await stream.next("board")

    await site.repository.write(people.end_session, viewer.session_hash)

    name, _, _ = await stream.next("signed-out")
    assert name == "signed-out"


async def test_a_closed_screen_is_forgotten(site: Site) -> None:
    session = await site.session("nurse", name="watcher")
    viewer = await sessions.viewer_of(site.repository, session.token, site.screens.settings)
    assert viewer is not None
    source = events(site.screens, viewer, session.token, View())
    await anext(source)

    await source.aclose()  # type: ignore[attr-defined]

    assert not site.screens.board._subscriptions


async def test_a_slow_screen_skips_states_and_keeps_nothing_twice(site: Site) -> None:
    with site.screens.board.subscribed() as subscription:
        for second in range(1, 6):
            await measure(site, 3, second)
        await site.until(lambda: site.screens.board.rows["invented-03"].newest_occurred_at == site.now + 3_000_000)

        live, touched = subscription.take()

    assert live == {"invented-03"}
    assert touched == set()
