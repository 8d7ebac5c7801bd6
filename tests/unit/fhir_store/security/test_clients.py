"""The operator's clients: made, listed, revoked; their tokens known by hash only."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pulseweir.fhir_store.security.clients import (
    ClientEntry,
    Clients,
    ClientsUnusable,
    add_client,
    house_token,
    read_clients,
    revoke_client,
)


def test_a_token_is_known_by_its_hash_and_kept_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "fhir" / "clients.json"
    token = add_client(path, ClientEntry("app", ("system/Flag.rs",)), 0)

    assert token.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    clients = Clients(path)
    known = clients.by_token(token, 1)
    assert known is not None
    assert (known.name, known.may("Flag", "r"), known.may("Flag", "u")) == ("app", True, False)
    assert [clients.by_token(f"{token}{number}", 1) for number in range(64)] == [None] * 64
    assert clients.by_token("", 1) is None


def test_a_change_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    clients = Clients(path)
    assert not clients
    token = add_client(path, ClientEntry("app", ("system/Flag.rs",)), 0)

    assert clients
    assert clients.by_token(token, 0) is not None
    assert revoke_client(path, "app")
    assert clients.by_token(token, 0) is None
    assert not revoke_client(path, "app")


def test_changes_at_once_lose_none_and_bring_no_revoked_client_back(tmp_path: Path) -> None:
    path = tmp_path / "fhir" / "clients.json"
    for number in range(8):
        add_client(path, ClientEntry(f"old-{number}", ("system/Flag.rs",)), 0)

    with ThreadPoolExecutor(8) as pool:
        revoked = [pool.submit(revoke_client, path, f"old-{number}") for number in range(8)]
        added = [
            pool.submit(add_client, path, ClientEntry(f"new-{number}", ("system/Flag.rs",)), 0) for number in range(8)
        ]
    assert all(each.result() for each in revoked)
    assert all(each.result() for each in added)

    assert {each.name for each in read_clients(path)} == {f"new-{number}" for number in range(8)}


def test_a_file_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ClientsUnusable, match="Check its owner"):
        add_client(tmp_path / "file" / "clients.json", ClientEntry("app", ("system/Flag.rs",)), 0)


def test_revoking_where_no_store_is_makes_none(tmp_path: Path) -> None:
    assert not revoke_client(tmp_path / "elsewhere" / "clients.json", "app")
    assert not (tmp_path / "elsewhere").exists()


def test_a_client_ends(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    token = add_client(path, ClientEntry("app", ("system/Flag.rs",), expires_microseconds=10), 0)
    clients = Clients(path)

    assert clients.by_token(token, 9) is not None
    assert clients.by_token(token, 10) is None


def test_a_certificate_is_known_by_its_name_and_no_token_opens_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    assert add_client(path, ClientEntry("gateway", ("system/Flag.c",), certificate="gw.example"), 0) == ""
    clients = Clients(path)

    found = clients.by_certificate("gw.example", 0)
    assert found is not None
    assert found.name == "gateway"
    assert clients.by_certificate("other.example", 0) is None
    assert clients.by_token("", 0) is None


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [
        (ClientEntry("app", ("system/Flag.rs",)), "another name"),
        (ClientEntry("b", ("openid",)), "--scope"),
        (ClientEntry("b", ("system/Nonsense.rs",)), "Types: "),
        (ClientEntry("b", ("system/Flag.rs",), patient="a/b"), "logical id"),
    ],
)
def test_a_client_that_makes_no_sense_is_refused_with_the_remedy(
    tmp_path: Path, entry: ClientEntry, remedy: str
) -> None:
    path = tmp_path / "clients.json"
    add_client(path, ClientEntry("app", ("system/Flag.rs",)), 0)

    with pytest.raises(ClientsUnusable, match=remedy):
        add_client(path, entry, 0)
    assert len(read_clients(path)) == 1


def test_a_damaged_file_stops_the_store_rather_than_open_it(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    path.write_text("[{")

    with pytest.raises(ClientsUnusable, match="backup"):
        Clients(path)


def test_a_restriction_that_a_later_release_does_not_know_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    entry = ClientEntry("app", ("system/Flag.rs?invented=x", "system/Patient.r"))
    path.write_bytes(msgspec.json.encode([entry]))

    caller = entry.caller()
    assert not caller.may("Flag", "r")
    assert caller.may("Patient", "r")


def test_the_roles_of_a_house_agree_on_their_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: house_token(tmp_path / "fhir"), range(32)))

    assert len(tokens) == 1
    assert stat.S_IMODE((tmp_path / "fhir" / "house.token").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "fhir").iterdir()] == ["house.token"]
