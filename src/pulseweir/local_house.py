"""A whole house on this machine for a while: free ports, a throw-away certificate, all roles, and its sums."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import CLOCK_VARIABLE, Clock
from pulseweir.ingest.hub.certificates import make_certificate
from pulseweir.ingest.hub.registry import Registry
from pulseweir.operations.conserve import Conservation, conserve, lag
from pulseweir.operations.sums import Sums, add_up
from pulseweir.pipeline import GROUPS, ROLES
from pulseweir.run_files import read_ready
from pulseweir.settings import Settings, load_settings, to_environment
from pulseweir.supervisor import Supervisor
from pulseweir.systems import bus_directory, open_fhir, open_registry

_LOOK_SECONDS = 0.1
_CALM_LOOKS = 4


@dataclass(slots=True)
class Peak:
    """Highest resident memory of all processes together, bytes."""

    resident_bytes: int = 0


@dataclass(slots=True)
class LocalHouse:
    """All roles on free loopback ports, under one clock.

    Attributes:
        settings: What every role was started with.
        clock: What every role's clock shows.
    """

    settings: Settings
    clock: Clock
    _supervisor: Supervisor
    _peak: Peak = field(default_factory=Peak)
    _watch: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, data_directory: Path, clock: Clock, overrides: Mapping[str, Any] | None = None) -> Self:
        """Start everything and wait until all roles are ready.

        Args:
            data_directory: Where its state goes; may hold an earlier run's.
            clock: Handed to every role.
            overrides: Settings on top of the free ports.

        Raises:
            RefuseToStart: A role did not start.
        """
        values = _with_free_ports(data_directory, overrides or {})
        settings = load_settings(values)
        environment = to_environment({key: value for key, value in values.items() if key != "data_dir"})
        if clock.is_simulated:
            environment[CLOCK_VARIABLE] = clock.to_environment()
        supervisor = Supervisor(settings.data_dir, list(ROLES), environment)
        house = cls(settings, clock, supervisor)
        await supervisor.start()
        house._watch = asyncio.create_task(house._watch_memory())
        return house

    async def stop(self) -> None:
        """Stop every role without loss."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._supervisor.stop()

    @property
    def peak_resident_bytes(self) -> int:
        """Highest resident memory of all roles together so far."""
        return self._peak.resident_bytes

    def process_ids(self) -> dict[str, int]:
        """The process of each role."""
        return self._supervisor.process_ids()

    def registry(self) -> Registry:
        """The hub's registry."""
        return open_registry(self.settings, self.clock)

    def fhir(self) -> FhirClient:
        """A client of its FHIR service."""
        return open_fhir(self.settings)

    def conserve(self) -> Conservation:
        """Its balances now."""
        return conserve(bus_directory(self.settings), self.settings.bus)

    async def settle(self, wait_seconds: float) -> bool:
        """Wait until every group has dealt with every row and every window has closed; False when that took longer."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        calm = 0
        while asyncio.get_running_loop().time() < deadline:
            calm = calm + 1 if await asyncio.to_thread(self._is_settled) else 0
            # More than once in a row: a row may be between two topics at the first look.
            if calm == _CALM_LOOKS:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def _is_settled(self) -> bool:
        directory = bus_directory(self.settings)
        if any(lag(directory, topic, group, self.settings.bus) for topic, group in GROUPS):
            return False
        return self._windows_open() == 0

    def _windows_open(self) -> float:
        facts = read_ready(self.settings.data_dir, "scoring")
        if facts is None:
            return float("inf")
        try:
            answer = httpx.get(f"http://127.0.0.1:{facts['metrics_port']}/metrics", timeout=2)
        except httpx.HTTPError:
            return float("inf")
        found = [line.split()[-1] for line in answer.text.splitlines() if line.startswith("pulseweir_windows_open ")]
        return float(found[0]) if found else float("inf")

    async def sums(self, *, is_settled: bool, screen_seconds: Sequence[float] = (), **replayed: Any) -> Sums:
        """Add up what this house holds now."""
        peak = round(self.peak_resident_bytes / 1e6, 1)
        return await add_up(
            self.settings,
            self.clock,
            is_settled=is_settled,
            screen_seconds=screen_seconds,
            peak_rss_mb=peak,
            **replayed,
        )

    async def _watch_memory(self) -> None:
        while True:
            now = await asyncio.to_thread(_resident_bytes, list(self.process_ids().values()))
            self._peak.resident_bytes = max(self._peak.resident_bytes, now)
            await asyncio.sleep(1)


def _resident_bytes(processes: Iterable[int]) -> int:
    """Resident memory of these processes; pages they share count for each."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _with_free_ports(data_directory: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    mqtt, http, mqtts, https, fhir, web = free_ports(6)
    data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, private_key = make_certificate(data_directory / "hub")
    values: dict[str, Any] = {
        "data_dir": str(data_directory),
        "hub": {
            "mqtt_port": mqtt,
            "http_port": http,
            "mqtts_port": mqtts,
            "https_port": https,
            "certificate_file": str(certificate),
            "private_key_file": str(private_key),
        },
        "fhir": {"port": fhir},
        "web": {"port": web},
        "coordination": {"notices": {"public_url": f"http://127.0.0.1:{web}"}},
    }
    for key, value in overrides.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, Mapping) else value
    return values


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free at this moment, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
