"""Steps 15-17: what an operator may set about the screens."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class WebSettings(BaseModel):
    """The screens: where they listen, how long a session lasts, how live they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field("127.0.0.1", description="Address to listen on; anything but loopback needs a certificate")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 for a free one")
    certificate_file: Path | None = Field(None, description="PEM certificate; with it the pages are served over TLS")
    private_key_file: Path | None = Field(None, description="PEM private key of the certificate")
    session_idle_minutes: float = Field(60, gt=0, description="A session without an action for so long ends")
    session_lifetime_hours: float = Field(12, gt=0, description="Every session ends after so long: one shift")
    sign_in_attempts: int = Field(5, ge=1, description="Wrong passwords before an account is locked for a while")
    sign_in_lock_seconds: float = Field(30, gt=0, description="First lock; every further wrong password doubles it")
    sign_in_longest_lock_seconds: float = Field(900, gt=0, description="No lock is longer")
    sign_in_attempts_per_address: int = Field(30, ge=1, description="Sign-ins from one address within five minutes")
    names_kept_seconds: float = Field(300, gt=0, description="How long names from the FHIR service are kept")
    names_wait_seconds: float = Field(2, gt=0, description="A page waits so long for names, then shows beds only")
    poll_seconds: float = Field(0.1, gt=0, description="How often the repository is asked for changes")
    heartbeat_seconds: float = Field(2, gt=0, description="A live stream says that it is alive this often")
    sparkline_hours: float = Field(6, gt=0, description="Span of the small score line on a tile")
    silent_after_seconds: float = Field(900, gt=0, description="A patient without measurements for so long is stale")
    absent_after_seconds: float = Field(43_200, gt=0, description="… and for so long has no data")

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the pages over TLS."""
        return self.certificate_file is not None
