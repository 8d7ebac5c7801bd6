"""Copy a data directory while it is in use, and put a copy back."""

import shutil
from pathlib import Path

from pulseweir.errors import RefuseToStart
from pulseweir.sqlite import connect, copy_database

_DATABASES = {".db", ".sqlite"}
_LEFT_OUT = {"run", "lock"}
_EXPORTS = ("fhir", "exports")
"""Bulk exports are copies themselves, and may expire amid the backup."""
_SIDE_FILES = ("-wal", "-shm", "-journal")


def backup(data_directory: Path, target: Path) -> int:
    """Copy everything to a new folder; returns the number of files.

    Each database is copied by SQLite's own online backup, so every file is whole in itself. Positions are copied
    first, effects next, topics last: what a position says is done is then in the copy for certain, and what was done
    since is done again, which changes nothing because every effect has a deterministic identifier.

    Raises:
        RefuseToStart: There is nothing to copy, or the target exists.
    """
    if not data_directory.is_dir():
        raise RefuseToStart(f"{data_directory} is not a data directory. Name it with --data-dir.")
    if target.exists():
        raise RefuseToStart(f"{target} exists. Name a folder that does not.")
    files = sorted(path for path in data_directory.rglob("*") if path.is_file() and _is_state(path, data_directory))
    files.sort(key=lambda path: _journey_order(path.relative_to(data_directory)))
    target.mkdir(parents=True, mode=0o700)
    for path in files:
        copy = target / path.relative_to(data_directory)
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.suffix in _DATABASES:
            copy_database(path, copy)
            if path.relative_to(data_directory).parts[:2] == ("bus", "groups"):
                _dismiss_members(copy)
        else:
            shutil.copy2(path, copy)
    return len(files)


def restore(source: Path, data_directory: Path) -> int:
    """Copy a backup into a data directory that is empty or absent; returns the number of files.

    Raises:
        RefuseToStart: The directory holds something: move it away first.
    """
    if data_directory.exists() and any(data_directory.iterdir()):
        raise RefuseToStart(f"{data_directory} is not empty. Move it away, or name another --data-dir.")
    if not source.is_dir():
        raise RefuseToStart(f"{source} is not a backup. Name the folder that `pulseweir backup` made.")
    shutil.copytree(source, data_directory, dirs_exist_ok=True)
    data_directory.chmod(0o700)
    return sum(1 for path in data_directory.rglob("*") if path.is_file())


def _is_state(path: Path, root: Path) -> bool:
    relative = path.relative_to(root)
    if relative.parts[:2] == _EXPORTS:
        return False
    return relative.parts[0] not in _LEFT_OUT and not path.name.endswith(_SIDE_FILES) and path.suffix != ".new"


def _dismiss_members(ledger: Path) -> None:
    """Who works on which shard is a fact of the running house; in a copy it would keep new workers waiting."""
    connection = connect(ledger)
    # A ledger that is only just being made has no tables yet.
    if connection.table_exists("main", "lease"):
        connection.execute("DELETE FROM lease; DELETE FROM member")
    connection.close()


def _journey_order(relative: Path) -> tuple[int, str]:
    """Groups' positions, then effects, then topics."""
    rank = {"groups": 0, "topics": 2}.get(relative.parts[1], 1) if relative.parts[0] == "bus" else 1
    return rank, str(relative)
