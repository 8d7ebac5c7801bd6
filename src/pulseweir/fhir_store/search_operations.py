"""Operations that answer like a search: ``Patient/$everything`` and ``Observation/$lastn``."""

from pulseweir.fhir_store.everything import read_everything
from pulseweir.fhir_store.interactions import read
from pulseweir.fhir_store.lastn import read_last, run_last
from pulseweir.fhir_store.outcomes import Answer
from pulseweir.fhir_store.search_request import Pairs
from pulseweir.fhir_store.searching import searchset
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import ReadSession


def answer_search_operation(
    session: ReadSession | WriteSession,
    segments: list[str],
    query: Pairs,
    *,
    strict: bool,
    settings: FhirStoreSettings,
    base_url: str,
) -> Answer:
    """The searchset that an operation answers with.

    Raises:
        Refusal: 404 or 410 when there is no such patient, 400 for parameters that make no sense.
    """
    if segments[-1] == "$lastn":
        request, most = read_last(query, strict=strict, settings=settings, base_url=base_url)
        return Answer(200, searchset(run_last(session, request, most, settings), request, base_url))
    patient_id = segments[1] if len(segments) == 3 else None
    if patient_id is not None:
        read(session, "Patient", patient_id)
    asked = read_everything(patient_id, query, strict=strict, settings=settings, base_url=base_url)
    return Answer(200, searchset(asked.page(session), asked.request, base_url))
