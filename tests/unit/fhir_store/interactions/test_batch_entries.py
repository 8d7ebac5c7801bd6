"""An entry of a batch alters no other, whatever it asks and whatever it raises; a transaction is all or nothing."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_site import Site
from pulseweir.clock import Clock
from pulseweir.errors import RetryLater
from pulseweir.fhir_store import bundle_checking, bundles, interactions, reading
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore

Json = dict[str, Any]
BASE = "http://fhir.test/fhir/"


def patient(name: str, **members: Any) -> Json:
    return {"resourceType": "Patient", "id": name} | members


def put(name: str, **members: Any) -> Json:
    return {"request": {"method": "PUT", "url": f"Patient/{name}"}, "resource": patient(name, **members)}


def get(url: str, method: str = "GET", **members: Any) -> Json:
    return {"request": {"method": method, "url": url} | members}


GOOD = [
    put("good1"),
    get("metadata"),
    get("Patient/held"),
    {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}},
    get("Patient?_id=held"),
    get("Patient/held/$everything?_type=Device"),
    put("good2", active=True),
]
BAD: list[Any] = [
    get("Patient/held", "PURGE"),
    get("Patient/held", ""),
    {"request": {"url": "Patient/held"}},
    {"request": {"method": "GET"}},
    {"request": {"method": 1, "url": "Patient"}},
    {"resource": patient("x")},
    {},
    {"request": {"method": "PUT", "url": "Patient/x"}, "resource": [1]},
    {"request": {"method": "PUT", "url": "Patient/x"}, "resource": None},
    {"request": {"method": "PUT", "url": "Patient/x", "ifNoneExists": "x"}, "resource": patient("x")},
    {"request": {"method": "PUT", "url": "Patient/x"}, "resource": patient("x"), "resources": 1},
    {"request": "GET"},
    get("Nonsense/1"),
    get("Patient/a_b"),
    get("Patient/none"),
    get("Patient?_sort:desc=x"),
    get("Patient?birthdate=soon"),
    get("Patient/held/$nothing"),
    get("Patient/$export"),
    get("a/b/c/d/e/f"),
    get("Patient/held/$everything?_type=Nonsense"),
    get("Patient/%00"),
    get("metadata", "DELETE"),
    get("", "DELETE"),
    {"request": {"method": "PUT", "url": "Patient/x"}, "resource": patient("y")},
    {"request": {"method": "PUT", "url": "Patient/x"}, "resource": patient("x", gender="none")},
    {"request": {"method": "PUT", "url": "Patient?name=x&_count=1"}, "resource": {"resourceType": "Group"}},
    {"request": {"method": "PATCH", "url": "Patient/held"}, "resource": patient("held")},
    {"request": {"method": "PUT", "url": "Patient/held", "ifMatch": 'W/"9"'}, "resource": patient("held")},
    {"request": {"method": "POST", "url": "Patient", "ifNoneExist": "x=y"}, "resource": {"resourceType": "Patient"}},
]
RAISED: list[Callable[[], BaseException]] = [
    lambda: Refusal(418, "invalid", "no"),
    lambda: RetryLater("later"),
    lambda: RuntimeError("x"),
    lambda: KeyError("x"),
    lambda: RecursionError("deep"),
    MemoryError,
    lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"),
    lambda: OSError(5, "x"),
    lambda: apsw.SQLError("x"),
    lambda: apsw.TooBigError("x"),
    lambda: apsw.BindingsError("x"),
    lambda: apsw.InterruptError("x"),
    lambda: apsw.ConstraintError("x"),
    AssertionError,
    StopIteration,
    lambda: OverflowError("x"),
]
MINE = "urn:test:raises"


@contextmanager
def raising(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Resources with a language of ours raise, some before anything is written and some after; so do such reads."""

    def number(text: str) -> int:
        return int(text.rpartition("-")[2])

    def after(name: str) -> Any:
        real = getattr(bundles, name)

        def act(session: Any, incoming: Any, *others: Any, **named: Any) -> Any:
            done = real(session, incoming, *others, **named)
            tag = str(incoming.tree.get("implicitRules", ""))
            if tag.startswith(f"{MINE}:late"):
                raise RAISED[number(tag)]()
            return done

        return act

    def check(tree: Any, *others: Any) -> Any:
        tag = str(tree.get("implicitRules", ""))
        if tag.startswith(f"{MINE}:early"):
            raise RAISED[number(tag)]()
        return real_check(tree, *others)

    def read(session: Any, asked: Any, limits: Any) -> Any:
        if asked.segments[:1] == ["Patient"] and asked.segments[-1].startswith("boom-"):
            raise RAISED[number(asked.segments[-1])]()
        return real_read(session, asked, limits)

    real_check, real_read = interactions.check_incoming, reading.answer_reading
    with monkeypatch.context() as patched:
        for name in ("create", "update"):
            patched.setattr(bundles, name, after(name))
        patched.setattr(bundles, "check_incoming", check)
        patched.setattr(bundle_checking, "check_incoming", check)
        patched.setattr(bundles, "answer_reading", read)
        yield


def boom(number: int, way: str) -> Json:
    if way == "read":
        return get(f"Patient/boom-{number}")
    if way == "post":
        resource = {"resourceType": "Patient", "implicitRules": f"{MINE}:late-{number}"}
        return {"request": {"method": "POST", "url": "Patient"}, "resource": resource}
    return put(f"boom{number}", implicitRules=f"{MINE}:{way}-{number}")


WAYS = ("early", "late", "read", "post")
BOOMS = [boom(number, way) for number in range(len(RAISED)) for way in WAYS]


