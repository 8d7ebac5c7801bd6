"""One snapshot of the store written to files, a resource a line, without holding more than a few in memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pulseweir.clock import real_microseconds
from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.export.kickoff import Wanted, is_of_records
from pulseweir.fhir_store.extraction import reference_text
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.outcomes import Issue, Json, Refusal, operation_outcome
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, record_parameters
from pulseweir.fhir_store.patient_record import SUPPORTING, ids_of, record_search, supporting_ids
from pulseweir.fhir_store.query import ID, LAST_UPDATED, Criterion, SearchRequest
from pulseweir.fhir_store.search_sql import compile_search
from pulseweir.fhir_store.security.compartment import patients_of
from pulseweir.fhir_store.session import Stored
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.summaries import Shape
from pulseweir.fhir_store.terms import Terms
from pulseweir.fhir_store.validation import is_resource_id
from pulseweir.sqlite import connect

_LOOK_RESOURCES = 500
_DELETIONS = 200
"""Most deletions in one Bundle."""


class Stopped(Exception):  # noqa: N818 - the export was told to stop: nothing went wrong
    """The export is to stop."""


class ExportedFile(msgspec.Struct):
    """One file.

    Attributes:
        type: Resource type of all its lines.
        name: Its name.
        count: Its lines.
        tells_deletions: Whether its lines are Bundles of what was deleted.
        tells_faults: Whether its lines are OperationOutcomes about what is not exported.
    """

    type: str
    name: str
    count: int = 0
    tells_deletions: bool = False
    tells_faults: bool = False


@contextmanager
def snapshot(path: Path, zone: str = "UTC") -> Iterator[ReadSession]:
    """The store as it is now, for as long as it takes; on a connection of its own."""
    connection = connect(path)
    try:
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        # A transaction sees what is there at its first read.
        connection.execute("SELECT count(*) FROM setting").fetchall()
        yield ReadSession(connection, Terms(connection), zone=zone)
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
    shape = Shape("", wanted.elements) if wanted.elements else None
    missing: list[str] = []
    members = _members(session, wanted, missing)
    written = 0
    for resource_type in wanted.types:
        if wanted.is_of_patients and not is_of_records(resource_type):
            missing.append(f"{resource_type} belongs to no patient's record; ask for it by an export of the system.")
            continue
        texts = (
            stored.text() if shape is None else shape.apply(stored.text(), resource_type)
            for stored in _of_type(session, wanted, resource_type, members)
        )
        for count in _write_lines(texts, folder, file_bytes, ExportedFile(resource_type, ""), files):
            written += count
            look(written)
    faults = (_fault(text) for text in missing)
    for _ in _write_lines(faults, folder, file_bytes, ExportedFile("OperationOutcome", "", tells_faults=True), files):
        look(written)
    bundles = _deletions(session, wanted, members) if wanted.since else iter(())
    for _ in _write_lines(bundles, folder, file_bytes, ExportedFile("Bundle", "", 0, True), files):
        look(written)
    return files


def _write_lines(
    texts: Iterator[bytes], folder: Path, file_bytes: int, like: ExportedFile, files: list[ExportedFile]
) -> Iterator[int]:
    """Write lines into files like one, that are added to the list; gives how many were written since it last did."""
    text = next(texts, None)
    while text is not None:
        kind = "deleted" if like.tells_deletions else "error" if like.tells_faults else like.type
        file = msgspec.structs.replace(like, name=f"{kind}.{len(files)}.ndjson")
        files.append(file)
        size = told = 0
        with (folder / file.name).open("wb") as lines:
            while text is not None and size < file_bytes:
                size += lines.write(text + b"\n")
                file.count += 1
                if file.count - told == _LOOK_RESOURCES:
                    yield file.count - told
                    told = file.count
                text = next(texts, None)
        yield file.count - told


def _fault(text: str) -> bytes:
    return msgspec.json.encode(operation_outcome([Issue("incomplete", text, severity="warning")]))


def _members(session: ReadSession, wanted: Wanted, missing: list[str]) -> list[str] | None:
    """Logical ids of the Patients that are meant, in order; None for all there are. Adds what cannot be followed."""
    if not wanted.group:
        return list(wanted.patients) or None
    inside = group_members(session, read(session, "Group", wanted.group), real_microseconds(), missing)
    return [each for each in inside if each in wanted.patients] if wanted.patients else inside


def _of_type(session: ReadSession, wanted: Wanted, resource_type: str, members: list[str] | None) -> Iterator[Stored]:
    if not wanted.is_of_patients:
        yield from _matches(session, wanted, resource_type, None)
    elif resource_type in SUPPORTING:
        yield from _leant_on(session, wanted, resource_type, members)
    elif members is None:
        yield from _matches(session, wanted, resource_type, ("Patient", None))
    else:
        places = {member: place for place, member in enumerate(members)}
        for member in members:
            for stored in _matches(session, wanted, resource_type, ("Patient", member)):
                # What concerns several members comes with the first of them.
                owners = patients_of(resource_type, stored.resource_id, stored.tree()) & places.keys()
                if not owners or min(owners, key=places.__getitem__) == member:
                    yield stored


def _leant_on(session: ReadSession, wanted: Wanted, resource_type: str, members: list[str] | None) -> Iterator[Stored]:
    """What of a supporting type is in the records or what they lead to; of devices nobody named, only one's own."""
    ids: set[str] = set()
    for member in members if members is not None else [None]:
        ids |= ids_of(session, record_search(resource_type, member, "")) if record_parameters(resource_type) else set()
        if wanted.is_named:
            in_record = [each for each in RESOURCE_TYPES if each == "Patient" or record_parameters(each)]
            records = [record_search(each, member, "") for each in in_record]
            ids |= supporting_ids(session, records)[resource_type]
    if ids:
        named = Criterion(ID, "", tuple(sorted(ids)))
        yield from _matches(session, wanted, resource_type, None, [named])


