"""A Subscription sends what whoever made it may see now: rights taken away end it, rights given back begin it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_site import Json, Site, observation
from pulseweir.fhir_store.interactions import check_incoming, update
from pulseweir.fhir_store.json_text import parse_object
from pulseweir.fhir_store.security.access import Access, reset_access, set_access
from pulseweir.fhir_store.security.caller import ANYBODY, HOUSE, Caller
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, ClientEntry, read_clients, revoke_client
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.issuer import Issuer
from pulseweir.fhir_store.security.maker import Maker, maker_of
from pulseweir.fhir_store.security.scopes import EVERYTHING, Grant, read_scopes
from pulseweir.fhir_store.subscriptions.standing import objection
from subscription_site import House, Receiver, criteria_subscription, topic_subscription

SCOPES = ("system/Subscription.cruds", "system/Observation.rs")
HOUR = 3_600 * 1_000_000


@pytest.fixture
async def house(make_house: Callable[..., Any]) -> House:
    made: House = await make_house(is_guarded=True, subscriptions={"hours_until_off": 24})
    return made


async def standing(house: House) -> tuple[str, str]:
    found = await house.get("Subscription/s1")
    return found["status"], found.get("error", "")


async def watching(house: House, receiver: Receiver, subscription: Json) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    await house.put(subscription, token)
    await house.settle()
    assert (await standing(house))[0] == "active"
    await house.put(observation("before"))
    await house.settle()
    receiver.requests.clear()


def change_scopes(directory: Path, *scopes: str, **members: Any) -> None:
    path = directory / CLIENTS_NAME
    entries = [msgspec.structs.replace(each, scopes=scopes, **members) for each in read_clients(path)]
    path.with_suffix(".changed").write_bytes(msgspec.json.encode(entries))
    path.with_suffix(".changed").rename(path)


KINDS = [criteria_subscription, topic_subscription]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_revoked_client_is_told_nothing_more(house: House, receiver: Receiver, kind: Any) -> None:
    await watching(house, receiver, kind(receiver.url))
    revoke_client(house.directory / CLIENTS_NAME, "watcher")
    await house.put(observation("after"))
    for _ in range(20):
        await house.settle(60)

    assert receiver.requests == []
    status, error = await standing(house)
    assert status == "error"
    assert "no client" in error


@pytest.mark.parametrize(
    "scopes",
    [
        ("system/Subscription.cruds",),
        ("system/Subscription.cruds", "system/Observation.r"),
        ("system/Subscription.cruds", "system/Observation.rs?category=vital-signs"),
        ("patient/*.cruds",),
    ],
)
async def test_a_narrowed_client_is_told_nothing_more_until_its_rights_come_back(
    house: House, receiver: Receiver, scopes: tuple[str, ...]
) -> None:
    await watching(house, receiver, criteria_subscription(receiver.url))
    change_scopes(house.directory, *scopes)
    await house.put(observation("held"))
    await house.settle(60)
    assert receiver.requests == []
    status, error = await standing(house)
    assert (status, error) == ("error", "Whoever made it may no longer read and search every Observation.")

    change_scopes(house.directory, *SCOPES)
    await house.settle(600)

    assert receiver.ids() == ["held"]
    assert await standing(house) == ("active", "")


async def test_a_client_past_its_end_is_told_nothing_more(house: House, receiver: Receiver) -> None:
    await watching(house, receiver, topic_subscription(receiver.url))
    change_scopes(house.directory, *SCOPES, expires_microseconds=1)
    await house.put(observation("after"))
    await house.settle(60)

    assert receiver.requests == []


async def test_no_handshake_and_no_heartbeat_goes_to_who_lost_its_rights(house: House, receiver: Receiver) -> None:
    token = house.site.token(*SCOPES, name="watcher")
    await house.put(topic_subscription(receiver.url, heartbeat_period=5), token)
    revoke_client(house.directory / CLIENTS_NAME, "watcher")
    for _ in range(5):
        await house.settle(600)

    assert receiver.requests == []


async def test_after_hours_of_it_the_subscription_is_off(house: House, receiver: Receiver) -> None:
    await watching(house, receiver, criteria_subscription(receiver.url))
    revoke_client(house.directory / CLIENTS_NAME, "watcher")
    await house.put(observation("after"))
    await house.settle()
    await house.settle(24 * 3_600)

    assert (await standing(house))[0] == "off"
    assert house.store.read(lambda session: session.connection.execute("SELECT count(*) FROM followed_type").get) == 1


async def test_what_was_made_while_the_store_was_open_ends_when_it_closes(make_house: Any, receiver: Receiver) -> None:
    house: House = await make_house(is_guarded=True)
    async with house.http() as http:
        http.headers.pop("authorization")
        tree = criteria_subscription(receiver.url)
        assert (await http.put("Subscription/s1", json=tree)).status_code == 201
        await house.settle()
        await house.put(observation("open"))
        await house.settle()
        assert receiver.ids() == ["open"]

        house.site.token(*SCOPES, name="first")
        await house.put(observation("closed"))
        await house.settle(60)

    assert receiver.ids() == ["open"]
    assert (await standing(house))[0] == "error"
    # Whoever stores it anew, with rights of its own, begins where it stopped.
    await house.put(tree)
    await house.settle()
    assert receiver.ids() == ["open", "closed"]


async def test_the_house_needs_nobody(house: House, receiver: Receiver) -> None:
    house.site.token(*SCOPES, name="someone")
    await house.put(criteria_subscription(receiver.url))
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()

    assert receiver.ids() == ["o1"]


async def test_it_goes_on_after_a_restart(house: House, receiver: Receiver) -> None:
    await watching(house, receiver, criteria_subscription(receiver.url))
    await house.stop()
    await house.start()
    await house.put(observation("after"))
    await house.settle()
    assert receiver.ids() == ["after"]

    revoke_client(house.directory / CLIENTS_NAME, "watcher")
    await house.stop()
    await house.start()
    await house.put(observation("later"))
    await house.settle(60)
    assert receiver.ids() == ["after"]


def signed(
    issuer: str = "issuer:https://sign-in.example", scopes: str = "system/Observation.rs", written: int = 0
) -> Maker:
    return Maker(issuer, "app", "u1", None, read_scopes(scopes.split()), written)


def test_rights_of_a_signed_token_count_for_a_while_and_with_its_issuer_only() -> None:
    guard = Guard(issuer=Issuer("https://sign-in.example", "aud", "", is_file=True))

    def standing(maker: Maker, now: int = HOUR, guard: Guard = guard) -> bool:
        return objection(guard, maker, "Observation", now, 2.0) == ""

    assert standing(signed())
    assert standing(signed(), 2 * HOUR)
    assert not standing(signed(), 2 * HOUR + 1)
    assert not standing(signed(issuer="issuer:https://other.example"))
    assert not standing(signed(scopes="system/Flag.rs"))
    assert not standing(signed(), guard=Guard())


def test_names_alone_are_no_standing(tmp_path: Path) -> None:
    asking = Guard(issuer=Issuer("https://sign-in.example", "aud", "", is_file=True))

    for maker in (Maker("client", "house"), Maker(ANYBODY.origin, "house"), Maker("", "app")):
        assert objection(asking, maker, "Observation", 0, 1.0)
    assert not objection(asking, Maker(HOUSE.origin, "house"), "Observation", 0, 1.0)
    named_house = Guard(issuer=Issuer("house", "aud", "", is_file=True))
    assert objection(named_house, Maker("issuer:anything", "house"), "Observation", 0, 1.0)
    assert Caller("house").identity != HOUSE.identity
    assert ClientEntry("house", ()).caller().identity != HOUSE.identity


async def test_storing_it_again_unchanged_makes_it_whose_it_is_now(make_house: Any, receiver: Receiver) -> None:
    house: House = await make_house(is_guarded=True)
    tree = criteria_subscription(receiver.url)
    async with house.http() as http:
        http.headers.pop("authorization")
        assert (await http.put("Subscription/s1", json=tree)).status_code == 201
    await house.settle()
    token = house.site.token(*SCOPES, name="first")
    held = await house.get("Subscription/s1")

    taken = (await house.put(held, token)).json()
    again = (await house.put(taken, token)).json()
    await house.settle()
    await house.put(observation("o1"))
    await house.settle()

    assert [int(each["meta"]["versionId"]) - int(held["meta"]["versionId"]) for each in (taken, again)] == [1, 1]
    assert receiver.ids() == ["o1"]


async def test_storing_it_again_begins_the_hours_of_a_signed_token_anew(make_site: Callable[..., Site]) -> None:
    site = make_site()
    caller = Caller("app", (Grant("system", "*", EVERYTHING),), origin="issuer:https://sign-in.example")
    document = parse_object(msgspec.json.encode(criteria_subscription("http://127.0.0.1/a")))
    incoming = check_incoming(document.tree, document.text, "Subscription", site.store.settings)

    async def store() -> Maker:
        before = set_access(Access(caller))
        try:
            written = await site.store.write(lambda session: update(session, incoming, "s1", None))
        finally:
            reset_access(before)
        assert written.stored is not None
        assert written.stored.version == 1
        return site.store.read(lambda session: maker_of(session, 1, 1))

    first, second = await store(), await store()

    assert first.written < second.written
    assert first.grants == second.grants == caller.grants
