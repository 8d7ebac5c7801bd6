"""The store as its own process: tokens from the command line, mutual TLS, limits, and the house beside them."""

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from certificates import Authority, Pair
from fhir_site import flag, found, observation, patient
from pulseweir.cli import app
from pulseweir.local_house import free_ports
from pulseweir.settings import load_settings
from pulseweir.systems import open_fhir
from served_store import running


def pulseweir(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)])


def client(url: str, token: str = "", **members: Any) -> httpx.Client:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=20, **members)


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.private_key)
    return context


async def test_tokens_open_the_store_and_the_house_goes_on_unasked(tmp_path: Path) -> None:
    added = pulseweir(tmp_path, "fhir", "token", "add", "dashboard", "--scope", "system/Patient.rs", "--days", "3")
    assert added.exit_code == 0, added.stderr
    bound = pulseweir(tmp_path, "fhir", "token", "add", "app", "--scope", "patient/*.read", "--patient", "p1")
    listed = pulseweir(tmp_path, "fhir", "token", "list", "--json")
    refused = pulseweir(tmp_path, "fhir", "token", "add", "x", "--scope", "system/Nonsense.rs")
    assert [added.stdout.strip() in listed.stdout, '"patient":"p1"' in listed.stdout] == [False, True]
    assert (refused.exit_code, "Types:" in refused.stderr) == (2, True)

    with running(tmp_path) as facts:
        url = f"http://127.0.0.1:{facts['port']}/fhir/"
        house = open_fhir(load_settings({"data_dir": tmp_path}))
        for resource in (patient("p1"), patient("p2"), observation("o1"), observation("o2", "p2")):
            await house.update(resource)
        with client(url, added.stdout.strip()) as http:
            assert len(found(http.get("Patient"))) == 2
            assert http.get("Observation").status_code == 403
            assert http.delete("Patient/p1").status_code == 403
        with client(url, bound.stdout.strip()) as http:
            assert found(http.get("Observation")) == ["Observation/o1"]
        with client(url) as http:
            assert http.get("Patient").status_code == 401
            assert http.get("metadata").status_code == 200
            assert http.get(".well-known/smart-configuration").status_code == 200
        assert pulseweir(tmp_path, "fhir", "token", "revoke", "dashboard").exit_code == 0
        assert pulseweir(tmp_path, "fhir", "token", "revoke", "dashboard").exit_code == 1
        with client(url, added.stdout.strip()) as http:
            assert http.get("Patient").status_code == 401
        written = await house.search("AuditEvent", {"_count": "50"})
        await house.close()

    assert {event["agent"][0]["who"]["identifier"]["value"] for event in written} <= {"dashboard", "app", "unknown"}
    verified = pulseweir(tmp_path, "fhir", "audit", "verify")
    assert (verified.exit_code, verified.stdout.split(",")[0]) == (0, "6 AuditEvents")


def test_mutual_tls_lets_in_the_known_certificates_of_the_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server, gateway, stranger = ours.pair("server"), ours.pair("gateway"), ours.pair("stranger")
    data_dir = tmp_path / "data"
    add = ("fhir", "token", "add")
    assert pulseweir(data_dir, *add, "gw", "--certificate", "gateway", "--scope", "system/Flag.crs").exit_code == 0
    token = pulseweir(data_dir, *add, "app", "--scope", "system/Flag.rs").stdout.strip()
    settings = {
        "SECURITY__ADDRESS": "127.0.0.1",
        "SECURITY__PORT": str(free_ports(1)[0]),
        "SECURITY__CERTIFICATE_FILE": str(server.certificate),
        "SECURITY__PRIVATE_KEY_FILE": str(server.private_key),
        "SECURITY__CLIENT_AUTHORITY_FILE": str(ours.certificate),
    }
    with running(data_dir, **settings) as facts:
        url = f"https://127.0.0.1:{facts['tls_port']}/fhir/"
        with client(url, verify=trusting(ours, gateway)) as http:
            assert http.post("Flag", json=flag("f1")).status_code == 201
            assert len(found(http.get("Flag"))) == 1
            assert http.delete("Flag/f1").status_code == 403
        with client(url, verify=trusting(ours, stranger)) as http:
            assert http.get("Flag").status_code == 401
        with client(url, token, verify=trusting(ours, stranger)) as http:
            assert http.get("Flag").status_code == 200
            assert http.post("Flag", json=flag("f1")).status_code == 403
        for context in (trusting(ours), trusting(ours, theirs.pair("gateway"))):
            with client(url, token, verify=context) as http, pytest.raises(httpx.TransportError):
                http.get("Flag")
        with client(f"http://127.0.0.1:{facts['port']}/fhir/") as http:
            assert http.get("Flag").status_code == 401
        with client(f"http://127.0.0.1:{facts['port']}/fhir/", token) as http:
            assert http.get("metadata").json()["rest"][0]["security"]["service"][1]["text"] == "Mutual TLS"


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"SECURITY__ADDRESS": "0.0.0.0"}, "certificate_file"),
        ({"SECURITY__ISSUER": "https://sign-in.example"}, "audience"),
        ({"SECURITY__INVENTED": "1"}, "unknown key"),
    ],
)
def test_a_store_that_would_be_unsafe_does_not_start(
    tmp_path: Path, settings: dict[str, str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"PULSEWEIR_FHIR_STORE__{name}", value)

    command = [sys.executable, "-m", "pulseweir", "run", "fhir", "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert (ended.returncode, remedy in ended.stderr) == (2, True), ended.stderr


def test_limits_hold_over_http(tmp_path: Path) -> None:
    limits = {"MAXIMUM_BODY_BYTES": "2048", "LIMITS__URL_BYTES": "300", "MAXIMUM_BUNDLE_ENTRIES": "2"}
    with running(tmp_path, **limits) as facts, client(f"http://127.0.0.1:{facts['port']}/fhir/") as http:
        assert http.get("Patient?_id=" + "x" * 300).status_code == 414
        assert http.post("Patient", json=patient("p1", language="x" * 3000)).status_code == 413
        chunks = iter([b"x" * 1500] * 3)
        chunked = http.post("Patient", content=chunks, headers={"content-type": "application/fhir+json"})
        assert chunked.status_code == 413
        entry = {"request": {"method": "GET", "url": "Patient/p1"}}
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * 3}
        assert http.post("", json=bundle).status_code == 413
        assert http.put("Patient/p1", json=patient("p1")).status_code == 201
