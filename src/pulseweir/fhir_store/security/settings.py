"""What an operator may set about who reaches the FHIR store, and about what one request may cost."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FhirSecuritySettings(BaseModel):
    """Who reaches the embedded FHIR store: the network, tokens, certificates, the audit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients_file: Path | None = Field(
        None,
        description="File of the clients with their scopes and the hashes of their tokens; none takes "
        "`fhir/clients.json` of the data directory. `pulseweir fhir token` keeps it.",
    )
    issuer: str | None = Field(
        None, description="Issuer (`iss`) whose signed tokens (JWT) count; none takes no signed tokens."
    )
    audience: str | None = Field(
        None, description="What the `aud` of signed tokens must be, such as the FHIR base URL. Needed with an issuer."
    )
    jwks_url: str | None = Field(
        None, description="Where the issuer's public keys are (JWKS), over https; looked at again every ten minutes."
    )
    jwks_file: Path | None = Field(None, description="The issuer's public keys (JWKS) as a file, in place of the URL.")
    authorization_url: str | None = Field(None, description="The issuer's authorization endpoint, for clients to find.")
    token_url: str | None = Field(None, description="The issuer's token endpoint, for clients to find.")
    address: str | None = Field(
        None,
        description="Address of a second listener with TLS, for other machines; needs clients or an issuer. "
        "None listens on loopback only.",
    )
    port: int = Field(8443, ge=1, le=65535, description="Port of the listener with TLS.")
    certificate_file: Path | None = Field(None, description="Certificate chain of the listener with TLS, PEM.")
    private_key_file: Path | None = Field(None, description="Private key of that certificate, PEM.")
    client_authority_file: Path | None = Field(
        None,
        description="Authorities (PEM) of client certificates. Set, every connection to the listener with TLS "
        "needs a certificate of theirs (mutual TLS).",
    )
    audit: Literal["authenticated", "always", "never"] = Field(
        "authenticated",
        description="Whose accesses become AuditEvents: those of clients that say who they are, those "
        "of anybody but this house's roles, or nobody's.",
    )


class LimitSettings(BaseModel):
    """What one request to the embedded FHIR store may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url_bytes: int = Field(16_384, ge=256, description="Longest path and query of a request in bytes; else 414.")
    search_parameters: int = Field(60, ge=1, description="Most parameters of one search.")
    search_values: int = Field(1_000, ge=1, description="Most alternatives (values joined by commas) of one search.")
    search_includes: int = Field(20, ge=0, description="Most `_include` and `_revinclude` of one search.")
    chain_links: int = Field(3, ge=0, description="Most links of one chained parameter or `_has`.")
    search_seconds: float = Field(30.0, gt=0, description="Longest work on one search in seconds; then it is refused.")
    concurrent_requests: int = Field(
        256, ge=1, description="Most requests in work at once, those of the house's roles not counted; else 503."
    )
    body_seconds: float = Field(60.0, gt=0, description="Longest time a request's body may take to arrive; else 408.")
    requests_per_second: float | None = Field(
        None,
        gt=0,
        description="Most requests of one client in a second, those of the house's roles not counted; else 429. "
        "None sets no limit.",
    )
