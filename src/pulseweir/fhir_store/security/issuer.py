"""Tokens that an issuer signed (JWT): keys, checks, and the caller one stands for.

Source: HL7 SMART App Launch 2.2 (scopes, patient, fhirUser); RFC 7519, RFC 7517; RFC 8725 for what is refused.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog

from pulseweir.clock import real_microseconds
from pulseweir.errors import RefuseToStart, RetryLater
from pulseweir.fhir_store.security.caller import ISSUER_ORIGIN, Caller
from pulseweir.fhir_store.security.scopes import read_scopes
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from pulseweir.fhir_store.validation import is_resource_id

ALGORITHMS = ("RS256", "RS384", "ES256", "ES384")
_LEEWAY_SECONDS = 30
_FETCH_SECONDS = 5
_KEYS_SECONDS = 600.0
_AGAIN_SECONDS = 30.0
"""Shortest time between two looks at the issuer's keys, so that tokens with invented key ids cause no storm."""
_REMEMBERED = 256
_log = structlog.get_logger()


class IssuerUnusable(RefuseToStart):
    """The issuer of signed tokens is set in part only, or its keys cannot be read."""


class InvalidToken(Exception):  # noqa: N818 - what it is, not an error of ours
    """A signed token that stands for nobody; its text says why and holds nothing of the token."""


@dataclass(slots=True)
class Issuer:
    """One issuer, its audience and its keys.

    Attributes:
        issuer: What `iss` must be.
        audience: What `aud` must be or contain.
        source: Path or URL of the keys.
        is_file: Whether they are in a file.
    """

    issuer: str
    audience: str
    source: str
    is_file: bool
    _keys: list[jwt.PyJWK] = field(default_factory=list)
    _looked: float = -1e9
    _known: dict[bytes, tuple[Caller, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: FhirSecuritySettings) -> "Issuer | None":
        """The issuer that the settings name, None when they name none.

        Raises:
            IssuerUnusable: Audience or keys are missing, the URL is not https, or the file cannot be used.
        """
        if settings.issuer is None:
            return None
        if not settings.audience:
            raise IssuerUnusable("Tokens of an issuer need fhir_store.security.audience: whom they are meant for.")
        if bool(settings.jwks_url) == bool(settings.jwks_file):
            raise IssuerUnusable("Set one of fhir_store.security.jwks_url and jwks_file: the issuer's public keys.")
        if settings.jwks_file is not None:
            made = cls(settings.issuer, settings.audience, str(settings.jwks_file), is_file=True)
            made._take(_read_file(made.source))
            return made
        parts = urlsplit(str(settings.jwks_url))
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise IssuerUnusable("fhir_store.security.jwks_url must be https: whoever changes the keys is the issuer.")
        return cls(settings.issuer, settings.audience, str(settings.jwks_url), is_file=False)

    async def caller(self, token: str) -> Caller:
        """The caller of a token.

        Raises:
            InvalidToken: It stands for nobody.
            RetryLater: The issuer's keys cannot be had now.
        """
        name = hashlib.sha256(token.encode()).digest()
        caller, ends = self._known.get(name, (None, 0))
        is_fresh = monotonic() - self._looked <= _KEYS_SECONDS
        if caller is not None and real_microseconds() < ends and is_fresh:
            return caller
        claims = self._decode(token, await self._key(token))
        caller = _caller(claims, self.issuer)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[name] = (caller, int(claims["exp"]) * 1_000_000)
        return caller

    def _decode(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        try:
            # The algorithm is that of the key, out of our list: the token's own header decides nothing.
            algorithm = key.algorithm_name
            if algorithm not in ALGORITHMS:
                raise InvalidToken("its key is of another kind than RS256, RS384, ES256, ES384")
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm] if key.key_type == "EC" else ["RS256", "RS384"],
                audience=self.audience,
                issuer=self.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidToken("it has expired") from None
        except jwt.ImmatureSignatureError:
            raise InvalidToken("it is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise InvalidToken("it is meant for somebody else") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("it is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"it lacks {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken("its signature does not hold") from None

    async def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken("it is none that this server knows") from None
        found = self._find(header)
        age = monotonic() - self._looked
        if (found is None and age > _AGAIN_SECONDS) or age > _KEYS_SECONDS:
            await self._look()
            found = self._find(header)
        if found is None and not self._keys:
            raise RetryLater("The keys of the token issuer cannot be had; try again.")
        if found is None:
            raise InvalidToken("its key is none of the issuer's")
        return found

    def _find(self, header: dict[str, Any]) -> jwt.PyJWK | None:
        name, kind = header.get("kid"), "RSA" if str(header.get("alg")).startswith("RS") else "EC"
        fitting = [key for key in self._keys if key.key_type == kind and (name is None or key.key_id == name)]
        return fitting[0] if len(fitting) == 1 else None

    async def _look(self) -> None:
        self._looked = monotonic()
        try:
            self._take(_read_file(self.source) if self.is_file else await asyncio.to_thread(_fetch, self.source))
        except (IssuerUnusable, jwt.PyJWTError) as error:
            # The keys held so far go on counting: an issuer that is away must not lock everybody out.
            _log.warning("fhir_issuer_keys_not_read", error=type(error).__name__)

    def _take(self, keys: list[jwt.PyJWK]) -> None:
        self._looked = monotonic()
        self._keys = keys
        self._known.clear()


def _read_file(path: str) -> list[jwt.PyJWK]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path is a text here
            return _usable(jwt.PyJWKSet.from_json(file.read().decode()))
    except (OSError, ValueError, jwt.PyJWTError) as error:
        raise IssuerUnusable(f"{path} is no JWKS that can be used ({type(error).__name__}). Write it anew.") from error


def _fetch(url: str) -> list[jwt.PyJWK]:
    found = jwt.PyJWKClient(url, cache_keys=False, timeout=_FETCH_SECONDS).get_jwk_set(refresh=True)
    return _usable(found)


def _usable(keys: jwt.PyJWKSet) -> list[jwt.PyJWK]:
    return [key for key in keys.keys if key.key_type in {"RSA", "EC"} and key.public_key_use in {None, "sig"}]


def _caller(claims: dict[str, Any], issuer: str) -> Caller:
    scopes = claims.get("scope", claims.get("scp", ""))
    listed = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
    texts = [text for text in listed if isinstance(text, str)]
    subject = str(claims.get("sub", ""))
    name = str(claims.get("client_id") or claims.get("azp") or subject or "unnamed")
    patient = claims.get("patient")
    if patient is not None and not (isinstance(patient, str) and is_resource_id(patient)):
        raise InvalidToken("its patient is no logical id")
    user = claims.get("fhirUser") or (subject if subject != name else None)
    user = str(user)[:256] if user else None
    return Caller(name[:128], read_scopes(texts), patient, user, origin=ISSUER_ORIGIN + issuer)
