"""Credentials for an outside FHIR server: what is sent, where it is never sent, and what no text shows."""

from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.backends.fhir_client import FhirClient, FhirVersionUnsupported
from pulseweir.backends.fhir_credentials import FhirCredentialsUnusable, FixedAuthorization, TokenFile
from pulseweir.errors import FhirRefused, FhirUnavailable, RefuseToStart
from pulseweir.settings import SettingsError, load_settings
from pulseweir.systems import authorities, check_fhir, open_fhir

BASE = "https://fhir.test/r4"
SECRET = "Canary-4711"
R4 = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}


def recording(seen: list[httpx.Request], link: str | None = None) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        links = [{"relation": "next", "url": link}] if link and len(seen) == 1 else []
        return httpx.Response(200, json={"resourceType": "Bundle", "entry": [], "link": links})

    return httpx.MockTransport(answer)


async def test_a_bearer_token_and_a_password_are_sent_as_their_standards_say() -> None:
    seen: list[httpx.Request] = []
    for credentials in (FixedAuthorization.bearer(SECRET), FixedAuthorization.basic("house", "wörd:x")):
        await FhirClient(BASE, transport=recording(seen), credentials=credentials).search("Patient", {})

    bearer, basic = (request.headers["authorization"] for request in seen)
    assert bearer == f"Bearer {SECRET}"
    assert b64decode(basic.removeprefix("Basic ")).decode() == "house:wörd:x"


async def test_a_token_file_is_read_again_when_its_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")
    credentials = TokenFile(path)
    path.write_text("new\n")
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        return httpx.Response(200 if asked[-1] == "Bearer new" else 401, json={"resourceType": "Patient"})

    client = FhirClient(BASE, transport=httpx.MockTransport(answer), credentials=credentials)
    await client.read("Patient", "1")
    path.write_text("old\n")
    with pytest.raises(FhirRefused):
        await FhirClient(BASE, transport=httpx.MockTransport(answer), credentials=TokenFile(path)).read("Patient", "1")

    assert asked == ["Bearer old", "Bearer new", "Bearer old"]


@pytest.mark.parametrize("text", ["", "two words", "line\nline", "é"])
def test_what_is_no_token_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text + SECRET + "ü")

    with pytest.raises(FhirCredentialsUnusable) as from_file:
        TokenFile(path)
    with pytest.raises(FhirCredentialsUnusable) as from_setting:
        FixedAuthorization.bearer(text + SECRET + "ü")

    assert SECRET not in f"{from_file.value}{from_setting.value}"


@pytest.mark.parametrize(
    "link", ["https://elsewhere.test/r4?page=2", "http://fhir.test.evil.example/?page=2", "//elsewhere.test/r4?page=2"]
)
async def test_a_link_to_another_host_is_not_followed(link: str) -> None:
    seen: list[httpx.Request] = []
    client = FhirClient(BASE, transport=recording(seen, link), credentials=FixedAuthorization.bearer(SECRET))

    with pytest.raises(FhirUnavailable, match=r"link to another host, (elsewhere\.test|fhir\.test\.evil\.example)"):
        await client.search("Patient", {})

    assert len(seen) == 1


@pytest.mark.parametrize(
    "link",
    [
        "http://fhir.test/r4?page=2",
        "https://fhir.test:8443/r4?page=2",
        "https://somebody:else@fhir.test/r4?page=2",
        "?page=2",
        "/r4?page=2",
    ],
)
async def test_a_link_to_the_same_host_is_asked_at_the_configured_origin(link: str) -> None:
    """Behind a proxy a server may not know under which scheme and port it is reached."""
    seen: list[httpx.Request] = []
    client = FhirClient(BASE, transport=recording(seen, link), credentials=FixedAuthorization.bearer(SECRET))

    await client.search("Patient", {})

    assert str(seen[1].url) in {"https://fhir.test/r4?page=2", "https://fhir.test/r4/?page=2"}
    assert seen[1].headers["authorization"] == f"Bearer {SECRET}"


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.test/r4/Patient/1"})

    client = FhirClient(BASE, transport=httpx.MockTransport(answer), credentials=FixedAuthorization.bearer(SECRET))
    with pytest.raises(FhirUnavailable, match=r"307.*fhir\.base_url"):
        await client.read("Patient", "1")
    with pytest.raises(FhirUnavailable, match="307"):
        await client.send_bundle([{"request": {"method": "GET", "url": "Patient/1"}}])

    assert set(asked) == {"fhir.test"}


