"""Step 1: the device registry: who may send, with which keys, as which kind of device."""

import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from pulseweir import sqlite
from pulseweir.clock import Clock
from pulseweir.errors import DeviceAlreadyRegistered, DeviceEntryInvalid, DeviceNotRegistered

FILE_NAME = "registry.db"
KEY_BYTES = 32
_SHORTEST_KEY_BYTES = 16
_DEVICE_ID = re.compile(r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}")
_KIND = re.compile(r"[a-z0-9-]{0,64}")

_MIGRATIONS = [
    """
    CREATE TABLE device (
        device_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        primary_key TEXT NOT NULL,
        secondary_key TEXT NOT NULL,
        children_json TEXT,
        generation INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        revision INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX device_revision ON device (revision);
    CREATE TABLE activity (
        device_id TEXT PRIMARY KEY,
        seen_at INTEGER NOT NULL,
        measured_at INTEGER
    ) STRICT, WITHOUT ROWID;
    """
]
_COLUMNS = "device_id, kind, enabled, primary_key, secondary_key, children_json, generation, created_at, revision"


@dataclass(frozen=True, slots=True)
class Device:
    """One registered device.

    Attributes:
        device_id: Case-sensitive; also the MQTT client id.
        kind: Catalog kind, "" for none: the site's own mapping then applies.
        enabled: Whether it may connect and send.
        primary_key: Base64.
        secondary_key: Base64; both keys hold, so that one can be replaced while the other is in use.
        generation: Told to templates as the authentication's generation id; a device made anew has another.
        created_at: Microseconds since 1970 UTC.
        children: Devices a gateway may carry; None leaves that open.
    """

    device_id: str
    kind: str
    enabled: bool
    primary_key: str
    secondary_key: str
    generation: int
    created_at: int
    children: tuple[str, ...] | None = None

    @property
    def keys(self) -> tuple[str, str]:
        """Primary, secondary."""
        return self.primary_key, self.secondary_key


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """What an operator says about a device to register; keys not given are made.

    Attributes:
        device_id: 1 to 128 characters: ASCII letters, digits and ``- . % _ * ? ! ( ) , : = @ $ '``.
        kind: Catalog kind, "" for none.
        primary_key: Base64 of 16 bytes or more; None makes one of 32.
        secondary_key: As `primary_key`.
        children: Devices a gateway may carry; None leaves that open.
        enabled: Whether it may connect.
    """

    device_id: str
    kind: str = ""
    primary_key: str | None = None
    secondary_key: str | None = None
    children: tuple[str, ...] | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Activity:
    """When a device was last heard of; written every few seconds, so a crash may lose the newest.

    Attributes:
        seen_at: Last connection or message, microseconds since 1970 UTC.
        measured_at: Last message stored, None before the first.
    """

    seen_at: int
    measured_at: int | None


