"""Is this machine, this configuration, this data directory fit to run a house?"""

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

from pulseweir.clock import Clock
from pulseweir.errors import PulseweirError
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings
from pulseweir.sqlite import check_version, library_version

_NEEDED_BYTES = 2 * 1024**3
_NEEDED_PYTHON = (3, 11)


def examine(settings: Settings) -> list[Finding]:
    """Every check, whether or not an earlier one failed."""
    return [
        _python(),
        _sqlite(),
        _directory(settings.data_dir),
        _space(settings.data_dir),
        *(_port(name, port) for name, port in _ports(settings)),
        _catalog(),
        *_fhir(settings),
        *_clocks(settings),
        *_channels(settings),
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    healthy = sys.version_info >= _NEEDED_PYTHON
    return Finding("python", healthy, found, "" if healthy else "Install Python 3.11 or newer.")


def _sqlite() -> Finding:
    try:
        check_version()
    except PulseweirError as error:
        return Finding("sqlite", False, library_version(), str(error))
    return Finding("sqlite", True, library_version())


def _directory(directory: Path) -> Finding:
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding("data directory", False, f"{directory} is not writable", "Give this user write permission.")
    if directory.exists() and directory.stat().st_mode & 0o077:
        return Finding("data directory", False, "others may read it", f"chmod 700 {directory}")
    return Finding("data directory", True, str(directory))


def _space(directory: Path) -> Finding:
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    remedy = "" if free > _NEEDED_BYTES else "Free at least 2 GiB: a full disk refuses devices."
    return Finding("disk space", free > _NEEDED_BYTES, f"{free // 1024**2} MiB free", remedy)


def _ports(settings: Settings) -> list[tuple[str, int]]:
    named = {
        "hub MQTT": settings.hub.mqtt_port,
        "hub HTTP": settings.hub.http_port,
        "FHIR store": settings.fhir.port if settings.fhir.base_url is None else None,
        "web": settings.web.port,
    }
    return [(name, port) for name, port in named.items() if port]


def _port(name: str, port: int) -> Finding:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        in_use = probe.connect_ex(("127.0.0.1", port)) == 0
    # A port in use is right when this house runs, and a conflict when it does not: say which port it is.
    return Finding(f"port of {name}", True, f"{port} {'answers' if in_use else 'is free'}")


def _catalog() -> Finding:
    from pulseweir.ingest.catalog import catalog_directory

    kinds = sorted(path.parent.name for path in catalog_directory().glob("*/device_mapping.json"))
    remedy = "" if kinds else "Install pulseweir again: the wheel carries the device catalog."
    return Finding("device catalog", bool(kinds), ", ".join(kinds), remedy)


def _fhir(settings: Settings) -> list[Finding]:
    if settings.fhir.base_url is None:
        return []
    from pulseweir.operations.doctor_fhir import examine_fhir

    return asyncio.run(examine_fhir(settings))


def _clocks(settings: Settings) -> list[Finding]:
    from pulseweir.operations.device_clocks import examine_clocks

    try:
        return examine_clocks(settings, Clock.from_environment())
    except PulseweirError as error:
        return [Finding("device clocks", False, "the repository cannot be read", str(error))]


def _channels(settings: Settings) -> list[Finding]:
    from pulseweir.operations.doctor_channels import examine_channels

    return examine_channels(settings)