@pytest.mark.parametrize("told", [{"bearer_token": SECRET}, {"user_name": "house", "password": SECRET}])
def test_credentials_do_not_go_over_a_network_in_the_clear(told: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "fhir": {"base_url": "http://fhir.ward/r4", "credentials": told}})

    with pytest.raises(RefuseToStart, match="need https") as raised:
        open_fhir(settings)

    assert SECRET not in f"{raised.value}{settings!r}{settings.fhir.credentials}"


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"bearer_token": SECRET, "user_name": "u", "password": "p"}, "set one of"),
        ({"user_name": "u"}, "go together"),
        ({"password": SECRET}, "go together"),
        ({"client_id": "c"}, "go together"),
        ({"scopes": ["system/*.rs"]}, "need client_id"),
    ],
)
def test_credentials_that_contradict_each_other_are_refused(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as raised:
        load_settings({"fhir": {"base_url": BASE, "credentials": told}})

    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", [f"https://u:{SECRET}@fhir.test/r4", "fhir.test/r4", "ftp://fhir.test", f"{BASE}?a=1"])
def test_a_base_url_is_nothing_but_that(url: str) -> None:
    with pytest.raises(SettingsError, match=r"fhir\.base_url") as raised:
        load_settings({"fhir": {"base_url": url}})

    assert SECRET not in str(raised.value)


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "word").write_text(f"{SECRET}\n")
    monkeypatch.setenv("PULSEWEIR_FHIR__CREDENTIALS__PASSWORD_FILE", str(tmp_path / "word"))
    monkeypatch.setenv("PULSEWEIR_FHIR__CREDENTIALS__USER_NAME", "house")

    told = load_settings().fhir.credentials

    assert told.password is not None
    assert told.password.get_secret_value() == SECRET


def test_authorities_come_from_a_file_of_certificates(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")

    assert authorities(None) is True
    with pytest.raises(RefuseToStart, match="authority_file"):
        authorities(tmp_path / "none.pem")
    with pytest.raises(RefuseToStart, match="authority_file"):
        authorities(tmp_path / "absent.pem")


async def test_a_server_of_another_version_is_named_and_nothing_is_asked_of_it() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=R4 | {"fhirVersion": "5.0.0"})

    client = FhirClient(BASE, transport=httpx.MockTransport(answer), discovers=True)

    with pytest.raises(FhirVersionUnsupported, match=r"FHIR 5\.0\.0.*R4"):
        await client.update({"resourceType": "Patient", "id": "1"})

    assert asked == ["/r4/metadata"]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_server_that_will_not_say_what_it_is_is_waited_for(status: int) -> None:
    client = FhirClient(BASE, transport=httpx.MockTransport(lambda _: httpx.Response(status)), discovers=True)

    with pytest.raises(FhirUnavailable, match=str(status)):
        await client.read("Patient", "1")


async def test_a_server_is_asked_once_what_it_is() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=R4) if asked[-1].endswith("metadata") else httpx.Response(404)

    client = FhirClient(BASE, transport=httpx.MockTransport(answer), discovers=True)
    for _ in range(3):
        assert await client.read("Patient", "1") is None

    assert asked.count("/r4/metadata") == 1


async def test_a_house_does_not_start_on_a_server_it_cannot_speak_to_and_waits_for_one_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({"data_dir": tmp_path, "fhir": {"base_url": BASE}})
    answers: list[httpx.Response] = [httpx.Response(200, json=R4 | {"fhirVersion": "3.0.2"}), httpx.Response(503)]

    async def answer(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        return answers.pop(0)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)

    with pytest.raises(RefuseToStart, match=r"3\.0\.2.*fhir\.base_url"):
        await check_fhir(settings)
    await check_fhir(settings)

    assert answers == []
