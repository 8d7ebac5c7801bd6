"""One snapshot of the store written to files, a resource a line, without holding more than a few in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pulseweir.fhir_store.export.kickoff import Wanted
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.query import LAST_UPDATED, Criterion, SearchRequest
from pulseweir.fhir_store.search_sql import compile_search
from pulseweir.fhir_store.security.compartment import patients_of
from pulseweir.fhir_store.session import Stored
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.terms import Terms
from pulseweir.sqlite import connect

_LOOK_RESOURCES = 500


class Stopped(Exception):  # noqa: N818 - the export was told to stop: nothing went wrong
    """The export is to stop."""


class ExportedFile(msgspec.Struct):
    """One file.

    Attributes:
        type: Resource type of all its lines.
        name: Its name.
        count: Its lines.
    """

    type: str
    name: str
    count: int = 0


@contextmanager
def snapshot(path: Path) -> Iterator[ReadSession]:
    """The store as it is now, for as long as it takes; on a connection of its own."""
    connection = connect(path)
    try:
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        # A transaction sees what is there at its first read.
        connection.execute("SELECT count(*) FROM setting").fetchall()
        yield ReadSession(connection, Terms(connection))
    finally:
        connection.close()


def write_files(
    session: ReadSession, wanted: Wanted, folder: Path, file_bytes: int, look: Callable[[int], None]
) -> list[ExportedFile]:
    """Write what is wanted into a folder.

    Args:
        session: The snapshot.
        wanted: What to write.
        folder: Where the files go.
        file_bytes: Size after which a file goes on in the next.
        look: Told of the resources written, every now and then; raises `Stopped` to end it.

    Raises:
        Stopped: `look` said so.
        OSError: The disk took no more.
        Refusal: There is no such Group any more.
    """
    files: list[ExportedFile] = []
    written = 0
    for resource_type in wanted.types:
        resources = _of_type(session, wanted, resource_type)
        first = next(resources, None)
        while first is not None:
            file = ExportedFile(resource_type, f"{resource_type}.{len(files)}.ndjson")
            files.append(file)
            size = 0
            with (folder / file.name).open("wb") as lines:
                while first is not None and size < file_bytes:
                    size += lines.write(first.text() + b"\n")
                    file.count += 1
                    written += 1
                    if written % _LOOK_RESOURCES == 0:
                        look(written)
                    first = next(resources, None)
        look(written)
    return files


def _of_type(session: ReadSession, wanted: Wanted, resource_type: str) -> Iterator[Stored]:
    if not wanted.is_of_patients:
        yield from _matches(session, wanted, resource_type, None)
    elif not wanted.group:
        yield from _matches(session, wanted, resource_type, ("Patient", None))
    else:
        members = group_members(read(session, "Group", wanted.group))
        places = {member: place for place, member in enumerate(members)}
        for member in members:
            for stored in _matches(session, wanted, resource_type, ("Patient", member)):
                # What concerns several members comes with the first of them.
                owners = patients_of(resource_type, stored.resource_id, stored.tree()) & places.keys()
                if not owners or min(owners, key=places.__getitem__) == member:
                    yield stored


def group_members(group: Stored) -> list[str]:
    """Logical ids of the Patients in a Group that are in it now, each once."""
    found = [
        each.get("entity", {}).get("reference", "")
        for each in group.tree().get("member", ())
        if not each.get("inactive", False)
    ]
    return list(dict.fromkeys(text.removeprefix("Patient/") for text in found if text.startswith("Patient/")))


def _matches(
    session: ReadSession, wanted: Wanted, resource_type: str, compartment: tuple[str, str | None] | None
) -> Iterator[Stored]:
    if session.terms.find(resource_type) is None:
        return
    request = SearchRequest(resource_type, compartment=compartment)
    if wanted.since:
        request.criteria.append(Criterion(LAST_UPDATED, "", (f"ge{wanted.since}",)))
    sql = compile_search(request, session)
    rows: Any = session.connection.execute(
        f"SELECT r.pk, r.id, r.version, r.updated, r.meta, r.content FROM {sql.source}"  # noqa: S608 - constants
        f" WHERE {sql.where.text}",
        sql.where.values,
    )
    for pk, resource_id, version, updated, meta, content in rows:
        yield Stored(pk, resource_type, resource_id, version, updated, False, meta, content)
