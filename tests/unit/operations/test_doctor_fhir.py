"""What the doctor finds out about an outside FHIR server."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from pulseweir.clock import Clock
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.operations.doctor import examine
from pulseweir.operations.doctor_fhir import examine_fhir
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings, load_settings
from served_store import asking_store, served

BASE = "https://fhir.test/r4"


def named(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.check.startswith("FHIR ")}


def settings_of(base_url: str, **credentials: Any) -> Settings:
    return load_settings({"fhir": {"base_url": base_url, "credentials": credentials}})


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    async def handle(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        found: httpx.Response = answer(request)
        return found

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)


def test_a_server_that_can_everything_is_healthy(tmp_path: Path) -> None:
    store = FhirStore.open(tmp_path, Clock())
    try:
        with served(store) as url:
            found = named(examine(load_settings({"data_dir": tmp_path / "house", "fhir": {"base_url": url}})))
    finally:
        store.close()

    assert all(finding.healthy for finding in found.values()), found
    assert found["FHIR habits"].found == "no ids of ours (AuditEvent): found by identifier instead"
    assert found["FHIR server"].found.startswith("pulseweir ")
    assert found["FHIR credentials"].found == "let in"


async def test_a_door_that_stays_shut_is_named(tmp_path: Path) -> None:
    with asking_store(tmp_path) as server:
        shut = named(await examine_fhir(settings_of(server.base_url)))
        token = server.site.token("system/*.rs", name="doctor")
        let_in = named(await examine_fhir(settings_of(server.base_url, bearer_token=token)))

    assert (shut["FHIR credentials"].healthy, shut["FHIR credentials"].found) == (False, "answered 401")
    assert "fhir.credentials" in shut["FHIR credentials"].remedy
    assert let_in["FHIR credentials"].healthy


async def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda _: httpx.Response(503))

    (finding,) = await examine_fhir(settings_of(BASE))

    assert (finding.check, finding.healthy) == ("FHIR server", False)
    assert "fhir.base_url" in finding.remedy


async def test_a_server_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}
    answers(monkeypatch, lambda _: httpx.Response(200, json=statement))

    (finding,) = await examine_fhir(settings_of(BASE))

    assert (finding.found, finding.healthy) == ("FHIR 5.0.0", False)


async def test_what_a_server_lacks_and_how_that_is_met_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"type": "Device", "interaction": [{"code": "read"}, {"code": "search-type"}], "updateCreate": False}
    rest = {"mode": "server", "resource": [device], "interaction": [{"code": "batch"}]}
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [rest]}
    bundle = {"resourceType": "Bundle", "entry": []}
    answers(monkeypatch, lambda asked: httpx.Response(200, json=statement if "metadata" in asked.url.path else bundle))

    found = named(await examine_fhir(settings_of(BASE)))

    assert not found["FHIR capability"].healthy
    assert "Device (create, update, ?identifier)" in found["FHIR capability"].found
    assert "RiskAssessment" in found["FHIR capability"].found
    assert found["FHIR habits"].found == (
        "no transactions: written in order instead; no ids of ours (Device): found by identifier instead"
    )


async def test_credentials_that_cannot_be_used_are_a_finding(tmp_path: Path) -> None:
    settings = settings_of(BASE, client_id="house", private_key_file=str(tmp_path / "absent.pem"))

    (finding,) = await examine_fhir(settings)

    assert (finding.check, finding.healthy) == ("FHIR credentials", False)
    assert "private_key_file" in finding.remedy


async def test_the_embedded_store_needs_no_such_look(tmp_path: Path) -> None:
    assert await examine_fhir(load_settings({"data_dir": tmp_path})) == []
