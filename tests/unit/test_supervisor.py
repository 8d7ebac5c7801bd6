"""The supervisor: a process a role, started anew when it dies, one supervisor a directory, nothing left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pulseweir.run_files import read_ready, supervisor_is_gone, write_ready
from pulseweir.supervisor import DataDirectoryInUse, RoleDidNotStart, Supervisor

pytestmark = pytest.mark.timeout(120)
ROLES = ["connector", "scoring"]
"""Two that listen nowhere."""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path, ROLES, {"PULSEWEIR_FHIR__PORT": "9"})
    await supervisor.start()
    yield supervisor
    await supervisor.stop()


async def until_ready(directory: Path, role: str, after: int) -> int:
    """The process of a role's next life."""
    while True:
        facts = read_ready(directory, role)
        if facts is not None and facts["process"] != after:
            return int(facts["process"])
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_role_that_dies_is_started_anew_and_the_others_live_on(running: Supervisor, tmp_path: Path) -> None:
    first = running.process_ids()

    os.kill(first["connector"], signal.SIGKILL)
    second = await until_ready(tmp_path, "connector", first["connector"])

    assert running.process_ids() == {"connector": second, "scoring": first["scoring"]}


@pytest.mark.slow
async def test_a_second_supervisor_on_the_same_directory_is_refused(running: Supervisor, tmp_path: Path) -> None:
    second = Supervisor(tmp_path, ROLES, {})

    with pytest.raises(DataDirectoryInUse, match="name another --data-dir"):
        await second.start()

    assert all(Path(f"/proc/{process}").exists() for process in running.process_ids().values())


@pytest.mark.slow
async def test_after_a_stop_no_process_is_left_and_the_directory_is_free(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ROLES, {"PULSEWEIR_FHIR__PORT": "9"})
    facts = await supervisor.start()

    await supervisor.stop()

    assert set(facts) == set(ROLES)
    assert not any(Path(f"/proc/{process}").exists() for process in supervisor.process_ids().values())
    again = Supervisor(tmp_path, [], {})
    await again.start()
    await again.stop()


@pytest.mark.slow
async def test_a_role_that_cannot_start_stops_the_start_and_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, ["scoring", "connector"], {"PULSEWEIR_MAPPINGS__CATALOG_DIR": "/nowhere/at/all"})

    with pytest.raises(RoleDidNotStart, match="connector"):
        await supervisor.start()

    assert not any(Path(f"/proc/{process}").exists() for process in supervisor.process_ids().values())
    again = Supervisor(tmp_path, [], {})
    await again.start()
    await again.stop()


def test_a_ready_file_counts_while_its_process_lives(tmp_path: Path) -> None:
    write_ready(tmp_path, "web", {"port": 8080})

    assert read_ready(tmp_path, "web") == {"process": os.getpid(), "port": 8080}
    assert read_ready(tmp_path, "hub") is None


def test_a_ready_file_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    write_ready(tmp_path, "web", {"process": 2**22 + 1})

    assert read_ready(tmp_path, "web") is None


def test_a_role_knows_when_its_supervisor_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULSEWEIR_SUPERVISOR", raising=False)
    assert not supervisor_is_gone()

    monkeypatch.setenv("PULSEWEIR_SUPERVISOR", str(os.getppid()))
    assert not supervisor_is_gone()

    monkeypatch.setenv("PULSEWEIR_SUPERVISOR", "1" if os.getppid() != 1 else "2")
    assert supervisor_is_gone()
