"""Opens the backends that the settings name: the only place that knows every backend."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from pulseweir.backends.settings import FhirServiceSettings
from pulseweir.clock import Clock
from pulseweir.device_catalog import catalog_directory
from pulseweir.errors import RefuseToStart, RetryLater
from pulseweir.http_connections import WatchedConnection
from pulseweir.ingest.hub.settings import is_loopback
from pulseweir.listening import listen
from pulseweir.run_files import read_ready
from pulseweir.settings import Settings
from pulseweir.web.settings import WebSettings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pulseweir.backends.bus.embedded import EmbeddedBus
    from pulseweir.backends.fhir_client import FhirClient
    from pulseweir.backends.fhir_credentials import Credentials
    from pulseweir.backends.lake import Lake
    from pulseweir.backends.repository.store import Repository
    from pulseweir.fhir_store.storage import FhirStore
    from pulseweir.ingest.catalog import Mappings
    from pulseweir.ingest.hub.registry import Registry

_LOOK_SECONDS = 5.0


def bus_directory(settings: Settings) -> Path:
    """Where the embedded bus lies."""
    return settings.data_dir / "bus"


def open_bus(settings: Settings) -> "EmbeddedBus":
    """The event bus."""
    from pulseweir.backends.bus.embedded import EmbeddedBus

    return EmbeddedBus.open(bus_directory(settings), settings.bus)


def open_registry(settings: Settings, clock: Clock) -> "Registry":
    """The hub's registry of devices."""
    from pulseweir.ingest.hub.registry import Registry

    return Registry.open(settings.data_dir, clock)


def load_mappings(settings: Settings) -> "Mappings":
    """The mappings of the catalog and of the files that the settings name.

    Raises:
        MappingError: Any of them is not usable.
    """
    from pulseweir.ingest.catalog import Mappings

    site = settings.mappings
    return Mappings.load(catalog_folders(settings), site.device_mapping_file, site.fhir_mapping_file)


def catalog_folders(settings: Settings) -> list[Path]:
    """The catalogs of device kinds: the package's, then the site's."""
    return [catalog_directory(), *([settings.mappings.catalog_dir] if settings.mappings.catalog_dir else [])]


def fhir_base_url(settings: Settings) -> str:
    """Where the FHIR service answers: the configured server, or the embedded store where it says it listens."""
    if settings.fhir.base_url is not None:
        return settings.fhir.base_url
    facts = read_ready(settings.data_dir, "fhir")
    port = facts["port"] if facts and "port" in facts else settings.fhir.port
    return f"http://127.0.0.1:{port}/fhir"


def hub_mqtt_port(settings: Settings) -> int:
    """Loopback port of the hub's MQTT: where it says it listens, else the configured one."""
    facts = read_ready(settings.data_dir, "hub") or {}
    return int(facts.get("mqtt_port") or settings.hub.mqtt_port or 1883)


def open_fhir(settings: Settings) -> "FhirClient":
    """A client of the FHIR service; the embedded store knows it by the token of this house.

    Raises:
        RefuseToStart: The credentials for an outside server cannot be used.
    """
    from pulseweir.backends.fhir_client import FhirClient

    service = settings.fhir
    if service.base_url is None:
        from pulseweir.fhir_store.security.clients import house_token

        headers = {"authorization": f"Bearer {house_token(fhir_directory(settings))}"}
        return FhirClient(fhir_base_url(settings), headers=headers, timeout_seconds=service.timeout_seconds)
    trusted = authorities(service.authority_file)
    return FhirClient(
        service.base_url,
        credentials=fhir_credentials(service, trusted),
        verify=trusted,
        timeout_seconds=service.timeout_seconds,
        discovers=True,
    )


def fhir_credentials(service: FhirServiceSettings, trusted: ssl.SSLContext | bool) -> "Credentials | None":
    """What shows an outside FHIR server who this house is; None where it need not know.

    Raises:
        RefuseToStart: They cannot be used, or would go over a network in the clear.
    """
    from pulseweir.backends.fhir_backend_services import BackendClient, BackendServices
    from pulseweir.backends.fhir_capabilities import SCOPES
    from pulseweir.backends.fhir_credentials import FhirCredentialsUnusable, FixedAuthorization, TokenFile, is_safe
    from pulseweir.backends.fhir_key import read_signing_key

    told, base_url = service.credentials, str(service.base_url)
    if not told.is_set:
        return None
    if not is_safe(base_url) or not is_safe(told.token_url or base_url):
        raise FhirCredentialsUnusable("Credentials for a FHIR server need https. Correct fhir.base_url or token_url.")
    if told.bearer_token is not None:
        return FixedAuthorization.bearer(told.bearer_token.get_secret_value())
    if told.bearer_token_file is not None:
        return TokenFile(told.bearer_token_file)
    if told.user_name is not None and told.password is not None:
        return FixedAuthorization.basic(told.user_name, told.password.get_secret_value())
    if told.client_id is None or told.private_key_file is None:
        return None
    key = read_signing_key(told.private_key_file, told.key_id)
    client = BackendClient(told.client_id, key, told.scopes or SCOPES, told.token_url)
    return BackendServices(base_url, client, verify=trusted, timeout_seconds=service.timeout_seconds)


