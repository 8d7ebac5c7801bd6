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


def paged(link: str | None, filled: str = "Device") -> Any:
    """A server that has two resources of one type, whose first page links as given."""
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server"}]}

    def answer(asked: httpx.Request) -> httpx.Response:
        if "metadata" in asked.url.path:
            return httpx.Response(200, json=statement)
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "entry": []}
        if asked.url.path.endswith(filled) and link is not None and "page" not in str(asked.url.query):
            bundle["entry"] = [{"resource": {"resourceType": filled, "id": "1"}}]
            bundle["link"] = [{"relation": "next", "url": link}]
        return httpx.Response(200, json=bundle)

    return answer


@pytest.mark.parametrize("filled", ["Device", "Patient", "Observation"])
@pytest.mark.parametrize(
    "link", ["http://fhir-internal:8080/fhir?page=2", "https://10.0.0.3/r4?page=2", "//pod-7/r4?page=2"]
)
async def test_links_to_an_inner_host_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, link: str, filled: str
) -> None:
    answers(monkeypatch, paged(link, filled))

    found = named(await examine_fhir(settings_of(BASE)))["FHIR pages"]

    host = httpx.URL("https://fhir.test").join(link).host
    assert not found.healthy
    assert host in found.found
    assert "fhir.base_url" in found.remedy
    assert BASE in found.remedy


@pytest.mark.parametrize("link", [f"{BASE}?page=2", "http://fhir.test:8080/r4?page=2", "?page=2", "Device?page=2"])
async def test_links_to_the_server_itself_are_followed(monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    answers(monkeypatch, paged(link))

    assert named(await examine_fhir(settings_of(BASE)))["FHIR pages"].healthy


async def test_a_server_whose_searches_fit_a_page_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, paged(None))

    assert "FHIR pages" not in named(await examine_fhir(settings_of(BASE)))
