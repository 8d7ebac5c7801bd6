"""Step 3: the raw copy of every device message, in append-only segments by the day it was received.

A segment is a row of frames: a header with lengths, checksum, shard and bus positions, then one Arrow IPC stream.
It is written as ``*.open`` under a file lock, and becomes a read-only ``*.segment`` when it is full or closed. A
frame counts once it was synced. Delivery repeats, so a frame may hold rows another frame holds too: reading gives
each (message id, instant of receipt) once, and looks for repeats only where positions overlap.
"""

import asyncio
import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pulseweir.errors import ArchiveDamaged, ArchiveUnavailable
from pulseweir.ingest.settings import ArchiveSettings
from pulseweir.records.columns import values
from pulseweir.records.topics import DEVICE_MESSAGES
from pulseweir.telemetry import RAW_APPEND, RAW_BYTES
from pulseweir.worker import FIRST_POSITION, LAST_POSITION, Handled, Stage

ARCHIVED = "archived"
_OPEN, _SEALED, _NEW, _TORN = ".open", ".segment", ".new", ".torn"
_MAGIC = b"PWA1"
# Magic, checksum of all that follows, payload bytes, rows, shard, first and last position.
_HEADER = struct.Struct("<4sIIIiqq")
_UNCHECKED_BYTES = 8
_NO_POSITION = -1
_WRITE_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


class Frame(NamedTuple):
    """Where one frame stands and what its header says."""

    path: Path
    offset: int
    payload_bytes: int
    checksum: int
    rows: int
    shard: int
    first_position: int
    last_position: int

    @property
    def end(self) -> int:
        """Offset after the frame."""
        return self.offset + _HEADER.size + self.payload_bytes


class ArchiveStage(Stage):
    """Appends device messages to the archive; a batch counts as archived once it is synced.

    Several processes may write the same archive, each its own segments. Written again after a crash, a batch
    changes nothing for readers.
    """

    topic = DEVICE_MESSAGES
    group = "archive"
    row_limit = 2_000

    def __init__(self, directory: Path, settings: ArchiveSettings | None = None) -> None:
        self._directory = directory
        self._settings = settings or ArchiveSettings()
        self._segment: _Segment | None = None
        self._synced_at = float("-inf")
        recover(directory)

    async def handle(self, tables: Mapping[int, pa.Table]) -> Handled:
        """Append and sync.

        Raises:
            ArchiveUnavailable: The disk is full or fails; the segment in doubt is left, another is begun.
        """
        handled = Handled()
        rows = sum(table.num_rows for table in tables.values())
        pause = self._synced_at + self._settings.sync_spacing_seconds - monotonic()
        if pause > 0 and rows < self.row_limit // 2:
            await asyncio.sleep(pause)
        await asyncio.to_thread(self._append, tables)
        self._synced_at = monotonic()
        handled.outcome.count(ARCHIVED, rows)
        return handled

    def close(self) -> None:
        """Seal the open segment."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.seal()

    def _append(self, tables: Mapping[int, pa.Table]) -> None:
        frames_by_date: dict[str, list[bytes]] = {}
        for shard, table in tables.items():
            for date, rows in _by_date(table):
                frames_by_date.setdefault(date, []).append(_encode(shard, rows))
        try:
            for date, frames in frames_by_date.items():
                self._write(date, b"".join(frames))
        except OSError as error:
            # After a failed sync nobody knows what the disk holds: never sync the same file again and hope.
            segment, self._segment = self._segment, None
            if segment is not None:
                segment.abandon()
            raise ArchiveUnavailable(str(self._directory), error.strerror or type(error).__name__) from error

    def _write(self, date: str, content: bytes) -> None:
        if self._segment is not None and not self._segment.has_room(date, self._settings.segment_bytes):
            self.close()
        if self._segment is None:
            self._segment = _Segment(self._directory / date, date)
        with RAW_APPEND.time():
            self._segment.append(content)
        RAW_BYTES.inc(len(content))


class _Segment:
    """The segment being written, locked as long as it is."""

    def __init__(self, directory: Path, date: str) -> None:
        self._date = date
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        newest = max((int(path.name[:8]) for path in directory.iterdir()), default=0)
        stem = f"{newest + 1:08d}-{secrets.token_hex(4)}"
        new = directory / f"{stem}{_NEW}"
        self._path = directory / f"{stem}{_OPEN}"
        self._file: BinaryIO = new.open("xb", buffering=0)
        new.chmod(0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        new.rename(self._path)
        _sync_directory(directory)
        _sync_directory(directory.parent)
        self._size_bytes = 0

    def has_room(self, date: str, segment_bytes: int) -> bool:
        """Whether the segment is of this date and not full."""
        return date == self._date and self._size_bytes < segment_bytes

    def append(self, content: bytes) -> None:
        """Write frames and sync them."""
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        os.fdatasync(self._file.fileno())
        self._size_bytes += len(content)

    def seal(self) -> None:
        """Close for good."""
        _seal(self._path, self._file)

    def abandon(self) -> None:
        """Leave it to the next start's recovery."""
        self._file.close()


