"""Assembles the settings that live beside the code that obeys them.

Precedence: command line, environment (``PULSEWEIR_HUB__MQTT_PORT``), ``pulseweir.toml``, defaults. An unknown key is an
error wherever it stands. Every secret may come from a file: ``PULSEWEIR_COORDINATION__TEAMS_WEBHOOK_URL_FILE``.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import json
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pulseweir.backends.settings import BusSettings, FhirServiceSettings, LakeSettings
from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.hot_path.flag import FlagSettings
from pulseweir.hot_path.settings import CareRoutingSettings, FhirRiskSettings, RiskAssessmentSettings
from pulseweir.ingest.hub.settings import HubSettings
from pulseweir.ingest.settings import (
    ArchiveSettings,
    ConnectorSettings,
    EdgeSettings,
    IdentitySettings,
    ObservationSettings,
)
from pulseweir.scoring.settings import EnrichmentSettings, WindowSettings
from pulseweir.scoring.signal_settings import SignalSettings
from pulseweir.site_time import SiteSettings
from pulseweir.warm_path.alert_settings import AlertSettings
from pulseweir.warm_path.settings import CoordinationSettings, RefreshSettings
from pulseweir.web.settings import WebSettings

PREFIX = "PULSEWEIR_"
SETTINGS_FILE = "pulseweir.toml"
SETTINGS_FILE_VARIABLE = "PULSEWEIR_SETTINGS_FILE"
_NOT_SETTINGS = {"PULSEWEIR_TEST_DATA", "PULSEWEIR_CLOCK", "PULSEWEIR_SUPERVISOR", SETTINGS_FILE_VARIABLE}


class RepositorySettings(BaseModel):
    """The SQL repository of step 14."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr | None = Field(None, description="SQLAlchemy address; none takes SQLite in the data directory.")


