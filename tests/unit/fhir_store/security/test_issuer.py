"""Tokens that an issuer signed: which count, and which do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fhir_site import Site, observation, patient
from pulseweir.clock import real_microseconds
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.security import issuer as module
from pulseweir.fhir_store.security.issuer import InvalidToken, Issuer, IssuerUnusable
from pulseweir.fhir_store.security.settings import FhirSecuritySettings

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEYS = {"ES256": ec.generate_private_key(ec.SECP256R1()), "ES384": ec.generate_private_key(ec.SECP384R1())}
ISSUER, AUDIENCE = "https://sign-in.example", "https://fhir.example/fhir"


def jwks() -> dict[str, Any]:
    keys = [json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "RSA", "use": "sig"}]
    keys += [json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": name} for name, key in EC_KEYS.items()]
    return {"keys": keys}


def claims(**members: Any) -> dict[str, Any]:
    now = real_microseconds() // 1_000_000
    common = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 86_400, "nbf": now - 5, "sub": "u1", "client_id": "app"}
    return common | {"scope": "openid system/Observation.rs"} | members


def signed(algorithm: str = "RS384", key: Any = RSA_KEY, kid: str | None = "RSA", **members: Any) -> str:
    chosen = {name: value for name, value in claims(**members).items() if value is not None}
    return jwt.encode(chosen, key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks()))
    return path


@pytest.fixture
def issuer(keys_file: Path) -> Issuer:
    made = Issuer.of(FhirSecuritySettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=keys_file))
    assert made is not None
    return made


@pytest.mark.parametrize(
    "token",
    [
        signed("RS256"),
        signed("RS384"),
        signed("ES256", EC_KEYS["ES256"], "ES256"),
        signed("ES384", EC_KEYS["ES384"], "ES384"),
        signed("RS256", kid=None),
        signed(aud=["https://other.example", AUDIENCE]),
    ],
)
async def test_a_token_that_holds_gives_its_caller(issuer: Issuer, token: str) -> None:
    for _ in range(2):
        caller = await issuer.caller(token)

        assert (caller.name, caller.user, caller.patient) == ("app", "u1", None)
        assert caller.may("Observation", "r")
        assert not caller.may("Observation", "u")


NOW = real_microseconds() // 1_000_000
EVIL = json.dumps(jwks()["keys"][0])


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (signed(key=OTHER_KEY), "signature"),
        (signed(exp=NOW - 3600), "expired"),
        (signed(nbf=NOW + 3600), "not valid yet"),
        (signed(iss="https://other.example"), "another issuer"),
        (signed(aud="https://other.example"), "somebody else"),
        (signed(exp=None), "lacks exp"),
        (signed(aud=None), "lacks aud"),
        (signed(iss=None), "lacks iss"),
        (signed("ES256", EC_KEYS["ES256"], "RSA"), "none of the issuer's"),
        (signed("ES256", EC_KEYS["ES256"], "ES384"), "signature"),
        (signed(kid="invented"), "none of the issuer's"),
        (signed("PS256"), "none of the issuer's"),
        (signed("HS256", "x" * 64), "none of the issuer's"),
        (jwt.encode(claims(), "", "none", headers={"kid": "RSA"}), "none of the issuer's"),
        (signed(patient="../p2"), "logical id"),
        (signed()[:-8] + "AAAAAAAA", "signature"),
        ("a.b.c", "none that this server knows"),
    ],
)
async def test_a_token_that_does_not_hold_stands_for_nobody(issuer: Issuer, token: str, why: str) -> None:
    with pytest.raises(InvalidToken, match=why) as refused:
        await issuer.caller(token)

    assert token not in str(refused.value)


async def test_a_tampered_claim_breaks_the_signature(issuer: Issuer) -> None:
    head, _, tail = signed().split(".")
    body = signed(scope="system/*.cruds").split(".")[1]

    with pytest.raises(InvalidToken):
        await issuer.caller(f"{head}.{body}.{tail}")


async def test_keys_are_looked_at_again_for_a_new_key_but_not_for_every_invented_one(
    issuer: Issuer, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    read = module._read_file

    def look(path: str) -> Any:
        looks.append(path)
        return read(path)

    monkeypatch.setattr(module, "_read_file", look)
    new = json.loads(RSAAlgorithm.to_jwk(OTHER_KEY.public_key())) | {"kid": "new"}
    keys_file.write_text(json.dumps({"keys": [*jwks()["keys"], new]}))

    for _ in range(3):
        with pytest.raises(InvalidToken):
            await issuer.caller(signed(key=OTHER_KEY, kid="new"))
    assert looks == []
    issuer._looked -= 60
    assert (await issuer.caller(signed(key=OTHER_KEY, kid="new"))).name == "app"
    for _ in range(3):
        with pytest.raises(InvalidToken):
            await issuer.caller(signed(kid="invented"))
    assert len(looks) == 1


async def test_an_issuer_that_is_away_locks_nobody_out_who_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up = FhirSecuritySettings(issuer=ISSUER, audience=AUDIENCE, jwks_url="http://127.0.0.1:1/jwks")
    issuer = Issuer.of(set_up)
    assert issuer is not None
    with pytest.raises(RetryLater):
        await issuer.caller(signed())

    issuer._looked = -1e9
    monkeypatch.setattr(module, "_fetch", lambda url: module._usable(jwt.PyJWKSet.from_dict(jwks())))
    assert (await issuer.caller(signed())).name == "app"
    monkeypatch.undo()
    issuer._looked = -1e9
    assert (await issuer.caller(signed(sub="u2"))).user == "u2"


@pytest.mark.parametrize(
    "members",
    [
        {"jwks_url": "https://x.example/jwks"},
        {"audience": AUDIENCE},
        {"audience": AUDIENCE, "jwks_url": "http://x.example/jwks"},
        {"audience": AUDIENCE, "jwks_url": "https://x.example/jwks", "jwks_file": "/nowhere"},
        {"audience": AUDIENCE, "jwks_file": "/nowhere"},
    ],
)
def test_an_issuer_set_up_in_part_stops_the_store(members: dict[str, Any]) -> None:
    with pytest.raises(IssuerUnusable):
        Issuer.of(FhirSecuritySettings(issuer=ISSUER, **members))


async def test_signed_tokens_open_the_store(make_site: Callable[..., Site], keys_file: Path) -> None:
    security = FhirSecuritySettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=keys_file)
    site = make_site(security=security)
    await site.fill(patient("p1"), patient("p2"), observation("o1"), observation("o2", "p2"))

    async with site.http(signed(scope="patient/*.rs launch/patient", patient="p1")) as http:
        assert (await http.get("Observation/o1")).status_code == 200
        assert (await http.get("Observation/o2")).status_code == 404
    async with site.http(signed(key=OTHER_KEY)) as http:
        answer = await http.get("Observation/o1")
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    async with site.http() as http:
        assert (await http.get("Observation/o1")).status_code == 401
