"""What a patient's record leans on: devices, people, houses and places that it refers to, and these to each other.

Asked of the index of references, so that it costs the record's references and not its resources.
"""

import json
from collections.abc import Iterable
from functools import cache

from pulseweir.fhir_store.extraction import reference_text
from pulseweir.fhir_store.indexing import OBSERVATION_COLUMNS, REFERENCE_COLUMNS
from pulseweir.fhir_store.parameters import Parameter, parameters_of, record_parameters
from pulseweir.fhir_store.search_request import ID, Criterion, SearchRequest
from pulseweir.fhir_store.search_sql import compile_search
from pulseweir.fhir_store.security.narrowing import narrow
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import ReadSession

Session = ReadSession | WriteSession
SUPPORTING = ("Practitioner", "PractitionerRole", "Organization", "Location", "Device", "DeviceMetric", "CareTeam")
"""Types outside of a patient's compartment that make a record understood."""
_ROUNDS = 16


def record_search(resource_type: str, patient_id: str | None, base_url: str) -> SearchRequest:
    """The search for what of a type is in a patient's record, or in any patient's."""
    request = SearchRequest(resource_type, base_url=base_url)
    if resource_type != "Device":
        request.compartment = ("Patient", patient_id)
        return request
    (name,) = record_parameters(resource_type)
    parameter = parameters_of(resource_type)[name]
    is_own = Criterion(parameter, "", (f"Patient/{patient_id}",))
    request.criteria.append(is_own if patient_id is not None else Criterion(parameter, "missing", ("false",)))
    return request


def supporting_ids(session: Session, records: Iterable[SearchRequest]) -> dict[str, set[str]]:
    """Logical ids by type of all supporting resources that records lead to, as far as the caller may see the way.

    Args:
        session: Where they are.
        records: Searches for the resources that refer to them.
    """
    found: dict[str, set[str]] = {name: set() for name in SUPPORTING}
    sources = [*records]
    base_url = sources[0].base_url if sources else ""
    for _ in range(_ROUNDS):
        fresh: dict[str, set[str]] = {}
        for source in sources:
            for resource_type, resource_id in _led_to(session, source):
                if resource_type in found and resource_id not in found[resource_type]:
                    fresh.setdefault(resource_type, set()).add(resource_id)
        if not fresh:
            break
        sources = []
        for resource_type, ids in fresh.items():
            found[resource_type] |= ids
            named = Criterion(ID, "", tuple(sorted(ids)))
            sources.append(SearchRequest(resource_type, base_url=base_url, criteria=[named]))
    return found


def ids_of(session: Session, request: SearchRequest) -> set[str]:
    """Logical ids of all that a search matches, as far as the caller may see it."""
    narrow(request, session.access.caller)
    sql = compile_search(request, session)
    statement = f"SELECT r.id FROM {sql.source} WHERE {sql.where.text}"  # noqa: S608 - constants
    return {str(row[0]) for row in session.connection.execute(statement, sql.where.values)}


def _led_to(session: Session, source: SearchRequest) -> set[tuple[str, str]]:
    """(type, id) of what the matches of a search refer to by parameters that lead to supporting types."""
    if session.terms.find(source.resource_type) is None:
        return set()
    narrow(source, session.access.caller)
    sql = compile_search(source, session)
    matches = f"SELECT r.pk FROM {sql.source} WHERE {sql.where.text}"  # noqa: S608 - constants
    keys = [number for key in _keys(source.resource_type) if (number := session.terms.find(key)) is not None]
    texts = (
        "SELECT DISTINCT value FROM text_index WHERE parameter IN (SELECT value FROM json_each(?))"  # noqa: S608
        f" AND pk IN ({matches})"
    )
    held = session.connection.execute(texts, (json.dumps(keys), *sql.where.values)).fetchall()
    if source.resource_type == "Observation":
        for column in REFERENCE_COLUMNS:
            names = (
                f"SELECT text FROM term WHERE id IN (SELECT x.{column} FROM observation x"  # noqa: S608
                f" WHERE x.pk IN ({matches}))"
            )
            held += session.connection.execute(names, sql.where.values).fetchall()
    bare = ((reference_text(str(row[0])) or "").removeprefix(f"{source.base_url}/").partition("/") for row in held)
    return {(owner, name) for owner, slash, name in bare if slash}


@cache
def _keys(resource_type: str) -> tuple[str, ...]:
    """Keys of the indexes that hold references to supporting types."""
    found = {
        each.key
        for parameter in parameters_of(resource_type).values()
        for each in (parameter, *parameter.parts)
        if parameter.kind == "reference" and each.key and _may_support(parameter)
    }
    promoted = {f"Observation.{name}" for name in OBSERVATION_COLUMNS}
    return tuple(sorted(found - promoted))


def _may_support(parameter: Parameter) -> bool:
    targets = (parameter.target,) if parameter.target else parameter.targets
    return not targets or any(each in SUPPORTING for each in targets)
