"""What an operator may set about Subscriptions."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class SubscriptionSettings(BaseModel):
    """Where Subscriptions may send, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[str, ...] = Field(
        (),
        description="Origins (scheme, host, port) that Subscriptions may send to, such as "
        "`https://hooks.example.org` or `http://10.1.2.3:8080`. None takes those of this machine (loopback) while the "
        "store listens on loopback only, and no endpoint otherwise.",
    )
    timeout_seconds: float = Field(
        10.0, gt=0, description="Longest wait for an endpoint in seconds, to connect and for its answer."
    )
    retry_seconds: float = Field(
        1.0, gt=0, description="Longest first pause in seconds after a failed notification; doubled a failure."
    )
    retry_ceiling_seconds: float = Field(600.0, gt=0, description="Longest pause between two attempts in seconds.")
    failures_until_error: int = Field(
        5, ge=1, description="Failures in a row after which a Subscription's status becomes `error`; it is tried on."
    )
    hours_until_off: float = Field(
        24.0, gt=0, description="Hours of failures after which its status becomes `off` and nothing is noted for it."
    )
    signed_token_hours: float = Field(
        168.0,
        gt=0,
        description="Hours for which a Subscription made with a token of an issuer is served; storing it anew begins "
        "them again. An issuer does not tell which of its tokens it took back.",
    )
    authority_file: Path | None = Field(
        None, description="Authorities (PEM) of the certificates of https endpoints; none takes those of certifi."
    )
    events_kept: int = Field(
        10_000, ge=1, description="Delivered events that `$events` can still tell, for each Subscription."
    )
    events_per_notification: int = Field(100, ge=1, description="Most events in one notification Bundle.")
    concurrent_deliveries: int = Field(32, ge=1, description="Most notifications on their way at once.")
