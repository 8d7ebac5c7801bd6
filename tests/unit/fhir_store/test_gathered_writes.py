"""Writes are gathered until somebody looks: what is seen, undone and kept is as if each had been written at once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import FhirStore

Work = Callable[[WriteSession], Any]
OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "pulse"},
    "identifier": [{"value": "x"}],
    "subject": {"reference": "Patient/new"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FhirStore]:
    store = FhirStore.open(tmp_path, Clock())
    yield store
    store.close()


def put(name: str, subject: str = "Patient/new") -> Work:
    tree = OBSERVATION | {"subject": {"reference": subject}}
    return lambda session: session.insert("Observation", name, tree, (b"", b'"status":"final"'))


def together(store: FhirStore, *units: Work) -> list[Any]:
    """The outcomes of units that share one commit."""
    may_go = threading.Event()
    first = store.post(lambda _: may_go.wait(10))
    waiting = [store.post(unit) for unit in units]
    may_go.set()
    assert first.result(10)
    return [unit.exception(10) or unit.result() for unit in waiting]


def rows(store: FhirStore, statement: str) -> list[Any]:
    return store.read(lambda session: session.connection.execute(statement).fetchall())


def is_there(store: FhirStore, name: str) -> bool:
    try:
        return bool(store.read(lambda session: read(session, "Observation", name)))
    except Refusal:
        return False


def fails_late(session: WriteSession) -> None:
    """Writes, looks at what it wrote, twice, and fails."""
    count = "SELECT count(*) FROM resource WHERE id LIKE 'undone-%'"
    put("undone-1")(session)
    assert session.connection.execute(count).get == 1
    put("undone-2", "Patient/late")(session)
    session.set_setting("mark", "undone")
    assert session.connection.execute(count).get == 2
    raise Refusal(412, "conflict", "No.")


def fails_early(session: WriteSession) -> None:
    put("undone-3")(session)
    raise Refusal(412, "conflict", "No.")


@pytest.mark.parametrize("fails", [fails_early, fails_late])
def test_a_unit_that_fails_takes_nothing_of_its_commit_with_it(store: FhirStore, fails: Work) -> None:
    outcomes = together(
        store, put("a"), lambda session: session.set_setting("mark", "kept"), fails, put("b"), put("c"), fails
    )

    assert [isinstance(outcome, Refusal) for outcome in outcomes] == [False, False, True, False, False, True]
    assert [name for name in ("a", "b", "c", "undone-1", "undone-2", "undone-3") if is_there(store, name)] == [*"abc"]
    indexed = {pk for (pk,) in rows(store, "SELECT pk FROM observation")}
    assert indexed == {pk for (pk,) in rows(store, "SELECT pk FROM resource")}
    assert indexed == {pk for (pk,) in rows(store, "SELECT pk FROM text_index")}
    assert rows(store, "SELECT value FROM setting WHERE name = 'mark'") == [("kept",)]


def test_names_interned_by_a_unit_that_fails_are_found_anew(store: FhirStore) -> None:
    together(store, fails_late, put("a", "Patient/late"), fails_early, put("b", "Patient/late"))

    number = rows(store, "SELECT id FROM term WHERE text = 'Patient/late'")
    assert rows(store, "SELECT DISTINCT subject FROM observation") == number


def test_a_part_that_fails_leaves_the_rest_of_its_unit(store: FhirStore) -> None:
    def work(session: WriteSession) -> None:
        put("before")(session)
        for fails in (fails_early, fails_late):
            with pytest.raises(Refusal), session.undoable():
                fails(session)
            assert session.find("Observation", "undone-1") is None
        assert session.setting("mark") is None
        put("after")(session)

    together(store, work)

    assert sorted(rows(store, "SELECT id FROM resource")) == [("after",), ("before",)]


def test_a_unit_finds_what_another_of_its_commit_wrote(store: FhirStore) -> None:
    def change(session: WriteSession) -> int:
        current = session.find("Observation", "a")
        assert current is not None
        return session.replace(current, OBSERVATION, (b"", b'"status":"amended"')).version

    together(store, put("a"), change, change)

    assert rows(store, "SELECT version FROM resource") == [(3,)]
    assert rows(store, "SELECT version FROM history ORDER BY version") == [(1,), (2,)]


def test_what_is_looked_up_at_once_is_what_each_would_find(store: FhirStore) -> None:
    together(store, put("a"), put("b"), lambda session: session.delete(read(session, "Observation", "b")))
    each = store.post(lambda session: [session.find("Observation", name) for name in "abc"]).result(10)

    def work(session: WriteSession) -> list[Any]:
        session.look_up("Observation", "abc")
        found = [session.find("Observation", name) for name in "abc"]
        put("c")(session)
        assert session.find("Observation", "c") is not None
        return found

    assert store.post(work).result(10) == each


def test_what_nobody_waits_for_is_part_of_the_next_commit(store: FhirStore) -> None:
    seen: list[int] = []
    store.after_commit = lambda _: seen.append(len(rows(store, "SELECT id FROM resource")))

    soon = [store.post_soon(put(name)) for name in ("a", "b", "c")]
    store.post(put("d")).result(10)

    assert all(each.done() for each in soon)
    assert seen == [4]


def test_what_nobody_waits_for_is_written_without_another_write(store: FhirStore) -> None:
    store.post_soon(put("a")).result(10)

    assert is_there(store, "a")


def test_what_nobody_waits_for_is_written_before_the_store_closes(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock())
    for number in range(200):
        store.post_soon(put(f"o{number}"))
    store.close()

    reopened = FhirStore.open(tmp_path, Clock())
    assert rows(reopened, "SELECT count(*) FROM resource") == [(200,)]
    reopened.close()


async def test_a_request_given_up_holds_up_no_other_of_its_commit(store: FhirStore) -> None:
    may_go = threading.Event()
    first = asyncio.create_task(store.write(lambda _: may_go.wait(10)))
    await asyncio.sleep(0)
    given_up, waits = asyncio.create_task(store.write(put("a"))), asyncio.create_task(store.write(put("b")))
    await asyncio.sleep(0)
    given_up.cancel()
    may_go.set()

    assert (await waits).resource_id == "b"
    assert await first
    assert is_there(store, "a")