def recover(directory: Path) -> int:
    """Cut what a crash left half-written from segments nobody writes now, and seal them.

    What is cut was never counted as archived; it is kept beside its segment as ``*.torn``.

    Returns:
        Bytes cut.
    """
    cut_bytes = 0
    for path in [*directory.glob(f"*/*{_NEW}"), *directory.glob(f"*/*{_OPEN}")]:
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            file.seek(_whole_bytes(path))
            torn = file.read()
            if torn:
                path.with_suffix(_TORN).write_bytes(torn)
                file.truncate(file.tell() - len(torn))
                os.fdatasync(file.fileno())
            cut_bytes += len(torn)
            _seal(path, file)
    return cut_bytes


def _whole_bytes(path: Path) -> int:
    end = 0
    for frame in _frames(path):
        if _payload(frame) is None:
            break
        end = frame.end
    return end


def read_archive(directory: Path) -> Iterator[pa.Table]:
    """Every archived message once, in tables of the device-messages schema; by date, within a shard in order.

    Segments being written now are read up to their last whole frame.

    Raises:
        ArchiveDamaged: A closed segment's checksum does not hold; restore it from a backup.
    """
    for date in sorted(path for path in directory.glob("*") if path.is_dir()):
        paths = [*date.glob(f"*{_SEALED}"), *date.glob(f"*{_OPEN}")]
        frames = [frame for path in sorted(paths, key=lambda path: path.stem) for frame in _frames(path)]
        doubtful = _overlapping(frames)
        seen: set[tuple[str, int]] = set()
        for frame in frames:
            payload = _payload(frame)
            if payload is None:
                continue
            table = pa.ipc.open_stream(payload).read_all()
            yield _unseen(table, seen) if frame in doubtful else table


def _by_date(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    dates = pc.strftime(table.column("received_at"), format="%Y-%m-%d")
    distinct = pc.unique(dates).to_pylist()
    if len(distinct) == 1:
        yield distinct[0], table
        return
    for date in distinct:
        yield date, table.filter(pc.equal(dates, date))


def _encode(shard: int, table: pa.Table) -> bytes:
    metadata = table.schema.metadata or {}
    sink = pa.BufferOutputStream()
    bare = table.replace_schema_metadata(None)
    with pa.ipc.new_stream(sink, bare.schema, options=_WRITE_OPTIONS) as writer:
        writer.write_table(bare)
    payload = bytes(sink.getvalue())
    first = int(metadata.get(FIRST_POSITION, _NO_POSITION))
    last = int(metadata.get(LAST_POSITION, _NO_POSITION))
    header = _HEADER.pack(_MAGIC, 0, len(payload), table.num_rows, shard, first, last)
    checksum = zlib.crc32(payload, zlib.crc32(header[_UNCHECKED_BYTES:]))
    return _MAGIC + checksum.to_bytes(4, "little") + header[_UNCHECKED_BYTES:] + payload


def _frames(path: Path) -> Iterator[Frame]:
    """Frames whose header and length are whole; stops at the first that is not."""
    size_bytes = path.stat().st_size
    offset = 0
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                break
            magic, checksum, payload_bytes, rows, shard, first, last = _HEADER.unpack(header)
            frame = Frame(path, offset, payload_bytes, checksum, rows, shard, first, last)
            if magic != _MAGIC or frame.end > size_bytes:
                break
            yield frame
            offset = frame.end
    if offset < size_bytes and path.suffix == _SEALED:
        raise ArchiveDamaged(str(path), offset)


def _payload(frame: Frame) -> bytes | None:
    """The payload of a frame whose checksum holds; None for a torn one in a segment not closed yet."""
    with frame.path.open("rb") as file:
        file.seek(frame.offset)
        content = file.read(_HEADER.size + frame.payload_bytes)
    if zlib.crc32(content[_UNCHECKED_BYTES:]) == frame.checksum:
        return content[_HEADER.size :]
    if frame.path.suffix == _SEALED:
        raise ArchiveDamaged(str(frame.path), frame.offset)
    return None


def _overlapping(frames: Iterable[Frame]) -> set[Frame]:
    """Frames that share positions of a shard with another, or have none to compare."""
    doubtful: set[Frame] = set()
    furthest: dict[int, Frame] = {}
    for frame in sorted(frames, key=lambda frame: frame.first_position):
        before = furthest.get(frame.shard)
        if frame.first_position == _NO_POSITION:
            doubtful.add(frame)
        elif before is not None and frame.first_position <= before.last_position:
            doubtful.update((before, frame))
        if before is None or frame.last_position > before.last_position:
            furthest[frame.shard] = frame
    return doubtful


def _unseen(table: pa.Table, seen: set[tuple[str, int]]) -> pa.Table:
    received = values(table.column("received_at"))
    keys = list(zip(values(table.column("message_id")), received, strict=True))
    is_new = []
    for key in keys:
        is_new.append(key not in seen)
        seen.add(key)
    return table.filter(pa.array(is_new, pa.bool_()))


def _seal(path: Path, file: BinaryIO) -> None:
    if file.seek(0, os.SEEK_END) == 0:
        path.unlink()
    else:
        path.chmod(0o400)
        path.rename(path.with_suffix(_SEALED))
    _sync_directory(path.parent)
    file.close()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
