"""Interactions that only read, of a request of its own and of a bundle's entry alike."""

from pulseweir.fhir_store.calls import Reading
from pulseweir.fhir_store.capability import capability_statement
from pulseweir.fhir_store.history import find_history, history_bundle, read_history
from pulseweir.fhir_store.interactions import read, read_version
from pulseweir.fhir_store.operations import answer_operation
from pulseweir.fhir_store.outcomes import Answer, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.preconditions import is_known, last_modified
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.searching import run_search, searchset
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession
from pulseweir.fhir_store.summaries import read_shape
from pulseweir.fhir_store.validation import check_id, check_type

Session = ReadSession | WriteSession


def answer_reading(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    """What a GET answers.

    Raises:
        Refusal: It cannot be answered; the status says why.
    """
    if any(segment.startswith("$") for segment in reading.segments):
        return answer_operation(session, reading, settings)
    match reading.segments:
        case ["metadata"]:
            return Answer(200, capability_statement(reading.base_url, settings, reading.security))
        case [] | [_] | [_, "_search"] if reading.segments != ["_history"]:
            return _search(session, reading, settings)
        case [*_, "_history"]:
            return _history(session, reading, settings)
        case [resource_type, resource_id]:
            return read_answer(session, reading, resource_type, resource_id)
        case [resource_type, resource_id, "_history", version]:
            check_type(resource_type)
            check_id(resource_id)
            return _found(reading, read_version(session, resource_type, resource_id, version))
        case [compartment, resource_id, resource_type] if resource_type == "*" or resource_type in RESOURCE_TYPES:
            check_type(compartment)
            return _search_compartment(session, reading, settings, (compartment, check_id(resource_id)))
    raise no_such_path()


def no_such_path() -> Refusal:
    """404 for a path that no interaction has."""
    return Refusal(404, "not-supported", "There is nothing at that path; see /metadata.")


def read_answer(session: Session, reading: Reading, resource_type: str, resource_id: str) -> Answer:
    """The current version of a resource, or that the client holds it already."""
    check_type(resource_type)
    return _found(reading, read(session, resource_type, check_id(resource_id)))


def _found(reading: Reading, stored: Stored) -> Answer:
    headers = {"etag": stored.etag, "last-modified": last_modified(stored)}
    shape = read_shape(reading.query) if reading.query else None
    if is_known(stored, reading.if_none_match, reading.if_modified_since):
        return Answer(304, headers=headers)
    text = stored.text()
    return Answer(200, text if shape is None else shape.apply(text, stored.resource_type), headers)


def _search(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    resource_type = check_type(reading.segments[0]) if reading.segments and reading.segments[0] != "_search" else ""
    request = read_search(
        resource_type,
        reading.query,
        strict=reading.strict,
        settings=settings,
        base_url=reading.base_url,
        now=reading.now,
    )
    return Answer(200, searchset(run_search(session, request, is_as_read=True), request, reading.base_url))


def _search_compartment(
    session: Session, reading: Reading, settings: FhirStoreSettings, compartment: tuple[str, str]
) -> Answer:
    resource_type = reading.segments[2]
    request = read_search(
        "" if resource_type == "*" else resource_type,
        reading.query,
        strict=reading.strict,
        settings=settings,
        base_url=reading.base_url,
        now=reading.now,
        compartment=compartment,
        path="/".join(reading.segments),
    )
    return Answer(200, searchset(run_search(session, request), request, reading.base_url))


def _history(session: Session, reading: Reading, settings: FhirStoreSettings) -> Answer:
    if len(reading.segments) > 3:
        raise no_such_path()
    request = read_history(reading.segments, reading.query, strict=reading.strict, settings=settings)
    return Answer(200, history_bundle(find_history(session, request), request, reading.base_url))
