"""Step 1: the settings of the hub."""

from ipaddress import ip_address
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class HubSettings(BaseModel):
    """The hub: where it listens, whom it believes, what it takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain_address: str = Field("127.0.0.1", description="Loopback address of the listeners without TLS.")
    mqtt_port: int | None = Field(
        1883, ge=0, le=65535, description="MQTT without TLS; 0 takes a free port, none closes."
    )
    http_port: int | None = Field(
        8083, ge=0, le=65535, description="HTTP without TLS; 0 takes a free port, none closes."
    )
    tls_address: str = Field("127.0.0.1", description="Address of the TLS listeners; 0.0.0.0 for every interface.")
    mqtts_port: int | None = Field(8883, ge=0, le=65535, description="MQTT over TLS; needs a certificate.")
    https_port: int | None = Field(8443, ge=0, le=65535, description="HTTPS; needs a certificate.")
    certificate_file: Path | None = Field(None, description="PEM certificate chain; without it no TLS listener opens.")
    private_key_file: Path | None = Field(None, description="PEM private key of the certificate.")
    host_names: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1"), description="Names of this hub that user names and tokens of devices may carry."
    )
    token_skew_seconds: int = Field(300, ge=0, description="How far a device's clock may be off when tokens expire.")
    longest_token_seconds: int | None = Field(
        None, ge=60, description="Refuse tokens that live longer; none takes any."
    )
    largest_message_bytes: int = Field(262_144, ge=1_024, description="Body and properties of one message together.")
    longest_keep_alive_seconds: int = Field(
        1_767, ge=5, description="Longest silence of a connection, before the half."
    )
    connect_timeout_seconds: float = Field(10.0, gt=0, description="A connection must say who it is within this time.")
    connection_limit: int = Field(20_000, ge=1, description="Open MQTT connections at most.")
    linger_milliseconds: float = Field(
        5.0, ge=0, le=1_000, description="Longest wait for more messages before a commit."
    )
    group_rows: int = Field(64, ge=1, description="Messages that start a commit at once, without waiting for more.")
    largest_group_rows: int = Field(20_000, ge=1, description="Messages in one commit at most.")
    queue_bytes: int = Field(
        64 * 1024 * 1024, ge=1_048_576, description="Messages waiting for a commit; above it devices are not read."
    )
    retry_seconds: float = Field(
        5.0, ge=0, description="How long a commit is tried again before its senders are told; they send again."
    )
    registry_poll_seconds: float = Field(1.0, gt=0, le=5, description="How soon a disabled device is cut off.")
    activity_seconds: float = Field(10.0, gt=0, description="How often last-seen instants are stored.")


def is_loopback(address: str) -> bool:
    """Whether an address or name stays on this machine; plain text is for such only.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
