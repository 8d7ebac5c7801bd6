"""Exports asked for, at work, ready and expired: each a folder with its files and what is known of it.

A restart begins unfinished exports anew, a few times. Source: Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/export.html.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from pulseweir.clock import real_microseconds
from pulseweir.errors import RetryLater
from pulseweir.fhir_store.export.kickoff import Wanted
from pulseweir.fhir_store.export.writing import ExportedFile, Stopped, snapshot, write_files
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.storage import FhirStore, ReadSession

FOLDER = "exports"
_STATE = "state.json"
_HOUR = 3_600 * 1_000_000
_SWEEP_SECONDS = 600.0
_MOST_BEGUN = 3
Writer = Callable[[ReadSession, Wanted, Path, int, Callable[[int], None]], list[ExportedFile]]
_log = structlog.get_logger()


class Export(msgspec.Struct):
    """One export.

    Attributes:
        name: What its status is asked by; nobody can guess it.
        owner: The client that asked for it, so that no other is taken for it.
        url: What was asked.
        wanted: What is exported.
        status: How far it is.
        instant: Everything stored before it is in the files, microseconds; 0 while it waits.
        files: What is ready.
        ended: Real instant of its end, microseconds; 0 before.
        written: Resources written so far.
        begun: How often it was begun.
    """

    name: str
    owner: str
    url: str
    wanted: Wanted
    status: Literal["working", "ready", "failed", "cancelled"] = "working"
    instant: int = 0
    files: list[ExportedFile] = msgspec.field(default_factory=list)
    ended: int = 0
    written: int = 0
    begun: int = 1


class Exports:
    """The exports of one store.

    Args:
        store: What is exported.
        write: Writes the files of one.
        now: The real instant, microseconds.
    """

    def __init__(
        self, store: FhirStore, *, write: Writer = write_files, now: Callable[[], int] = real_microseconds
    ) -> None:
        self.store = store
        self._write, self._now = write, now
        self._settings = store.settings.export
        self._folder = store.path.parent / FOLDER
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fhir-export")
        self._exports: dict[str, Export] = {}
        for folder in sorted(self._folder.glob("*/")):
            self._take_up(folder)

    def _take_up(self, folder: Path) -> None:
        """Go on with what an earlier run left; a folder that says nothing of itself is nobody's."""
        try:
            export = msgspec.json.decode((folder / _STATE).read_bytes(), type=Export)
        except (msgspec.DecodeError, OSError):
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._exports[export.name] = export
        if export.status != "working":
            return
        export.begun += 1
        if export.begun > _MOST_BEGUN:
            # It may be what ends the process each time.
            export.status, export.ended = "failed", self._now()
            _log.error("fhir_export_failed", step=5, error="ended with the process too often")
        with suppress(OSError):
            self._keep(export)
        if export.status == "working":
            self._pool.submit(self._work, export)

    def begin(self, owner: str, url: str, wanted: Wanted) -> Export:
        """Begin an export.

        Raises:
            Refusal: 429 when too many are unfinished.
            RetryLater: Its folder cannot be written; give the disk room.
        """
        self.sweep()
        if sum(each.status == "working" for each in self._exports.values()) >= self._settings.unfinished_exports:
            text = "Too many exports are unfinished; wait for one, or cancel it."
            raise Refusal(429, "throttled", text, headers={"retry-after": "60"})
        export = Export(secrets.token_urlsafe(24), owner, url, wanted)
        try:
            self.folder(export).mkdir(parents=True, mode=0o700)
            self._keep(export)
        except OSError as error:
            self._remove(export)
            text = f"The export could not be begun ({type(error).__name__}); check the disk, and ask again."
            raise RetryLater(text) from error
        self._exports[export.name] = export
        self._pool.submit(self._work, export)
        return export

    def find(self, name: str, owner: str) -> Export:
        """An export of a client.

        Raises:
            Refusal: 404 when the client has none of that name, or it has expired.
        """
        self.sweep()
        export = self._exports.get(name)
        if export is None or export.owner != owner:
            raise Refusal(404, "not-found", "There is no such export; it may have expired.")
        return export

    def cancel(self, export: Export) -> None:
        """Stop an export and remove its files."""
        was_working = export.status == "working"
        export.status = "cancelled"
        self._exports.pop(export.name, None)
        if was_working:
            # The worker may be writing there; whoever is last removes it.
            self._pool.submit(self._remove, export)
        else:
            self._remove(export)

    def folder(self, export: Export) -> Path:
        """Where its files lie."""
        return self._folder / export.name

    def expires(self, export: Export) -> int:
        """Real instant at which its files go, microseconds."""
        return export.ended + round(self._settings.hours_kept * _HOUR)

    def sweep(self) -> None:
        """Remove what has expired."""
        now = self._now()
        for export in list(self._exports.values()):
            if export.status != "working" and now >= self.expires(export):
                self.cancel(export)

    async def keep(self) -> None:
        """Remove what has expired, again and again, until cancelled."""
        while True:
            self.sweep()
            await asyncio.sleep(_SWEEP_SECONDS)

    def close(self) -> None:
        """Wait for the worker, which stops once the store is closed."""
        self._pool.shutdown(cancel_futures=True)

    def _work(self, export: Export) -> None:
        """In the worker thread: write one export."""
        if export.status == "cancelled" or not self.store.is_ready:
            return
        try:
            # What the writer has committed by now is in the snapshot, and nothing it commits later is older.
            export.instant = self.store.post(lambda session: session.now_microseconds).result()
            with snapshot(self.store.path, self.store.settings.time_zone) as session:
                look = partial(self._look, export)
                files = self._write(session, export.wanted, self.folder(export), self._settings.file_bytes, look)
            export.files, export.ended = files, self._now()
            if export.status == "working":
                export.status = "ready"
                self._keep(export)
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - an export that failed must say so to who waits for it
            _log.error("fhir_export_failed", step=5, error=type(error).__name__)
            export.status, export.ended = "failed", self._now()
            with suppress(OSError):
                self._keep(export)

    def _look(self, export: Export, written: int) -> None:
        export.written = written
        if export.status == "cancelled" or not self.store.is_ready:
            raise Stopped

    def _keep(self, export: Export) -> None:
        state = self.folder(export) / _STATE
        unfinished = state.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(export))
        unfinished.replace(state)

    def _remove(self, export: Export) -> None:
        shutil.rmtree(self.folder(export), ignore_errors=True)
