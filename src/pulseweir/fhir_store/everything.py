"""``Patient/[id]/$everything``: the patient, all in its compartment, and what these refer to.

Source: http://hl7.org/fhir/R4/patient-operation-everything.html.
"""

from pulseweir.fhir_store.outcomes import Refusal, parameter_place
from pulseweir.fhir_store.paging import split_sent
from pulseweir.fhir_store.parameters import compartment_parameters, parameters_of
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.search_request import LAST_UPDATED, Criterion, Include, Pairs, SearchRequest
from pulseweir.fhir_store.search_values import read_date
from pulseweir.fhir_store.settings import FhirStoreSettings

_CARE_DATES = (
    "date",
    "onset-date",
    "effective",
    "occurrence",
    "start-date",
    "sent",
    "authored",
    "authored-on",
    "identified",
    "when",
    "recorded",
)
"""Parameters with the time of care, the best of a type first."""
_SUPPORTING = ("Practitioner", "PractitionerRole", "Organization", "Location", "Device", "DeviceMetric", "CareTeam")
_OWN = frozenset({"start", "end", "_since"})
_TAKEN = frozenset({"_type", "_count", "_page", "_format", "_pretty", "_elements", "_summary", "_total"})


def read_everything(
    patient_id: str | None, pairs: Pairs, *, strict: bool, settings: FhirStoreSettings, base_url: str
) -> SearchRequest:
    """Read the query of one patient's record, or of all patients'.

    Raises:
        Refusal: 400 for a date that is none, or (strict) for a parameter the operation does not have.
    """
    path = f"Patient/{patient_id}/$everything" if patient_id is not None else "Patient/$everything"
    taken = [pair for pair in pairs if pair[0] not in _OWN]
    unknown = [name for name, _ in taken if name not in _TAKEN]
    if unknown and strict:
        raise Refusal(
            400,
            "not-supported",
            "$everything takes start, end, _since, _type and _count only.",
            parameter_place(unknown[0]),
        )
    request = read_search(
        "",
        [pair for pair in taken if pair[0] in _TAKEN],
        strict=strict,
        settings=settings,
        base_url=base_url,
        compartment=("Patient", patient_id),
        path=path,
        bounds=[pair for pair in pairs if pair[0] in _OWN],
    )
    request.remembers = True
    if request.after is not None:
        request.sent = split_sent(request.after)
    for name, text in pairs:
        if name in _OWN and text:
            _bound(request, name, text)
    if not any(name == "_type" for name, _ in pairs):
        request.includes = [
            Include(part.resource_type, parameter, target, iterates=True)
            for part in [*request.parts, *(SearchRequest(each) for each in _SUPPORTING)]
            for parameter in parameters_of(part.resource_type).values()
            if parameter.kind == "reference"
            for target in _SUPPORTING
            if target in parameter.targets or not parameter.targets
        ]
    return request


def _bound(request: SearchRequest, name: str, text: str) -> None:
    """Hold the parts to a time; what has no time of care of its own stays."""
    try:
        read_date(text)
    except Refusal as refusal:
        raise refusal.located(f"http.{name}") from None
    if text[:2].isalpha():
        raise Refusal(400, "invalid", f"{name} is a date without a prefix, such as 2024-02-29.", f"http.{name}")
    for part in request.parts:
        if name == "_since":
            part.criteria.append(Criterion(LAST_UPDATED, "", (f"ge{text}",)))
            continue
        own = parameters_of(part.resource_type)
        dated = next((own[each] for each in _CARE_DATES if each in own and own[each].kind == "date"), None)
        if dated is not None and compartment_parameters("Patient", part.resource_type) and dated.key:
            # With what overlaps the day itself: care that began on the last day counts although it goes on.
            part.unless_missing.append(
                Criterion(dated, "", (f"{'ge' if name == 'start' else 'le'}{text}", f"ap{text}"))
            )
