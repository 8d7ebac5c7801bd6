"""Who stands at the door: from a request's token or certificate to its caller, and whether the server is open.

Open means that nobody is asked who they are: only so while there never was a client and no issuer is set, and only on
loopback. A server that began open closes with the first client added; one that asks never opens while it runs, nor
when it starts again without the clients it had.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import structlog
from starlette.types import Scope

from pulseweir.clock import real_microseconds
from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.security.access import Access
from pulseweir.fhir_store.security.audit_trail import AuditTrail
from pulseweir.fhir_store.security.caller import ANYBODY, HOUSE, Caller
from pulseweir.fhir_store.security.clients import CLIENTS_NAME, Clients, house_token, token_hash
from pulseweir.fhir_store.security.discovery import OPEN_SECURITY, security_statement
from pulseweir.fhir_store.security.issuer import InvalidToken, Issuer
from pulseweir.fhir_store.security.logins import FailedLogins
from pulseweir.fhir_store.security.pace import Pace
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.telemetry import FHIR_STORE_REFUSED

_CHALLENGE = 'Bearer realm="pulseweir FHIR store"'
_OF_ANYBODY, _OF_THE_HOUSE = Access(ANYBODY), Access(HOUSE)
"""Nothing is noted in these: all requests share them."""
_log = structlog.get_logger()


class AddressUnprotected(RefuseToStart):
    """The FHIR store would listen beyond loopback without TLS, or without asking who comes."""


@dataclass(slots=True)
class Guard:
    """Knows the callers of one store.

    Attributes:
        settings: What the operator set.
        clients: The operator's clients; None for a server that stays open.
        issuer: Whose signed tokens count; None for nobody's.
        trail: Where accesses are written down; None for nowhere.
        house_hash: Hash of the token of this house's roles; "" when they have none.
        pace: How many requests a client may send; None for as many as it likes.
    """

    settings: FhirSecuritySettings = field(default_factory=FhirSecuritySettings)
    clients: Clients | None = None
    issuer: Issuer | None = None
    trail: AuditTrail | None = None
    house_hash: str = ""
    pace: Pace | None = None
    logins: FailedLogins | None = field(init=False)
    _asks: bool = False

    def __post_init__(self) -> None:
        self.logins = FailedLogins(self.trail) if self.trail is not None else None

    @classmethod
    def open(cls, store: FhirStore) -> "Guard":
        """The guard of a store, with the clients that its settings name or that lie beside it.

        Raises:
            RefuseToStart: The clients, the issuer or the address cannot be used as set.
        """
        settings, directory = store.settings.security, store.path.parent
        clients = Clients(settings.clients_file or directory / CLIENTS_NAME)
        trail = AuditTrail(store) if settings.audit != "never" else None
        wanted = store.settings.limits.requests_per_second
        pace = Pace(wanted) if wanted is not None else None
        guard = cls(settings, clients, Issuer.of(settings), trail, token_hash(house_token(directory)), pace)
        check_address(settings, is_open=guard.is_open)
        if guard.is_open:
            _log.warning("fhir_store_is_open", step=5, listens="loopback", remedy="pulseweir fhir token add")
        return guard

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        if not self._asks and (self.issuer is not None or self.clients):
            self._asks = True
        return not self._asks

    @property
    def security(self) -> Json:
        """What the CapabilityStatement says about it."""
        return OPEN_SECURITY if self.is_open else security_statement(self.settings)

    async def caller(self, scope: Scope) -> Caller:
        """Who sends a request.

        Raises:
            Refusal: 401 when it does not say so, or is nobody; 429 when it sends too many.
            RetryLater: The issuer's keys cannot be had now.
        """
        try:
            found = await self._caller(scope)
        except Refusal as refusal:
            if self.logins is not None:
                self.logins.note((scope.get("client") or ("",))[0], refusal.issues[0].text, monotonic())
            raise
        if self.pace is not None:
            self.pace.check(found, monotonic())
        return found

    async def _caller(self, scope: Scope) -> Caller:
        is_open, credentials = self.is_open, _credentials(scope)
        kind, _, token = credentials.partition(" ")
        if kind.lower() == "bearer" and token:
            if self.house_hash and hmac.compare_digest(token_hash(token), self.house_hash):
                return HOUSE
            return ANYBODY if is_open else await self._bearer(token)
        if is_open:
            return ANYBODY
        if credentials:
            raise _unknown("Send a bearer token: Authorization: Bearer TOKEN.")
        name = certificate_name(scope)
        found = self.clients.by_certificate(name, real_microseconds()) if name and self.clients is not None else None
        if found is None:
            raise _unknown("No client has this certificate." if name else "This server needs a bearer token.")
        return found

    def access(self, caller: Caller) -> Access:
        """The access of one request of a caller; with a trail when it leaves an AuditEvent."""
        if caller.is_house:
            return _OF_THE_HOUSE
        if self.trail is None or (caller is ANYBODY and self.settings.audit != "always"):
            return _OF_ANYBODY if caller is ANYBODY else Access(caller)
        return Access(caller, self.trail)

    async def _bearer(self, token: str) -> Caller:
        found = self.clients.by_token(token, real_microseconds()) if self.clients is not None else None
        if found is not None:
            return found
        if self.issuer is None or token.count(".") != 2:
            raise _unknown("The token is not known here, or no more.", "invalid_token")
        try:
            return await self.issuer.caller(token)
        except InvalidToken as error:
            raise _unknown(f"The token does not count: {error}.", "invalid_token") from None


def check_address(settings: FhirSecuritySettings, *, is_open: bool) -> None:
    """Nothing, if the store may listen where it is told to.

    Raises:
        AddressUnprotected: Beyond loopback without TLS, or while it asks nobody who they are.
    """
    if settings.address is None:
        return
    if settings.certificate_file is None or settings.private_key_file is None:
        raise AddressUnprotected(
            f"The FHIR store on {settings.address} needs TLS. Set fhir_store.security.certificate_file and "
            "fhir_store.security.private_key_file."
        )
    if is_open:
        raise AddressUnprotected(
            f"The FHIR store on {settings.address} would answer anybody. Add a client first (pulseweir fhir token "
            "add), or set fhir_store.security.issuer."
        )


def certificate_name(scope: Scope) -> str:
    """Common name of the client's certificate, which the TLS layer has checked; "" without one."""
    tls = scope.get("extensions", {}).get("tls", {})
    return str(tls.get("client_cert_name") or "")


def _credentials(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value.decode("latin-1"))
    return ""


def _unknown(text: str, error: str = "") -> Refusal:
    FHIR_STORE_REFUSED.labels("login").inc()
    challenge = f'{_CHALLENGE}, error="{error}"' if error else _CHALLENGE
    return Refusal(401, "login", text, headers={"www-authenticate": challenge})


def tls_files(settings: FhirSecuritySettings) -> dict[str, Path]:
    """The files of the listener with TLS, as uvicorn names them."""
    found = {
        "ssl_certfile": settings.certificate_file,
        "ssl_keyfile": settings.private_key_file,
        "ssl_ca_certs": settings.client_authority_file,
    }
    return {name: path for name, path in found.items() if path is not None}
