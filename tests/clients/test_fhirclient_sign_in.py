"""fhirclient signs in where the store says to: as a system with an assertion, and for a patient with a code."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fhirclient import client
from fhirclient.models.auditevent import AuditEvent
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException, FHIRUnauthorizedException
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_site import observation, patient
from pulseweir.clock import real_microseconds
from served_store import AskingServer, asking_store, served_app
from token_server import AUDIENCE, ISSUER, TOKEN_URL, TokenServer

SYSTEM_KEY = ec.generate_private_key(ec.SECP384R1())
SIGN_IN_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class PatientSignIn:
    """An authorization server whose user has chosen the patient p1; codes are exchanged with PKCE only.

    Attributes:
        challenge: What the authorization request announced.
        scope: What it asked for.
    """

    challenge: str = ""
    scope: str = ""

    def approve(self, url: str, base_url: str) -> str:
        """The user's yes to an authorization request; gives where the browser is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (asked["response_type"], asked["aud"], asked["code_challenge_method"]) == ("code", base_url, "S256")
        self.challenge, self.scope = asked["code_challenge"], asked["scope"]
        return f"{asked['redirect_uri']}?code=good&state={asked['state']}"

    @property
    def app(self) -> Starlette:
        """To be served."""
        return Starlette(routes=[Route("/token", self._token, methods=["POST"])])

    @property
    def jwks(self) -> dict[str, object]:
        """Its public key."""
        return {"keys": [json.loads(ECAlgorithm.to_jwk(SIGN_IN_KEY.public_key()))]}

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge or form["code"] != "good":
                return JSONResponse({"error": "invalid_grant"}, 400)
        elif form["refresh_token"] != "again":
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = real_microseconds() // 1_000_000
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "client_id": form["client_id"], "patient": "p1"}
        token = jwt.encode(claims | {"scope": self.scope}, SIGN_IN_KEY, "ES256")
        about = {"access_token": token, "token_type": "Bearer", "expires_in": 300, "patient": "p1"}
        return JSONResponse(about | {"scope": self.scope, "refresh_token": "again"})


@contextmanager
def store_of(server: TokenServer | PatientSignIn, directory: Path) -> Iterator[AskingServer]:
    """A store that takes the tokens of an authorization server and says where to get them."""
    keys = directory / "jwks.json"
    keys.write_text(json.dumps(server.jwks))
    with served_app(server.app) as root:
        security = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": keys, "token_url": f"{root}/token"}
        if isinstance(server, PatientSignIn):
            security["authorization_url"] = f"{root}/authorize"
        with asking_store(directory / "store", security=security) as store:
            yield store


@contextmanager
def connected(store: AskingServer, **settings: str) -> Iterator[client.FHIRClient]:
    smart = client.FHIRClient(settings={"app_id": "my_web_app", "api_base": store.base_url} | settings)
    try:
        yield smart
    finally:
        smart.server.session.close()


def assertion() -> str:
    now = real_microseconds() // 1_000_000
    claims = {"iss": "ward-app", "sub": "ward-app", "aud": TOKEN_URL, "exp": now + 200, "jti": "1"}
    return jwt.encode(claims, SYSTEM_KEY, "ES384", headers={"kid": "ward-app"})


async def test_a_system_signs_in_with_its_assertion(tmp_path: Path) -> None:
    server = TokenServer({"ward-app": SYSTEM_KEY.public_key()})
    with store_of(server, tmp_path) as store:
        await store.site.fill(patient("p1"), observation("o1"))
        settings = {"jwt_token": assertion(), "scope": "system/Observation.rs system/AuditEvent.rs"}
        with connected(store, **settings) as smart:
            smart.wants_patient = False
            assert not smart.prepare()
            with pytest.raises(FHIRUnauthorizedException):
                Observation.read("o1", smart.server)
            smart.authorize()
            assert smart.ready
            assert Observation.read("o1", smart.server).subject.reference == "Patient/p1"
            with pytest.raises(FHIRPermissionDeniedException):
                Patient.read("p1", smart.server)
            await store.site.settle()
            events = list(AuditEvent.where({"_count": "1"}).perform_resources_iter(smart.server))
            seen = [each.what.reference for event in events for each in event.entity or [] if each.what]
            assert any(reference.startswith("Observation/o1") for reference in seen)
    assert len(server.given) == 1


async def test_a_patients_app_signs_in_with_a_code(tmp_path: Path) -> None:
    server = PatientSignIn()
    with store_of(server, tmp_path) as store:
        await store.site.fill(patient("p1"), patient("p2"), observation("o1"), observation("o2", who="p2"))
        settings = {"redirect_uri": "http://localhost:8000/fhir-app/", "scope": "patient/*.read openid"}
        with connected(store, **settings) as smart:
            assert not smart.prepare()
            assert not smart.ready
            smart.handle_callback(server.approve(smart.authorize_url, store.base_url))
            assert smart.ready
            assert smart.patient_id == "p1"
            assert smart.human_name(smart.patient.name[0]) == "Canary-p1"
            assert [each.id for each in Observation.where({}).perform_resources_iter(smart.server)] == ["o1"]
            for other in ("p2", "nobody"):
                with pytest.raises(FHIRNotFoundException):
                    Patient.read(other, smart.server)
            with pytest.raises(FHIRPermissionDeniedException):
                Observation({"status": "final", "code": {"text": "x"}}).create(smart.server)
            assert smart.reauthorize()
            assert Patient.read("p1", smart.server).id == "p1"


async def test_a_wrong_code_gives_no_token(tmp_path: Path) -> None:
    server = PatientSignIn()
    with store_of(server, tmp_path) as store, connected(store, redirect_uri="http://localhost:8000/app/") as smart:
        smart.prepare()
        back = server.approve(smart.authorize_url, store.base_url)
        with pytest.raises(Exception, match="400"):
            smart.handle_callback(back.replace("code=good", "code=stolen"))
        assert not smart.ready
