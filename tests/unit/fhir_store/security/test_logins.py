"""Requests that do not say who sends them, or too many: refused, bounded, and written down."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fhir_site import Json, Site, patient
from pulseweir.clock import real_microseconds
from pulseweir.fhir_store.app import create_app
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.security.audit_chain import verify_directory
from pulseweir.fhir_store.security.caller import ANYBODY, HOUSE, Caller
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, house_token, revoke_client
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.pace import Pace
from pulseweir.fhir_store.security.settings import FhirSecuritySettings, LimitSettings
from pulseweir.fhir_store.validation import check_resource
from served_store import served

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OWN_KEY = json.loads(RSAAlgorithm.to_jwk(STRANGER.public_key()))
ISSUER, AUDIENCE = "https://sign-in.example", "https://fhir.example/fhir"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def logins(site: Site) -> list[Json]:
    await site.settle()
    async with site.http(house_token(site.directory)) as house:
        found = (await house.get("AuditEvent?type=110114&_count=1000")).json()
    return [entry["resource"] for entry in found.get("entry", [])]


async def test_a_failed_login_is_written_down_without_what_was_sent(site: Site) -> None:
    site.token("system/*.cruds")
    async with site.http() as http:
        for headers in (bearer("canary-token"), {"authorization": "Basic Y2FuYXJ5"}, {}, bearer("a.b.c")):
            assert (await http.get("Patient/canary-path", headers=headers)).status_code == 401

    found = await logins(site)
    assert len(found) == 4
    for event in found:
        check_resource(event, wanted_type="AuditEvent", level="strict")
        assert (event["subtype"][0]["code"], event["action"], event["outcome"]) == ("110122", "E", "4")
        assert event["agent"][0]["network"]["address"] == "127.0.0.1"
    assert found[0]["outcomeDesc"] == "The token is not known here, or no more."
    assert "canary" not in str(found)
    assert "Y2FuYXJ5" not in str(found)
    assert verify_directory(site.directory).broken is None


async def test_many_failed_logins_are_counted_rather_than_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("pulseweir.fhir_store.security.guard.monotonic", lambda: now[0])
    site.token("system/*.cruds")
    async with site.http() as http:
        for _ in range(100):
            assert (await http.get("Patient")).status_code == 401
        assert len(await logins(site)) == 30
        now[0] += 60
        await http.get("Patient")

    found = await logins(site)
    assert len(found) == 31
    assert ["70 more" in event["outcomeDesc"] for event in found].count(True) == 1


async def test_an_open_store_and_one_without_audit_write_no_logins(make_site: Callable[..., Site]) -> None:
    site = make_site(security=FhirSecuritySettings(audit="never"))
    site.token("system/*.cruds")
    async with site.http() as http:
        assert (await http.get("Patient")).status_code == 401

    assert await logins(site) == []


def test_a_revoked_token_ends_on_a_connection_that_stays_open(site: Site) -> None:
    token = site.token("system/Patient.rs", name="short")
    site.token("system/Patient.rs", name="other")
    with (
        served(site.store, Guard.open(site.store)) as url,
        httpx.Client(headers=bearer(token), limits=httpx.Limits(max_connections=1), timeout=20) as http,
    ):
        ports = set()
        for revokes, status in ((True, 200), (False, 401)):
            with http.stream("GET", f"{url}/Patient") as answer:
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                answer.read()
            assert answer.status_code == status
            if revokes:
                revoke_client(site.directory / CLIENTS_NAME, "short")
    assert len(ports) == 1


async def test_a_token_ends_at_its_instant_whatever_was_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = real_microseconds() + 3_600_000_000
    token = site.token("system/Patient.rs", expires_microseconds=ends)
    async with site.http(token) as http:
        assert (await http.get("Patient")).status_code == 200
        monkeypatch.setattr("pulseweir.fhir_store.security.guard.real_microseconds", lambda: ends)
        assert (await http.get("Patient")).status_code == 401


def test_a_client_has_a_pace_of_its_own() -> None:
    pace = Pace(2.0)
    one, other = Caller("one"), Caller("other")

    pace.check(one, 0.0)
    pace.check(one, 0.0)
    with pytest.raises(Refusal) as refused:
        pace.check(one, 0.1)
    assert (refused.value.status, refused.value.issues[0].code) == (429, "throttled")
    assert refused.value.headers == {"retry-after": "1"}
    pace.check(other, 0.1)
    pace.check(one, 0.6)
    with pytest.raises(Refusal):
        pace.check(one, 0.6)
    for _ in range(100):
        pace.check(HOUSE, 0.6)
    # A client of that name elsewhere is another.
    pace.check(Caller("one", origin="issuer:https://x.example"), 0.6)


def test_a_slow_pace_says_how_long_to_wait() -> None:
    pace = Pace(0.1)
    pace.check(ANYBODY, 0.0)
    with pytest.raises(Refusal) as refused:
        pace.check(ANYBODY, 1.0)
    assert refused.value.headers["retry-after"] == "9"
    pace.check(ANYBODY, 10.0)


async def test_too_many_requests_are_sent_away(make_site: Callable[..., Site]) -> None:
    site = make_site(limits=LimitSettings(requests_per_second=3))
    token = site.token("system/Patient.rs")
    async with site.http(token) as http, site.http(house_token(site.directory)) as house:
        answers = [await http.get("Patient") for _ in range(5)]
        assert [(await house.put("Patient/p1", json=patient("p1"))).status_code for _ in range(8)][-1] == 200

    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    assert answers[4].status_code == 429
    assert answers[4].json()["issue"][0]["code"] == "throttled"
    assert int(answers[4].headers["retry-after"]) >= 1


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    write_keys(path, KEY)
    return path


def write_keys(path: Path, *keys: rsa.RSAPrivateKey) -> None:
    found = [json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": f"k{n}"} for n, key in enumerate(keys)]
    found.append(json.loads(ECAlgorithm.to_jwk(CURVE.public_key())))
    path.write_text(json.dumps({"keys": found}))


@pytest.fixture
def site_with_issuer(make_site: Callable[..., Site], keys_file: Path) -> Site:
    return make_site(security=FhirSecuritySettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=keys_file))


def claims(**members: Any) -> Json:
    ends = real_microseconds() // 1_000_000 + 3_600
    return {"iss": ISSUER, "aud": AUDIENCE, "exp": ends, "client_id": "app", "scope": "system/*.rs"} | members


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def public_pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def forged(alg: str, secret: bytes, header: Json | None = None) -> str:
    """A token with a keyed hash for a signature, whatever its header says."""
    signed = f"{part({'alg': alg} | (header or {}))}.{part(claims())}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


DEEP = b"[" * 9_000
HOSTILE = [
    forged("HS256", public_pem(KEY), {"kid": "k0"}),
    forged("HS256", public_pem(CURVE)),
    forged("RS256", public_pem(KEY), {"kid": "k0"}),
    forged("none", b"", {"kid": "k0"}),
    f"{part({'alg': 'none', 'kid': 'k0'})}.{part(claims())}.",
    f"{part({'alg': 'None'})}.{part(claims())}.",
    f"{part({'alg': ['RS256'], 'kid': 'k0'})}.{part(claims())}.AAAA",
    f"{part({'alg': 'RS256', 'kid': ['k0']})}.{part(claims())}.AAAA",
    f"{part({'alg': 'RS256', 'kid': '../../../etc/passwd'})}.{part(claims())}.AAAA",
    f"{part({'alg': 'RS256', 'kid': 'k0'})}.{part(DEEP)}.AAAA",
    f"{part(DEEP)}.{part(claims())}.AAAA",
    f"{part([])}.{part([])}.AAAA",
    f"{part(b'')}.{part(b'')}.",
    "..",
    "\x80\xff.\x80.\x80",
    jwt.encode(claims(), KEY, "RS256", headers={"kid": "../k0"}),
    jwt.encode(claims(), KEY, "RS256", headers={"kid": "k0\x00"}),
    jwt.encode(claims(), KEY, "RS256", headers={"kid": "k0", "crit": ["exp"]}),
    jwt.encode(claims(), KEY, "RS512", headers={"kid": "k0"}),
    jwt.encode(claims(aud=[]), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(aud=f"{AUDIENCE}/"), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(iss=f"{ISSUER}/"), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(exp=1e400), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(exp="soon"), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(iat=real_microseconds() // 1_000_000 + 3_600), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(patient=7), KEY, "RS256", headers={"kid": "k0"}),
    jwt.encode(claims(), STRANGER, "RS256", headers={"kid": "k0", "jwk": OWN_KEY, "jku": "https://x.example"}),
]


@pytest.mark.parametrize("place", range(len(HOSTILE)))
async def test_a_hostile_token_is_nobody_and_no_fault_of_the_server(site_with_issuer: Site, place: int) -> None:
    async with site_with_issuer.http() as http:
        answer = await http.get("Patient", headers={b"authorization": b"Bearer " + HOSTILE[place].encode("latin-1")})

    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")


@pytest.mark.parametrize("scope", [5, {"a": "b"}, None, ["system/Patient.rs", 5], True])
async def test_odd_scopes_give_what_can_be_read_of_them(site_with_issuer: Site, scope: Any) -> None:
    token = jwt.encode(claims(scope=scope), KEY, "RS256", headers={"kid": "k0"})
    async with site_with_issuer.http(token) as http:
        answer = await http.get("Patient")

    assert answer.status_code == (200 if isinstance(scope, list) else 403)


@pytest.mark.parametrize(("skew", "status"), [(-20, 200), (-40, 401)])
async def test_clocks_may_disagree_a_little(site_with_issuer: Site, skew: int, status: int) -> None:
    now = real_microseconds() // 1_000_000
    token = jwt.encode(claims(exp=now + skew), KEY, "RS256", headers={"kid": "k0"})
    async with site_with_issuer.http(token) as http:
        assert (await http.get("Patient")).status_code == status


async def test_a_key_that_the_issuer_took_back_ends_tokens_that_were_known(
    make_site: Callable[..., Site], keys_file: Path
) -> None:
    site = make_site(security=FhirSecuritySettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=keys_file))
    guard = Guard.open(site.store)
    assert guard.issuer is not None
    token = jwt.encode(claims(), KEY, "RS256", headers={"kid": "k0"})
    app = create_app(site.store, guard=guard)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://fhir.test/fhir/", headers=bearer(token)
    ) as http:
        assert (await http.get("Patient")).status_code == 200
        write_keys(keys_file, STRANGER)
        assert (await http.get("Patient")).status_code == 200
        guard.issuer._looked -= 601
        assert (await http.get("Patient")).status_code == 401
