"""Who is let in: open on loopback until told otherwise, then nobody without a token or a certificate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_site import Json, Site, patient
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, ClientEntry, house_token, revoke_client
from pulseweir.fhir_store.security.guard import AddressUnprotected, Guard
from pulseweir.fhir_store.security.settings import FhirSecuritySettings

SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"


def security_of(statement: Json) -> Json:
    found: Json = statement["rest"][0]["security"]
    return found


async def test_an_open_server_serves_and_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    async with site.http() as http:
        assert (await http.put("Patient/p1", json=patient("p1"))).status_code == 201
        security = security_of((await http.get("metadata")).json())
        assert (await http.get(".well-known/smart-configuration")).status_code == 404
        # A client set up with some token of its own is served like anybody.
        assert (await http.get("Patient/p1", headers={"authorization": "Bearer x"})).status_code == 200
    assert "No authentication" in security["description"]
    assert "service" not in security
    assert "extension" not in security
    assert "fhir_store_is_open" in capsys.readouterr().out


async def test_the_first_client_closes_an_open_server_and_the_last_one_gone_does_not_open_it(site: Site) -> None:
    async with site.http() as http:
        assert (await http.get("Patient")).status_code == 200
        token = site.token("system/Patient.rs")
        answer = await http.get("Patient")
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert (await http.get("Patient", headers={"authorization": f"Bearer {token}"})).status_code == 200
        revoke_client(site.directory / CLIENTS_NAME, "app")
        assert (await http.get("Patient", headers={"authorization": f"Bearer {token}"})).status_code == 401
        assert (await http.get("Patient")).status_code == 401
    async with site.http() as http:  # as after a restart
        assert (await http.get("Patient")).status_code == 401


@pytest.mark.parametrize("credentials", ["Bearer nonsense", "Bearer ", "Basic YTpi", "bearer", "Bearer a.b.c"])
async def test_credentials_of_nobody_are_refused(site: Site, credentials: str) -> None:
    site.token("system/*.cruds")
    async with site.http() as http:
        answer = await http.get("Patient", headers={"authorization": credentials})

    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")
    assert "www-authenticate" in answer.headers


async def test_a_closed_server_tells_how_to_come_in_without_a_token(make_site: Callable[..., Site]) -> None:
    urls = {"authorization_url": "https://sign-in.example/a", "token_url": "https://sign-in.example/t"}
    site = make_site(security=FhirSecuritySettings(**urls))
    site.token("system/Patient.rs")
    async with site.http() as http:
        statement = (await http.get("metadata")).json()
        configuration = await http.get(".well-known/smart-configuration")
        assert (await http.post("", json={"resourceType": "Bundle", "type": "batch"})).status_code == 401
        assert (await http.get("livez")).status_code == 401
        assert (await http.get("http://fhir.test/livez")).status_code == 200
    security = security_of(statement)
    assert security["service"][0]["coding"] == [{"system": SERVICE, "code": "SMART-on-FHIR"}]
    assert {each["url"]: each["valueUri"] for each in security["extension"][0]["extension"]} == {
        "authorize": "https://sign-in.example/a",
        "token": "https://sign-in.example/t",
    }
    assert configuration.headers["content-type"] == "application/json"
    assert configuration.json()["token_endpoint"] == "https://sign-in.example/t"
    assert {"permission-v1", "permission-v2"} <= set(configuration.json()["capabilities"])


async def test_the_house_has_its_own_way_in(site: Site) -> None:
    site.token("system/Patient.rs")
    async with site.http(house_token(site.directory)) as house:
        assert (await house.put("Patient/p1", json=patient("p1"))).status_code == 201
        assert (await house.get("Patient/p1")).status_code == 200


TLS: dict[str, Any] = {"certificate_file": Path("x.crt"), "private_key_file": Path("x.key")}


@pytest.mark.parametrize(
    ("members", "remedy"), [({}, "certificate_file"), (TLS, "token add"), (TLS | {"private_key_file": None}, "private")]
)
def test_nobody_is_served_beyond_loopback_unasked_or_unencrypted(
    make_site: Callable[..., Site], members: dict[str, Any], remedy: str
) -> None:
    site = make_site(security=FhirSecuritySettings(address="0.0.0.0", **members))

    with pytest.raises(AddressUnprotected, match=remedy):
        Guard.open(site.store)


def test_with_clients_and_tls_another_address_is_allowed(make_site: Callable[..., Site]) -> None:
    site = make_site(security=FhirSecuritySettings(address="0.0.0.0", **TLS))
    site.token("system/Patient.rs")

    assert not Guard.open(site.store).is_open


def test_a_certificate_alone_makes_a_client(site: Site) -> None:
    assert site.token("system/Flag.c", certificate="gw") == ""

    assert not Guard.open(site.store).is_open
    assert ClientEntry("gw", ()).scopes == ()
