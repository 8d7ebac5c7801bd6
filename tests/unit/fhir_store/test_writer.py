"""The writer of the FHIR store: one transaction at a time, none forgotten, whoever waits hears how it ended."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store import writer
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FILE_NAME, FhirStore
from pulseweir.sqlite import connect

PATIENT = {"resourceType": "Patient"}


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit takes long by the writer's clock, however busy this machine is."""
    monkeypatch.setattr(writer, "monotonic", count(0, 0.000_05).__next__)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FhirStore]:
    store = FhirStore.open(tmp_path, Clock())
    yield store
    store.close()


def put(name: str, threads: list[int] | None = None) -> Callable[[WriteSession], str]:
    def work(session: WriteSession) -> str:
        if threads is not None:
            threads.append(threading.get_ident())
        session.insert("Patient", name, PATIENT, (b"", b""))
        return name

    return work


def refuse(session: WriteSession) -> None:
    session.insert("Patient", "half", PATIENT, (b"", b""))
    raise Refusal(412, "conflict", "No.")


def held(store: FhirStore) -> set[str]:
    rows: list[Any] = store.read(lambda session: session.connection.execute("SELECT id FROM resource").fetchall())
    return {name for (name,) in rows}


def commits(store: FhirStore) -> list[set[str]]:
    """The types that each commit from now on changes."""
    found: list[set[str]] = []
    store.after_commit = lambda changed: found.append(set(changed))
    return found


async def test_short_writes_are_done_here_and_others_by_the_thread(store: FhirStore) -> None:
    short: list[int] = []
    other: list[int] = []

    await store.write(put("a", short), is_short=True)
    await store.write(put("b", other))

    assert short == [threading.get_ident()]
    assert other != short
    assert held(store) == {"a", "b"}


async def test_short_writes_that_come_in_a_few_turns_share_a_commit_and_each_is_all_or_nothing(
    store: FhirStore,
) -> None:
    done = commits(store)
    works = (put("a"), refuse, put("b"), refuse, put("c"))
    waiting = []
    for work in works:
        waiting.append(asyncio.ensure_future(store.write(work, is_short=True)))
        await asyncio.sleep(0)
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(each) if isinstance(each, str) else type(each) for each in results] == ["a", Refusal, "b", Refusal, "c"]
    assert held(store) == {"a", "b", "c"}
    assert done == [{"Patient"}]


async def test_a_commit_waits_a_moment_for_as_many_as_shared_the_last(
    store: FhirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(writer, "monotonic", lambda: seconds[0])
    done = commits(store)

    async def write_apart(first: str, second: str, pause_seconds: float) -> None:
        waiting = [asyncio.ensure_future(store.write(put(first), is_short=True))]
        for turn in range(20):
            seconds[0] += pause_seconds if turn == 10 else 0
            await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(store.write(put(second), is_short=True)))
        await asyncio.gather(*waiting)

    await asyncio.gather(store.write(put("a"), is_short=True), store.write(put("b"), is_short=True))
    assert len(done) == 1
    await write_apart("c", "d", 0)
    assert len(done) == 2
    await write_apart("e", "f", 0.01)
    assert len(done) == 4
    await write_apart("g", "h", 0)
    assert len(done) == 6, "a client by itself never waits"


async def test_no_more_short_writes_share_a_commit_than_are_allowed(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(group_units=3))
    done = commits(store)
    await asyncio.gather(*(store.write(put(f"p{place}"), is_short=True) for place in range(8)))
    store.close()

    assert len(done) == 3