def group_members(session: ReadSession, group: Stored, now: int, missing: list[str] | None = None) -> list[str]:
    """Logical ids of the Patients in a Group that are in it now, by Groups in it too, each once.

    Args:
        session: Where Groups in it are found.
        group: The Group.
        now: Real instant, microseconds.
        missing: Gets a sentence about each Group that is not here, if given.
    """
    patients: dict[str, None] = {}
    met, waiting = {group.resource_id}, [group]
    while waiting:
        for kind, _, name in _entities(waiting.pop(), now):
            if kind == "Patient" and name:
                patients[name] = None
            elif kind == "Group" and name not in met:
                met.add(name)
                try:
                    waiting.append(read(session, "Group", name))
                except Refusal:
                    if missing is not None:
                        shown = name if is_resource_id(name) else "of no id"
                        missing.append(f"Group/{shown}, a member of the Group, is not on this server: its are missing.")
    return [*patients]


def _entities(group: Stored, now: int) -> list[tuple[str, str, str]]:
    """Who is in one Group now, by itself."""
    return [
        (reference_text(each.get("entity")) or "").partition("/")
        for each in group.tree().get("member", ())
        if not each.get("inactive", False) and not _is_over(each.get("period"), now)
    ]


def _is_over(period: object, now: int) -> bool:
    end = period.get("end") if isinstance(period, dict) else None
    try:
        return isinstance(end, str) and date_range(end)[1] <= now
    except ValueError:
        return False


def _matches(
    session: ReadSession,
    wanted: Wanted,
    resource_type: str,
    compartment: tuple[str, str | None] | None,
    also: Sequence[Criterion] = (),
) -> Iterator[Stored]:
    if session.terms.find(resource_type) is None:
        return
    filters = [each.search() for each in wanted.filters if each.type == resource_type]
    seen: set[int] = set()
    for request in filters or [SearchRequest(resource_type)]:
        request.compartment = compartment
        request.criteria.extend(also)
        if wanted.since:
            request.criteria.append(Criterion(LAST_UPDATED, "", (f"ge{wanted.since}",)))
        for stored in _found(session, request):
            if stored.pk not in seen:
                yield stored
            if len(filters) > 1:
                seen.add(stored.pk)


def _found(session: ReadSession, request: SearchRequest) -> Iterator[Stored]:
    sql = compile_search(request, session)
    rows: Any = session.connection.execute(
        f"SELECT r.pk, r.id, r.version, r.updated, r.meta, r.content FROM {sql.source}"  # noqa: S608 - constants
        f" WHERE {sql.where.text}",
        sql.where.values,
    )
    for pk, resource_id, version, updated, meta, content in rows:
        yield Stored(pk, request.resource_type, resource_id, version, updated, False, meta, content)


def _deletions(session: ReadSession, wanted: Wanted, members: list[str] | None) -> Iterator[bytes]:
    """Transaction Bundles that delete what was deleted since, by the compartments it was in last."""
    since = date_range(wanted.since)[0]
    entries: list[Json] = []
    for resource_type in wanted.types:
        rows: Any = session.connection.execute(
            "SELECT pk, id, version FROM resource WHERE type = ? AND deleted = 1 AND updated >= ?",
            (session.terms.find(resource_type), since),
        )
        for pk, resource_id, version in rows:
            if wanted.is_of_patients and not _was_of(session, (resource_type, resource_id, pk, version), members):
                continue
            entries.append({"request": {"method": "DELETE", "url": f"{resource_type}/{resource_id}"}})
            if len(entries) == _DELETIONS:
                yield _transaction(entries)
                entries = []
    if entries:
        yield _transaction(entries)


def _was_of(session: ReadSession, gone: tuple[str, str, int, int], members: list[str] | None) -> bool:
    resource_type, resource_id, pk, version = gone
    row = session.connection.execute(
        "SELECT meta, content FROM history WHERE pk = ? AND version = ?", (pk, version - 1)
    ).fetchone()
    if row is None:
        return False
    stored = Stored(pk, resource_type, resource_id, version - 1, 0, False, *row)
    tree = stored.tree()
    owners = patients_of(resource_type, resource_id, tree)
    if resource_type == "Device":
        kind, _, name = (reference_text(tree.get("patient")) or "").partition("/")
        owners = {name} if kind == "Patient" else set()
    return bool(owners if members is None else owners.intersection(members))


def _transaction(entries: list[Json]) -> bytes:
    return msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})
