"""Steps 5, 7, 13: the key with which this house signs who it is before a SMART authorization server.

Source: HL7 SMART App Launch 2.2, client authentication, asymmetric,
https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html; RFC 7523.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from pulseweir.errors import RefuseToStart

ASSERTION_SECONDS = 240
"""How long an assertion holds; SMART allows 300 s, and clocks differ."""
_LEAST_RSA_BITS = 2048
_ES384_BITS = 384
_OTHERS_MAY = 0o007


class FhirKeyUnusable(RefuseToStart):
    """The private key for the FHIR service's authorization server cannot be used."""

    def __init__(self, path: str, cause: str, remedy: str) -> None:
        self.path = path
        super().__init__(f"fhir.credentials.private_key_file {path}: {cause}. {remedy}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and how it is known.

    Attributes:
        key_id: `kid` under which the authorization server holds the public half.
        algorithm: ``RS384`` or ``ES384``, by the key's kind.
        private: The key itself.
    """

    key_id: str
    algorithm: str
    private: Any = field(repr=False)

    def assertion(self, client_id: str, token_url: str, now_seconds: int, unique_id: str) -> str:
        """A signed statement of who this client is, for one request at one token endpoint.

        Args:
            client_id: As registered there.
            token_url: Address of the token endpoint.
            now_seconds: Real seconds since 1970.
            unique_id: Never used before.
        """
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_url,
            "exp": now_seconds + ASSERTION_SECONDS,
            "jti": unique_id,
        }
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.key_id})


def read_signing_key(path: Path, key_id: str | None) -> SigningKey:
    """The key of a file, PEM or JWK.

    Args:
        path: Where it lies; nobody but its owner and group may read it.
        key_id: Under which it is registered; None takes the JWK's `kid`.

    Raises:
        FhirKeyUnusable: It cannot be read, others may read it, or it is no RSA (2048 bits or more) or P-384 key.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise FhirKeyUnusable(str(path), type(error).__name__, "Name a PEM or JWK file that can be read.") from None
    if mode & _OTHERS_MAY:
        raise FhirKeyUnusable(str(path), "every user of this machine may read it", f"Run: chmod 600 {path}")
    try:
        found, known_as = _from_jwk(text) if text.lstrip().startswith("{") else (_from_pem(text.encode()), None)
    except (ValueError, TypeError, KeyError, jwt.PyJWTError):
        raise _no_key(path) from None
    name = key_id or known_as
    if not name:
        raise FhirKeyUnusable(str(path), "it has no key id", "Set fhir.credentials.key_id as it is registered.")
    algorithm = _algorithm_of(found)
    if algorithm is None:
        raise _no_key(path)
    return SigningKey(name, algorithm, found)


def _no_key(path: Path) -> FhirKeyUnusable:
    # Never what the parser said: it may quote the file.
    return FhirKeyUnusable(
        str(path),
        "it holds no private key without password, RSA of 2048 bits or more or EC P-384",
        f"Make one: openssl ecparam -name secp384r1 -genkey -noout -out {path}",
    )


def _from_pem(text: bytes) -> Any:
    try:
        return jwt.get_algorithm_by_name("ES384").prepare_key(text)
    except (ValueError, TypeError, jwt.PyJWTError):
        return jwt.get_algorithm_by_name("RS384").prepare_key(text)


def _from_jwk(text: str) -> tuple[Any, str | None]:
    described = json.loads(text)
    algorithm = {"RSA": "RS384", "EC": "ES384"}[described["kty"]]
    return jwt.PyJWK.from_dict(described, algorithm).key, described.get("kid")


def _algorithm_of(key: Any) -> str | None:
    """How a key signs; None when it is public, of another kind or too short."""
    if not hasattr(key, "sign"):
        return None
    if hasattr(key, "curve"):
        return "ES384" if key.curve.key_size == _ES384_BITS else None
    return "RS384" if getattr(key, "key_size", 0) >= _LEAST_RSA_BITS else None
