"""What an operator may set about the embedded FHIR store."""

from ipaddress import ip_network
from typing import Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pulseweir.fhir_store.export.settings import ExportSettings
from pulseweir.fhir_store.security.settings import FhirSecuritySettings, LimitSettings
from pulseweir.fhir_store.subscriptions.settings import SubscriptionSettings


class FhirStoreSettings(BaseModel):
    """Limits and habits of the embedded FHIR store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: Literal["off", "structure", "strict"] = Field(
        "structure",
        description="How closely an incoming resource is checked before it is stored: not at all, against the R4 "
        "definitions with their required codes and invariants, or also that what it refers to is stored here and "
        "that vital signs follow their profiles.",
    )
    maximum_body_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, description="Largest request body in bytes; a larger one is refused with 413."
    )
    maximum_depth_levels: int = Field(
        100, ge=16, le=400, description="Deepest nesting of objects and arrays in a JSON body, in levels."
    )
    maximum_bundle_entries: int = Field(5_000, ge=1, description="Most entries of one batch or transaction.")
    conditional_delete_resources: int = Field(
        1, ge=1, le=10_000, description="Most resources that one `DELETE Type?criteria` may delete; 412 beyond."
    )
    page_resources: int = Field(100, ge=1, description="Matches on a search page when the client gives no `_count`.")
    maximum_page_resources: int = Field(
        1_000, ge=1, description="Most matches on a search page, whatever `_count` says."
    )
    group_units: int = Field(64, ge=1, description="Most requests whose writes share one durable commit.")
    reader_threads: int = Field(2, ge=1, description="Threads that answer searches beside the writer.")
    page_cache_kibibytes: int = Field(65_536, ge=1_024, description="SQLite page cache of the writer, in KiB.")
    public_base_url: str | None = Field(
        None, description="Base URL in links, such as https://fhir.example.org/fhir; the request's own when unset."
    )
    time_zone: str = Field(
        "UTC",
        description="IANA time zone of the site, such as Europe/Zurich: whose day a date without a time is, in "
        "searches and in resources, and whose clock a time without a zone is read from. Another one "
        "indexes anew at the start.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of proxies, such as 10.0.0.0/8, whose `Forwarded` or `X-Forwarded-Host` and "
        "`X-Forwarded-Proto` headers say what links begin with; nobody's as installed. `public_base_url` goes first.",
    )
    limits: LimitSettings = Field(default_factory=LimitSettings, description="What one request may cost.")
    security: FhirSecuritySettings = Field(default_factory=FhirSecuritySettings, description="Who reaches the store.")
    subscriptions: SubscriptionSettings = Field(
        default_factory=SubscriptionSettings, description="Where Subscriptions may send, and how patiently."
    )
    export: ExportSettings = Field(
        default_factory=ExportSettings, description="How much is exported at once, and for how long it is kept."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError("names no time zone of IANA; write one such as Europe/Zurich, or UTC")
        return name

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            ip_network(each)
        return proxies