async def test_a_slow_disk_never_holds_up_the_loop(store: FhirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[int] = []
    quick: list[int] = []
    with monkeypatch.context() as seconds:
        seconds.setattr(writer, "monotonic", count().__next__)
        for place in range(3):
            await store.write(put(f"s{place}", slow), is_short=True)
    for place in range(60):
        await store.write(put(f"q{place}", quick), is_short=True)

    here = threading.get_ident()
    assert [each == here for each in slow] == [True, False, False]
    assert quick[0] != here
    assert quick[-1] == here
    assert len(held(store)) == 63


async def test_a_store_whose_pages_are_slow_to_read_holds_up_the_loop_once(
    store: FhirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(writer, "monotonic", lambda: seconds[0])
    threads: list[int] = []

    def work(session: WriteSession) -> str:
        seconds[0] += 0.1
        return put(f"p{seconds[0]}", threads)(session)

    for _ in range(3):
        await store.write(work, is_short=True)

    assert [each == threading.get_ident() for each in threads] == [True, False, False]


async def test_the_loop_goes_on_while_another_process_holds_the_file(store: FhirStore, tmp_path: Path) -> None:
    threads: list[int] = []
    waited: list[int] = []

    def is_patient(_: int) -> bool:
        waited.append(threading.get_ident())
        return False

    store._connection.set_busy_handler(is_patient)
    other = connect(tmp_path / FILE_NAME)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.write(put("a", threads), is_short=True))
    for _ in range(10):
        await asyncio.sleep(0)

    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert await waiting == "a"
    assert threading.get_ident() not in [*threads, *waited]


async def test_the_log_is_brought_into_the_file_by_the_thread(
    store: FhirStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECKPOINT_PAGES", 20)
    for place in range(300):
        await store.write(put(f"p{place}"), is_short=True)

    # Five pages a commit: without checkpoints the log would be six megabytes long.
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size < 1_000_000
    assert len(held(store)) == 300


async def test_a_thread_that_wants_to_write_is_not_held_off_by_a_busy_loop(store: FhirStore) -> None:
    waiting: list[Any] = []
    threads: list[int] = []

    def work(session: WriteSession) -> str:
        waiting.append(asyncio.wrap_future(store.post(put("b"))))
        while not store._writer._thread_wants_turn:
            sleep(0.001)
        return put("a")(session)

    assert await asyncio.wait_for(store.write(work, is_short=True), 10) == "a"
    assert await asyncio.wait_for(waiting[0], 10) == "b"
    store._writer._thread_wants_turn = True
    for name in "cd":
        await store.write(put(name, threads), is_short=True)
    assert [each == threading.get_ident() for each in threads] == [False, True]


async def test_what_is_queued_when_the_store_closes_is_done_and_the_rest_refused(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock(), FhirStoreSettings(group_units=2))
    waiting = [asyncio.ensure_future(store.write(put(f"p{place}"), is_short=place >= 20)) for place in range(24)]
    await asyncio.sleep(0)
    store.close()

    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert results[:20] == [f"p{place}" for place in range(20)]
    assert [type(each) for each in results[20:]] == [RetryLater] * 4
    for is_short in (True, False):
        with pytest.raises(RetryLater):
            await store.write(put("late"), is_short=is_short)
    reopened = FhirStore.open(tmp_path, Clock())
    assert len(held(reopened)) == 20
    reopened.close()


async def test_a_store_that_is_closed_amid_a_short_write_commits_it_first(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock())
    closing = threading.Thread(target=store.close)

    def work(session: WriteSession) -> str:
        closing.start()
        while store.is_ready:
            sleep(0.001)
        return put("a")(session)

    assert await asyncio.wait_for(store.write(work, is_short=True), 10) == "a"
    closing.join(10)
    reopened = FhirStore.open(tmp_path, Clock())
    assert held(reopened) == {"a"}
    reopened.close()


@pytest.mark.parametrize("is_short", [True, False])
async def test_a_commit_that_fails_stores_nothing_and_the_next_does(store: FhirStore, is_short: bool) -> None:
    store._connection.set_commit_hook(lambda: True)
    results = await asyncio.gather(
        *(store.write(put(name), is_short=is_short) for name in "ab"), return_exceptions=True
    )
    assert [type(each) for each in results] == [RetryLater, RetryLater]
    store._connection.set_commit_hook(None)

    assert held(store) == set()
    assert await store.write(put("a"), is_short=is_short) == "a"
    assert held(store) == {"a"}


async def test_whoever_waits_hears_of_a_fault_of_the_writer_itself(
    store: FhirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: WriteSession) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(WriteSession, "settle", fails)
        for is_short in (True, False):
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(store.write(put("a"), is_short=is_short), 10)

    assert store.is_ready
    assert await store.write(put("b")) == "b"
    assert held(store) == {"b"}


async def test_loops_of_several_threads_may_write(store: FhirStore) -> None:
    async def many(prefix: str) -> list[str]:
        writes = (store.write(put(f"{prefix}{place}"), is_short=place % 4 > 0) for place in range(100))
        return await asyncio.wait_for(asyncio.gather(*writes), 20)

    done = await asyncio.gather(*(asyncio.to_thread(asyncio.run, many(prefix)) for prefix in "xyz"), many("w"))

    assert held(store) == {name for names in done for name in names}
    assert len(held(store)) == 400


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["short", "long", "posted", "soon", "refused"]), max_size=60),
    units=st.integers(1, 8),
)
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
                waiting.append(asyncio.ensure_future(store.write(work, is_short=kind != "long")))
            if place % 5 == 0:
                await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)

    results = asyncio.run(run())
    wanted = [Refusal if kind == "refused" else f"{kind}{place}" for place, kind in enumerate(kinds)]
    assert [each if isinstance(each, str) else type(each) for each in results] == wanted
    assert held(store) == {each for each in wanted if isinstance(each, str)}
    store.close()
