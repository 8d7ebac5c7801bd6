"""How a role says that it is ready, and on which ports: one small file a role in the data directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

SUPERVISOR_VARIABLE = "PULSEWEIR_SUPERVISOR"


def ready_path(data_directory: Path, role: str) -> Path:
    """Where a role's file lies."""
    return data_directory / "run" / f"{role}.json"


def write_ready(data_directory: Path, role: str, facts: Mapping[str, Any]) -> None:
    """Say that this process, as this role, is ready."""
    path = ready_path(data_directory, role)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode({"process": os.getpid(), **facts}))
    unfinished.rename(path)


def read_ready(data_directory: Path, role: str) -> dict[str, Any] | None:
    """What a role last said about itself, if that process still lives."""
    try:
        facts: dict[str, Any] = msgspec.json.decode(ready_path(data_directory, role).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return facts if Path(f"/proc/{facts['process']}").exists() else None


def supervisor_is_gone() -> bool:
    """Whether the supervisor that started this process has died; False when none did."""
    expected = os.environ.get(SUPERVISOR_VARIABLE)
    return expected is not None and os.getppid() != int(expected)
