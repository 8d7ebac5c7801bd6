"""The writer of the FHIR store: one transaction at a time, none forgotten, whoever waits hears how it ended."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

PATIENT = {"resourceType": "Patient"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FhirStore]:
    store = FhirStore.open(tmp_path, Clock())
    yield store
    store.close()


def put(name: str) -> Callable[[WriteSession], str]:
    def work(session: WriteSession) -> str:
        session.insert("Patient", name, PATIENT, (b"", b""))
        return name

    return work


def refuse(session: WriteSession) -> None:
    session.insert("Patient", "half", PATIENT, (b"", b""))
    raise Refusal(412, "conflict", "No.")


def held(store: FhirStore) -> set[str]:
    rows: list[Any] = store.read(lambda session: session.connection.execute("SELECT id FROM resource").fetchall())
    return {name for (name,) in rows}


async def test_what_waits_when_the_store_closes_is_done(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(group_units=2))
    waiting = [asyncio.ensure_future(store.write(put(f"p{place}"))) for place in range(20)]
    await asyncio.sleep(0)
    store.close()

    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [f"p{place}" for place in range(20)]
    with pytest.raises(RetryLater):
        await store.write(put("late"))
    reopened = FhirStore.open(tmp_path, Clock())
    assert len(held(reopened)) == 20
    reopened.close()


async def test_a_commit_that_fails_stores_nothing_and_the_next_does(store: FhirStore) -> None:
    store._connection.set_commit_hook(lambda: True)
    results = await asyncio.gather(*(store.write(put(name)) for name in "ab"), return_exceptions=True)
    assert [type(each) for each in results] == [RetryLater, RetryLater]
    store._connection.set_commit_hook(None)

    assert held(store) == set()
    assert await store.write(put("a")) == "a"
    assert held(store) == {"a"}


async def test_whoever_waits_hears_of_a_fault_of_the_writer_itself(
    store: FhirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: WriteSession) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(WriteSession, "settle", fails)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(store.write(put("a")), 10)

    assert store.is_ready
    assert await store.write(put("b")) == "b"
    assert held(store) == {"b"}


async def test_loops_of_several_threads_may_write(store: FhirStore) -> None:
    async def many(prefix: str) -> list[str]:
        writes = (store.write(put(f"{prefix}{place}")) for place in range(100))
        return await asyncio.wait_for(asyncio.gather(*writes), 20)

    done = await asyncio.gather(*(asyncio.to_thread(asyncio.run, many(prefix)) for prefix in "xyz"), many("w"))

    assert held(store) == {name for names in done for name in names}
    assert len(held(store)) == 400


@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from(["awaited", "posted", "soon", "refused"]), max_size=60), units=st.integers(1, 8))
def test_writes_of_all_kinds_in_any_order_are_all_done(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], units: int
) -> None:
    store = FhirStore.open(tmp_path_factory.mktemp("writer"), Clock(), FhirStoreSettings(group_units=units))

    async def run() -> list[Any]:
        waiting: list[Any] = []
        for place, kind in enumerate(kinds):
            work = refuse if kind == "refused" else put(f"{kind}{place}")
            if kind == "posted":
                waiting.append(asyncio.wrap_future(store.post(work)))
            elif kind == "soon":
                waiting.append(asyncio.wrap_future(store.post_soon(work)))
            else:
                waiting.append(asyncio.ensure_future(store.write(work)))
            if place % 5 == 0:
                await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)

    results = asyncio.run(run())
    wanted = [Refusal if kind == "refused" else f"{kind}{place}" for place, kind in enumerate(kinds)]
    assert [each if isinstance(each, str) else type(each) for each in results] == wanted
    assert held(store) == {each for each in wanted if isinstance(each, str)}
    store.close()
