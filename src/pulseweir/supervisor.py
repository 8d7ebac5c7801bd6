"""`pulseweir up`: one process a role, restarted when it dies, stopped without loss."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import structlog

from pulseweir.errors import RefuseToStart
from pulseweir.run_files import SUPERVISOR_VARIABLE, read_ready, ready_path

_STOP_SECONDS = 20.0
_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_HEALTHY_SECONDS = 30.0
# Many small processes on one machine: give memory back rather than keep an arena a thread.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "1048576", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class DataDirectoryInUse(RefuseToStart):
    """Another supervisor already runs on this data directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory} is in use by another pulseweir. Stop that one, or name another --data-dir.")


class RoleDidNotStart(RefuseToStart):
    """A role's process ended, or stayed silent, before it was ready."""

    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(f"Role {role} did not become ready. Its last log lines above say why.")


class Supervisor:
    """The processes of a house on one data directory.

    Args:
        data_directory: Where all state lives; one supervisor at a time.
        roles: Their names, in the order of the journey.
        environment: Settings handed to every role, on top of this process's own.
    """

    def __init__(self, data_directory: Path, roles: Sequence[str], environment: Mapping[str, str]) -> None:
        self._data_directory = data_directory
        self._roles = roles
        self._environment = {**_ALLOCATOR, **os.environ, **environment, SUPERVISOR_VARIABLE: str(os.getpid())}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._lock: IO[str] | None = None

    async def start(self) -> dict[str, dict[str, Any]]:
        """Start every role and wait until all are ready; returns what each says about itself.

        Raises:
            DataDirectoryInUse: Another supervisor holds the directory.
            RoleDidNotStart: A role failed; everything started is stopped again.
        """
        self._take_lock()
        for role in self._roles:
            ready_path(self._data_directory, role).unlink(missing_ok=True)
            self._processes[role] = await self._launch(role)
        try:
            facts = {role: await self._wait_until_ready(role) for role in self._roles}
        except RoleDidNotStart:
            await self.stop()
            raise
        self._watchers = [asyncio.create_task(self._keep_alive(role)) for role in self._roles]
        return facts

    async def stop(self) -> None:
        """Ask every role to finish what it holds, in the order of the journey, and wait for it."""
        self._stopping = True
        for role in self._roles:
            await self._end(role)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        if self._lock is not None:
            self._lock.close()

    def process_ids(self) -> dict[str, int]:
        """The process of each role, for measuring and for tests that kill."""
        return {role: process.pid for role, process in self._processes.items()}

    def _take_lock(self) -> None:
        self._data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (self._data_directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise DataDirectoryInUse(self._data_directory) from error

    async def _launch(self, role: str) -> asyncio.subprocess.Process:
        arguments = [sys.executable, "-m", "pulseweir", "run", role, "--data-dir", str(self._data_directory)]
        # Its own session: Ctrl-C reaches the supervisor alone, which then stops the roles in order.
        return await asyncio.create_subprocess_exec(*arguments, env=self._environment, start_new_session=True)

    async def _wait_until_ready(self, role: str) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            process = self._processes[role]
            facts = read_ready(self._data_directory, role)
            if facts is not None and facts["process"] == process.pid:
                return facts
            if process.returncode is not None:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        raise RoleDidNotStart(role)

    async def _keep_alive(self, role: str) -> None:
        pause = _LOOK_SECONDS
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            code = await self._processes[role].wait()
            if self._stopping:
                return
            structlog.get_logger().warning("role_died", role=role, exit_code=code)
            if asyncio.get_running_loop().time() - started > _HEALTHY_SECONDS:
                pause = _LOOK_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            self._processes[role] = await self._launch(role)

    async def _end(self, role: str) -> None:
        process = self._processes.get(role)
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            structlog.get_logger().error("role_did_not_stop", role=role)
            process.kill()
            await process.wait()