def authorities(path: Path | None) -> ssl.SSLContext | bool:
    """Who is trusted to say who a server is: those of a file, or the public ones.

    Raises:
        RefuseToStart: The file holds no certificates.
    """
    if path is None:
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        cause = type(error).__name__
        raise RefuseToStart(f"fhir.authority_file {path}: {cause}. Name a PEM file of certificates.") from None


async def check_fhir(settings: Settings) -> None:
    """Nothing, unless the outside FHIR server of the settings answers and cannot be worked with.

    Raises:
        RefuseToStart: It speaks another version, or the credentials cannot be used.
    """
    from pulseweir.backends.fhir_client import FhirVersionUnsupported

    if settings.fhir.base_url is None:
        return
    fhir = open_fhir(settings)
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await fhir.discover()
    except FhirVersionUnsupported as error:
        raise RefuseToStart(f"{error} Set fhir.base_url to the server's R4 base.") from None
    except (RetryLater, TimeoutError):
        # Whoever needs it waits for it.
        return
    finally:
        await fhir.close()


def fhir_directory(settings: Settings) -> Path:
    """Where the embedded FHIR store lies."""
    return settings.data_dir / "fhir"


def open_fhir_store(settings: Settings, clock: Clock) -> "FhirStore":
    """The embedded FHIR store.

    Raises:
        FhirStoreUnusable: Its file cannot be read or written.
        DataDirectoryNewer: Written by a newer release; upgrade, or restore a backup.
    """
    from pulseweir.fhir_store.storage import FhirStore

    return FhirStore.open(fhir_directory(settings), clock, settings.fhir_store)


def association_changes(settings: Settings) -> Callable[[], int | None] | None:
    """How often the embedded FHIR store's Devices and their uses have changed; None for another server."""
    from pulseweir.fhir_store.change_count import FILE_NAME, read_change_count

    if settings.fhir.base_url is not None:
        return None
    path = settings.data_dir / "fhir" / FILE_NAME
    return lambda: read_change_count(path)


def open_lake(settings: Settings) -> "Lake":
    """The lake."""
    from pulseweir.backends.lake import Lake

    return Lake(settings.lake_location.url or str(settings.data_dir / "lake"))


def open_repository(settings: Settings, clock: Clock) -> "Repository":
    """The SQL repository.

    Raises:
        DataDirectoryNewer: A newer release wrote it.
        RepositoryUnavailable: It cannot be reached.
    """
    from pulseweir.backends.repository.store import Repository

    if settings.repository.url is not None:
        return Repository.open(settings.repository.url.get_secret_value(), clock)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Repository.open(f"sqlite:///{settings.data_dir.absolute() / 'repository.sqlite'}", clock)


def pages_config(pages: "Starlette", settings: WebSettings) -> uvicorn.Config:
    """How the pages are served: no access log, because paths hold patient ids.

    Raises:
        RefuseToStart: The address is not loopback and there is no certificate.
    """
    if not settings.is_secure and not is_loopback(settings.address):
        raise RefuseToStart(f"Pages on {settings.address} need TLS. Set web.certificate_file and web.private_key_file.")
    return uvicorn.Config(
        pages,
        host=settings.address,
        port=settings.port,
        ssl_certfile=str(settings.certificate_file) if settings.certificate_file else None,
        ssl_keyfile=str(settings.private_key_file) if settings.private_key_file else None,
        loop="uvloop",
        http=WatchedConnection,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


class PortTaken(RefuseToStart):
    """A port of this house cannot be opened."""

    def __init__(self, address: str, port: int, cause: str) -> None:
        self.port = port
        super().__init__(
            f"{address}:{port} cannot be opened: {cause}. Stop what holds it, or choose another port in the settings."
        )


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the process it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    def start(self) -> asyncio.Task[None]:
        """Open the port and serve in a task; connections are taken from now on.

        Raises:
            PortTaken: Another process holds the port.
        """
        try:
            listener = listen(self.config.host, self.config.port)
        except OSError as error:
            cause = error.strerror or type(error).__name__
            raise PortTaken(self.config.host, self.config.port, cause) from error
        return asyncio.create_task(self.serve(sockets=[listener]))