class MappingSettings(BaseModel):
    """The site's own mappings, for devices whose kind the catalog does not hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_mapping_file: Path | None = Field(None, description="devicecontent.json of the site.")
    fhir_mapping_file: Path | None = Field(None, description="fhirmapping.json of the site.")
    catalog_dir: Path | None = Field(None, description="Folder of further catalog kinds; they replace equal names.")


class LakeLocation(BaseModel):
    """Where the lake of steps 9 and 11 lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(None, description="Root of the Delta tables; none takes a folder of the data directory.")


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="none",
    )

    data_dir: Path = Field(Path("pulseweir-data"), description="Folder that holds all state of this house.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Loopback port of /metrics; 0 takes a free one a role.")
    bus: BusSettings = Field(default_factory=BusSettings)
    hub: HubSettings = Field(default_factory=HubSettings)
    fhir: FhirServiceSettings = Field(default_factory=FhirServiceSettings)
    fhir_store: FhirStoreSettings = Field(default_factory=FhirStoreSettings)
    lake_location: LakeLocation = Field(default_factory=LakeLocation)
    lake: LakeSettings = Field(default_factory=LakeSettings)
    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    archive: ArchiveSettings = Field(default_factory=ArchiveSettings)
    mappings: MappingSettings = Field(default_factory=MappingSettings)
    connector: ConnectorSettings = Field(default_factory=ConnectorSettings)
    identity: IdentitySettings = Field(default_factory=IdentitySettings)
    observations: ObservationSettings = Field(default_factory=ObservationSettings)
    enrichment: EnrichmentSettings = Field(default_factory=EnrichmentSettings)
    windows: WindowSettings = Field(default_factory=WindowSettings)
    signals: SignalSettings = Field(default_factory=SignalSettings)
    flags: FlagSettings = Field(default_factory=FlagSettings)
    risk_assessment: RiskAssessmentSettings = Field(default_factory=RiskAssessmentSettings)
    fhir_risk: FhirRiskSettings = Field(default_factory=FhirRiskSettings)
    care_routing: CareRoutingSettings = Field(default_factory=CareRoutingSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    coordination: CoordinationSettings = Field(default_factory=CoordinationSettings)
    refresh: RefreshSettings = Field(default_factory=RefreshSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    site: SiteSettings = Field(default_factory=SiteSettings)
    repository: RepositorySettings = Field(default_factory=RepositorySettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, files named by ``…_FILE``, ``pulseweir.toml``: the first that says a key wins."""
        files = InitSettingsSource(settings_cls, init_kwargs=_from_secret_files())
        if isinstance(env_settings, EnvSettingsSource):
            # Else the name of a secret's file would be taken for a key of its section, which has none of that name.
            named = {name: text for name, text in env_settings.env_vars.items() if not _names_a_file(name.upper())}
            env_settings.env_vars = named
        return init_settings, env_settings, files, TomlConfigSettingsSource(settings_cls, settings_file())


class SettingsError(RefuseToStart):
    """A settings source holds something that is not a setting, or a value it cannot take."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source = source
        self.faults = faults
        listed = "; ".join(faults)
        super().__init__(f"{source}: {listed}. See docs/operating.md, section Settings, for every key.")


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force.

    Args:
        overrides: What the command line says, nested like the settings.

    Raises:
        SettingsError: Names the source, the key and what is wrong with it.
    """
    unknown = [name for name in sorted(os.environ) if name.startswith(PREFIX) and not _is_known(name)]
    if unknown:
        raise SettingsError("environment", [f"{name}: unknown key" for name in unknown])
    path = settings_file()
    if SETTINGS_FILE_VARIABLE in os.environ and not path.exists():
        raise SettingsError(str(path), ["the file does not exist"])
    try:
        return Settings(**dict(overrides or {}))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {_sentence(fault)}" for fault in error.errors()]
        raise SettingsError(_source_of(error, path), faults) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"not TOML ({error})"]) from error


def settings_file() -> Path:
    """Where the settings file is looked for."""
    return Path(os.environ.get(SETTINGS_FILE_VARIABLE, SETTINGS_FILE))


def to_environment(
    values: Mapping[str, Any], prefix: str = PREFIX, settings: type[BaseModel] = Settings
) -> dict[str, str]:
    """Nested values as the environment variables that `load_settings` reads back; tables and lists are JSON.

    >>> to_environment({"hub": {"mqtt_port": 1}, "alerts": {"reminder_seconds": {"high": 5}}})
    {'PULSEWEIR_HUB__MQTT_PORT': '1', 'PULSEWEIR_ALERTS__REMINDER_SECONDS': '{"high":5}'}
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        name, field = prefix + key.upper(), settings.model_fields.get(key)
        nested = None if field is None else field.annotation
        if isinstance(value, Mapping) and isinstance(nested, type) and issubclass(nested, BaseModel):
            found |= to_environment(value, f"{name}__", nested)
        else:
            found[name] = json.encode(value).decode() if isinstance(value, Mapping | list | tuple) else str(value)
    return found


def _is_known(variable: str) -> bool:
    path = _path(variable)
    if variable in _NOT_SETTINGS or _is_setting(path):
        return True
    return path[-1].endswith("_file") and _is_setting([*path[:-1], path[-1].removesuffix("_file")])


def _path(variable: str) -> list[str]:
    return variable.removeprefix(PREFIX).lower().split("__")


def _is_setting(path: list[str]) -> bool:
    model: Any = Settings
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return False
        model = field.annotation
    return True


def _from_secret_files() -> dict[str, Any]:
    """Values whose variable ends in _FILE: the text of the file it names."""
    values: dict[str, Any] = {}
    for name in sorted(os.environ):
        if not _names_a_file(name):
            continue
        path, branch = _path(name), values
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1].removesuffix("_file")] = _secret(name, Path(os.environ[name]))
    return values


def _names_a_file(variable: str) -> bool:
    """Whether a variable names the file that holds a setting, rather than the setting."""
    is_other = variable in _NOT_SETTINGS or _is_setting(_path(variable))
    return variable.startswith(PREFIX) and not is_other and _is_known(variable)


def _secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError("environment", [f"{name}: the file cannot be read ({error.strerror})"]) from error


def _sentence(fault: Any) -> str:
    return "unknown key" if fault["type"] == "extra_forbidden" else str(fault["msg"])


def _source_of(error: ValidationError, path: Path) -> str:
    """The settings file when the first fault stands in it, else what came before it."""
    branch: Any = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part in error.errors()[0]["loc"]:
        if not isinstance(branch, Mapping) or part not in branch:
            return "environment or command line"
        branch = branch[str(part)]
    return str(path)