def told(entry: Json) -> Any:
    """What an answer says, without what no two answers share."""
    resource = entry.get("resource", {})
    kind, total = resource.get("resourceType"), resource.get("total")
    outcome = [issue["code"] for issue in entry["response"].get("outcome", {}).get("issue", ())]
    return entry["response"]["status"], kind, total, outcome


async def post(http: httpx.AsyncClient, entries: list[Any], kind: str = "batch") -> httpx.Response:
    return await http.post("", json={"resourceType": "Bundle", "type": kind, "entry": entries})


async def ids(http: httpx.AsyncClient) -> set[str]:
    found = (await http.get("Patient?_count=1000")).json()
    return {entry["resource"]["id"] for entry in found.get("entry", ())}


@pytest.mark.parametrize("place", range(len(BAD)))
async def test_an_entry_that_cannot_be_done_is_answered_by_itself(http: httpx.AsyncClient, place: int) -> None:
    await http.put("Patient/held", json=patient("held"))

    answer = await post(http, [GOOD[0], BAD[place], *GOOD[1:]])

    assert answer.status_code == 200, answer.text
    first, bad, *others = answer.json()["entry"]
    assert bad["response"]["status"][0] == "4"
    assert bad["response"]["outcome"]["issue"][0]["severity"] == "error"
    assert bad["response"]["outcome"]["issue"][0]["expression"]
    assert [told(each)[0] for each in (first, *others)] == ["201", "200", "200", "201", "200", "200", "201"]
    assert others[0]["resource"]["resourceType"] == "CapabilityStatement"
    assert others[4]["resource"].get("entry", []) == []


@pytest.mark.parametrize("place", range(len(BAD)))
async def test_the_same_entry_ends_a_transaction_and_nothing_of_it_is_stored(
    http: httpx.AsyncClient, place: int
) -> None:
    await http.put("Patient/held", json=patient("held"))

    answer = await post(http, [put("good1"), BAD[place], put("good2")], "transaction")

    assert 400 <= answer.status_code < 500, answer.text
    assert await ids(http) == {"held"}


async def test_a_thousand_entries_of_which_each_third_raises_something_else(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await http.put("Patient/held", json=patient("held"))
    wrong = [*BOOMS, *BAD]
    entries = [wrong[number // 3 % len(wrong)] if number % 3 == 2 else put(f"p{number}") for number in range(1000)]

    with raising(monkeypatch):
        answer = await post(http, entries)

    assert answer.status_code == 200, answer.text
    answers = answer.json()["entry"]
    assert len(answers) == 1000
    assert {told(each)[0] for number, each in enumerate(answers) if number % 3 != 2} == {"201"}
    assert {told(each)[0][0] for number, each in enumerate(answers) if number % 3 == 2} == {"4", "5"}
    assert await ids(http) == {"held", *(f"p{number}" for number in range(1000) if number % 3 != 2)}


@pytest.mark.parametrize("number", range(len(RAISED)))
@pytest.mark.parametrize("way", WAYS)
async def test_whatever_is_raised_leaves_nothing_of_a_transaction(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, way: str, number: int
) -> None:
    with raising(monkeypatch):
        answer = await post(http, [put("good1"), boom(number, way), put("good2")], "transaction")

    assert answer.status_code >= 400
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert await ids(http) == set()
    assert (await http.put("Patient/next", json=patient("next"))).status_code == 201


async def test_a_full_disk_fails_the_batch_as_a_whole_and_stores_nothing(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "RAISED", [lambda: apsw.FullError("disk")])
    with raising(monkeypatch):
        answer = await post(http, [put("good1"), boom(0, "late"), put("good2")])

    assert answer.status_code == 503
    assert await ids(http) == set()


async def test_faults_are_told_to_the_audit_and_to_the_client_without_their_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FhirStore.open(tmp_path / "fhir", Clock(), FhirStoreSettings())
    site = Site(store, tmp_path / "fhir")
    try:
        with raising(monkeypatch):
            async with site.http(site.token("system/*.cruds")) as http:
                answer = await post(http, [put("good1"), *BAD, *BOOMS])
                events = await http.get("AuditEvent")
    finally:
        store.close()

    assert answer.status_code == 200, answer.text
    assert events.json()["total"] >= 1
    assert "\\ud800" not in answer.text


entry_lists = st.lists(st.sampled_from([*GOOD, *BAD, *BOOMS]), min_size=1, max_size=9)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(entries=entry_lists)
def test_a_batch_answers_each_entry_as_it_would_alone(entries: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder, raising(monkeypatch):
            stores = [FhirStore.open(Path(folder) / name, Clock(), FhirStoreSettings()) for name in ("a", "b")]
            try:
                clients = [
                    httpx.AsyncClient(transport=httpx.ASGITransport(create_app(store)), base_url=BASE)
                    for store in stores
                ]
                for client in clients:
                    await client.put("Patient/held", json=patient("held"))
                # Those that write first run first, whatever their place.
                order = {"POST": 1, "PUT": 2, "PATCH": 2, "GET": 4}
                turns = sorted(range(len(entries)), key=lambda at: order.get(_method(entries[at]), 0))
                together = await post(clients[0], entries)
                assert together.status_code == 200, together.text
                alone = [(await post(clients[1], [entries[at]])).json()["entry"][0] for at in turns]
                assert [told(together.json()["entry"][at]) for at in turns] == [told(each) for each in alone]
                for client in clients:
                    await client.aclose()
            finally:
                for store in stores:
                    store.close()

    asyncio.run(run())


def _method(entry: Any) -> str:
    request = entry.get("request") if isinstance(entry, dict) else None
    return str(request.get("method")) if isinstance(request, dict) else ""
