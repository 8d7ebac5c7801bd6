"""Tokens by SMART Backend Services: assertions a strict server accepts, tokens kept, shared and renewed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm

from pulseweir.backends.fhir_backend_services import BackendClient, BackendServices
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.fhir_credentials import FhirAccessRefused
from pulseweir.backends.fhir_key import FhirKeyUnusable, read_signing_key
from pulseweir.errors import FhirRefused, FhirUnavailable, RetryLater
from token_server import AUDIENCE, TOKEN_URL, TokenServer

EC_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PLAIN = serialization.NoEncryption()
PATIENT = {"resourceType": "Patient", "id": "1"}


def pem(key: Any, encryption: Any = PLAIN, kind: Any = serialization.PrivateFormat.PKCS8) -> bytes:
    made: bytes = key.private_bytes(serialization.Encoding.PEM, kind, encryption)
    return made


def written(path: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


@pytest.fixture
def server() -> TokenServer:
    return TokenServer({"house-ec": EC_KEY.public_key(), "house-rsa": RSA_KEY.public_key()})


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tokens(server: TokenServer, clock: Clock, tmp_path: Path) -> AsyncIterator[BackendServices]:
    key = read_signing_key(written(tmp_path / "key.pem", pem(EC_KEY)), "house-ec")
    client = BackendClient("house-ec", key, ("system/Patient.rs", "system/Observation.cus"))
    made = BackendServices(AUDIENCE, client, transport=httpx.ASGITransport(server.app), now=clock)
    yield made
    await made.close()


@pytest.mark.parametrize("kind", ["ec-pem", "ec-sec1", "rsa-pem", "ec-jwk"])
async def test_a_strict_server_accepts_the_assertion_of_every_kind_of_key(
    kind: str, server: TokenServer, tmp_path: Path
) -> None:
    jwk = ECAlgorithm.to_jwk(EC_KEY, as_dict=True) | {"kid": "house-ec"}
    texts = {
        "ec-pem": pem(EC_KEY),
        "ec-sec1": pem(EC_KEY, kind=serialization.PrivateFormat.TraditionalOpenSSL),
        "rsa-pem": pem(RSA_KEY),
        "ec-jwk": json.dumps(jwk).encode(),
    }
    name = "house-rsa" if kind == "rsa-pem" else "house-ec"
    key = read_signing_key(written(tmp_path / "key", texts[kind]), None if kind == "ec-jwk" else name)
    tokens = BackendServices(
        AUDIENCE, BackendClient(name, key, ("system/*.rs",)), transport=httpx.ASGITransport(server.app)
    )

    value = await tokens.authorization()

    await tokens.close()
    assert value == f"Bearer {server.given[0]}"
    assert server.asked[0]["scope"] == "system/*.rs"
    header = jwt.get_unverified_header(server.asked[0]["client_assertion"])
    assert header == {"alg": "RS384" if kind == "rsa-pem" else "ES384", "kid": name, "typ": "JWT"}


async def test_a_token_is_kept_until_shortly_before_its_end(
    tokens: BackendServices, server: TokenServer, clock: Clock
) -> None:
    first = await tokens.authorization()
    clock.seconds += 265
    kept = await tokens.authorization()
    clock.seconds += 10
    second = await tokens.authorization()

    assert first == kept != second
    assert len(server.given) == 2


@pytest.mark.parametrize(
    ("expires_in", "kept_seconds"), [(10, 8), (None, 60), (3_600, 3_570), ("NaN", 60), ("inf", 60)]
)
async def test_how_long_a_token_is_kept_follows_what_the_server_says(
    tokens: BackendServices, server: TokenServer, clock: Clock, expires_in: int | str | None, kept_seconds: int
) -> None:
    server.expires_in = expires_in
    await tokens.authorization()

    clock.seconds += kept_seconds - 0.5
    await tokens.authorization()
    before = len(server.given)
    clock.seconds += 1
    await tokens.authorization()

    assert (before, len(server.given)) == (1, 2)


async def test_requests_at_the_same_time_share_one_token_request(tokens: BackendServices, server: TokenServer) -> None:
    values = await asyncio.gather(*(tokens.authorization() for _ in range(20)))

    assert len(set(values)) == len(server.given) == 1


async def test_one_who_gives_up_does_not_take_the_token_from_the_others(
    tokens: BackendServices, server: TokenServer
) -> None:
    impatient = asyncio.create_task(tokens.authorization())
    patient = asyncio.create_task(tokens.authorization())
    await asyncio.sleep(0)
    impatient.cancel()

    assert await patient == f"Bearer {server.given[0]}"
    assert impatient.cancelled()


async def test_a_failure_is_shared_and_the_next_request_tries_again(
    tokens: BackendServices, server: TokenServer
) -> None:
    server.refusing = (503, {})
    failed = await asyncio.gather(*(tokens.authorization() for _ in range(5)), return_exceptions=True)
    server.refusing = None

    assert all(isinstance(each, FhirUnavailable) for each in failed)
    assert len(server.asked) == 1
    assert await tokens.authorization() == f"Bearer {server.given[0]}"


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refusal_names_the_code_and_nothing_else_the_server_says(
    tokens: BackendServices, server: TokenServer, status: int
) -> None:
    server.refusing = (status, {"error": "invalid_scope", "error_description": "Canary of house-ec"})

    with pytest.raises(FhirAccessRefused, match=rf"{status} \(invalid_scope\).*client_id") as raised:
        await tokens.authorization()

    assert isinstance(raised.value, RetryLater)
    assert "Canary" not in str(raised.value)
    assert server.asked[0]["client_assertion"] not in str(raised.value)


@pytest.mark.parametrize(
    "body", [{}, {"access_token": 5}, {"access_token": ""}, {"access_token": "two\r\nlines"}, {"access_token": "é"}]
)
async def test_an_answer_without_a_usable_token_is_no_token(
    tokens: BackendServices, server: TokenServer, body: dict[str, Any]
) -> None:
    server.refusing = (200, body)

    with pytest.raises(FhirUnavailable, match="without a token"):
        await tokens.authorization()


async def test_a_token_that_was_revoked_is_replaced_once_and_the_request_repeated(
    tokens: BackendServices, server: TokenServer, clock: Clock
) -> None:
    seen: list[str] = []
    first = await tokens.authorization()
    clock.seconds += 100
    everybody_asked = asyncio.Barrier(6)

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        if seen[-1] != first:
            return httpx.Response(200, json=PATIENT)
        await everybody_asked.wait()
        return httpx.Response(401)

    fhir = FhirClient(AUDIENCE, transport=httpx.MockTransport(answer), credentials=tokens)

    await asyncio.gather(*(fhir.read("Patient", "1") for _ in range(6)))

    assert len(server.given) == 2
    assert seen.count(first) == 6
    assert len(seen) == 12


async def test_a_server_that_refuses_every_token_causes_no_storm(
    tokens: BackendServices, server: TokenServer, clock: Clock
) -> None:
    shut = httpx.MockTransport(lambda _: httpx.Response(401))
    fhir = FhirClient(AUDIENCE, transport=shut, credentials=tokens)

    for _ in range(20):
        clock.seconds += 1
        with pytest.raises(FhirRefused, match="401"):
            await fhir.read("Patient", "1")

    assert len(server.given) == 4


async def test_without_smart_configuration_the_older_extension_is_read(server: TokenServer, tmp_path: Path) -> None:
    server.names_endpoint = False
    inner = httpx.ASGITransport(server.app)
    place = {"url": "token", "valueUri": TOKEN_URL}
    uris = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    security = {"extension": [{"url": uris, "extension": [{"url": "authorize", "valueUri": "x:"}, place]}]}
    statement = {"resourceType": "CapabilityStatement", "rest": [{"mode": "server", "security": security}]}

    class Both(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/fhir/metadata":
                return httpx.Response(200, json=statement)
            return await inner.handle_async_request(request)

    key = read_signing_key(written(tmp_path / "key.pem", pem(EC_KEY)), "house-ec")
    tokens = BackendServices(AUDIENCE, BackendClient("house-ec", key, ()), transport=Both())

    assert await tokens.authorization() == f"Bearer {server.given[0]}"
    await tokens.close()


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "names no token endpoint"),
        ({"token_endpoint": "http://sign-in.test/token"}, "not https"),
        ({"token_endpoint": "ftp://sign-in.test/token"}, "not https"),
    ],
)
async def test_a_token_endpoint_that_cannot_be_trusted_gets_no_assertion(
    document: dict[str, str], problem: str, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(200, json=document)

    key = read_signing_key(written(tmp_path / "key.pem", pem(EC_KEY)), "house-ec")
    tokens = BackendServices(AUDIENCE, BackendClient("house-ec", key, ()), transport=httpx.MockTransport(answer))

    with pytest.raises(FhirAccessRefused, match=f"{problem}.*token_url"):
        await tokens.authorization()
    await tokens.close()
    assert "POST" not in asked


@pytest.mark.parametrize(
    ("content", "key_id", "problem"),
    [
        (pem(ec.generate_private_key(ec.SECP256R1())), "k", "no private key"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "k", "no private key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "k", "no private key"),
        (pem(EC_KEY, serialization.BestAvailableEncryption(b"word")), "k", "without password"),
        (
            EC_KEY.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "k",
            "no private key",
        ),
        (json.dumps(ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True)).encode(), "k", "no private key"),
        (b'{"kty": "oct", "k": "Canary"}', "k", "no private key"),
        (b'{"kty": ', "k", "no private key"),
        (b"Canary", "k", "no private key"),
        (b"\xff", "k", "UnicodeDecodeError"),
        (pem(EC_KEY), None, "key_id"),
    ],
    ids=["p256", "short", "ed25519", "password", "public", "public-jwk", "secret", "cut", "text", "bytes", "no-id"],
)
def test_a_key_that_cannot_sign_is_refused_with_a_remedy(
    content: bytes, key_id: str | None, problem: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "key", content)

    with pytest.raises(FhirKeyUnusable, match=problem) as raised:
        read_signing_key(path, key_id)

    assert "private_key_file" in str(raised.value)
    assert "Canary" not in str(raised.value)


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FhirKeyUnusable, match="chmod 600"):
        read_signing_key(written(tmp_path / "key", pem(EC_KEY), 0o644), "k")

    read_signing_key(written(tmp_path / "other", pem(EC_KEY), 0o640), "k")


def test_a_key_is_not_in_its_own_description(tmp_path: Path) -> None:
    key = read_signing_key(written(tmp_path / "key", pem(EC_KEY)), "k")

    assert repr(key) == "SigningKey(key_id='k', algorithm='ES384')"
