"""What an operator may set about the bus, the lake and the FHIR service."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class BusSettings(BaseModel):
    """The embedded bus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_count: int = Field(8, ge=1, le=256, description="Shards of a topic; fixed when the topic is first made.")
    rotate_bytes: int = Field(
        256 * 1024 * 1024, ge=1_048_576, description="Size at which a topic's file is closed and the next begun, bytes."
    )
    keep_hours: float = Field(
        72, ge=0, description="Closed files of a topic that every group has dealt with are removed after so long."
    )
    seen_seconds: int = Field(3_600, ge=60, description="How long a message id is remembered to drop repeats, seconds.")


class LakeSettings(BaseModel):
    """How the lake is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit_seconds: float = Field(1.0, gt=0, description="A table is committed to at most once in so long")
    commit_rows: int = Field(20_000, gt=0, description="Rows in one commit at most")
    compact_after_commits: int = Field(40, gt=1, le=50, description="Small files are joined after so many commits")


class FhirCredentialSettings(BaseModel):
    """How this house shows an outside FHIR server who it is: one way of these, or none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bearer_token: SecretStr | None = Field(None, description="Bearer token.")
    bearer_token_file: Path | None = Field(None, description="File with a bearer token; read again when it is refused.")
    user_name: str | None = Field(None, description="User name of HTTP basic authentication.")
    password: SecretStr | None = Field(None, description="Its password.")
    client_id: str | None = Field(
        None, description="Client id of SMART Backend Services, as the authorization server registered this house."
    )
    private_key_file: Path | None = Field(
        None, description="Its private key, PEM or JWK: EC P-384 (ES384) or RSA (RS384); for its owner's eyes only."
    )
    key_id: str | None = Field(None, description="`kid` of the registered public key; none takes the JWK's own.")
    scopes: tuple[str, ...] | None = Field(
        None, description="What is asked for; none asks for what the steps need, as SMART version 2 scopes."
    )
    token_url: str | None = Field(None, description="Token endpoint; none takes what the FHIR server says of itself.")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        ways = [self.bearer_token, self.bearer_token_file, self.user_name, self.client_id]
        if sum(way is not None for way in ways) > 1:
            raise ValueError("set one of bearer_token, bearer_token_file, user_name, client_id")
        if (self.user_name is None) != (self.password is None):
            raise ValueError("user_name and password go together")
        if (self.client_id is None) != (self.private_key_file is None):
            raise ValueError("client_id and private_key_file go together")
        if self.client_id is None and (self.key_id or self.scopes or self.token_url):
            raise ValueError("key_id, scopes and token_url need client_id")
        return self

    @property
    def is_set(self) -> bool:
        """Whether there are any."""
        return self != FhirCredentialSettings()


class FhirServiceSettings(BaseModel):
    """The FHIR service of steps 5, 7 and 13."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str | None = Field(None, description="Base of an R4 server; none takes the embedded store on loopback.")
    port: int = Field(8090, ge=1, le=65535, description="Loopback port of the embedded store.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest wait for one answer of the FHIR service.")
    authority_file: Path | None = Field(
        None, description="Authorities (PEM) that vouch for the server's certificate; none takes the public ones."
    )
    credentials: FhirCredentialSettings = Field(
        default_factory=FhirCredentialSettings, description="How an outside server knows this house."
    )

    @field_validator("base_url")
    @classmethod
    def _is_base(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://none")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("give the base of a server, such as https://fhir.example.org/r4")
        if "@" in parts.netloc:
            raise ValueError("a name and a password belong into fhir.credentials")
        return value
