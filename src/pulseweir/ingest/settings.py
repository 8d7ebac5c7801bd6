"""Steps 2 to 5: what an operator may set about edge, archive, connector, identity and Observations."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM


def _local_settings() -> HubSettings:
    return HubSettings(mqtt_port=1884, mqtts_port=8884, http_port=None, https_port=None)


class EdgeSettings(BaseModel):
    """An edge: its own small hub, and the hub it forwards to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    local: HubSettings = Field(default_factory=_local_settings, description="Where devices connect.")
    upstream_host: str = Field("localhost", description="Host name of the hub; tokens are made for it.")
    upstream_port: int = Field(8883, ge=1, le=65535, description="MQTT port of the hub.")
    upstream_tls: bool = Field(True, description="Whether the hub's port speaks TLS; plain is for loopback only.")
    upstream_certificate_file: Path | None = Field(
        None, description="Authority that signed the hub's certificate; none takes the system's."
    )
    upstream_timeout_seconds: float = Field(10.0, gt=0, description="Longest wait for one batch's acknowledgements.")


class ArchiveSettings(BaseModel):
    """The raw archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segment_bytes: int = Field(64 * 1024 * 1024, ge=4_096, description="Size at which a segment is closed.")
    sync_spacing_seconds: float = Field(
        0.1, ge=0, le=10, description="Least time between two syncs, so that the archive leaves the disk to the hub."
    )


class ConnectorSettings(BaseModel):
    """What the connector accepts, and how long it waits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity_wait_seconds: float = Field(
        300.0, ge=0, description="How long a message waits for its Device and Patient before quarantine, real seconds."
    )
    body_limit_bytes: int = Field(262_144, ge=1, description="Larger message bodies go to quarantine.")
    nesting_limit: int = Field(64, ge=4, le=500, description="Bodies nested deeper go to quarantine.")


class IdentitySettings(BaseModel):
    """How devices are looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["Lookup", "Create", "LookupWithEncounter"] = Field(
        "Lookup",
        description="Lookup finds Device and Patient; Create also makes them, from the patient the message names;"
        " LookupWithEncounter wants an Encounter too.",
    )
    compatibility: Literal["pulseweir", "strict"] = Field(
        "pulseweir",
        description="pulseweir sets a message aside that names another Patient than the one who had the device;"
        " strict files it under the device's, as the predecessor does.",
    )
    device_identifier_system: str = Field(
        DEVICE_IDENTIFIER_SYSTEM, description="System of the identifier that holds a device id; blank searches without."
    )
    cache_seconds: float = Field(
        15.0, gt=0, description="How long an association is believed before the FHIR service is asked again, seconds."
    )
    ahead_seconds: float = Field(
        0.0,
        ge=0,
        description="With another FHIR service than the embedded one: how much later than the last asking a"
        " measurement may be and still be answered from memory; 0 never follows an association that has ended.",
    )
    unknown_cache_seconds: float = Field(
        2.0, ge=0, description="How long an unknown device or patient is not asked for again, seconds."
    )
    cache_devices: int = Field(50_000, ge=1, description="Devices remembered at most.")
    concurrency: int = Field(8, ge=1, le=64, description="Devices asked for at the same time.")


class ObservationSettings(BaseModel):
    """How Observations are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle_size: int = Field(200, ge=1, le=1_000, description="Observations sent in one bundle at most.")
    bundle_bytes: int = Field(
        1_048_576, ge=10_000, description="Size of one bundle at most, unless one Observation alone is larger."
    )
    concurrency: int = Field(2, ge=1, le=16, description="Bundles under way at the same time at most.")
    slow_answer_seconds: float = Field(
        5.0, gt=0, description="A bundle that takes longer makes the next ones smaller, real seconds."
    )
    merge_attempts: int = Field(3, ge=1, le=10, description="Tries to merge before a row waits and is tried again.")
    closing_seconds: float = Field(
        300.0,
        ge=0,
        description="An hour, a day or a session is final so long after its end and its newest value, house clock"
        " seconds.",
    )
    reference_wait_seconds: float = Field(
        300.0, ge=0, description="How long a row waits for what it refers to before quarantine, real seconds."
    )
