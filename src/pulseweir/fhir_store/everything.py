"""``Patient/[id]/$everything``: the patient, its record (its compartment and its devices), and what these refer to.

Without `_type` what the record refers to is included page by page. With it, types outside of the record are looked
for from the whole record, whether the resources that refer to them are asked for or not.
Source: http://hl7.org/fhir/R4/patient-operation-everything.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pulseweir.fhir_store.outcomes import Refusal, parameter_place
from pulseweir.fhir_store.paging import split_sent
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, compartment_parameters, parameters_of, record_parameters
from pulseweir.fhir_store.patient_record import SUPPORTING, Session, ids_of, record_search, supporting_ids
from pulseweir.fhir_store.query import read_search
from pulseweir.fhir_store.search_request import ID, LAST_UPDATED, Criterion, Include, Pairs, SearchRequest
from pulseweir.fhir_store.search_values import read_date
from pulseweir.fhir_store.searching import SearchPage, run_search
from pulseweir.fhir_store.session import Stored
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
_OWN = frozenset({"start", "end", "_since"})
_TAKEN = frozenset({"_type", "_count", "_page", "_format", "_pretty", "_elements", "_summary", "_total"})


@dataclass(slots=True)
class Everything:
    """A request for records, read and checked.

    Attributes:
        request: The search for what matches.
        records: Of a request that names types: searches for all that may refer to supporting resources; else none.
        own: Of those, what of a supporting type is in the record itself.
    """

    request: SearchRequest
    records: list[SearchRequest]
    own: dict[str, SearchRequest]

    def page(self, session: Session) -> SearchPage:
        """One page of it."""
        wanted = [part for part in self.request.parts if part.resource_type in self.own]
        if wanted:
            leant_on = supporting_ids(session, self.records)
            for part in wanted:
                name = part.resource_type
                ids = leant_on[name] | ids_of(session, self.own[name])
                part.criteria.append(Criterion(ID, "", tuple(sorted(ids))))
        page = run_search(session, self.request)
        page.included = [*self._not_matching(session, page.included)]
        return page

    def _not_matching(self, session: Session, included: list[Stored]) -> Iterator[Stored]:
        """What is included and comes as a match of no page, so that it comes once."""
        matching: set[int] = set()
        for part in self.request.parts:
            ids = tuple(each.resource_id for each in included if each.resource_type == part.resource_type)
            if ids:
                asked = part.again(part.now)
                asked.criteria.append(Criterion(ID, "", ids))
                asked.count = len(ids)
                matching.update(each.pk for each in run_search(session, asked).matches)
        return (each for each in included if each.pk not in matching)


def read_everything(
    patient_id: str | None, pairs: Pairs, *, strict: bool, settings: FhirStoreSettings, base_url: str
) -> Everything:
    """Read the query of one patient's record, or of all patients'.

    Raises:
        Refusal: 400 for a date that is none, or (strict) for a parameter the operation does not have.
    """
    path = f"Patient/{patient_id}/$everything" if patient_id is not None else "Patient/$everything"
    # R4 lets types come in one parameter or in several.
    named = ",".join(text for name, text in pairs if name == "_type" and text.strip(","))
    taken = [pair for pair in pairs if pair[0] not in _OWN and pair[0] != "_type"]
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
        [pair for pair in taken if pair[0] in _TAKEN] + ([("_type", named)] if named else []),
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
    types = tuple(filter(None, named.split(",")))
    found = Everything(request, [], {})
    if types:
        _ask_for_types(found, types, patient_id, base_url)
    else:
        request.includes = [*_includes(request)]
        if any(name == "_since" and text for name, text in pairs):
            # The patient may be no match, being as it was; its devices are asked for by themselves.
            request.parts.append(record_search("Device", patient_id, base_url))
        request.reverse_includes = [Include("Device", parameters_of("Device")["patient"], "Patient")]
    for name, text in pairs:
        if name in _OWN and text:
            _bound(found, name, text)
    return found


def _ask_for_types(found: Everything, types: tuple[str, ...], patient_id: str | None, base_url: str) -> None:
    """Ask for supporting types by what the whole record leads to; of other types outside of it there is nothing."""
    supporting = [each for each in SUPPORTING if each in types]
    if not supporting:
        return
    found.request.parts = [part for part in found.request.parts if part.resource_type not in supporting]
    found.request.parts += [SearchRequest(each, base_url=base_url) for each in supporting]
    in_record = [each for each in RESOURCE_TYPES if each == "Patient" or record_parameters(each)]
    found.records = [record_search(each, patient_id, base_url) for each in in_record]
    nothing = Criterion(ID, "", ())
    found.own = {
        each: record_search(each, patient_id, base_url)
        if each in in_record
        else SearchRequest(each, criteria=[nothing])
        for each in supporting
    }


def _includes(request: SearchRequest) -> Iterator[Include]:
    for part in [*request.parts, *(SearchRequest(each) for each in SUPPORTING)]:
        for parameter in parameters_of(part.resource_type).values():
            if parameter.kind == "reference":
                for target in SUPPORTING:
                    if target in parameter.targets or not parameter.targets:
                        yield Include(part.resource_type, parameter, target, iterates=True)


def _bound(found: Everything, name: str, text: str) -> None:
    """Hold the parts to a time; what has no time of care of its own stays.

    What a record refers to is looked for from the care of that time, however long ago that was written down.
    """
    try:
        read_date(text)
    except Refusal as refusal:
        raise refusal.located(f"http.{name}") from None
    if text[:2].isalpha():
        raise Refusal(400, "invalid", f"{name} is a date without a prefix, such as 2024-02-29.", f"http.{name}")
    if name == "_since":
        for part in found.request.parts:
            part.criteria.append(Criterion(LAST_UPDATED, "", (f"ge{text}",)))
        return
    for part in [*found.request.parts, *found.records]:
        own = parameters_of(part.resource_type)
        dated = next((own[each] for each in _CARE_DATES if each in own and own[each].kind == "date"), None)
        if dated is not None and compartment_parameters("Patient", part.resource_type) and dated.key:
            # With what overlaps the day itself: care that began on the last day counts although it goes on.
            part.unless_missing.append(
                Criterion(dated, "", (f"{'ge' if name == 'start' else 'le'}{text}", f"ap{text}"))
            )