def make_key() -> str:
    """A new device key: 32 random bytes, base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Registry:
    """The devices of one data directory; several processes may hold one each on the same file.

    Reads are answered from memory. `refresh` takes in what other processes changed; `get` and `list_devices`
    call it. One instance belongs to one thread.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        self._connection = sqlite.connect(path)
        sqlite.migrate(self._connection, _MIGRATIONS)
        path.chmod(0o600)
        self._devices: dict[str, Device] = {}
        self._revision = 0
        self._data_version: object = None
        self.refresh()

    @classmethod
    def open(cls, directory: Path, clock: Clock | None = None) -> Self:
        """The registry in a hub's directory (``registry.db``), made when absent, readable by its owner only.

        Raises:
            SqliteTooOld: Install a newer apsw wheel.
            DataDirectoryNewer: Upgrade pulseweir.
        """
        return cls(directory / FILE_NAME, clock or Clock())

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def refresh(self) -> set[str]:
        """Take in what other processes changed; the ids of devices that changed. Costs microseconds when none did."""
        version = self._connection.pragma("data_version")
        if version == self._data_version:
            return set()
        self._data_version = version
        return self._load()

    def get(self, device_id: str) -> Device | None:
        """A device as of now, None when it is not registered."""
        self.refresh()
        return self._devices.get(device_id)

    def known(self, device_id: str) -> Device | None:
        """A device as of the last `refresh`."""
        return self._devices.get(device_id)

    def list_devices(self) -> list[Device]:
        """All devices by id."""
        self.refresh()
        return [self._devices[device_id] for device_id in sorted(self._devices)]

    def add(self, entry: DeviceEntry) -> Device:
        """Register one device.

        Raises:
            DeviceAlreadyRegistered: Nothing was changed.
            DeviceEntryInvalid: Its id, kind or key cannot be.
        """
        if self.get(entry.device_id) is not None:
            raise DeviceAlreadyRegistered(entry.device_id)
        self.import_entries([entry])
        return self._devices[entry.device_id]

    def import_entries(self, entries: Iterable[DeviceEntry]) -> int:
        """Register many in one transaction; a device that exists takes what the entry gives and keeps its other keys.

        Returns:
            How many were written. All or none.

        Raises:
            DeviceEntryInvalid: None was registered; correct the entry it names.
        """
        checked = [_checked(entry) for entry in entries]
        now = self._clock.now_microseconds()
        self.refresh()
        self._write([self._merged(entry, now) for entry in checked])
        return len(checked)

    def disable(self, device_id: str) -> Device:
        """Forbid a device; its open connection is cut within seconds.

        Raises:
            DeviceNotRegistered: Add it first.
        """
        return self._change(device_id, enabled=False)

    def enable(self, device_id: str) -> Device:
        """Allow a device again.

        Raises:
            DeviceNotRegistered: Add it first.
        """
        return self._change(device_id, enabled=True)

    def rotate_key(self, device_id: str, slot: Literal["primary", "secondary"] = "secondary") -> Device:
        """Replace one key by a new one; a connection that was opened with the old one is cut.

        Raises:
            DeviceNotRegistered: Add it first.
        """
        return self._change(device_id, **{f"{slot}_key": make_key()})

    def activity(self) -> dict[str, Activity]:
        """Last-seen and last-measured instants by device id; a device never heard of is absent."""
        rows = self._connection.execute("SELECT device_id, seen_at, measured_at FROM activity")
        return {str(device_id): Activity(seen_at, measured_at) for device_id, seen_at, measured_at in _typed(rows)}

    def _change(self, device_id: str, **changes: Any) -> Device:
        device = self.get(device_id)
        if device is None:
            raise DeviceNotRegistered(device_id)
        self._write([replace(device, **changes)])
        return self._devices[device_id]

    def _merged(self, entry: DeviceEntry, now: int) -> Device:
        known = self._devices.get(entry.device_id)
        return Device(
            device_id=entry.device_id,
            kind=entry.kind,
            enabled=entry.enabled,
            primary_key=entry.primary_key or (known.primary_key if known else make_key()),
            secondary_key=entry.secondary_key or (known.secondary_key if known else make_key()),
            generation=known.generation if known else now,
            created_at=known.created_at if known else now,
            children=entry.children,
        )

    def _write(self, devices: Sequence[Device]) -> None:
        with sqlite.immediate(self._connection):
            (newest,) = _typed(self._connection.execute("SELECT coalesce(max(revision), 0) FROM device"))[0]
            self._connection.executemany(
                f"INSERT OR REPLACE INTO device ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants only
                [_row(device, newest + place) for place, device in enumerate(devices, start=1)],
            )
        self._load()

    def _load(self) -> set[str]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM device WHERE revision > ? ORDER BY revision",  # noqa: S608 - constants only
            (self._revision,),
        )
        changed = set()
        for row in _typed(rows):
            device = _device(row)
            self._devices[device.device_id] = device
            self._revision = row[-1]
            changed.add(device.device_id)
        return changed


def note_activity(path: Path, seen: Mapping[str, tuple[int, int | None]]) -> None:
    """Store last-seen and last-measured instants (microseconds) in one transaction; safe in any thread.

    Args:
        path: The registry's file.
        seen: By device id; None leaves last-measured as it was.
    """
    connection = sqlite.connect(path, page_cache_kibibytes=256)
    try:
        with sqlite.immediate(connection):
            connection.executemany(
                "INSERT INTO activity VALUES (?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET"
                " seen_at = max(seen_at, excluded.seen_at),"
                " measured_at = coalesce(excluded.measured_at, measured_at)",
                [(device_id, seen_at, measured_at) for device_id, (seen_at, measured_at) in seen.items()],
            )
    finally:
        connection.close()


def _typed(rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    return list(rows)


def _row(device: Device, revision: int) -> tuple[object, ...]:
    children = None if device.children is None else msgspec.json.encode(device.children).decode()
    return (
        device.device_id,
        device.kind,
        int(device.enabled),
        device.primary_key,
        device.secondary_key,
        children,
        device.generation,
        device.created_at,
        revision,
    )


def _device(row: tuple[Any, ...]) -> Device:
    device_id, kind, enabled, primary_key, secondary_key, children, generation, created_at, _ = row
    return Device(
        device_id=device_id,
        kind=kind,
        enabled=bool(enabled),
        primary_key=primary_key,
        secondary_key=secondary_key,
        generation=generation,
        created_at=created_at,
        children=None if children is None else tuple(msgspec.json.decode(children)),
    )


def _checked(entry: DeviceEntry) -> DeviceEntry:
    if not _DEVICE_ID.fullmatch(entry.device_id):
        raise DeviceEntryInvalid(
            f"the id {entry.device_id[:140]!r} has a character or length that is not allowed",
            "Use 1 to 128 of: ASCII letters, digits, - . % _ * ? ! ( ) , : = @ $ '.",
        )
    if not _KIND.fullmatch(entry.kind):
        raise DeviceEntryInvalid(
            f"the kind of {entry.device_id} is not a catalog name",
            "Use lower-case letters, digits and hyphens, as the folders below devices/ do.",
        )
    for key in (entry.primary_key, entry.secondary_key):
        if key is not None and not _is_key(key):
            raise DeviceEntryInvalid(
                f"a key of {entry.device_id} is not base64 of at least {_SHORTEST_KEY_BYTES} bytes",
                "Leave it out and one is made.",
            )
    return entry


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) >= _SHORTEST_KEY_BYTES
    except (Base64Error, ValueError):
        return False
