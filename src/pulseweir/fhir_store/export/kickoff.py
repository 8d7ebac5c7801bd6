"""A request for a bulk export, read and checked. Pure.

Source: Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/export.html.
"""

import msgspec

from pulseweir.fhir_store.dates import date_range
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, compartment_parameters
from pulseweir.fhir_store.query import Pairs

BULK_DATA = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
DEFINITIONS = {
    "": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
    "Patient": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export",
    "Group": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export",
}
"""OperationDefinitions by the type they are asked of; "" for the system."""
_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
_OWN = frozenset({"_outputFormat", "_since", "_type", "_format", "_pretty"})


class Wanted(msgspec.Struct, frozen=True):
    """What is to be exported.

    Attributes:
        types: Resource types.
        since: FHIR instant; resources changed then or later only; "" for all.
        is_of_patients: Whether only what is in some Patient's compartment.
        group: Logical id of the Group whose members' compartments are meant; "" for none.
    """

    types: tuple[str, ...]
    since: str = ""
    is_of_patients: bool = False
    group: str = ""


def read_kickoff(segments: list[str], pairs: Pairs, *, lenient: bool) -> Wanted:
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
    unknown = [name for name, _ in pairs if name not in _OWN]
    if unknown and not lenient:
        text = "$export takes _type, _since and _outputFormat; send Prefer: handling=lenient to pass over others."
        raise Refusal(400, "not-supported", text)
    asked = dict(pairs)
    if asked.get("_outputFormat", "ndjson").replace("fhir ndjson", "fhir+ndjson") not in _FORMATS:
        raise Refusal(400, "not-supported", "This server exports application/fhir+ndjson only.")
    # A plus sign in a query is a space once it is decoded.
    since = asked.get("_since", "").replace(" ", "+")
    if since:
        _check_instant(since)
    named = [each for name, text in pairs if name == "_type" for each in text.split(",") if each]
    return Wanted(_types(named, is_of_patients=is_of_patients), since, is_of_patients, group)


def _check_instant(text: str) -> None:
    try:
        date_range(text)
    except ValueError:
        raise Refusal(400, "invalid", "_since must be an instant, such as 2024-01-01T00:00:00Z.") from None


def _types(named: list[str], *, is_of_patients: bool) -> tuple[str, ...]:
    if not all(each in RESOURCE_TYPES for each in named):
        raise Refusal(400, "not-supported", "_type names a type that this server does not hold.")
    wanted = tuple(dict.fromkeys(named)) or tuple(RESOURCE_TYPES)
    if not is_of_patients:
        return wanted
    return tuple(each for each in wanted if each == "Patient" or compartment_parameters("Patient", each))
