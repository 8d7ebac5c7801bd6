"""A SMART authorization server that gives tokens for signed assertions, and keeps to its rules to the letter.

It answers token requests at ``/token`` and says where that is at ``/fhir/.well-known/smart-configuration``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pulseweir.clock import real_microseconds

ISSUER = "https://sign-in.test"
TOKEN_URL = f"{ISSUER}/token"
AUDIENCE = "https://fhir.test/fhir"
_SIGNING = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass
class TokenServer:
    """The server; what it was asked and what it gave.

    Attributes:
        clients: Public key by client id.
        expires_in: Seconds that a token lives; None is not told.
        given: Every token, in order.
        asked: Every token request's form.
        refusing: Answers every token request with this status and error instead.
        names_endpoint: Whether it says where it is.
        token_url: Where it is.
        audience: For whom its tokens are.
    """

    clients: Mapping[str, Any]
    expires_in: int | str | None = 300
    given: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    refusing: tuple[int, dict[str, str]] | None = None
    names_endpoint: bool = True
    token_url: str = TOKEN_URL
    audience: str = AUDIENCE
    _used: set[str] = field(default_factory=set)

    @property
    def app(self) -> Starlette:
        """To be served, or handed to a transport."""
        return Starlette(
            routes=[
                Route("/token", self._token, methods=["POST"]),
                Route("/fhir/.well-known/smart-configuration", self._configuration),
            ]
        )

    @property
    def jwks(self) -> dict[str, Any]:
        """The keys that its tokens are signed with, as the resource server reads them."""
        return {"keys": [json.loads(RSAAlgorithm.to_jwk(_SIGNING.public_key())) | {"kid": "sign-in", "use": "sig"}]}

    async def _configuration(self, request: Request) -> Response:
        if not self.names_endpoint:
            return Response(status_code=404)
        return JSONResponse({"token_endpoint": self.token_url, "grant_types_supported": ["client_credentials"]})

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.asked.append(form)
        if self.refusing is not None:
            return JSONResponse(self.refusing[1], status_code=self.refusing[0])
        fault = self._fault_in(form)
        if fault is not None:
            return JSONResponse({"error": "invalid_client", "error_description": fault}, status_code=400)
        client_id = jwt.decode(form["client_assertion"], options={"verify_signature": False})["iss"]
        now = real_microseconds() // 1_000_000
        claims = {"iss": ISSUER, "aud": self.audience, "exp": now + 300, "client_id": client_id, "scope": form["scope"]}
        claims["jti"] = str(len(self.given))
        self.given.append(jwt.encode(claims, _SIGNING, "RS384", headers={"kid": "sign-in"}))
        answer: dict[str, Any] = {"access_token": self.given[-1], "token_type": "bearer", "scope": form["scope"]}
        return JSONResponse(answer | ({} if self.expires_in is None else {"expires_in": self.expires_in}))

    def _fault_in(self, form: Mapping[str, str]) -> str | None:
        """What SMART's rules for assertions find wrong."""
        if form.get("grant_type") != "client_credentials" or form.get("client_assertion_type") != _ASSERTION_TYPE:
            return "not a backend services request"
        assertion = form["client_assertion"]
        header = jwt.get_unverified_header(assertion)
        named = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
        if header.get("alg") not in {"RS384", "ES384"} or header.get("typ") != "JWT" or header.get("kid") != named:
            return "header"
        try:
            claims = jwt.decode(
                assertion,
                self.clients[named],
                algorithms=["RS384", "ES384"],
                audience=self.token_url,
                options={"require": ["iss", "sub", "aud", "exp", "jti"]},
            )
        except (jwt.PyJWTError, KeyError) as error:
            return type(error).__name__
        if claims["sub"] != claims["iss"] or claims["exp"] > real_microseconds() // 1_000_000 + 300:
            return "claims"
        if claims["jti"] in self._used:
            return "replayed"
        self._used.add(claims["jti"])
        return None
