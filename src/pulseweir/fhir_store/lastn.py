"""``Observation/$lastn``: the newest Observations of each code of a patient, walked in the chart index.

Source: http://hl7.org/fhir/R4/observation-operation-lastn.html.
"""

from collections.abc import Iterator
from typing import Any

from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.search_conditions import Rows
from pulseweir.fhir_store.search_pieces import NEVER, Piece, all_of, any_of
from pulseweir.fhir_store.search_request import Criterion, Pairs, SearchRequest
from pulseweir.fhir_store.search_values import Values
from pulseweir.fhir_store.searching import SearchPage
from pulseweir.fhir_store.security.narrowing import narrow
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession

_WHO = ("patient", "subject")
_OWN_ORDER = frozenset({"max", "_count", "_sort", "_page"})
"""The operation has an order and an end of its own."""
Row = tuple[int, int]
"""(time, row) of an Observation."""


def read_last(pairs: Pairs, *, strict: bool, settings: FhirStoreSettings, base_url: str) -> tuple[SearchRequest, int]:
    """Read the query; returns the search for the Observations and how many of each code are wanted.

    Raises:
        Refusal: 400 without a patient, or for what a search would refuse.
    """
    wanted = [text for name, text in pairs if name == "max"]
    rest = [pair for pair in pairs if pair[0] not in _OWN_ORDER]
    request = read_search(
        "Observation", rest, strict=strict, settings=settings, base_url=base_url, path="Observation/$lastn"
    )
    if not any(isinstance(each, Criterion) and each.parameter.name in _WHO for each in request.criteria):
        raise Refusal(400, "required", "$lastn needs a patient, such as patient=Patient/1.", "http.patient")
    text = wanted[-1] if wanted else "1"
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= settings.maximum_page_resources):
        raise Refusal(400, "invalid", f"max is a number from 1 to {settings.maximum_page_resources}.", "http.max")
    request.applied = [*((("max", text),) if wanted else ()), *request.applied]
    return request, int(text)


def run_last(
    session: ReadSession | WriteSession, request: SearchRequest, most: int, settings: FhirStoreSettings
) -> SearchPage:
    """The newest `most` Observations of each code, code by code; those that share a coding count as one code.

    Raises:
        Refusal: 400 when there are more than one answer may hold.
    """
    rows = Rows("Observation", Values(session, request.base_url, request.now), has_columns=True)
    who = [each for each in request.criteria if isinstance(each, Criterion) and each.parameter.name in _WHO]
    narrow(request, session.access.caller)
    ways = [all_of(rows.meets(each) for each in way) for way in request.within or ()]
    within = [any_of(ways) if ways else NEVER] if request.within is not None else []
    others = all_of([*(rows.meets(each) for each in request.criteria if each not in who), *within])
    found: list[Row] = []
    for subject in _subjects(session, rows, who):
        for code_sets in _codes(session, subject):
            newest = (row for code_set in code_sets for row in _newest(session, (subject, code_set), others, most))
            found += sorted(newest, reverse=True)[:most]
            if len(found) > settings.maximum_page_resources:
                text = f"$lastn finds more than {settings.maximum_page_resources} Observations; ask for fewer codes."
                raise Refusal(400, "too-costly", text)
    matches = [_read(session, pk) for _, pk in found]
    session.access.showed(matches)
    return SearchPage(matches, [], len(matches))


def _subjects(session: ReadSession | WriteSession, rows: Rows, who: list[Criterion]) -> list[int]:
    """The interned names of the subjects that all criteria about them allow."""
    common: set[int] | None = None
    for criterion in who:
        if criterion.modifier in {"not", "missing", "identifier"}:
            raise Refusal(
                400,
                "not-supported",
                "$lastn takes a patient by reference only, such as patient=Patient/1.",
                "http.patient",
            )
        names = {name for text in criterion.values for name in rows.values.references(criterion, text)}
        numbers = {number for name in names if name and (number := session.terms.find(name)) is not None}
        common = numbers if common is None else common & numbers
    return sorted(common or ())


def _codes(session: ReadSession | WriteSession, subject: int) -> list[list[int]]:
    """The subject's sets of codings, those that share a coding together."""
    groups: list[tuple[set[str], list[int]]] = []
    for code_set in _code_sets(session, subject):
        name = str(session.connection.execute("SELECT text FROM term WHERE id = ?", (code_set,)).get or "")
        codings = set(name.partition("\x1d")[0].split("\x1e")) - {""} or {f"\x1d{code_set}"}
        touched = [group for group in groups if group[0] & codings]
        merged = (codings.union(*(group[0] for group in touched)), [code_set, *(n for g in touched for n in g[1])])
        groups = [*(group for group in groups if group not in touched), merged]
    return [members for _, members in sorted(groups, key=lambda group: min(group[0]))]


def _code_sets(session: ReadSession | WriteSession, subject: int) -> Iterator[int]:
    """One step in the index for each, however many Observations there are."""
    statement = "SELECT min(code_set) FROM observation WHERE subject = ? AND code_set > ?"
    code_set: Any = session.connection.execute(statement, (subject, -1)).get
    while code_set is not None:
        yield int(code_set)
        code_set = session.connection.execute(statement, (subject, code_set)).get


def _newest(session: ReadSession | WriteSession, chart: tuple[int, int], others: Piece, most: int) -> list[Row]:
    statement = (
        "SELECT o.low, o.pk FROM observation o CROSS JOIN resource r ON r.pk = o.pk"  # noqa: S608 - constants
        f" WHERE o.subject = ? AND o.code_set = ? AND {others.text} ORDER BY o.low DESC, o.pk DESC LIMIT {int(most)}"
    )
    return [(int(low), int(pk)) for low, pk in session.connection.execute(statement, (*chart, *others.values))]


def _read(session: ReadSession | WriteSession, pk: int) -> Stored:
    statement = "SELECT pk, id, version, updated, meta, content FROM resource WHERE pk = ?"
    row = session.connection.execute(statement, (pk,)).fetchone()
    assert row is not None  # noqa: S101 - the index row and the resource were read in one snapshot
    number, resource_id, version, updated, meta, content = row
    return Stored(number, "Observation", resource_id, version, updated, False, meta, content)
