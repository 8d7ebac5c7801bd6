"""Step 4: versions of a mapping on disk: kept, put in force, rolled back.

``mappings/<name>/<version>/`` in the data directory holds both files of every version that ever made a measurement,
so that what it made can still be written to FHIR. ``mappings/history.json`` says which are in force; it is replaced as
a whole, so a reader sees the old one or the new one. Where it names none, the catalog's or the settings' own files are.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from pulseweir.errors import MappingError, RefuseToStart
from pulseweir.ingest.catalog import DEVICE_FILE, FHIR_FILE, MappingPair, mapping_text
from pulseweir.records.identifiers import mapping_version

DIRECTORY = "mappings"
_HISTORY_FILE = "history.json"
_VERSION = re.compile(r"[0-9a-f]{12}", re.ASCII)


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of the version in force.

    Attributes:
        version: What came into force; None for the catalog's or the settings' own files.
        at_microseconds: When, microseconds since 1970 UTC.
        by: The command.
    """

    version: str | None
    at_microseconds: int
    by: Literal["use", "rollback"]


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was put in force under one name.

    Attributes:
        line: Versions put in force and not rolled back, oldest first; the last is in force. Empty: the own files are.
        changes: Every change there ever was, oldest first.
    """

    line: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def in_force(self) -> str | None:
        """The version in force; None for the own files."""
        return self.line[-1] if self.line else None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a command changed.

    Attributes:
        name: Catalog kind, or ``site``.
        version: In force from now on; None for the own files.
        before: In force until now; None as above.
    """

    name: str
    version: str | None
    before: str | None


class MappingVersionDamaged(RefuseToStart):
    """A version of a mapping on disk is not what was put there, or this release cannot load it."""

    def __init__(self, name: str, version: str, problem: str) -> None:
        self.name = name
        self.version = version
        super().__init__(
            f"Mapping {name}, version {version}: {problem} It is not put in force. "
            f"Put it there again (pulseweir mapping use {name} …), restore it from a backup, or choose another."
        )


class MappingHistoryDamaged(RefuseToStart):
    """The file that says which mapping versions are in force cannot be read."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path = path
        super().__init__(
            f"{path} cannot be read ({cause}). Restore it from a backup; without the file the catalog's and the "
            "settings' own mappings are in force."
        )


class NoEarlierMapping(RefuseToStart):
    """There is nothing to roll back to."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Mapping {name}: no version was put in force, so there is none before it. "
            f"See pulseweir mapping versions {name}."
        )


class MappingVersions:
    """The versions of all mappings of a house.

    Any number of processes may use one directory: changes wait for each other, readers never wait.

    Args:
        data_directory: Of the house.
    """

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory / DIRECTORY

    def keep(self, pair: MappingPair) -> None:
        """Store a version without putting it in force; nothing is written where it is whole already."""
        if not self._is_whole(pair):
            with self._alone():
                self._write_pair(pair)

    def use(self, name: str, pair: MappingPair, now_microseconds: int, *, own: str | None = None) -> Changed:
        """Store a version and put it in force.

        Putting the version in force there again changes nothing, but repairs its files.

        Args:
            name: Catalog kind, or ``site``.
            pair: Loaded, hence good.
            now_microseconds: When.
            own: Version of the catalog's or the settings' own files under this name, if there are any.

        Raises:
            MappingHistoryDamaged: The history cannot be read.
        """
        with self._alone():
            history = self._history(name)
            self._write_pair(pair)
            before = history.in_force
            line = history.line if pair.version == (before or own) else (*history.line, pair.version)
            # Written also where nothing changes: running connectors then look at the repaired files.
            self._write_history(name, line, now_microseconds, "use")
        return Changed(name, pair.version, before or own)

    def roll_back(self, name: str, now_microseconds: int, *, own: str | None = None) -> Changed:
        """Put the version in force that was before the present one.

        Raises:
            NoEarlierMapping: No version was put in force, or all were rolled back.
            MappingVersionDamaged: The earlier one is no longer good; the present one stays.
            MappingHistoryDamaged: The history cannot be read.
        """
        with self._alone():
            history = self._history(name)
            if not history.line:
                raise NoEarlierMapping(name)
            line = history.line[:-1]
            if line:
                self.load(name, line[-1])
            self._write_history(name, line, now_microseconds, "rollback")
        return Changed(name, line[-1] if line else own, history.line[-1])

    def histories(self) -> dict[str, History]:
        """What was put in force, by name; names without a change are absent.

        Raises:
            MappingHistoryDamaged: The file cannot be read.
        """
        path = self._directory / _HISTORY_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, History])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            raise MappingHistoryDamaged(path, type(error).__name__) from error

    def signature(self) -> tuple[int, ...] | None:
        """Changes whenever the history does; one look at the file's entry."""
        try:
            found = (self._directory / _HISTORY_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def load(self, name: str, version: str) -> MappingPair:
        """A version as it was stored.

        Raises:
            MappingVersionDamaged: Its files are not what was stored, or cannot be loaded.
        """
        try:
            texts = self._texts(name, version)
        except MappingError:
            raise MappingVersionDamaged(name, version, "its files cannot be read.") from None
        if mapping_version(*texts) != version:
            raise MappingVersionDamaged(name, version, "its files are not what was stored.")
        try:
            return MappingPair.loads(name, *texts)
        except MappingError as error:
            raise MappingVersionDamaged(name, version, f"it does not load: {error.faults[0]}") from None

    def find(self, version: str) -> MappingPair | None:
        """A stored version, whatever its name; None when there is none.

        Raises:
            MappingVersionDamaged: It is there, but not what was stored.
        """
        if not _VERSION.fullmatch(version) or not self._directory.is_dir():
            return None
        for folder in sorted(self._directory.iterdir()):
            if (folder / version).is_dir():
                return self.load(folder.name, version)
        return None

    def stored(self, name: str) -> dict[str, int]:
        """Every version stored under a name with when its files were, microseconds since 1970 UTC."""
        folder = self._directory / name
        if not folder.is_dir():
            return {}
        found = [child for child in sorted(folder.iterdir()) if _VERSION.fullmatch(child.name) and child.is_dir()]
        return {child.name: child.stat().st_mtime_ns // 1_000 for child in found}

    # Files

    def _texts(self, name: str, version: str) -> tuple[str, str]:
        folder = self._directory / name / version
        return mapping_text(folder / DEVICE_FILE), mapping_text(folder / FHIR_FILE)

    def _is_whole(self, pair: MappingPair) -> bool:
        try:
            return self._texts(pair.name, pair.version) == pair.texts
        except MappingError:
            return False

    def _history(self, name: str) -> History:
        return self.histories().get(name, History())

    def _write_history(self, name: str, line: tuple[str, ...], now: int, by: Literal["use", "rollback"]) -> None:
        histories = self.histories()
        history = histories.get(name, History())
        version = line[-1] if line else None
        changes = history.changes if line == history.line else (*history.changes, Change(version, now, by))
        histories[name] = History(line, changes)
        _replace(self._directory / _HISTORY_FILE, msgspec.json.encode(histories))

    def _write_pair(self, pair: MappingPair) -> None:
        if self._is_whole(pair):
            return
        folder = self._directory / pair.name / pair.version
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file, text in zip((DEVICE_FILE, FHIR_FILE), pair.texts, strict=True):
            _replace(folder / file, text.encode())
        _sync(folder.parent)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory against other changes, of this process or another; a killed one lets go."""
        self._directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory.mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place as a whole, on the disk before it has its name."""
    unfinished = path.with_name(f"{path.name}.new")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
