"""A request for a bulk export, read and checked. Pure.

Source: Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/export.html.
"""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

import msgspec

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Refusal, parameter_place
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, record_parameters
from pulseweir.fhir_store.patient_record import SUPPORTING
from pulseweir.fhir_store.query import Pairs, read_condition
from pulseweir.fhir_store.search_request import SearchRequest
from pulseweir.fhir_store.validation import is_resource_id

BULK_DATA = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
DEFINITIONS = {
    "": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
    "Patient": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export",
    "Group": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export",
}
"""OperationDefinitions by the type they are asked of; "" for the system."""
_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
_OWN = ("_outputFormat", "_since", "_type", "_typeFilter", "_elements", "patient")
_PRESENTATION = frozenset({"_format", "_pretty"})
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]*\?)")
_MOST_FILTERS, _MOST_PATIENTS = 50, 10_000
_ELEMENT = re.compile(r"([A-Z][A-Za-z]+\.)?[a-z][A-Za-z]*")


class Filter(msgspec.Struct, frozen=True):
    """One search that resources of a type must match.

    Attributes:
        type: Resource type.
        pairs: Its query.
    """

    type: str
    pairs: tuple[tuple[str, str], ...]

    def search(self, base_url: str = "") -> SearchRequest:
        """The search.

        Raises:
            Refusal: 400 for what is no criterion of the type.
        """
        request = SearchRequest(self.type, base_url=base_url)
        for name, text in self.pairs:
            condition = read_condition(self.type, name, text)
            if condition is None:
                shown = re.sub(r"[^\w:.\-]", "?", name[:64])
                raise Refusal(400, "not-supported", f"_typeFilter: {self.type} has no search parameter `{shown}`.")
            request.criteria.append(condition)
        return request


class Wanted(msgspec.Struct, frozen=True):
    """What is to be exported.

    Attributes:
        types: Resource types.
        since: FHIR instant; resources changed then or later only; "" for all.
        is_of_patients: Whether only what is in some Patient's compartment.
        group: Logical id of the Group whose members' compartments are meant; "" for none.
        filters: A resource of a type that has some must match one of these.
        elements: Elements to show, "subject" or "Observation.subject"; none for all.
        patients: Logical ids of the only Patients that are meant; none for all.
        is_named: Whether somebody named the types.
    """

    types: tuple[str, ...]
    since: str = ""
    is_of_patients: bool = False
    group: str = ""
    filters: tuple[Filter, ...] = ()
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    is_named: bool = False


def read_kickoff(segments: list[str], pairs: Pairs, *, lenient: bool, is_post: bool = False) -> Wanted:
    """Read the parameters of ``$export``.

    Raises:
        Refusal: 400 for a value that makes no sense or a parameter that this server does not support, 404 for a path
            where there is no export.
    """
    match segments:
        case ["$export"]:
            is_of_patients, group = False, ""
        case ["Patient", "$export"]:
            is_of_patients, group = True, ""
        case ["Group", group, "$export"]:
            is_of_patients = True
        case _:
            raise Refusal(404, "not-supported", "Exports are asked of the base, of Patient or of one Group.")
    if not lenient:
        _refuse_unknown(pairs, may_name_patients=is_post and is_of_patients)
    asked = dict(pairs)
    if asked.get("_outputFormat", "ndjson").replace("fhir ndjson", "fhir+ndjson") not in _FORMATS:
        raise Refusal(400, "not-supported", "This server exports application/fhir+ndjson only.", "http._outputFormat")
    # A plus sign in a query is a space once it is decoded.
    since = asked.get("_since", "").replace(" ", "+")
    if since:
        _check_instant(since)
    named = [*_listed(pairs, "_type")]
    types = _types(named, is_of_patients=is_of_patients)
    return Wanted(
        types,
        since,
        is_of_patients,
        group,
        tuple(_filters(pairs, types, lenient=lenient)),
        tuple(_elements(pairs, lenient=lenient)),
        _patients(pairs) if is_post and is_of_patients else (),
        bool(named),
    )


def _refuse_unknown(pairs: Pairs, *, may_name_patients: bool) -> None:
    taken = {*_OWN, *_PRESENTATION} - (set() if may_name_patients else {"patient"})
    unknown = next((name for name, _ in pairs if name not in taken), None)
    if unknown is not None:
        named = ", ".join(_OWN[:-1])
        text = f"$export takes {named}, and patient in the body of an export of Patients or a Group"
        text = f"{text}; send Prefer: handling=lenient to pass over others."
        raise Refusal(400, "not-supported", text, parameter_place(unknown))


def _listed(pairs: Pairs, wanted: str) -> Iterator[str]:
    for name, text in pairs:
        if name == wanted:
            yield from filter(None, text.split(","))


def _check_instant(text: str) -> None:
    try:
        date_range(text)
    except ValueError:
        text = "_since must be an instant, such as 2024-01-01T00:00:00Z."
        raise Refusal(400, "invalid", text, "http._since") from None


def _types(named: list[str], *, is_of_patients: bool) -> tuple[str, ...]:
    if not all(each in RESOURCE_TYPES for each in named):
        raise Refusal(400, "not-supported", "_type names a type that this server does not hold.", "http._type")
    wanted = tuple(dict.fromkeys(named)) or tuple(RESOURCE_TYPES)
    if not is_of_patients:
        return wanted
    # What nobody named is not missed; what somebody named is written, or said to be no part of any record.
    return tuple(each for each in wanted if named or each == "Patient" or record_parameters(each))


def is_of_records(resource_type: str) -> bool:
    """Whether resources of a type can belong to a patient's record, or be what one leans on."""
    return resource_type == "Patient" or resource_type in SUPPORTING or bool(record_parameters(resource_type))


def _filters(pairs: Pairs, types: tuple[str, ...], *, lenient: bool) -> Iterator[Filter]:
    texts = [part for name, text in pairs if name == "_typeFilter" for part in _NEXT_FILTER.split(text) if part]
    if len(texts) > _MOST_FILTERS:
        raise Refusal(400, "too-costly", f"An export has {_MOST_FILTERS} filters at most.", "http._typeFilter")
    for text in texts:
        resource_type, _, query = text.partition("?")
        if resource_type not in types or not query:
            if lenient:
                continue
            raise Refusal(
                400, "invalid", "A _typeFilter is Type?criteria of a type that is exported.", "http._typeFilter"
            )
        made = Filter(resource_type, tuple(parse_qsl(query, keep_blank_values=True)))
        made.search()
        yield made


def _elements(pairs: Pairs, *, lenient: bool) -> Iterator[str]:
    for each in _listed(pairs, "_elements"):
        owner = each.partition(".")[0] if "." in each else ""
        if _ELEMENT.fullmatch(each) and (not owner or owner in RESOURCE_TYPES):
            yield each
        elif not lenient:
            raise Refusal(
                400,
                "invalid",
                "_elements are names of elements at the root, such as Observation.subject.",
                "http._elements",
            )


def _patients(pairs: Pairs) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(text.removeprefix("Patient/") for name, text in pairs if name == "patient"))
    if len(named) > _MOST_PATIENTS:
        raise Refusal(400, "too-costly", f"An export names {_MOST_PATIENTS} patients at most; make it of a Group.")
    if not all(is_resource_id(each) for each in named):
        raise Refusal(400, "invalid", "patient is a reference to a Patient of this server, such as Patient/1.")
    return named
